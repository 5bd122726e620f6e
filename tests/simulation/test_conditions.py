"""Conditions that the training did not see: scenes paired with those of the matched set."""

from pathlib import Path

import numpy as np
import pytest
from recipes import write_resolved
from speech_sets import make_speech

from frontend.data.kaldi import validate
from frontend.data.mixtures import MixtureSet
from frontend.simulation.config import load_condition, read_conditions
from frontend.simulation.mixture_sets import make_set
from frontend.simulation.scenes import check_paired, draw_set, read_scenes
from frontend.utils.errors import UserError

CONDITIONS = Path(__file__).resolve().parents[2] / "egs/TEMPLATE/conf/conditions.yaml"


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return make_speech(tmp_path_factory.mktemp("dry") / "speech", speakers=8, seconds=0.5)


@pytest.fixture(scope="module")
def drawn(speech, tmp_path_factory):
    """Scenes of the embedded recipe's conditions."""
    out, found = tmp_path_factory.mktemp("drawn"), {}
    write_resolved(out / "scenes.yaml", "mini", "scenes")
    for name in read_conditions(CONDITIONS):
        fixed = ["talkers.number=2", "talkers.one_talker_share=0"]
        config = load_condition(out / "scenes.yaml", CONDITIONS, name, fixed)
        draw_set(config, speech, out / name, 12, "test", seed=3)
        found[name] = read_scenes(out / name)
        check_paired(found[name], found["matched"], name)
    return found


CHANGED = {
    **dict.fromkeys(("mics_2", "mics_3", "mics_6", "mics_8"), {"mics"}),
    "radius_3cm": {"mics"},
    "radius_10cm": {"mics"},
    "linear_3cm": {"mics", "array"},
    "displaced_1cm": {"mics"},
    "reverberant": {"t60"},
    "far": {"room", "mics", "position"},
    "noisy": {"noise"},
    "babble": {"noise"},
}


def facts(scene):
    """What can differ: the keys of a scene, and of its talkers those beside the place together."""
    talkers = [{k: v for k, v in t.items() if k != "position"} for t in scene["talkers"]]
    return scene | {"talkers": talkers, "position": [t["position"] for t in scene["talkers"]]}


@pytest.mark.parametrize("name", CHANGED)
def test_a_condition_changes_what_it_names_and_nothing_else(drawn, name):
    assert set(drawn) == {"matched", *CHANGED}
    for matched, other in zip(drawn["matched"], drawn[name], strict=True):
        a, b = facts(matched), facts(other)
        assert {key for key in a if a[key] != b[key]} == CHANGED[name]


def test_conditions_are_what_they_say(drawn):
    for k, matched in enumerate(drawn["matched"]):
        scene = {name: found[k] for name, found in drawn.items()}
        mics = {name: np.array(one["mics"]) for name, one in scene.items()}
        for name, radius in (("matched", 0.05), ("radius_3cm", 0.03), ("radius_10cm", 0.1)):
            offsets = np.linalg.norm(mics[name] - mics[name].mean(0), axis=1)
            np.testing.assert_allclose(offsets, radius, atol=2e-4)
        for number in (2, 3, 6, 8):  # on the same circle, with the same reference
            assert len(mics[f"mics_{number}"]) == number
            np.testing.assert_allclose(mics[f"mics_{number}"][0], mics["matched"][0], atol=2e-4)
        gaps = np.linalg.norm(np.diff(mics["linear_3cm"], axis=0), axis=1)
        np.testing.assert_allclose(gaps, 0.03, atol=2e-4)
        moved = np.linalg.norm(mics["displaced_1cm"] - mics["matched"], axis=1)
        assert moved[0] == 0
        np.testing.assert_allclose(moved[1:], 0.01, atol=2e-4)
        far, centre = scene["far"], mics["far"].mean(0)
        distance = [np.linalg.norm((np.array(t["position"]) - centre)[:2]) for t in far["talkers"]]
        assert min(distance) > 1.99 and max(distance) < 3.51
        # The same draw on another range.
        assert scene["reverberant"]["t60"] == pytest.approx(
            0.4 + 0.3 * (matched["t60"] - 0.15) / 0.25, abs=2e-3
        )
        assert scene["noisy"]["noise"]["snr_db"] == pytest.approx(matched["noise"]["snr_db"] - 10, abs=0.11)
        talking = {t["utterance"] for t in matched["talkers"]}
        assert len(scene["babble"]["noise"]["utterances"]) == 6
        assert not talking & set(scene["babble"]["noise"]["utterances"])
    mics = {name: np.array([scene["mics"] for scene in drawn[name]]) for name in ("displaced_1cm", "matched")}
    directions = mics["displaced_1cm"] - mics["matched"]
    assert np.abs(directions[:, 1:].mean((0, 1))).max() < 0.01 * 4 / np.sqrt(3 * 36)  # in any direction


CONFIG = "t60: 0\nnoise: {kind: none}\nlevel_dbfs: -40\n"


def scenes_of(root, speech, command, name, conditions, *more, num=3):
    """Run ``simulate scenes`` for a condition; return exit code, errors and the file."""
    (root / "scenes.yaml").write_text(CONFIG)
    (root / "conditions.yaml").write_text(conditions)
    out = root / f"{name}.jsonl"
    options = {"config": root / "scenes.yaml", "speech": speech, "num": num, "prefix": "test", "seed": 4}
    options |= {"n_talkers": 2, "out": out}
    if name != "test":
        options |= {"condition": name, "conditions": root / "conditions.yaml"}
    line = [part for key, value in options.items() for part in (f"--{key}", value)]
    code, _, err = command("simulate scenes", *line, *more)
    return code, err, out


def test_the_command_makes_paired_sets(tmp_path, speech, command):
    text = 'moved: [array.jitter=0.01]\nfar: ["talkers.distance=[1.5,2]"]\n'
    sets = {}
    for name in ("matched", "moved", "far"):
        code, err, scenes = scenes_of(tmp_path, speech, command, name, text)
        assert code == 0, err
        make_set(scenes, speech, tmp_path / name)
        assert validate(tmp_path / name) == []
        sets[name] = MixtureSet(tmp_path / name)
    for key in sets["matched"].ids:
        (a, _), (b, _), (c, _) = (one.mixture(key) for one in sets.values())
        # Only the displaced microphones differ: not the reference microphone, nor the references.
        assert np.array_equal(a[0], b[0]) and not any(
            np.array_equal(x, y) for x, y in zip(a[1:], b[1:], strict=True)
        )
        assert np.array_equal(sets["matched"].references(key), sets["moved"].references(key))
        assert a.shape == c.shape and not np.array_equal(a[0], c[0])
        assert sets["matched"].texts(key) == sets["far"].texts(key)
    # The matched set is the beginning of the test set.
    usual = scenes_of(tmp_path, speech, command, "test", text, num=5)[2]
    assert read_scenes(usual)[:3] == read_scenes(tmp_path / "matched.jsonl")


def test_what_all_conditions_change(tmp_path, speech, command):
    common = ["--set", "array.n=2", "--set", "array.radius=0.1", "--set", "t60=0.2"]
    for name, apart in (("matched", 0.2), ("a", 0.04)):
        out = scenes_of(tmp_path, speech, command, name, "a: [array.radius=0.02]\n", *common, num=1)[2]
        scene = read_scenes(out)[0]
        assert scene["t60"] == 0.2 and len(scene["mics"]) == 2
        assert np.linalg.norm(np.subtract(*scene["mics"])) == pytest.approx(apart, abs=3e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [max_seconds=0.8]", "a.jsonl changes the utterances of test_000000"),
        ("a: [talkers.number=3]", "a.jsonl changes the utterances of test_000000"),
        ("a: [fs=16000]", "'a' changes the sampling rate"),
        ("a: [noise.kind=babble, noise.babble_talkers=99]", "scene test_000000: babble of 99"),
        ("b: [t60=0.3]", "no condition 'a'"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path, speech, command, text, message):
    code, err, out = scenes_of(tmp_path, speech, command, "a", text)
    assert code == 2 and message in err and not out.exists(), err


def test_half_of_the_options(tmp_path, speech, command):
    code, err, _ = scenes_of(tmp_path, speech, command, "test", "a: [t60=0.3]", "--condition", "a")
    assert code == 2 and "expected --condition and --conditions" in err
    with pytest.raises(UserError, match="changes the utterances"):
        scene = {"id": "m", "fs": 1, "mics": [], "talkers": [{"utterance": "a"}]}
        check_paired([scene], [scene | {"talkers": []}], "x")
