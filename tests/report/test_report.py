"""The report of experiments, made by the real command from scores and word errors written by hand."""

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from commands import exit_code
from report_files import (
    COMMON,
    DIFFICULTY,
    ERRORS,
    GAINS,
    SYSTEMS,
    N,
    by_name,
    make_recipe,
    report,
    utterances,
    write_experiment,
    write_scores,
    write_words,
)

import frontend.evaluation.intervals as intervals
import frontend.report.listening as listening
from frontend.report.collect import training_facts
from frontend.report.pages import render, results_table
from frontend.report.plots import learning_curves, plot_curves, plot_words
from frontend.utils.provenance import stage_commits

KEYS = (
    "system channels si_snr si_snri si_snri_ci sdr stoi pesq over_separation cpwer cpwer_ci "
    "insertions deletions substitutions words cpcer cpcer_ci orcwer orcwer_ci "
    "cpwer_separated cpwer_separated_ci rtf n"
).split()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A report, made once: its directory, results and page; only to be read."""
    root = make_recipe(tmp_path_factory.mktemp("recipe"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        results, page = report()
    return SimpleNamespace(root=root, results=results, page=page, rows=by_name(results))


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe to change; intervals of few resamples, which nothing here looks at."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(intervals, "RESAMPLES", 200)
    return make_recipe(tmp_path)


def percent(name):
    return 10 * (ERRORS[name] + 0.5)


def section(page, title):
    return page.split(f"## {title}\n")[1].split("\n## ")[0]


# --- one experiment


def test_results_keep_the_contract(made):
    results = made.results
    for key in ("command", "date", "commit", "versions", "machine", "seed", "stages", "rows", "configs"):
        assert key in results
    assert (results["command"], results["seed"]) == ("./run.sh --seed 3", 3)
    assert results["stages"] == {"data": 12.5, "teacher": 200.0}
    assert {"python", "numpy"} <= results["versions"].keys() and results["machine"]
    labelled = {"student_ft": 0.04, "supervised_small": 0.04, "supervised_full": 1.0}
    assert list(made.rows)[-2:] == ["oracle", "dry"]
    for row in results["rows"]:
        share = labelled.get(row["system"])
        assert list(row) == [*KEYS, *(["label_share"] if share else [])]
        assert row.get("label_share") == share
        assert row["n"] == N and row["channels"] == 4


def test_means_and_intervals(made):
    rows = made.rows
    for name, gain in GAINS.items():
        assert rows[name]["si_snri"] == rows[name]["sdr"] == pytest.approx(gain, abs=1e-4)
        low, high = rows[name]["si_snri_ci"]
        assert high - low == pytest.approx(2 * 1.96 * DIFFICULTY.std() / N**0.5, rel=0.1)
        assert (rows[name]["stoi"], rows[name]["pesq"]) == (0.85, 2.25)
        assert rows[name]["over_separation"] == 25
    assert rows["student"]["rtf"] == 0.04 and rows["mixture"]["rtf"] is None
    for name in ("oracle", "dry"):
        assert {rows[name][key] for key in ("si_snr", "si_snri", "si_snri_ci", "sdr")} == {None}
    assert rows["oracle"]["stoi"] == 1.0 and rows["dry"]["stoi"] is None
    spread = 2 * 1.96 * 10 * COMMON.std() / N**0.5
    for name in ERRORS:
        row = rows[name]
        assert row["cpwer"] == row["deletions"] == percent(name) and row["words"] == 10 * N
        assert row["insertions"] == row["substitutions"] == 0
        assert row["cpwer_ci"][1] - row["cpwer_ci"][0] == pytest.approx(spread, rel=0.2)
        assert row["cpcer"] == row["cpwer"] / 2
        assert row["orcwer"] is None is row["cpwer_separated"]


def test_the_table_shows_both_halves(made):
    low, high = made.rows["student"]["cpwer_ci"]
    half = "[{:.1f}, {:.1f}]".format(*made.rows["student"]["cpcer_ci"])
    cell = f"35.0 [{low:.1f}, {high:.1f}] (0.0/35.0/0.0) | 17.5 {half}"
    assert re.search(rf"^\| student \| 4 .*\| {re.escape(cell)} \| 0.040 \|$", made.page, re.M)
    assert "cpWER % [95 %] (ins/del/sub) | cpCER % [95 %]" in made.page and "| ORC-WER %" not in made.page
    low, high = made.rows["dry"]["cpwer_ci"]
    assert f"| dry | 4 | — | — | — | — | — | 5.0 [{low:.1f}, {high:.1f}] (0.0/5.0/0.0) |" in made.page
    assert "- &lt;tags> go\n" in made.page  # the rules are read as text
    for word in ("None", "nan", "inf"):
        assert not re.search(rf"\b{word}\b", made.page, re.I), word


def test_comparisons_are_paired(made):
    found = {(c["system"], c["against"], c["what"]): c for c in made.results["comparisons"]}
    for a, b in (
        ("student", "teacher_energy"),
        ("student_ft", "student"),
        ("student_ft", "supervised_small"),
    ):
        # the difficulty is common to both: no spread is left
        one, words = (found[a, b, f"{measure}_difference"] for measure in ("si_snri", "cpwer"))
        assert one["value"] == pytest.approx(GAINS[a] - GAINS[b], abs=1e-4)
        assert one["ci"] == pytest.approx([one["value"]] * 2, abs=1e-4)
        assert words["value"] == 10 * (ERRORS[a] - ERRORS[b]) and words["ci"] == [words["value"]] * 2
    share = found["student_ft", "supervised_full", "si_snri_percent"]
    assert share["value"] == pytest.approx(100 * 5 / 5.5, abs=1e-3)
    assert share["ci"][0] < share["value"] < share["ci"][1]
    outside = found["teacher_energy", "student", "energy_outside_best_difference"]
    surplus = found["teacher_energy", "student", "surplus_outputs_difference"]
    assert (outside["value"], surplus["value"]) == pytest.approx((50, 75))
    page = made.page
    assert "| student − teacher_energy | 4 | 2.00 [2.00, 2.00] | -30.00 [-30.00, -30.00] | 20 |" in page
    assert "| student − mixture | 4 | — | -50.00 [-50.00, -50.00] | 20 |" in page
    assert "| student+mvdr − student | 4 | 0.50 [0.50, 0.50] | 10.00 [10.00, 10.00] | 20 |" in page
    assert "| student_ft / supervised_full | 4 | SI-SNRi, % | 90.9 [" in page
    assert not {"ilrma", "distilled"} & {name for key in found for name in key}


def test_over_separation_of_both_sets(made):
    found = {(o["system"], o["set"]): o for o in made.results["over_separation"]}
    assert found["student", "test"]["energy_outside_best"] == 25
    assert found["teacher", "one talker"]["surplus_outputs"] == 75
    assert found["student", "one talker"]["energy_outside_best_ci"] == [10, 10]
    assert ("mixture", "test") in found and ("mixture", "one talker") not in found
    line = "2.00 | 0.0 [0.0, 0.0] | 25.0 [25.0, 25.0] | 20"
    assert f"| teacher | 4 | 2 | {line} | 2.00 | 75.0 [75.0, 75.0] |" in made.page
    assert f"| mixture | 4 | — | {line} | — | — | — | — |" in made.page


def test_where_the_errors_come_from(made):
    found = {one["system"]: one for one in made.results["error_sources"]}
    assert (found["dry"]["what"], found["dry"]["value"]) == ("recogniser", 5)
    oracle = found["oracle"]
    assert (oracle["what"], oracle["value"], oracle["ci"]) == ("rooms", 10, [10, 10])
    for name in ("student", "mixture"):
        one, more = found[name], 10 * (ERRORS[name] - ERRORS["oracle"])
        assert (one["what"], one["value"], one["ci"]) == ("separation", more, [more, more])
        assert one["share"] == pytest.approx(100 * more / percent(name), abs=1e-3)
        # the number of common errors, the only one that varies, is in the denominator
        low, high = (100 * more / (10 * ERRORS[name] + 10 * share) for share in (0.5 + 0.22, 0.5 - 0.22))
        assert one["share_ci"] == pytest.approx([low, high], rel=0.02)
    # the three parts are all there is
    assert sum(found[name]["value"] for name in ("dry", "oracle", "student")) == made.rows["student"]["cpwer"]
    # of ten utterances with an error an interval would not be sure to exist
    assert found["dry"]["share_ci"] is None
    assert "| student | separation: beyond the images | 4 | 20.0 [20.0, 20.0] | 57.1 [" in made.page


def test_order_of_the_systems(made):
    (found,) = made.results["order"]
    assert found["systems"] == list(GAINS) and found["channels"] == 4
    # Kendall's tau-b, pair by pair: student_ft and supervised_full have the same word errors
    signs = [
        np.sign(GAINS[a] - GAINS[b]) * np.sign(ERRORS[b] - ERRORS[a])
        for a, b in itertools.combinations(GAINS, 2)
    ]
    assert found["kendall"] == pytest.approx(sum(signs) / (len(signs) * (len(signs) - 1)) ** 0.5, abs=1e-4)
    assert f"| 4 | 7 | {found['kendall']:.2f} | {found['spearman']:.2f} |" in made.page


def test_every_number_of_the_page_comes_from_the_results(made):
    """With 7777 for every number of the results, no table holds another one (7777 s = 129 min 37 s)."""
    assert made.page == render("results.md.j2", results=made.results)
    replaced = json.loads(json.dumps(made.results), parse_float=lambda _: 7777.0, parse_int=lambda _: 7777)
    tables = render("results.md.j2", results=replaced | {"configs": {}}).split("## Systems")[1]
    rows = [line for line in tables.splitlines() if line.startswith("|") and "95 %" not in line]
    found = set(re.findall(r"(?<![\w.])\d[\d.]*", " ".join(rows)))
    count = str(len(GAINS))
    assert found == {"7777", "7777.0", "7777.00", "7777.000", "777700.0", "129", "37", count}


def test_columns_without_a_value_are_left_out(made):
    rows = [row | {"cpcer": None} for row in made.results["rows"]]
    assert "cpCER %" not in section(render("results.md.j2", results=made.results | {"rows": rows}), "Systems")


def test_the_pictures(made, tmp_path):
    assert f"]({made.results['pictures']['words']})" in made.page and "curves.png" not in made.page
    first = (made.root / "out/cpwer_sisnri.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    rows = made.results["rows"]
    for expected, drawn in ((True, rows), (False, [row | {"cpwer": 9.0} for row in rows])):
        assert plot_words(drawn, tmp_path / "again.png")
        assert ((tmp_path / "again.png").read_bytes() == first) == expected
    assert not plot_words([row | {"cpwer": None} for row in rows], tmp_path / "none.png")


# --- several experiments, and what is missing


def test_several_experiments_share_a_table(recipe):
    """Rows in the order of the systems file; one microphone lacks nothing that needs two.

    The file is that of the last run, whose microphones are not those of all.
    """
    merge = "teacher_spatial_merge: {model: teacher, rule: spatial_merge}\nany_array: {model: any_array}\n"
    systems = "microphones: 1\n" + SYSTEMS.replace("student:", merge + "student:")
    (recipe / "conf/systems.yaml").write_text(systems)
    (recipe / "conf/sizes.yaml").write_text("full: {}\n")
    write_experiment(recipe / "exp/mini_1ch", channels=1, names=["student", "mixture"])
    quality, options = write_quality(recipe)
    options += ["--config", "conf/teacher.yaml", "--config", "conf/sizes.yaml"]
    results, page = report("--exp", "exp/mini_1ch", "--quick", *options)

    order = [line.split(":")[0] for line in systems.splitlines()]
    found = [(row["system"], row["channels"]) for row in results["rows"]]
    expected = [(name, channels) for name in [*order, "dry"] for channels in (4, 1)]
    assert found == [pair for pair in expected if pair in found] and ("student", 1) in found
    in_page = re.findall(r"^\| (\S+) \| (\d) \|", section(page, "Systems"), re.M)
    assert [(name, int(channels)) for name, channels in in_page] == found
    assert "mini_1ch/teacher" in results["stages"]
    missing = {"mini": [], "mini_1ch": []}
    for one in results["not_scored"]:
        missing[one["experiment"]].append(one["system"])
    assert missing["mini"] == ["ilrma", "teacher_spatial_merge", "any_array"]
    assert missing["mini_1ch"] == "teacher_energy student_ft supervised_small supervised_full".split()
    assert "- Not scored: ilrma (mini), teacher_spatial_merge (mini), any_array (mini), " in page

    for experiment, one in zip(("mini", "mini_1ch"), results["pseudo_targets"], strict=True):
        assert (
            one
            == {"experiment": experiment, "set": "train_pseudo", "model": f"exp/{experiment}/teacher"}
            | quality
        )
        assert f"| {experiment} | train_pseudo | energy+mvdr | all | 8.0 | 4.1 | 300 |" in page
        assert f"| {experiment} | train_pseudo | energy+mvdr | 1 | 20.0 | — | 100 |" in page
    assert results["quick"] is True and "its numbers mean nothing" in page.split("##")[0]
    assert (
        "```yaml\nmax_epoch: 7  # a comment\n```" in page
        and "<summary>conf/systems.yaml</summary>" not in page
    )
    assert "<summary>conf/sizes.yaml</summary>\n\n```yaml\nfull: {}\n```" in page


def write_quality(root):
    parts = {"2": {"n": 200, "si_snr": 3.0, "si_snri": 3.1}, "1": {"n": 100, "si_snr": 20.0, "si_snri": None}}
    quality = {"rule": "energy", "n_talkers": 2, "refine": "mvdr", "settings": {}}
    quality |= {"n": 300, "si_snr": 8.0, "si_snri": 4.125, "by_talkers": parts}
    options = []
    for experiment in ("mini", "mini_1ch"):
        path = root / f"data/{experiment}/train_pseudo/quality.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"model": f"exp/{experiment}/teacher", **quality}))
        options += ["--quality", str(path)]
    return quality, options


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("fs", 16000, "16000 Hz, expected 8000"), ("talkers", 3, "3 talkers, expected 2")],
)
def test_what_differs_in_more_than_microphones_shares_no_table(recipe, capsys, key, value, message):
    write_experiment(recipe / "exp/mini_2ch", channels=2)
    for path in (recipe / "exp/mini_2ch/scores").glob("*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    report("--exp", "exp/mini_2ch", expect=2)
    assert f"exp/mini_2ch/scores: of a test set of {message} as in exp/mini/scores" in capsys.readouterr().err


def test_without_words_half_a_page(tmp_path, monkeypatch, capsys):
    """Also: refusals and silence are counted and named, and what does not exist is a dash."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(intervals, "RESAMPLES", 200)
    make_recipe(tmp_path, words=False)
    rows = utterances(4.0)
    rows[3]["pesq"], rows[5]["pesq"] = [None, 3.0], [None, None]
    write_scores(tmp_path / "exp/mini/scores", "student", rows)
    rows = utterances(2.0)
    rows[7] |= {"silent": [0], "si_snr": [None, 2.0], "si_snri": [None, 2.0], "sdr": [None, 2.0]}
    write_scores(tmp_path / "exp/mini/scores", "teacher_energy", rows)
    results, page = report()
    found = by_name(results)
    assert {row[key] for row in found.values() for key in KEYS[KEYS.index("cpwer") : KEYS.index("rtf")]} == {
        None
    }
    for title in ("## Words", "## Where the errors come from", "## SI-SNRi against cpWER"):
        assert title not in page
    assert "| oracle | 4 | — | — | — | 1.000 | 4.50 | — | — |\n" in page
    assert "PESQ gave no score of student (4 channels) in 2 utterances: u03, u05." in page
    assert "- A stream of teacher_energy (4 channels) is silent" in page and "1 utterance: u07." in page
    # the mean of what there is: the other talker of u03, nothing of u05
    assert found["student"]["pesq"] == pytest.approx((18 * 2.25 + 3) / 19, abs=1e-4)
    # minus infinity is no number to print, and no other stands for it
    assert found["teacher_energy"]["si_snri"] is None is found["teacher_energy"]["si_snri_ci"]
    assert not any(c["against"] == "teacher_energy" for c in results["comparisons"])

    lines = capsys.readouterr().out.splitlines()
    table = lines[: 1 + len(GAINS) + 1]
    assert table[0].split()[:3] == ["system", "channels", "labels"] and len({len(row) for row in table}) == 1
    assert [row.split()[0] for row in table[1:]] == [*GAINS, "oracle"]
    assert " ".join(table[-1].split()) == "oracle 4 - - - 1.000 4.50 - -"
    assert lines[-1].endswith("out/RESULTS.md")


@pytest.mark.parametrize(
    ("channels", "missing"), [("2-8", ["ilrma", "any_array"]), ("1-8", []), ("2-9", ["ilrma"])]
)
def test_mixtures_may_differ_in_their_microphones(recipe, channels, missing):
    """A system is missing if it takes the fewest and the most of them."""
    (recipe / "conf/systems.yaml").write_text(f"{SYSTEMS}any_array: {{model: any_array}}\n")
    write_experiment(recipe / "exp/mini", channels)
    results, page = report()
    assert [one["system"] for one in results["not_scored"]] == missing
    assert f"| student | {channels} |" in page


def test_what_only_some_systems_have(recipe):
    """More streams than talkers, a second recogniser, one of its own, no words, one network twice."""
    more = "teacher_outputs: {model: teacher}\nteacher_oracle: {model: teacher, rule: oracle}\n"
    systems = SYSTEMS.replace(
        "oracle:", f"{more}joint: {{model: joint, labels: small, asr: joint/asr}}\noracle:"
    )
    (recipe / "conf/systems.yaml").write_text(systems)
    scores, words = recipe / "exp/mini/scores", recipe / "exp/mini/wer"
    write_words(words, "teacher_outputs", 7 + COMMON, orc=6, streams=4)
    write_scores(scores, "teacher_outputs", utterances(3.0), n_outputs=4)
    write_scores(scores, "teacher_oracle", utterances(3.0), n_outputs=2)
    write_words(words, "joint", COMMON, asr="exp/x/joint/asr", asr_fingerprint="def")
    write_scores(scores, "joint", utterances(3.5))
    write_words(recipe / "exp/mini/wer_separated", "student", np.full(N, 2))
    (recipe / "exp/mini/asr_separated").mkdir()
    for kind in ("json", "jsonl"):
        (words / f"student_ft.{kind}").unlink()
    results, page = report()
    rows = by_name(results)
    assert (rows["teacher_outputs"]["orcwer"], rows["teacher_outputs"]["orcwer_ci"]) == (60, [60, 60])
    assert (rows["student"]["cpwer_separated"], rows["student"]["cpwer_separated_ci"]) == (20, [20, 20])
    assert rows["student"]["orcwer"] is None is rows["mixture"]["cpwer_separated"]
    header = "| cpWER % [95 %] (ins/del/sub) | cpCER % [95 %] | ORC-WER % [95 %] | "
    header += "cpWER %, recogniser trained on streams [95 %] |"
    assert header in page and "| — | 20.0 [20.0, 20.0] | 0.040 |" in page
    # Surplus streams cost words but no SI-SNRi; another recogniser is no measure of the separation.
    assert not {"teacher_outputs", "joint", "student_ft"} & {*results["order"][0]["systems"]}
    assert "joint" not in [one["system"] for one in results["error_sources"]]
    assert "recognised by `exp/x/asr`; joint by `exp/x/joint/asr`" in page
    assert rows["student_ft"]["cpwer"] is None and "student_ft (mini)" in page.split("- Not recognised: ")[1]
    # Rules make other streams of the same outputs: one line a network.
    names = re.findall(r"^\| (\w\S*) \| 4", section(page, "Over-separation"), re.M)
    assert names == "mixture teacher student student_ft supervised_small supervised_full joint oracle".split()


# --- trainings


def test_what_each_network_was_trained_with(made, tmp_path):
    torch = pytest.importorskip("torch")
    model = tmp_path / "student_ft"
    model.mkdir()
    (model / "config.yaml").write_text(
        "separator: mask_net\nseparator_conf: {precision: auto}\nmax_epoch: 4\nnum_iters_per_epoch: 75\n"
        "optim_conf: {lr: 0.001}\ninit_param: ['exp/mini/student/valid.loss.ave.pth:a:a']\n"
        "train_data_path_and_name_and_type: [[data/mini/train_small/wav.scp, speech_mix, text]]\n"
        "valid_data_path_and_name_and_type: [[data/mini/dev_small/wav.scp, speech_mix, text]]\n"
    )
    torch.save({"a": torch.zeros(3, 4), "b": torch.zeros(5)}, model / "valid.loss.ave.pth")
    first = {"experiment": "mini", **training_facts(model)}
    (model / "config.yaml").write_text("init_param: []\nmax_epoch: 4\n")
    second = {"experiment": "mini", **training_facts(model)}
    page = render("results.md.j2", results=made.results | {"networks": [first, second]})
    known = "student_ft | mask_net | train_small | dev_small | student | auto | 300 | 0.001 | 17 |"
    assert f"| mini | {known}" in page
    assert "| mini | student_ft | — | — | — | scratch | — | — | — | 17 |" in page
    # nothing is known of a network whose training is elsewhere, nothing is claimed
    assert "| mini | teacher | — | — | — | — | — | — | — | — |" in made.page


def test_learning_curves_of_this_run_alone(tmp_path):
    """Not of a network moved aside; of an epoch that was cut off and made again, the second."""
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    for name in ("teacher", "teacher.old"):
        for values in ([(1, 0.0), (2, -1.0), (3, -9.0)], [(2, -2.0), (3, -3.0), (4, -4.0)]):
            with tensorboard.SummaryWriter(str(tmp_path / name / "tensorboard/train")) as writer:
                for step, value in values:
                    writer.add_scalar("loss", value, step)
    curves = learning_curves(tmp_path)
    assert curves == {"teacher": {"train": [(1, 0), (2, -2), (3, -3), (4, -4)]}}
    for k in range(2):
        plot_curves(curves, tmp_path / f"{k}.png")
    first = (tmp_path / "0.png").read_bytes()
    assert first.startswith(b"\x89PNG") and (tmp_path / "1.png").read_bytes() == first


def test_the_commit_is_the_one_of_the_stages():
    assert stage_commits({}) == {}
    assert stage_commits({"commits": {"data": "", "teacher": ""}}) == {}
    assert stage_commits({"commits": {"data": "abc", "teacher": "abc"}}) == {"commit": "abc"}
    mixed = {"commits": {"data": "abc", "teacher": "def+changes", "score": "abc"}}
    assert stage_commits(mixed) == {"commit": "abc (data score), def+changes (teacher)"}


# --- mistakes


def rewrite(path, old, new=""):
    """Return a damage: text of a file replaced, or its end cut off."""

    def damage(root):
        text = (root / path).read_text()
        (root / path).write_text(text.replace(old, new) if old else text[:-20])

    return damage


def remove(pattern):
    return lambda root: [path.unlink() for path in root.glob(pattern)]


def other_words(root):
    for path in (root / "exp/mini/wer").glob("*.jsonl"):
        path.write_text(path.read_text().replace("u19", "v19"))


STAGES, SCORE, WORDS = "exp/mini/stages.json", "exp/mini/scores/student.jsonl", "exp/mini/wer/student.jsonl"
DAMAGES = {
    "exp/mini/stages.json: expected a file": remove(STAGES),
    "expected 'seed', found command, ": rewrite(STAGES, '"seed"', '"sead"'),
    "stages.json:1: not JSON": rewrite(STAGES, "}"),
    "expected 'label_share'": rewrite(STAGES, "label_share", "share"),
    "exp/mini/scores: no score": remove("exp/mini/scores/*.json*"),
    "student.jsonl: not a complete score": rewrite(SCORE, ""),
    "scored on different utterances": rewrite(SCORE, "u19", "v19"),
    "unknown key 'ruel'": rewrite("conf/systems.yaml", "rule", "ruel"),
    "student.jsonl: not a complete wer": rewrite(WORDS, ""),
    "counted on different utterances": rewrite(WORDS, "u19", "v19"),
    "word errors and scores are of different utterances": other_words,
}


@pytest.mark.parametrize("message", DAMAGES)
def test_bad_input_is_one_line_and_writes_nothing(recipe, capsys, message):
    DAMAGES[message](recipe)
    report(expect=2)
    error = capsys.readouterr().err
    assert error.startswith("mixit report: error: ") and error.count("\n") == 1 and message in error
    assert not (recipe / "out").exists()


# --- other ways to use the command


def test_a_report_is_shown_without_making_it(made):
    before = {path: path.stat().st_mtime_ns for path in (made.root / "out").iterdir()}
    code = "import sys; from frontend.cli import main\ntry: main(['report', '--show', 'out'])\n"
    code += "except SystemExit: pass\nheavy = {'torch', 'numpy', 'espnet2'} & set(sys.modules)\n"
    code += "assert not heavy, heavy"
    root = Path(__file__).resolve().parents[2]
    found = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r}); {code}"],
        cwd=made.root, capture_output=True, text=True,
    )  # fmt: skip
    shown = results_table(made.root / "out").replace(f"{made.root}/", "")
    assert (found.returncode, found.stdout) == (0, shown + "\n"), found.stderr
    assert before == {path: path.stat().st_mtime_ns for path in (made.root / "out").iterdir()}
    low, high = made.rows["student_ft"]["si_snri_ci"]
    words = "[{:.1f}, {:.1f}]".format(*made.rows["student_ft"]["cpwer_ci"])
    line = next(line for line in found.stdout.splitlines() if line.startswith("student_ft "))
    assert (
        " ".join(line.split())
        == f"student_ft 4 4.0 % 5.0 [{low:.1f}, {high:.1f}] 5.0 0.850 2.25 25.0 {words} 0.040"
    )


def test_a_page_is_made_again_from_its_json(made, tmp_path, capsys):
    assert exit_code("report", "--from", made.root / "out/results.json", "--out", tmp_path) == 0
    assert capsys.readouterr().out == f"{tmp_path}/RESULTS.md\n"
    assert (tmp_path / "RESULTS.md").read_text() == made.page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--show", "exp"], "exp/results.json: expected a file"),
        (["--show", "out", "--systems", "x"], "--systems"),
        (["--exp", "exp/mini", "--out", "out"], "--systems: expected a value"),
        (["--from", "exp/mini/stages.json"], "stages.json: expected one of results.json"),
    ],
)
def test_bad_options(recipe, capsys, options, message):
    assert exit_code("report", *options) == 2 and message in capsys.readouterr().err


def test_the_page_to_listen_to_shows_the_pictures(recipe, monkeypatch, capsys):
    """Of the first experiment, where it is asked for."""
    asked = []
    monkeypatch.setattr(
        listening, "write_listening_page", lambda *given: asked.append(given) or Path("x.html")
    )
    results, _ = report("--listen", "exp/mini/report")
    ((out, given, experiment, systems, place),) = asked
    assert (out, given, experiment) == (Path("exp/mini/report"), results, Path("exp/mini"))
    assert [one.name for one in systems] == [line.split(":")[0] for line in SYSTEMS.splitlines()]
    assert given["pictures"] == {"words": "cpwer_sisnri.png"} and place == Path("out")
    assert "To listen to: x.html" in capsys.readouterr().out
