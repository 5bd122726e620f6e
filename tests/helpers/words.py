"""Random sentences, and a second way to count the errors of words."""

import random
from collections.abc import Sequence

WORDS = "ONE TWO THREE FOUR".split()


def sentence(rng: random.Random, most: int, least: int = 0) -> str:
    """Return ``least`` to ``most`` words."""
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(least, most)))


def distance(a: Sequence, b: Sequence) -> int:
    """Return the Levenshtein distance, one cell after the other."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]
