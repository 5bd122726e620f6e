"""Dry speech made comparable: one sampling rate, 50 ms of silence around it, one active level."""

import math

import numpy as np
from scipy.signal import resample_poly

ACTIVE_LEVEL_DB = -26.0  # re full scale
_ACTIVE_BELOW_PEAK_DB = 35.0
_MARGIN_S = 0.05
_HIGHEST_PEAK = 0.9


def resample(signal: np.ndarray, fs: int, new_fs: int) -> np.ndarray:
    """Return ``(T,)`` of rate ``fs`` at rate ``new_fs``, both in Hz."""
    common = math.gcd(new_fs, fs)
    return signal if fs == new_fs else resample_poly(signal, new_fs // common, fs // common)


def _active_frames(signal: np.ndarray, fs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the power of each 10 ms frame, and whether it is within 35 dB of the loudest."""
    length = fs // 100
    frames = np.pad(signal, (0, -len(signal) % length)).reshape(-1, length)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    return power, power > power.max() * 10 ** (-_ACTIVE_BELOW_PEAK_DB / 10)


def trim(signal: np.ndarray, fs: int) -> np.ndarray:
    """Cut leading and trailing silence of ``(T,)`` down to at most 50 ms."""
    active = np.flatnonzero(_active_frames(signal, fs)[1])
    if not len(active):
        return signal
    frame, margin = fs // 100, int(_MARGIN_S * fs)
    return signal[max(0, active[0] * frame - margin) : (active[-1] + 1) * frame + margin]


def normalise(signal: np.ndarray, fs: int) -> np.ndarray:
    """Scale ``(T,)`` to an active level of -26 dB, less if its peak would exceed 0.9.

    The active level is the mean power of the 10 ms frames within 35 dB of the loudest one, so that
    pauses do not count. Silence comes back as it is.
    """
    power, active = _active_frames(signal, fs)
    if not active.any():
        return signal
    gain = math.sqrt(10 ** (ACTIVE_LEVEL_DB / 10) / power[active].mean())
    return signal * min(gain, _HIGHEST_PEAK / np.abs(signal).max())
