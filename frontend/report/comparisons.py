"""Reports that compare: test conditions with those of the training, and systems over training seeds."""

import re
from collections.abc import Sequence
from pathlib import Path

from frontend.evaluation.intervals import paired_difference, rounded
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
    listed, every, facts = read_conditions(conditions), load_systems(systems, every=True), run_facts(exp)
    scored = {name: load_scores(exp / "mismatch" / name / "scores") for name in listed}
    matched = scored[MATCHED]
    shown = [s for s in every if s.name in matched and s.name not in _NO_SYSTEM]
    if not shown:
        where = exp / "mismatch" / MATCHED / "scores"
        raise UserError(
            f"{where}: expected scores of the matched set by systems of {systems}, found none (score it)"
        )
    found = []
    for name, scores in scored.items():
        if not scores:
            continue
        data = Path(next(iter(scores.values())).about["data"]).name
        if data != name:
            raise UserError(f"{exp / 'mismatch' / name}: scored on condition '{data}' (score its own set)")
        rows = _gains(scores, matched, shown, facts["seed"])
        found.append({"condition": name, "changes": values_of(listed[name]), "rows": rows})
    results = {
        "experiment": exp.name,
        "command": facts["command"],
        **provenance(),
        **stage_commits(facts),
        "seed": facts["seed"],
        "channels": next(iter(matched.values())).about["channels"],
        "conditions": found,
        "systems": [{"system": s.name, "trained": bool(s.model)} for s in shown],
        "microphones": _microphones(exp, microphones, every, facts["seed"]) if microphones else [],
    }
    write_results(out, "mismatch", results)
    return results


def _gains(
    scores: dict[str, Scores], matched: dict[str, Scores], systems: Sequence[System], seed: int
) -> list[dict]:
    """Return SI-SNRi of every system and its paired difference to the matched set, in dB."""
    rows = []
    for system in systems:
        keys = ("n", "si_snri", "si_snri_ci", "difference", "difference_ci")
        row: dict = {"system": system.name, **dict.fromkeys(keys)}
        if one := scores.get(system.name):
            row["n"] = len(one.ids)
            if not one.silent:
                gains = one.values("si_snri")
                row["si_snri"], row["si_snri_ci"] = mean(gains), interval(gains, seed)
            if system.name in matched:
                pair = paired({"here": one, "there": matched[system.name]}, "si_snri", "here", "there")
                if pair is not None:
                    row["difference"], row["difference_ci"] = paired_difference(*pair, seed)
        rows.append(rounded(row))
    return rows


def _microphones(exp: Path, others: Sequence[Path], systems: Sequence[System], seed: int) -> list[dict]:
    """Return SI-SNRi on the whole test set of each experiment, by its number of microphones."""
    found = []
    base = load_scores(exp / "scores")
    for path in [exp, *others]:
        scores = load_scores(path / "scores")
        shown = [s for s in systems if s.name in scores and s.name not in _NO_SYSTEM]
        if not shown:
            raise UserError(f"{path / 'scores'}: {NOTHING_SCORED}")
        alike = {} if path == exp else base  # the experiment does not differ from itself
        matched = {name: one for name, one in alike.items() if name in scores and one.ids == scores[name].ids}
        channels = next(iter(scores.values())).about["channels"]
        rows = _gains(scores, matched, shown, seed)
        found.append({"experiment": path.name, "channels": channels, "rows": rows})
    return sorted(found, key=lambda one: int(str(one["channels"]).split("-")[0]))


# --- the claims of the paper, over training seeds

MIXTURE, OUTPUTS, STUDENT, TRUE_IMAGES = "mixture", "teacher_outputs", "student", "oracle"
GATED, PACKAGED = "student+gate", "any_array"
UNTRAINED = (
    "auxiva+mask"  # the student of an array before it is trained: the blind row not chosen on a test set
)
# The paper's own rule first.
RULES = ("teacher_energy", "teacher_energy_residual", "teacher_spatial_merge")
_BLIND = re.compile(r"(auxiva|ilrma)\w*")
_TRAINED = re.compile(r"(student_ft|cotrained|distilled_ft|supervised)(?:_(\d+|small|full))?")
_KIND = {"student_ft": "fine-tuned", "cotrained": "co-trained"}
_KIND |= {"distilled_ft": "distilled", "supervised": "supervised"}


def write_claims(
    experiments: Sequence[Path],
    out: Path,
    refinement: str | None = None,
    partial: bool = False,
    command: str = "mixit compare",
) -> dict:
    """Write ``claims.json``, ``CLAIMS.md`` and ``claims.png`` to ``out``.

    The figures behind two claims: the student has less over-separation than the teacher; with few labels,
    semi-supervision reaches most of what full supervision improves (Zhang, Zorila, Doddipatla, Barker:
    Teacher-Student MixIT, Interspeech 2021).

    Args:
        experiments: directories with ``stages.json``, ``scores/`` and ``wer/``, one a training seed, of the
            same test set.
        out: directory.
        refinement: such as ``iva``; the rows ``NAME+iva`` are shown too.
        partial: make the page of what is there, and list on it what is missing.
        command: how the page was made, to be shown on it.

    Returns:
        what ``claims.json`` holds: ``rows`` with a figure for each measure, ``differences`` and ``ratios``
        of pairs of rows (:mod:`frontend.evaluation.runs`), and facts about the experiments.

    Raises:
        UserError: experiments of different test sets or recognisers, or of one training seed, missing rows
            (unless ``partial``), no row of the label curve, a refinement that no row has.
    """
    runs = load_runs(experiments)
    _check_seeds(runs)
    steps = sorted({name.partition("+")[2] for name in runs.systems if "+" in name})
    if refinement and refinement not in steps:
        raise UserError(
            f"--refinement {refinement}: expected one that some row was refined by, "
            f"found {', '.join(steps) or 'none'} in the scores of {', '.join(runs.names)}"
        )
    figures, names = _figures_of_claims(runs, (None, refinement) if refinement else (None,))
    absent = _missing(runs, names)
    if absent and not partial:
        raise UserError(
            f"{'; '.join(absent)} (train and score them, or make a page of what there is with --partial)"
        )
    about = next(iter(runs.two[0].values())).about
    results = {
        "command": command,
        **provenance(),
        "seed": runs.seed,
        "experiments": [_about_seed(runs, k) for k in range(len(runs.names))],
        "test_set": {
            **{key: about[key] for key in ("data", "channels", "fs", "talkers")},
            "n": runs.n,
            "n_one_talker": next((len(one.ids) for scores in runs.one for one in scores.values()), None),
            "words": int(runs.spoken().sum()) if any(runs.words) else None,
        },
        "refinement": refinement,
        **figures,
        "silent": {name: where for name in runs.systems if (where := runs.silent(name))},
        "missing": absent,
        "picture": CLAIMS_PLOT,
    }
    plot_claims(results, out / CLAIMS_PLOT)
    write_results(out, "claims", results)
    return results


def _about_seed(runs: Runs, k: int) -> dict:
    """Return name, command and seeds of an experiment, the commit of its stages, and its recogniser."""
    facts, words = runs.facts[k], runs.words[k]
    seeds = {key: int(facts[key]) for key in ("seed", "train_seed") if key in facts}
    about = {"name": runs.names[k], "command": facts["command"], **seeds, **stage_commits(facts)}
    if counted := words.get(FULL) or next(iter(words.values()), None):
        about |= {"asr": counted.about.get("asr"), "asr_fingerprint": counted.recogniser}
    return about


def _figures_of_claims(runs: Runs, refinements: Sequence[str | None]) -> tuple[dict, list[str]]:
    """Return ``rows``, ``differences``, ``ratios`` and ``best_blind``, and the names of all rows wanted.

    Over-separation is of what a network puts out, so that a rule has none; the true images have the floor of
    the energy measure. Its differences are in the energy outside the best output: the number of surplus
    outputs is bounded by that of the outputs, which the student has fewer of by construction.
    """
    curve = _label_curve(runs, refinements)
    blind = [name for name in runs.systems if _BLIND.fullmatch(name.partition("+")[0])]
    about: dict[str, dict] = dict.fromkeys([MIXTURE, *blind, PACKAGED, OUTPUTS, *RULES, "teacher_oracle"], {})
    about |= {GATED: {}} | {row["system"]: row for row in curve} | {TRUE_IMAGES: {}}
    _check_recogniser(runs, list(about))
    rows = []
    for name, more in about.items():
        found = {key: figure(runs, name, key) for key in _measures_of(name, bool(more))}
        rows += [{"system": name, **more, **found}] if any(found.values()) else []
    best_blind = {measure: _best(rows, blind, measure) for measure in MEASURES}

    pairs = [(STUDENT, rule, "si_snri") for rule in RULES]
    pairs += [(OUTPUTS, STUDENT, key) for key in SEPARATION_KEYS if key.startswith("energy_outside_best")]
    pairs += [
        (_refined(name, refinement), one, measure)
        for name in (STUDENT, "student_ft", "distilled_ft")
        for refinement in refinements
        for measure, best in best_blind.items()
        for one in dict.fromkeys((UNTRAINED, best))
        if one in blind
    ]
    pairs += [(STUDENT, PACKAGED, measure) for measure in MEASURES]
    differences = [
        {"system": a, "against": b, "measure": measure, **one}
        for a, b, measure in pairs
        if (one := difference(runs, a, b, measure))
    ]

    ratios = []
    for row in curve:
        name, full = row["system"], _refined(FULL, row["refinement"])
        reached = {measure: share_of(runs, name, full, measure) for measure in MEASURES}
        if name != full and any(reached.values()):
            ratios.append({"system": name, "against": full, "share": row["share"], **reached})
    figures = {"rows": rows, "differences": differences, "ratios": ratios, "best_blind": best_blind}
    return figures, list(about)


def _measures_of(name: str, of_curve: bool) -> tuple[str, ...]:
    """Return the columns of a row. The gate is asked for its streams alone, unless it is the refinement."""
    keys: tuple[str, ...] = MEASURES
    if name.startswith(("teacher", TRUE_IMAGES)):
        keys = ("si_snri",)
    elif name == GATED and not of_curve:
        keys = ()
    return keys + SEPARATION_KEYS if name in (OUTPUTS, STUDENT, GATED, TRUE_IMAGES) else keys


def _refined(name: str, refinement: str | None) -> str:
    return f"{name}+{refinement}" if refinement else name


def _check_seeds(runs: Runs) -> None:
    """Raise UserError where two experiments have one training seed: one training would count as two."""
    noted = [facts.get("train_seed") for facts in runs.facts]
    for k, seed in enumerate(noted):
        if seed is not None and seed in noted[:k]:
            other = runs.names[noted.index(seed)]
            raise UserError(
                f"{runs.names[k]}/stages.json: train_seed is {seed}, as that of {other}; expected another "
                "one in every experiment (run.sh --train_seed)"
            )


def _label_curve(runs: Runs, refinements: Sequence[str | None]) -> list[dict]:
    """Return ``{system, kind, share, refinement}`` of the rows over the share of labels that were scored.

    Raises:
        UserError: no such row, or experiments that did not note one ``label_share``, that of ``student_ft``.
    """
    noted = [float(facts.get("label_share", "nan")) for facts in runs.facts]
    for experiment, share in zip(runs.names, noted, strict=True):
        if share != noted[0]:
            raise UserError(
                f"{experiment}/stages.json: label_share is {share:g}, that of {runs.names[0]} is "
                f"{noted[0]:g}; expected the same share of labels in all experiments"
            )
    shares: dict[str | None, float] = {None: noted[0], "small": noted[0], "full": 1.0}
    points = [(STUDENT, "fine-tuned", 0.0)] if STUDENT in runs.systems else []
    for match in filter(None, map(_TRAINED.fullmatch, runs.systems)):
        share = shares[match[2]] if match[2] in shares else int(match[2]) / 100
        points.append((match[0], _KIND[match[1]], share))
    if not points:
        raise UserError(f"no row of the label curve in the scores of {', '.join(runs.names)}")
    order = list(_KIND.values())
    points.sort(key=lambda point: (order.index(point[1]), point[2]))
    return [
        {"system": _refined(name, refinement), "kind": kind, "share": share, "refinement": refinement}
        for refinement in refinements
        for name, kind, share in points
    ]


def _best(rows: Sequence[dict], names: Sequence[str], measure: str) -> str | None:
    """Return the best of ``names`` by ``measure``, chosen on the test set, in favour of the blind methods."""
    found = {row["system"]: row[measure]["value"] for row in rows if row["system"] in names and row[measure]}
    sign = 1 if measure in ERROR_RATES else -1
    return min(found, key=lambda name: sign * found[name], default=None)


def _missing(runs: Runs, names: Sequence[str]) -> list[str]:
    """Return a line per experiment and kind of measurement that lacks rows which another experiment has."""
    kinds: dict[str, Sequence[dict]] = {
        "scores": runs.two,
        "one-talker scores": runs.one,
        "word errors": runs.words,
    }
    lines = []
    for k, experiment in enumerate(runs.names):
        for what, sets in kinds.items():
            lacks = [name for name in names if name not in sets[k] and any(name in one for one in sets)]
            lines += [f"{experiment} has no {what} of {', '.join(lacks)}"] if lacks else []
    return lines


def _check_recogniser(runs: Runs, systems: Sequence[str]) -> None:
    for experiment, words in zip(runs.names, runs.words, strict=True):
        first, *others = [name for name in systems if name in words] or [""]
        for name in others:
            if words[name].recogniser != words[first].recogniser:
                raise UserError(
                    f"{experiment}/wer: {name} and {first} were recognised by different recognisers, "
                    "their cpWER cannot be compared (run the stages 'decode' and 'wer' again)"
                )
