"""Every system over one test set: streams, and what making them cost.

``OUT/SYSTEM/`` holds ``spk1.scp .. spkS.scp``, the streams they name (float32 wav), and
``info.json``: real-time factor on one core, peak memory of the process, number of outputs.
Where a system selected or merged the outputs of a network, ``raw1.scp .. rawM.scp`` name them.
"""

import functools
import hashlib
import json
import shutil
from pathlib import Path

from frontend import atomic, packing, parallel
from frontend.datadir import MixtureSet, all_there, audio_info, write_scp
from frontend.errors import UserError
from frontend.refine import check_size
from frontend.separate_job import Task, separate_job, write_info
from frontend.streams import file_stamp
from frontend.systems import UNPROCESSED, System


def separate_set(systems: list[System], exp: str, data: str, out: str, n_talkers: int, nj: int) -> None:
    """Write the streams of every system that has none yet, or whose inputs have changed.

    One run at a time works in ``out``.

    Args:
        systems: rows of the table.
        exp: directory with a trained model per ``system.model``.
        data: a mixture set.
        out: one directory per system is made there.
        n_talkers: number of streams a rule or a blind method makes.
        nj: processes at a time, each with one thread.

    Raises:
        UserError: a model is missing or does not fit the data; found before the first separation.
    """
    mixtures = MixtureSet(data)
    channels, fs = _common_format(mixtures)
    task = Task(mixtures, fs, Path(exp), Path(out), n_talkers)
    stamps = [(e, *file_stamp(e)) for t in (mixtures.wav, *mixtures.speakers) for e in t.values()]
    for system in systems:
        about = [stamps, n_talkers, repr(system), _check(system, task, channels)]
        task.made_from[system.name] = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    todo = [s for s in systems if not _is_complete(s, task)]
    print(f"{out}: {len(systems)} systems, {len(systems) - len(todo)} of them complete", flush=True)
    for place in (task.out, task.outputs_of("")):
        for left_over in [*place.glob(".*.part"), *place.glob(".*.old")]:  # of a killed run
            shutil.rmtree(left_over)
    for system in todo:
        if system.name in UNPROCESSED:
            _name_existing(system, task)
    jobs: dict[str, list[System]] = {}
    for system in todo:
        if system.name not in UNPROCESSED:
            jobs.setdefault(system.source, []).append(system)
    _run([job for job in jobs.values() if job[0].blind], task, nj, "blind separation")
    # Only now ESPnet: the memory of the blind methods is measured without it.
    trained = [job for job in jobs.values() if job[0].model]
    if trained:
        import frontend.separate  # noqa: F401  # takes 8 s: once, for all processes forked from here
    _run(trained, task, nj, "separation")


def _run(jobs: list[list[System]], task: Task, nj: int, what: str) -> None:
    if not jobs:
        return
    total = len(jobs) * len(task.mixtures.ids)
    parallel.forked(functools.partial(separate_job, task=task), jobs, nj, what, total)


def _common_format(mixtures: MixtureSet) -> tuple[int, int]:
    first = None
    for entry in mixtures.wav.values():
        channels, _, fs = audio_info(entry)
        first = first or (channels, fs)
        if (channels, fs) != first:
            raise UserError(
                f"{entry}: expected {first[0]} channel(s) at {first[1]} Hz as in the rest of "
                f"{mixtures.path}, found {channels} at {fs} Hz"
            )
    return first


def _check(system: System, task: Task, channels: int) -> list[str]:
    """Return hashes of the trained system's files; raise UserError for whatever would stop ``system``."""
    where = f"{task.mixtures.path}: '{system.name}'"
    streams, hashes = task.n_talkers, []
    if system.block is not None:
        raise UserError(
            f"{where}: 'block' is for whole recordings, by frontend.bin.separate_long (remove it here)"
        )
    if system.model:
        with packing.opened(task.exp / system.model) as trained:
            trained.check(where, channels, task.fs)
            hashes = [
                hashlib.sha256(p.read_bytes()).hexdigest() for p in (trained.config, trained.checkpoint)
            ]
        if trained.n_outputs < task.n_talkers:
            raise UserError(
                f"{where} expects {task.n_talkers} outputs or more, {trained.path} has {trained.n_outputs}"
            )
        streams = task.n_talkers if system.rule else trained.n_outputs
    if system.blind and channels < task.n_talkers:
        raise UserError(f"{where} needs {task.n_talkers} microphones, one per talker, found {channels}")
    if system.rule == "spatial_merge" and channels < 2:
        raise UserError(f"{where} needs two or more microphones, found {channels} (leave this system out)")
    if system.refine:
        check_size(system.refine, channels, streams, f"{where}: ")
    if "oracle" in (system.name, system.rule) and not task.mixtures.n_talkers:
        raise UserError(f"{where} needs the talkers' images spk1.scp ..., found none")
    return hashes


def _is_complete(system: System, task: Task) -> bool:
    directory = task.out / system.name
    if not (directory / "info.json").is_file():
        return False
    info = json.loads((directory / "info.json").read_text(encoding="utf-8"))
    if info["made_from"] != task.made_from[system.name]:
        print(f"{directory}: its model, settings or data have changed, separating again", flush=True)
        return False
    # What a rule selects from is kept beside its streams, and as many as the outputs.
    numbers = {"spk": task.n_talkers, "raw": info["n_outputs"]} if system.rule else {"spk": info["n_outputs"]}
    if all_there(directory / f"{kind}{k}.scp" for kind, n in numbers.items() for k in range(1, n + 1)):
        return True
    print(f"{directory}: some of its files are gone, separating again", flush=True)
    return False


def _name_existing(system: System, task: Task) -> None:
    """Make the rows ``mixture`` and ``oracle``: tables that name audio which is there."""
    mixtures = task.mixtures
    tables = mixtures.speakers if system.name == "oracle" else [mixtures.wav] * task.n_talkers
    with atomic.directory(task.out / system.name) as part:
        for k, table in enumerate(tables, 1):
            write_scp(part / f"spk{k}.scp", table)
        write_info(part, system, task.made_from, rtf=None, peak_memory_mib=None, n_outputs=len(tables))
