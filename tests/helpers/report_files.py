"""Score and word-error files written by hand, and the real command that makes a report of them."""

import json

import numpy as np
from commands import exit_code

GAINS = {
    "mixture": 0.0,
    "teacher_energy": 2.0,
    "student": 4.0,
    "student+mvdr": 4.5,
    "student_ft": 5.0,
    "supervised_small": 3.0,
    "supervised_full": 5.5,
}
N = 20
SYSTEMS = """\
mixture: {}
ilrma: {blind: ilrma}
teacher_energy: {model: teacher, rule: energy}
student: {model: student}
student+mvdr: {model: student, refine: mvdr}
student_ft: {model: student_ft, labels: small}
supervised_small: {model: supervised_small, labels: small}
supervised_full: {model: supervised_full, labels: full}
oracle: {}
"""
# Errors in ten words beyond those that every system has in an utterance: 0 in the even ones, 1 in the odd.
ERRORS = {
    "mixture": 8,
    "teacher_energy": 6,
    "student": 3,
    "student+mvdr": 4,  # worse than student, whose SI-SNRi is lower
    "student_ft": 2,
    "supervised_small": 5,
    "supervised_full": 2,
    "oracle": 1,
    "dry": 0,
}
COMMON = np.arange(N) % 2
DIFFICULTY = np.random.default_rng(0).normal(0, 3, N)


def utterances(gain, outside=0.25, talkers=2, **changes):
    """Scores whose mean SI-SNRi is ``gain`` and whose utterances differ alike for all systems."""
    spread = DIFFICULTY - DIFFICULTY.mean()
    rows = []
    for k in range(N):
        both = (
            [None] * talkers if gain is None else [gain + spread[k] - 0.5, gain + spread[k] + 0.5][:talkers]
        )
        row = {"id": f"u{k:02d}", "talkers": talkers, "permutation": [0, 1], "silent": []}
        row |= {"si_snr": both, "si_snri": both, "sdr": both, "stoi": [0.8, 0.9], "pesq": [2.0, 2.5]}
        row |= {"active_outputs": 2, "active_streams": 2, "surplus_outputs": 0.0}
        row |= {"energy_outside_best": [outside] * talkers}
        rows.append(row | changes)
    return rows


def write_scores(directory, name, rows, channels=4, **info):
    directory.mkdir(parents=True, exist_ok=True)
    about = {"system": name, "data": "data/x/test", "channels": channels, "fs": 8000, "talkers": 2}
    about |= {"measures": ["sdr", "stoi", "pesq"], "active_db": -20.0, "info": info, "fingerprint": ""}
    (directory / f"{name}.json").write_text(json.dumps(about))
    (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_experiment(path, channels=4, names=tuple(GAINS)):
    for name in names:
        info = {} if name == "mixture" else {"rtf": 0.04, "peak_memory_mib": 700.4, "n_outputs": 2}
        write_scores(path / "scores", name, utterances(GAINS[name]), channels, **info)
    write_scores(
        path / "scores", "oracle", utterances(None, 0.05, stoi=[1.0, 1.0], pesq=[4.5, 4.5]), channels
    )
    for name, outside, surplus in (("teacher_energy", 0.6, 0.75), ("student", 0.1, 0.0)):
        rows = utterances(1.0, outside, talkers=1, surplus_outputs=surplus)
        write_scores(path / "scores" / "one_talker", name, rows, channels, n_outputs=2)
    facts = {"command": "./run.sh --seed 3", "seed": "3", "label_share": "0.04"}
    (path / "stages.json").write_text(json.dumps({**facts, "stages": {"data": 12.5, "teacher": 200.0}}))


def write_words(directory, name, errors, words=10, orc=None, **about):
    """Word errors by hand: ``errors`` deletions of ``words`` words of two talkers in every utterance.

    A word has four characters, and two of a deleted word are found elsewhere.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rows = []
    for k in range(N):
        row = {"id": f"u{k:02d}", "errors": int(errors[k]), "words": words}
        row |= {"insertions": 0, "deletions": int(errors[k]), "substitutions": 0}
        row |= {"assignment": [1, 0], "surplus": [], "references": ["ONE", "TWO"], "hypotheses": ["TWO|", ""]}
        row["characters"] = {"errors": 2 * int(errors[k]), "characters": 4 * words}
        rows.append(row | {"orc": orc and {"errors": orc}})
    facts = {
        "system": name,
        "data": "data/x/test",
        "asr": "exp/x/asr",
        "asr_fingerprint": "abc",
        "streams": 2,
    }
    facts |= {"words": words * N, "normaliser": ["upper case", "<tags> go"]}
    (directory / f"{name}.json").write_text(json.dumps(facts | about))
    (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_recipe(directory, words=True):
    """Write a recipe with one experiment that was scored and, if wanted, whose words were counted."""
    (directory / "conf").mkdir()
    (directory / "conf/systems.yaml").write_text(SYSTEMS)
    (directory / "conf/teacher.yaml").write_text("max_epoch: 7  # a comment\n")
    write_experiment(directory / "exp/mini")
    for name, errors in ERRORS.items() if words else ():
        write_words(directory / "exp/mini/wer", name, errors + COMMON)
    return directory


def report(*options, expect=0):
    """Run ``mixit report`` on the recipe in the working directory; return results and page."""
    base = ["--exp", "exp/mini", "--systems", "conf/systems.yaml", "--out", "out"]
    assert exit_code("report", *base, *options) == expect
    return None if expect else (json.loads(open("out/results.json").read()), open("out/RESULTS.md").read())


def by_name(results):
    return {row["system"]: row for row in results["rows"]}
