"""Where somebody talks in a signal, by its energy alone: a rule on the power in dB of frames of 20 ms.

1. ``floor`` is the level that a tenth of the frames stay below, ``loud`` the one that a hundredth exceed;
   digital silence counts for neither, but where a tenth or more is digital silence there is no floor.
2. A frame is active ``margin_db`` above the floor and no more than ``range_db`` below ``loud``: the first
   keeps noise out, the second what leaks into a stream that is otherwise silent.
3. Pauses shorter than ``min_pause`` are bridged, what is then shorter than ``min_speech`` is dropped.
4. Each end gets ``pad`` more, so that weak consonants stay; neighbours that touch become one.
5. What is longer than ``max_seconds`` is cut in the quietest 0.2 s of the second half of its first
   ``max_seconds``, repeatedly.

A signal of constant level (noise alone, a tone) has no segment.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from frontend.utils.errors import UserError

FRAME_S = 0.02
_FLOOR, _LOUD = 10.0, 99.0  # percentiles of the frames' levels
_SMOOTH = 10  # frames over which a place to cut is judged

Segment = tuple[float, float]


@dataclass(frozen=True)
class Rule:
    """What counts as speech; in seconds and dB, see the rule above."""

    margin_db: float = 6.0
    range_db: float = 35.0
    min_pause: float = 0.2
    min_speech: float = 0.1
    pad: float = 0.15
    max_seconds: float = 15.0

    def __post_init__(self):
        if self.max_seconds < 1.0 or min(self.min_pause, self.min_speech, self.pad) < 0:
            expected = "max_seconds of at least 1 and no negative time"
            raise UserError(f"activity: expected {expected}, found {self}")


def frame_samples(fs: int) -> int:
    """Return the length of a frame in samples."""
    return max(1, round(FRAME_S * fs))


def levels_db(signal: np.ndarray, fs: int) -> np.ndarray:
    """Return the level of each frame of 20 ms in dB, ``(F,)``; the last may be shorter; -inf is silence.

    Levels of a long recording's blocks can be joined if these are whole frames (:func:`frame_samples`).

    Args:
        signal: ``(T,)`` or ``(C, T)``, of which the mean power of the channels counts.
        fs: Hz.
    """
    signal = np.atleast_2d(signal)
    frame, samples = frame_samples(fs), signal.shape[-1]
    if samples == 0:
        return np.zeros(0)
    starts = np.arange(0, samples, frame)
    power = np.add.reduceat(np.mean(np.square(signal, dtype=np.float64), axis=0), starts)
    power /= np.minimum(frame, samples - starts)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(power)


def segments_of_levels(
    levels: np.ndarray,
    fs: int,
    seconds: float,
    rule: Rule | None = None,
    allowed: np.ndarray | None = None,
) -> list[Segment]:
    """Return the segments in which somebody talks, ``[(start, end), ...]`` in seconds, in order.

    Args:
        levels: ``(F,)`` of :func:`levels_db`.
        fs: Hz.
        seconds: length of the signal.
        rule: see above.
        allowed: ``(F,)`` of bool, the frames that may be active at all; None: all of them.
    """
    rule, frame_s = rule or Rule(), frame_samples(fs) / fs
    active = _active(levels, rule)
    if allowed is not None:
        active &= allowed
    edges = np.flatnonzero(np.diff(active, prepend=False, append=False))
    runs = _joined(edges.reshape(-1, 2).tolist(), rule.min_pause / frame_s)
    pad = round(rule.pad / frame_s)
    spoken = [(a, b) for a, b in runs if b - a >= rule.min_speech / frame_s]
    padded = _joined([(max(0, a - pad), min(len(levels), b + pad)) for a, b in spoken], 1)
    longest = int(rule.max_seconds / frame_s)
    cut = (piece for start, end in padded for piece in _cut(levels, start, end, longest))
    return [(round(a * frame_s, 4), round(min(b * frame_s, seconds), 4)) for a, b in cut]


def _active(levels: np.ndarray, rule: Rule) -> np.ndarray:
    finite = levels[np.isfinite(levels)]
    if len(finite) == 0:
        return np.zeros(len(levels), bool)
    floor, loud = np.percentile(finite, [_FLOOR, _LOUD])
    if len(finite) <= (1 - _FLOOR / 100) * len(levels):
        floor = -np.inf  # the signal's own silence is its floor
    return levels >= max(floor + rule.margin_db, loud - rule.range_db)


def _joined(runs: Iterable[Sequence[int]], shortest: float) -> list[list[int]]:
    """Join runs of frames ``[start, end)``, in order, where fewer than ``shortest`` frames lie between."""
    joined: list[list[int]] = []
    for start, end in runs:
        if joined and start - joined[-1][1] < shortest:
            joined[-1][1] = end
        else:
            joined.append([start, end])
    return joined


def _cut(levels: np.ndarray, start: int, end: int, longest: int) -> Iterator[tuple[int, int]]:
    # Digital silence is the quietest place there is, but has no finite level.
    finite = np.where(np.isfinite(levels), levels, -200.0)
    half = _SMOOTH // 2
    while end - start > longest:
        low, high = start + longest // 2, start + longest
        quiet = np.convolve(finite[low - half : high + half], np.ones(_SMOOTH), "same")
        at = low + int(np.argmin(quiet[half : len(quiet) - half]))
        yield start, at
        start = at
    yield start, end
