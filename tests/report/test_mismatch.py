"""The page of conditions that the training did not see, of scores made by hand."""

import json
from pathlib import Path

import pytest
from report_files import N, utterances, write_scores

from frontend.report.pages import described

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
    Path("conditions.yaml").write_text('wide: [array.radius=0.1]\nnoisy: ["noise.snr_db=[10,20]"]\n')
    gains = {"matched": (4.0, 6.0), "wide": (3.9, 3.0), "noisy": (4.0, 6.0)}
    for name in gains:
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
    return ["--exp", "exp/x", "--systems", "systems.yaml", "--out", "out", "--conditions", "conditions.yaml"]


def test_the_page_says_what_each_condition_costs(scored, command):
    code, _, _ = command("report", *scored, "--microphones", "exp/x_6ch", "--microphones", "exp/x_2ch")
    assert code == 0
    results = json.loads(Path("out/mismatch.json").read_text())
    assert [one["condition"] for one in results["conditions"]] == ["matched", "wide", "noisy"]
    assert [one["system"] for one in results["systems"]] == ["auxiva", "student"]
    auxiva, student = results["conditions"][1]["rows"]
    assert student["si_snri"] == pytest.approx(3, abs=1e-3) and student["n"] == N
    # Paired: the utterances differ by several dB, their differences not at all.
    assert student["difference"] == pytest.approx(-3, abs=1e-3)
    assert student["difference_ci"] == pytest.approx([-3, -3], abs=1e-3)
    assert auxiva["difference"] == pytest.approx(-0.1, abs=1e-3)
    page = Path("out/MISMATCH.md").read_text()
    assert "array radius 0.1" in page and "noise snr_db 10 to 20" in page and "(-1.5 [-1.5, -1.5])" in page
    assert [one["channels"] for one in results["microphones"]] == [2, 4, 6]
    two, four, six = (one["rows"][0] for one in results["microphones"])
    assert (two["difference"], six["difference"]) == pytest.approx((-1.5, 0.5), abs=1e-3)
    assert four["difference"] is None and "| 2 | x_2ch | 4.5 [" in page


def test_what_is_not_there_is_a_dash_or_one_line(scored, command):
    Path("exp/x/mismatch/wide/scores/student.jsonl").unlink()
    silent = utterances(5.0)
    silent[3]["silent"] = [1]
    write_scores(Path("exp/x/mismatch/noisy/scores"), "auxiva", silent)
    path = Path("exp/x/mismatch/noisy/scores/auxiva.json")
    path.write_text(path.read_text().replace("data/x/test", "data/noisy"))
    assert command("report", *scored)[0] == 0
    rows = {
        one["condition"]: one["rows"]
        for one in json.loads(Path("out/mismatch.json").read_text())["conditions"]
    }
    assert rows["wide"][1]["si_snri"] is rows["noisy"][0]["difference"] is None
    path.write_text(path.read_text().replace("data/noisy", "data/wide"))
    code, _, err = command("report", *scored)
    assert code == 2 and "noisy: scored on condition 'wide'" in err
    for old in Path("exp/x/mismatch/matched/scores").iterdir():
        old.unlink()
    assert "expected scores of the matched set" in command("report", *scored)[2]


def test_a_condition_taken_off_the_list_is_off_the_page(scored, command):
    """Its scores still lie there."""
    Path("conditions.yaml").write_text('noisy: ["noise.snr_db=[10,20]"]\n')
    assert command("report", *scored)[0] == 0
    results = json.loads(Path("out/mismatch.json").read_text())
    assert [one["condition"] for one in results["conditions"]] == ["matched", "noisy"]


def test_changes_are_described():
    assert described({}) == "as in training"
    assert described({"array": {"kind": "linear", "spacing": 0.03}, "t60": [0.4, 0.7]}) == (
        "array kind linear, array spacing 0.03, t60 0.4 to 0.7"
    )
