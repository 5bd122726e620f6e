"""A user's recordings in, one file per talker out."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import wavfile

from frontend import atomic, packing
from frontend.datadir import audio_info, read_audio, read_scp, to_pcm16
from frontend.errors import UserError
from frontend.parallel import progress
from frontend.refine import check_refinement, check_size


@dataclass(frozen=True)
class Job:
    """One recording: what to read, and the files to write."""

    entry: str
    outputs: list[Path]


def plan(
    inputs: list[str],
    scp: str | None,
    model: str,
    out: str,
    resample: bool = False,
    refine: str | None = None,
    max_seconds: float = packing.MAX_SECONDS,
) -> list[Job]:
    """Decide which files will be made, and check all that can be checked without reading the audio.

    Args:
        inputs: files; named after their stem.
        scp: a table, instead of files; named after the ids.
        model: the trained system.
        out: directory for the streams.
        resample: whether rates other than the model's are fine.
        refine: steps of :mod:`frontend.refine` that are wanted, or None.
        max_seconds: longest recording to take.

    Raises:
        UserError: missing, unreadable or too long recordings, channels or rates that do not fit the model,
            two recordings that would be written to the same files, an output that is an input.
    """
    pairs = list(read_scp(scp).items()) if scp else [(Path(p).stem, p) for p in inputs]
    with packing.opened(model) as trained:
        if refine:
            check_refinement(refine, "--refine: ")
            check_size(refine, trained.n_mics, trained.n_outputs, f"{model}: ")
        for _, entry in pairs:
            channels, frames, fs = audio_info(entry)
            trained.check(entry, channels, fs, resample)
            packing.check_length(entry, frames / fs, max_seconds)
    jobs = _name_outputs(pairs, Path(out), trained.n_outputs)
    if Path(out).exists() and not Path(out).is_dir():
        raise UserError(f"{out}: expected a directory for the streams, found a file (choose another)")
    Path(out).mkdir(parents=True, exist_ok=True)  # fails now, not after the first separation
    return jobs


def _name_outputs(pairs: list[tuple[str, str]], out: Path, n_outputs: int) -> list[Job]:
    seen: dict[str, str] = {}
    sources = {Path(entry).resolve() for _, entry in pairs}
    jobs = []
    for name, entry in pairs:
        if name in seen:
            both = f"{seen[name]} and {entry} would both become"
            raise UserError(f"{both} {out}/{name}_spk1.wav (rename one, or use --scp with two ids)")
        if "/" in name:
            raise UserError(f"id '{name}': expected no '/', files are named after it")
        seen[name] = entry
        job = Job(entry, [out / f"{name}_spk{k}.wav" for k in range(1, n_outputs + 1)])
        for path in job.outputs:
            if path.resolve() in sources:
                raise UserError(
                    f"{path}: an input that a stream of {entry} would replace (choose another DIR)"
                )
        jobs.append(job)
    return jobs


def separate_files(
    jobs: list[Job], model: str, resample: bool, refine: str | None, device: str, max_seconds: float
) -> None:
    """Separate every job's recording, as :func:`plan` was told, and print what it took.

    Raises:
        UserError: a recording is truncated or has NaN; the files of those before it are complete.
    """
    import torch

    from frontend.refine import refine as refined
    from frontend.separate import Separator

    separator = Separator.from_pretrained(model, device, max_seconds)
    audio_s = busy_s = 0.0
    for job in progress(jobs, len(jobs), "separate"):
        waveform, fs = read_audio(job.entry, finite=True)
        start = time.perf_counter()
        streams = separator(waveform, fs, resample)
        if refine:
            streams = refined(torch.from_numpy(streams), torch.from_numpy(waveform), fs, refine).numpy()
        busy_s += time.perf_counter() - start
        audio_s += waveform.shape[1] / fs
        write_streams(job, streams, waveform, fs)
    rtf = busy_s / audio_s
    print(f"{len(jobs)} recording(s), {audio_s:.1f} s in {busy_s:.1f} s: real-time factor {rtf:.4f}")


def write_streams(job: Job, streams: np.ndarray, waveform: np.ndarray, fs: int) -> None:
    """Write the streams (S, T) of a recording (C, T): as 16-bit integers where it is and none would clip."""
    as_integers = _is_16_bit(waveform) and np.abs(streams).max() < 1
    for path, stream in zip(job.outputs, streams, strict=True):
        with atomic.file(path) as part:
            wavfile.write(part, fs, to_pcm16(stream, str(path)) if as_integers else stream)


def _is_16_bit(waveform: np.ndarray) -> bool:
    """Whether all samples are 16-bit integers, whatever the file stores them as."""
    scaled = waveform * 32768.0
    return bool((scaled == np.rint(scaled)).all())
