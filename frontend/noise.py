"""Noise at the microphones: white, the babble of many far voices from everywhere, or recorded.

Channel 0 does not depend on how many channels there are.
"""

from collections.abc import Callable

import numpy as np
from scipy import fft

from frontend.rng import generator
from frontend.scene_config import JOINT_S, SPEED_OF_SOUND

# Microphones see the same at 0 Hz: without a little of their own the coherence matrix has no root.
_LOADING = 1e-6


def scene_noise(scene: dict, load_speech: Callable[[str], np.ndarray]) -> np.ndarray:
    """Return the noise of a scene, at no particular level.

    Args:
        scene: as in :mod:`frontend.scenes`.
        load_speech: utterance id -> ``(T',)``; called for babble, and for recorded noise by its ids.

    Returns:
        ``(C, T)`` float64; all channels of the same expected level; zeros for kind ``none``.
    """
    kind, samples, channels = scene["noise"]["kind"], scene["samples"], len(scene["mics"])
    if kind == "none":
        return np.zeros((channels, samples))
    if kind == "white":
        return np.stack([_rng(scene, "white", c).standard_normal(samples) for c in range(channels)])
    voices = [_unit_power(load_speech(name)) for name in scene["noise"]["utterances"]]
    if kind == "recorded":
        voices = [_ring(voices, round(JOINT_S * scene["fs"]))]
        independent = np.stack([_recorded(scene, voices[0], c) for c in range(channels)])
    else:
        independent = np.stack([_babble(scene, voices, c) for c in range(channels)])
    return diffuse(independent, np.array(scene["mics"]), scene["fs"])


def _rng(scene: dict, *purpose: str | int) -> np.random.Generator:
    return generator(scene["seed"], scene["id"], *purpose)


def _unit_power(signal: np.ndarray) -> np.ndarray:
    signal = np.asarray(signal, np.float64)
    power = np.mean(signal**2)
    return signal / np.sqrt(power) if power > 0 else signal


def _babble(scene: dict, voices: list[np.ndarray], channel: int) -> np.ndarray:
    """Return all voices, each repeated from a place of its own in each channel.

    The same voices in every channel make channels of one spectrum, as a diffuse field has;
    other places make them independent.
    """
    starts = _rng(scene, "babble_start", channel).random(len(voices))
    turned = [np.roll(v, -int(start * len(v))) for v, start in zip(voices, starts, strict=True)]
    return sum(np.resize(v, scene["samples"]) for v in turned)


def _ring(pieces: list[np.ndarray], joint: int) -> np.ndarray:
    """Join recordings into a ring, ``(T,)``: each fades into the next over ``joint`` samples, the last
    into the first. The fades keep the power, for the recordings know nothing of each other.
    """
    joint = min(joint, min(map(len, pieces)) // 2)
    rise = np.sin(np.pi / 2 * (np.arange(joint) + 0.5) / max(joint, 1))
    ring, at = np.zeros(sum(map(len, pieces)) - joint * len(pieces)), 0
    for piece in pieces:
        faded = piece.copy()
        faded[:joint] *= rise
        faded[len(piece) - joint :] *= rise[::-1]
        # A piece alone overlaps itself, hence not by slices.
        np.add.at(ring, (at + np.arange(len(piece))) % len(ring), faded)
        at += len(piece) - joint
    return ring


def _recorded(scene: dict, ring: np.ndarray, channel: int) -> np.ndarray:
    """Return the ring from a place of its own in each channel, repeated where it is too short.

    One ring for all channels makes them of one spectrum, as a diffuse field has. The places are
    spread by the golden ratio: for eight channels, no two are nearer than 1/18 of the ring.
    """
    start = _rng(scene, "recorded_start").random() + channel * (np.sqrt(5) - 1) / 2
    return np.resize(np.roll(ring, -int(start % 1 * len(ring))), scene["samples"])


def diffuse(independent: np.ndarray, mics: np.ndarray, fs: int) -> np.ndarray:
    """Mix independent signals into a spherically isotropic sound field.

    The coherence of microphones i and j becomes ``sinc(2 f d_ij / c)`` with
    ``sinc(x) = sin(pi x) / (pi x)``: per frequency, the signals are multiplied by the Cholesky factor of
    that matrix (Habets & Gannot 2007). The factor is triangular, so channel 0 stays as it is.

    Args:
        independent: ``(C, T)``, of equal spectra.
        mics: ``(C, 3)`` in metres.
        fs: Hz.

    Returns:
        ``(C, T)`` float64.
    """
    channels, samples = independent.shape
    if channels == 1:
        return independent
    distance = np.linalg.norm(mics[:, None] - mics[None], axis=-1)  # (C, C)
    size = fft.next_fast_len(samples, real=True)
    frequency = np.arange(size // 2 + 1) * (fs / size)  # (F,)
    # The coherence is smooth in frequency: 257 factors, interpolated, serve all F.
    grid = np.linspace(0, fs / 2, 257)
    factor = _cholesky(np.sinc(2 * grid[:, None, None] * distance / SPEED_OF_SOUND))
    spectrum = fft.rfft(independent, size)  # (C, F)
    mixed = np.zeros_like(spectrum)
    for i in range(channels):
        for j in range(i + 1):
            mixed[i] += np.interp(frequency, grid, factor[:, i, j]) * spectrum[j]
    field = fft.irfft(mixed, size)[:, :samples]
    field[0] = independent[0]  # without the rounding of the two transforms
    return field


def _cholesky(coherence: np.ndarray) -> np.ndarray:
    """Return the lower factor of ``(F, C, C)`` coherences, rows of unit length."""
    channels = coherence.shape[-1]
    factor = np.linalg.cholesky(coherence + _LOADING * np.eye(channels))
    return factor / np.linalg.norm(factor, axis=-1, keepdims=True)
