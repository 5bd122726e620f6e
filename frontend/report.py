"""Gather scores, run times and curves of one or more experiments into ``results.json`` and ``RESULTS.md``.

The page is made from the results alone (:mod:`frontend.page`), so that every
number on it stands in ``results.json`` and none was typed.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from frontend import agreement, atomic
from frontend.counting import counted
from frontend.curves import learning_curves, plot_curves
from frontend.errors import UserError
from frontend.listen_choice import main_system
from frontend.page import render
from frontend.provenance import provenance
from frontend.results import Scores, claims, comparisons, load_scores, over_separation, table_row
from frontend.run_facts import run_facts, stage_commits
from frontend.systems import System, load_systems, trained
from frontend.text_file import read_json, read_text
from frontend.training_facts import training_facts
from frontend.word_plot import plot_words
from frontend.word_results import (
    DRY,
    WORD_CLAIMS,
    Words,
    error_sources,
    load_words,
    word_columns,
    word_comparisons,
)

CURVES, WORD_PLOT = "curves.png", "cpwer_sisnri.png"


def write_report(
    experiments: Sequence[Path],
    systems: Path,
    out: Path,
    configs: Sequence[Path] = (),
    quality: Sequence[Path] = (),
    quick: bool = False,
) -> dict:
    """Write ``RESULTS.md``, ``results.json`` and, where there is something to draw, pictures to ``out``.

    Args:
        experiments: directories with ``scores/`` and ``stages.json``, with ``wer/`` and ``wer_separated/``
            where words were counted; the first gives command and seed.
        systems: the systems file, whose order the rows keep.
        out: directory.
        configs: files to embed in the page.
        quality: ``quality.json`` files of pseudo-targets, of any of the experiments.
        quick: mark the page: its numbers mean nothing.

    Returns:
        what ``results.json`` holds.

    Raises:
        UserError: no scores, no ``stages.json``, an unreadable file, experiments of other rates or talkers.
    """
    texts = {path.as_posix(): read_text(path) for path in configs}
    results = collect(experiments, load_systems(systems), quality, quick)
    curves = {
        (f"{experiment.name}/{name}" if len(experiments) > 1 else name): network
        for experiment in experiments
        for name, network in learning_curves(experiment).items()
    }
    if curves:
        plot_curves(curves, out / CURVES)
    drawn = plot_words(results["rows"], out / WORD_PLOT)
    pictures = {"curves": CURVES if curves else None, "words": WORD_PLOT if drawn else None}
    results["pictures"] = {key: name for key, name in pictures.items() if name}
    atomic.write_text(out / "results.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    atomic.write_text(out / "RESULTS.md", render(results, texts))
    return results


def collect(
    experiments: Sequence[Path], systems: Sequence[System], quality: Sequence[Path], quick: bool
) -> dict:
    """Return everything ``results.json`` holds; see :func:`write_report`."""
    runs = [run_facts(path) for path in experiments]
    seed = runs[0]["seed"]
    results = {
        "experiments": [path.name for path in experiments],
        "quick": quick,
        "command": runs[0]["command"],
        **provenance(),
        **stage_commits(runs[0]),
        "seed": seed,
        "stages": {
            (stage if run is runs[0] else f"{path.name}/{stage}"): seconds
            for path, run in zip(experiments, runs, strict=True)
            for stage, seconds in run["stages"].items()
        },
    }
    for path, run in zip(experiments, runs, strict=True):
        for key, entries in _experiment(path, run, systems, seed).items():
            results.setdefault(key, []).extend(entries)
    _check_alike(experiments, results["test_sets"])
    # As the systems file has them; of one system, the experiment named first comes first.
    place = {system.name: k for k, system in enumerate(_with_dry(systems))}
    results["rows"].sort(key=lambda row: place[row["system"]])
    results["pseudo_targets"] = [_quality(path) for path in quality]
    return results


def _check_alike(experiments: Sequence[Path], sets: Sequence[Mapping]) -> None:
    """Raise UserError unless the experiments, which share a table, differ in their microphones at most."""
    for path, about in zip(experiments, sets, strict=True):
        for key, what in (("fs", "Hz"), ("talkers", "talkers")):
            if about[key] != sets[0][key]:
                raise UserError(
                    f"{path / 'scores'}: of a test set of {about[key]} {what}, expected {sets[0][key]} as in "
                    f"{experiments[0] / 'scores'}: they cannot share a table (make a report of each)"
                )


def _quality(path: Path) -> dict:
    """Read how good pseudo-targets are, with the experiment of the network that made them and their set."""
    found = read_json(path)
    if "model" not in found:
        raise UserError(
            f"{path}: expected 'model', which made the targets, found {', '.join(found) or 'nothing'}"
        )
    return {"experiment": Path(found["model"]).parent.name, "set": path.parent.name, **found}


def _experiment(path: Path, run: dict, systems: Sequence[System], seed: int) -> dict[str, list]:
    systems = trained(list(systems), path)
    every, single = load_scores(path / "scores"), load_scores(path / "scores" / "one_talker")
    scores = {system.name: every[system.name] for system in systems if system.name in every}
    if not scores:
        raise UserError(f"{path / 'scores'}: no score of any listed system (run the stage 'score' first)")
    about = _describe(path, next(iter(scores.values())))
    missing = [s.name for s in systems if s.name not in every and (about["channels"] > 1 or not _spatial(s))]
    words = _words_of(path / "wer", systems)
    # What a second recogniser heard that was removed since, nobody keeps up to date.
    separated = _words_of(path / "wer_separated", systems) if (path / "asr_separated").is_dir() else {}
    rows = [
        table_row(
            system,
            scores.get(system.name),
            word_columns(words.get(system.name), separated.get(system.name), seed),
            about,
            _share(system, run, path),
            seed,
        )
        for system in _with_dry(systems)
        if system.name in scores or system.name in words
    ]
    spread = over_separation(scores, systems, "test", seed)
    spread += over_separation(single, systems, "one talker", seed)
    networks = dict.fromkeys(system.model for system in systems if system.name in scores and system.model)
    found = {
        "rows": rows,
        "comparisons": comparisons(scores, single, seed),
        "over_separation": _named(path, spread),
        "not_scored": _named(path, [{"system": name} for name in missing]),
        "test_sets": [about],
        "networks": _named(path, [training_facts(path / model) for model in networks]),
        "talkers_counted": _named(path, counted(scores, single, systems, seed, least=3)),
    }
    names = [row["system"] for row in rows]
    pairs = [*WORD_CLAIMS, *claims(names)]
    found["comparisons"] += word_comparisons(words, pairs, about["channels"], seed)
    return (
        found | _per_system(scores) | _words(path, scores, words, names, main_system(scores, systems), seed)
    )


def _words_of(directory: Path, systems: Sequence[System]) -> dict[str, Words]:
    """Read the word errors of the systems that are listed."""
    listed = [system.name for system in _with_dry(systems)]
    return {name: words for name, words in load_words(directory).items() if name in listed}


def _words(
    path: Path, scores: dict[str, Scores], words: dict[str, Words], names: list[str], main: str, seed: int
) -> dict[str, list]:
    """What the word errors say beyond rows and comparisons; lists that are empty where none were counted."""
    channels = next(iter(scores.values())).about["channels"]
    both = agreement.comparable(scores, words, names)
    recognisers = [_recogniser(words)] if words else []
    return {
        "recognisers": _named(path, recognisers),
        "not_counted": _named(path, [{"system": name} for name in names if words and name not in words]),
        "error_sources": error_sources(words, names, channels, seed),
        "order": agreement.order(scores, words, both, channels, seed),
        "disagreements": agreement.disagreements(scores, words, both, main, channels),
    }


def _recogniser(words: dict[str, Words]) -> dict:
    """Who heard the systems, how many words were said, and how they were compared; others by system."""
    about = [one.about for one in words.values()]
    heard_by = [one["asr"] for one in about]
    asr = max(heard_by, key=heard_by.count)
    others = {one["system"]: one["asr"] for one in about if one["asr"] != asr}
    return {"asr": asr, "others": others, **{key: about[0][key] for key in ("data", "words", "normaliser")}}


def _with_dry(systems: Sequence[System]) -> list[System]:
    """Return the rows there can be: dry speech is no system, and comes last where it is not listed."""
    return [*systems, *([] if DRY in [system.name for system in systems] else [System(DRY)])]


def _named(path: Path, entries: Sequence[Mapping]) -> list[dict]:
    return [{"experiment": path.name, **entry} for entry in entries]


def _spatial(system: System) -> bool:
    """Whether a system needs more than one microphone."""
    return bool(system.blind or system.refine or system.rule == "spatial_merge")


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
    numbers = sorted({row["talkers"] for row in scores.utterances})
    if len(numbers) > 1:
        about["talkers"] = " or ".join(map(str, numbers))
    return {"experiment": path.name, **about, "n": len(scores.utterances)}


def _share(system: System, run: dict, path: Path) -> float | None:
    if system.labels != "small":
        return None
    if "label_share" not in run:
        raise UserError(
            f"{path / 'stages.json'}: expected 'label_share', the labelled share {system.name} used"
        )
    return float(run["label_share"])
