"""Gather scores, run times and curves of one or more experiments into ``results.json`` and ``RESULTS.md``.

The page is made from the results alone (:mod:`frontend.page`), so that every
number on it stands in ``results.json`` and none was typed.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from frontend import atomic
from frontend.curves import learning_curves, plot_curves
from frontend.errors import UserError
from frontend.page import render
from frontend.provenance import provenance
from frontend.results import Scores, comparisons, load_scores, over_separation, table_row
from frontend.systems import System, load_systems

CURVES = "curves.png"


def write_report(
    experiments: Sequence[Path],
    systems: Path,
    out: Path,
    configs: Sequence[Path] = (),
    quality: Sequence[Path] = (),
    quick: bool = False,
) -> dict:
    """Write ``RESULTS.md``, ``results.json`` and, where networks were trained, ``curves.png`` to ``out``.

    Args:
        experiments: directories with ``scores/`` and ``stages.json``; the first gives command and seed.
        systems: the systems file, whose order the rows keep.
        out: directory.
        configs: files to embed in the page.
        quality: ``quality.json`` files of pseudo-targets.
        quick: mark the page: its numbers mean nothing.

    Returns:
        what ``results.json`` holds.

    Raises:
        UserError: no scores, no ``stages.json``, an unreadable file.
    """
    texts = {path.name: _text(path) for path in configs}
    results = collect(experiments, load_systems(systems), quality, quick)
    curves = {
        (f"{experiment.name}/{name}" if len(experiments) > 1 else name): network
        for experiment in experiments
        for name, network in learning_curves(experiment).items()
    }
    if curves:
        plot_curves(curves, out / CURVES)
    atomic.write_text(out / "results.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    atomic.write_text(out / "RESULTS.md", render(results, texts, CURVES if curves else None))
    return results


def collect(
    experiments: Sequence[Path], systems: Sequence[System], quality: Sequence[Path], quick: bool
) -> dict:
    """Return everything ``results.json`` holds; see :func:`write_report`."""
    runs = [_run_facts(path) for path in experiments]
    seed = runs[0]["seed"]
    results = {
        "experiments": [path.name for path in experiments],
        "quick": quick,
        "command": runs[0]["command"],
        **provenance(),
        "seed": seed,
        "stages": {
            (stage if run is runs[0] else f"{path.name}/{stage}"): seconds
            for path, run in zip(experiments, runs, strict=True)
            for stage, seconds in run["stages"].items()
        },
    }
    lists = ("rows", "comparisons", "over_separation", "cost", "refused", "silent", "not_scored", "test_sets")
    results |= {key: [] for key in lists}
    for path, run in zip(experiments, runs, strict=True):
        for key, entries in _experiment(path, run, systems, seed).items():
            results[key] += entries
    # As the systems file has them; of one system, the experiment named first comes first.
    order = {system.name: k for k, system in enumerate(systems)}
    results["rows"].sort(key=lambda row: order[row["system"]])
    results["pseudo_targets"] = [{"file": path.parent.name, **_json(path)} for path in quality]
    return results


def _experiment(path: Path, run: dict, systems: Sequence[System], seed: int) -> dict[str, list]:
    every, single = load_scores(path / "scores"), load_scores(path / "scores" / "one_talker")
    order = [system.name for system in systems]
    scores = {name: every[name] for name in order if name in every}
    if not scores:
        raise UserError(f"{path / 'scores'}: no score of any listed system (run the stage 'score' first)")
    rows = [table_row(s, scores[s.name], _share(s, run, path), seed) for s in systems if s.name in scores]
    found = {
        "rows": rows,
        "comparisons": comparisons(scores, single, seed),
        "over_separation": over_separation(scores, order, "test", seed)
        + over_separation(single, order, "one talker", seed),
        "not_scored": [{"experiment": path.name, "system": name} for name in order if name not in every],
        "test_sets": [_describe(path, next(iter(scores.values())))],
    }
    return found | _per_system(scores)


def _per_system(scores: dict[str, Scores]) -> dict[str, list]:
    """What each system cost, and which utterances have no score."""
    found: dict[str, list] = {"cost": [], "refused": [], "silent": []}
    for name, one in scores.items():
        who = {"system": name, "channels": one.about["channels"]}
        info = one.about["info"]
        if info.get("rtf") is not None:
            found["cost"].append({**who, **{k: info.get(k) for k in ("rtf", "peak_memory_mib", "n_outputs")}})
        for measure in ("stoi", "pesq"):
            if ids := one.refused(measure):
                found["refused"].append({**who, "measure": measure, "utterances": ids})
        if one.silent:
            found["silent"].append({**who, "utterances": one.silent})
    return found


def _describe(path: Path, scores: Scores) -> dict:
    about = {key: scores.about[key] for key in ("data", "channels", "fs", "talkers", "measures", "active_db")}
    return {"experiment": path.name, **about, "n": len(scores.utterances)}


def _run_facts(path: Path) -> dict:
    """Read what run.sh noted in ``stages.json``: command, seed, share of labels, seconds of each stage."""
    if not path.is_dir():
        raise UserError(f"{path}: expected the directory of an experiment, found none (check the path)")
    facts = _json(path / "stages.json")
    for key in ("command", "seed", "stages"):
        if key not in facts:
            raise UserError(
                f"{path / 'stages.json'}: expected '{key}', found {', '.join(facts) or 'nothing'}"
            )
    return {**facts, "seed": int(facts["seed"])}


def _share(system: System, run: dict, path: Path) -> float | None:
    if system.labels != "small":
        return None
    if "label_share" not in run:
        raise UserError(
            f"{path / 'stages.json'}: expected 'label_share', the labelled share {system.name} used"
        )
    return float(run["label_share"])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: expected a file, found none (check the path)") from None


def _json(path: Path) -> dict:
    try:
        content = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg} (make it again)") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(content).__name__} (make it again)")
    return content
