"""Seeded 95 % bootstrap intervals of means over utterances, and over training seeds and utterances.

Over utterances the resamples depend on the seed and the number of utterances alone, so that all systems of a
test set share them.

Over seeds (:func:`hierarchical`): several networks, trained alike but for their seed, separate one test set.
Utterances are resampled with replacement, once for all seeds, since a hard mixture is hard for every seed.
The seeds are not: a bootstrap of K seeds sees (K - 1)/K of their variance and takes it for known, so that its
intervals cover about four times in five for K = 3. Instead the mean over seeds is drawn from the t
distribution of K - 1 degrees of freedom around it (Box & Tiao 1973, Bayesian Inference in Statistical
Analysis, ch. 2.4). Of seeds alone the interval is exactly Student's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from frontend.utils.rng import generator

VERSION = 1
RESAMPLES = 10_000
LEVEL = 0.95
DECIMALS = 4
_DRAWS_AT_ONCE = 1_000_000


def rounded(value: Any, decimals: int = DECIMALS) -> Any:
    """Return ``value`` for JSON: numbers rounded, None for what is not finite, sequences as lists.

    >>> rounded((1.23456, np.inf, [np.float64(2), "a"])), rounded({"x": 0.126}, 2)
    ([1.2346, None, [2.0, 'a']], {'x': 0.13})
    """
    if isinstance(value, Mapping):
        return {key: rounded(one, decimals) for key, one in value.items()}
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim):
        return [rounded(one, decimals) for one in value]
    if isinstance(value, float | np.floating):
        return round(float(value), decimals) if np.isfinite(value) else None
    return value


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of ``values`` (Efron & Tibshirani 1993, ch. 13).

    ``values`` are ``(n,)``, one per utterance, finite; low and high are equal where there is a single one.
    """
    return _interval(_double(values)[None], lambda means: means[0], seed)


def paired_difference(a: np.ndarray, b: np.ndarray, seed: int = 0) -> tuple[float, tuple[float, float]]:
    """Return the mean of ``a - b`` and its interval; entry i of both ``(n,)`` is from utterance i."""
    difference = _double(a) - _double(b)
    return float(difference.mean()), bootstrap_interval(difference, seed)


def paired_ratio(a: np.ndarray, b: np.ndarray, seed: int = 0) -> tuple[float, tuple[float, float]]:
    """Return ``mean(a) / mean(b)`` and its interval; entry i of both ``(n,)`` is from utterance i.

    A resample in which all of b are 0 counts as infinite; the bounds are not finite if there are many.
    """

    def divided(means: np.ndarray) -> np.ndarray:
        return np.divide(means[0], means[1], out=np.full(means[0].shape, np.inf), where=means[1] > 0)

    both = np.stack([_double(a), _double(b)])
    return float(both[0].mean() / both[1].mean()), _interval(both, divided, seed)


def _interval(values: np.ndarray, statistic: Callable, seed: int) -> tuple[float, float]:
    """Return the bounds of ``statistic`` of the resampled means ``(k, resamples)`` of ``values (k, n)``."""
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
    with np.errstate(invalid="ignore"):  # between two that are infinite
        low, high = np.quantile(statistic(np.concatenate(means, axis=-1)), [tail, 1 - tail])
    return float(low), float(high)


def _double(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


@dataclass(frozen=True)
class Estimate:
    """A statistic, its interval (None where too many resamples have no value), its value for each seed."""

    value: float
    ci: tuple[float, float] | None
    per_seed: tuple[float, ...]


def hierarchical(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], seed: int = 0
) -> Estimate:
    """Estimate ``statistic`` of the means over seeds and utterances, with its 95 % percentile interval.

    Args:
        values: ``(J, K, n)``, J quantities of K seeds and n utterances, finite; entry ``[:, k, i]`` is of one
            training seed and one mixture. What does not depend on the seed is repeated.
        statistic: of means ``(J, ...)``, returns ``(...)``; nan where it does not exist.
        seed: same seed, K and n: same resamples, so that intervals of two systems are comparable.
    """
    values = _double(values)
    if not values.size or not np.isfinite(values).all():
        raise ValueError("an interval needs at least one seed and one utterance, all values finite")
    _, n_seeds, n = values.shape
    of_seeds, of_utterances = _weights(seed, n_seeds, n)
    resampled = statistic(np.einsum("jkr,rk->jr", values @ of_utterances.T, of_seeds))
    alone = statistic(values.mean(-1))
    return Estimate(float(statistic(values.mean((1, 2)))), _bounds(resampled), tuple(map(float, alone)))


def ratio(means: np.ndarray) -> np.ndarray:
    """Return ``means[0] / means[1]`` of ``(2, ...)``, nan where the second is not above 0."""
    return np.divide(means[0], means[1], out=np.full(np.shape(means[0]), np.nan), where=means[1] > 0)


def _bounds(resampled: np.ndarray) -> tuple[float, float] | None:
    """Percentiles; a resample without a value may lie anywhere, and widens the interval on either side."""
    tail = (1 - LEVEL) / 2
    low = np.quantile(np.nan_to_num(resampled, nan=-np.inf), tail, method="lower")
    high = np.quantile(np.nan_to_num(resampled, nan=np.inf), 1 - tail, method="higher")
    return (float(low), float(high)) if np.isfinite([low, high]).all() else None


@lru_cache(maxsize=4)
def _weights(seed: int, n_seeds: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the seeds ``(R, K)`` and of the utterances ``(R, n)`` in every resample; rows sum to 1."""
    rng = generator(seed, "seeds and utterances", n_seeds, n)
    drawn = rng.integers(n, size=(RESAMPLES, n)) + n * np.arange(RESAMPLES)[:, None]
    of_utterances = np.bincount(drawn.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n) / n
    return _t_weights(rng, n_seeds), of_utterances


def _t_weights(rng: np.random.Generator, n_seeds: int) -> np.ndarray:
    """Weights whose mean of any K values is t-distributed around theirs, scaled by their standard error."""
    if n_seeds == 1:
        return np.ones((RESAMPLES, 1))
    freedom = n_seeds - 1
    normal = rng.standard_normal((RESAMPLES, n_seeds))
    normal -= normal.mean(1, keepdims=True)
    scale = np.sqrt(n_seeds * freedom) * np.sqrt(rng.chisquare(freedom, (RESAMPLES, 1)) / freedom)
    return 1 / n_seeds + normal / scale
