"""Reports that compare: test conditions with those of the training, and systems over training seeds."""

import re
from collections.abc import Sequence
from pathlib import Path

from frontend.evaluation.intervals import paired_difference, paired_ratio, rounded
from frontend.evaluation.measured import Scores, load_scores
from frontend.evaluation.results import FULL, interval, mean, paired
from frontend.evaluation.runs import (
    ERROR_RATES,
    MEASURES,
    SEPARATION_KEYS,
    Runs,
    difference,
    figure,
    load_runs,
    share_of,
)
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
    found: list[dict] = []
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
        keys = ("n", "si_snri", "si_snri_ci", "difference", "difference_ci", "share", "share_ci")
        row: dict = {"system": system.name, **dict.fromkeys(keys)}
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

MIXTURE, OUTPUTS, STUDENT, TRUE_IMAGES = "mixture", "teacher_outputs", "student", "oracle"
# The paper's own rule first.
RULES = ("teacher_energy", "teacher_energy_residual", "teacher_spatial_merge")
_BLIND = re.compile(r"(auxiva|ilrma)\w*")
_TRAINED = re.compile(r"(student_ft|distilled_ft|supervised)(?:_(\d+|small|full))?")
_KIND = {"student_ft": "fine-tuned", "distilled_ft": "distilled", "supervised": "supervised"}

# A row of the label curve without refinement: (name, kind, share of the labels).
Point = tuple[str, str, float]


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
    runs = load_runs(experiments)
    absent = missing(runs, refinement)
    if absent and not partial:
        raise UserError(
            f"{'; '.join(absent)} (train and score them, or make a page of what there is with --partial)"
        )
    results = {"command": command, **provenance(), **collect_claims(runs, refinement), "missing": absent}
    plot_claims(results, out / CLAIMS_PLOT)
    results["picture"] = CLAIMS_PLOT
    write_results(out, "claims", results)
    return results


def collect_claims(runs: Runs, refinement: str | None) -> dict:
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
        **paper_claims(runs, refinement),
    }


def _seed_of_claims(runs: Runs, k: int) -> dict:
    """Return name, command and seeds of an experiment, the commit of its stages, and its recogniser."""
    facts, words = runs.facts[k], runs.words[k]
    seeds = {key: int(facts[key]) for key in ("seed", "train_seed") if key in facts}
    counted_words = words.get(FULL) or next(iter(words.values()), None)
    about = {"name": runs.names[k], "command": facts["command"], **seeds, **stage_commits(facts)}
    if counted_words is None:
        return about
    return {**about, "asr": counted_words.about.get("asr"), "asr_fingerprint": counted_words.recogniser}


def refined(name: str, refinement: str | None) -> str:
    """Return the name of a row's refined one.

    >>> refined("student", "iva"), refined("student", None)
    ('student+iva', 'student')
    """
    return f"{name}+{refinement}" if refinement else name


def curve_points(runs: Runs) -> list[Point]:
    """Return ``(name, kind, share of the labels)`` of the rows of the label curve, without refinement.

    Raises:
        UserError: the experiments did not note one ``label_share``, which is that of ``student_ft``.
    """
    noted = [float(facts.get("label_share", "nan")) for facts in runs.facts]
    small = noted[0]
    for name, share in zip(runs.names, noted, strict=True):
        if share != small:
            raise UserError(
                f"{name}/stages.json: label_share is {share:g}, that of {runs.names[0]} is {small:g}; "
                "expected the same share of labels in all experiments"
            )
    points = [(STUDENT, "fine-tuned", 0.0)] if STUDENT in runs.systems else []
    for match in filter(None, map(_TRAINED.fullmatch, runs.systems)):
        known = {None: small, "small": small, "full": 1.0}
        share = known[match[2]] if match[2] in known else int(match[2]) / 100
        points.append((match[0], _KIND[match[1]], share))
    order = list(_KIND.values())
    return sorted(points, key=lambda point: (order.index(point[1]), point[2]))


def blind_rows(runs: Runs, refinement: str | None) -> list[str]:
    """Return the blind rows: as they are, or those refined by steps that ``refinement`` has too."""
    wanted = set(refinement.split("+")) if refinement else set()
    found = []
    for name in runs.systems:
        base, *steps = name.split("+")
        if _BLIND.fullmatch(base) and bool(steps) == bool(wanted) and set(steps) <= wanted:
            found.append(name)
    return found


def missing(runs: Runs, refinement: str | None) -> list[str]:
    """Return a line per experiment and kind of measurement that lacks rows which another experiment has."""
    curve = [refined(name, steps) for name, _, _ in curve_points(runs) for steps in (None, refinement)]
    words = [MIXTURE, *blind_rows(runs, None), *blind_rows(runs, refinement), *curve]
    kinds: dict[str, tuple[Sequence[dict], list[str]]] = {
        "scores": (runs.two, [OUTPUTS, *RULES, *words]),
        "one-talker scores": (runs.one, [OUTPUTS, STUDENT]),
        "word errors": (runs.words, words),
    }
    lines = []
    for k, experiment in enumerate(runs.names):
        for what, (sets, names) in kinds.items():
            some = {name for measured in sets for name in measured}
            rows = [name for name in dict.fromkeys(names) if name in some and name not in sets[k]]
            lines += [f"{experiment} has no {what} of {', '.join(rows)}"] if rows else []
    return lines


def paper_claims(runs: Runs, refinement: str | None = None) -> dict:
    """Return the figures of the paper's two claims, as ``claims.json`` holds them.

    Args:
        runs: the experiments.
        refinement: such as ``iva``; the rows ``NAME+iva`` are compared too.

    Raises:
        UserError: no row of the label curve, none of that refinement, or recognisers that differ within an
            experiment.
    """
    points = curve_points(runs)
    if not points:
        raise UserError(f"no row of the label curve in the scores of {', '.join(runs.names)}")
    steps = sorted({"+".join(name.split("+")[1:]) for name in runs.systems if "+" in name})
    if refinement and refinement not in steps:
        raise UserError(
            f"--refinement {refinement}: expected one that some row was refined by, "
            f"found {', '.join(steps) or 'none'} in the scores of {', '.join(runs.names)}"
        )
    plain = blind_rows(runs, None)
    blind = plain + (blind_rows(runs, refinement) if refinement else [])
    both = (None, refinement) if refinement else (None,)
    _check_recogniser(runs, [MIXTURE, *blind, *(refined(name, r) for name, _, _ in points for r in both)])
    references = [{"system": name, **_measured(runs, name)} for name in [MIXTURE, *blind]]
    best = {
        key: {measure: _best(references, among, measure) for measure in MEASURES}
        for key, among in (("plain", plain), ("refined", blind))
    }
    return {
        "label_share": next((share for name, _, share in points if name == "student_ft"), None),
        "over_separation": _over_separation(runs, refinement),
        **_curve(runs, points, both),
        "references": references,
        "best_blind": best,
        "against_blind": _against_blind(runs, references, both),
        "silent": {name: runs.silent(name) for name in runs.systems if runs.silent(name)},
    }


def _measured(runs: Runs, name: str) -> dict:
    return {measure: figure(runs, name, measure) for measure in MEASURES}


def _check_recogniser(runs: Runs, systems: Sequence[str]) -> None:
    for experiment, words in zip(runs.names, runs.words, strict=True):
        counted = [name for name in systems if name in words]
        for name in counted[1:]:
            if words[name].recogniser != words[counted[0]].recogniser:
                raise UserError(
                    f"{experiment}/wer: {name} and {counted[0]} were recognised by different recognisers, "
                    "their cpWER cannot be compared (run the stages 'decode' and 'wer' again)"
                )


def _over_separation(runs: Runs, refinement: str | None) -> dict[str, list[dict]]:
    """Return claim (a): the teacher's raw outputs, its streams under each rule and the student's.

    Over-separation is of what a network puts out, so that a rule has none; the true images have the floor of
    the energy measure. Differences are in SI-SNRi and in the energy outside the best output: the number of
    surplus outputs is bounded by that of the outputs, which the student has fewer of by construction.
    """
    names = [OUTPUTS, *RULES, "teacher_oracle", STUDENT]
    names += [refined(STUDENT, refinement)] if refinement else []
    rows = []
    for name in [*names, TRUE_IMAGES]:
        keys = SEPARATION_KEYS if name in (OUTPUTS, STUDENT, TRUE_IMAGES) else ()
        row = {key: figure(runs, name, key) for key in ("si_snri", *keys)}
        rows += [{"system": name, **row}] if any(row.values()) else []
    pairs = [(STUDENT, rule, "si_snri") for rule in RULES]
    pairs += [(OUTPUTS, STUDENT, key) for key in SEPARATION_KEYS if key.startswith("energy_outside_best")]
    return {"rows": rows, "differences": [one for pair in pairs if (one := _compared(runs, *pair))]}


def _compared(runs: Runs, a: str, b: str, measure: str) -> dict | None:
    found = difference(runs, a, b, measure)
    return found and {"system": a, "against": b, "measure": measure, **found}


def _curve(runs: Runs, points: Sequence[Point], both: Sequence) -> dict[str, list[dict]]:
    """Return claim (b): every row of the label curve, and its share of full supervision refined like it."""
    curve: list[dict] = []
    shares: list[dict] = []
    for refinement in both:
        full = refined(FULL, refinement)
        for point, kind, share in points:
            name = refined(point, refinement)
            about = {"system": name, "kind": kind, "share": share, "refinement": refinement}
            reached = {m: share_of(runs, name, full, m) for m in MEASURES} if name != full else {}
            for rows, found in ((curve, _measured(runs, name)), (shares, reached)):
                rows += [about | found] if any(found.values()) else []
    return {"curve": curve, "shares_of_full": shares}


def _best(rows: Sequence[dict], names: Sequence[str], measure: str) -> str | None:
    """Return the best of ``names`` by ``measure``, chosen on the test set, in favour of the blind methods."""
    found = {row["system"]: row[measure]["value"] for row in rows if row["system"] in names and row[measure]}
    sign = 1 if measure in ERROR_RATES else -1
    return min(found, key=lambda name: sign * found[name], default=None)


def _against_blind(runs: Runs, references: Sequence[dict], both: Sequence) -> list[dict]:
    """Return differences of the student and the semi-supervised rows from the best blind row.

    A refined row is compared with the best blind row as it is, and with the best one that is refined too.
    """
    found = []
    for name in (STUDENT, "student_ft", "distilled_ft"):
        for refinement in both:
            for opponents in (None, refinement) if refinement else (None,):
                for measure in MEASURES:
                    best = _best(references, blind_rows(runs, opponents), measure)
                    one = best and _compared(runs, refined(name, refinement), best, measure)
                    found += [one | {"refinement": refinement}] if one else []
    return found
