"""Where each stream comes from: the spatial signatures of talkers who sit still.

A signature is the covariance of the microphones, frequency by frequency, over the bins that belong to a
stream. The model, and with it the likelihood, is that of :func:`frontend.pseudo_targets.spatial_merge`:
directions x / |x| of the bins that a talker owns are drawn from a zero-mean complex Gaussian; bins are
weighted by |x|.
"""

import numpy as np
import torch

from frontend.spatial import spatial_covariance, stft

_STFT_S = 0.064  # as spatial_merge
_REGULARISATION = 0.1  # as spatial_merge; of covariances whose trace is 1
# Bins of an STFT are far from independent: of one talker's syllable all say the same.
_BIN_NATS = 0.05
_QUIET_BIN = 0.03  # bins this much below the frequency's loud ones (power) have no owner
_QUIET_STREAM = 0.03  # a stream below this share of a window's power is what separation left over
_MEMORY_S = 60.0  # of a talker's own speech; older speech fades
_TINY = 1e-30


class Loudness:
    """Running level of what is loud: sum p^2 / sum p, which hours of silence hardly change."""

    def __init__(self):
        self.first, self.second = 0.0, 0.0

    def add(self, values: np.ndarray, axis: int = -1) -> np.ndarray:
        """Count ``values`` (non-negative) along ``axis`` and return the level so far."""
        self.first = self.first + values.sum(axis)
        self.second = self.second + (values**2).sum(axis)
        return self.second / np.maximum(self.first, _TINY)


class SpatialMemory:
    """Spatial signatures of the streams so far.

    Args:
        n_streams: S.
        fs: rate in Hz.
    """

    def __init__(self, n_streams: int, fs: int):
        self.hop = max(1, round(_STFT_S * fs / 2))
        self.longest = _MEMORY_S * fs / self.hop  # in frames
        self.loudness = Loudness()
        self.level: torch.Tensor | None = None  # (F,), of magnitudes
        self.n_streams = n_streams
        self.r: torch.Tensor | None = None  # (S, F, C, C), sum of x x^H / |x|
        self.n: torch.Tensor | None = None  # (S, F), sum of |x|: the trace of r

    def hear(self, mixture: np.ndarray) -> None:
        """Update the level of each frequency from the new samples (C, T) of the mixture."""
        magnitude = stft(torch.from_numpy(mixture), 2 * self.hop, self.hop).norm(dim=0).double()
        self.level = torch.from_numpy(self.loudness.add(magnitude.numpy()))

    def scores(self, streams: np.ndarray, mixture: np.ndarray) -> np.ndarray:
        """Score every pairing of the streams so far with a window's.

        Args:
            streams: (S, T) of the window.
            mixture: (C, T).

        Returns:
            (S, S) in nats, at most about 0; [s, p] is for stream s so far continued by ``streams[p]``.
        """
        if self.r is None:
            return np.zeros((self.n_streams, self.n_streams))
        q, m = self._covariances(streams, mixture)
        apart = self._likelihood(self.r, self.n)[:, None] + self._likelihood(q, m)
        return (self._likelihood(self.r[:, None] + q, self.n[:, None] + m) - apart).numpy()

    def learn(self, streams: np.ndarray, mixture: np.ndarray) -> None:
        """Add a piece of the joined streams (S, T), (C, T) to their signatures."""
        q, m = self._covariances(streams, mixture)
        self.r, self.n = (q, m) if self.r is None else (self.r + q, self.n + m)
        frames = (self.n / self.level.clamp_min(_TINY)).mean(-1)
        fade = (self.longest / frames.clamp_min(_TINY)).clamp_max(1.0)
        self.r, self.n = self.r * fade[:, None, None, None], self.n * fade[:, None]

    def _covariances(self, streams: np.ndarray, mixture: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum over the bins that each stream owns of x x^H / |x|, (S, F, C, C), and of |x|, (S, F)."""
        spectra = stft(torch.from_numpy(streams), 2 * self.hop, self.hop).abs()
        x = stft(torch.from_numpy(mixture), 2 * self.hop, self.hop).to(torch.complex128)
        magnitude = x.abs().square().sum(0).sqrt()  # (F, L)
        heard = magnitude.square() > _QUIET_BIN * self.level[:, None].square()
        owned = (spectra.argmax(0) == torch.arange(len(streams))[:, None, None]) & heard
        energy = np.square(streams, dtype=np.float64).sum(-1)
        owned &= torch.from_numpy(energy > _QUIET_STREAM * energy.sum())[:, None, None]
        weight = owned / magnitude.clamp_min(_TINY)
        return spatial_covariance(x.unsqueeze(0), weight.to(x.dtype)), (owned * magnitude).sum(-1)

    def _likelihood(self, r: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        """(..., F, C, C), (..., F) to (...): nats of directions under their own best covariance."""
        shape = r / n.clamp_min(_TINY)[..., None, None]
        shape = shape + _REGULARISATION * torch.eye(r.shape[-1], dtype=r.dtype)
        log_det = 2 * torch.linalg.cholesky(shape).diagonal(dim1=-2, dim2=-1).real.log().sum(-1)
        return -_BIN_NATS * (n / self.level.clamp_min(_TINY) * log_det).sum(-1)
