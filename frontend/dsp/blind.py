"""Blind separation, without any training: AuxIVA, and ILRMA of pyroomacoustics, behind one interface.

Both estimate, per recording, one demixing matrix a frequency. So they need at least as many microphones as
sources, and a window about as long as the reverberation. With more microphones both work on the principal
components of each frequency. SI-SNRi of 24 two-talker mixtures (4 microphones, T60 0.15-0.4 s, 8 kHz): ILRMA
6.3 dB on 2 principal components, 4.9 on all channels; AuxIVA 6.7 with the Gaussian prior, 5.4 with Laplace.
"""

import inspect
from collections.abc import Callable

import numpy as np
import torch

from frontend.dsp import iva
from frontend.dsp.array_streams import ArrayStreams
from frontend.dsp.spatial import frames
from frontend.utils.errors import UserError, did_you_mean, warn
from frontend.utils.rng import generator

# Raised with every change after which a method gives other streams.
VERSION = 2
# The least of what is counted.
_LEAST = {"overlap": 2, "iterations": 1, "starts": 1, "components": 1, "seed": 0}


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
        UserError: unknown method or setting, fewer microphones than sources, or no samples.
    """
    check_blind(name, settings)
    if np.ndim(mixture) != 2 or len(mixture) < n_sources:
        found = 1 if np.ndim(mixture) < 2 else len(mixture)
        raise UserError(f"{name} needs as many microphones as talkers: {n_sources} or more, found {found}")
    if mixture.shape[1] == 0:
        raise UserError("recording: expected samples, found none")
    n_fft, hop = frames(fs, window, overlap)
    # Of the largest sample 1, so that squares stay within what floats of 32 bits hold.
    peak = float(np.abs(mixture).max(initial=0.0)) or 1.0
    waveform = torch.from_numpy(np.asarray(mixture / peak, dtype=np.float32))
    array = ArrayStreams(waveform[None], n_sources, n_fft, hop)
    streams, is_separated = METHODS[name](array, **settings)
    if not is_separated.all() and np.any(mixture):
        warn(
            f"{name}: {mixture.shape[1] / fs:.3g} s with sound in too few windows of {n_fft / fs:.3g} s to "
            "be separated; the first stream is the reference channel there, the others are silent"
        )
    return (streams[0].numpy() * peak).astype(np.float32)


def check_blind(name: object, settings: dict, where: str = "") -> None:
    """Raise UserError unless method ``name`` exists and takes ``settings``; ``where`` starts the message."""
    if not isinstance(name, str) or name not in METHODS:
        raise UserError(
            f"{where}expected a blind method out of {', '.join(METHODS)}, found '{name}'"
            f"{did_you_mean(name, METHODS)}"
        )
    known = ["window", "overlap", *list(inspect.signature(METHODS[name]).parameters)[1:]]
    for key, value in settings.items():
        wrong = ""
        if key not in known:
            raise UserError(f"{where}{name} has no setting '{key}'{did_you_mean(key, known)}")
        if key in _LEAST and not (type(value) is int and value >= _LEAST[key]):
            wrong = f"a whole number of at least {_LEAST[key]}"
        elif key == "window" and not (type(value) in (int, float) and 0 < value < np.inf):
            wrong = "seconds above 0"
        elif key == "prior" and value not in iva.PRIORS:
            wrong = " or ".join(iva.PRIORS)
        if wrong:
            raise UserError(f"{where}{name}: {key}: expected {wrong}, found {value!r}")


def auxiva(
    array: ArrayStreams, iterations: int = 30, prior: str = "gauss", starts: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """AuxIVA (Ono 2011), with a prior ``gauss`` or ``laplace`` of the sources, the likeliest of ``starts``.

    Streams and whether there are any, as :meth:`frontend.dsp.array_streams.ArrayStreams.blind`.
    """
    return array.blind(iterations, prior, starts)


def ilrma(
    array: ArrayStreams, iterations: int = 30, components: int = 2, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """ILRMA (Kitamura et al. 2016), of one recording.

    Each source's non-negative factorisation has so many ``components``; ``seed`` draws its first values, the
    same for every recording. Streams and whether there are any, as :func:`auxiva`.
    """
    from pyroomacoustics.bss import ilrma as method

    def solve(array: ArrayStreams, _: torch.Tensor) -> torch.Tensor:
        x = array.components[0].permute(2, 1, 0).to(torch.complex128).numpy()
        try:
            with np.errstate(divide="ignore", invalid="ignore"):
                _, w = method(
                    x, n_iter=iterations, n_components=components, proj_back=False, return_filters=True
                )
        except np.linalg.LinAlgError:
            w = np.full((x.shape[1], x.shape[2], x.shape[2]), np.nan)
        return torch.from_numpy(w).to(array.components)[None]

    # pyroomacoustics draws from numpy's global state: lend it ours, give the caller's back.
    before = np.random.get_state()
    np.random.seed(int(generator(seed, "blind", "ilrma").integers(2**32)))
    try:
        return array.separated(solve)
    finally:
        np.random.set_state(before)


METHODS: dict[str, Callable[..., tuple[torch.Tensor, torch.Tensor]]] = {"auxiva": auxiva, "ilrma": ilrma}
