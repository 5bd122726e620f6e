"""Which stream a talker is in: by how much of his image's energy it explains.

A stream ``x`` explains ``2 <s, x> - |x|^2`` of the energy ``|s|^2`` of an image ``s``: what is gone of it in
``s - x``. Unlike SI-SNR this sees levels, so that a faint trace of a talker in the other stream does not
count as he himself; like the streams of all our systems, ``x`` has to be at the level of the recording.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

BLOCK_S = 0.5
ACTIVE_DB = -20.0  # blocks of the image this far below its mean power are pauses
MARGIN = 0.25  # of the energy: by so much the best stream is ahead of the next where a block is decided


def explained(image: np.ndarray, streams: np.ndarray) -> np.ndarray:
    """Return the share of the image's energy that each stream explains, at most 1, negative for other speech.

    Args:
        image: ``(T,)``, not silent.
        streams: ``(M, T)``.

    Returns:
        ``(M,)``
    """
    image, streams = np.asarray(image, np.float64), np.asarray(streams, np.float64)
    return (2 * streams @ image - np.sum(streams**2, axis=-1)) / np.sum(image**2)


def decided(shares: np.ndarray) -> bool:
    """Tell whether one stream is ahead of all others by :data:`MARGIN`; what is negative counts as 0."""
    ordered = np.sort(np.maximum(np.append(shares, 0.0), 0.0))
    return bool(ordered[-1] - ordered[-2] >= MARGIN)


def block_streams(image: np.ndarray, streams: np.ndarray, fs: int) -> np.ndarray:
    """Return which stream a talker is in, block by block of 0.5 s.

    Args:
        image: ``(T,)``, of one utterance.
        streams: ``(M, T)``.
        fs: Hz.

    Returns:
        ``(B,)`` of int; -1 where the talker pauses or no stream is ahead by :data:`MARGIN`. A rest of less
        than half a block at the end belongs to the last block.
    """
    size, samples = max(1, round(BLOCK_S * fs)), len(image)
    edges = np.append(np.arange(max(1, round(samples / size))) * size, samples)
    power = np.mean(np.square(image, dtype=np.float64))
    found = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        piece = image[low:high]
        heard = np.mean(np.square(piece, dtype=np.float64)) > power * 10 ** (ACTIVE_DB / 10)
        shares = explained(piece, streams[:, low:high]) if heard else np.zeros(1)
        found.append(int(np.argmax(shares)) if decided(shares) else -1)
    return np.array(found)


def swaps(blocks: np.ndarray) -> int:
    """Count how often a talker changes his stream: consecutive decided blocks that name another stream."""
    kept = blocks[blocks >= 0]
    return int(np.sum(kept[1:] != kept[:-1]))


def usual_streams(talkers: np.ndarray, streams: np.ndarray, weights: np.ndarray) -> dict[int, int]:
    """Return each talker's usual stream: different ones, that hold most of what is said.

    Args:
        talkers: ``(n,)`` of int, who says utterance i.
        streams: ``(n,)`` of int, the stream it is in; -1: undecided, which does not count.
        weights: ``(n,)``, its length.
    """
    talkers, streams = np.asarray(talkers), np.asarray(streams)
    table = np.zeros((talkers.max() + 1, max(streams.max(), talkers.max()) + 1))
    np.add.at(table, (talkers[streams >= 0], streams[streams >= 0]), np.asarray(weights)[streams >= 0])
    return dict(zip(*map(np.ndarray.tolist, linear_sum_assignment(table, maximize=True)), strict=True))
