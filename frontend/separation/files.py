"""A user's recordings in, one file per talker out. What needs torch is imported when it is called."""

from __future__ import annotations

import contextlib
import functools
import itertools
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from frontend import MAX_SECONDS, PRETRAINED
from frontend.data.audio import Recording, audio_file, audio_info
from frontend.data.kaldi import read_entries, read_utterances
from frontend.data.mixtures import check_set
from frontend.data.recordings import in_channel_order
from frontend.data.writers import BlockWriter
from frontend.training.checkpoints import open_trained
from frontend.utils.device import check_device
from frontend.utils.errors import UserError
from frontend.utils.files import check_name
from frontend.utils.parallel import Progress

if TYPE_CHECKING:
    from frontend.separation.continuous import ContinuousSeparator


_OTHER_TABLES = ("segments", "utt2spk", "spk2utt", "text", "utt2num_samples", "utt2dur", "reco2dur")


@dataclass(frozen=True)
class Source:
    """What makes the streams: a trained system, or a blind method.

    Attributes:
        model: the system; None without ``blind``: the one that comes with the package.
        blind: name of the method.
        n_talkers: streams; None: as many as the system was trained for, of a blind method 2.
    """

    model: str | None = None
    blind: str | None = None
    n_talkers: int | None = None

    def __post_init__(self):
        if self.model is None and self.blind is None:
            object.__setattr__(self, "model", str(PRETRAINED))

    @property
    def blind_streams(self) -> int:
        """Streams of a blind method."""
        return self.n_talkers or 2

    def load(self, device: str, max_seconds: float) -> Callable[[np.ndarray, int, bool], np.ndarray]:
        """Return the function (waveform (C, T), fs, resample) -> streams (S, T)."""
        if self.model:
            from frontend.separation.model import Separator

            return Separator.from_pretrained(self.model, device, max_seconds, self.n_talkers)
        from frontend.dsp.blind import separate_blind

        name, number = str(self.blind), self.blind_streams
        return lambda waveform, fs, resample: separate_blind(name, waveform, fs, number)


@dataclass(frozen=True)
class Job:
    """One recording.

    Attributes:
        name: files are named after it.
        recording: what to read.
        outputs: the files to write.
        live: the channels to take; None: all.
    """

    name: str
    recording: Recording
    outputs: list[Path]
    live: list[int] | None = None


@dataclass(frozen=True)
class How:
    """How to separate.

    Attributes:
        resample: whether rates other than the model's are fine.
        refine: steps of :mod:`frontend.dsp.refine` that are wanted, or None.
        device: ``cpu``, ``cuda``, ``cuda:1``.
        max_seconds: longer recordings are separated continuously.
        window: length of a window in seconds; if given, whatever is longer is separated continuously.
        hop: from one window to the next in seconds; default half a window.

    Raises:
        UserError: windows that do not overlap, no such device.
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
        check_device(self.device)

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
    inputs: Sequence[str],
    scp: str | None,
    source: Source,
    out: str | Path,
    resample: bool = False,
    refine: str | None = None,
    join: str | None = None,
    check: Callable[[Recording], None] | None = None,
) -> list[Job]:
    """Decide which files will be made, and check all that can be checked before the work.

    Args:
        inputs: files, whose streams are named after their stems.
        scp: a table, or a data directory, instead of files; streams are named after the ids.
        source: the trained system, or the blind method.
        out: directory for the streams.
        resample: see :class:`How`.
        refine: see :class:`How`.
        join: the inputs are the channels of one recording, one file each, which is named so; in the order
            of the numbers in their names.
        check: raises UserError for a recording that does not fit.

    Raises:
        UserError: missing or unreadable recordings, channels or rates that do not fit the source,
            a dead reference channel, two recordings that would be written to the same files, an output that
            is an input.
    """
    named = _find(inputs, scp, join)
    trained = None
    if source.model:
        with open_trained(source.model) as trained:
            trained = trained.of_talkers(source.n_talkers)
    for _, recording in named:
        if trained:
            trained.check(recording.name, recording.channels, recording.fs, resample)
            _check_refinement(refine, recording.channels, trained.n_outputs, recording.name)
        else:
            _check_blind(recording, recording.channels, source, refine)
        if check:
            check(recording)
        recording.check_end()
    jobs = _name_outputs(named, Path(out), trained.n_outputs if trained else source.blind_streams)
    if Path(out).exists() and not Path(out).is_dir():
        raise UserError(f"{out}: expected a directory for the streams, found a file (choose another)")
    for k, job in enumerate(jobs):  # last what reads audio
        if trained:
            job.recording.check_reference()
        else:
            jobs[k] = replace(job, live=_live_channels(job.recording, source, refine))
    Path(out).mkdir(parents=True, exist_ok=True)  # fails now, not after the first separation
    if join and (ordered := in_channel_order(inputs)) != list(inputs):
        print(f"{join}: channels in the order of their numbers: {' '.join(ordered)}", file=sys.stderr)
    return jobs


def _find(inputs: Sequence[str], scp: str | None, join: str | None) -> list[tuple[str, Recording]]:
    """Return the recordings that :func:`plan` is given, each with the name of its streams."""
    if join:
        return [(join, Recording(in_channel_order(inputs)))]
    if not scp:
        return [(Path(path).stem, Recording([path])) for path in inputs]
    if Path(scp).is_dir():
        check_set(scp, images=False, texts=False, alike=())
        return [*read_utterances(scp).recordings().items()]
    if Path(scp).is_file() and Path(scp).name in _OTHER_TABLES:
        wanted = "a table 'ID FILE' of recordings, or a data directory"
        raise UserError(f"{scp}: expected {wanted}, found another table (--scp {Path(scp).parent})")
    return [*read_entries(scp).recordings().items()]


def _check_blind(recording: Recording, channels: int, source: Source, refine: str | None) -> None:
    if channels < source.blind_streams:
        dead = f", and {recording.channels - channels} dead" * (channels < recording.channels)
        raise UserError(
            f"{recording.name}: {source.blind} needs a microphone for each talker, expected "
            f"{source.blind_streams} channels or more, found {channels}{dead} (--n_talkers, or more channels)"
        )
    _check_refinement(refine, channels, source.blind_streams, recording.name)


def _live_channels(recording: Recording, source: Source, refine: str | None) -> list[int] | None:
    """Return the channels that a blind method is to take; None: all of them."""
    live = recording.live_channels()
    if len(live) == recording.channels:
        return None
    _check_blind(recording, len(live), source, refine)
    return live


def _check_refinement(refine: str | None, channels: int, streams: int, where: str) -> None:
    if refine:
        from frontend.dsp.refine import check_refinement, check_size

        check_refinement(refine, "--refine: ")
        check_size(refine, channels, streams, f"{where}: ")


def _name_outputs(named: list[tuple[str, Recording]], out: Path, n_outputs: int) -> list[Job]:
    seen: dict[str, str] = {}
    sources = {audio_file(entry).resolve() for _, recording in named for entry in recording.entries}
    jobs = []
    for name, recording in named:
        if name in seen:
            both = f"{seen[name]} and {recording.name} would both become"
            raise UserError(f"{both} {name}_spk1.wav (rename one, or use --scp with two ids)")
        if "/" in name:
            raise UserError(f"id '{name}': expected no '/', files are named after it")
        seen[name] = recording.name
        files = (out / f"{name}_spk{k}.wav" for k in itertools.count(1))
        outputs = list(itertools.islice(files, n_outputs))
        for path in outputs:
            check_name(path, "rename the recording, or give --scp with a shorter id")
            if path.is_dir():
                raise UserError(
                    f"{path}: expected a place for a stream of {recording.name}, found a directory (move it "
                    "away, or choose another DIR)"
                )
            if path.resolve() in sources:
                raise UserError(
                    f"{path}: an input that a stream of {recording.name} would replace (choose another DIR)"
                )
        further = next(files)  # it would count as a stream of this run
        if further.resolve() not in sources and _is_stream(further, recording):
            raise UserError(
                f"{further}: expected {n_outputs} streams of {recording.name} in {out}, found another, "
                "perhaps of an earlier run with more talkers (remove it, or choose another DIR)"
            )
        jobs.append(Job(name, recording, outputs))
    return jobs


def _is_stream(path: Path, recording: Recording) -> bool:
    """Whether a file can be a stream of a recording: one channel, as long and as fast."""
    with contextlib.suppress(UserError):
        return path.is_file() and audio_info(str(path)) == (1, recording.frames, recording.fs)
    return False


class Separating:
    """A loaded source, which separates the recordings of jobs one after the other.

    Args:
        jobs: all there will be, of :func:`plan`.
        source: what makes the streams.
        how: see :class:`How`.
        file: where it says what it does; None: standard output.

    Attributes:
        audio_s, busy_s: seconds of audio separated, and of time that took.
    """

    def __init__(self, jobs: Sequence[Job], source: Source, how: How, file: TextIO | None = None):
        self.how, self.say = how, functools.partial(print, file=file, flush=True)
        window, hop = how.windows
        for job in filter(lambda job: how.is_long(job.recording), jobs):
            self.say(
                f"{job.recording.name}: {job.recording.seconds:.1f} s: separated continuously, in windows "
                f"of {window:g} s every {hop:g} s"
            )
        self.separator = source.load(how.device, max(how.max_seconds, window))
        self.refine = None
        if how.refine:
            from frontend.dsp.refine import refine

            self.refine = functools.partial(refine, steps=how.refine)
        self.shown = Progress(sum(_seconds(job) for job in jobs), "separate", unit="s")
        self.audio_s = self.busy_s = 0.0

    def __call__(self, job: Job) -> None:
        """Write the streams of a job's recording.

        Raises:
            UserError: the recording is truncated or has NaN.
        """
        from frontend.separation.continuous import LEAST_WINDOW_S, ContinuousSeparator

        recording, start = job.recording, time.perf_counter()
        is_long, (window, hop) = self.how.is_long(recording), self.how.windows
        # What is not long is one window, or less.
        length = window if is_long else max(recording.seconds, LEAST_WINDOW_S)
        run = ContinuousSeparator(self.separator, length, hop if is_long else length / 2, self.refine)
        _separate(job, run, self.how.resample, self.shown)
        took = time.perf_counter() - start
        if is_long:
            self.say(f"{recording.name}: {_time_used(recording.seconds, took)}, {_peak_memory()}")
        self.busy_s += took
        self.audio_s += recording.seconds


def separate_files(jobs: Sequence[Job], source: Source, how: How) -> None:
    """Separate the recording of every job of :func:`plan`, and print how long it took.

    Raises:
        UserError: a recording is truncated or has NaN; the files of those before it are complete.
    """
    separate = Separating(jobs, source, how)
    for job in jobs:
        separate(job)
    separate.shown.close()
    print(f"{len(jobs)} recording(s), {_time_used(separate.audio_s, separate.busy_s)}")


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
        waveform = recording.read(start, frames)[slice(None) if job.live is None else job.live]
        as_integers = as_integers and _is_16_bit(waveform)
        return waveform

    with BlockWriter(job.outputs, recording.fs) as files:
        pieces = separator.pieces(read, recording.frames, recording.fs, resample, name=recording.name)
        for streams in pieces:
            files.write(streams)
            done = round(files.written / recording.frames * _seconds(job))
            shown.step(done - counted)
            counted = done
        if as_integers and files.peak < 1:
            files.make_integers()


def _is_16_bit(waveform: np.ndarray) -> bool:
    """Whether all samples are 16-bit integers, whatever the file stores them as."""
    with np.errstate(over="ignore"):
        scaled = waveform * 32768.0
    return bool((scaled == np.rint(scaled)).all())
