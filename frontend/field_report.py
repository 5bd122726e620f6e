"""Separated recordings, measured without references, as REPORT.md and report.json."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from frontend import atomic, field_page
from frontend.audio import audio_info
from frontend.errors import UserError
from frontend.field_measures import measure, pooled
from frontend.long_streams import find_streams
from frontend.mixit_validation import validate_teacher
from frontend.parallel import parallel_map
from frontend.provenance import provenance
from frontend.run_facts import stage_commits
from frontend.systems import load_systems
from frontend.tables import read_scp
from frontend.text_file import read_json


def write_report(
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
        separated: one directory of streams per system (:mod:`frontend.separate_long`).
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
        "wer": _words(wer, names),
        "teacher": {name: validate_teacher(model, dev, talkers, seed) for name, model in teachers.items()},
    }
    atomic.write_text(Path(out) / "report.json", json.dumps(_rounded(report), indent=1) + "\n")
    atomic.write_text(
        Path(out) / "REPORT.md", field_page.page(report)
    )  # last: with it the report is complete
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


def _words(folder: str | None, names: list[str]) -> dict:
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
