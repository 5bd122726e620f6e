"""Figures over training seeds: those of version 0.1, other test sets, two experiments compared."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from claims_files import SYSTEMS, write_seed, write_seeds
from commands import exit_code
from report_files import DIFFICULTY, N, utterances, write_scores, write_words

from frontend.evaluation.intervals import hierarchical
from frontend.evaluation.runs import compare_runs, difference, figure, load_runs, parse_side, share_of
from frontend.report.pages import comparison
from frontend.utils.errors import UserError


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_seeds(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def runs(paths):
    return load_runs(paths)


# What version 0.1 computed of these experiments: value, interval, each seed's own.
FIGURES = {
    ("student", "si_snri"): (6.0, [3.2749, 8.5652], [5.0, 6.0, 7.0]),
    ("supervised_full+iva", "si_snri"): (12.0, [9.2749, 14.5652], [11.0, 12.0, 13.0]),
    ("auxiva+iva", "si_snri"): (5.5, [4.3443, 6.6332], [5.5] * 3),
    ("mixture", "cpwer"): (80.0, [80.0, 80.0], [80.0] * 3),
    ("student", "cpcer"): (15.0, [15.0, 15.0], [15.0] * 3),
    ("teacher_outputs", "surplus_outputs_1"): (75.0, [75.0, 75.0], [75.0] * 3),
    ("teacher_outputs", "energy_outside_best_2"): (50.0, [50.0, 50.0], [50.0] * 3),
    ("student", "energy_outside_best_1"): (20.0, [20.0, 20.0], [20.0] * 3),
}
DIFFERENCES = {
    ("student", "auxiva", "si_snri"): (1.0, [-1.5021, 3.4002], [0.0, 1.0, 2.0]),
    ("student+iva", "auxiva+iva", "si_snri"): (2.5, [-0.0021, 4.9002], [1.5, 2.5, 3.5]),
    ("student+iva", "auxiva", "cpwer"): (-20.0, [-20.0, -20.0], [-20.0] * 3),
    ("student", "teacher_energy", "si_snri"): (4.0, [4.0, 4.0], [4.0] * 3),
    ("teacher_outputs", "student", "energy_outside_best_1"): (40.0, [40.0, 40.0], [40.0] * 3),
}
SHARES = {
    ("student_ft", "supervised_full", "si_snri"): (90.0, [86.2541, 92.0707], [88.8889, 90.0, 90.9091]),
    ("distilled_ft+iva", "supervised_full+iva", "si_snri"): (91.6667, [89.2182, 93.1513], None),
    ("supervised_1", "supervised_full", "si_snri"): (10.0, [-23.7135, 28.6364], [0.0, 10.0, 18.1818]),
    ("student_ft", "supervised_full", "cpwer"): (83.3333, [83.3333, 83.3333], [83.3333] * 3),
}


@pytest.mark.parametrize(
    ("function", "expected"), [(figure, FIGURES), (difference, DIFFERENCES), (share_of, SHARES)]
)
def test_figures_are_those_of_the_first_version(runs, function, expected):
    for key, (value, ci, per_seed) in expected.items():
        found = function(runs, *key)
        assert (found["value"], found["ci"]) == (
            pytest.approx(value, abs=1e-4),
            pytest.approx(ci, abs=2e-4),
        ), key
        assert per_seed is None or found["per_seed"] == pytest.approx(per_seed, abs=1e-4), key
        assert (found["n_seeds"], found["n"]) == (3, N)


def test_intervals_are_over_seeds_and_utterances(runs):
    """Utterances of 3 dB spread and seeds 1 dB apart: wider than either alone; Student's of seeds alone."""
    alone = hierarchical(6 + (DIFFICULTY - DIFFICULTY.mean())[None, None], lambda means: means[0], 3)
    low, high = figure(runs, "student", "si_snri")["ci"]
    assert high - low > alone.ci[1] - alone.ci[0]
    student_t = 4.303 / np.sqrt(3)  # of two degrees of freedom, times the standard error
    assert difference(runs, "student", "student_ft", "si_snri")["ci"] == pytest.approx([-3, -3], abs=1e-3)
    found = difference(runs, "student", "auxiva", "si_snri")["ci"]
    assert found == pytest.approx([1 - student_t, 1 + student_t], abs=0.2)


def test_seeds_that_lack_a_row_count_for_nothing(runs):
    two = [dict(scores) for scores in runs.two]
    del two[1]["student"]
    words = [dict(counted) for counted in runs.words]  # the first counted before characters were
    words[0]["student"] = replace(
        words[0]["student"],
        utterances=[
            {k: v for k, v in row.items() if k != "characters"} for row in words[0]["student"].utterances
        ],
    )
    fewer = replace(runs, two=two, words=words)
    found = figure(fewer, "student", "si_snri")
    assert found["per_seed"] == [pytest.approx(5), None, pytest.approx(7)] and found["n_seeds"] == 2
    assert (
        figure(fewer, "student", "cpcer")["n_seeds"] == 2
        and figure(fewer, "student", "cpwer")["n_seeds"] == 3
    )
    assert figure(fewer, "nobody", "si_snri") is None is difference(fewer, "student", "nobody", "cpwer")


def test_a_silent_stream_has_no_mean(runs):
    rows = [dict(row) for row in runs.two[1]["student"].utterances]
    rows[7] |= {"silent": [0], "si_snri": [None, 2.0]}
    two = [dict(scores) for scores in runs.two]
    two[1]["student"] = replace(two[1]["student"], utterances=rows)
    fewer = replace(runs, two=two)
    assert figure(fewer, "student", "si_snri")["n_seeds"] == 2
    assert fewer.silent("student") == ["x_train1: u07"] and not fewer.silent("mixture")


# --- mistakes


def other_ids(exp):
    path = exp[2] / "scores/student.jsonl"
    path.write_text(path.read_text().replace("u19", "v19"))
    return "x_train2/scores: student is of other utterances or words than "


def other_mixtures(exp):
    write_scores(exp[2] / "scores", "mixture", utterances(0.5))
    return "x_train0/scores by up to 0.5 dB in SI-SNR"


def other_words(exp):
    for path in (exp[2] / "wer").glob("*.jsonl"):
        path.write_text(path.read_text().replace('"words": 10', '"words": 11'))
    return "x_train2/wer: auxiva is of other utterances or words than "


def no_scores(exp):
    for path in (exp[1] / "scores").glob("*.json*"):
        path.unlink()
    return "x_train1/scores: no score"


def words_of_another_set(exp):
    for one in exp:
        for path in (one / "wer").glob("*.jsonl"):
            path.write_text(path.read_text().replace("u19", "v19"))
    return "words were counted on other utterances than"


@pytest.mark.parametrize("damage", [other_ids, other_mixtures, other_words, no_scores, words_of_another_set])
def test_experiments_of_different_test_sets(tmp_path, damage):
    few = {name: SYSTEMS[name] for name in ("mixture", "auxiva", "student")}
    exp = [tmp_path / f"x_train{k}" for k in range(3)]
    for path in exp:
        write_seed(path, systems=few)
    with pytest.raises(UserError, match=re.escape(damage(exp))):
        load_runs(exp)


def test_an_experiment_twice_or_not_there(paths):
    with pytest.raises(UserError, match="the same experiment twice"):
        load_runs([paths[0], paths[1] / ".." / "x_train0"])
    with pytest.raises(UserError, match="expected the directory of an experiment"):
        load_runs([paths[0] / "none"])


# --- two experiments


def test_two_systems_of_two_experiments(paths, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(paths[0].parents[1])
    pair = [
        "--a",
        "exp/x_train2:student",
        "--b",
        "exp/x_train0:teacher_energy",
        "--out",
        tmp_path / "pair.json",
    ]
    assert exit_code("compare", *pair) == 0
    signal, words, characters = capsys.readouterr().out.splitlines()
    assert signal.startswith(
        "x_train2:student - x_train0:teacher_energy: SI-SNRi 7.0 - 1.0 = 6.00 [6.00, 6.00]"
    )
    assert "cpWER 30.0 - 60.0 = -30.00 [-30.00, -30.00] points" in words
    assert "cpCER 15.0 - 30.0 = -15.00 [-15.00, -15.00] points" in characters
    found = json.loads((tmp_path / "pair.json").read_text())
    assert found["same_recogniser"] and found["machine"] and found["si_snri"]["difference"]["n"] == N


def test_pairs_of_seeds(paths):
    a, b = ([(paths[k], system) for k in (0, 2)] for system in ("student", "auxiva"))
    found = compare_runs(a, b)
    assert (found["a"], found["b"]) == (
        ["x_train0:student", "x_train2:student"],
        ["x_train0:auxiva", "x_train2:auxiva"],
    )
    more = found["si_snri"]["difference"]
    assert (more["value"], more["per_seed"], more["n_seeds"]) == (1.0, [0.0, 2.0], 2)
    assert more["ci"] == pytest.approx([-11.3591, 14.2915], abs=2e-4)  # of version 0.1
    assert more["ci"] == pytest.approx([1 - 12.7, 1 + 12.7], abs=2), "Student's t of one degree of freedom"
    assert found["si_snri"]["a"]["ci"] == pytest.approx([-6.2418, 19.253], abs=2e-4)
    assert found["cpwer"]["difference"]["value"] == -10 and found["same_recogniser"]
    assert "n = 20 utterances, 2 seeds (0.00, 2.00)" in comparison(found)


def test_another_recogniser_is_said(paths, tmp_path):
    for name, asr in (("student", "abc"), ("auxiva", "def")):
        write_scores(tmp_path / "x/scores", name, utterances(1.0))
        write_words(tmp_path / "x/wer", name, [1] * N, asr_fingerprint=asr)
    (tmp_path / "x/stages.json").write_text((paths[0] / "stages.json").read_text())
    found = compare_runs([(tmp_path / "x", "student")], [(tmp_path / "x", "auxiva")])
    assert not found["same_recogniser"]


def test_mistakes_in_comparing(paths):
    zero, one = paths[:2]
    for a, b, message in (
        ([(zero, "studnet")], [(one, "student")], "did you mean 'student'?"),
        ([(zero, "student")] * 2, [(one, "student")] * 2, "--a: the same experiment and system twice"),
        ([(zero, "student")], [], "--a was given 1 times, --b 0 times"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            compare_runs(a, b)
    with pytest.raises(UserError, match="expected EXPERIMENT:SYSTEM"):
        parse_side("exp/espeak")
