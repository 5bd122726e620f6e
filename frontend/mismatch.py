"""What a trained system loses where the array, the room or the noise is not that of its training.

Scores of ``EXP/mismatch/CONDITION/scores`` against those of ``EXP/mismatch/matched/scores``, paired by
mixture (:mod:`frontend.conditions`), and of experiments with other numbers of microphones, each trained and
tested with its own.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from frontend import atomic
from frontend.conditions import MATCHED, read_condition
from frontend.errors import UserError
from frontend.intervals import paired_difference, paired_ratio
from frontend.page_mismatch import render
from frontend.provenance import provenance
from frontend.results import Scores, interval, load_scores, mean, paired
from frontend.run_facts import run_facts, stage_commits
from frontend.systems import System, load_systems
from frontend.yaml_file import read_settings

DIRECTORY = "mismatch"
_DECIMALS = 4
# What is told of the mixtures themselves and of true images is no system's.
_NO_SYSTEM = ("mixture", "oracle")


def write_mismatch(
    exp: Path, systems: Path, out: Path, microphones: Sequence[Path] = (), conditions: Path | None = None
) -> dict:
    """Write ``MISMATCH.md`` and ``mismatch.json`` to ``out``.

    Args:
        exp: experiment with ``mismatch/`` and ``stages.json``.
        systems: systems file, whose order the columns keep.
        out: directory.
        microphones: experiments with other numbers of microphones, with ``scores/``.
        conditions: file of conditions; what was scored of others is left out.

    Returns:
        what ``mismatch.json`` holds.

    Raises:
        UserError: no scores of the matched set, scores of other utterances, a damaged file.
    """
    listed = None if conditions is None else [MATCHED, *read_settings(conditions, "file of conditions")]
    results = collect(exp, load_systems(systems), microphones, listed)
    atomic.write_text(out / "mismatch.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    atomic.write_text(out / "MISMATCH.md", render(results))
    return results


def collect(
    exp: Path,
    systems: Sequence[System],
    microphones: Sequence[Path] = (),
    listed: Sequence[str] | None = None,
) -> dict:
    """Return what ``mismatch.json`` holds; see :func:`write_mismatch`."""
    facts = run_facts(exp)
    places = sorted((exp / DIRECTORY).glob("*/scores"))
    places = [path for path in places if listed is None or path.parent.name in listed]
    by_condition = {path.parent.name: load_scores(path) for path in places}
    matched = by_condition.get(MATCHED)
    if not matched:
        where = exp / DIRECTORY / MATCHED / "scores"
        raise UserError(f"{where}: expected scores of the matched set, found none (score it)")
    by_condition = {name: scores for name, scores in by_condition.items() if scores}
    shown = [s for s in systems if s.name in matched and s.name not in _NO_SYSTEM]
    if not shown:
        raise UserError(f"{exp / DIRECTORY / MATCHED / 'scores'}: no score of any listed system (score them)")
    conditions = []
    for name, scores in by_condition.items():
        about = read_condition(next(iter(scores.values())).about["data"])
        if about["condition"] != name:
            where = exp / DIRECTORY / name
            raise UserError(f"{where}: scored on condition '{about['condition']}' (score its own set)")
        conditions.append({**about, "rows": _rows(scores, matched, shown, facts["seed"])})
    first = next(iter(matched.values())).about
    return {
        "experiment": exp.name,
        "command": facts["command"],
        **provenance(),
        **stage_commits(facts),
        "seed": facts["seed"],
        "channels": first["channels"],
        "conditions": sorted(conditions, key=lambda one: one["place"]),
        "systems": [{"system": s.name, "trained": bool(s.model)} for s in shown],
        "microphones": _microphones(exp, microphones, systems, facts["seed"]),
    }


def _rows(
    scores: dict[str, Scores], matched: dict[str, Scores], systems: Sequence[System], seed: int
) -> list[dict]:
    """Return SI-SNRi of every system and its paired difference to the matched set."""
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
            row |= _compared({"here": one, "there": matched[system.name]}, seed)
        rows.append(row)
    return rows


def _compared(scores: dict[str, Scores], seed: int) -> dict:
    """Return the difference in dB of "here" to "there", and the share of its improvement in percent."""
    pair = paired(scores, "si_snri", "here", "there")
    if pair is None:
        return {}
    difference, bounds = paired_difference(*pair, seed)
    found = {"difference": round(difference, _DECIMALS), "difference_ci": _rounded(bounds)}
    if pair[1].mean() > 0:
        share, bounds = paired_ratio(100 * pair[0], pair[1], seed)
        found |= {"share": round(share, _DECIMALS), "share_ci": _rounded(bounds)}
    return found


def _rounded(bounds: Sequence[float]) -> list[float]:
    return [round(value, _DECIMALS) for value in bounds]


def _microphones(exp: Path, others: Sequence[Path], systems: Sequence[System], seed: int) -> list[dict]:
    """Return SI-SNRi on the whole test set of each experiment, by its number of microphones."""
    found = []
    base = load_scores(exp / "scores")
    for path in [exp, *others] if others else []:
        scores = base if path == exp else load_scores(path / "scores")
        listed = [s for s in systems if s.name in scores and s.name not in _NO_SYSTEM]
        if not listed:
            raise UserError(f"{path / 'scores'}: no score of any listed system (run the stage 'score' first)")
        matched = {name: one for name, one in base.items() if name in scores and one.ids == scores[name].ids}
        rows = _rows(scores, {s.name: matched.get(s.name, scores[s.name]) for s in listed}, listed, seed)
        for row in rows:
            if path == exp or row["system"] not in matched:  # nothing to differ from
                row |= dict.fromkeys(("difference", "difference_ci", "share", "share_ci"))
        channels = next(iter(scores.values())).about["channels"]
        found.append({"experiment": path.name, "channels": channels, "rows": rows})
    return sorted(found, key=lambda one: one["channels"])
