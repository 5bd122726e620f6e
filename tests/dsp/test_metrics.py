"""Metrics, over-separation and intervals against closed forms and second implementations."""

import itertools
import math
import warnings

import numpy as np
import pytest

from frontend.dsp.metrics import (
    best_permutation,
    energy_outside_best,
    match_streams,
    pesq,
    sdr,
    si_snr,
    stoi,
    surplus_outputs,
)
from frontend.evaluation.intervals import bootstrap_interval, paired_difference, paired_ratio
from frontend.utils.errors import UserError

FS = 8000


def orthogonal(n, rng, length=4000):
    """Zero-mean signals of unit energy that are orthogonal to one another."""
    basis = np.linalg.qr(np.column_stack([np.ones(length), rng.standard_normal((length, n))]))[0]
    return basis[:, 1:].T


def babble(rng, seconds=2.0, fs=FS):
    """Speech-like sound: pulses through resonances, with syllables and pauses."""
    t = np.arange(int(seconds * fs)) / fs
    f0 = 120 * (1 + 0.2 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * t + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(f0) / fs
    peaks = rng.uniform(300, 3000, 3)
    voice = sum(
        np.cos(h * phase) * np.exp(-(((h * 120 - peaks[:, None]) / 200) ** 2)).sum(0) for h in range(1, 25)
    )
    return voice * np.clip(np.sin(2 * np.pi * 2.3 * t + rng.uniform(0, 6)), 0, 1)


class TestSiSnr:
    @pytest.mark.parametrize("wanted", [-20.0, 0.0, 7.5, 60.0])
    def test_orthogonal_noise_of_known_level(self, wanted):
        signal, noise = orthogonal(2, np.random.default_rng(1))
        assert si_snr(signal, signal + 10 ** (-wanted / 20) * noise) == pytest.approx(wanted, abs=1e-9)

    def test_scale_sign_and_offset_do_not_matter(self):
        rng = np.random.default_rng(2)
        s, e = rng.standard_normal((2, 500))
        base = si_snr(s, e)
        for changed in (si_snr(s, -3e-4 * e), si_snr(50 * s, e), si_snr(s + 2, e - 7)):
            assert changed == pytest.approx(base, abs=1e-7)

    def test_equals_a_slow_loop_and_broadcasts(self):
        rng = np.random.default_rng(3)
        s, e = rng.standard_normal((2, 1, 300)), rng.standard_normal((4, 300))
        result = si_snr(s, e)
        assert result.shape == (2, 4)
        for i, j in itertools.product(range(2), range(4)):
            a = [v - math.fsum(s[i, 0]) / 300 for v in s[i, 0]]
            b = [v - math.fsum(e[j]) / 300 for v in e[j]]
            scale = math.fsum(x * y for x, y in zip(a, b, strict=True)) / math.fsum(x * x for x in a)
            target = math.fsum((scale * x) ** 2 for x in a)
            noise = math.fsum((y - scale * x) ** 2 for x, y in zip(a, b, strict=True))
            assert result[i, j] == pytest.approx(10 * math.log10(target / noise), abs=1e-9)

    def test_equals_espnet_where_both_are_defined(self):
        espnet = pytest.importorskip("espnet2.enh.loss.criterions.time_domain")
        torch = pytest.importorskip("torch")
        s, e = torch.randn(2, 2, 800, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        ours = si_snr(s.numpy(), e.numpy())
        theirs = -espnet.SISNRLoss()(s, e).numpy()
        np.testing.assert_allclose(ours, theirs, atol=1e-4)

    def test_limits_are_not_clamped(self):
        s, n = orthogonal(2, np.random.default_rng(4))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert si_snr(s, s) == np.inf
            assert si_snr(s, 0 * s) == -np.inf
            assert np.isnan(si_snr(0 * s, n))
            assert si_snr(s, s + 1e-7 * n) == pytest.approx(140, abs=0.01)


class TestPermutation:
    @pytest.mark.parametrize("n", [1, 2, 3, 4])
    def test_the_best_of_all(self, n):
        for seed in range(20):
            scores = np.random.default_rng(seed).standard_normal((n, n))
            every = {p: sum(scores[s, p[s]] for s in range(n)) for p in itertools.permutations(range(n))}
            assert best_permutation(scores) == max(every, key=every.get)
        # Where nothing is known, the order stays.
        assert best_permutation(np.zeros((n, n))) == tuple(range(n))
        assert best_permutation(np.full((n, n + 1), -3.3)) == tuple(range(n))

    def test_finds_every_order_also_among_more_outputs(self):
        s = orthogonal(5, np.random.default_rng(5))
        for order in itertools.permutations(range(5), 3):
            noisy = s + 0.3 * s[::-1]
            assert match_streams(s[list(order)], noisy) == order

    def test_equals_exhaustive_search(self):
        rng = np.random.default_rng(6)
        for _ in range(20):
            s, e = rng.standard_normal((3, 64)), rng.standard_normal((4, 64))
            found = list(match_streams(s, e))
            total = [sum(si_snr(s, e[list(p)])) for p in itertools.permutations(range(4), 3)]
            assert sum(si_snr(s, e[found])) == pytest.approx(max(total))
            assert len(set(found)) == 3

    def test_perfect_and_silent_streams_can_be_ordered(self):
        s = orthogonal(2, np.random.default_rng(7))
        assert match_streams(s, np.stack([0 * s[0], s[0], s[1]])) == (1, 2)
        assert match_streams(s, np.stack([0 * s[0], s[0]])) == (1, 0)

    def test_too_few_streams(self):
        with pytest.raises(UserError, match="at least 2 streams.*found 1"):
            match_streams(np.ones((2, 8)), np.ones((1, 8)))


class TestSdr:
    def test_equals_mir_eval(self):
        separation = pytest.importorskip("mir_eval.separation")
        rng = np.random.default_rng(8)
        s = np.stack([babble(rng), babble(rng)]) + 1e-3 * rng.standard_normal((2, 2 * FS))
        e = s + 0.2 * s[::-1] + 0.01 * rng.standard_normal(s.shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            theirs = separation.bss_eval_sources(s, e, compute_permutation=False)[0]
        np.testing.assert_allclose(sdr(s, e), theirs, atol=0.01)

    def test_forgives_a_short_filter_but_not_a_long_delay(self):
        rng = np.random.default_rng(9)
        s = rng.standard_normal((2, 6000))
        filtered = np.stack([np.convolve(x, rng.standard_normal(100))[:6000] for x in s])
        assert (sdr(s, filtered) > 15).all() and (si_snr(s, filtered) < 5).all()
        assert (sdr(s, np.roll(s, 700, axis=1)) < 0).all()

    def test_limits(self):
        s = np.random.default_rng(10).standard_normal((3, 3000))
        result = sdr(s, np.stack([s[0], 0 * s[1], s[2] * (1 + 1e-15)]))
        assert result[0] == np.inf and result[1] == -np.inf and result[2] > 140


class TestPerceptual:
    def test_better_streams_score_better(self):
        rng = np.random.default_rng(11)
        s, noise = babble(rng), rng.standard_normal(2 * FS)
        levels = [0.0, 0.1, 1.0, 10.0]
        for measure in (stoi, pesq):
            scores = [measure(s, s + level * np.std(s) * noise, FS) for level in levels]
            assert scores == sorted(scores, reverse=True) and scores[0] > scores[-1] + 0.4

    def test_a_copy_is_perfect_whatever_its_level(self):
        s = babble(np.random.default_rng(12))
        assert stoi(s, 0.1 * s, FS) == pytest.approx(1, abs=1e-6)
        assert pesq(s, 0.5 * s, FS) == pytest.approx(4.55, abs=0.05)

    def test_what_cannot_be_scored_is_none_not_a_number(self):
        s = babble(np.random.default_rng(13))
        assert pesq(s, 0 * s, FS) is None and pesq(s[:1000], s[:1000], FS) is None
        assert stoi(s[:100], s[:100], FS) is None
        click = np.zeros(2 * FS)
        click[500:700] = 1
        assert stoi(click, click, FS) is None
        assert stoi(s, 0 * s, FS) == pytest.approx(0, abs=1e-6)

    def test_pesq_is_wide_band_at_16_khz_and_undefined_elsewhere(self):
        rng = np.random.default_rng(14)
        s = babble(rng, fs=16000)
        e = s + 0.1 * np.std(s) * rng.standard_normal(len(s))
        from pesq import pesq as library

        assert pesq(s, e, 16000) == pytest.approx(library(16000, s, e, "wb"))
        with pytest.raises(UserError, match="8000 and 16000 Hz, found 44100"):
            pesq(s, e, 44100)


def bands(signal, edges):
    """Split a signal into frequency bands (Hz) that add up to it."""
    spectrum = np.fft.rfft(signal)
    f = np.fft.rfftfreq(len(signal), 1 / FS)
    limits = [0, *edges, FS]
    pairs = itertools.pairwise(limits)
    return np.stack([np.fft.irfft(spectrum * ((f >= a) & (f < b)), len(signal)) for a, b in pairs])


class TestOverSeparation:
    def test_perfect_separation_is_zero(self):
        noise = np.random.default_rng(15).standard_normal(2 * FS)
        low, high = bands(noise, [2000])
        low, high = (
            np.stack([low * (np.arange(2 * FS) < FS)]),
            np.stack([high * (np.arange(2 * FS) >= FS + 500)]),
        )
        images = np.concatenate([low, high])
        outputs = np.concatenate([high, 0 * low, low])
        assert energy_outside_best(images, outputs, FS) == pytest.approx(0, abs=1e-3)
        assert surplus_outputs(outputs, images.sum(0), 2) == (2, 0.0)

    def test_one_talker_in_two_bands(self):
        """With a white talker cut at a quarter of the band, a quarter is outside the best output."""
        talker = np.random.default_rng(16).standard_normal(4 * FS)
        outputs = bands(talker, [1000])
        assert energy_outside_best(talker[None], outputs, FS) == pytest.approx(0.25, abs=0.02)
        assert surplus_outputs(outputs, talker, 1) == (2, 0.5)
        whole = np.stack([talker, 0 * talker])
        assert energy_outside_best(talker[None], whole, FS) == pytest.approx(0, abs=1e-12)
        assert surplus_outputs(whole, talker, 1) == (1, 0.0)

    @pytest.mark.parametrize("n", [2, 3, 4])
    def test_copies_share_evenly(self, n):
        talker = np.random.default_rng(17).standard_normal((1, FS))
        assert energy_outside_best(talker, np.repeat(talker, n, 0) / n, FS) == pytest.approx(1 - 1 / n)

    @pytest.mark.parametrize("leak_db", [-10.0, -20.0, -30.0])
    def test_a_leak_counts_by_its_power(self, leak_db):
        talker = np.random.default_rng(18).standard_normal(FS)
        leak = 10 ** (leak_db / 10)
        share = energy_outside_best(talker[None], np.stack([talker, leak**0.5 * talker]), FS)
        assert share == pytest.approx(leak / (1 + leak))

    def test_level_and_order_do_not_matter(self):
        rng = np.random.default_rng(19)
        images, outputs = rng.standard_normal((2, FS)), rng.standard_normal((4, FS))
        share = energy_outside_best(images, outputs, FS)
        np.testing.assert_allclose(
            energy_outside_best(7 * images, 0.1 * outputs[::-1], FS), share, atol=1e-12
        )
        count = surplus_outputs(outputs, images.sum(0), 2)
        assert count == (4, 0.5) == surplus_outputs(3 * outputs, 3 * images.sum(0), 2)

    def test_equals_a_slow_loop(self):
        rng = np.random.default_rng(20)
        images, outputs = rng.standard_normal((2, 1000)), rng.standard_normal((3, 1000))
        window = np.sin(np.pi * (np.arange(256) + 0.5) / 256) ** 2

        def power(x):
            x = np.concatenate([np.zeros(128), x, np.zeros(256)])
            return [np.abs(np.fft.rfft(x[i : i + 256] * window)) ** 2 for i in range(0, len(x) - 255, 128)]

        talkers, parts = [power(x) for x in images], [power(y) for y in outputs]
        for talker, found in zip(talkers, energy_outside_best(images, outputs, FS), strict=True):
            held = np.zeros(3)
            for frame, f in itertools.product(range(len(talker)), range(129)):
                here = np.array([p[frame][f] for p in parts])
                held += talker[frame][f] * here / here.sum()
            assert found == pytest.approx(1 - held.max() / np.sum(talker))

    def test_the_threshold_is_where_it_says(self):
        x = np.random.default_rng(21).standard_normal(1000)
        just_above, just_below = 10 ** (-19.9 / 20) * x, 10 ** (-20.1 / 20) * x
        assert surplus_outputs(np.stack([x, just_above, just_below]), x, 1) == (2, 0.5)
        assert surplus_outputs(np.stack([x, just_above, just_below]), x, 1, active_db=-30)[0] == 3
        assert surplus_outputs(0 * x[None], x, 1) == (0, 0.0)


class TestIntervals:
    @pytest.mark.parametrize("skewed", [False, True])
    def test_covers_the_true_mean_as_often_as_it_says(self, skewed):
        """95 % of intervals hold the mean; the percentile bootstrap is a little short where skewed."""
        rng = np.random.default_rng(22)
        draw = rng.standard_exponential if skewed else rng.standard_normal
        hits = 0
        for trial in range(400):
            low, high = bootstrap_interval(draw(60), seed=trial)
            hits += low < (1.0 if skewed else 0.0) < high
        assert 0.90 <= hits / 400 <= 0.98

    def test_width_is_that_of_the_normal_law(self):
        values = np.random.default_rng(23).normal(3, 2, 400)
        low, high = bootstrap_interval(values)
        assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.04)
        assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.02)

    def test_equals_a_loop_of_resamples(self):
        from frontend.evaluation.intervals import RESAMPLES
        from frontend.utils.rng import generator

        values = np.array([1.0, 4.0, 2.0, 8.0, 5.0])
        draws = generator(3, "bootstrap", 5).integers(5, size=(RESAMPLES, 5))
        means = sorted(sum(values[i] for i in row) / 5 for row in draws)
        low, high = bootstrap_interval(values, seed=3)
        assert means[240] <= low <= means[260] and means[-261] <= high <= means[-241]

    def test_seeded(self):
        values = np.random.default_rng(24).standard_normal(50)
        assert bootstrap_interval(values, 1) == bootstrap_interval(values, 1)
        assert bootstrap_interval(values, 1) != bootstrap_interval(values, 2)

    def test_pairing_gains_what_the_utterances_share(self):
        rng = np.random.default_rng(25)
        difficulty = 5 * rng.standard_normal(80)
        a, b = difficulty + 1 + 0.3 * rng.standard_normal(80), difficulty + 0.3 * rng.standard_normal(80)
        difference, (low, high) = paired_difference(a, b)
        assert difference == pytest.approx(np.mean(a) - np.mean(b)) and 0.7 < low < high < 1.3
        alone = bootstrap_interval(a)
        assert high - low < 0.2 * (alone[1] - alone[0])
        shuffled = paired_difference(a, rng.permutation(b))[1]
        assert shuffled[1] - shuffled[0] > 5 * (high - low)

    def test_difference_to_itself_is_exactly_zero(self):
        a = np.random.default_rng(26).standard_normal(30)
        assert paired_difference(a, a) == (0.0, (0.0, 0.0))

    def test_ratio_of_scaled_values_has_no_spread(self):
        a = np.random.default_rng(27).uniform(1, 5, 40)
        ratio, interval = paired_ratio(0.9 * a, a)
        assert (ratio, *interval) == pytest.approx((0.9, 0.9, 0.9))

    def test_large_sets_take_no_more_memory(self):
        import tracemalloc

        values = np.random.default_rng(28).standard_normal(3000)
        tracemalloc.start()
        bootstrap_interval(values)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 * 2**20

    @pytest.mark.parametrize("values", [[], [1.0, np.nan], [np.inf]])
    def test_no_interval_of_nothing(self, values):
        with pytest.raises(ValueError, match="finite"):
            bootstrap_interval(np.array(values))
