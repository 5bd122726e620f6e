"""How sure a figure over training seeds and test utterances is: a hierarchical bootstrap.

Several networks, trained alike but for their seed, separate the same test set. A figure is a statistic of the
means over seeds and utterances. Both are resampled with replacement, the utterances once for all seeds (the
test set is shared, and a hard mixture is hard for every seed), and systems stay paired throughout: the
"pigeonhole" bootstrap of a two-way table (Owen 2007, Annals of Applied Statistics 1(2)).

With K seeds a bootstrap sees (K - 1)/K of the variance between them, two thirds with three: the intervals are
somewhat short where seeds differ much, so that each seed's own value belongs beside them. A single seed
leaves the utterances alone, and nothing is known of the training's chance.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from frontend.intervals import LEVEL, RESAMPLES
from frontend.rng import generator


@dataclass(frozen=True)
class Estimate:
    """A statistic, its interval (None where a resample has no value), and its value for each seed alone."""

    value: float
    ci: tuple[float, float] | None
    per_seed: tuple[float, ...]


def hierarchical(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], seed: int = 0
) -> Estimate:
    """Estimate ``statistic`` of the means over seeds and utterances, with its 95 % percentile interval.

    Args:
        values: ``(J, K, n)``, J quantities of K seeds and n utterances, finite; entry ``[:, k, i]`` of one
            network pair and one mixture. What does not depend on the seed is repeated.
        statistic: of means ``(J, ...)``, returns ``(...)``; nan where it does not exist.
        seed: same seed, K and n: same resamples, so that intervals of two systems are comparable.

    Raises:
        ValueError: no seed, no utterance, or a value that is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if not values.size or not np.isfinite(values).all():
        raise ValueError("an interval needs at least one seed and one utterance, all values finite")
    _, n_seeds, n = values.shape
    of_seeds, of_utterances = _weights(seed, n_seeds, n)
    means = np.einsum("jkr,rk->jr", values @ of_utterances.T, of_seeds)
    resampled = statistic(means)
    tail = (1 - LEVEL) / 2
    ci = None
    if np.isfinite(resampled).all():
        low, high = np.quantile(resampled, [tail, 1 - tail])
        ci = (float(low), float(high))
    alone = statistic(values.mean(-1))
    return Estimate(float(statistic(values.mean((1, 2)))), ci, tuple(map(float, alone)))


def ratio(means: np.ndarray) -> np.ndarray:
    """``means[0] / means[1]``, nan where the second is not above 0: a share of nothing is no number.

    Args:
        means: ``(2, ...)``.
    """
    return np.divide(means[0], means[1], out=np.full(np.shape(means[0]), np.nan), where=means[1] > 0)


@lru_cache(maxsize=4)
def _weights(seed: int, n_seeds: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the seeds ``(R, K)`` and of the utterances ``(R, n)`` in every resample; rows sum to 1."""
    rng = generator(seed, "seeds and utterances", n_seeds, n)
    return _counts(rng, n_seeds) / n_seeds, _counts(rng, n) / n


def _counts(rng: np.random.Generator, n: int) -> np.ndarray:
    """How often each of n items is drawn in n draws with replacement, ``(R, n)``."""
    drawn = rng.integers(n, size=(RESAMPLES, n)) + n * np.arange(RESAMPLES)[:, None]
    return np.bincount(drawn.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n)
