"""Blind separation: what it must do for any recording, and that it separates."""

import itertools

import numpy as np
import pytest

from frontend.dsp.blind import separate_blind
from frontend.dsp.metrics import si_snr
from frontend.utils.errors import UserError

SMALL = {"window": 0.064, "iterations": 20}


def _talkers(channels: int, n_samples: int = 16000, seed: int = 0) -> np.ndarray:
    """Images (S, C, T) of two bursty sources that pass short random filters to each microphone."""
    rng = np.random.default_rng(seed)
    bursts = np.repeat(rng.gamma(0.3, 1.0, (2, n_samples // 400)), 400, axis=1)
    sources = rng.standard_normal((2, n_samples)) * bursts
    filters = rng.standard_normal((2, channels, 40)) * np.exp(-np.arange(40) / 8)
    return np.array(
        [[np.convolve(s, h)[:n_samples] for h in hs] for s, hs in zip(sources, filters, strict=True)]
    )


def _improvement(images: np.ndarray, streams: np.ndarray) -> float:
    truth, mixture = images[:, 0], images.sum(0)[0]
    scores = [si_snr(truth, streams[list(p)]).mean() for p in itertools.permutations(range(2))]
    return max(scores) - si_snr(truth, mixture).mean()


@pytest.mark.parametrize("name", ["auxiva", "ilrma"])
@pytest.mark.parametrize("channels", [2, 4])
def test_separates_at_the_level_of_the_reference_channel(name, channels):
    images = _talkers(channels)
    streams = separate_blind(name, images.sum(0), 8000, 2, **SMALL)
    assert streams.shape == (2, 16000) and streams.dtype == np.float32
    assert _improvement(images, streams) > 8
    levels, truth = sorted((streams**2).sum(-1)), sorted((images[:, 0] ** 2).sum(-1))
    assert levels == pytest.approx(truth, rel=0.2)
    assert (streams[0] ** 2).sum() >= (streams[1] ** 2).sum()


@pytest.mark.parametrize("name", ["auxiva", "ilrma"])
def test_same_result_every_time_and_at_any_level(name):
    mixture = _talkers(3, 6000).sum(0)
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    first = separate_blind(name, mixture, 8000, 2, **SMALL)
    second = separate_blind(name, 1e-4 * mixture, 8000, 2, **SMALL)
    np.testing.assert_allclose(second, 1e-4 * first, rtol=1e-3, atol=1e-8)
    assert (np.random.get_state()[1] == state).all(), "the caller's random state was touched"


@pytest.mark.parametrize("name", ["auxiva", "ilrma"])
@pytest.mark.parametrize("case", ["silent", "dead channel", "same channels", "half silent", "short"])
def test_hard_recordings_give_finite_streams(name, case):
    mixture = _talkers(3, 6000).sum(0)
    if case == "silent":
        mixture *= 0
    elif case == "dead channel":
        mixture[2] = 0
    elif case == "same channels":
        mixture[:] = mixture[0]
    elif case == "half silent":
        mixture[:, 3000:] = 0
    else:
        mixture = mixture[:, :100]
    streams = separate_blind(name, mixture, 8000, 2, **SMALL)
    assert streams.shape == (2, mixture.shape[1]) and np.isfinite(streams).all()
    assert streams.any() == (case != "silent")


@pytest.mark.parametrize(
    ("name", "channels", "settings", "message"),
    [
        ("auxiv", 2, {}, "did you mean 'auxiva'"),
        ("ilrma", 2, {"componets": 3}, "did you mean 'components'"),
        ("auxiva", 2, {"components": 3}, "auxiva has no setting 'components'"),
        ("ilrma", 1, {}, "2 or more, found 1"),
        ("auxiva", 2, {"starts": 0}, "auxiva: starts: expected a whole number of at least 1, found 0"),
        ("auxiva", 2, {"iterations": "x"}, "iterations: expected a whole number of at least 1, found 'x'"),
        ("auxiva", 2, {"prior": "gaus"}, "prior: expected gauss or laplace, found 'gaus'"),
    ],
)
def test_mistakes_are_named(name, channels, settings, message):
    with pytest.raises(UserError, match=message):
        separate_blind(name, np.ones((channels, 4000)), 8000, 2, **settings)


def test_a_recording_without_samples_is_named():
    with pytest.raises(UserError, match="expected samples, found none"):
        separate_blind("auxiva", np.zeros((2, 0)), 8000, 2)
