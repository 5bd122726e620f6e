"""Short-time Fourier transforms and what is computed from an array's: covariances, masks, MVDR, symmetries.

[1] M. Souden, J. Benesty, S. Affes, "On optimal frequency-domain multichannel linear filtering for noise
    reduction", IEEE TASLP 18(2), 2010.
"""

import numpy as np
import scipy.signal
import torch
from torchaudio.functional import apply_beamforming, mvdr_weights_souden


def stft(waveform: torch.Tensor, n_fft: int, hop: int) -> torch.Tensor:
    """Return the STFT with a square-root Hann window, zeros before the start and after the end.

    Args:
        waveform: ``(..., T)``; T may be shorter than the window.
        n_fft: window length in samples.
        hop: hop in samples; at most ``n_fft // 2``.

    Returns:
        Complex ``(..., F, L)`` with F = n_fft // 2 + 1 and L = T // hop + 1.
    """
    window = torch.hann_window(n_fft, dtype=waveform.dtype, device=waveform.device).sqrt()
    flat = torch.stft(
        waveform.reshape(-1, waveform.shape[-1]),
        n_fft,
        hop,
        window=window,
        pad_mode="constant",  # reflection needs T > n_fft / 2
        return_complex=True,
    )
    return flat.reshape(*waveform.shape[:-1], *flat.shape[1:])


def istft(spectrum: torch.Tensor, n_fft: int, hop: int, length: int) -> torch.Tensor:
    """Invert :func:`stft`: ``(..., F, L)`` to ``(..., length)``, least squares if inconsistent."""
    window = torch.hann_window(n_fft, dtype=spectrum.real.dtype, device=spectrum.device).sqrt()
    flat = torch.istft(spectrum.reshape(-1, *spectrum.shape[-2:]), n_fft, hop, window=window, length=length)
    return flat.reshape(*spectrum.shape[:-2], length)


def stft_numpy(waveform: np.ndarray, n_fft: int, hop: int, window: str | np.ndarray = "hann") -> np.ndarray:
    """Return scipy's STFT of ``(..., T)`` in double precision: complex ``(..., F, L)``.

    It differs from :func:`stft`: the window is no square root and divided by its sum, and the end is padded
    to whole hops. AuxIVA and ILRMA are iterative and would give other streams by another transform.

    ``window`` is a name that scipy knows, or ``(n_fft,)``.
    """
    return scipy.signal.stft(waveform, window=window, nperseg=n_fft, noverlap=n_fft - hop)[2]


def istft_numpy(spectrum: np.ndarray, hop: int, length: int) -> np.ndarray:
    """Invert :func:`stft_numpy` with its Hann window: ``(..., F, L)`` to ``(..., length)``."""
    n_fft = 2 * (spectrum.shape[-2] - 1)
    return scipy.signal.istft(spectrum, nperseg=n_fft, noverlap=n_fft - hop)[1][..., :length]


def phase_difference_features(
    spectrum: torch.Tensor, ref_channel: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosine and sine of the phase between every other channel and the reference.

    Two real tensors ``(..., C - 1, F)`` of complex ``(..., C, F)``; 0 where one of the channels is silent.
    """
    others = [c for c in range(spectrum.shape[-2]) if c != ref_channel]
    # Not angle(): arc tangent, cosine and sine cost several times as much as one division.
    parts = torch.view_as_real(spectrum)
    power = parts.square().sum(-1, keepdim=True)
    # The bound is far below any audible power; it only keeps 0 / 0 away.
    unit = torch.view_as_complex(parts * power.clamp_min(1e-30).rsqrt())
    cross = unit[..., others, :] * unit[..., ref_channel, None, :].conj()
    return cross.real, cross.imag


def spatial_covariance(spectrum: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Return the weighted sum over frames of x x^H, per frequency: Hermitian ``(..., F, C, C)``.

    A sum and not a mean, so that covariances under weights that add up add up too.

    Args:
        spectrum: complex ``(..., C, F, L)``.
        weight: real ``(..., F, L)``, 1 everywhere if None; leading axes broadcast.
    """
    x = spectrum.transpose(-3, -2)  # (..., F, C, L)
    weighted = x if weight is None else x * weight.unsqueeze(-2)
    return weighted @ x.mH


def stream_masks(streams: torch.Tensor) -> torch.Tensor:
    """Return each stream's share of the power in every time-frequency bin of complex ``(S, F, L)``.

    Real ``(S, F, L)``; sums to one over S, to zero where all streams are silent.
    """
    magnitude = streams.abs()
    # Relative to the loudest: powers of small numbers would vanish.
    loudest = magnitude.amax(dim=0, keepdim=True)
    share = (magnitude / torch.where(loudest > 0, loudest, 1.0)).square()
    total = share.sum(dim=0, keepdim=True)
    return share / torch.where(total > 0, total, 1.0)


def mvdr_souden(
    mixture: torch.Tensor,
    streams: torch.Tensor,
    ref_channel: int = 0,
    n_fft: int = 2048,
    hop: int = 512,
    loading: float = 1e-5,
) -> torch.Tensor:
    """Refine separated streams with a beamformer each: mask-based Souden MVDR, Eq. (24) in [1].

    The masks are the streams' shares of each bin. Target covariance: the mixture
    weighted with the stream's own mask; noise covariance: with all the others'.

    Args:
        mixture: ``(C, T)`` with C >= 2, real.
        streams: ``(S, T)`` with S >= 2, estimates at the reference channel.
        ref_channel: the microphone whose image is estimated.
        n_fft: window of the STFT in samples. Long ones pay: at 8 kHz and T60 0.15-0.4 s, 2048 gave 4 to 5 dB
            more than 256 with good masks (and 4096 less again); scale it with the rate.
        hop: of the STFT, in samples.
        loading: added to the noise covariance's diagonal, times its trace.

    Returns:
        ``(S, T)`` in the streams' type; exactly zero for a silent stream or mixture.

    Raises:
        ValueError: one channel, one stream, or unequal lengths.
    """
    if mixture.dim() != 2 or streams.dim() != 2 or mixture.shape[-1] != streams.shape[-1]:
        raise ValueError(f"need (C, T) and (S, T), found {tuple(mixture.shape)}, {tuple(streams.shape)}")
    if mixture.shape[0] < 2 or streams.shape[0] < 2:
        raise ValueError("a beamformer needs at least 2 channels, and 2 streams to tell apart")
    # Double precision: noise covariances of few active bins are nearly singular.
    spectrum = stft(mixture.double(), n_fft, hop)
    masks = stream_masks(stft(streams.double(), n_fft, hop))
    own = spatial_covariance(spectrum.unsqueeze(0), masks)  # (S, F, C, C)
    # torchaudio adds 1e-8 to traces whatever the level, so give every frequency level 1.
    level = own.sum(0).diagonal(dim1=-2, dim2=-1).sum(-1).real[:, None, None]
    own = own / torch.where(level > 0, level, 1.0)
    weights = mvdr_weights_souden(own, own.sum(0) - own, ref_channel, diag_eps=loading)
    filtered = apply_beamforming(weights, spectrum.expand(len(streams), *spectrum.shape))
    return istft(filtered, n_fft, hop, mixture.shape[-1]).to(streams.dtype)


def array_symmetries(kind: str, n_mics: int) -> list[tuple[int, ...]]:
    """Return the channel orders under which an array looks the same, the given one first.

    A scene recorded with permuted channels is then again a scene of that array: rotated
    or mirrored, which is free variety for training.

    Args:
        kind: ``circular`` (equally spaced around a circle, in order: rotations and
            reflections), ``linear`` (symmetric about its middle, in order: two ends
            swapped), or ``none``.
        n_mics: number of channels.

    Raises:
        ValueError: unknown kind.

    >>> array_symmetries("linear", 3)
    [(0, 1, 2), (2, 1, 0)]
    """
    mics = range(n_mics)
    rotations = [tuple((start + i) % n_mics for i in mics) for start in mics]
    reflections = [tuple((start - i) % n_mics for i in mics) for start in mics]
    ends_swapped = [rotations[0], rotations[0][::-1]]
    orders = {"none": rotations[:1], "linear": ends_swapped, "circular": rotations + reflections}
    if kind not in orders:
        raise ValueError(f"array symmetry must be none, circular or linear, found {kind!r}")
    return list(dict.fromkeys(orders[kind]))  # a pair of microphones has fewer than its formula
