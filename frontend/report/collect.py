"""From the measurements of experiments to the JSON of a report and its page.

The page is made from the JSON alone, by :func:`frontend.report.pages.write_page`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from frontend.evaluation.measured import Scores, Words, load_scores, load_words
from frontend.evaluation.results import (
    DRY,
    WORD_CLAIMS,
    claims,
    comparisons,
    counted,
    error_sources,
    over_separation,
    rank_order,
    table_row,
    word_columns,
    word_comparisons,
)
from frontend.evaluation.without_references import parameters
from frontend.report.pages import write_page
from frontend.report.plots import learning_curves, plot_curves, plot_words
from frontend.separation.systems import System, fits, load_systems, trained
from frontend.utils.errors import UserError
from frontend.utils.files import read_json, read_settings, read_text, write_json
from frontend.utils.provenance import provenance, run_facts, stage_commits

CURVES, WORD_PLOT = "curves.png", "cpwer_sisnri.png"
NOTHING_SCORED = "no score of any listed system (run the stage 'score' first)"


def write_results(out: Path, name: str, results: Mapping) -> None:
    """Write ``NAME.json`` and then its page: with the page the report is complete."""
    write_json(out / f"{name}.json", results, allow_nan=False)
    write_page(out / f"{name}.json")


# --- one or more experiments


def write_report(
    experiments: Sequence[Path],
    systems: Path,
    out: Path,
    configs: Sequence[Path] = (),
    quality: Sequence[Path] = (),
    quick: bool = False,
) -> dict:
    """Write ``results.json``, ``RESULTS.md`` and, where there is something to draw, pictures to ``out``.

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
    results = collect(experiments, load_systems(systems, every=True), quality, quick)
    curves = {
        (f"{experiment.name}/{name}" if len(experiments) > 1 else name): network
        for experiment in experiments
        for name, network in learning_curves(experiment).items()
    }
    results["pictures"] = {}
    if curves:
        plot_curves(curves, out / CURVES)
        results["pictures"]["curves"] = CURVES
    if plot_words(results["rows"], out / WORD_PLOT):
        results["pictures"]["words"] = WORD_PLOT
    results["configs"] = texts
    write_results(out, "results", results)
    return results


def collect(
    experiments: Sequence[Path], systems: Sequence[System], quality: Sequence[Path], quick: bool
) -> dict:
    """Return what ``results.json`` holds but for pictures and configurations; see :func:`write_report`."""
    runs = [run_facts(path) for path in experiments]
    seed = runs[0]["seed"]
    results: dict = {
        "experiments": [path.name for path in experiments],
        "quick": quick,
        "command": runs[0]["command"],
        **provenance(),
        **stage_commits(runs[0]),
        "seed": seed,
        "stages": {},
    }
    for path, run in zip(experiments, runs, strict=True):
        before = "" if run is runs[0] else f"{path.name}/"
        results["stages"] |= {f"{before}{stage}": seconds for stage, seconds in run["stages"].items()}
        for key, entries in _experiment(path, run, systems, seed).items():
            results.setdefault(key, []).extend(entries)
    _check_alike(experiments, results["test_sets"])
    # In the order of the systems file; of one system, the experiment named first comes first.
    place = {system.name: k for k, system in enumerate(_with_dry(systems))}
    results["rows"].sort(key=lambda row: place[row["system"]])
    results["pseudo_targets"] = [_quality(path) for path in quality]
    return results


def _experiment(path: Path, run: dict, systems: Sequence[System], seed: int) -> dict[str, list]:
    """Return what one experiment adds to each list of the results."""
    systems = trained(list(systems), path)
    every, single = load_scores(path / "scores"), load_scores(path / "scores" / "one_talker")
    scores = {system.name: every[system.name] for system in systems if system.name in every}
    if not scores:
        raise UserError(f"{path / 'scores'}: {NOTHING_SCORED}")
    about = _describe(path, next(iter(scores.values())))
    listed = [system.name for system in _with_dry(systems)]
    words = {name: one for name, one in load_words(path / "wer").items() if name in listed}
    # Counts of a second recogniser that is no longer there are not kept up to date.
    separated = load_words(path / "wer_separated") if (path / "asr_separated").is_dir() else {}
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
    names, channels = [row["system"] for row in rows], about["channels"]
    numbers = [int(number) for number in str(channels).split("-")]  # fewest and most, where they differ
    missing = [s.name for s in systems if s.name not in every and all(fits(s, n) for n in numbers)]
    spread = over_separation(scores, systems, "test", seed)
    spread += over_separation(single, systems, "one talker", seed)
    networks = {s.model: s.network(path) for s in systems if s.name in scores and s.model}
    uncounted = [name for name in names if words and name not in words]
    return {
        "rows": rows,
        "comparisons": comparisons(scores, single, seed)
        + word_comparisons(words, [*WORD_CLAIMS, *claims(names)], channels, seed),
        "over_separation": _named(path, spread),
        "not_scored": _named(path, [{"system": name} for name in missing]),
        "test_sets": [about],
        "networks": _named(path, [*map(training_facts, networks.values())]),
        "talkers_counted": _named(path, counted(scores, single, systems, seed)),
        **_per_system(scores),
        "recognisers": _named(path, [_recogniser(words)] if words else []),
        "not_counted": _named(path, [{"system": name} for name in uncounted]),
        "error_sources": error_sources(words, names, channels, seed),
        "order": rank_order(scores, words, names, channels),
    }


def training_facts(directory: Path) -> dict:
    """Return the settings that differ between the networks of a recipe.

    The ``config.yaml`` of a training holds the settings that were in force. None is what is not set or not
    known, as of a packed network whose training is elsewhere.
    """
    path = directory / "config.yaml"
    config = read_settings(path, "configuration of a training") if path.is_file() else {}
    epochs, iterations = config.get("max_epoch"), config.get("num_iters_per_epoch")
    init = config.get("init_param")  # FILE[:source[:destination...]] each
    sets = {
        part: config.get(f"{part}_data_path_and_name_and_type") or [[None]] for part in ("train", "valid")
    }
    return {
        "model": directory.name,
        "network": config.get("separator"),
        "parameters": parameters(directory),
        "precision": (config.get("separator_conf") or {}).get("precision"),
        "epochs": epochs,
        "steps": epochs * iterations if epochs and iterations else None,
        "lr": (config.get("optim_conf") or {}).get("lr"),
        "init": None if init is None else [Path(str(one).split(":")[0]).parent.name for one in init],
        **{f"{part}_set": first and Path(first).parent.name for part, ((first, *_), *_) in sets.items()},
    }


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
    """Read the quality of pseudo-targets, with the experiment of the network that made them and their set."""
    found = read_json(path)
    if "model" not in found:
        raise UserError(
            f"{path}: expected 'model', which made the targets, found {', '.join(found) or 'nothing'}"
        )
    return {"experiment": Path(found["model"]).parent.name, "set": path.parent.name, **found}


def _recogniser(words: dict[str, Words]) -> dict:
    """Return the recogniser of most systems and of the others, the words said, and the normaliser."""
    about = [one.about for one in words.values()]
    used = [one["asr"] for one in about]
    asr = max(used, key=used.count)
    others = {one["system"]: one["asr"] for one in about if one["asr"] != asr}
    return {"asr": asr, "others": others, **{key: about[0][key] for key in ("data", "words", "normaliser")}}


def _with_dry(systems: Sequence[System]) -> list[System]:
    """Return the rows there can be: dry speech is no system, and comes last where it is not listed."""
    return [*systems, *([] if DRY in [system.name for system in systems] else [System(DRY)])]


def _named(path: Path, entries: Sequence[Mapping]) -> list[dict]:
    return [{"experiment": path.name, **entry} for entry in entries]


def _per_system(scores: dict[str, Scores]) -> dict[str, list]:
    """Return the cost of each system, and the utterances without a score."""
    found: dict[str, list] = {"cost": [], "refused": [], "silent": []}
    for name, one in scores.items():
        who = {"system": name, "channels": one.about["channels"]}
        info = one.about["info"]
        if info.get("rtf") is not None:
            found["cost"].append({**who, **{k: info.get(k) for k in ("rtf", "peak_memory_mib", "n_outputs")}})
        for key in ("stoi", "pesq"):
            if ids := one.refused(key):
                found["refused"].append({**who, "measure": key, "utterances": ids})
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
