"""The paper's two claims over several training seeds: ``CLAIMS.md``, ``claims.json`` and a picture.

(a) The student is cured of the teacher's over-separation. (b) With few labels, semi-supervision reaches most
of what full supervision improves. Zhang, Zorila, Doddipatla, Barker: Teacher-Student MixIT, Interspeech 2021.
The page is made from the results alone (:mod:`frontend.claims_page`).
"""

import json
from collections.abc import Sequence
from pathlib import Path

from frontend import atomic
from frontend.claims_data import Runs, check_recogniser, load_runs
from frontend.claims_page import render
from frontend.claims_plot import plot_claims
from frontend.claims_systems import (
    FULL,
    MIXTURE,
    blind_rows,
    check_refinement_is_there,
    curve_points,
    missing,
    refined,
)
from frontend.claims_tables import (
    MEASURES,
    against_blind,
    best_blind,
    curve,
    over_separation,
    references,
    shares_of_full,
)
from frontend.errors import UserError
from frontend.provenance import provenance
from frontend.run_facts import stage_commits
from frontend.word_results import recogniser

PICTURE = "claims.png"
GOAL = 95.0  # percent of the improvement by full supervision, the goal with a tenth of the labels


def write_claims(
    experiments: Sequence[Path],
    out: Path,
    refinement: str | None = None,
    partial: bool = False,
    command: str = "python -m frontend.bin.claims",
) -> dict:
    """Write ``CLAIMS.md``, ``claims.json`` and ``claims.png`` to ``out``.

    Args:
        experiments: directories with ``stages.json``, ``scores/`` and ``wer/``, one a training seed, of the
            same test set.
        out: directory.
        refinement: such as ``iva``; the rows ``NAME+iva`` are shown too.
        partial: make the page of what is there, and say on it what is missing.
        command: how the page was made, to be shown on it.

    Returns:
        what ``claims.json`` holds.

    Raises:
        UserError: experiments of different test sets or recognisers, missing rows (unless ``partial``).
    """
    runs = load_runs(experiments)
    if refinement:
        check_refinement_is_there(runs, refinement)
    absent = missing(runs, refinement)
    if absent and not partial:
        raise UserError(
            f"{'; '.join(absent)} (train and score them, or make a page of what there is with --partial)"
        )
    results = {"command": command, **provenance(), **collect(runs, refinement), "missing": absent}
    if not results["curve"]:
        raise UserError(f"no row of the label curve in the scores of {', '.join(runs.names)}")
    plot_claims(results, out / PICTURE)
    results["picture"] = PICTURE
    atomic.write_text(out / "claims.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    atomic.write_text(out / "CLAIMS.md", render(results))
    return results


def collect(runs: Runs, refinement: str | None) -> dict:
    """Return the figures of ``claims.json``; see :func:`write_claims`."""
    points = curve_points(runs)
    plain = blind_rows(runs, None)
    blind = plain + (blind_rows(runs, refinement) if refinement else [])
    names = [refined(point.name, steps) for point in points for steps in (None, refinement)]
    check_recogniser(runs, [MIXTURE, *blind, *names])
    rows, beside = curve(runs, points, refinement), references(runs, refinement)
    return {
        "experiments": [_experiment(runs, k) for k in range(len(runs.names))],
        "seed": runs.seed,
        "refinement": refinement,
        "goal": GOAL,
        "label_share": next(point.share for point in points if point.name == "student_ft"),
        "test_set": _test_set(runs),
        "over_separation": over_separation(runs, refinement),
        "curve": rows,
        "references": beside,
        "best_blind": {
            key: {measure: best_blind(beside, among, measure) for measure in MEASURES}
            for key, among in (("plain", plain), ("refined", blind))
        },
        "shares_of_full": shares_of_full(runs, rows),
        "against_blind": against_blind(runs, beside, refinement),
        "silent": {name: runs.silent(name) for name in runs.systems if runs.silent(name)},
    }


def _experiment(runs: Runs, k: int) -> dict:
    """What an experiment is: its name, command and seeds, the commit of its stages, and its recogniser."""
    facts, words = runs.facts[k], runs.words[k]
    seeds = {key: int(facts[key]) for key in ("seed", "train_seed") if key in facts}
    heard = words.get(FULL) or next(iter(words.values()), None)
    asr = heard and {"asr": heard.about.get("asr"), "asr_fingerprint": recogniser(heard)}
    about = {"name": runs.names[k], "command": facts["command"], **seeds, **stage_commits(facts)}
    return about | (asr or {})


def _test_set(runs: Runs) -> dict:
    about = next(iter(runs.two[0].values())).about
    single = next((len(one.ids) for scores in runs.one for one in scores.values()), None)
    return {
        **{key: about[key] for key in ("data", "channels", "fs", "talkers")},
        "n": runs.n,
        "n_one_talker": single,
        "words": int(runs.spoken()[0].sum()) if any(runs.words) else None,
    }
