"""A set of meetings: drawn, rendered in processes, written as a mixture set with its references.

``OUT`` is a mixture set whose utterances are the recordings: ``wav.scp`` (C channels), ``spk1.scp ...`` (each
talker's image at the reference channel, over the whole length), ``text_spk1 ...``, ``utt2spk`` ...; beside
these ``meetings.jsonl`` (who stands where and talks when), ``ref.rttm``, ``ref.stm`` and ``ref.seglst.json``.
Talker k is ``spkK`` in all of them. A recording that is complete is not rendered again.
"""

import contextlib
import functools
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from frontend import atomic
from frontend.datadir import read_audio, read_scp, write_scp, write_spk2utt
from frontend.dry_speech import fingerprint, read_speech
from frontend.errors import UserError
from frontend.meeting_scenes import (
    MeetingConfig,
    overlap_share,
    reference_segments,
    sample_meeting,
    spoken_words,
    used_utterances,
    write_meetings,
)
from frontend.meetings import render_meeting
from frontend.parallel import parallel_map, progress
from frontend.rirs import rirs_of
from frontend.segment_files import write_references

# RF64: wav whose size may pass 4 GB; below that it is written as plain wav would be read.
FORMATS = {"flac": "FLAC", "wav": "RF64"}


@dataclass(frozen=True)
class Request:
    """What to make: number and length of the recordings, and where they go."""

    config: MeetingConfig
    speech: str
    out: str
    num: int
    minutes: float
    prefix: str = "meeting"
    seed: int = 0
    nj: int = 1
    audio_format: str = "flac"


@dataclass(frozen=True)
class _Job:
    """What a worker needs to know beside its meeting."""

    speech: dict[str, str] = field(repr=False)
    prints: dict[str, str] = field(repr=False)
    out: str
    n_talkers: int
    audio_format: str

    def path(self, stream: str, name: str) -> Path:
        return Path(self.out) / self.audio_format / stream / f"{name}.{self.audio_format}"

    @property
    def streams(self) -> list[str]:
        return ["mix", *(f"spk{k}" for k in range(1, self.n_talkers + 1))]

    def done(self, meeting: dict) -> Path:
        return Path(self.out) / self.audio_format / "done" / f"{meeting['id']}.json"

    def made_of(self, meeting: dict) -> str:
        prints = {name: self.prints[name] for name in sorted(used_utterances([meeting]))}
        return json.dumps({"meeting": meeting, "speech": prints})


def make_meetings(request: Request) -> list[dict]:
    """Draw and render meetings; return them.

    They are the same bit for bit whatever ``nj``, and with a larger ``num`` the first stay as they were.

    Raises:
        UserError: speech that does not fit the configuration, a talker without speech, ...
    """
    speech = read_speech(request.speech, request.config.fs)
    texts = _texts(Path(request.speech), speech)
    names = [f"{request.prefix}_{number:04d}" for number in range(request.num)]
    meetings = [sample_meeting(n, request.minutes, request.config, speech, request.seed) for n in names]
    wav, used = read_scp(Path(request.speech) / "wav.scp"), sorted(used_utterances(meetings))
    entries = {name: wav[name] for name in used}
    prints = {name: fingerprint(entry) for name, entry in progress(entries.items(), len(used), "speech")}
    n_talkers = max(len(meeting["talkers"]) for meeting in meetings)
    job = _Job(entries, prints, request.out, n_talkers, request.audio_format)
    left = [meeting for meeting in meetings if not _is_done(meeting, job)]
    Path(request.out).mkdir(parents=True, exist_ok=True)
    if left:
        (Path(request.out) / "wav.scp").unlink(missing_ok=True)  # no set until it is complete again
    for _ in parallel_map(functools.partial(_render, job=job), left, request.nj, "meetings"):
        pass
    _write_tables(meetings, job, texts)
    return meetings


def _texts(directory: Path, speech: dict) -> dict[str, str] | None:
    if not (directory / "text").exists():
        return None
    texts = read_scp(directory / "text", allow_empty=True)
    for name in sorted(speech.keys() - texts.keys()):
        raise UserError(f"{directory}/text: utterance '{name}' is missing; add what is said in it")
    return texts


def _is_done(meeting: dict, job: _Job) -> bool:
    path = job.done(meeting)
    if not path.is_file() or path.read_text(encoding="utf-8") != job.made_of(meeting):
        return False
    return all(job.path(stream, meeting["id"]).is_file() for stream in job.streams)


def _render(meeting: dict, job: _Job) -> None:
    job.done(meeting).unlink(missing_ok=True)
    load = functools.lru_cache(64)(functools.partial(_load, job=job))
    pieces = render_meeting(meeting, load, rirs_of(meeting))
    with contextlib.ExitStack() as stack:
        files = []
        for stream in job.streams:
            part = stack.enter_context(atomic.file(job.path(stream, meeting["id"])))
            channels = len(meeting["mics"]) if stream == "mix" else 1
            layout = {"format": FORMATS[job.audio_format], "subtype": "PCM_16"}
            sound = soundfile.SoundFile(part, "w", meeting["fs"], channels, **layout)
            files.append(stack.enter_context(sound))
        for mixture, images in pieces:
            files[0].write(mixture.T)
            silent = np.zeros_like(images[0])
            for k, file in enumerate(files[1:]):
                file.write(images[k] if k < len(images) else silent)
    atomic.write_text(job.done(meeting), job.made_of(meeting))


def _load(name: str, job: _Job) -> np.ndarray:
    return read_audio(job.speech[name], finite=True)[0][0]


def _write_tables(meetings: list[dict], job: _Job, texts: dict[str, str] | None) -> None:
    """Make ``OUT`` a data directory; wav.scp, which makes it one, last."""
    out = Path(job.out)
    rows = [row for meeting in meetings for row in reference_segments(meeting, texts)]
    for pattern in ("spk[1-9]*.scp", "text_spk[1-9]*"):
        for old in out.glob(pattern):
            old.unlink()  # of an earlier run, maybe with more talkers
    words = {m["id"]: spoken_words(m, texts) for m in meetings} if texts is not None else {}
    for k in range(job.n_talkers if words else 0):
        write_scp(
            out / f"text_spk{k + 1}", {name: said[k] if k < len(said) else "" for name, said in words.items()}
        )
    write_references(out, rows, texts is not None)
    write_meetings(out / "meetings.jsonl", meetings)
    write_spk2utt(out, {meeting["id"]: meeting["id"] for meeting in meetings})
    write_scp(out / "utt2num_samples", {meeting["id"]: meeting["samples"] for meeting in meetings})
    for stream in reversed(job.streams):
        name = "wav.scp" if stream == "mix" else f"{stream}.scp"
        write_scp(out / name, {m["id"]: job.path(stream, m["id"]) for m in meetings})


def summary(meetings: list[dict], asked: float) -> str:
    """Return what was made, in one line: hours, turns, and how much of the speech is overlapped."""
    hours = sum(m["samples"] / m["fs"] for m in meetings) / 3600
    turns = sum(len(m["turns"]) for m in meetings)
    weights = [sum(t["samples"] for t in m["turns"]) for m in meetings]
    share = float(np.average([overlap_share(m) for m in meetings], weights=weights))
    return (
        f"{len(meetings)} recording(s), {hours:.2f} h, {turns} turns; {100 * share:.1f} % of the time with "
        f"speech overlapped ({100 * asked:.1f} % asked)"
    )
