"""What a network was really trained with, from the configuration that its training wrote down.

Gather scores, run times and curves of one or more experiments into ``results.json`` and ``RESULTS.md``.

The page is made from the results alone (:mod:`frontend.report.pages`), so that every
number on it stands in ``results.json`` and none was typed.

Separated recordings, measured without references, as REPORT.md and report.json.

What a trained system loses where the array, the room or the noise is not that of its training.

Scores of ``EXP/mismatch/CONDITION/scores`` against those of ``EXP/mismatch/matched/scores``, paired by
mixture (:mod:`frontend.simulation.conditions`), and of experiments with other numbers of microphones, each trained and
tested with its own.

The paper's two claims over several training seeds: ``CLAIMS.md``, ``claims.json`` and a picture.

(a) The student is cured of the teacher's over-separation. (b) With few labels, semi-supervision reaches most
of what full supervision improves. Zhang, Zorila, Doddipatla, Barker: Teacher-Student MixIT, Interspeech 2021.
The page is made from the results alone (:mod:`frontend.report.pages`).
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from frontend.data.audio import audio_info
from frontend.data.kaldi import read_scp
from frontend.data.mixtures import find_streams
from frontend.evaluation.agreement import comparable, disagreements, rank_order
from frontend.evaluation.intervals import paired_difference, paired_ratio
from frontend.evaluation.results import (
    DRY,
    WORD_CLAIMS,
    Scores,
    Words,
    claims,
    comparisons,
    counted,
    error_sources,
    interval,
    load_scores,
    load_words,
    mean,
    over_separation,
    paired,
    recogniser,
    table_row,
    word_columns,
    word_comparisons,
)
from frontend.evaluation.runs import (
    FULL,
    MEASURES,
    MIXTURE,
    Runs,
    against_blind,
    best_blind,
    blind_rows,
    check_recogniser,
    check_refinement_is_there,
    claims_over_separation,
    curve,
    curve_points,
    load_runs,
    missing,
    references,
    refined,
    shares_of_full,
)
from frontend.evaluation.without_references import measure, pooled, validate_teacher
from frontend.report.listening import main_system
from frontend.report.pages import recordings_page, render_claims, render_mismatch, render_page
from frontend.report.plots import learning_curves, plot_claims, plot_curves, plot_words
from frontend.separation.systems import System, load_systems, trained
from frontend.simulation.conditions import MATCHED, read_condition
from frontend.utils.errors import UserError
from frontend.utils.files import read_json, read_settings, read_text, write_text
from frontend.utils.parallel import parallel_map
from frontend.utils.provenance import provenance, run_facts, stage_commits


def training_facts(directory: Path) -> dict:
    """Return the settings that differ between the networks of a recipe.

    Args:
        directory: of the training; its ``config.yaml`` says what the options made of its settings.

    Returns:
        None for what is not set or not known, as of a packed network whose training is elsewhere.

    Raises:
        UserError: ``config.yaml`` is no YAML.
    """
    path = directory / "config.yaml"
    config = read_settings(path, "configuration of a training") if path.is_file() else {}
    epochs, iterations = config.get("max_epoch"), config.get("num_iters_per_epoch")
    init = config.get("init_param")  # FILE[:source[:destination...]] each
    return {
        "model": directory.name,
        "network": config.get("separator"),
        "parameters": _parameters(directory / "valid.loss.ave.pth"),
        "precision": (config.get("separator_conf") or {}).get("precision"),
        "epochs": epochs,
        "steps": epochs * iterations if epochs and iterations else None,
        "lr": (config.get("optim_conf") or {}).get("lr"),
        "init": None if init is None else [Path(str(one).split(":")[0]).parent.name for one in init],
        "train_set": _set_of(config, "train"),
        "valid_set": _set_of(config, "valid"),
    }


def _set_of(config: dict, part: str) -> str | None:
    entries = config.get(f"{part}_data_path_and_name_and_type")
    return Path(entries[0][0]).parent.name if entries else None


def _parameters(checkpoint: Path) -> int | None:
    """Count the numbers in a state dict; our networks store nothing else in it."""
    if not checkpoint.exists():
        return None
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return sum(tensor.numel() for tensor in state.values())


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
    write_text(out / "results.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    write_text(out / "RESULTS.md", render_page(results, texts))
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
    both = comparable(scores, words, names)
    recognisers = [_recogniser(words)] if words else []
    return {
        "recognisers": _named(path, recognisers),
        "not_counted": _named(path, [{"system": name} for name in names if words and name not in words]),
        "error_sources": error_sources(words, names, channels, seed),
        "order": rank_order(scores, words, both, channels, seed),
        "disagreements": disagreements(scores, words, both, main, channels),
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


def write_recordings_report(
    data: str,
    separated: str,
    dev: str,
    teachers: Mapping[str, str],
    systems: str,
    out: str,
    talkers: int = 2,
    wer: str | None = None,
    seed: int = 0,
    nj: int = 1,
) -> dict:
    """Measure all systems on all recordings and write the report.

    Args:
        data: the whole recordings.
        separated: one directory of streams per system (:mod:`frontend.separation.sets`).
        dev: held-out chunks.
        teachers: name -> model, whose MixIT loss on ``dev`` is computed.
        systems: the table of systems, whose order the report keeps.
        out: directory for REPORT.md and report.json.
        talkers: streams a recording.
        wer: directory with what ``bin.long_wer`` counted, ``SYSTEM.json`` each.
        seed: of the random assignment, and of the mixtures of chunks.
        nj: number of processes.

    Returns:
        what report.json holds.

    Raises:
        UserError: no streams, or streams of other recordings.
    """
    wav = read_scp(Path(data) / "wav.scp")
    names = [s.name for s in load_systems(systems) if (Path(separated) / s.name / "info.json").is_file()]
    if not names:
        raise UserError(
            f"{separated}: expected the streams of systems of {systems}, found none (separate first)"
        )
    tables = {name: find_streams(Path(separated) / name, wav) for name in names}
    jobs = [
        (recording, entry, [table[recording] for table in tables[name]])
        for name in names
        for recording, entry in wav.items()
    ]
    rows = parallel_map(partial(_measure, seed=seed), jobs, nj, "report")
    measured = {name: {recording: next(rows) for recording in wav} for name in names}
    for _ in rows:  # lets the processes end
        pass
    channels, _, fs = audio_info(next(iter(wav.values())))
    report = {
        "recordings": {name: round(audio_info(entry)[1] / fs, 3) for name, entry in wav.items()},
        "channels": channels,
        "fs": fs,
        "talkers": talkers,
        "seed": seed,
        "made": _made(Path(out) / "stages.json"),
        "systems": {name: _system(Path(separated) / name, measured[name]) for name in names},
        "wer": _recordings_words(wer, names),
        "teacher": {name: validate_teacher(model, dev, talkers, seed) for name, model in teachers.items()},
    }
    write_text(Path(out) / "report.json", json.dumps(_rounded(report), indent=1) + "\n")
    write_text(Path(out) / "REPORT.md", recordings_page(report))  # last: with it the report is complete
    return report


def _made(facts: Path) -> dict:
    """What the recipe noted of its run, if it did; date, versions and machine of this report."""
    run = read_json(facts) if facts.is_file() else {}
    return {
        "command": run.get("command"),
        "stages": run.get("stages", {}),
        **provenance(),
        **stage_commits(run),
    }


def _measure(job: tuple[str, str, list[str]], seed: int) -> dict:
    return measure(*job, seed=seed)


def _system(folder: Path, rows: Mapping[str, dict]) -> dict:
    return {
        "rtf": read_json(folder / "info.json")["rtf"],
        "all": pooled(list(rows.values())),
        "recordings": dict(rows),
    }


def _recordings_words(folder: str | None, names: list[str]) -> dict:
    """Return each system's pooled cpWER in percent with its interval."""
    if folder is None:
        return {}
    paths = {name: Path(folder) / f"{name}.json" for name in names}
    return {name: read_json(path)["pooled"]["cpwer"] for name, path in paths.items() if path.is_file()}


def _rounded(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, 5) if isinstance(value, float) else value


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
    results = collect_mismatch(exp, load_systems(systems), microphones, listed)
    write_text(out / "mismatch.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    write_text(out / "MISMATCH.md", render_mismatch(results))
    return results


def collect_mismatch(
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
    found = {"difference": round(difference, _DECIMALS), "difference_ci": _mismatch_rounded(bounds)}
    if pair[1].mean() > 0:
        share, bounds = paired_ratio(100 * pair[0], pair[1], seed)
        found |= {"share": round(share, _DECIMALS), "share_ci": _mismatch_rounded(bounds)}
    return found


def _mismatch_rounded(bounds: Sequence[float]) -> list[float]:
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
    results = {"command": command, **provenance(), **collect_claims(runs, refinement), "missing": absent}
    if not results["curve"]:
        raise UserError(f"no row of the label curve in the scores of {', '.join(runs.names)}")
    plot_claims(results, out / PICTURE)
    results["picture"] = PICTURE
    write_text(out / "claims.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    write_text(out / "CLAIMS.md", render_claims(results))
    return results


def collect_claims(runs: Runs, refinement: str | None) -> dict:
    """Return the figures of ``claims.json``; see :func:`write_claims`."""
    points = curve_points(runs)
    plain = blind_rows(runs, None)
    blind = plain + (blind_rows(runs, refinement) if refinement else [])
    names = [refined(point.name, steps) for point in points for steps in (None, refinement)]
    check_recogniser(runs, [MIXTURE, *blind, *names])
    rows, beside = curve(runs, points, refinement), references(runs, refinement)
    return {
        "experiments": [_claims_experiment(runs, k) for k in range(len(runs.names))],
        "seed": runs.seed,
        "refinement": refinement,
        "goal": GOAL,
        "label_share": next(point.share for point in points if point.name == "student_ft"),
        "test_set": _test_set(runs),
        "over_separation": claims_over_separation(runs, refinement),
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


def _claims_experiment(runs: Runs, k: int) -> dict:
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
