"""Arrays and noise that are drawn for each mixture; and fixed ones, whose scenes stay what they were."""

import hashlib
import itertools
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from speech_sets import audio_bytes, make_speech

from frontend.data.audio import read_audio
from frontend.data.kaldi import read_scp, validate
from frontend.data.mixtures import check_set, subset
from frontend.simulation.config import (
    ArrayConfig,
    NoiseConfig,
    RoomConfig,
    SceneConfig,
    TalkersConfig,
    load_config,
    sabine_absorption,
)
from frontend.simulation.mixture_sets import make_set
from frontend.simulation.scenes import draw_set, read_scenes, sample_scene, validate_scene
from frontend.utils.errors import UserError

SPEECH = {f"s{s:02d}-{u}": (f"s{s:02d}", 1.5 + 0.4 * u) for s in range(12) for u in range(8)}  # 1.5 to 4.3 s
NOISES = {f"n{k}": 0.7 + 0.3 * k for k in range(6)}
POINTS = ((0.03, 0.0, 0.0), (-0.02, 0.04, 0.01), (0.0, -0.06, -0.02))

# Digests of 30 scenes as 0.3.0 drew them, before arrays were drawn.
FIXED = {
    "default": (SceneConfig(), {}, "ff90fdfb67c5040a"),
    "bank": (SceneConfig(), {"bank": 5}, "648469325bbaa18e"),
    "linear": (SceneConfig(array=ArrayConfig(kind="linear", n=5, spacing=0.03)), {}, "a5a412f912a5245d"),
    "coordinates": (
        SceneConfig(array=ArrayConfig(kind="coordinates", coordinates=POINTS)),
        {},
        "6a5660e17d392dba",
    ),
    "one_channel": (SceneConfig(array=ArrayConfig(channels=1)), {}, "6b671f343036dd97"),
    "displaced": (
        SceneConfig(array=ArrayConfig(n=6, radius=0.1, jitter=0.01, rotate=False)),
        {},
        "1e25a9ab5898fefa",
    ),
    "talkers": (
        SceneConfig(talkers=TalkersConfig(number=(2, 3), one_talker_share=0.3)),
        {},
        "6348a01fcb2e7c25",
    ),
    "babble": (SceneConfig(noise=NoiseConfig(kind="babble"), t60=(0.4, 0.7)), {}, "22faabc74bd59cde"),
    "recorded": (SceneConfig(noise=NoiseConfig(kind="recorded")), {"noises": NOISES}, "6066a9008c4816b5"),
    "anechoic": (
        SceneConfig(noise=NoiseConfig(kind="none"), t60=(0.0, 0.0), fs=16000),
        {},
        "97bda8b2ec23a42d",
    ),
}
ANY = SceneConfig(
    t60=(0.1, 0.7),
    room=RoomConfig(length=(3.0, 8.0), width=(3.0, 6.0), height=(2.4, 3.4)),
    array=ArrayConfig(kind=("circular", "linear", "random"), n=(2, 8), extent=(0.05, 0.5)),
    talkers=TalkersConfig(number=(2, 3)),
    noise=NoiseConfig(kind=("white", "babble"), snr_db=(5.0, 30.0)),
)


def drawn(config: SceneConfig, count: int = 60, seed: int = 3, **more) -> list[dict]:
    return [sample_scene(f"utt{k}", config, SPEECH, seed, **more) for k in range(count)]


def distances(mics: list) -> list[float]:
    return [math.dist(a, b) for a, b in itertools.combinations(mics, 2)]


@pytest.mark.parametrize("name", FIXED)
def test_scenes_with_nothing_to_draw_of_the_array_are_what_they_were(name):
    config, more, expected = FIXED[name]
    found = json.dumps(drawn(config, 30, **more)).encode()
    assert hashlib.sha256(found).hexdigest()[:16] == expected


def test_kind_number_extent_and_noise_are_in_their_ranges_and_use_them():
    scenes = drawn(ANY, 300)
    kinds, noises, numbers, extents = Counter(), Counter(), Counter(), []
    for scene in scenes:
        validate_scene(scene, "here")  # inside the room, off walls and mouths
        mics, talkers = scene["mics"], len(scene["talkers"])
        kinds[scene["array"]] += 1
        noises[scene["noise"]["kind"]] += 1
        numbers[len(mics)] += 1
        assert max(2, talkers) <= len(mics) <= 8
        farthest = max(distances(mics))
        assert farthest <= 0.5 + 4e-4
        if scene["array"] != "circular" or len(mics) % 2 == 0:  # an odd number leaves the diameter out
            assert farthest >= 0.05 - 4e-4
            extents.append(farthest)
        shortest = sabine_absorption(scene["room"], 1.0)
        assert max(0.1, shortest) <= scene["t60"] <= 0.7
    # Each as likely as any other, to 4 standard errors.
    for counts, names in ((kinds, ("circular", "linear", "random")), (noises, ("white", "babble"))):
        share = 1 / len(names)
        assert set(counts) == set(names)
        error = 4 * math.sqrt(300 * share * (1 - share))
        assert all(abs(counts[name] - 300 * share) < error for name in names)
    assert set(numbers) == set(range(2, 9))
    assert min(extents) < 0.08 and max(extents) > 0.47
    # Nearly anechoic rooms are among them: walls that absorb more than 9 tenths.
    dry = [s for s in scenes if sabine_absorption(s["room"], s["t60"]) > 0.9]
    assert len(dry) > 3 and min(scene["t60"] for scene in scenes) < 0.13


def test_shapes_are_those_of_their_kind():
    for scene in drawn(ANY, 100):
        mics = np.array(scene["mics"])
        if scene["array"] == "linear":
            steps = np.diff(mics, axis=0)
            np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape), atol=3e-4)
        elif scene["array"] == "circular":
            radii = np.linalg.norm(mics - mics.mean(0), axis=1)
            assert np.ptp(radii) < 5e-4 and np.ptp(mics[:, 2]) < 2e-4


def test_random_arrays_are_no_line_and_no_two_microphones_are_one():
    config = replace(ANY, array=replace(ANY.array, kind="random", n=8, extent=0.2))
    for scene in drawn(config, 60):
        apart = distances(scene["mics"])
        assert max(apart) == pytest.approx(0.2, abs=4e-4) and min(apart) >= 0.02 - 4e-4
        centred = np.array(scene["mics"]) - np.mean(scene["mics"], axis=0)
        assert np.linalg.svd(centred)[1][2] > 0.01  # metres: wide in all three directions
    alone = replace(config, array=replace(config.array, channels=1))
    for scene, one in zip(drawn(config, 5), drawn(alone, 5), strict=True):
        assert one["mics"] == scene["mics"][:1]


def test_what_is_drawn_of_the_array_leaves_all_else_as_it_was():
    fixed = replace(ANY, array=ArrayConfig(), noise=replace(ANY.noise, kind="white"))
    for before, after in zip(drawn(fixed, 20), drawn(ANY, 20), strict=True):
        same = {"room", "t60", "samples", "level_dbfs", "talkers"}
        assert {key: before[key] for key in same} == {key: after[key] for key in same}
        assert before["noise"]["snr_db"] == after["noise"]["snr_db"]


def test_a_bank_shares_arrays_with_rooms():
    scenes = drawn(ANY, 40, bank=4)
    rooms = {json.dumps([scene["room"], scene["t60"]]): [] for scene in scenes}
    for scene in scenes:
        rooms[json.dumps([scene["room"], scene["t60"]])].append((scene["array"], scene["mics"]))
    assert len(rooms) == 4 and all(one == found[0] for found in rooms.values() for one in found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("array: {kind: [circular, circle]}", "array: kind: expected one of .*; found 'circle'"),
        ("array: {kind: []}", "array: kind: expected a name or a list of different ones; found []"),
        ("array: {kind: [linear, linear]}", "expected a name or a list of different ones"),
        ("array: {kind: random}", "array: extent: expected metres above 0, or 0 without kind 'random'"),
        ("array: {extent: [0, 0.5]}", "array: extent: expected metres above 0"),
        ("array: {extent: 1.7}", "array: microphones 0.850 m from its centre"),
        ("array: {kind: random, extent: 1.0}", "array: microphones 0.866 m from its centre"),
        ("array: {n: [0, 4]}", "array: n: expected at least one microphone"),
        ("array: {n: [4, 2]}", r"array: n: expected a whole number or [fewest, most]; found [4, 2]"),
        ("noise: {kind: [white, pink]}", "noise: kind: expected one of"),
        ("t60: [0, 0.4]", "t60: no walls absorb enough for 0.0 s in the smallest room"),
        ("t60: [0.05, 0.4]", "t60: no walls absorb enough for 0.05 s in the smallest room"),
        ("t60: [0.1, 0.12]", "t60: no walls absorb enough for 0.12 s in the largest room"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(tmp_path, text, message):
    path = tmp_path / "scenes.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_config(path)
    head, *rest = message.split(".*")
    assert (
        str(path) in str(error.value)
        and head in str(error.value)
        and all(r in str(error.value) for r in rest)
    )


# --- sets whose mixtures differ in their number of channels


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> Path:
    return make_speech(tmp_path_factory.mktemp("dry") / "speech", speakers=8, seconds=0.5)


@pytest.fixture(scope="module")
def scenes(speech, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("any") / "scenes.jsonl"
    draw_set(replace(ANY, t60=(0.15, 0.2), noise=NoiseConfig()), speech, path, 10, "m", seed=1)
    assert len({len(scene["mics"]) for scene in read_scenes(path)}) > 3
    return path


@pytest.mark.parametrize("audio_format", ["wav", "flac", "flac.ark", None])
def test_such_a_set_is_rendered_and_checked(speech, scenes, tmp_path, audio_format, capsys):
    how = {"on_the_fly": True} if audio_format is None else {"audio_format": audio_format}
    counts = make_set(scenes, speech, tmp_path / "set", parts=True, **how)
    numbers = {scene["id"]: len(scene["mics"]) for scene in read_scenes(scenes)}
    assert (counts["fewest"], counts["channels"]) == (min(numbers.values()), max(numbers.values()))
    assert validate(tmp_path / "set") == []
    wav, image = (read_scp(tmp_path / "set" / name) for name in ("wav.scp", "image1.scp"))
    for name, mics in numbers.items():
        assert read_audio(wav[name])[0].shape[0] == read_audio(image[name])[0].shape[0] == mics
    assert capsys.readouterr().err == ""


def test_files_and_on_the_fly_are_the_same_to_the_bit(speech, scenes, tmp_path):
    make_set(scenes, speech, tmp_path / "files")
    make_set(scenes, speech, tmp_path / "fly", on_the_fly=True)
    a, b = (read_scp(tmp_path / name / "wav.scp") for name in ("files", "fly"))
    for name in a:
        np.testing.assert_array_equal(read_audio(a[name])[0], read_audio(b[name])[0])
    assert not audio_bytes(tmp_path / "fly")


def test_channels_other_than_the_scene_says_are_found_and_without_scenes_a_warning_counts_them(
    speech, scenes, tmp_path, capsys
):
    made = tmp_path / "set"
    make_set(scenes, speech, made)
    subset(made, tmp_path / "unlabelled", list(read_scp(made / "wav.scp")), labelled=False)
    assert validate(tmp_path / "unlabelled") == []
    counts = Counter(len(scene["mics"]) for scene in read_scenes(scenes))
    each = ", ".join(f"{channels} ({count})" for channels, count in sorted(counts.items()))
    assert f"channels (utterances): {each}" in capsys.readouterr().err
    with pytest.raises(UserError, match="number of channels"):  # a network of a fixed number of microphones
        check_set(tmp_path / "unlabelled")
    records = [json.loads(line) for line in (made / "scenes.jsonl").read_text().splitlines()]
    records[2]["mics"].append(records[2]["mics"][0])
    (made / "scenes.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (problem,) = validate(made)
    mics = len(records[2]["mics"])
    assert problem.startswith(f"{made}/wav.scp:3: {mics - 1} channels in") and f"scene has {mics}" in problem


def test_a_command_draws_them_from_yaml(speech, tmp_path, command):
    config = {"t60": 0.2, "array": {"kind": ["linear", "random"], "n": [2, 4], "extent": [0.1, 0.2]}}
    (tmp_path / "scenes.yaml").write_text(yaml.safe_dump(config))
    options = ["--config", tmp_path / "scenes.yaml", "--speech", speech, "--num", 12, "--prefix", "m"]
    code, _, err = command("simulate", "scenes", *options, "--out", tmp_path / "scenes.jsonl")
    assert code == 0, err
    found = read_scenes(tmp_path / "scenes.jsonl")
    assert {scene["array"] for scene in found} == {"linear", "random"}
    assert {len(scene["mics"]) for scene in found} == {2, 3, 4}
    code, out, err = command(
        *("simulate", "render", "--scenes", tmp_path / "scenes.jsonl", "--speech", speech),
        *("--out", tmp_path / "set"),
    )
    assert code == 0 and "12 mixtures, 2 to 4 channels, 2 talkers" in out, err
    code, out, err = command("data", "check", tmp_path / "set")
    assert code == 0 and out == f"{tmp_path}/set: valid, 12 utterances\n", err
