"""Streams of overlapping windows joined into streams of the whole recording.

A network names its outputs anew in every window: what is stream 1 here may be stream 2 in the next. Which of
a window's streams continues which is decided from two sources, each a matrix of log-likelihoods (in nats,
stream so far x stream of the window), which are added; the best permutation of the sum is taken.

- *The overlap.* Both windows separated it, so that the right permutation makes them equal there. In blocks of
  0.1 s the error of a pair, relative to the power of all streams, is taken as Gaussian; a block counts for
  the more, the louder it is, relative to the loud blocks so far. Where nobody speaks, the overlap says next
  to nothing.
- *The memory* (two microphones or more). Talkers sit still: the covariance of the microphones, frequency by
  frequency, over the bins that belong to a stream is the talker's spatial signature, which brings him back
  to his stream after a pause of any length. The score of a pair is the loss of log-likelihood when the stream
  so far and the window's stream are explained by one covariance instead of by one each: nothing if either
  is silent.

With one microphone there is no memory: after a pause longer than the overlap, nothing but the network's own
order of its outputs says who is who.

Within a window the order is the separator's. A network that puts whoever speaks alone into its first output
swaps streams there, and no permutation of windows can mend it; ``refine: iva+mask`` does, since one demixing
matrix a frequency then serves the whole window.

The overlap-add with a permutation chosen by the overlap is that of continuous speech separation [1]; the
signature's likelihood is that of :func:`frontend.pseudo_targets.spatial_merge`.

[1] Z. Chen et al., "Continuous speech separation: dataset and analysis", ICASSP 2020.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from frontend.signatures import Loudness, SpatialMemory

_BLOCK_S = 0.1
# Nats that a loud block of the overlap gives for a permutation whose error there is all of the power.
_OVERLAP_NATS = 5.0
# A block this much below the loud ones (power) counts half.
_QUIET_BLOCK = 0.03
_TINY = 1e-30


def best_permutation(scores: np.ndarray) -> tuple[int, ...]:
    """Return p with the largest ``sum_s scores[s, p[s]]`` out of all permutations; ties keep the order.

    Args:
        scores: (S, S).
    """
    _, permutation = linear_sum_assignment(scores, maximize=True)
    gain = scores[np.arange(len(scores)), permutation].sum() - np.trace(scores)
    if gain <= 1e-9 * (1 + np.abs(scores).max()):
        return tuple(range(len(scores)))
    return tuple(int(p) for p in permutation)


def block_powers(streams: np.ndarray, fs: int) -> np.ndarray:
    """Return the mean power of (..., T) in blocks of 0.1 s, (..., ceil(T / block)); zeros follow the end."""
    block = max(1, round(_BLOCK_S * fs))
    padded = np.pad(streams, [(0, 0)] * (streams.ndim - 1) + [(0, -streams.shape[-1] % block)])
    return np.mean(padded.reshape(*streams.shape[:-1], -1, block).astype(np.float64) ** 2, axis=-1)


def overlap_scores(past: np.ndarray, new: np.ndarray, fs: int, level: float) -> np.ndarray:
    """Score every pairing of streams by their difference where both windows have them.

    Args:
        past, new: (S, V), the overlap as the window before and the new one separated it.
        fs: rate in Hz.
        level: mean power of a loud block so far.

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
        overlap, memory: what both sources said, (S, S) in nats; zeros for the first window.
    """

    start: int
    permutation: tuple[int, ...]
    overlap: np.ndarray
    memory: np.ndarray


class Stitcher:
    """Join the streams of windows that overlap; give them out as soon as they are final.

    The middle of the overlap is cross-faded, its outer parts are taken from the window where they are
    further from the edge: there the network had no context on one side.

    Args:
        n_streams: S.
        fs: rate in Hz.
        n_mics: of the mixture; two or more allow a memory of where the talkers are.

    Attributes:
        decision: the last one.
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
            self.memory.hear(mixture[:, past - start :])
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
