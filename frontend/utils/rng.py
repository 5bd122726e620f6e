"""Random draws that depend on what they are for, never on when they are made."""

import hashlib

import numpy as np


def generator(seed: int, *key: str | int) -> np.random.Generator:
    """Return the generator that belongs to ``key``, such as (utterance id, purpose).

    The same ``(seed, *key)`` gives the same draws on any machine, in any order,
    in any process; two keys give independent draws.

    >>> bool(generator(0, "utt1", "room").random() == generator(0, "utt1", "room").random())
    True
    """
    digest = hashlib.sha256("\0".join(map(str, (seed, *key))).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))
