"""Metrics, over-separation, and which stream a talker is in: closed forms and second implementations."""

import itertools
import math
import warnings

import numpy as np
import pytest
from speech_sets import voice

from frontend.dsp.metrics import (
    best_permutation,
    block_streams,
    energy_outside_best,
    explained,
    is_clear,
    main_streams,
    match_streams,
    pesq,
    sdr,
    si_snr,
    stoi,
    surplus_outputs,
    swaps,
)
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
            for offset in (0.0, 0.1):
                assert si_snr(s, 0 * s + offset) == -np.inf
                assert np.isnan(si_snr(0 * s + offset, n))
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
        assert match_streams(s[:0], s) == ()

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


# --- which stream a talker is in


def test_explained_energy_has_closed_forms():
    image = voice("a", 1.0)
    other = voice("b", 1.0)
    other -= other @ image / (image @ image) * image
    streams = np.stack([image, 0 * image, 0.1 * image, other, image + other])
    ratio = (other @ other) / (image @ image)
    assert explained(image, streams) == pytest.approx([1, 0, 0.19, -ratio, 1 - ratio])
    # SI-SNR would take the faint trace for as good as the talker himself.
    assert si_snr(image, 0.1 * image) > 100
    assert is_clear(np.array([0.9, 0.3])) and not is_clear(np.array([0.9, 0.7]))
    assert (
        not is_clear(np.array([0.2, -5.0])) and is_clear(np.array([0.3, -5.0])) and is_clear(np.array([0.5]))
    )


@pytest.mark.parametrize("places", [[], [1.0], [0.5, 1.5], [0.5, 1.0, 1.5]])
def test_swaps_made_on_purpose_are_counted(places):
    image, other = voice("a", 2.0), voice("b", 2.0)
    streams = np.stack([image, other])
    for place in places:
        streams[:, round(place * FS) :] = streams[::-1, round(place * FS) :]
    blocks = block_streams(image, streams, FS)
    expected = [sum(place <= 0.5 * b for place in places) % 2 for b in range(4)]
    assert blocks.tolist() == expected
    assert swaps(blocks) == len(places)


def test_pauses_and_ambiguous_blocks_decide_nothing():
    image = voice("a", 2.1)  # a rest of 0.1 s belongs to the last block
    image[FS // 2 : FS] *= 0.01
    half = 0.5 * image
    half[FS // 2 : FS] = image[FS // 2 : FS]
    streams = np.stack([image, 0 * image])
    streams[:, FS : FS + FS // 2] = half[FS : FS + FS // 2]  # in both alike
    assert block_streams(image, streams, FS).tolist() == [0, -1, -1, 0]
    assert swaps(np.array([0, -1, 0, -1])) == 0 and swaps(np.array([-1, 0, -1, 1, 1, 0])) == 2
    assert swaps(np.array([-1, -1])) == 0


def test_main_streams_are_the_best_of_all_permutations():
    rng = np.random.default_rng(0)
    for _ in range(20):
        talkers, streams = rng.integers(0, 3, 30), rng.integers(-1, 3, 30)
        weights = rng.random(30)
        found = main_streams(talkers, streams, weights)

        rows = list(zip(talkers, streams, weights, strict=True))
        held = {o: sum(w for t, s, w in rows if s == o[t]) for o in itertools.permutations(range(3))}
        assert held[tuple(found[k] for k in range(3))] == pytest.approx(max(held.values()))
