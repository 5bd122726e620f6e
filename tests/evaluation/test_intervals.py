"""Intervals over utterances, and over seeds and utterances: closed forms, slow versions, coverage."""

import numpy as np
import pytest
from scipy import stats

from frontend.evaluation import intervals
from frontend.evaluation.intervals import (
    RESAMPLES,
    _weights,
    bootstrap_interval,
    hierarchical,
    paired_difference,
    paired_ratio,
    ratio,
    rounded,
)
from frontend.utils.rng import generator

# --- over utterances


@pytest.mark.parametrize("skewed", [False, True])
def test_covers_the_true_mean_as_often_as_it_says(skewed):
    """95 % of intervals hold the mean; the percentile bootstrap is a little short where skewed."""
    rng = np.random.default_rng(22)
    draw = rng.standard_exponential if skewed else rng.standard_normal
    hits = 0
    for trial in range(100):
        low, high = bootstrap_interval(draw(60), seed=trial)
        hits += low < (1.0 if skewed else 0.0) < high
    assert 0.88 <= hits / 100 <= 0.99


def test_width_is_that_of_the_normal_law():
    values = np.random.default_rng(23).normal(3, 2, 400)
    low, high = bootstrap_interval(values)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.04)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.02)


def test_equals_a_loop_of_resamples():
    values = np.array([1.0, 4.0, 2.0, 8.0, 5.0])
    draws = generator(3, "bootstrap", 5).integers(5, size=(RESAMPLES, 5))
    means = sorted(sum(values[i] for i in row) / 5 for row in draws)
    low, high = bootstrap_interval(values, seed=3)
    assert means[240] <= low <= means[260] and means[-261] <= high <= means[-241]


def test_seeded():
    values = np.random.default_rng(24).standard_normal(50)
    assert bootstrap_interval(values, 1) == bootstrap_interval(values, 1)
    assert bootstrap_interval(values, 1) != bootstrap_interval(values, 2)


def test_pairing_gains_what_the_utterances_share():
    rng = np.random.default_rng(25)
    difficulty = 5 * rng.standard_normal(80)
    a, b = difficulty + 1 + 0.3 * rng.standard_normal(80), difficulty + 0.3 * rng.standard_normal(80)
    difference, (low, high) = paired_difference(a, b)
    assert difference == pytest.approx(np.mean(a) - np.mean(b)) and 0.7 < low < high < 1.3
    alone = bootstrap_interval(a)
    assert high - low < 0.2 * (alone[1] - alone[0])
    shuffled = paired_difference(a, rng.permutation(b))[1]
    assert shuffled[1] - shuffled[0] > 5 * (high - low)


def test_difference_to_itself_is_exactly_zero():
    a = np.random.default_rng(26).standard_normal(30)
    assert paired_difference(a, a) == (0.0, (0.0, 0.0))


def test_ratio_of_scaled_values_has_no_spread():
    a = np.random.default_rng(27).uniform(1, 5, 40)
    ratio, interval = paired_ratio(0.9 * a, a)
    assert (ratio, *interval) == pytest.approx((0.9, 0.9, 0.9))


def test_large_sets_take_no_more_memory():
    import tracemalloc

    values = np.random.default_rng(28).standard_normal(3000)
    tracemalloc.start()
    bootstrap_interval(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [np.inf]])
def test_no_interval_of_nothing(values):
    with pytest.raises(ValueError, match="finite"):
        bootstrap_interval(np.array(values))


def test_rounded_for_json():
    found = rounded(
        {"a": np.array([1.23456, np.nan]), "b": (np.float64(2), 3), "c": "x", "d": None, "e": [[1]]}
    )
    assert found == {"a": [1.2346, None], "b": [2.0, 3], "c": "x", "d": None, "e": [[1]]}
    assert rounded(-np.inf) is None and rounded(0.126, 2) == 0.13 and type(rounded(np.float64(1))) is float


# --- over seeds and utterances


def test_one_seed_is_the_paired_bootstrap_over_utterances():
    """Other resamples of the same distribution, so that bounds agree to their Monte Carlo error."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(3, 1, 200), rng.normal(5, 1, 200)
    found = hierarchical(np.stack([a, b])[:, None], lambda means: means[0] - means[1])
    value, ci = paired_difference(a, b)
    assert found.value == pytest.approx(value, abs=1e-12) and found.per_seed == (found.value,)
    assert found.ci == pytest.approx(ci, abs=0.01)
    found = hierarchical(np.stack([a, b])[:, None], ratio)
    value, ci = paired_ratio(a, b)
    assert found.value == pytest.approx(value, abs=1e-12) and found.ci == pytest.approx(ci, abs=0.003)


def test_the_interval_is_that_of_a_slow_bootstrap(monkeypatch):
    """Second implementation: loops and the same draws."""
    monkeypatch.setattr(intervals, "RESAMPLES", 2000)
    _weights.cache_clear()
    values = np.random.default_rng(2).normal(4, 0.2, (2, 3, 11)) + np.array([0, 0.1, 0.3])[None, :, None]
    found = hierarchical(values, ratio, seed=5)
    slow = []
    for of_seeds, of_utterances in zip(*_weights(5, 3, 11), strict=True):
        assert of_seeds.sum() == pytest.approx(1) and of_utterances.sum() == pytest.approx(1)
        drawn = [i for i in range(11) for _ in range(round(11 * of_utterances[i]))]
        assert len(drawn) == 11
        a, b = (sum(of_seeds[k] * quantity[k, drawn].mean() for k in range(3)) for quantity in values)
        slow.append(a / b)
    _weights.cache_clear()
    assert found.ci == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=5e-3)  # a resample further
    assert found.per_seed == pytest.approx(values[0].mean(-1) / values[1].mean(-1))


@pytest.mark.parametrize("of_seeds", [(0.0, 3.0, 6.0), (4.0, 4.5), (1.0, 2.0, 4.0, 8.0, 9.0)])
def test_seeds_that_differ_alone(of_seeds):
    """Utterances alike: Student's interval of the mean."""
    found = hierarchical(np.array(of_seeds)[None, :, None].repeat(40, -1), lambda means: means[0])
    mean, error = np.mean(of_seeds), stats.sem(of_seeds)
    low, high = stats.t.interval(0.95, len(of_seeds) - 1, mean, error)
    assert found.value == pytest.approx(mean) and found.per_seed == of_seeds
    assert found.ci == pytest.approx((low, high), abs=0.1 * (high - low))  # its Monte Carlo error


def test_seeds_that_agree():
    alike = hierarchical(np.full((1, 3, 40), 2.5), lambda means: means[0])
    assert (alike.value, alike.ci) == (2.5, pytest.approx((2.5, 2.5)))


def test_utterances_are_shared_between_seeds():
    """Difficulty common to all seeds does not average out over them, as it would if each drew its own."""
    difficulty = np.random.default_rng(3).normal(0, 1, 100)
    one, eight = (
        hierarchical(np.tile(difficulty, (1, k, 1)), lambda means: means[0], seed=1) for k in (1, 8)
    )
    widths = [found.ci[1] - found.ci[0] for found in (one, eight)]
    assert widths[1] == pytest.approx(widths[0], rel=0.05)


@pytest.mark.parametrize("between", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("n_seeds", [3, 10])
def test_the_interval_covers(n_seeds, between):
    """Truth 1, seeds and utterances both at random: 95 % of 100 intervals or more cover it, less 3 sigma."""
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(100):
        seeds, difficulty = rng.normal(0, between, (n_seeds, 1)), rng.normal(0, 1, 50)
        found = hierarchical((1 + seeds + difficulty)[None], lambda means: means[0])
        covered += found.ci[0] <= 1 <= found.ci[1]
    assert covered / 100 >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 100)


@pytest.mark.parametrize("values", [np.zeros((1, 0, 3)), np.zeros((1, 2, 0)), np.full((1, 2, 3), np.nan)])
def test_nothing_to_resample(values):
    with pytest.raises(ValueError, match="at least one seed"):
        hierarchical(values, lambda means: means[0])


def test_a_share_of_nothing_is_no_number():
    assert ratio(np.array([[1.0, 1.0, 1.0], [2.0, 0.0, -1.0]])) == pytest.approx(
        [0.5, np.nan, np.nan], nan_ok=True
    )
    # The point has a value, some resamples of the denominator have none: no interval is claimed.
    values = np.stack([np.ones((1, 4)), np.array([[-1.0, -1.0, 1.0, 2.0]])])
    found = hierarchical(values, ratio)
    assert found.value == pytest.approx(4.0) and found.ci is None
