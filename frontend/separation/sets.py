"""One source of streams (a model, a blind method) over one test set, in a process of its own.

All systems of the source share the pass over the data: the network runs once for
its selections, groupings and beamformers.

Every system over one test set: streams, and what making them cost.

``OUT/SYSTEM/`` holds ``spk1.scp .. spkS.scp``, the streams they name (float32 wav), and
``info.json``: real-time factor on one core, peak memory of the process, number of outputs.
Where a system selected or merged the outputs of a network, ``raw1.scp .. rawM.scp`` name them.

Whole recordings by every system of a table: networks, rules and blind methods, window by window.

``OUT/SYSTEM`` holds a stream of each recording and talker, ``wav/ID_spk1.flac ...`` (24 bits; what
would pass full scale is clipped), named by ``spk1.scp ...``, and ``info.json``, what it cost.
A recording that is there, made from what is there now, is left as it is.
"""

import contextlib
import functools
import hashlib
import json
import resource
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyroomacoustics
import torch

from frontend.data.audio import Recording, audio_info, entry_stamp
from frontend.data.kaldi import read_scp, write_scp
from frontend.data.mixtures import MixtureSet, all_there
from frontend.data.writers import AudioWriter, BlockWriter
from frontend.dsp.blind import separate_blind
from frontend.dsp.refine import check_size, refine
from frontend.separation.continuous import (
    HOP_S,
    WINDOW_S,
    ContinuousSeparator,
    check_window,
    window_starts,
)
from frontend.separation.labels import Labelling
from frontend.separation.pseudo_targets import select
from frontend.separation.systems import UNPROCESSED, System, load_systems, trained
from frontend.training.checkpoints import MAX_SECONDS, open_trained
from frontend.utils.errors import UserError
from frontend.utils.files import atomic_directory, write_json, write_text
from frontend.utils.parallel import parallel_map


@dataclass(frozen=True)
class Task:
    """What a process needs to know beside its systems.

    Attributes:
        mixtures: the test set.
        fs: its rate in Hz.
        exp: where the models lie.
        out: where the systems' directories go.
        n_talkers: streams wanted of a rule or a blind method.
        made_from: per system, a fingerprint of all that its streams depend on.
    """

    mixtures: MixtureSet = field(repr=False)
    fs: int
    exp: Path
    out: Path
    n_talkers: int
    made_from: dict[str, str] = field(default_factory=dict)

    def outputs_of(self, model: str) -> Path:
        """Where a network's outputs go whose selections are compared; hidden, for it is no system."""
        return self.out / ".outputs" / model


def separate_job(systems: list[System], tick: Callable[[], None], task: Task) -> None:
    """Write the streams of ``systems``, which share a source; ``tick`` is called after each utterance."""
    run = _set_source(systems[0], task)
    with contextlib.ExitStack() as stack:
        rows = {s.name: stack.enter_context(_writing(task.out / s.name, task)) for s in systems}
        raw = None
        if any(s.rule for s in systems):
            # Entered last, so complete first: the systems' tables name these files.
            raw = stack.enter_context(_writing(task.outputs_of(systems[0].model), task))
        for utterance in task.mixtures.ids:
            mixture = torch.from_numpy(task.mixtures.mixture(utterance)[0])
            references = (
                torch.from_numpy(task.mixtures.references(utterance)) if _has_oracle(systems) else None
            )
            outputs, shared_s = _timed(run, mixture)
            if raw:
                raw.write(utterance, outputs)
            for system in systems:
                work = functools.partial(_streams, system, outputs, mixture, references, task)
                streams, own_s = _timed(work)
                rows[system.name].write(utterance, streams, shared_s + own_s)
            tick()
        for system in systems:
            rows[system.name].describe(system, len(outputs), raw if system.rule else None)


def write_info(directory: Path, system: System, made_from: dict[str, str], **measured) -> None:
    """Write ``info.json``: what was measured, and what the streams were made from."""
    info = {"system": system.name, "made_from": made_from[system.name], **measured}
    write_json(directory / "info.json", info)


class _Streams:
    """A directory of streams on its way: ``part`` now, ``final`` when complete."""

    def __init__(self, part: Path, final: Path, task: Task):
        self.part, self.final, self.fs, self.made_from = part, final, task.fs, task.made_from
        self.tables: list[dict[str, str]] = []
        self.cpu_s = self.audio_s = 0.0

    def write(self, utterance: str, streams: torch.Tensor, cpu_s: float = 0.0) -> None:
        """Write streams (S, T) as float32, so that no level is lost and nothing clips."""
        while len(self.tables) < len(streams):
            self.tables.append({})
        for k, stream in enumerate(streams.numpy(), 1):
            writer = AudioWriter(self.part / f"wav{k}", "wav", self.fs, encoding="float32")
            entry = Path(writer.write(utterance, stream)).relative_to(self.part)
            self.tables[k - 1][utterance] = str(self.final / entry)
        self.cpu_s += cpu_s
        self.audio_s += streams.shape[-1] / self.fs

    def describe(self, system: System, n_outputs: int, raw: "_Streams | None") -> None:
        """Write the tables and, last, ``info.json``."""
        named = {"spk": self.tables, "raw": raw.tables if raw else []}
        for kind, tables in named.items():
            for k, table in enumerate(tables, 1):
                write_scp(self.part / f"{kind}{k}.scp", table)
        measured = {
            "rtf": round(self.cpu_s / self.audio_s, 5),
            "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "n_outputs": n_outputs,
            "seconds": round(self.audio_s, 3),
        }
        write_info(self.part, system, self.made_from, **measured)


@contextlib.contextmanager
def _writing(final: Path, task: Task) -> Iterator[_Streams]:
    with atomic_directory(final) as part:
        yield _Streams(part, final, task)


def _set_source(system: System, task: Task) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function (C, T) -> (M, T) that makes the outputs."""
    if system.model:
        from frontend.separation.model import Separator  # ESPnet; imported before the fork

        return Separator.from_pretrained(task.exp / system.model).outputs

    def run(mixture: torch.Tensor) -> torch.Tensor:
        streams = separate_blind(system.blind, mixture.numpy(), task.fs, task.n_talkers, **system.settings)
        return torch.from_numpy(streams)

    return run


def _streams(system, outputs, mixture, references, task) -> torch.Tensor:
    streams = outputs
    if system.rule:
        streams = select(
            outputs, task.n_talkers, system.rule, mixture, references, task.fs, **system.settings
        )
    return refine(streams, mixture, task.fs, system.refine) if system.refine else streams


def _has_oracle(systems: list[System]) -> bool:
    return any(s.rule == "oracle" for s in systems)


def _timed(function: Callable, *args) -> tuple[torch.Tensor, float]:
    """Return the result and the CPU seconds it took: of one thread, that is time on one core."""
    start = time.process_time()
    return function(*args), time.process_time() - start


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
    stamps = [(e, *entry_stamp(e)) for t in (mixtures.wav, *mixtures.speakers) for e in t.values()]
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
        import frontend.separation.model  # noqa: F401  # takes 8 s: once, for all processes forked from here
    _run(trained, task, nj, "separation")


def _run(jobs: list[list[System]], task: Task, nj: int, what: str) -> None:
    if not jobs:
        return
    total = len(jobs) * len(task.mixtures.ids)
    work = functools.partial(separate_job, task=task)
    list(parallel_map(work, jobs, nj, what, steps=total))


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
            f"{where}: 'block' is for whole recordings, by mixit separate --systems (remove it here)"
        )
    if system.model:
        with open_trained(task.exp / system.model) as trained:
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
    with atomic_directory(task.out / system.name) as part:
        for k, table in enumerate(tables, 1):
            write_scp(part / f"spk{k}.scp", table)
        write_info(part, system, task.made_from, rtf=None, peak_memory_mib=None, n_outputs=len(tables))


# Changes when the code of windows, stitching, rules, refinement or blind methods gives other streams.
_VERSION = 1
Source = Callable[[np.ndarray, int, bool], np.ndarray]


def separate_long(
    systems: str,
    exp: str,
    scp: str,
    out: str,
    n_talkers: int = 2,
    window_s: float = WINDOW_S,
    hop_s: float = HOP_S,
    nj: int = 1,
) -> None:
    """Separate every recording of ``scp`` with every system.

    Args:
        systems: table of systems (:mod:`frontend.separation.systems`), without ``oracle``.
        exp: where the models lie.
        scp: multi-channel recordings.
        out: where the systems' directories go.
        n_talkers: streams of rules, blind methods and ``mixture`` (the reference channel in all of them).
        window_s, hop_s: of the windows, see :mod:`frontend.separation.continuous`; a system's own ``block`` and
            ``block_hop`` take their place.
        nj: number of processes, each with one thread.

    Raises:
        UserError: a model that is not there or does not fit the recordings, found before anything is
            separated.
    """
    check_window(window_s, hop_s)
    recordings = {name: Recording([entry]) for name, entry in read_scp(scp).items()}
    table = trained(load_systems(systems), exp)
    windows = {s.name: s.windows(window_s, hop_s) for s in table}
    prints = {s.name: _fingerprints(s, exp, recordings, n_talkers, windows[s.name], systems) for s in table}
    torch.set_num_threads(1)
    for system in table:
        folder = Path(out) / system.name
        stale = [k for k in recordings if not _is_current(folder, k, prints[system.name][k])]
        if stale:
            source = _recording_source(system, exp, n_talkers)
            refinement = functools.partial(refine, steps=system.refine) if system.refine else None
            run = ContinuousSeparator(source, *windows[system.name], refinement)
            work = functools.partial(
                _separate, run=run, folder=folder, recordings=recordings, made_from=prints[system.name]
            )
            steps = sum(_windows(recordings[k], *windows[system.name]) for k in stale)
            shards = [stale[k::nj] for k in range(min(nj, len(stale)))]
            list(parallel_map(work, shards, nj, f"separate {system.name}", steps=steps))
        _write_tables(folder, system.name, list(recordings))
        rtf = json.loads((folder / "info.json").read_text())["rtf"]
        print(f"{folder}: {len(recordings)} recordings, real-time factor {rtf:.4f}", flush=True)


def _windows(recording: Recording, window_s: float, hop_s: float) -> int:
    fs = recording.fs
    return len(window_starts(recording.frames, round(window_s * fs), round(hop_s * fs)))


def _fingerprints(
    system: System,
    exp: str,
    recordings: dict[str, Recording],
    n_talkers: int,
    window: tuple[float, float],
    where: str,
) -> dict[str, str]:
    """Hash what a system's streams of each recording depend on, after checking that it fits all of them."""
    mics = min(recording.channels for recording in recordings.values())
    if system.name == "oracle" or system.rule == "oracle":
        raise UserError(f"{where}: '{system.name}': there are no true images of recordings (remove the row)")
    if system.blind and mics < n_talkers:
        raise UserError(f"{where}: '{system.name}' needs {n_talkers} microphones or more, found {mics}")
    hashes, outputs = [], n_talkers
    if system.model:
        with open_trained(Path(exp) / system.model) as found:
            for recording in recordings.values():
                found.check(recording.name, recording.channels, recording.fs)
            paths = (found.config, found.checkpoint)
            hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
            outputs = n_talkers if system.rule else found.n_outputs
        longest = min(window[0], max(recording.seconds for recording in recordings.values()))
        if longest > MAX_SECONDS:
            raise UserError(
                f"{where}: '{system.name}': expected windows of at most {MAX_SECONDS:g} s, which is "
                f"what a network takes, found {window[0]:g} s (shorten --window, or the row's 'block')"
            )
    if system.refine:
        check_size(system.refine, mics, outputs, f"{where}: {system.name}: ")
    everything = [_VERSION, pyroomacoustics.__version__, repr(system), hashes, n_talkers, window]
    return {name: _digest([*everything, r.name, entry_stamp(r.name)]) for name, r in recordings.items()}


def _digest(content: list) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _recording_source(system: System, exp: str, n_talkers: int) -> Source:
    """Return what maps a window (C, T), its rate and whether to resample to streams (S, T)."""
    if system.name == "mixture":
        return lambda mixture, fs, resample: np.repeat(mixture[:1], n_talkers, axis=0)
    if system.blind:
        return lambda mixture, fs, resample: separate_blind(
            system.blind, mixture, fs, n_talkers, **system.settings
        )
    from frontend.separation.model import Separator  # ESPnet: 8 s

    separator = Separator.from_pretrained(Path(exp) / system.model)
    if not system.rule:
        return separator
    labelling = Labelling(system.rule, n_talkers, settings=system.settings)

    def selected(mixture: np.ndarray, fs: int, resample: bool) -> np.ndarray:
        x = torch.from_numpy(mixture)
        return labelling.targets(separator.outputs(x).cpu(), x, fs).numpy()

    return selected


def _separate(
    names: Iterable[str],
    tick: Callable[[], None],
    run: ContinuousSeparator,
    folder: Path,
    recordings: dict[str, Recording],
    made_from: dict[str, str],
) -> None:
    """Write the streams of these recordings; ``tick`` is called after each window."""
    for name in names:
        recording = recordings[name]
        (folder / "wav" / f"{name}.json").unlink(missing_ok=True)
        start = time.process_time()
        pieces = run.pieces(recording.read, recording.frames, recording.fs)
        n_streams = _write_streams(folder / "wav", name, _ticking(pieces, tick), recording.fs)
        cost = {"cpu_s": time.process_time() - start, "seconds": recording.seconds, "streams": n_streams}
        # Written last: with it the recording is complete.
        write_text(folder / "wav" / f"{name}.json", json.dumps({"made_from": made_from[name], **cost}))


def _ticking(pieces: Iterable[np.ndarray], tick: Callable[[], None]) -> Iterator[np.ndarray]:
    for piece in pieces:
        yield piece
        tick()


def _write_streams(directory: Path, name: str, pieces: Iterator[np.ndarray], fs: int) -> int:
    """Write arrays (S, n), one after the other, as S files; return S."""
    n_streams = 0
    with BlockWriter(lambda k: directory / f"{name}_spk{k}.flac", fs, "pcm24") as files:
        for piece in pieces:
            files.write(piece)
            n_streams = len(piece)
    return n_streams


def _is_current(folder: Path, name: str, made_from: str) -> bool:
    stamp = folder / "wav" / f"{name}.json"
    if not stamp.is_file():
        return False
    found = json.loads(stamp.read_text())
    entries = [folder / "wav" / f"{name}_spk{k + 1}.flac" for k in range(found["streams"])]
    return found["made_from"] == made_from and all(entry.is_file() for entry in entries)


def _write_tables(folder: Path, system: str, names: list[str]) -> None:
    costs = [json.loads((folder / "wav" / f"{name}.json").read_text()) for name in names]
    for left_over in folder.glob("spk*.scp"):  # of a run with more talkers
        left_over.unlink()
    for k in range(1, costs[0]["streams"] + 1):
        write_scp(folder / f"spk{k}.scp", {name: folder / "wav" / f"{name}_spk{k}.flac" for name in names})
    seconds = sum(cost["seconds"] for cost in costs)
    info = {"system": system, "rtf": sum(cost["cpu_s"] for cost in costs) / seconds, "seconds": seconds}
    write_json(folder / "info.json", info)
