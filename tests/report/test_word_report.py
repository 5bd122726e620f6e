"""The half of the report that tells of words, made from scores and word errors written by hand."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from report_files import (
    DIFFICULTY,
    GAINS,
    SYSTEMS,
    N,
    by_name,
    make_recipe,
    report,
    utterances,
    write_scores,
    write_words,
)

import frontend.report.listening as listen
from frontend.report.pages import render_page

# Errors in ten words beyond those that every system has in an utterance: 0 in the even ones, 1 in the odd.
ERRORS = {
    "mixture": 8,
    "teacher_energy": 6,
    "student": 3,
    "student+mvdr": 4,  # worse than student, whose SI-SNRi is lower: a contradiction
    "student_ft": 2,
    "supervised_small": 5,
    "supervised_full": 2,
    "oracle": 1,
    "dry": 0,
}
COMMON = np.arange(N) % 2


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    directory = make_recipe(tmp_path, monkeypatch)
    for name, errors in ERRORS.items():
        write_words(directory / "exp/mini/wer", name, errors + COMMON)
    return directory


def percent(name):
    return 10 * (ERRORS[name] + 0.5)


def test_rows_have_both_halves(recipe, monkeypatch):
    results, page = report(monkeypatch)
    rows = by_name(results)
    assert list(rows)[-2:] == ["oracle", "dry"]
    spread = 2 * 1.96 * 10 * COMMON.std() / N**0.5
    for name in ERRORS:
        row = rows[name]
        assert row["cpwer"] == row["deletions"] == percent(name) and row["words"] == 10 * N
        assert row["insertions"] == row["substitutions"] == 0
        assert row["cpwer_ci"][1] - row["cpwer_ci"][0] == pytest.approx(spread, rel=0.2)
        assert row["cpcer"] == row["cpwer"] / 2
        assert row["orcwer"] is None is row["cpwer_separated"]
    dry = rows["dry"]
    assert dry["si_snri"] is None is dry["stoi"] and (dry["n"], dry["channels"]) == (N, 4)
    low, high = rows["student"]["cpwer_ci"]
    half = "[{:.1f}, {:.1f}]".format(*rows["student"]["cpcer_ci"])
    cell = f"35.0 [{low:.1f}, {high:.1f}] (0.0/35.0/0.0) | 17.5 {half}"
    assert re.search(rf"^\| student \| 4 .*\| {re.escape(cell)} \| 0.040 \|$", page, re.M)
    assert "cpWER % [95 %] (ins/del/sub) | cpCER % [95 %]" in page and "| ORC-WER %" not in page


def test_counts_older_than_characters(recipe, monkeypatch):
    for path in (recipe / "exp/mini/wer").glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row.pop("characters", None)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    results, page = report(monkeypatch)
    assert by_name(results)["student"]["cpcer"] is None and "cpCER %" not in page


def test_columns_that_only_some_runs_have(recipe, monkeypatch):
    """More streams than talkers, a second recogniser."""
    systems = SYSTEMS.replace("oracle:", "teacher_outputs: {model: teacher}\noracle:")
    (recipe / "conf/systems.yaml").write_text(systems)
    write_words(recipe / "exp/mini/wer", "teacher_outputs", 7 + COMMON, orc=6, streams=4)
    write_scores(recipe / "exp/mini/scores", "teacher_outputs", utterances(3.0), n_outputs=4)
    write_words(recipe / "exp/mini/wer_separated", "student", np.full(N, 2))
    (recipe / "exp/mini/asr_separated").mkdir()
    results, page = report(monkeypatch)
    rows = by_name(results)
    assert (rows["teacher_outputs"]["orcwer"], rows["teacher_outputs"]["orcwer_ci"]) == (60, [60, 60])
    assert (rows["student"]["cpwer_separated"], rows["student"]["cpwer_separated_ci"]) == (20, [20, 20])
    assert rows["student"]["orcwer"] is None is rows["mixture"]["cpwer_separated"]
    header = "| cpWER % [95 %] (ins/del/sub) | cpCER % [95 %] | ORC-WER % [95 %] | "
    header += "cpWER %, recogniser trained on streams [95 %] |"
    assert header in page and "| — | 20.0 [20.0, 20.0] | 0.040 |" in page
    # surplus streams cost words and no SI-SNR: no order, but a row, a point and errors of its own
    assert "teacher_outputs" not in results["order"][0]["systems"]


def test_differences_stand_beside_each_other(recipe, monkeypatch):
    results, page = report(monkeypatch)
    found = {(c["system"], c["against"], c["what"]): c for c in results["comparisons"]}
    for a, b in (("student", "teacher_energy"), ("student_ft", "student"), ("student", "mixture")):
        one = found[a, b, "cpwer_difference"]
        # what all systems have in common leaves no spread
        assert one["value"] == 10 * (ERRORS[a] - ERRORS[b]) and one["ci"] == [one["value"]] * 2
        assert (one["channels"], one["n"]) == (4, N)
    assert "| student − teacher_energy | 4 | 2.00 [2.00, 2.00] | -30.00 [-30.00, -30.00] | 20 |" in page
    assert "| student − mixture | 4 | — | -50.00 [-50.00, -50.00] | 20 |" in page
    assert "| student+mvdr − student | 4 | 0.50 [0.50, 0.50] | 10.00 [10.00, 10.00] | 20 |" in page


def test_where_the_errors_come_from(recipe, monkeypatch):
    results, page = report(monkeypatch)
    found = {one["system"]: one for one in results["error_sources"]}
    assert (found["dry"]["what"], found["dry"]["value"]) == ("recogniser", 5)
    assert (found["oracle"]["what"], found["oracle"]["value"], found["oracle"]["ci"]) == (
        "rooms",
        10,
        [10, 10],
    )
    for name in ("student", "mixture"):
        one, more = found[name], 10 * (ERRORS[name] - ERRORS["oracle"])
        assert (one["what"], one["value"], one["ci"]) == ("separation", more, [more, more])
        assert one["share"] == pytest.approx(100 * more / percent(name), abs=1e-3)
        # the number of common errors, the only one that varies, is in the denominator
        low, high = (100 * more / (10 * ERRORS[name] + 10 * share) for share in (0.5 + 0.22, 0.5 - 0.22))
        assert one["share_ci"] == pytest.approx([low, high], rel=0.02)
    # the three parts are all there is
    parts = [found[name]["value"] for name in ("dry", "oracle", "student")]
    assert sum(parts) == by_name(results)["student"]["cpwer"]
    # of ten utterances with an error an interval would not be sure to exist
    assert found["dry"]["share_ci"] is None
    assert "| student | separation: beyond the images | 4 | 20.0 [20.0, 20.0] | 57.1 [" in page


def test_another_recogniser_is_no_measure_of_separation(recipe, monkeypatch):
    systems = SYSTEMS + "joint: {model: joint, labels: small, asr: joint/asr}\n"
    (recipe / "conf/systems.yaml").write_text(systems)
    write_words(recipe / "exp/mini/wer", "joint", COMMON, asr="exp/x/joint/asr", asr_fingerprint="def")
    write_scores(recipe / "exp/mini/scores", "joint", utterances(3.5))
    results, page = report(monkeypatch)
    assert "joint" not in [one["system"] for one in results["error_sources"]]
    assert "joint" not in results["order"][0]["systems"]
    found = {(c["system"], c["against"], c["what"]): c["value"] for c in results["comparisons"]}
    assert found["joint", "student_ft", "si_snri_difference"] == pytest.approx(-1.5)
    assert found["joint", "student_ft", "cpwer_difference"] == -20
    assert "recognised by `exp/x/asr`; joint by `exp/x/joint/asr`" in page


def test_order_of_the_systems(recipe, monkeypatch):
    results, page = report(monkeypatch)
    (found,) = results["order"]
    names = list(GAINS)
    assert found["systems"] == names and found["pairs"] == len(names) * (len(names) - 1) / 2
    # Kendall's tau-b, pair by pair: student_ft and supervised_full have the same word errors
    signs = [
        np.sign(GAINS[a] - GAINS[b]) * np.sign(ERRORS[b] - ERRORS[a])
        for a, b in itertools.combinations(names, 2)
    ]
    pairs = len(signs)
    assert signs.count(-1) == found["reversed"] == 1 and signs.count(0) == 1
    assert found["kendall"] == pytest.approx(sum(signs) / (pairs * (pairs - 1)) ** 0.5, abs=1e-4)
    (pair,) = found["contradictions"]
    assert (pair["better_si_snri"], pair["better_cpwer"]) == ("student+mvdr", "student")
    assert (pair["si_snri_difference"], pair["si_snri_ci"]) == (0.5, [0.5, 0.5])
    assert (pair["cpwer_difference"], pair["cpwer_ci"]) == (10, [10, 10])
    assert "| student+mvdr | student | 4 | 0.50 [0.50, 0.50] | 10.00 [10.00, 10.00] |" in page
    assert f"| 4 | 7 | {found['kendall']:.2f} | {found['spearman']:.2f} | 21 | 1 | 1 |" in page


def test_a_difference_within_its_interval_is_no_contradiction(recipe, monkeypatch):
    """One utterance makes the beamformer worse: the interval of the difference holds zero."""
    errors = ERRORS["student"] + COMMON
    errors[4] += 3
    write_words(recipe / "exp/mini/wer", "student+mvdr", errors)
    results, page = report(monkeypatch)
    assert results["order"][0]["reversed"] == 1 and results["order"][0]["contradictions"] == []
    assert "No pair of systems contradicts with 4 channels." in page


def test_utterances_where_they_disagree(recipe, monkeypatch):
    """The utterance of best SI-SNRi has most errors, that of the worst none; the others agree."""
    gains = DIFFICULTY - DIFFICULTY.mean()
    rank = np.argsort(np.argsort(-gains))
    errors = rank // 2
    best, worst = int(rank.argmin()), int(rank.argmax())
    errors[best], errors[worst] = 10, 0
    write_words(recipe / "exp/mini/wer", "student", errors)
    results, page = report(monkeypatch)
    student, every = results["disagreements"]
    assert (student["system"], every["system"]) == ("student", "all systems")
    assert len(student["utterances"]) == len(every["utterances"]) == 10
    first, second = student["utterances"][:2]
    assert {first["id"], second["id"]} == {f"u{best:02d}", f"u{worst:02d}"}
    by_id = {one["id"]: one for one in (first, second)}
    found = by_id[f"u{best:02d}"]
    assert (found["si_snri_rank"], found["words_rank"], found["errors"], found["words"]) == (1, N, 10, 10)
    assert found["si_snri"] == pytest.approx(4 + gains[best], abs=1e-3)
    apart = [abs(one["si_snri_rank"] - one["words_rank"]) for one in student["utterances"]]
    assert apart == sorted(apart, reverse=True)
    # hypotheses in the talkers' order, a silent one as a dash, nothing that would end a cell
    assert (
        f"| u{best:02d} | `ONE` / `TWO` | — / `TWO\\|` | {4 + gains[best]:.1f} | 1.0 | 10 / 10 | 20.0 |"
        in page
    )
    total = {one["id"]: one for one in every["utterances"]}
    counted = [name for name in GAINS if name != "student"]
    for one in total.values():
        k = int(one["id"][1:])
        assert one["words"] == 10 * len(GAINS)
        assert one["errors"] == errors[k] + sum(ERRORS[name] + COMMON[k] for name in counted)


def sevens(value):
    """Return results with 7777 for every number but those that point at a stream (7777 s = 129 min 37 s)."""
    if isinstance(value, dict):
        return {key: one if key == "assignment" else sevens(one) for key, one in value.items()}
    if isinstance(value, list):
        return [sevens(one) for one in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return type(value)(7777)


def test_every_number_of_words_comes_from_the_results(recipe, monkeypatch):
    results, page = report(monkeypatch, "--config", "conf/teacher.yaml")
    assert page.startswith(render_page(results, {})[:-1])
    tables = render_page(sevens(results), {}).split("## Systems")[1]
    rows = [line for line in tables.splitlines() if line.startswith("|") and "95 %" not in line]
    found = set(re.findall(r"(?<![\w.])\d[\d.]*", " ".join(rows)))
    counts = {str(len(results["order"][0]["systems"])), str(len(results["order"][0]["contradictions"]))}
    assert found == {"7777", "7777.0", "7777.00", "7777.000", "777700.0", "129", "37"} | counts
    for word in ("None", "nan", "inf"):
        assert not re.search(rf"\b{word}\b", page, re.I), word


def test_the_picture(recipe, monkeypatch):
    page = report(monkeypatch)[1]
    first = Path("out/cpwer_sisnri.png").read_bytes()
    assert first.startswith(b"\x89PNG") and "](cpwer_sisnri.png)" in page
    report(monkeypatch)
    assert Path("out/cpwer_sisnri.png").read_bytes() == first
    write_words(recipe / "exp/mini/wer", "student", 9 + COMMON)
    report(monkeypatch)
    assert Path("out/cpwer_sisnri.png").read_bytes() != first


def test_rules_are_read_as_text(recipe, monkeypatch):
    assert "- &lt;tags> go\n" in report(monkeypatch)[1]


def test_what_was_not_recognised_is_named(recipe, monkeypatch):
    for kind in ("json", "jsonl"):
        Path(f"exp/mini/wer/student_ft.{kind}").unlink()
    results, page = report(monkeypatch)
    assert by_name(results)["student_ft"]["cpwer"] is None
    assert "Not recognised: student_ft (mini)." in page


def test_the_terminal_shows_both(recipe, monkeypatch, capsys):
    results, _ = report(monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    low, high = by_name(results)["dry"]["cpwer_ci"]
    assert lines[0].split()[-4:] == ["%", "[95", "%]", "RTF"] and "cpWER" in lines[0]
    line = next(line for line in lines if line.startswith("dry"))
    assert line.split() == f"dry 4 - - - - - 5.0 [{low:.1f}, {high:.1f}] -".split()


def test_the_page_to_listen_to_shows_the_pictures(recipe, monkeypatch, capsys):
    """Of the first experiment, where it is asked for."""
    pass

    asked = []
    monkeypatch.setattr(listen, "write_listening_page", lambda *given: asked.append(given) or Path("x.html"))
    report(monkeypatch)
    assert not asked
    results, _ = report(monkeypatch, "--listen", "exp/mini/report")
    ((out, given, experiment, systems, pictures),) = asked
    assert (out, given, experiment) == (Path("exp/mini/report"), results, Path("exp/mini"))
    assert [one.name for one in systems] == [line.split(":")[0] for line in SYSTEMS.splitlines()]
    assert [one.path for one in pictures] == [Path("out/cpwer_sisnri.png")]
    assert "To listen to: x.html" in capsys.readouterr().out


def cut(path):
    path.write_text(path.read_text()[:-20])
    return "student.jsonl: not a complete wer"


def rename(path):
    path.write_text(path.read_text().replace("u19", "v19"))
    return "counted on different utterances"


def rename_all(path):
    for other in path.parent.glob("*.jsonl"):
        other.write_text(other.read_text().replace("u19", "v19"))
    return "word errors and scores are of different utterances"


@pytest.mark.parametrize("damage", [cut, rename, rename_all])
def test_bad_word_errors_are_one_line_and_write_nothing(recipe, monkeypatch, capsys, damage):
    expected = damage(recipe / "exp/mini/wer/student.jsonl")
    report(monkeypatch, expect=2)
    error = capsys.readouterr().err
    assert error.startswith("mixit report: error: ") and error.count("\n") == 1 and expected in error
    assert not (recipe / "out").exists()
