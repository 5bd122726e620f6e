"""Conditions that the training did not see: paired scenes, the real command, the page of scores by hand."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from report_files import N, utterances, write_scores
from speech_sets import make_speech

from frontend.data.kaldi import validate
from frontend.data.mixtures import MixtureSet
from frontend.report.pages import described
from frontend.simulation.conditions import load_conditions, sample_conditions
from frontend.simulation.scenes import read_scenes

MINI = Path(__file__).resolve().parents[2] / "egs" / "mini" / "conf"


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return make_speech(tmp_path_factory.mktemp("dry") / "speech", speakers=8, seconds=0.5)


@pytest.fixture(scope="module")
def drawn(speech):
    """Scenes of the embedded recipe's conditions."""
    listed = load_conditions(MINI / "scenes.yaml", MINI / "conditions.yaml", n_talkers=2)
    return sample_conditions(listed, speech, 12, "test", 3)


CHANGED = {
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


def arguments(root, speech, text, **more):
    (root / "scenes.yaml").write_text(CONFIG)
    (root / "conditions.yaml").write_text(text)
    options = {"config": root / "scenes.yaml", "conditions": root / "conditions.yaml", "speech": speech}
    options |= {"num": 3, "seed": 4, "out": root / "out"} | more
    return [part for key, value in options.items() for part in (f"--{key}", value)]


def test_the_command_makes_paired_sets_once(tmp_path, speech, command):
    text = "moved: {array: {jitter: 0.01}}\nfar: {talkers: {distance: [1.5, 2]}}\n"
    line = arguments(tmp_path, speech, text)
    code, printed, _ = command("simulate conditions", *line)
    assert code == 0 and printed.count("3 rendered now") == 3
    assert command("simulate conditions", *line, "--nj", 2)[1].count("0 rendered now") == 3
    sets = {name: MixtureSet(tmp_path / "out" / name) for name in ("matched", "moved", "far")}
    for name, one in sets.items():
        assert validate(one.path) == []
        assert json.loads((one.path / "condition.json").read_text())["condition"] == name
    for key in sets["matched"].ids:
        (a, _), (b, _), (c, _) = (one.mixture(key) for one in sets.values())
        # Displaced microphones hear something else, the reference microphone and the references do not.
        assert np.array_equal(a[0], b[0]) and not any(
            np.array_equal(x, y) for x, y in zip(a[1:], b[1:], strict=True)
        )
        assert np.array_equal(sets["matched"].references(key), sets["moved"].references(key))
        assert a.shape == c.shape and not np.array_equal(a[0], c[0])
        assert sets["matched"].texts(key) == sets["far"].texts(key)
    # The matched set is the test set, bit for bit.
    usual = ["--config", tmp_path / "scenes.yaml", "--speech", speech, "--seed", 4, "--n_talkers", 2]
    usual += ["--num", 5, "--prefix", "test", "--out", tmp_path / "test.jsonl"]
    assert command("simulate scenes", *usual)[0] == 0
    assert read_scenes(tmp_path / "test.jsonl")[:3] == read_scenes(tmp_path / "out/scenes/matched.jsonl")
    made = ["--scenes", tmp_path / "test.jsonl", "--speech", speech, "--out", tmp_path / "test"]
    assert command("simulate render", *made)[0] == 0
    for key in sets["matched"].ids:
        names = [tmp_path / f"{where}/wav/mix/{key}.wav" for where in ("test", "out/matched")]
        assert names[0].read_bytes() == names[1].read_bytes()


def test_what_all_conditions_change(tmp_path, speech, command):
    (tmp_path / "common.yaml").write_text("array: {n: 2, radius: 0.1}\nt60: 0.2\n")
    line = arguments(tmp_path, speech, "a: {array: {radius: 0.02}}\n", num=1)
    assert command("simulate conditions", *line, "--changes", tmp_path / "common.yaml")[0] == 0
    for name, apart in (("matched", 0.2), ("a", 0.04)):
        scene = read_scenes(tmp_path / f"out/scenes/{name}.jsonl")[0]
        assert scene["t60"] == 0.2 and len(scene["mics"]) == 2
        assert np.linalg.norm(np.subtract(*scene["mics"])) == pytest.approx(apart, abs=3e-4)
    assert json.loads((tmp_path / "out/a/condition.json").read_text())["changes"] == {
        "array": {"radius": 0.02}
    }


def test_some_of_the_conditions(tmp_path, speech, command):
    text = "a: {t60: 0.3}\nb: {t60: 0.4}\nbabble: {noise: {kind: babble, babble_talkers: 99}}\n"
    line = arguments(tmp_path, speech, text, num=1)
    code, _, err = command("simulate conditions", *line)
    assert code == 2 and "condition 'babble': scene test_000000: babble of 99" in err
    assert not (tmp_path / "out").exists(), "something was made before all could be"
    assert command("simulate conditions", *line, "--without", "babble,a")[0] == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"matched", "b", "scenes", "rirs"}
    assert command("simulate conditions", *line, "--only", "a")[0] == 0 and (tmp_path / "out/a/wav.scp").is_file()
    code, _, err = command("simulate conditions", *line, "--without", "bable")
    assert code == 2 and "did you mean 'babble'" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {arry: {n: 4}}", "a: .*unknown key 'arry' .did you mean 'array'"),
        ("a: {array: {radius: 2.0}}", "conditions.yaml: a: .*microphones 2.000 m"),
        ("a: {}", "a: expected keys of .*found {}"),
        ("matched: {t60: 0.3}", "'matched': expected a name"),
        ("a/b: {t60: 0.3}", "'a/b': expected a name"),
        ("a: {array: {n: 3}}", "'a' changes the number of microphones, 4 in the matched set, 3 in it"),
        ("a: {fs: 16000}", "'a' changes the sampling rate, 8000 in the matched set, 16000 in it"),
        ("a: {max_seconds: 0.8}", "'a' changes the utterances|different speakers needed"),
        ("a: {talkers: {number: 3}}", None),  # --n_talkers rules
        ("- a", "expected a file of conditions"),
    ],
)
def test_mistakes_in_conditions(tmp_path, speech, command, text, message):
    code, _, err = command("simulate conditions", *arguments(tmp_path, speech, text))
    if message is None:
        assert code == 0
        return
    assert code == 2 and re.search(message, err), err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {t60: 0.3}\nb: {array: {radius: 0.03}}", None),
        (
            "a: {t60: 0.3}\nb: {array: {radios: 0.03}}",
            "b: .*array: unknown key 'radios' .did you mean 'radius'",
        ),
        ("a: {array: {kind: star}}", "a: .*star"),
        ("a: {array: {n: 3}}", "'a' changes the number of microphones"),
    ],
)
def test_conditions_are_checked_without_speech(tmp_path, command, text, message):
    line = arguments(tmp_path, "x", text)
    kept = line[: line.index("--speech")] + ["--check"]
    code, printed, err = command("simulate conditions", *kept)
    if message is None:
        assert code == 0 and "conditions.yaml: matched, a, b" in printed
        code, _, err = command("simulate conditions", *kept[:-1])
        assert code == 2 and "--speech: expected a value, found none" in err
    else:
        assert code == 2 and re.search(message, err) and len(err.splitlines()) == 1, err
    assert not (tmp_path / "out").exists()


SYSTEMS = """\
mixture: {}
auxiva: {blind: auxiva}
student: {model: student}
student+mvdr: {model: student, refine: mvdr}
"""


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """Scores by hand: the student loses 3 of 6 dB on a wide array, AuxIVA 0.1 of 4; nobody loses in noise."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "systems.yaml").write_text(SYSTEMS)
    listed = {"matched": {}, "wide": {"array": {"radius": 0.1}}, "noisy": {"noise": {"snr_db": [10, 20]}}}
    gains = {"matched": (4.0, 6.0), "wide": (3.9, 3.0), "noisy": (4.0, 6.0)}
    for place, (name, changes) in enumerate(listed.items()):
        about = {"condition": name, "place": place, "changes": changes}
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "condition.json").write_text(json.dumps(about))
        for system, gain in zip(("auxiva", "student"), gains[name], strict=True):
            directory = tmp_path / "exp/x/mismatch" / name / "scores"
            write_scores(directory, system, utterances(gain))
            path = directory / f"{system}.json"
            path.write_text(path.read_text().replace("data/x/test", f"data/{name}"))
        write_scores(directory, "mixture", utterances(0.0))
    for name, channels, gain in (("x", 4, 6.0), ("x_2ch", 2, 4.5), ("x_6ch", 6, 6.5)):
        write_scores(tmp_path / "exp" / name / "scores", "student", utterances(gain), channels)
    facts = {"command": "./run.sh", "seed": "0", "stages": {}}
    (tmp_path / "exp/x/stages.json").write_text(json.dumps(facts))
    return ["--exp", "exp/x", "--systems", "systems.yaml", "--out", "out"]


def test_the_page_says_what_each_condition_costs(scored, command):
    code, _, _ = command("report --conditions", *scored, "--microphones", "exp/x_6ch", "--microphones", "exp/x_2ch")
    assert code == 0
    results = json.loads(Path("out/mismatch.json").read_text())
    assert [one["condition"] for one in results["conditions"]] == ["matched", "wide", "noisy"]
    assert [one["system"] for one in results["systems"]] == ["auxiva", "student"]
    auxiva, student = results["conditions"][1]["rows"]
    assert student["si_snri"] == pytest.approx(3, abs=1e-3) and student["n"] == N
    # Paired: the utterances differ by several dB, their differences not at all.
    assert student["difference"] == pytest.approx(-3, abs=1e-3)
    assert student["difference_ci"] == pytest.approx([-3, -3], abs=1e-3)
    assert student["share"] == pytest.approx(50, abs=0.1) and auxiva["difference"] == pytest.approx(
        -0.1, abs=1e-3
    )
    page = Path("out/MISMATCH.md").read_text()
    assert (
        "- array radius 0.1: `student` loses 3.0 [3.0, 3.0] dB, 50 % of its improvement is left; `aux" in page
    )
    assert "- noise snr_db 10 to 20: `student` changes by 0.0 [0.0, 0.0] dB, no difference to tell" in page
    assert [one["channels"] for one in results["microphones"]] == [2, 4, 6]
    two, four, six = (one["rows"][0] for one in results["microphones"])
    assert (two["difference"], six["difference"]) == pytest.approx((-1.5, 0.5), abs=1e-3)
    assert four["difference"] is None and "| 2 | x_2ch | 4.5 [" in page
    assert "train again\n(`./run.sh --channels N`" in page


def test_what_is_not_there_is_a_dash_or_one_line(scored, command):
    Path("exp/x/mismatch/wide/scores/student.jsonl").unlink()
    silent = utterances(5.0)
    silent[3]["silent"] = [1]
    write_scores(Path("exp/x/mismatch/noisy/scores"), "auxiva", silent)
    path = Path("exp/x/mismatch/noisy/scores/auxiva.json")
    path.write_text(path.read_text().replace("data/x/test", "data/noisy"))
    assert command("report --conditions", *scored)[0] == 0
    rows = {
        one["condition"]: one["rows"]
        for one in json.loads(Path("out/mismatch.json").read_text())["conditions"]
    }
    assert rows["wide"][1]["si_snri"] is rows["noisy"][0]["difference"] is None
    path.write_text(path.read_text().replace("data/noisy", "data/wide"))
    code, _, err = command("report --conditions", *scored)
    assert code == 2 and "noisy: scored on condition 'wide'" in err
    Path("data/wide/condition.json").unlink()
    assert "mixit simulate conditions" in command("report --conditions", *scored)[2]
    for old in Path("exp/x/mismatch/matched/scores").iterdir():
        old.unlink()
    assert "expected scores of the matched set" in command("report --conditions", *scored)[2]


def test_a_condition_taken_off_the_list_is_off_the_page(scored, command):
    """Its scores still lie there."""
    Path("listed.yaml").write_text("noisy: {noise: {snr_db: [10, 20]}}\n")
    assert command("report --conditions", *scored, "--conditions", "listed.yaml")[0] == 0
    results = json.loads(Path("out/mismatch.json").read_text())
    assert [one["condition"] for one in results["conditions"]] == ["matched", "noisy"]


def test_changes_are_told_in_words():
    assert described({}) == "as in training"
    assert described({"array": {"kind": "linear", "spacing": 0.03}, "t60": [0.4, 0.7]}) == (
        "array kind linear, array spacing 0.03, t60 0.4 to 0.7"
    )
