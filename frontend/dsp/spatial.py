"""Short-time Fourier transforms and what is computed from an array's: covariances, masks, symmetries."""

import numpy as np
import scipy.signal
import torch


def frames(fs: int, window: float, overlap: int) -> tuple[int, int]:
    """Return window and hop in samples, of a window in seconds; ``overlap`` hops make a window."""
    hop = max(1, round(window * fs / overlap))
    return hop * overlap, hop


def stft(waveform: torch.Tensor, n_fft: int, hop: int, power: float = 0.5) -> torch.Tensor:
    """Return the STFT with a power of a Hann window, zeros before the start and after the end.

    Args:
        waveform: ``(..., T)``; T may be shorter than the window.
        n_fft: window length in samples.
        hop: hop in samples; at most ``n_fft // 2``.
        power: of the Hann window; 0.5, its square root, is for masks: the window of the inverse is the same.

    Returns:
        Complex ``(..., F, L)`` with F = n_fft // 2 + 1 and L = T // hop + 1.
    """
    window = _window(n_fft, power, waveform)
    flat = torch.stft(
        waveform.reshape(-1, waveform.shape[-1]),
        n_fft,
        hop,
        window=window,
        pad_mode="constant",  # reflection needs T > n_fft / 2
        return_complex=True,
    )
    return flat.reshape(*waveform.shape[:-1], *flat.shape[1:])


def istft(spectrum: torch.Tensor, n_fft: int, hop: int, length: int, power: float = 0.5) -> torch.Tensor:
    """Invert :func:`stft`: ``(..., F, L)`` to ``(..., length)``, least squares if inconsistent."""
    window = _window(n_fft, power, spectrum.real)
    flat = torch.istft(spectrum.reshape(-1, *spectrum.shape[-2:]), n_fft, hop, window=window, length=length)
    return flat.reshape(*spectrum.shape[:-2], length)


def _window(n_fft: int, power: float, like: torch.Tensor) -> torch.Tensor:
    return torch.hann_window(n_fft, dtype=like.dtype, device=like.device) ** power


def stft_numpy(waveform: np.ndarray, n_fft: int, hop: int, window: str | np.ndarray = "hann") -> np.ndarray:
    """Return scipy's STFT of ``(..., T)`` in double precision: complex ``(..., F, L)``.

    It differs from :func:`stft`: the window is no square root and divided by its sum, and the end is padded
    to whole hops.

    ``window`` is a name that scipy knows, or ``(n_fft,)``.
    """
    return scipy.signal.stft(waveform, window=window, nperseg=n_fft, noverlap=n_fft - hop)[2]


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
    """Return each stream's share of the power in every time-frequency bin of complex ``(..., S, F, L)``.

    Real ``(..., S, F, L)``; sums to one over S, to zero where all streams are silent.
    """
    magnitude = streams.abs()
    # Relative to the loudest: powers of small numbers would vanish.
    loudest = magnitude.amax(dim=-3, keepdim=True)
    share = (magnitude / torch.where(loudest > 0, loudest, 1.0)).square()
    total = share.sum(dim=-3, keepdim=True)
    return share / torch.where(total > 0, total, 1.0)


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
