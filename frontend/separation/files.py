"""A user's recordings in, one file per talker out. What needs torch is imported when it is called."""

from __future__ import annotations

import functools
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from frontend.data.audio import Recording
from frontend.data.kaldi import read_entries
from frontend.data.recordings import in_channel_order
from frontend.data.writers import BlockWriter
from frontend.training.checkpoints import MAX_SECONDS, open_trained
from frontend.utils.errors import UserError
from frontend.utils.parallel import Progress

if TYPE_CHECKING:
    from frontend.separation.continuous import ContinuousSeparator


@dataclass(frozen=True)
class Job:
    """One recording: what to read, and the files to write."""

    recording: Recording
    outputs: list[Path]


@dataclass(frozen=True)
class How:
    """How to separate.

    Attributes:
        resample: whether rates other than the model's are fine.
        refine: steps of :mod:`frontend.dsp.refine` that are wanted, or None.
        device: ``cpu``, ``cuda``, ...
        max_seconds: longer recordings are separated continuously.
        window: length of a window in seconds; if given, whatever is longer is separated continuously.
        hop: from one window to the next in seconds; default half a window.

    Raises:
        UserError: windows that do not overlap.
    """

    resample: bool = False
    refine: str | None = None
    device: str = "cpu"
    max_seconds: float = MAX_SECONDS
    window: float | None = None
    hop: float | None = None

    def __post_init__(self):
        from frontend.separation.continuous import check_window

        check_window(*self.windows)

    @property
    def windows(self) -> tuple[float, float]:
        """Window and hop in seconds."""
        from frontend.separation.continuous import WINDOW_S

        window = WINDOW_S if self.window is None else self.window
        return window, window / 2 if self.hop is None else self.hop

    def is_long(self, recording: Recording) -> bool:
        """Whether a recording is separated continuously."""
        window, _ = self.windows
        return recording.seconds > (max(window, self.max_seconds) if self.window is None else window)


def plan(
    inputs: list[str],
    scp: str | None,
    model: str,
    out: str,
    resample: bool = False,
    refine: str | None = None,
    join: str | None = None,
) -> list[Job]:
    """Decide which files will be made, and check all that can be checked without reading the audio.

    Args:
        inputs: files, whose streams are named after their stems.
        scp: a table, instead of files; streams are named after the ids.
        model: the trained system.
        out: directory for the streams.
        resample: see :class:`How`.
        refine: see :class:`How`.
        join: the inputs are the channels of one recording, one file each, which is named so; in the order
            of the numbers in their names.

    Raises:
        UserError: missing or unreadable recordings, channels or rates that do not fit the model,
            a dead reference channel, two recordings that would be written to the same files, an output that
            is an input.
    """
    if join:
        ordered = in_channel_order(inputs)
        if ordered != list(inputs):
            print(f"{join}: channels in the order of their numbers: {' '.join(ordered)}", flush=True)
        entries = [(join, ordered)]
    else:
        pairs = read_entries(scp).items() if scp else [(Path(p).stem, p) for p in inputs]
        entries = [(name, [entry]) for name, entry in pairs]
    with open_trained(model) as trained:
        if refine:
            from frontend.dsp.refine import check_refinement, check_size

            check_refinement(refine, "--refine: ")
            check_size(refine, trained.n_mics, trained.n_outputs, f"{model}: ")
        named = [(name, Recording(files)) for name, files in entries]
        for _, recording in named:
            trained.check(recording.name, recording.channels, recording.fs, resample)
            recording.check_end()
            recording.check_reference()
    jobs = _name_outputs(named, Path(out), trained.n_outputs)
    if Path(out).exists() and not Path(out).is_dir():
        raise UserError(f"{out}: expected a directory for the streams, found a file (choose another)")
    Path(out).mkdir(parents=True, exist_ok=True)  # fails now, not after the first separation
    return jobs


def _name_outputs(named: list[tuple[str, Recording]], out: Path, n_outputs: int) -> list[Job]:
    seen: dict[str, str] = {}
    sources = {Path(entry).resolve() for _, recording in named for entry in recording.entries}
    jobs = []
    for name, recording in named:
        if name in seen:
            both = f"{seen[name]} and {recording.name} would both become"
            raise UserError(f"{both} {out}/{name}_spk1.wav (rename one, or use --scp with two ids)")
        if "/" in name:
            raise UserError(f"id '{name}': expected no '/', files are named after it")
        seen[name] = recording.name
        job = Job(recording, [out / f"{name}_spk{k}.wav" for k in range(1, n_outputs + 1)])
        for path in job.outputs:
            if path.resolve() in sources:
                raise UserError(
                    f"{path}: an input that a stream of {recording.name} would replace (choose another DIR)"
                )
        jobs.append(job)
    return jobs


def separate_files(jobs: list[Job], model: str, how: How) -> None:
    """Separate the recording of every job of :func:`plan`, and print how long it took.

    Raises:
        UserError: a recording is truncated or has NaN; the files of those before it are complete.
    """
    from frontend.dsp.refine import refine
    from frontend.separation.continuous import ContinuousSeparator
    from frontend.separation.model import Separator

    window, hop = how.windows
    for job in filter(lambda job: how.is_long(job.recording), jobs):
        print(
            f"{job.recording.name}: {job.recording.seconds:.1f} s: separated continuously, in windows of "
            f"{window:g} s every {hop:g} s",
            flush=True,
        )
    separator = Separator.from_pretrained(model, how.device, max(how.max_seconds, window))
    refined = functools.partial(refine, steps=how.refine) if how.refine else None
    shown = Progress(sum(_seconds(job) for job in jobs), "separate", unit="s")
    audio_s = busy_s = 0.0
    for job in jobs:
        recording, start = job.recording, time.perf_counter()
        is_long = how.is_long(recording)
        # What is not long is one window.
        length = window if is_long else recording.seconds
        run = ContinuousSeparator(separator, length, hop if is_long else length / 2, refined)
        _separate(job, run, how.resample, shown)
        took = time.perf_counter() - start
        if is_long:
            print(f"{recording.name}: {_time_used(recording.seconds, took)}, {_peak_memory()}", flush=True)
        busy_s += took
        audio_s += recording.seconds
    shown.close()
    print(f"{len(jobs)} recording(s), {_time_used(audio_s, busy_s)}")


def _seconds(job: Job) -> int:
    return max(1, round(job.recording.seconds))


def _time_used(audio_s: float, busy_s: float) -> str:
    return f"{audio_s:.1f} s in {busy_s:.1f} s: real-time factor {busy_s / audio_s:.4f}"


def _peak_memory() -> str:
    return f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"


def _separate(job: Job, separator: ContinuousSeparator, resample: bool, shown: Progress) -> None:
    """Separate in bounded memory; streams are 16-bit where the recording is and none would clip."""
    recording, as_integers, counted = job.recording, True, 0

    def read(start: int, frames: int) -> np.ndarray:
        nonlocal as_integers
        waveform = recording.read(start, frames)
        as_integers = as_integers and _is_16_bit(waveform)
        return waveform

    with BlockWriter(job.outputs, recording.fs) as files:
        for streams in separator.pieces(read, recording.frames, recording.fs, resample):
            files.write(streams)
            done = round(files.written / recording.frames * _seconds(job))
            shown.step(done - counted)
            counted = done
        if as_integers and files.peak < 1:
            files.make_integers()


def write_streams(job: Job, streams: np.ndarray, waveform: np.ndarray, fs: int) -> None:
    """Write the streams (S, T) of a recording (C, T): as 16-bit integers where it is and none would clip."""
    with BlockWriter(job.outputs, fs) as files:
        files.write(streams)
        if _is_16_bit(waveform) and files.peak < 1:
            files.make_integers()


def _is_16_bit(waveform: np.ndarray) -> bool:
    """Whether all samples are 16-bit integers, whatever the file stores them as."""
    scaled = waveform * 32768.0
    return bool((scaled == np.rint(scaled)).all())
