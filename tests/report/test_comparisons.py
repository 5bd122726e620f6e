"""The two claims over seeds, from scores written by hand, through the real commands."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from claims_files import write_seed, write_seeds
from commands import exit_code
from report_files import DIFFICULTY, N, utterances, write_scores, write_words

import frontend.evaluation.intervals as intervals
from frontend.evaluation.intervals import hierarchical
from frontend.report.plots import plot_claims


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The page over three seeds with a refinement, made once; only to be read."""
    root = tmp_path_factory.mktemp("claims")
    write_seeds(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        results, page = claims("--refinement", "iva")
    return SimpleNamespace(root=root, results=results, page=page)


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Experiments to change; intervals of few resamples and no picture."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(intervals, "RESAMPLES", 200)
    monkeypatch.setattr("frontend.report.comparisons.plot_claims", lambda results, path: None)
    intervals._weights.cache_clear()
    write_seeds(tmp_path)
    yield tmp_path
    intervals._weights.cache_clear()


def claims(*options, seeds=3, expect=0):
    """Run the real command; return results and page."""
    paths = [word for k in range(seeds) for word in ("--exp", f"exp/x_train{k}")]
    assert exit_code("compare", *paths, "--out", "out", *options) == expect
    return None if expect else (json.loads(open("out/claims.json").read()), open("out/CLAIMS.md").read())


def entry(entries, system, **wanted):
    found = [e for e in entries if e["system"] == system and all(e.get(k) == v for k, v in wanted.items())]
    assert len(found) == 1
    return found[0]


# --- the page


def test_shares_of_full_supervision_are_those_put_in(made):
    shares = made.results["ratios"]
    one = entry(shares, "distilled_ft", against="supervised_full", share=0.1)
    # 9.8 and 10 dB; of 8 errors of the mixture both save 6.
    assert one["si_snri"]["value"] == pytest.approx(98.0, abs=1e-3)
    assert one["si_snri"]["per_seed"] == pytest.approx([100 * 8.8 / 9, 98, 100 * 10.8 / 11], abs=1e-3)
    assert one["si_snri"]["n_seeds"] == 3 and one["si_snri"]["n"] == N
    assert (one["cpwer"]["value"], one["cpwer"]["ci"]) == (100.0, [100.0, 100.0])
    low, high = one["si_snri"]["ci"]
    assert low < 98 < high < 100
    assert entry(shares, "student")["cpwer"]["value"] == pytest.approx(100 * 5 / 6, abs=1e-3)
    # two of four characters are wrong in a wrong word
    assert entry(shares, "student")["cpcer"]["value"] == pytest.approx(100 * 5 / 6, abs=1e-3)
    # refined against refined: 11 of 12 dB, 7 of 8 errors
    one = entry(shares, "distilled_ft+iva", against="supervised_full+iva")
    values = [one[m]["value"] for m in ("si_snri", "cpwer")]
    assert values == pytest.approx([100 * 11 / 12, 87.5], abs=1e-3)
    assert not [e for e in shares if e["system"].startswith("supervised_full")]
    line = r"\| `student_ft` \| `supervised_full` \| 10 % \| 90\.0 \[\d+\.\d, \d+\.\d\] \| \d"
    assert re.search(line, made.page)


def test_the_rows_have_every_share_and_each_seeds_value(made):
    rows = made.results["rows"]
    curve = [row for row in rows if "share" in row]
    points = {row["system"]: (row["kind"], row["share"]) for row in curve}
    assert points["student"] == ("fine-tuned", 0.0) and points["distilled_ft"] == ("distilled", 0.1)
    plain = [row for row in curve if row["refinement"] is None]
    assert [row["share"] for row in plain if row["kind"] == "supervised"] == [0.01, 0.05, 0.1, 0.25, 1.0]
    student = entry(rows, "student")
    assert student["si_snri"]["per_seed"] == pytest.approx([5.0, 6.0, 7.0], abs=1e-3)
    # Utterances of 3 dB spread and seeds 1 dB apart: wider than either alone.
    alone = hierarchical(6 + (DIFFICULTY - DIFFICULTY.mean())[None, None], lambda means: means[0], 3)
    low, high = student["si_snri"]["ci"]
    assert high - low > alone.ci[1] - alone.ci[0]
    assert student["cpwer"]["value"] == 30.0 and student["cpcer"]["value"] == pytest.approx(15.0)
    assert re.search(r"\| `student` \| none \| 6\.0 \[[^]]+\] \| 5\.0, 6\.0, 7\.0 \| 30\.0 ", made.page)
    for k in range(3):
        assert f"| x_train{k} | `./run.sh` | {k} | abc |" in made.page
    for key in ("command", "date", "commit", "versions", "machine", "seed"):
        assert key in made.results
    assert made.results["command"].endswith("--exp exp/x_train2 --out out --refinement iva")
    for word in ("None", "nan", "inf"):
        assert not re.search(rf"\b{word}\b", made.page), word


def test_over_separation_and_the_best_blind_row(made):
    results = made.results
    teacher = entry(results["rows"], "teacher_outputs")
    assert teacher["energy_outside_best_2"]["value"] == 50.0
    assert teacher["surplus_outputs_1"]["value"] == 75.0
    assert "surplus_outputs_1" not in entry(results["rows"], "teacher_energy")
    found = results["differences"]
    less = entry(found, "teacher_outputs", measure="energy_outside_best_1")
    assert (less["value"], less["n"]) == (pytest.approx(40.0), N)
    more = entry(found, "student", against="teacher_energy")
    # The seeds' chance moves both alike: paired, it leaves no trace.
    assert more["value"] == 4.0 and more["ci"] == pytest.approx([4.0, 4.0], abs=1e-3)
    # The best by that measure of all blind rows, and the one that was chosen beforehand.
    assert results["best_blind"] == {"si_snri": "auxiva+iva", "cpwer": "auxiva+mask", "cpcer": "auxiva+mask"}
    one = entry(found, "student", measure="si_snri", against="auxiva+iva")
    assert one["per_seed"] == pytest.approx([-0.5, 0.5, 1.5], abs=1e-3)
    student_t = 4.303 / np.sqrt(3)  # of two degrees of freedom, times the standard error
    assert one["ci"] == pytest.approx([0.5 - student_t, 0.5 + student_t], abs=0.2)
    assert entry(found, "student", measure="si_snri", against="auxiva+mask")["value"] == pytest.approx(0.8)
    one = entry(found, "student+iva", measure="cpwer", against="auxiva+mask")
    assert (one["value"], one["ci"]) == (-10.0, [-10.0, -10.0])
    cells = "cpWER, points | -10.0 [-10.0, -10.0] | -10.0, -10.0, -10.0 | 3 | 20 |"
    assert f"| `student+iva` − `auxiva+mask` | {cells}" in made.page
    assert not [one for one in found if one["against"] in ("auxiva", "ilrma")]
    assert entry(found, "student", measure="cpwer", against="any_array")["value"] == 10.0
    # Of the streams that the gate left, how many there are, and nothing in dB.
    gated = entry(results["rows"], "student+gate")
    assert gated["surplus_outputs_1"]["value"] == 10.0 and "si_snri" not in gated


def test_the_picture(made, tmp_path):
    """With a refinement twice the panels, and something in each of them."""
    import matplotlib.image

    assert "](claims.png)" in made.page
    plot_claims(made.results | {"refinement": None}, tmp_path / "plain.png")
    plain = matplotlib.image.imread(tmp_path / "plain.png")
    image = matplotlib.image.imread(made.root / "out/claims.png")
    assert image.shape[0] == 2 * plain.shape[0] and image.shape[1] == plain.shape[1]
    for panel in (plain, *np.split(image, 2)):
        for half in np.array_split(panel[..., :3], 2, axis=1):
            # curves are coloured, axes and bands grey
            assert (half.max(-1) - half.min(-1) > 0.3).sum() > 200


def test_the_gate_as_refinement_has_all_columns(recipe):
    gated = {"student+gate": (8.0, 2), "supervised_full+gate": (9.0, 1)}
    for k in range(3):
        write_seed(recipe / f"exp/x_train{k}", systems=gated)
    row = entry(claims("--refinement", "gate", "--partial")[0]["rows"], "student+gate")
    assert (row["si_snri"]["value"], row["share"], row["surplus_outputs_1"]["value"]) == (8.0, 0.0, 10.0)


def test_one_seed_says_so(recipe):
    results, page = claims(seeds=1)
    assert "One seed only" in page and "Student's t" not in page
    assert entry(results["rows"], "student")["si_snri"]["n_seeds"] == 1


def remove(root, name, kind="scores"):
    for path in (root / "exp/x_train1" / kind).glob(f"{name}.json*"):
        path.unlink()


def test_what_is_missing_is_named_or_listed_on_the_page(recipe, capsys):
    remove(recipe, "supervised_25")
    remove(recipe, "student", "wer")
    claims(expect=2)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "x_train1 has no scores of supervised_25; " in error
    assert "x_train1 has no word errors of student (" in error and not (recipe / "out").exists()
    results, page = claims("--partial")
    assert "- missing: x_train1 has no scores of supervised_25\n" in page.split("## Systems")[0]
    row = entry(results["rows"], "supervised_25")
    assert row["si_snri"]["per_seed"] == pytest.approx([7.0, None, 9.0]) and row["si_snri"]["n_seeds"] == 2
    assert "| 7.0, —, 9.0 |" in page


def test_without_words_half_a_page(recipe):
    for path in recipe.glob("exp/*/wer/*"):
        path.unlink()
    results, page = claims("--partial")
    assert all(row.get("cpwer") is None for row in results["rows"]) and "cpWER, % [95 %]" not in page
    assert entry(results["ratios"], "student_ft")["si_snri"]["value"] == pytest.approx(90, abs=1e-3)


def test_an_old_count_and_a_silent_stream(recipe):
    """Words counted before characters were; a stream without a mean. The other seeds still have theirs."""
    for path in (recipe / "exp/x_train0/wer").glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row.pop("characters")
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = utterances(6.0)
    rows[7] |= {"silent": [0], "si_snri": [None, 2.0]}
    write_scores(recipe / "exp/x_train1/scores", "student", rows)
    results, page = claims()
    student = entry(results["rows"], "student")
    assert (student["cpcer"]["value"], student["cpcer"]["n_seeds"]) == (pytest.approx(15.0), 2)
    assert (student["cpwer"]["n_seeds"], student["si_snri"]["n_seeds"]) == (3, 2)
    assert "a stream of student is silent, its SI-SNRi does not exist: x_train1: u07" in page


def other_recogniser(root):
    write_words(root / "exp/x_train1/wer", "student", [1] * N, asr_fingerprint="other")
    return "x_train1/wer: student and mixture were recognised by different recognisers"


def other_share(root):
    write_seed(root / "exp/x_train1", label_share="0.05")
    return "label_share is 0.05, that of x_train0 is 0.1"


def same_seed(root):
    write_seed(root / "exp/x_train2", train_seed="1")
    return "x_train2/stages.json: train_seed is 1, as that of x_train1; expected another one"


DAMAGES = [other_recogniser, other_share, same_seed]


@pytest.mark.parametrize("damage", DAMAGES)
def test_bad_input_is_one_line_and_writes_nothing(recipe, capsys, damage):
    expected = damage(recipe)
    claims("--partial", expect=2)
    error = capsys.readouterr().err
    assert error.startswith("mixit compare: error: ") and error.count("\n") == 1 and expected in error
    assert not (recipe / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--refinement", "mvdr"], "--refinement mvdr: expected one that some row was refined by, found iva"),
        (["--exp", "exp/x_train0/"], "the same experiment twice"),
        (["--exp", "exp/none"], "exp/none: expected the directory of an experiment"),
    ],
)
def test_bad_options(recipe, capsys, options, message):
    claims(*options, expect=2)
    assert message in capsys.readouterr().err
