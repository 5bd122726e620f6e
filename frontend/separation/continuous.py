"""Recordings of any length, separated window by window in bounded memory.

A network names its outputs anew in every window: what is stream 1 here may be stream 2 in the next. Which of
a window's streams continues which is decided from two sources, each a matrix of log-likelihoods (in nats,
stream so far x stream of the window), which are added; the best permutation of the sum is taken.

- *The overlap.* Both windows separated it, so that the right permutation makes them equal there. In blocks of
  0.1 s the error of a pair, relative to the power of all streams, is taken as Gaussian; a block counts for
  the more, the louder it is, relative to the loud blocks so far. Where nobody speaks, the overlap has almost
  no influence.
- *The memory* (two microphones or more). Talkers do not move: the covariance of the microphones, frequency by
  frequency, over the bins that belong to a stream is the talker's spatial signature, which assigns a talker
  to the same stream again after a pause of any length. The score of a pair is the loss of log-likelihood when
  the stream so far and the window's stream are explained by one covariance instead of by one each: nothing if
  either is silent. The model is that of :func:`frontend.separation.pseudo_targets.spatial_merge`: directions
  x / |x| of the bins that belong to a talker are drawn from a zero-mean complex Gaussian; bins are weighted
  by |x|.

With one microphone there is no memory: after a pause longer than the overlap, nothing but the network's own
order of its outputs assigns talkers to streams. Within a window the order is the separator's. A network that
puts whoever speaks alone into its first output swaps streams there, and no permutation of windows can correct
it; ``refine: iva+mask`` does, since one demixing matrix a frequency then serves the whole window.

The overlap-add with a permutation chosen by the overlap is that of continuous speech separation: Z. Chen et
al., "Continuous speech separation: dataset and analysis", ICASSP 2020.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from frontend.dsp.activity import sounds
from frontend.dsp.metrics import best_permutation
from frontend.dsp.spatial import spatial_covariance, stft
from frontend.utils.errors import UserError

# Raised with every change after which the same windows are joined to other streams.
VERSION = 1
# Less holds no more than a few frames of an STFT, of which nothing can be separated.
LEAST_WINDOW_S, LEAST_HOP_S = 0.5, 0.1
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
    """Spatial signatures of the S streams so far, at ``fs`` Hz."""

    def __init__(self, n_streams: int, fs: int):
        self.hop = max(1, round(_STFT_S * fs / 2))
        self.longest = _MEMORY_S * fs / self.hop  # in frames
        self.loudness = Loudness()
        self.level = torch.zeros(0)  # (F,), of magnitudes
        self.n_streams = n_streams
        self.r = torch.zeros(0)  # (S, F, C, C), sum of x x^H / |x|
        self.n = torch.zeros(0)  # (S, F), sum of |x|: the trace of r

    def update_level(self, mixture: np.ndarray) -> None:
        """Update the level of each frequency from the new samples (C, T) of the mixture."""
        magnitude = stft(torch.from_numpy(mixture), 2 * self.hop, self.hop).norm(dim=0).double()
        self.level = torch.from_numpy(self.loudness.add(magnitude.numpy()))

    def scores(self, streams: np.ndarray, mixture: np.ndarray) -> np.ndarray:
        """Score every pairing of the streams so far with a window's (S, T), of a mixture (C, T).

        Returns:
            (S, S) in nats, at most about 0; [s, p] is for stream s so far continued by ``streams[p]``.
        """
        if not len(self.r):
            return np.zeros((self.n_streams, self.n_streams))
        q, m = self._covariances(streams, mixture)
        apart = self._likelihood(self.r, self.n)[:, None] + self._likelihood(q, m)
        return (self._likelihood(self.r[:, None] + q, self.n[:, None] + m) - apart).numpy()

    def learn(self, streams: np.ndarray, mixture: np.ndarray) -> None:
        """Add a piece of the joined streams (S, T), (C, T) to their signatures."""
        q, m = self._covariances(streams, mixture)
        self.r, self.n = (self.r + q, self.n + m) if len(self.r) else (q, m)
        frames = (self.n / self.level.clamp_min(_TINY)).mean(-1)
        fade = (self.longest / frames.clamp_min(_TINY)).clamp_max(1.0)
        self.r, self.n = self.r * fade[:, None, None, None], self.n * fade[:, None]

    def _covariances(self, streams: np.ndarray, mixture: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum over the bins that each stream owns of x x^H / |x|, (S, F, C, C), and of |x|, (S, F)."""
        spectra = stft(torch.from_numpy(streams), 2 * self.hop, self.hop).abs()
        x = stft(torch.from_numpy(mixture), 2 * self.hop, self.hop).to(torch.complex128)
        magnitude = x.abs().square().sum(0).sqrt()  # (F, L)
        loud = magnitude.square() > _QUIET_BIN * self.level[:, None].square()
        owned = (spectra.argmax(0) == torch.arange(len(streams))[:, None, None]) & loud
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


_BLOCK_S = 0.1
# Nats that a loud block of the overlap gives for a permutation whose error there is all of the power.
_OVERLAP_NATS = 5.0
# A block this much below the loud ones (power) counts half.
_QUIET_BLOCK = 0.03


def block_powers(streams: np.ndarray, fs: int) -> np.ndarray:
    """Return the mean power of (..., T) in blocks of 0.1 s, (..., ceil(T / block)); zeros follow the end."""
    block = max(1, round(_BLOCK_S * fs))
    padded = np.pad(streams, [(0, 0)] * (streams.ndim - 1) + [(0, -streams.shape[-1] % block)])
    return np.mean(padded.reshape(*streams.shape[:-1], -1, block).astype(np.float64) ** 2, axis=-1)


def overlap_scores(past: np.ndarray, new: np.ndarray, fs: int, level: float) -> np.ndarray:
    """Score every pairing of streams by their difference where both windows have them.

    ``past`` and ``new``, (S, V) at ``fs`` Hz, are the overlap as the window before and the new one separated
    it; ``level`` is the mean power of a loud block so far.

    Returns:
        (S, S) in nats, at most 0; [s, p] is for ``past[s]`` continued by ``new[p]``.
    """
    power = (block_powers(past, fs) + block_powers(new, fs)).sum(0) / 2  # (blocks,)
    weight = power / (power + _QUIET_BLOCK * level + _TINY)
    error = np.stack([block_powers(new - stream, fs) for stream in past])  # (S, S, blocks)
    return -_OVERLAP_NATS * (weight * error / np.maximum(2 * power, _TINY)).sum(-1)


@dataclass(frozen=True)
class Decision:
    """How a window was joined to what was there.

    Attributes:
        start: first sample of the window.
        permutation: ``permutation[s]`` is the window's stream that continues stream s.
        overlap, memory: the log-likelihoods of both sources, (S, S) in nats; zeros for the first window.
    """

    start: int
    permutation: tuple[int, ...]
    overlap: np.ndarray
    memory: np.ndarray


class Stitcher:
    """Join the streams of windows that overlap; give them out as soon as they are final.

    The middle of the overlap is cross-faded, its outer parts are taken from the window where they are
    further from the edge: there the network had no context on one side. With two microphones or more there is
    a memory of where the talkers are. ``decision`` is the last one.
    """

    def __init__(self, n_streams: int, fs: int, n_mics: int = 1):
        self.fs = fs
        self.memory = SpatialMemory(n_streams, fs) if n_mics > 1 and n_streams > 1 else None
        self.loudness = Loudness()
        self.held = np.zeros((n_streams, 0), np.float32)
        self.first = 0  # sample number of the first one held
        self.decision: Decision | None = None

    def add(self, streams: np.ndarray, mixture: np.ndarray, start: int, next_start: int | None) -> np.ndarray:
        """Join a window.

        Args:
            streams: (S, T) of the window.
            mixture: (C, T).
            start: its first sample; not before the last window's, nor beyond its end.
            next_start: that of the next window, or None for the last.

        Returns:
            (S, n), the samples that are now final: all before ``next_start``.
        """
        end, past = start + streams.shape[1], self.first + self.held.shape[1]
        if not self.first <= start <= past < end + (past == 0):
            raise ValueError(f"window {start}..{end} does not continue samples {self.first}..{past}")
        stop = end if next_start is None else next_start
        level = float(self.loudness.add(block_powers(streams[:, past - start :], self.fs).sum(0)))
        if self.memory:
            self.memory.update_level(mixture[:, past - start :])
        tail = self.held[:, start - self.first :]
        overlap = overlap_scores(tail, streams[:, : past - start], self.fs, level)
        memory = self.memory.scores(streams, mixture) if self.memory else np.zeros_like(overlap)
        permutation = best_permutation(overlap + memory)
        self.decision = Decision(start, permutation, overlap, memory)
        streams = streams[list(permutation)]
        if self.memory and stop > start:
            self.memory.learn(streams[:, : stop - start], mixture[:, : stop - start])
        self._fade(streams, start, past)
        final, self.held = np.split(self.held, [stop - self.first], axis=1)
        self.first = stop
        return final

    def _fade(self, streams: np.ndarray, start: int, past: int) -> None:
        """Put ``streams``, from sample ``start`` on, behind those held, which end at ``past``."""
        overlap = past - start
        length = overlap // 2
        ramp = np.sin(np.pi / 2 * (np.arange(length) + 0.5) / max(length, 1)) ** 2
        before = (overlap - length) // 2
        rise = np.concatenate([np.zeros(before), ramp, np.ones(overlap - length - before)]).astype(np.float32)
        old, new = self.held[:, start - self.first :], streams[:, :overlap]
        # Written so that where both agree, nothing is rounded.
        joined = old + rise * (new - old)
        joined[:, before + length :] = new[:, before + length :]
        self.held = np.concatenate([self.held[:, : start - self.first], joined, streams[:, overlap:]], axis=1)


# Of 3/1.5, 4/2, 8/4 and 12/6 s the last was the best or within 0.05 dB of it, on three recordings of 6 to
# 8 minutes made of the test utterances of egs/mini: 1.6, 0.0 and 0.8 dB better than each utterance alone
# (8/4: 1.4, 0.0 and 0.7). Refined by IVA, on 2 minutes: +2.8 dB with 8/4, +3.1 with 12/6 and with 16/8.
WINDOW_S = 12.0
HOP_S = 6.0


class JoinedStreams:
    """Streams made of the outputs of each window, joined as they come.

    Args:
        make: (outputs (M, T), mixture (C, T)) -> streams (S, T) float32 of one window.
        fs: rate in Hz.
        name: of the recording, for messages.
    """

    def __init__(
        self, make: Callable[[torch.Tensor, np.ndarray], np.ndarray], fs: int, name: str = "recording"
    ):
        self.make, self.fs, self.name = make, fs, name
        self.stitcher: Stitcher | None = None

    def __call__(
        self, outputs: torch.Tensor, mixture: np.ndarray, start: int, next_start: int | None
    ) -> np.ndarray:
        """Return the samples (S, n) that are final with the window from ``start`` on (:class:`Stitcher`).

        Raises:
            UserError: the streams have NaN or infinity, or the mixture is too loud to join them.
        """
        streams = self.make(outputs, mixture)
        is_only = self.stitcher is None and next_start is None
        _check_finite(streams, mixture, self.name, is_joined=not is_only)
        if is_only:
            return streams
        if self.stitcher is None:
            self.stitcher = Stitcher(len(streams), self.fs, len(mixture))
        return self.stitcher.add(streams, mixture, start, next_start)


def separate_windows(
    read: Callable[[int, int], np.ndarray],
    frames: int,
    window: tuple[int, int] | None,
    source: Callable[[np.ndarray], torch.Tensor],
    joined: Sequence[Callable[..., np.ndarray]],
) -> Iterator[list[np.ndarray]]:
    """Separate a recording window by window; several ways to make streams share one pass of the source.

    The last window is moved back so that it ends with the recording and has full length.

    Args:
        read: (first sample, number of samples) -> mixture (C, T).
        frames: samples of the recording.
        window: length of a window and hop from one to the next in samples; None: the recording is one window.
        source: mixture (C, T) -> outputs (M, T).
        joined: each makes streams of the outputs and joins them: :class:`JoinedStreams`.

    Yields:
        for each window the samples that are now final: an array (S, n) for each of ``joined``.
    """
    length, hop = (frames, frames) if window is None else window
    starts = window_starts(frames, length, hop)
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        mixture = read(start, min(length, frames - start))
        if mixture.shape[-1] > 1 and not sounds(mixture).any():  # a constant is silence
            mixture = np.zeros_like(mixture)
        outputs = source(mixture)
        yield [join(outputs, mixture, start, following) for join in joined]


# Of full scale: beyond the first the squares of squares leave what floats of 32 bits hold, beyond the second
# the powers of a spectrum do, by which windows are joined.
_LOUD, _LOUDEST = 1e6, 1e12


def _check_finite(streams: np.ndarray, mixture: np.ndarray, where: str, is_joined: bool) -> None:
    """Raise UserError if streams have NaN or infinity: of a mixture out of all bounds, or a bad network.

    Of streams that are joined to those of another window the mixture must be within bounds in any case.
    """
    peak, is_finite = float(np.abs(mixture).max()), np.isfinite(streams).all()
    if is_finite and not (is_joined and peak > _LOUDEST):
        return
    if peak > _LOUD:
        raise UserError(
            f"{where}: samples of up to {peak:.3g}, too much to be separated: expected about 1.0, full scale "
            "(scale the recording)"
        )
    raise UserError(f"{where}: the streams have NaN or infinity (train again)")


def in_samples(window: tuple[float, float], fs: int) -> tuple[int, int]:
    """Return length and hop of windows in samples, at least one each."""
    return max(1, round(window[0] * fs)), max(1, round(window[1] * fs))


class ContinuousSeparator:
    """Separate a recording of any length with one separator, see :func:`separate_windows`.

    Windows are separated one by one, as recordings of their own: each at the level that the network
    makes of it. What is resampled (``resample``) is the window: the filter reaches a few milliseconds, and
    the cross-fade takes nothing from so near a window's edge, so that no cut can be noticed.

    Args:
        separator: a :class:`frontend.separation.model.Separator`, or whatever maps (waveform (C, T), fs,
            resample) to streams (S, T) of the same rate and level.
        window_s: length of a window in seconds.
        hop_s: from one to the next; the rest is overlap, by which the streams are joined.
        refine: maps (streams, mixture, fs) to streams; applied to each window.

    Raises:
        UserError: a hop that leaves no overlap.

    >>> separate = ContinuousSeparator(Separator.from_pretrained("exp/student"))  # doctest: +SKIP
    >>> for streams in separate.pieces(recording.read, recording.frames, recording.fs):  # doctest: +SKIP
    ...     file.write(streams)  # (S, n), in order; as many samples in all as the recording has
    """

    def __init__(
        self,
        separator: Callable[[np.ndarray, int, bool], np.ndarray],
        window_s: float = WINDOW_S,
        hop_s: float = HOP_S,
        refine: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor] | None = None,
    ):
        check_window(window_s, hop_s)
        self.separator, self.window_s, self.hop_s, self.refine = separator, window_s, hop_s, refine

    def pieces(
        self,
        read: Callable[[int, int], np.ndarray],
        frames: int,
        fs: int,
        resample: bool = False,
        name: str = "recording",
    ) -> Iterator[np.ndarray]:
        """Yield the streams piece by piece, each final: (S, n) float32, ``frames`` samples in all.

        Args:
            read: (first sample, number of samples) -> mixture (C, T), such as
                :meth:`frontend.data.audio.Recording.read`.
            frames: samples of the recording.
            fs: its rate in Hz.
            resample: allow a rate the network was not trained at.
            name: of the recording, for messages.

        Raises:
            UserError: what the separator and ``read`` raise; streams with NaN or infinity.
        """

        def source(mixture: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(self.separator(mixture, fs, resample))

        def make(streams: torch.Tensor, mixture: np.ndarray) -> np.ndarray:
            return (self.refine(streams, torch.from_numpy(mixture), fs) if self.refine else streams).numpy()

        joined = JoinedStreams(make, fs, name)
        window = in_samples((self.window_s, self.hop_s), fs)
        for (streams,) in separate_windows(read, frames, window, source, [joined]):
            yield streams

    def __call__(self, waveform: np.ndarray, fs: int, resample: bool = False) -> np.ndarray:
        """Separate a recording that is in memory: (C, T), or (T,) of one microphone, to (S, T)."""
        waveform = np.atleast_2d(np.ascontiguousarray(waveform, np.float32))  # torch takes no reversed view
        if waveform.shape[1] == 0:
            raise UserError("recording: expected samples, found none")

        def read(start: int, frames: int) -> np.ndarray:
            return waveform[:, start : start + frames]

        return np.concatenate(list(self.pieces(read, waveform.shape[1], fs, resample)), axis=1)


def check_window(window_s: float, hop_s: float) -> None:
    """Raise UserError unless windows of ``window_s`` every ``hop_s`` seconds overlap, and hold something."""
    found = f"found windows of {window_s:g} s every {hop_s:g} s"
    if not 0 < hop_s < window_s < float("inf"):
        raise UserError(
            f"expected a hop above 0 s and below the window, {found} (half of the window is a good hop)"
        )
    if window_s < LEAST_WINDOW_S or hop_s < LEAST_HOP_S:
        raise UserError(
            f"expected windows of at least {LEAST_WINDOW_S:g} s, which hold a syllable, every "
            f"{LEAST_HOP_S:g} s or more, {found} (12 s every 6 s are the default)"
        )


def window_starts(frames: int, length: int, hop: int) -> list[int]:
    """First samples of the windows that cover ``frames`` samples; all but the only one have ``length``.

    >>> window_starts(25, 10, 5), window_starts(26, 10, 5), window_starts(7, 10, 5)
    ([0, 5, 10, 15], [0, 5, 10, 15, 16], [0])
    """
    last = max(0, frames - length)
    return [*range(0, last, hop), last]
