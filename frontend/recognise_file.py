"""The whole stack on one recording: separated, recognised, one transcript a talker."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from frontend import packing
from frontend.datadir import audio_info, read_audio
from frontend.decode_options import complete, read_options
from frontend.hypotheses import segments
from frontend.recogniser_files import RecogniserFiles, find_in_zoo, find_recogniser
from frontend.refine import check_refinement, check_size
from frontend.separate_files import Job, plan, write_streams

FORMATS = ("text", "json", "stm")


@dataclass(frozen=True)
class Request:
    """What to recognise with what, as the options of ``python -m frontend.bin.recognise`` say."""

    input: str
    separator: str
    asr: str | None
    asr_model: str | None = None
    config: str | None = None
    resample: bool = False
    refine: str | None = None
    device: str = "cpu"
    max_seconds: float = packing.MAX_SECONDS
    save_streams: str | None = None


def recognise_file(request: Request) -> list[dict]:
    """Return SegLST: one segment a stream, in the order of the separator's outputs.

    Raises:
        UserError: a recording, separator, recogniser or option that does not fit; before the long imports.
    """
    job = _check_recording(request)
    files = find_recogniser(request.asr) if request.asr else find_in_zoo(request.asr_model)
    options = complete(read_options(request.config) if request.config else {}, files, request.config or "")
    _, frames, fs = audio_info(request.input)
    if not request.resample:
        files.check_rate(request.input, fs, ", or allow resampling: --resample")
    texts = _transcripts(request, files, options, job)
    name = Path(request.input).stem
    return segments({name: texts}, {name: [frames / fs] * len(texts)})


def in_format(rows: list[dict], form: str) -> str:
    """Return SegLST as one of :data:`FORMATS`.

    >>> print(in_format([{"session_id": "a b", "speaker": "spk1", "words": "GO ON", "start_time": 0.0,
    ...     "end_time": 1.5}], "stm"))
    a_b 1 spk1 0.000 1.500 GO ON
    """
    if form == "json":
        return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]"
    if form == "text":
        return "\n".join(f"{row['speaker']}: {row['words']}".rstrip() for row in rows)
    lines = []
    for row in rows:
        times = f"{row['start_time']:.3f} {row['end_time']:.3f}"
        name = re.sub(r"\s+", "_", row["session_id"])  # blanks separate the fields
        lines.append(f"{name} 1 {row['speaker']} {times} {row['words']}".rstrip())
    return "\n".join(lines)


def _check_recording(request: Request) -> Job | None:
    """Check the recording against the separator; return where the streams go, if they are kept."""
    if request.save_streams:
        jobs = plan(
            [request.input],
            None,
            request.separator,
            request.save_streams,
            request.resample,
            request.refine,
            request.max_seconds,
        )
        return jobs[0]
    channels, frames, fs = audio_info(request.input)
    with packing.opened(request.separator) as trained:
        trained.check(request.input, channels, fs, request.resample)
        packing.check_length(request.input, frames / fs, request.max_seconds)
        if request.refine:
            check_refinement(request.refine, "--refine: ")
            check_size(request.refine, trained.n_mics, trained.n_outputs, f"{trained.path}: ")
    return None


def _transcripts(request: Request, files: RecogniserFiles, options: dict, job: Job | None) -> list[str]:
    import torch

    from frontend.recognise import Recogniser
    from frontend.refine import refine
    from frontend.separate import Separator, change_rate

    separator = Separator.from_pretrained(request.separator, request.device, request.max_seconds)
    recogniser = Recogniser(files, options, request.device)
    waveform, fs = read_audio(request.input, finite=True)
    streams = separator(waveform, fs, request.resample)
    if request.refine:
        streams = refine(torch.from_numpy(streams), torch.from_numpy(waveform), fs, request.refine).numpy()
    if job:
        write_streams(job, streams, waveform, fs)
    return recogniser(change_rate(streams, fs, recogniser.fs), recogniser.fs)
