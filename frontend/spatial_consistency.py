"""Does every stream stay with one place in the room? What the array says of that, without any reference.

A talker who sits still has one direction at the array, frequency by frequency: the principal eigenvector of
the covariance of the microphones, weighted with the stream's mask, which for one talker and little noise
is his relative transfer function up to scale. Where a stream changes over to another talker, or holds
pieces of several, the vector wanders. It is compared block by block with the vector of
*all other* blocks, so that no block is compared with itself.
"""

import itertools

import numpy as np
import torch

from frontend.rng import generator
from frontend.spatial import spatial_covariance, stft, stream_masks

_WINDOW_S = 0.064
# A stream below this share of a block's power says nothing of where anybody sits.
_ACTIVE_SHARE = 0.05
_TINY = 1e-12


def block_covariances(mixture: np.ndarray, streams: np.ndarray, fs: int) -> np.ndarray:
    """Return the covariances of the microphones under each stream's mask in one block.

    Bins are weighted with 1 / |x|, so that the loudest vowel is not all that counts.

    Args:
        mixture: (C, T), C >= 2.
        streams: (S, T).
        fs: in Hz.

    Returns:
        (S, F, C, C) complex64, Hermitian.
    """
    hop = max(1, round(_WINDOW_S * fs / 2))
    x = stft(torch.from_numpy(mixture), 2 * hop, hop)
    masks = stream_masks(stft(torch.from_numpy(streams), 2 * hop, hop))
    norm = x.abs().square().sum(0).sqrt().clamp_min(_TINY)
    return spatial_covariance(x.unsqueeze(0), masks / norm).numpy()


def coherences(covariances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compare each block's direction with that of all other blocks.

    Args:
        covariances: (B, S, F, C, C) of :func:`block_covariances`, B >= 2.

    Returns:
        coherence (B, S, S), 0..1: ``[b, s, r]`` is the mean over frequencies of ``|v' u|^2``, with v of
        stream s in block b and u of stream r in all blocks but b, weighted with the power of stream s;
        activity (B, S), bool: whether stream s holds its share of the block's power.
    """
    power = np.einsum("bsfcc->bsf", covariances).real
    total = power.sum(-1)
    active = total > _ACTIVE_SHARE * np.maximum(total.sum(1, keepdims=True), _TINY)
    own = _principal(covariances)  # (B, S, F, C)
    others = _principal(covariances.sum(0, keepdims=True) - covariances)
    similar = np.abs(np.einsum("bsfc,brfc->bsrf", own.conj(), others)) ** 2
    weights = power / np.maximum(total, _TINY)[..., None]
    return np.einsum("bsrf,bsf->bsr", similar, weights), active


def _principal(covariances: np.ndarray) -> np.ndarray:
    return np.linalg.eigh(covariances)[1][..., -1]


def consistency(covariances: np.ndarray, seed: int = 0, key: str = "") -> dict:
    """Sum up how constant the streams' directions are over a recording.

    Args:
        covariances: (B, S, F, C, C), one block after the other.
        seed, key: of the random assignment that the streams are compared with.

    Returns:
        ``own``: mean coherence of a stream with itself in the other blocks; ``other``: with the other
        streams; ``random``: with itself where the streams of every block are put in a random order, what
        streams that know nothing of talkers would get; ``changed``: share of the blocks, out of those in
        which all streams are active, whose streams fit another order better; ``blocks``: their number.
        None where there are too few blocks.
    """
    empty = {"own": None, "other": None, "random": None, "changed": None, "blocks": 0}
    if len(covariances) < 2:
        return empty
    coherence, active = coherences(covariances)
    n_streams = coherence.shape[1]
    if not active.any():
        return empty
    same = np.eye(n_streams, dtype=bool)
    draws = generator(seed, key, "random assignment")
    orders = np.stack([draws.permutation(n_streams) for _ in covariances])
    shuffled = np.take_along_axis(covariances, orders[:, :, None, None, None], axis=1)
    random, random_active = coherences(shuffled)
    whole = active.all(1)
    return {
        "own": float(coherence[:, same][active].mean()),
        "other": float(np.where(same, 0, coherence).sum(2)[active].mean() / (n_streams - 1))
        if n_streams > 1
        else None,
        "random": float(random[:, same][random_active].mean()),
        "changed": _changed(coherence[whole]) if whole.any() and n_streams > 1 else None,
        "blocks": int(whole.sum()),
    }


def _changed(coherence: np.ndarray) -> float:
    """Share of blocks (B, S, S) for which another permutation than the identity has the largest sum."""
    orders = list(itertools.permutations(range(coherence.shape[1])))
    rows = np.arange(coherence.shape[1])
    sums = np.stack([coherence[:, rows, list(order)].sum(1) for order in orders])
    return float((sums.argmax(0) != 0).mean())
