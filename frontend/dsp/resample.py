"""Resampling, whole or block by block, by soxr: the one place where a rate is changed.

Both give the same samples, ``ceil(T * new_fs / fs)`` of them: sample ``n`` is the signal at ``n / new_fs``
seconds. What lies above 0.91 of half the lower rate is attenuated, from half of it on by more than 100 dB.
"""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import soxr


def resample(signal: np.ndarray, fs: int, new_fs: int) -> np.ndarray:
    """Return ``(..., T)`` of rate ``fs`` at rate ``new_fs``, both in Hz; float32 or float64 as it came."""
    if fs == new_fs:
        return signal
    *outer, samples = signal.shape
    rows = signal.reshape(math.prod(outer), samples)  # not -1, which is unknown where there are no samples
    made = np.concatenate(list(resample_blocks([rows], fs, new_fs)), axis=1)
    return made.reshape(*outer, made.shape[1])


def resample_blocks(blocks: Iterable[np.ndarray], fs: int, new_fs: int) -> Iterator[np.ndarray]:
    """Change the rate of a recording that comes in blocks, in memory that does not grow with its length.

    Args:
        blocks: arrays ``(C, T)`` of any length, float32 or float64.
        fs: their rate in Hz.
        new_fs: that of the arrays ``(C, T')`` that are yielded; joined, these are what :func:`resample` makes
            of the joined blocks.
    """
    if fs == new_fs:
        yield from blocks
        return
    stream, taken, given = None, 0, 0
    for block in blocks:
        if stream is None:
            stream = soxr.ResampleStream(fs, new_fs, len(block), dtype=block.dtype.name)
        made = stream.resample_chunk(np.ascontiguousarray(block.T)).reshape(-1, len(block))
        taken, given = taken + block.shape[1], given + len(made)
        if len(made):
            yield made.T
    if stream is not None:
        # soxr rounds the length to the nearest; a sample's worth of silence makes sure of the last one.
        silence = np.zeros((-(-fs // new_fs), len(block)), block.dtype)
        made = stream.resample_chunk(silence, last=True).reshape(-1, len(block))
        yield made.T[:, : -(-taken * new_fs // fs) - given]
