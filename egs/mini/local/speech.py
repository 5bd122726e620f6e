"""What all the corpora of this recipe have in common: 8 kHz, trimmed, one level."""

import math

import numpy as np
from scipy.signal import resample_poly

FS = 8000
ACTIVE_LEVEL_DB = -26.0  # re full scale
_ACTIVE_BELOW_PEAK_DB = 35.0
_MARGIN_S = 0.05
_HIGHEST_PEAK = 0.9
_FRAME = FS // 100


def resample(signal: np.ndarray, fs: int) -> np.ndarray:
    """Return ``(T,)`` at :data:`FS`."""
    common = math.gcd(FS, fs)
    return signal if fs == FS else resample_poly(signal, FS // common, fs // common)


def _active_frames(signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the power of each 10 ms frame, and whether it is within 35 dB of the loudest."""
    frames = np.pad(signal, (0, -len(signal) % _FRAME)).reshape(-1, _FRAME)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    return power, power > power.max() * 10 ** (-_ACTIVE_BELOW_PEAK_DB / 10)


def trim(signal: np.ndarray) -> np.ndarray:
    """Cut leading and trailing silence of ``(T,)`` down to at most 50 ms."""
    active = np.flatnonzero(_active_frames(signal)[1])
    if not len(active):
        return signal
    margin = int(_MARGIN_S * FS)
    return signal[max(0, active[0] * _FRAME - margin) : (active[-1] + 1) * _FRAME + margin]


def normalise(signal: np.ndarray) -> np.ndarray:
    """Scale ``(T,)`` to an active level of -26 dB, less if its peak would exceed 0.9.

    The active level is the mean power of the frames within 35 dB of the loudest one, so that pauses
    do not count.
    """
    power, active = _active_frames(signal)
    if not active.any():
        return signal
    gain = math.sqrt(10 ** (ACTIVE_LEVEL_DB / 10) / power[active].mean())
    return signal * min(gain, _HIGHEST_PEAK / np.abs(signal).max())
