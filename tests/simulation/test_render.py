"""Rendering one scene: sums, levels, delays, and a slow second implementation."""

import copy
import math

import numpy as np
import pytest
from speech_sets import voice

from frontend.simulation.config import SPEED_OF_SOUND, NoiseConfig, SceneConfig, TalkersConfig
from frontend.simulation.render import active_power, render
from frontend.simulation.rirs import compute_rirs
from frontend.simulation.scenes import sample_scene
from frontend.utils.errors import UserError

FS = 8000
SPEECH = {f"s{s}-{u}": (f"s{s}", 1.0 + 0.25 * u) for s in range(9) for u in range(3)}


def load(name: str) -> np.ndarray:
    return voice(name, SPEECH[name][1])


def scene_of(noise: str = "white", seed: int = 0, number: int = 2, t60: float = 0.15) -> dict:
    config = SceneConfig(t60=(t60, t60), noise=NoiseConfig(kind=noise), talkers=TalkersConfig(number=number))
    return sample_scene("utt", config, SPEECH, seed)


def db(power: float) -> float:
    return 10 * math.log10(power)


@pytest.fixture(scope="module")
def scene():
    return scene_of()


@pytest.fixture(scope="module")
def rirs(scene):
    return compute_rirs(scene)


@pytest.mark.parametrize("noise", ["none", "white", "babble"])
@pytest.mark.parametrize("number", [1, 3])
def test_mixture_is_exactly_the_sum_on_the_16_bit_grid(noise, number):
    scene = scene_of(noise, seed=number, number=number)
    result = render(scene, load, compute_rirs(scene))
    channels, samples = len(scene["mics"]), scene["samples"]
    assert result.images.shape == (number, channels, samples)
    assert result.noise.shape == result.mixture.shape == (channels, samples)
    for signal in result[:3]:
        assert signal.dtype == np.float32
        assert np.array_equal(signal * 32768, np.round(signal * 32768))
    whole = np.rint(result.images * 32768).astype(int).sum(0) + np.rint(result.noise * 32768).astype(int)
    assert np.array_equal(whole, np.rint(result.mixture * 32768).astype(int))
    assert np.array_equal(result.images.sum(0) + result.noise, result.mixture)
    assert bool(result.noise.any()) == (noise != "none")


def test_images_equal_a_direct_convolution(scene, rirs):
    result = render(scene, load, rirs)
    for k, talker in enumerate(scene["talkers"]):
        start = round(talker["offset"] * FS)
        for channel in range(len(scene["mics"])):
            slow = np.zeros(start + talker["samples"] + rirs.filters.shape[-1] + scene["samples"])
            convolved = np.convolve(load(talker["utterance"]), rirs.filters[k, channel].astype(float))
            slow[start : start + len(convolved)] = convolved
            slow = slow[: scene["samples"]]
            image = result.images[k, channel]
            scale = np.dot(slow, image) / np.dot(slow, slow)
            assert np.abs(image - scale * slow).max() <= 0.55 / 32768  # half a step
            if channel == 0:
                reference_scale = scale
            assert scale == pytest.approx(reference_scale, rel=1e-3)  # one gain for all microphones


def test_levels_are_those_of_the_scene(scene, rirs):
    for level, snr, total in [(0.0, 10.0, -28.0), (-6.0, 0.0, -35.0), (4.5, 20.0, -25.0)]:
        scene = copy.deepcopy(scene)
        scene["talkers"][1]["level_db"], scene["noise"]["snr_db"], scene["level_dbfs"] = level, snr, total
        result = render(scene, load, rirs)
        first, second = (active_power(image[0].astype(float), FS) for image in result.images)
        assert db(second / first) == pytest.approx(level, abs=0.05)
        speech = result.images[:, 0].astype(float).sum(0)
        assert db(np.mean(speech**2) / np.mean(result.noise[0].astype(float) ** 2)) == pytest.approx(
            snr, abs=0.05
        )
        assert db(np.mean(result.mixture[0].astype(float) ** 2)) == pytest.approx(total, abs=0.05)


def test_energies_add_up(scene, rirs):
    result = render(scene, load, rirs)
    parts = [np.sum(x.astype(float) ** 2) for x in (*result.images, result.noise)]
    assert np.sum(result.mixture.astype(float) ** 2) == pytest.approx(sum(parts), rel=0.1)


def test_one_common_scale_keeps_loud_mixtures_from_clipping(scene, rirs):
    quiet = render(scene, load, rirs)
    loud = render({**scene, "level_dbfs": 0.0}, load, rirs)
    assert max(np.abs(x).max() for x in loud[:3]) == pytest.approx(0.9, abs=1e-3)
    scale = np.abs(loud.mixture).max() / np.abs(quiet.mixture).max()
    assert np.abs(loud.images - scale * quiet.images).max() < 1e-3
    assert np.abs(loud.noise - scale * quiet.noise).max() < 1e-3


def test_images_are_silent_before_the_direct_sound(scene, rirs):
    scene = copy.deepcopy(scene)
    scene["talkers"][1]["offset"] = 0.4
    scene["samples"] += 4000
    image = render({**scene, "noise": {"kind": "none"}}, load, rirs).images[1]
    for channel, mic in enumerate(scene["mics"]):
        arrival = (0.4 + math.dist(mic, scene["talkers"][1]["position"]) / SPEED_OF_SOUND) * FS
        energy = np.cumsum(image[channel].astype(float) ** 2)
        assert energy[int(arrival) - 45] < 1e-6 * energy[-1] < energy[int(arrival) + 10]


def test_result_does_not_depend_on_the_level_of_the_dry_speech(scene, rirs):
    louder = render(scene, lambda name: 3.7 * load(name), rirs)
    assert np.abs(louder.mixture - render(scene, load, rirs).mixture).max() <= 2 / 32768


@pytest.mark.parametrize("noise", ["white", "babble"])
def test_a_single_channel_is_microphone_0(noise):
    for seed in range(3):
        scene = scene_of(noise, seed)
        one = {**scene, "mics": scene["mics"][:1]}
        many, single = (render(s, load, compute_rirs(s)) for s in (scene, one))
        assert np.array_equal(many.images[:, :1], single.images)
        assert np.array_equal(many.mixture[:1], single.mixture)
        assert (many.t60, many.drr_db) == (single.t60, single.drr_db)


def test_active_power_leaves_pauses_out():
    tone = np.sin(2 * math.pi * 500 * np.arange(FS) / FS)
    assert active_power(tone, FS) == pytest.approx(0.5)
    assert active_power(np.concatenate([np.zeros(3 * FS), tone, np.zeros(2 * FS)]), FS) == pytest.approx(0.5)
    assert active_power(np.concatenate([1e-3 * tone, tone]), FS) == pytest.approx(0.5)


def test_speech_that_does_not_fit_the_scene(scene, rirs):
    with pytest.raises(UserError, match=r"scene utt: utterance s\d-\d: expected \d+ samples, found 5"):
        render(scene, lambda name: np.ones(5), rirs)
    with pytest.raises(UserError, match=r"scene utt: s\d-\d is silent"):
        render(scene, lambda name: 0 * load(name), rirs)
    babble = {**scene, "noise": {"kind": "babble", "snr_db": 3.0, "utterances": ["silence"]}}
    with pytest.raises(UserError, match="scene utt: babble is silent"):
        render(babble, lambda name: np.zeros(99) if name == "silence" else load(name), rirs)
