"""Impulse responses and noise fields against physics and against slow, obvious versions."""

import math

import numpy as np
import pytest
from scipy.signal import csd, welch
from speech_sets import voice

import frontend.simulation.rirs as rirs
from frontend.simulation.config import SPEED_OF_SOUND, NoiseConfig, SceneConfig, sabine_absorption
from frontend.simulation.render import diffuse, scene_noise
from frontend.simulation.rirs import compute_rirs, direct_to_reverberant, measure_t60, rirs_of
from frontend.simulation.scenes import sample_scene
from frontend.utils.errors import UserError

FS = 8000


def scene_in(
    t60: float, positions: list, room=(5.0, 4.0, 3.0), mics=((2.4, 2.0, 1.2), (2.5, 2.1, 1.2))
) -> dict:
    """Return the part of a scene that the impulse responses need."""
    talkers = [{"position": list(p)} for p in positions]
    return {"fs": FS, "room": list(room), "t60": t60, "mics": [list(m) for m in mics], "talkers": talkers}


def sampled_scene(noise: str = "white", seed: int = 0) -> dict:
    speech = {f"s{s}-{u}": (f"s{s}", 1.5) for s in range(9) for u in range(2)}
    return sample_scene("utt", SceneConfig(noise=NoiseConfig(kind=noise)), speech, seed)


def test_direct_sound_has_the_delay_and_level_of_its_distance():
    talker = (3.3, 2.9, 1.6)
    scene = scene_in(0.0, [talker], mics=((2.4, 2.0, 1.2), (1.0, 0.5, 0.7), (4.0, 3.0, 2.0)))
    filters = compute_rirs(scene).filters[0].astype(float)
    frequency = np.fft.rfftfreq(4096, 1 / FS)
    inside = (frequency > 500) & (frequency < 3000)
    for response, mic in zip(filters, scene["mics"], strict=True):
        distance = math.dist(mic, talker)
        spectrum = np.fft.rfft(response, 4096)[inside]
        slope = np.polyfit(frequency[inside], np.unwrap(np.angle(spectrum)), 1)[0]
        assert -slope / (2 * math.pi) * FS == pytest.approx(distance / SPEED_OF_SOUND * FS, abs=0.02)
        assert np.abs(spectrum).mean() == pytest.approx(1 / distance, rel=0.02)


def test_equals_a_slow_image_source_model():
    room, t60, talker = (3.0, 2.5, 2.2), 0.15, (2.2, 1.9, 1.5)
    scene = scene_in(t60, [talker], room, mics=((0.9, 0.8, 1.0),))
    alpha = sabine_absorption(room, t60)
    radius = min(a * b / math.hypot(a, b) for a, b in [room[:2], room[1:], room[::2]])
    order = math.ceil(SPEED_OF_SOUND * t60 / radius - 1)
    latest = max(1.15 * t60 * SPEED_OF_SOUND, math.hypot(*room))
    frequency = np.arange(500, 3000, 37.0)
    slow = np.zeros(len(frequency), complex)
    counts = range(-order, order + 1)
    for nx in counts:
        for ny in counts:
            for nz in counts:
                reflections = abs(nx) + abs(ny) + abs(nz)
                place = [
                    n * side + (s if n % 2 == 0 else side - s)
                    for n, side, s in zip((nx, ny, nz), room, talker, strict=True)
                ]
                distance = math.dist(place, scene["mics"][0])
                if reflections <= order and distance <= latest:
                    gain = math.sqrt(1 - alpha) ** reflections / distance
                    slow += gain * np.exp(-2j * math.pi * frequency * distance / SPEED_OF_SOUND)
    response = compute_rirs(scene).filters[0, 0].astype(float)
    found = np.exp(-2j * math.pi * np.outer(frequency, np.arange(len(response))) / FS) @ response
    assert np.linalg.norm(found - slow) < 0.03 * np.linalg.norm(slow)


def test_measured_t60_of_known_decays():
    time = np.arange(FS) / FS
    rng = np.random.default_rng(0)
    for t60 in (0.2, 0.5):
        decay = 10 ** (-3 * time / t60)
        assert measure_t60(decay, FS) == pytest.approx(t60, rel=0.01)
        assert measure_t60(decay * rng.standard_normal(FS), FS) == pytest.approx(t60, rel=0.1)
    assert measure_t60(np.eye(1, 100)[0], FS) == 0.0


def test_measured_t60_is_near_the_nominal():
    ratios = []
    for seed in range(6):
        scene = {**sampled_scene(seed=seed), "t60": 0.25 + 0.02 * seed}
        ratios.append(compute_rirs(scene).t60 / scene["t60"])
    assert all(0.6 < ratio < 1.4 for ratio in ratios)
    assert np.mean(ratios) == pytest.approx(1, abs=0.2)


def test_drr_of_a_known_response_and_its_fall_with_distance():
    response = np.zeros(1000)
    response[80], response[300:400] = 2.0, 0.1
    assert direct_to_reverberant(response, 80 / FS * SPEED_OF_SOUND, FS) == pytest.approx(10 * math.log10(4))
    positions = [(2.4 + d * 0.8, 2.0 + d * 0.6, 1.2) for d in (0.5, 1.0, 2.0)]
    ratios = compute_rirs(scene_in(0.3, positions)).drr_db
    # The direct sound falls by 6 dB per doubling of the distance, the reverberant field hardly.
    assert -np.diff(ratios) == pytest.approx([6, 6], abs=2.5)


def test_microphone_0_does_not_depend_on_the_others():
    scene = sampled_scene()
    one = {**scene, "mics": scene["mics"][:1]}
    assert np.array_equal(compute_rirs(scene).filters[:, :1], compute_rirs(one).filters)


def test_cache_is_keyed_by_geometry_alone(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(rirs, "compute_rirs", lambda scene: calls.append(scene) or compute_rirs(scene))
    scene = scene_in(0.15, [(3.3, 2.9, 1.6)])
    first = rirs_of(scene, tmp_path)
    again = rirs_of(
        {**scene, "id": "other", "noise": {}, "talkers": [{**scene["talkers"][0], "level_db": 3}]}, tmp_path
    )
    assert len(calls) == 1
    assert (
        np.array_equal(first.filters, again.filters)
        and first.filters.dtype == again.filters.dtype == np.float32
    )
    assert first.t60 == again.t60 and np.array_equal(first.drr_db, again.drr_db)
    for change in ({"t60": 0.16}, {"room": [5.0, 4.0, 3.1]}, {"mics": scene["mics"][:1]}, {"fs": 16000}):
        rirs_of({**scene, **change}, tmp_path)
    rirs_of(scene_in(0.15, [(3.3, 2.9, 1.7)]), tmp_path)
    assert len(calls) == 6
    for path in tmp_path.glob("*/*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged file in the RIR cache"):
        rirs_of(scene, tmp_path)


def coherence(field: np.ndarray, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
    frequency, cross = csd(field[i], field[j], FS, nperseg=256)
    powers = [welch(field[k], FS, nperseg=256)[1] for k in (i, j)]
    return frequency, cross / np.sqrt(powers[0] * powers[1])


def test_diffuse_field_has_the_sinc_coherence_and_equal_powers():
    mics = np.array([[0, 0, 0], [0.05, 0, 0], [0, 0.1, 0], [0.2, 0.2, 0.1]])
    white = np.random.default_rng(1).standard_normal((4, 60 * FS))
    field = diffuse(white, mics, FS)
    assert np.array_equal(field[0], white[0])
    assert field.var(axis=1) == pytest.approx(np.ones(4), rel=0.02)
    for i, j in [(0, 1), (0, 2), (1, 2), (2, 3), (0, 3)]:
        frequency, found = coherence(field, i, j)
        expected = np.sinc(2 * frequency * np.linalg.norm(mics[i] - mics[j]) / SPEED_OF_SOUND)
        assert np.abs(found - expected)[1:-1].max() < 0.1


def test_babble_is_diffuse_and_channel_0_stands_alone():
    scene = {**sampled_scene("babble"), "samples": 30 * FS}
    voices = {name: voice(name, 5 + k) for k, name in enumerate(scene["noise"]["utterances"])}
    field = scene_noise(scene, voices.__getitem__)
    assert np.array_equal(scene_noise({**scene, "mics": scene["mics"][:1]}, voices.__getitem__), field[:1])
    distance = math.dist(scene["mics"][0], scene["mics"][2])
    frequency, found = coherence(field, 0, 2)
    expected = np.sinc(2 * frequency * distance / SPEED_OF_SOUND)
    assert np.abs(found - expected)[2:-2].mean() < 0.08
    far = {**scene, "mics": [[0.5, 0.5, 0.5], [4.5, 3.5, 2.5]]}
    field = scene_noise(far, voices.__getitem__)
    assert abs(np.corrcoef(field)[0, 1]) < 0.05


def test_white_noise_is_independent_and_belongs_to_the_utterance():
    scene = {**sampled_scene(), "samples": 20000}
    field = scene_noise(scene, None)
    assert np.abs(np.corrcoef(field) - np.eye(4)).max() < 0.04
    assert np.array_equal(scene_noise({**scene, "mics": scene["mics"][:1]}, None), field[:1])
    assert not np.array_equal(scene_noise({**scene, "id": "other"}, None), field)
    assert not scene_noise({**scene, "noise": {"kind": "none"}}, None).any()
