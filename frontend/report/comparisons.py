"""Reports that compare: test conditions with those of the training, and systems over training seeds."""

from collections.abc import Sequence
from pathlib import Path

from frontend.evaluation import runs as over_seeds
from frontend.evaluation.intervals import paired_difference, paired_ratio, rounded
from frontend.evaluation.measured import Scores, load_scores
from frontend.evaluation.results import interval, mean, paired
from frontend.report.collect import NOTHING_SCORED, write_results
from frontend.report.plots import plot_claims
from frontend.separation.systems import System, load_systems
from frontend.simulation.config import MATCHED, read_conditions, values_of
from frontend.utils.errors import UserError
from frontend.utils.provenance import provenance, run_facts, stage_commits

CLAIMS_PLOT = "claims.png"
GOAL = 95.0  # percent of the improvement by full supervision, with a tenth of the labels
_NO_SYSTEM = ("mixture", "oracle")  # rows that no system made; a mismatch says nothing about them


# --- another array, room or noise


def write_mismatch(
    exp: Path, systems: Path, out: Path, conditions: Path, microphones: Sequence[Path] = ()
) -> dict:
    """Write ``mismatch.json`` and ``MISMATCH.md``: what systems lose under conditions other than in training.

    Scores of ``EXP/mismatch/CONDITION/scores`` are paired by mixture with those of
    ``EXP/mismatch/matched/scores`` (:mod:`frontend.simulation.config`).

    Args:
        exp: experiment with ``mismatch/`` and ``stages.json``.
        systems: systems file, whose order the columns keep.
        out: directory.
        conditions: file of conditions; what was scored of others is left out.
        microphones: experiments with other numbers of microphones, with ``scores/``, each trained and tested
            with its own.

    Returns:
        what ``mismatch.json`` holds.

    Raises:
        UserError: no scores of the matched set, scores of other utterances, a damaged file.
    """
    listed = read_conditions(conditions)
    every = load_systems(systems)
    facts = run_facts(exp)
    places = sorted((exp / "mismatch").glob("*/scores"))
    places = [path for path in places if path.parent.name in listed]
    by_condition = {path.parent.name: scores for path in places if (scores := load_scores(path))}
    where = exp / "mismatch" / MATCHED / "scores"
    matched = by_condition.get(MATCHED)
    if not matched:
        raise UserError(f"{where}: expected scores of the matched set, found none (score it)")
    shown = [s for s in every if s.name in matched and s.name not in _NO_SYSTEM]
    if not shown:
        raise UserError(f"{where}: no score of any listed system (score them)")
    found = []
    for name, scores in by_condition.items():
        data = Path(next(iter(scores.values())).about["data"])
        if data.name != name:
            raise UserError(
                f"{exp / 'mismatch' / name}: scored on condition '{data.name}' (score its own set)"
            )
        about = {"condition": name, "place": list(listed).index(name), "changes": values_of(listed[name])}
        found.append({**about, "rows": _gains(scores, matched, shown, facts["seed"])})
    results = {
        "experiment": exp.name,
        "command": facts["command"],
        **provenance(),
        **stage_commits(facts),
        "seed": facts["seed"],
        "channels": next(iter(matched.values())).about["channels"],
        "conditions": sorted(found, key=lambda one: one["place"]),
        "systems": [{"system": s.name, "trained": bool(s.model)} for s in shown],
        "microphones": _microphones(exp, microphones, every, facts["seed"]) if microphones else [],
    }
    write_results(out, "mismatch", results)
    return results


def _gains(
    scores: dict[str, Scores], matched: dict[str, Scores], systems: Sequence[System], seed: int
) -> list[dict]:
    """Return SI-SNRi of every system, its paired difference in dB to the matched set, and the share left."""
    rows = []
    for system in systems:
        row = {"system": system.name, "n": None, "si_snri": None, "si_snri_ci": None}
        row |= {"difference": None, "difference_ci": None, "share": None, "share_ci": None}
        one = scores.get(system.name)
        if one is not None:
            row["n"] = len(one.utterances)
        if one is not None and not one.silent:
            gains = one.values("si_snri")
            row["si_snri"], row["si_snri_ci"] = mean(gains), interval(gains, seed)
            pair = paired({"here": one, "there": matched[system.name]}, "si_snri", "here", "there")
            if pair is not None:
                row["difference"], row["difference_ci"] = paired_difference(*pair, seed)
            if pair is not None and pair[1].mean() > 0:
                row["share"], row["share_ci"] = paired_ratio(100 * pair[0], pair[1], seed)
        rows.append(rounded(row))
    return rows


def _microphones(exp: Path, others: Sequence[Path], systems: Sequence[System], seed: int) -> list[dict]:
    """Return SI-SNRi on the whole test set of each experiment, by its number of microphones."""
    found = []
    base = load_scores(exp / "scores")
    for path in [exp, *others]:
        scores = base if path == exp else load_scores(path / "scores")
        listed = [s for s in systems if s.name in scores and s.name not in _NO_SYSTEM]
        if not listed:
            raise UserError(f"{path / 'scores'}: {NOTHING_SCORED}")
        matched = {name: one for name, one in base.items() if name in scores and one.ids == scores[name].ids}
        rows = _gains(scores, {s.name: matched.get(s.name, scores[s.name]) for s in listed}, listed, seed)
        for row in rows:
            if path == exp or row["system"] not in matched:  # nothing to differ from
                row |= dict.fromkeys(("difference", "difference_ci", "share", "share_ci"))
        channels = next(iter(scores.values())).about["channels"]
        found.append({"experiment": path.name, "channels": channels, "rows": rows})
    return sorted(found, key=lambda one: one["channels"])


# --- the claims of the paper, over training seeds


def write_claims(
    experiments: Sequence[Path],
    out: Path,
    refinement: str | None = None,
    partial: bool = False,
    command: str = "mixit compare",
) -> dict:
    """Write ``claims.json``, ``CLAIMS.md`` and ``claims.png`` to ``out``.

    (a) The student has less over-separation than the teacher. (b) With few labels, semi-supervision reaches
    most of what full supervision improves. Zhang, Zorila, Doddipatla, Barker: Teacher-Student MixIT,
    Interspeech 2021.

    Args:
        experiments: directories with ``stages.json``, ``scores/`` and ``wer/``, one a training seed, of the
            same test set.
        out: directory.
        refinement: such as ``iva``; the rows ``NAME+iva`` are shown too.
        partial: make the page of what is there, and list on it what is missing.
        command: how the page was made, to be shown on it.

    Returns:
        what ``claims.json`` holds.

    Raises:
        UserError: experiments of different test sets or recognisers, missing rows (unless ``partial``).
    """
    runs = over_seeds.load_runs(experiments)
    absent = over_seeds.missing(runs, refinement)
    if absent and not partial:
        raise UserError(
            f"{'; '.join(absent)} (train and score them, or make a page of what there is with --partial)"
        )
    results = {"command": command, **provenance(), **collect_claims(runs, refinement), "missing": absent}
    plot_claims(results, out / CLAIMS_PLOT)
    results["picture"] = CLAIMS_PLOT
    write_results(out, "claims", results)
    return results


def collect_claims(runs: over_seeds.Runs, refinement: str | None) -> dict:
    """Return the figures of ``claims.json``; see :func:`write_claims`."""
    about = next(iter(runs.two[0].values())).about
    return {
        "experiments": [_seed_of_claims(runs, k) for k in range(len(runs.names))],
        "seed": runs.seed,
        "refinement": refinement,
        "goal": GOAL,
        "test_set": {
            **{key: about[key] for key in ("data", "channels", "fs", "talkers")},
            "n": runs.n,
            "n_one_talker": next((len(one.ids) for scores in runs.one for one in scores.values()), None),
            "words": int(runs.spoken().sum()) if any(runs.words) else None,
        },
        **over_seeds.paper_claims(runs, refinement),
    }


def _seed_of_claims(runs: over_seeds.Runs, k: int) -> dict:
    """Return name, command and seeds of an experiment, the commit of its stages, and its recogniser."""
    facts, words = runs.facts[k], runs.words[k]
    seeds = {key: int(facts[key]) for key in ("seed", "train_seed") if key in facts}
    counted_words = words.get(over_seeds.FULL) or next(iter(words.values()), None)
    about = {"name": runs.names[k], "command": facts["command"], **seeds, **stage_commits(facts)}
    if counted_words is None:
        return about
    return {**about, "asr": counted_words.about.get("asr"), "asr_fingerprint": counted_words.recogniser}
