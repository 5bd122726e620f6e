"""Where somebody talks in a signal, by its energy alone: a rule on the power in dB of frames of 20 ms.

1. ``floor`` is the level that a tenth of the frames stay below, ``loud`` the one that a hundredth exceed;
   digital silence counts for neither, but where a tenth or more is digital silence there is no floor.
2. A frame is active ``margin_db`` above the floor and no more than ``range_db`` below ``loud``: the first
   keeps noise out, the second what leaks into a stream that is otherwise silent.
3. Pauses shorter than ``min_pause`` are bridged, what is then shorter than ``min_speech`` is dropped.
4. Each end gets ``pad`` more, so that weak consonants stay; neighbours that touch become one.
5. What is longer than ``max_seconds`` is cut in the quietest 0.2 s of the second half of its first
   ``max_seconds``, repeatedly.

A signal of constant level (noise alone, a tone) has no segment. A constant offset of a recorder is no sound:
it is taken off each channel before levels are measured (:class:`Levels`), and a signal that is constant is
silent (:func:`sounds`, :func:`find_faults`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from frontend.utils.errors import UserError

FRAME_S = 0.02
_FLOOR, _LOUD = 10.0, 99.0  # percentiles of the frames' levels
_SMOOTH = 10  # frames over which a place to cut is judged
_OFFSET = 1e-4  # of full scale, -80 dB: a smaller mean is that of any sound
_ROUNDING = 1e-13  # what is left of an offset's power when it was taken off
_STEP = 2.0**-15  # of 16 bits; some devices turn 5 into -6, and 1.0 cannot be
_QUIET = 16 * _STEP  # what is less loud is equal by chance

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


def sounds(signals: np.ndarray) -> np.ndarray:
    """Tell of signals ``(..., T)`` whether each is more than silence: ``(...)`` of bool.

    A constant is silence, whatever its value: an offset of the recorder.
    """
    return signals.max(-1, initial=-np.inf) > signals.min(-1, initial=np.inf)


class Levels:
    """The level of each frame of 20 ms of a signal that comes in blocks.

    All blocks but the last are whole frames (:func:`frame_samples`). A frame that is constant is silent. The
    mean of each channel over its other frames is an offset and does not count.
    """

    def __init__(self, fs: int):
        self._frame = frame_samples(fs)
        self._power: list[np.ndarray] = []  # (F,) each, mean of the channels, with the offset
        self._means: list[np.ndarray] = []  # (C, F)
        self._total, self._samples = np.zeros((2, 1)), np.zeros((2, 1))  # per channel: moving frames, all

    def add(self, block: np.ndarray) -> None:
        """Measure ``(C, T)`` or ``(T,)`` more samples."""
        block = np.atleast_2d(block)
        samples = block.shape[-1]
        if samples == 0:
            return
        starts = np.arange(0, samples, self._frame)
        lengths = np.minimum(self._frame, samples - starts)
        power = np.add.reduceat(np.mean(np.square(block, dtype=np.float64), axis=0), starts)
        low, high = (extreme.reduceat(block, starts, axis=1) for extreme in (np.minimum, np.maximum))
        constant = (low == high) & (lengths > max(1, self._frame // 2))  # the last frame may be a sample
        self._power.append(np.where(constant.all(0), 0.0, power / lengths))
        sums, moving = np.add.reduceat(block, starts, axis=1, dtype=np.float64), ~constant
        self._means.append(sums / lengths)
        self._total = self._total + [(sums * moving).sum(1), sums.sum(1)]
        self._samples = self._samples + [(lengths * moving).sum(1), np.full(len(block), samples)]

    def db(self) -> np.ndarray:
        """Return the levels in dB, ``(F,)``: the mean power of the channels; -inf is silence."""
        if not self._power:
            return np.zeros(0)
        power, total, samples = np.concatenate(self._power), self._total, self._samples
        offset = np.where(samples[0] > 0, total[0] / np.maximum(samples[0], 1), total[1] / samples[1])
        offset[np.abs(offset) < _OFFSET] = 0.0
        if offset.any():
            means = np.concatenate(self._means, axis=1)
            without = power + np.mean(offset[:, None] ** 2 - 2 * offset[:, None] * means, axis=0)
            power = np.where((power > 0) & (without > _ROUNDING * power), without, 0.0)
        with np.errstate(divide="ignore"):
            return 10 * np.log10(power)


def levels_db(signal: np.ndarray, fs: int) -> np.ndarray:
    """Return :class:`Levels` of a whole signal, ``(T,)`` or ``(C, T)`` at ``fs`` Hz."""
    levels = Levels(fs)
    levels.add(signal)
    return levels.db()


@dataclass(frozen=True)
class Faults:
    """What is wrong with the channels of a recording; channels count from 0.

    Attributes:
        dead: channels that are constant from beginning to end.
        copies: ``(channel, earlier channel, sign)``: the same samples, with the same or the opposite sign.
    """

    dead: tuple[int, ...] = ()
    copies: tuple[tuple[int, int, int], ...] = ()

    def warnings(self, where: Callable[[int], str]) -> list[str]:
        """Return a sentence for each channel; ``where`` says what a channel is called."""
        dead = [f"{where(k)} is dead: constant from beginning to end (was it connected?)" for k in self.dead]
        return dead + [
            f"{where(k)} is a copy of {where(other)}{', with the opposite sign' * (sign < 0)}: "
            "it adds nothing"
            for k, other, sign in self.copies
        ]

    def live(self, channels: int) -> list[int]:
        """Return which of ``channels`` are not dead; all of them if all are."""
        return [k for k in range(channels) if k not in self.dead] or list(range(channels))


def _same(block: np.ndarray, k: int, j: int, sign: int) -> bool:
    """Tell whether two channels are equal; with opposite signs, to one step of 16 bits."""
    if sign > 0:
        return np.array_equal(block[k], block[j])
    return bool(np.abs(block[k] + block[j]).max() < 1.01 * _STEP)


def find_faults(blocks: Iterable[np.ndarray]) -> Faults:
    """Find dead channels and copies in a recording that comes in blocks ``(C, T)``.

    No further block is asked for once every channel is known to live and to differ from the others.
    """
    first = peak = np.zeros(0)
    dead: list[int] = []
    alike: list[tuple[int, int, int]] = []
    for block in blocks:
        if not len(first):
            first, peak, dead = block[:, 0], np.abs(block[:, 0]), list(range(len(block)))
            alike = [(k, j, sign) for k in dead for j in range(k) for sign in (1, -1)]
        dead = [k for k in dead if (block[k] == first[k]).all()]
        peak = np.maximum(peak, np.abs(block).max(1))
        alike = [pair for pair in alike if _same(block, *pair)]
        if not dead and not alike:
            break
    copies = {k: (k, j, sign) for k, j, sign in reversed(alike) if not {k, j} & {*dead} and peak[k] > _QUIET}
    return Faults(tuple(dead), tuple(copies[k] for k in sorted(copies)))


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


def cut_evenly(levels: np.ndarray, fs: int, seconds: float, longest: float) -> list[Segment]:
    """Cut all of a signal where it is quietest into pieces of half of ``longest`` seconds to all of it.

    Args:
        levels: ``(F,)`` of :func:`levels_db`.
        fs: Hz.
        seconds: length of the signal; one that is no longer than ``longest`` is one piece.
        longest: seconds, 1 or more.
    """
    frame_s = frame_samples(fs) / fs
    most = int(longest / frame_s)
    pieces = list(_cut(levels, 0, len(levels), most, most // 2)) if seconds > longest else [(0, len(levels))]
    return [(round(a * frame_s, 4), round(min(b * frame_s, seconds), 4)) for a, b in pieces]


def _cut(levels: np.ndarray, start: int, end: int, longest: int, least: int = 0) -> Iterator[tuple[int, int]]:
    """Yield pieces of at most ``longest`` frames; the last has ``least`` or more."""
    # Digital silence is the quietest place there is, but has no finite level.
    finite = np.where(np.isfinite(levels), levels, -200.0)
    half = _SMOOTH // 2
    while end - start > longest:
        low, high = start + longest // 2, min(start + longest, end - least)
        quiet = np.convolve(finite[low - half : high + half], np.ones(_SMOOTH), "same")
        at = low + int(np.argmin(quiet[half : len(quiet) - half]))
        yield start, at
        start = at
    yield start, end
