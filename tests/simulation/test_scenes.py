"""Scenes: what is drawn, that each draw is alone, that impossible ones are refused."""

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from speech_sets import make_speech, run_command

from frontend.data.kaldi import write_scp
from frontend.simulation.config import ArrayConfig, SceneConfig
from frontend.simulation.scenes import read_scenes, sample_scene, validate_scene, write_scenes
from frontend.utils.errors import UserError

SPEECH = {f"s{s:02d}-{u}": (f"s{s:02d}", 1.5 + 0.4 * u) for s in range(12) for u in range(8)}  # 1.5 to 4.3 s
DEFAULT = SceneConfig()


def drawn(config: SceneConfig = DEFAULT, count: int = 60, seed: int = 3) -> list[dict]:
    return [sample_scene(f"utt{k}", config, SPEECH, seed) for k in range(count)]


def change(section: str, **values) -> SceneConfig:
    return replace(DEFAULT, **{section: replace(getattr(DEFAULT, section), **values)})


def azimuth(scene: dict, talker: dict) -> float:
    centre = np.mean(scene["mics"], axis=0)
    return math.degrees(math.atan2(talker["position"][1] - centre[1], talker["position"][0] - centre[0]))


def test_every_quantity_is_in_its_range_and_the_range_is_used():
    scenes = drawn(count=200)
    seen = {"t60": [], "distance": [], "level": [], "offset": [], "snr": [], "apart": [], "height": []}
    for scene in scenes:
        validate_scene(scene, "here")
        centre = np.mean(scene["mics"], axis=0)
        first, second = scene["talkers"]
        assert first["speaker"] != second["speaker"]
        assert scene["samples"] <= 4 * 8000
        assert min(first["offset"], second["offset"]) == 0
        assert all(
            1 - 1e-3 <= c <= side - 1 + 1e-3 for c, side in zip(centre[:2], scene["room"][:2], strict=True)
        )
        for talker in scene["talkers"]:
            assert talker["samples"] == round(SPEECH[talker["utterance"]][1] * 8000)
            seen["distance"].append(math.dist(talker["position"][:2], centre[:2]))
            seen["height"].append(talker["position"][2])
            seen["offset"].append(talker["offset"])
        seen["apart"].append(abs((azimuth(scene, first) - azimuth(scene, second) + 180) % 360 - 180))
        seen["t60"].append(scene["t60"])
        seen["level"].append(second["level_db"])
        seen["snr"].append(scene["noise"]["snr_db"])
    limits = {"t60": (0.15, 0.4), "distance": (0.75, 2.0), "level": (-2.5, 2.5), "offset": (0, 0.5),
              "snr": (20, 30), "apart": (30, 180), "height": (1.2, 1.8)}  # fmt: skip
    for name, (low, high) in limits.items():
        assert low - 0.01 <= min(seen[name]) and max(seen[name]) <= high + 0.01, name
        assert max(seen[name]) - min(seen[name]) > 0.8 * (high - low), name


def test_quantities_are_drawn_independently():
    columns = []
    for scene in drawn(count=400):
        (x, y, height), (first, second) = scene["mics"][0], scene["talkers"]
        place = x / scene["room"][0], y / scene["room"][1], height
        heights = first["position"][2], second["position"][2]
        others = scene["t60"], scene["noise"]["snr_db"], second["level_db"], scene["samples"]
        columns.append((*scene["room"], *place, *heights, *others))
    correlation = np.corrcoef(np.array(columns).T)
    assert np.abs(correlation - np.eye(len(correlation))).max() < 0.25  # 5 standard errors


def test_a_scene_depends_on_seed_and_id_alone():
    assert drawn(count=6) == drawn(count=60)[:6]
    assert sample_scene("utt5", DEFAULT, dict(reversed(SPEECH.items())), 3) == drawn(count=6)[5]
    assert drawn(count=1, seed=4)[0] != drawn(count=1)[0]


def strip(scene: dict, *paths: str) -> dict:
    """Return the scene without the keys ``a`` or, of all talkers, ``talkers.a``."""
    scene = copy.deepcopy(scene)
    for path in paths:
        *talkers, key = path.split(".")
        for owner in scene["talkers"] if talkers else [scene]:
            del owner[key]
    return scene


@pytest.mark.parametrize(
    ("config", "changed"),
    [
        (replace(DEFAULT, t60=(0.3, 0.6)), ["t60"]),
        (replace(DEFAULT, level_dbfs=(-40.0, -30.0)), ["level_dbfs"]),
        (change("talkers", level_db=(-5.0, 0.0)), ["talkers.level_db"]),
        (change("talkers", onset=(0.0, 0.1)), ["talkers.offset", "samples"]),
        (change("noise", snr_db=(0.0, 5.0)), ["noise"]),
        (change("noise", kind="babble"), ["noise"]),
        (change("noise", kind="none"), ["noise"]),
        (change("array", rotate=False), ["mics"]),
        (change("array", n=7), ["mics"]),
        (change("array", kind="linear", spacing=0.02), ["mics", "array"]),
        (change("talkers", height=(1.0, 1.1)), ["talkers.position"]),
        (change("talkers", distance=(0.5, 1.0)), ["talkers.position"]),
    ],
)
def test_changing_one_quantity_leaves_the_others(config, changed):
    for before, after in zip(drawn(count=5), drawn(config, count=5), strict=True):
        assert strip(before, *changed) == strip(after, *changed)
        if "mics" not in changed:  # else the list may agree in microphone 0 only
            assert any(
                strip(before, *set(changed) - {c}) != strip(after, *set(changed) - {c}) for c in changed
            )


@pytest.mark.parametrize("kind", ["circular", "linear", "coordinates"])
def test_geometry_survives_place_and_rotation_and_one_channel_is_microphone_0(kind):
    points = ((0.03, 0.0, 0.0), (-0.02, 0.04, 0.01), (0.0, -0.06, -0.02))
    array = ArrayConfig(kind=kind, n=3, radius=0.07, spacing=0.04, coordinates=points)
    config = replace(DEFAULT, array=array)
    three = [(0, 1), (0, 2), (1, 2)]
    pairs = {
        "circular": [0.07 * math.sqrt(3)] * 3,
        "linear": [0.04, 0.08, 0.04],
        "coordinates": [math.dist(points[i], points[j]) for i, j in three],
    }
    single = replace(config, array=replace(array, channels=1))
    for scene, one in zip(drawn(config, 10), drawn(single, 10), strict=True):
        mics = scene["mics"]
        found = [math.dist(mics[i], mics[j]) for i, j in three]
        assert found == pytest.approx(pairs[kind], abs=2e-4)
        assert one["mics"] == mics[:1]
        assert strip(one, "mics") == strip(scene, "mics")


def test_share_of_single_talkers_and_talker_1_is_the_same_whatever_their_number():
    mixed = drawn(change("talkers", one_talker_share=0.3), count=400)
    singles = [scene for scene in mixed if len(scene["talkers"]) == 1]
    assert 0.3 * 400 - 4 * math.sqrt(84) < len(singles) < 0.3 * 400 + 4 * math.sqrt(84)
    three, two = (
        drawn(change("talkers", number=3, onset=(0.0, 0.0)), 20),
        drawn(change("talkers", onset=(0.0, 0.0)), 20),
    )
    assert all(len({t["speaker"] for t in scene["talkers"]}) == 3 for scene in three)
    assert [scene["talkers"][:2] for scene in three] == [scene["talkers"] for scene in two]


def test_babble_is_by_other_speakers():
    for scene in drawn(change("noise", kind="babble"), 20):
        names = scene["noise"]["utterances"]
        assert len(set(names)) == len(names) == 6
        assert not {SPEECH[n][0] for n in names} & {t["speaker"] for t in scene["talkers"]}


def test_a_late_talker_still_ends_within_the_mixture():
    for scene in drawn(change("talkers", onset=(0.0, 3.9)), 50):
        ends = [round(t["offset"] * 8000) + t["samples"] for t in scene["talkers"]]
        assert max(ends) == scene["samples"] <= 4 * 8000


def test_text_is_the_exact_scene(tmp_path):
    scenes = drawn(change("noise", kind="babble"), 20)
    write_scenes(tmp_path / "scenes.jsonl", reversed(scenes))
    assert read_scenes(tmp_path / "scenes.jsonl") == sorted(scenes, key=lambda s: s["id"])
    with_measured = [{**scene, "measured": {"t60": 0.2, "drr_db": [1.0, 2.0]}} for scene in scenes]
    write_scenes(tmp_path / "scenes.jsonl", with_measured)
    assert read_scenes(tmp_path / "scenes.jsonl")[0]["measured"]["t60"] == 0.2


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (
            lambda s: s["talkers"][1]["position"].__setitem__(0, -0.5),
            "talker 2 is outside the room: x = -0.5 m",
        ),
        (
            lambda s: s["talkers"][0]["position"].__setitem__(2, 9.0),
            "talker 1 is outside the room: z = 9.0 m",
        ),
        (lambda s: s["talkers"][0]["position"].__setitem__(1, 0.0), "talker 1 stands in a wall: y = 0.0 m"),
        (lambda s: s["mics"][2].__setitem__(0, 20.0), "microphone 2 is outside the room"),
        (lambda s: s["talkers"][0].update(position=list(s["mics"][1])), "talker 1 stands in microphone 1"),
        (lambda s: s["talkers"][0].update(position=[1.0, 2.0]), "talker 1: position: expected a position"),
        (lambda s: s.update(t60=0.01), "t60: 0.01 s cannot be had in a room"),
        (lambda s: s.update(t60=float("nan")), "t60: expected seconds from 0"),
        (lambda s: s.update(rt60=0.3), "unknown key 'rt60' (did you mean 't60'?)"),
        (lambda s: s.pop("room"), "key 'room' is missing"),
        (lambda s: s["talkers"][0].pop("offset"), "talker 1: key 'offset' is missing"),
        (lambda s: s["talkers"][1].update(speaker=s["talkers"][0]["speaker"]), "expected different speakers"),
        (lambda s: s.update(samples=100), "talker 1 ends at sample"),
        (lambda s: s.update(fs=8000.0), "fs: expected a positive integer"),
        (lambda s: s.update(talkers=[]), "talkers: expected at least one talker"),
        (lambda s: s.update(mics=[]), "mics: expected at least one microphone"),
        (lambda s: s.update(id="a b"), "id: expected a name without spaces"),
        (lambda s: s.update(noise={"kind": "pink"}), "noise: kind: expected one of"),
        (lambda s: s.update(noise={"kind": "white"}), "noise: key 'snr_db' is missing"),
        (
            lambda s: s.update(noise={"kind": "babble", "snr_db": 3, "utterances": []}),
            "noise: utterances: expected at least one utterance",
        ),
        (lambda s: s.update(level_dbfs=3), "level_dbfs: expected a level of at most 0 dB"),
    ],
)
def test_an_impossible_scene_is_named_with_file_and_line(tmp_path, break_it, message):
    scenes = drawn(count=2)
    break_it(scenes[1])
    path = tmp_path / "scenes.jsonl"
    path.write_text("".join(json.dumps(scene) + "\n" for scene in scenes))
    with pytest.raises(UserError) as error:
        read_scenes(path)
    assert str(error.value).startswith(f"{path}:2: ") and message in str(error.value)


def test_a_broken_file_of_scenes(tmp_path):
    path = tmp_path / "scenes.jsonl"
    with pytest.raises(UserError, match="expected a file of scenes .*found no such file"):
        read_scenes(path)
    path.write_text("")
    with pytest.raises(UserError, match="found an empty file"):
        read_scenes(path)
    line = json.dumps(drawn(count=1)[0])
    path.write_text(f"{line}\n{line[:50]}\n")
    with pytest.raises(UserError, match=r"scenes.jsonl:2: not JSON"):
        read_scenes(path)
    path.write_text(f"{line}\n{line}\n")
    with pytest.raises(UserError, match=r"scenes.jsonl:2: duplicate id 'utt0'"):
        read_scenes(path)


def test_too_little_speech_or_room():
    two = {name: who for name, who in SPEECH.items() if who[0] in ("s00", "s01")}
    with pytest.raises(UserError, match="3 different speakers needed, the speech set has 2"):
        sample_scene("u", change("talkers", number=3), two, 0)
    long = {name: (who, 9.0) for name, (who, _) in SPEECH.items()}
    with pytest.raises(UserError, match="the speech set has 0 with utterances of at most 4.0 s"):
        sample_scene("u", DEFAULT, long, 0)
    with pytest.raises(UserError, match="babble of 6 utterances"):
        sample_scene("u", change("noise", kind="babble"), two, 0)
    with pytest.raises(UserError, match="found no place in a room"):
        sample_scene("u", change("talkers", distance=(8.0, 9.0)), SPEECH, 0)


def test_command(tmp_path, monkeypatch, capsys):
    speech = make_speech(tmp_path / "speech", speakers=3)
    (tmp_path / "c.yaml").write_text("t60: 0.2\n")

    def scenes(name: str, **options: object) -> list[dict]:
        inputs = {"config": tmp_path / "c.yaml", "speech": speech, "prefix": "x", "seed": 1}
        outcome = run_command(
            "simulate scenes", monkeypatch, capsys, **inputs, out=tmp_path / name, **options
        )
        assert outcome[0] == 0 and f"{options['num']} scenes from 6 utterances" in outcome[1]
        return read_scenes(tmp_path / name)

    assert scenes("few.jsonl", num=5) == scenes("many.jsonl", num=12)[:5]
    scene = scenes("large.jsonl", num=1, n_talkers=3, channels=6)[0]
    assert (len(scene["talkers"]), len(scene["mics"])) == (3, 6)


def test_command_names_mistakes_in_one_line(tmp_path, monkeypatch, capsys):
    speech = make_speech(tmp_path / "speech", speakers=3)
    (tmp_path / "c.yaml").write_text("fs: 16000\n")

    def fails(expected: str, **changed: object) -> None:
        inputs = {"config": tmp_path / "c.yaml", "speech": speech, "num": 2, "prefix": "x"}
        options = {**inputs, "out": tmp_path / "out.jsonl", **changed}
        code, text = run_command("simulate scenes", monkeypatch, capsys, **options)
        assert code == 2 and expected in text and text.count("\n") == 1, text
        assert not (tmp_path / "out.jsonl").exists()

    fails("expected 16000 Hz as in the scenes, found 8000 Hz")
    (tmp_path / "c.yaml").write_text("fs: 8000\n")
    fails("expected a scene configuration, found no such file", config=tmp_path / "other.yaml")
    fails("expected a table", speech=tmp_path / "nowhere")
    fails("--num: expected at least 1, found 0", num=0)
    fails("4 different speakers needed, the speech set has 3", n_talkers=4)
    fails("id: expected a name without spaces", prefix="a b")
    fails("c.yaml: File exists", out=tmp_path / "c.yaml" / "out.jsonl")
    utt2spk = {"s00-00": "s00"}
    write_scp(speech / "utt2spk", utt2spk)
    fails("utt2spk: utterance 's00-01' of wav.scp is missing")
    (speech / "wav.scp").write_text("")
    fails("no entries")
