"""How sure a mean over utterances is: seeded 95 % bootstrap intervals, paired for two systems."""

from collections.abc import Callable

import numpy as np

from frontend.rng import generator

RESAMPLES = 10_000
LEVEL = 0.95
_DRAWS_AT_ONCE = 1_000_000


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of ``values`` (Efron & Tibshirani 1993, ch. 13).

    Args:
        values: ``(n,)``, one per utterance, finite.
        seed: same seed and n, same resamples: intervals of two systems are comparable.

    Returns:
        (low, high), equal where there is a single value.
    """
    return _interval(_double(values)[None], lambda means: means[0], seed)


def paired_difference(a: np.ndarray, b: np.ndarray, seed: int = 0) -> tuple[float, tuple[float, float]]:
    """Mean of ``a - b`` over the same utterances, and its interval.

    Args:
        a, b: ``(n,)``, entry i of both from utterance i.

    Returns:
        (difference, (low, high))
    """
    difference = _double(a) - _double(b)
    return float(difference.mean()), bootstrap_interval(difference, seed)


def paired_ratio(a: np.ndarray, b: np.ndarray, seed: int = 0) -> tuple[float, tuple[float, float]]:
    """``mean(a) / mean(b)`` over the same utterances, and its interval.

    Args:
        a, b: ``(n,)``, entry i of both from utterance i.

    Returns:
        (ratio, (low, high))
    """
    both = np.stack([_double(a), _double(b)])
    return float(both[0].mean() / both[1].mean()), _interval(both, lambda means: means[0] / means[1], seed)


def _interval(values: np.ndarray, statistic: Callable, seed: int) -> tuple[float, float]:
    """Bounds of ``statistic`` of the resampled means ``(k, resamples)`` of ``values (k, n)``."""
    n = values.shape[-1]
    if n == 0 or not np.isfinite(values).all():
        raise ValueError("an interval needs at least one value, and all of them finite")
    rng = generator(seed, "bootstrap", n)
    step = max(1, _DRAWS_AT_ONCE // n)
    means = [
        values[:, rng.integers(n, size=(min(step, RESAMPLES - start), n))].mean(-1)
        for start in range(0, RESAMPLES, step)
    ]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(statistic(np.concatenate(means, axis=-1)), [tail, 1 - tail])
    return float(low), float(high)


def _double(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)
