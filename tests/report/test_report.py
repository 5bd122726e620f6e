"""The report made from scores written by hand, through the real command."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import exit_code
from report_files import (
    DIFFICULTY,
    GAINS,
    SYSTEMS,
    N,
    by_name,
    make_recipe,
    report,
    utterances,
    write_experiment,
    write_scores,
)

import frontend
from frontend.report.pages import number, render_page
from frontend.utils.provenance import stage_commits

KEYS = (
    "system channels si_snr si_snri si_snri_ci sdr stoi pesq over_separation cpwer cpwer_ci "
    "insertions deletions substitutions words cpcer cpcer_ci orcwer orcwer_ci "
    "cpwer_separated cpwer_separated_ci rtf n"
).split()


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    return make_recipe(tmp_path, monkeypatch)


def test_results_keep_the_contract(recipe, monkeypatch):
    results, _ = report(monkeypatch)
    for key in ("command", "date", "commit", "versions", "machine", "seed", "stages", "rows"):
        assert key in results
    assert (results["command"], results["seed"]) == ("./run.sh --seed 3", 3)
    assert results["stages"] == {"data": 12.5, "teacher": 200.0}
    assert {"python", "numpy"} <= results["versions"].keys() and results["machine"]
    labelled = {"student_ft": 0.04, "supervised_small": 0.04, "supervised_full": 1.0}
    for row in results["rows"]:
        share = labelled.get(row["system"])
        assert list(row) == [*KEYS, *(["label_share"] if share else [])]
        assert row.get("label_share") == share
        assert row["n"] == N and row["channels"] == 4
        # no words were counted
        assert {row[key] for key in KEYS[KEYS.index("cpwer") : KEYS.index("rtf")]} == {None}


def test_rows_stand_as_in_the_systems_file(recipe, monkeypatch):
    order = [line.split(":")[0] for line in SYSTEMS.splitlines()]
    write_experiment(recipe / "exp/mini_1ch", channels=1, names=["student", "mixture"])
    results, page = report(monkeypatch, "--exp", "exp/mini_1ch")
    found = [(row["system"], row["channels"]) for row in results["rows"]]
    expected = [(name, channels) for name in order for channels in (4, 1)]
    assert found == [pair for pair in expected if pair in found] and ("student", 1) in found
    assert "mini_1ch/teacher" in results["stages"]
    in_page = re.findall(r"^\| (\S+) \| (\d) \|", page.split("## Systems")[1].split("##")[0], re.M)
    assert [(name, int(channels)) for name, channels in in_page] == found
    assert {"experiment": "mini", "system": "ilrma"} in results[
        "not_scored"
    ] and "Not scored: ilrma (mini)" in page


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("fs", 16000, "16000 Hz, expected 8000"), ("talkers", 3, "3 talkers, expected 2")],
)
def test_what_differs_in_more_than_microphones_shares_no_table(
    recipe, monkeypatch, capsys, key, value, message
):
    write_experiment(recipe / "exp/mini_2ch", channels=2)
    report(monkeypatch, "--exp", "exp/mini_2ch")
    for path in (recipe / "exp/mini_2ch/scores").glob("*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    report(monkeypatch, "--exp", "exp/mini_2ch", expect=2)
    assert f"exp/mini_2ch/scores: of a test set of {message} as in exp/mini/scores" in capsys.readouterr().err


def test_means_and_intervals(recipe, monkeypatch):
    results, _ = report(monkeypatch)
    rows = by_name(results)
    for name, gain in GAINS.items():
        assert rows[name]["si_snri"] == rows[name]["sdr"] == pytest.approx(gain, abs=1e-4)
        low, high = rows[name]["si_snri_ci"]
        assert high - low == pytest.approx(2 * 1.96 * DIFFICULTY.std() / N**0.5, rel=0.1)
        assert (rows[name]["stoi"], rows[name]["pesq"]) == (0.85, 2.25)
        assert rows[name]["over_separation"] == 25
    assert rows["student"]["rtf"] == 0.04 and rows["mixture"]["rtf"] is None
    oracle = rows["oracle"]
    assert oracle["si_snr"] is oracle["si_snri"] is oracle["si_snri_ci"] is oracle["sdr"] is None
    assert oracle["stoi"] == 1.0


def test_comparisons_are_paired(recipe, monkeypatch):
    results, page = report(monkeypatch)
    found = {(c["system"], c["against"], c["what"]): c for c in results["comparisons"]}
    for a, b in (
        ("student", "teacher_energy"),
        ("student_ft", "student"),
        ("student_ft", "supervised_small"),
    ):
        entry = found[a, b, "si_snri_difference"]
        # the difficulty is common to both: no spread is left
        assert entry["value"] == pytest.approx(GAINS[a] - GAINS[b], abs=1e-4)
        assert entry["ci"] == pytest.approx([entry["value"]] * 2, abs=1e-4)
    assert found["student+mvdr", "student", "si_snri_difference"]["value"] == pytest.approx(0.5)
    percent = found["student_ft", "supervised_full", "si_snri_percent"]
    assert percent["value"] == pytest.approx(100 * 5 / 5.5, abs=1e-3)
    assert percent["ci"][0] < percent["value"] < percent["ci"][1]
    outside = found["teacher_energy", "student", "energy_outside_best_difference"]
    surplus = found["teacher_energy", "student", "surplus_outputs_difference"]
    assert (outside["value"], surplus["value"]) == pytest.approx((50, 75))
    assert "| student − teacher_energy | 4 | 2.00 [2.00, 2.00] | — | 20 |" in page
    assert "| student_ft / supervised_full | 4 | SI-SNRi, % | 90.9 [" in page
    assert ("ilrma" not in str(results["comparisons"])) and ("distilled" not in str(results["comparisons"]))


def test_over_separation_of_both_sets(recipe, monkeypatch):
    results, _ = report(monkeypatch)
    found = {(o["system"], o["set"]): o for o in results["over_separation"]}
    assert found["student", "test"]["energy_outside_best"] == 25
    assert found["teacher", "one talker"]["surplus_outputs"] == 75
    assert found["student", "one talker"]["energy_outside_best_ci"] == [10, 10]
    assert ("mixture", "test") in found and ("mixture", "one talker") not in found


def test_over_separation_has_one_line_a_network(recipe, monkeypatch):
    """Rules and a beamformer make other streams of the same outputs."""
    systems = SYSTEMS.replace("student:", "teacher_oracle: {model: teacher, rule: oracle}\nstudent:")
    (recipe / "conf/systems.yaml").write_text(systems)
    write_scores(recipe / "exp/mini/scores", "teacher_oracle", utterances(3.0), n_outputs=2)
    results, page = report(monkeypatch)
    assert "teacher_oracle" in by_name(results)
    section = page.split("## Over-separation")[1].split("##")[0]
    names = re.findall(r"^\| (\w\S*) \| 4", section, re.M)
    assert names == "mixture teacher student student_ft supervised_small supervised_full oracle".split()
    assert (
        "| teacher | 4 | 2 | 2.00 | 0.0 [0.0, 0.0] | 25.0 [25.0, 25.0] | 20 | 2.00 | 75.0 [75.0, 75.0] |"
        in page
    )
    assert "| mixture | 4 | — | 2.00 | 0.0 [0.0, 0.0] | 25.0 [25.0, 25.0] | 20 | — | — | — | — |" in page


def test_one_microphone_lacks_nothing_that_needs_two(recipe, monkeypatch):
    merge = "teacher_spatial_merge: {model: teacher, rule: spatial_merge}\n"
    (recipe / "conf/systems.yaml").write_text(SYSTEMS.replace("student:", merge + "student:"))
    write_experiment(recipe / "exp/mini_1ch", channels=1, names=["student", "mixture"])
    results, _ = report(monkeypatch, "--exp", "exp/mini_1ch")
    missing = [(one["experiment"], one["system"]) for one in results["not_scored"]]
    assert [name for experiment, name in missing if experiment == "mini"] == [
        "ilrma",
        "teacher_spatial_merge",
    ]
    single = [name for experiment, name in missing if experiment == "mini_1ch"]
    assert single == "teacher_energy student_ft supervised_small supervised_full".split()


def test_what_does_not_exist_is_a_dash(recipe, monkeypatch):
    _, page = report(monkeypatch)
    line = next(line for line in page.splitlines() if line.startswith("| oracle | 4 | —"))
    assert line == "| oracle | 4 | — | — | — | 1.000 | 4.50 | — | — |"
    for section in ("## Words", "## Where the errors come from", "## SI-SNRi against cpWER"):
        assert section not in page
    for word in ("None", "nan", "inf"):
        assert not re.search(rf"\b{word}\b", page, re.I), word


def test_refusals_and_silence_are_counted_and_named(recipe, monkeypatch):
    rows = utterances(4.0)
    rows[3]["pesq"], rows[5]["pesq"] = [None, 3.0], [None, None]
    write_scores(recipe / "exp/mini/scores", "student", rows)
    rows = utterances(2.0)
    rows[7] |= {"silent": [0], "si_snr": [None, 2.0], "si_snri": [None, 2.0], "sdr": [None, 2.0]}
    write_scores(recipe / "exp/mini/scores", "teacher_energy", rows)
    results, page = report(monkeypatch)
    assert "PESQ gave no score of student (4 channels) in 2 utterances: u03, u05." in page
    assert "A stream is silent in teacher_energy (4 channels) in 1 utterance: u07" in page
    found = by_name(results)
    # the mean of what there is: the other talker of u03, nothing of u05
    assert found["student"]["pesq"] == pytest.approx((18 * 2.25 + 3) / 19, abs=1e-4)
    # minus infinity is no number to print, and no other stands for it
    assert found["teacher_energy"]["si_snri"] is None is found["teacher_energy"]["si_snri_ci"]
    assert not any(c["against"] == "teacher_energy" for c in results["comparisons"])


def test_every_number_of_the_page_comes_from_the_results(recipe, monkeypatch):
    """With 7777 for every number of the results, no table holds another one (7777 s = 129 min 37 s)."""
    results, page = report(monkeypatch, "--config", "conf/teacher.yaml")
    assert page.startswith(render_page(results, {}))
    replaced = json.loads(json.dumps(results), parse_float=lambda _: 7777.0, parse_int=lambda _: 7777)
    tables = render_page(replaced, {}).split("## Systems")[1]
    rows = [line for line in tables.splitlines() if line.startswith("|") and "95 %" not in line]
    found = set(re.findall(r"(?<![\w.])\d[\d.]*", " ".join(rows)))
    assert found == {"7777", "7777.0", "7777.00", "7777.000", "777700.0", "129", "37"}


def test_quick_runs_are_marked(recipe, monkeypatch):
    assert "mean nothing" not in report(monkeypatch)[1]
    results, page = report(monkeypatch, "--quick")
    assert results["quick"] is True and "its numbers mean nothing" in page.split("##")[0]


def test_configs_are_embedded(recipe, monkeypatch):
    page = report(monkeypatch)[1]
    assert (
        "<summary>conf/systems.yaml</summary>" in page and "```yaml\nmax_epoch: 7  # a comment\n```" in page
    )
    (recipe / "conf/size_full.sh").write_text("train_mixtures=1500\n")
    page = report(monkeypatch, "--config", "conf/teacher.yaml", "--config", "conf/size_full.sh")[1]
    assert "<summary>conf/systems.yaml</summary>" not in page and "max_epoch: 7" in page
    assert "<summary>conf/size_full.sh</summary>\n\n```sh\ntrain_mixtures=1500\n```" in page


def test_what_each_network_was_trained_with(recipe, monkeypatch):
    torch = pytest.importorskip("torch")
    model = recipe / "exp/mini/student_ft"
    model.mkdir()
    (model / "config.yaml").write_text(
        "separator: mask_net\nseparator_conf: {precision: auto}\nmax_epoch: 4\nnum_iters_per_epoch: 75\n"
        "optim_conf: {lr: 0.001}\ninit_param: ['exp/mini/student/valid.loss.ave.pth:a:a']\n"
        "train_data_path_and_name_and_type: [[data/mini/train_small/wav.scp, speech_mix, text]]\n"
        "valid_data_path_and_name_and_type: [[data/mini/dev_small/wav.scp, speech_mix, text]]\n"
    )
    torch.save({"a": torch.zeros(3, 4), "b": torch.zeros(5)}, model / "valid.loss.ave.pth")
    _, page = report(monkeypatch)
    expected = "student_ft | mask_net | train_small | dev_small | student | auto | 300 | 0.001 | 17 |"
    assert f"| mini | {expected}" in page
    # nothing is known of a network whose training is elsewhere, nothing is claimed
    assert "| mini | teacher | — | — | — | — | — | — | — | — |" in page
    (model / "config.yaml").write_text("init_param: []\nmax_epoch: 4\n")
    _, page = report(monkeypatch)
    assert "| mini | student_ft | — | — | — | scratch | — | — | — | 17 |" in page


def test_quality_of_pseudo_targets(recipe, monkeypatch):
    parts = {"2": {"n": 200, "si_snr": 3.0, "si_snri": 3.1}, "1": {"n": 100, "si_snr": 20.0, "si_snri": None}}
    quality = {"rule": "energy", "n_talkers": 2, "refine": "mvdr", "settings": {}}
    quality |= {"n": 300, "si_snr": 8.0, "si_snri": 4.125, "by_talkers": parts}
    options = []
    for experiment in ("mini", "mini_1ch"):
        path = recipe / f"data/{experiment}/train_pseudo/quality.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"model": f"exp/{experiment}/teacher", **quality}))
        options += ["--quality", str(path)]
    results, page = report(monkeypatch, *options)
    for experiment, found in zip(("mini", "mini_1ch"), results["pseudo_targets"], strict=True):
        where = {"experiment": experiment, "set": "train_pseudo", "model": f"exp/{experiment}/teacher"}
        assert found == {**where, **quality}
        assert f"| {experiment} | train_pseudo | energy+mvdr | all | 8.0 | 4.1 | 300 |" in page
        assert f"| {experiment} | train_pseudo | energy+mvdr | 1 | 20.0 | — | 100 |" in page


def test_learning_curves(recipe, monkeypatch):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    from frontend.report.plots import learning_curves

    for part, offset in (("train", 0.0), ("valid", 1.0)):
        with tensorboard.SummaryWriter(str(recipe / "exp/mini/teacher/tensorboard" / part)) as writer:
            for step in (10, 20, 30):
                writer.add_scalar("loss", offset - step, step)
    curves = learning_curves(recipe / "exp/mini")
    assert curves == {
        "teacher": {"train": [(10, -10), (20, -20), (30, -30)], "valid": [(10, -9), (20, -19), (30, -29)]}
    }
    page = report(monkeypatch)[1]
    first = (recipe / "out/curves.png").read_bytes()
    assert first.startswith(b"\x89PNG") and "](curves.png)" in page
    report(monkeypatch)
    assert (recipe / "out/curves.png").read_bytes() == first


def test_learning_curves_of_this_run_alone(recipe):
    """Not of a network moved aside; of an epoch that was cut off and made again, the second."""
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    from frontend.report.plots import learning_curves

    for name in ("teacher", "teacher.old"):
        for values in ([(1, 0.0), (2, -1.0), (3, -9.0)], [(2, -2.0), (3, -3.0), (4, -4.0)]):
            with tensorboard.SummaryWriter(str(recipe / "exp/mini" / name / "tensorboard/train")) as writer:
                for step, value in values:
                    writer.add_scalar("loss", value, step)
    assert learning_curves(recipe / "exp/mini") == {"teacher": {"train": [(1, 0), (2, -2), (3, -3), (4, -4)]}}


def test_no_curves_no_picture(recipe, monkeypatch):
    assert "curves.png" not in report(monkeypatch)[1] and not (recipe / "out/curves.png").exists()


def remove_stages(root):
    (root / "exp/mini/stages.json").unlink()
    return "exp/mini/stages.json: expected a file"


def remove_seed(root):
    (root / "exp/mini/stages.json").write_text('{"command": "x", "stages": {}}')
    return "expected 'seed', found command, stages"


def break_json(root):
    (root / "exp/mini/stages.json").write_text("{")
    return "stages.json:1: not JSON"


def remove_share(root):
    (root / "exp/mini/stages.json").write_text('{"command": "x", "seed": 1, "stages": {}}')
    return "expected 'label_share'"


def remove_scores(root):
    for path in (root / "exp/mini/scores").glob("*.json*"):
        path.unlink()
    return "exp/mini/scores: no score"


def cut_score(root):
    path = root / "exp/mini/scores/student.jsonl"
    path.write_text(path.read_text()[:-20])
    return "student.jsonl: not a complete score"


def other_utterances(root):
    path = root / "exp/mini/scores/student.jsonl"
    path.write_text(path.read_text().replace("u19", "v19"))
    return "scored on different utterances"


def unknown_system(root):
    (root / "conf/systems.yaml").write_text("student: {model: student, ruel: energy}\n")
    return "unknown key 'ruel'"


BREAK = [remove_stages, remove_seed, break_json, remove_share, remove_scores, cut_score, other_utterances]


@pytest.mark.parametrize("damage", [*BREAK, unknown_system])
def test_bad_input_is_one_line_and_writes_nothing(recipe, monkeypatch, capsys, damage):
    expected = damage(recipe)
    report(monkeypatch, expect=2)
    error = capsys.readouterr().err
    assert error.startswith("mixit report: error: ") and error.count("\n") == 1 and expected in error
    assert not (recipe / "out").exists()


# --- in the terminal


def test_the_table_is_printed(recipe, monkeypatch, capsys):
    _, page = report(monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    rows = lines[: 1 + len(GAINS) + 1]
    assert rows[0].split()[:3] == ["system", "channels", "labels"] and len({len(row) for row in rows}) == 1
    assert [row.split()[0] for row in rows[1:]] == [*GAINS, "oracle"]
    low, high = by_name(json.loads(Path("out/results.json").read_text()))["student_ft"]["si_snri_ci"]
    cells = f"student_ft 4 4.0 % 5.0 [{low:.1f}, {high:.1f}] 5.0 0.850 2.25 - 0.040"
    assert " ".join(rows[5].split()) == cells
    assert rows[-1].split() == "oracle 4 - - - 1.000 4.50 - -".split()
    assert lines[-1].endswith("out/RESULTS.md") and "mean nothing" not in lines[-1]
    report(monkeypatch, "--quick")
    assert "its numbers mean nothing" in capsys.readouterr().out


def test_a_report_is_shown_without_making_it(recipe, monkeypatch, capsys):
    report(monkeypatch)
    made = capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    code = (
        "import sys; from frontend.cli import main\ntry: main(['report', '--show', 'out'])\nexcept SystemExit: pass\n"
    )
    code += (
        "heavy = {'torch', 'numpy', 'espnet2'} & set(sys.modules); assert not heavy, heavy"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(frontend.__file__).parents[1])}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (shown.returncode, shown.stdout) == (0, made), shown.stderr
    assert before == {path: path.stat().st_mtime_ns for path in Path("out").iterdir()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--show", "exp"], "exp/results.json: expected a file"),
        (["--show", "out", "--out", "out"], "--out is not expected with --show"),
        (["--exp", "exp/mini", "--out", "out"], "--systems: expected a value"),
    ],
)
def test_show_or_make(recipe, monkeypatch, capsys, options, message):
    assert exit_code("report", *options) == 2 and message in capsys.readouterr().err


def test_numbers_are_written_one_way():
    assert [number(v) for v in (-0.04, 0.05, None, 12.34)] == ["0.0", "0.1", "—", "12.3"]


def test_the_commit_is_the_one_of_the_stages():
    assert stage_commits({}) == {}
    assert stage_commits({"commits": {"data": "", "teacher": ""}}) == {}
    assert stage_commits({"commits": {"data": "abc", "teacher": "abc"}}) == {"commit": "abc"}
    mixed = {"commits": {"data": "abc", "teacher": "def+changes", "score": "abc"}}
    assert stage_commits(mixed) == {"commit": "abc (data score), def+changes (teacher)"}
