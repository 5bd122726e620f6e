"""Joining windows: against brute force, slow versions, and talkers whose streams are known."""

import itertools
import math

import numpy as np
import pytest
import torch

from frontend.separation.continuous import (
    SpatialMemory,
    Stitcher,
    overlap_scores,
    window_starts,
)

FS = 8000


def draw(seed=0):
    return np.random.default_rng(seed)


def plane_wave(signal, azimuth, n_mics=4, radius=0.05):
    """Image (C, T) of ``signal`` (T,) on a circular array, delayed exactly by FFT."""
    angles = 2 * math.pi * np.arange(n_mics) / n_mics
    advance = radius * np.cos(angles - math.radians(azimuth)) / 343.0
    turn = np.exp(2j * np.pi * np.fft.rfftfreq(len(signal), 1 / FS) * (advance - advance[0])[:, None])
    return np.fft.irfft(np.fft.rfft(signal) * turn, n=len(signal))


def speech_like(frames, seed):
    """Coloured noise in syllables of 0.2 s."""
    g = draw(seed)
    noise = np.convolve(g.standard_normal(frames), [1, 0.9, 0.5], "same")[:frames]
    places = np.arange(0, frames + 1600, 1600)
    syllables = np.interp(np.arange(frames), places, g.uniform(0.05, 1, len(places)))
    return 0.1 * noise * syllables


def turns(seconds, spans, seed):
    """A talker who speaks in ``spans`` (seconds) and is exactly silent elsewhere."""
    frames = int(seconds * FS)
    t = np.arange(frames) / FS
    gate = np.zeros(frames)
    for start, end in spans:
        gate[(t >= start) & (t < end)] = 1
    return speech_like(frames, seed) * gate


def join(windows, mixture, length, hop, n_mics=None, seed=0, shuffle=True):
    """Stitch windows cut from ``windows`` (S, T), each in a random order; return streams and decisions."""
    g = draw(seed)
    mixture = mixture.astype(np.float32)
    stitcher = Stitcher(len(windows), FS, len(mixture) if n_mics is None else n_mics)
    starts = window_starts(windows.shape[1], length, hop)
    pieces, decisions = [], []
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        order = g.permutation(len(windows)) if shuffle and start else np.arange(len(windows))
        cut = np.s_[:, start : start + length]
        pieces.append(stitcher.add(windows[order][cut].astype(np.float32), mixture[cut], start, following))
        decisions.append((stitcher.decision, order))
    return np.concatenate(pieces, axis=1), decisions


def test_overlap_scores_by_the_definition():
    past, new = draw(1).standard_normal((2, 3, 2000)), draw(2).standard_normal((2, 3, 2000))
    past, new = past[0], new[0]
    past[:, 800:1600] *= 0.05  # a quiet block
    new[:, 800:1600] *= 0.05
    level = 6.0
    expected = np.zeros((3, 3))
    for block in (slice(0, 800), slice(800, 1600), slice(1600, 2000)):  # the last is half zeros
        power = (np.sum(past[:, block] ** 2) + np.sum(new[:, block] ** 2)) / 2 / 800
        for s, p in itertools.product(range(3), repeat=2):
            error = np.sum((past[s, block] - new[p, block]) ** 2) / 800 / (2 * power)
            expected[s, p] -= 5.0 * error * power / (power + 0.03 * level)
    np.testing.assert_allclose(overlap_scores(past, new, FS, level), expected, rtol=1e-9)
    assert not overlap_scores(0 * past, 0 * new, FS, level).any()


def test_a_quiet_overlap_says_little():
    x = draw(3).standard_normal((2, 8000))
    loud = overlap_scores(x, x[::-1], FS, level=2.0)
    quiet = overlap_scores(0.01 * x, 0.01 * x[::-1], FS, level=2.0)
    assert np.diag(loud).sum() < -40 and np.abs(quiet).max() < 0.2


def test_the_signature_likelihood_by_the_definition():
    """The merge loss against loops over talkers, frequencies and frames."""
    g = draw(4)
    mixture = g.standard_normal((2, 2400)).astype(np.float32)
    mixture[:, 400:1100] *= 0.1  # too quiet to be anybody's
    streams = np.stack([mixture[0] * (np.arange(2400) < 1200), mixture[0] * (np.arange(2400) >= 1200)])
    memory = SpatialMemory(2, FS)
    memory.update_level(mixture)
    assert not memory.scores(streams, mixture).any()
    memory.learn(streams, mixture)
    window = torch.hann_window(512, dtype=torch.float64).sqrt()

    def spectrum(x):
        x = torch.from_numpy(np.asarray(x, np.float64))
        return torch.stft(x, 512, 256, window=window, pad_mode="constant", return_complex=True).numpy()

    x, y = spectrum(mixture), np.abs(spectrum(streams))
    size = np.sqrt((np.abs(x) ** 2).sum(0))
    level = (size**2).sum(1) / size.sum(1)
    r, n = np.zeros((2, 257, 2, 2), complex), np.zeros((2, 257))
    for f, t in itertools.product(range(257), range(x.shape[2])):
        if size[f, t] ** 2 > 0.03 * level[f] ** 2:
            owner = int(np.argmax(y[:, f, t]))
            r[owner, f] += np.outer(x[:, f, t], x[:, f, t].conj()) / size[f, t]
            n[owner, f] += size[f, t]

    def likelihood(r, n):
        total = 0.0
        for f in np.flatnonzero(n > 0):
            total -= n[f] / level[f] * np.log(np.linalg.det(r[f] / n[f] + 0.1 * np.eye(2)).real)
        return total

    expected = np.array(
        [
            [
                likelihood(r[s] + r[p], n[s] + n[p]) - likelihood(r[s], n[s]) - likelihood(r[p], n[p])
                for p in (0, 1)
            ]
            for s in (0, 1)
        ]
    )
    found = memory.scores(streams, mixture)
    np.testing.assert_allclose(found, 0.05 * expected, rtol=1e-3, atol=1e-3)
    assert found.max() < 1e-9  # one covariance never explains more than two


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("n_mics", [1, 4])
def test_known_streams_come_back_exactly(n, n_mics):
    streams = np.stack([speech_like(10 * FS, k) for k in range(n)]).astype(np.float32)
    images = [plane_wave(x, 360 / n * k) for k, x in enumerate(streams)]
    joined, decisions = join(streams, sum(images), 2 * FS, FS, n_mics)
    np.testing.assert_array_equal(joined, streams)
    assert any(decision.permutation != tuple(range(n)) for decision, _ in decisions)


@pytest.mark.parametrize("length", [2, 799, 16000, 16001, 23999, 40001])
def test_any_length_and_an_overlap_of_any_size(length):
    streams = speech_like(2 * length, 5).reshape(2, length).astype(np.float32)
    joined, _ = join(streams, streams[:1], 16000, 9000, shuffle=length > 30000)
    np.testing.assert_array_equal(joined, streams)


def test_the_cross_fade_by_the_sample():
    """Two windows that disagree: outer quarters of the overlap from where each has context, sin^2 between."""
    a, b = np.full((1, 1000), 1.0, np.float32), np.full((1, 1000), 3.0, np.float32)
    stitcher = Stitcher(1, FS)
    out = np.concatenate([stitcher.add(a, a, 0, 600), stitcher.add(b, b, 600, None)], axis=1)[0]
    assert len(out) == 1600 and (out[:700] == 1).all() and (out[900:] == 3).all()
    rise = [math.sin(math.pi / 2 * (k + 0.5) / 200) ** 2 for k in range(200)]
    np.testing.assert_allclose(out[700:900], 1 + 2 * np.array(rise), rtol=1e-6)


# --- silence

# Each is silent for much longer than a window, once together, once with one talking on.
SPANS = [[(0, 6), (16, 20), (40, 44)], [(3, 9), (26, 32), (52, 56)]]


def meeting(noise=0.003, azimuths=(20, 140)):
    talkers = np.stack([turns(58, spans, k) for k, spans in enumerate(SPANS)])
    images = [plane_wave(x, azimuth) for x, azimuth in zip(talkers, azimuths, strict=True)]
    return talkers.astype(np.float32), sum(images) + noise * draw(9).standard_normal(images[0].shape)


@pytest.mark.parametrize("seed", range(3))
def test_talkers_return_to_their_streams_after_long_silence(seed):
    talkers, mixture = meeting()
    joined, decisions = join(talkers, mixture, 2 * FS, FS, seed=seed)
    np.testing.assert_array_equal(joined, talkers)
    # It was the memory: there are windows with speech whose overlap is silent.
    alone = [
        decision
        for decision, order in decisions
        if not decision.overlap.any() and order[0] == 1 and np.ptp(decision.memory) > 3
    ]
    assert alone


def test_leaked_noise_in_the_pauses_does_no_harm():
    """Streams of a network are never exactly silent."""
    talkers, mixture = meeting(noise=0.005)
    noise = 0.0025 * draw(10).standard_normal(talkers.shape)
    leaky = talkers + 0.1 * talkers[::-1] + noise
    joined, _ = join(leaky, mixture, 2 * FS, FS)
    for k in (0, 1):
        for start, end in SPANS[k]:
            cut = slice(int((start + 0.1) * FS), int((end - 0.1) * FS))
            np.testing.assert_allclose(joined[k, cut], leaky[k, cut].astype(np.float32), atol=1e-6)


def test_without_memory_a_pause_loses_them():
    """The control: one microphone, or talkers in one direction. Else the tests above would test nothing."""
    talkers, mixture = meeting()
    for n_mics, observed in ((1, mixture), (4, meeting(azimuths=(20, 20))[1])):
        swapped = [
            not np.array_equal(join(talkers, observed, 2 * FS, FS, n_mics, seed=seed)[0], talkers)
            for seed in range(4)
        ]
        assert any(swapped)


def test_the_overlap_alone_decides_where_directions_say_nothing():
    streams = np.stack([speech_like(8 * FS, k) for k in (0, 1)]).astype(np.float32)
    joined, decisions = join(streams, plane_wave(streams.sum(0), 50), 2 * FS, FS)
    np.testing.assert_array_equal(joined, streams)
    margins = [
        [abs(m[0, 0] + m[1, 1] - m[0, 1] - m[1, 0]) for m in (d.overlap, d.memory)] for d, _ in decisions[1:]
    ]
    assert all(overlap > 10 * memory for overlap, memory in margins)


def test_of_three_the_two_that_the_overlap_leaves_open_go_by_memory():
    """Talker 0 talks all the time; 1 and 2 talk again after pauses."""
    spans = [[(0, 40)], [(0, 4), (15, 18), (36, 40)], [(2, 6), (25, 28), (36, 40)]]
    talkers = np.stack([turns(40, s, k) for k, s in enumerate(spans)]).astype(np.float32)
    mixture = sum(plane_wave(x, a) for x, a in zip(talkers, (0, 120, 240), strict=True))
    joined, _ = join(talkers, mixture + 0.002 * draw(3).standard_normal(mixture.shape), 2 * FS, FS)
    np.testing.assert_array_equal(joined, talkers)


def test_silence_at_the_start_and_digital_silence_throughout():
    talkers, mixture = meeting()
    late = np.pad(talkers, [(0, 0), (12 * FS, 0)])
    # Before anybody has spoken no stream is anybody's; from then on they stay.
    joined, _ = join(late, np.pad(mixture, [(0, 0), (12 * FS, 0)]), 2 * FS, FS)
    assert np.array_equal(joined, late) or np.array_equal(joined, late[::-1])
    nothing = np.zeros((2, 5 * FS), np.float32)
    assert not join(nothing, np.zeros((4, 5 * FS)), 2 * FS, FS)[0].any()


def test_windows_out_of_order_are_a_mistake():
    stitcher, x = Stitcher(2, FS), np.zeros((2, 100), np.float32)
    stitcher.add(x, x, 0, 50)
    with pytest.raises(ValueError, match="does not continue"):
        stitcher.add(x, x, 120, None)
