"""Blind separation, without any training: AuxIVA and ILRMA of pyroomacoustics behind one interface.

Both estimate, per recording, one demixing matrix a frequency. So they need at least as many microphones as
sources, and a window about as long as the reverberation. With more microphones both work on the principal
components of each frequency. SI-SNRi of 24 two-talker mixtures (4 microphones, T60 0.15-0.4 s, 8 kHz): ILRMA
6.3 dB on 2 principal components, 4.9 on all channels; AuxIVA 6.7 with the Gaussian prior, 5.4 with Laplace.
"""

import contextlib
import inspect
from collections.abc import Callable

import numpy as np
from pyroomacoustics.bss import auxiva as _auxiva
from pyroomacoustics.bss import ilrma as _ilrma
from pyroomacoustics.bss.common import projection_back

from frontend.dsp.spatial import istft_numpy, stft_numpy
from frontend.utils.errors import UserError, did_you_mean, warn
from frontend.utils.rng import generator

# Raised with every change after which a method gives other streams.
VERSION = 1
# Relative to the mixture, in amplitude: keeps the matrices of a dead channel or of silence invertible. What
# has sound in a few windows alone takes more.
_DITHERS = (1e-5, 1e-3, 1e-2)


def separate_blind(
    name: str,
    mixture: np.ndarray,
    fs: int,
    n_sources: int,
    *,
    window: float = 0.256,
    overlap: int = 4,
    **settings,
) -> np.ndarray:
    """Separate a recording without a trained model.

    Args:
        name: ``auxiva`` or ``ilrma``.
        mixture: (C, T), C >= ``n_sources``.
        fs: rate in Hz.
        n_sources: number of streams S.
        window: of the STFT in seconds.
        overlap: the hop is a window divided by this.
        settings: keyword arguments of :func:`auxiva` or :func:`ilrma`.

    Returns:
        (S, T) float32 at the level of channel 0, loudest first.

    Raises:
        UserError: unknown method or setting, or fewer microphones than sources.
    """
    check_blind(name, settings)
    mixture = np.asarray(mixture, dtype=np.float64)
    if mixture.ndim != 2 or len(mixture) < n_sources:
        found = 1 if mixture.ndim < 2 else len(mixture)
        raise UserError(f"{name} needs as many microphones as talkers: {n_sources} or more, found {found}")
    level = np.sqrt(np.mean(mixture**2))
    if level == 0:
        return np.zeros((n_sources, mixture.shape[1]), dtype=np.float32)
    n_fft, hop = frames(fs, window, overlap)
    made = demixed(mixture / level, n_fft, hop, lambda x: METHODS[name](principal(x, n_sources), **settings))
    if made is None:
        warn(
            f"{name}: {mixture.shape[1] / fs:.3g} s with sound in too few windows of {n_fft / fs:.3g} s to "
            "be separated; the first stream is the reference channel there, the others are silent"
        )
        return np.concatenate([mixture[:1], np.zeros_like(mixture[1:n_sources])]).astype(np.float32)
    streams = synthesise(*made, hop, mixture.shape[1])
    loudest_first = np.argsort(-(streams**2).sum(-1), kind="stable")
    return (level * streams[loudest_first]).astype(np.float32)


def check_blind(name: str, settings: dict, where: str = "") -> None:
    """Raise UserError unless method ``name`` exists and takes ``settings``; ``where`` starts the message."""
    if name not in METHODS:
        raise UserError(
            f"{where}expected a blind method out of {', '.join(METHODS)}, found '{name}'"
            f"{did_you_mean(name, METHODS)}"
        )
    known = ["window", "overlap", *list(inspect.signature(METHODS[name]).parameters)[1:]]
    for key in settings:
        if key not in known:
            raise UserError(f"{where}{name} has no setting '{key}'{did_you_mean(key, known)}")


def auxiva(x: np.ndarray, iterations: int = 30, prior: str = "gauss") -> np.ndarray:
    """AuxIVA (Ono 2011) of (frames, frequencies, S), with a prior ``gauss`` or ``laplace`` of the sources."""
    if prior not in ("gauss", "laplace"):
        raise UserError(f"auxiva: expected prior gauss or laplace, found '{prior}'")
    return demix(x, iterations, prior)


def ilrma(x: np.ndarray, iterations: int = 30, components: int = 2, seed: int = 0) -> np.ndarray:
    """ILRMA (Kitamura et al. 2016) of (frames, frequencies, S).

    Each source's non-negative factorisation has so many ``components``; ``seed`` draws its first values, the
    same for every recording.
    """
    # pyroomacoustics draws from numpy's global state: lend it ours, give the caller's back.
    before = np.random.get_state()
    np.random.seed(int(generator(seed, "blind", "ilrma").integers(2**32)))
    try:
        return _ilrma(x, n_iter=iterations, n_components=components, proj_back=False)
    finally:
        np.random.set_state(before)


METHODS: dict[str, Callable[..., np.ndarray]] = {"auxiva": auxiva, "ilrma": ilrma}


def frames(fs: int, window: float, overlap: int) -> tuple[int, int]:
    """Return window and hop in samples, of a window in seconds; ``overlap`` hops make a window."""
    hop = max(1, round(window * fs / overlap))
    return hop * overlap, hop


def analyse(waveforms: np.ndarray, n_fft: int, hop: int, dither: float = _DITHERS[0]) -> np.ndarray:
    """(C, T) of level 1 to (frames, frequencies, C), as pyroomacoustics has it."""
    padded = np.pad(waveforms, [(0, 0), (0, max(0, n_fft - waveforms.shape[1]))])
    dithered = padded + dither * generator(0, "blind", "dither").standard_normal(padded.shape)
    return stft_numpy(dithered, n_fft, hop).transpose(2, 1, 0)


def demixed(
    waveforms: np.ndarray, n_fft: int, hop: int, method: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the sources that ``method`` makes of the spectra of (C, T), and the spectra (:func:`analyse`).

    None where it finds no matrices: there is sound in too few frames.
    """
    for dither in _DITHERS:
        x = analyse(waveforms, n_fft, hop, dither)
        with contextlib.suppress(np.linalg.LinAlgError), np.errstate(divide="ignore", invalid="ignore"):
            y = method(x)
            if np.isfinite(y).all():
                return y, x
    return None


def principal(x: np.ndarray, n_sources: int) -> np.ndarray:
    """The ``n_sources`` strongest principal components of every frequency; no change if there are no more."""
    if x.shape[2] == n_sources:
        return x
    covariance = np.einsum("lfc,lfd->fcd", x, x.conj())
    vectors = np.linalg.eigh(covariance)[1][:, :, ::-1][:, :, :n_sources]
    return np.einsum("lfc,fcs->lfs", x, vectors.conj())


def demix(x: np.ndarray, iterations: int, prior: str, start: np.ndarray | None = None) -> np.ndarray:
    """AuxIVA of (frames, frequencies, S) in as many sources; ``start`` are (frequencies, S, S) matrices."""
    return _auxiva(x, n_iter=iterations, model=prior, proj_back=False, W0=start)


def synthesise(y: np.ndarray, x: np.ndarray, hop: int, n_samples: int) -> np.ndarray:
    """Scale (frames, frequencies, S) to its part in channel 0 of ``x`` and return (S, T)."""
    y = y * np.conj(projection_back(y, x[:, :, 0]))
    return istft_numpy(y.transpose(2, 1, 0), hop, n_samples)
