"""Streams that change places within a window, put back.

A network may name its outputs anew after a pause: a talker alone comes out of its first output, whoever
it is. Who speaks in which stream is decided block by block, from where the sound comes from and, where the
window before reaches, from what was separated there. The order of a block is the state of a chain; leaving
it costs a fixed number of nats; the likeliest chain is found by dynamic programming (Viterbi 1967).

The signatures that a block is compared with are those of the streams so far and of the window's
other blocks, in the order found so far: the chain is found again until it stays.
"""

import itertools

import numpy as np
import torch

from frontend.signatures import SpatialMemory

BLOCK_S = 0.1  # of what the overlap says
_FRAMES = 15  # of the signatures' STFT: 0.48 s
_CHANGE_NATS = 10.0
_ROUNDS = 4
_MOST_STREAMS = 4  # beyond, S! orders a block are too many: streams are left as they are
_FADE_S = 0.02
_TINY = 1e-30


def reorder(
    streams: np.ndarray, mixture: np.ndarray, memory: SpatialMemory, agreed: np.ndarray
) -> tuple[np.ndarray, list[int]]:
    """Put every block of a window into the order of the streams so far.

    Args:
        streams: (S, T), S <= 4; more are returned as they are.
        mixture: (C, T), C >= 2.
        memory: signatures of the streams so far.
        agreed: (S, S, V), what the overlap with the window before says, in nats per 0.1 s from the start:
            [s, p] is for stream s so far continued by ``streams[p]``.

    Returns:
        (S, T) and the samples where the order changes: at the quietest place near a block's edge.
    """
    if len(streams) > _MOST_STREAMS:
        return streams, []
    block = _FRAMES * memory.hop
    q, m = memory.covariances(streams, mixture, block)
    orders = torch.tensor(list(itertools.permutations(range(len(streams)))))  # (S!, S), the first: as it is
    pairs = torch.from_numpy(_per_block(agreed, memory, len(q)))
    path = torch.zeros(len(q), dtype=torch.long)
    for _ in range(_ROUNDS):
        gain = pairs + _spatial_pairs(q, m, orders[path], memory)  # (B, S, S)
        scores = torch.stack([gain[:, range(len(streams)), list(order)].sum(-1) for order in orders.tolist()])
        new = torch.from_numpy(likeliest_path(scores.T.numpy(), _CHANGE_NATS))
        if torch.equal(new, path):
            break
        path = new
    return _switched(streams, mixture, orders[path].tolist(), block)


def _per_block(agreed: np.ndarray, memory: SpatialMemory, n_blocks: int) -> np.ndarray:
    """Sum (S, S, V) over the pieces of 0.1 s that begin in each block: (B, S, S)."""
    total = np.zeros((n_blocks, *agreed.shape[:2]))
    for v in range(agreed.shape[2]):
        total[min(int(v * BLOCK_S / memory.frame_s) // _FRAMES, n_blocks - 1)] += agreed[:, :, v]
    return total


def _spatial_pairs(
    q: torch.Tensor, m: torch.Tensor, order: torch.Tensor, memory: SpatialMemory
) -> torch.Tensor:
    """Log-likelihood of stream s with stream p of the block in it, (B, S, S), the block itself left out of s.

    Args:
        q, m: (B, S, F, C, C), (B, S, F).
        order: (B, S), the order of each block so far.
    """
    rows = torch.arange(len(q))[:, None]
    own_q, own_m = q[rows, order], m[rows, order]
    all_q, all_m = own_q.sum(0), own_m.sum(0)
    if memory.r is not None:
        all_q, all_m = all_q + memory.r, all_m + memory.n
    # A difference of sums: where nothing is left, no rounding may be taken for a covariance.
    rest_m = all_m - own_m
    left = rest_m > 1e-9 * all_m
    rest_q = torch.where(left[..., None, None], all_q - own_q, 0)
    rest_m = torch.where(left, rest_m, 0)
    with_p = memory.likelihood(rest_q[:, :, None] + q[:, None], rest_m[:, :, None] + m[:, None])
    return with_p - memory.likelihood(rest_q, rest_m)[:, :, None] - memory.likelihood(q, m)[:, None]


def likeliest_path(scores: np.ndarray, change: float) -> np.ndarray:
    """Return the states (B,) of the highest sum of ``scores`` (B, K), less ``change`` for each change.

    Ties stay in the state before, and end in the lowest.
    """
    best, came_from = scores[0].copy(), []
    for row in scores[1:]:
        leader = int(best.argmax())
        moved = best[leader] - change > best
        came_from.append(np.where(moved, leader, np.arange(len(best))))
        best = np.where(moved, best[leader] - change, best) + row
    path = [int(best.argmax())]
    for back in reversed(came_from):
        path.append(int(back[path[-1]]))
    return np.array(path[::-1])


def _switched(
    streams: np.ndarray, mixture: np.ndarray, order: list[list[int]], block: int
) -> tuple[np.ndarray, list[int]]:
    """Take the order of each block, cross-faded in 20 ms around the quietest place near where it changes."""
    out, places = streams[order[0]].copy(), []
    step = max(1, block // 24)  # 20 ms
    for k in range(1, len(order)):
        if order[k] == order[k - 1]:
            continue
        around = np.arange(
            max(0, k * block - block // 2), min(streams.shape[1] - step, k * block + block // 2), step
        )
        energy = [np.square(mixture[:, a : a + step]).sum() for a in around]
        place = int(around[int(np.argmin(energy))]) if len(around) else k * block
        rise = np.clip((np.arange(streams.shape[1] - place) + 0.5) / step, 0, 1).astype(np.float32)
        out[:, place:] += rise * (streams[order[k]][:, place:] - out[:, place:])
        out[:, place + step :] = streams[order[k]][:, place + step :]
        places.append(place)
    return out, places
