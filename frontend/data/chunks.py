"""Long recordings to training chunks: two unlabelled mixture sets, for training and for validation.

Chunks last 3 to 8 s and lie where somebody talks. Those for validation are stretches of time of their own:
runs of neighbouring chunks, drawn at random, no two runs side by side; a training chunk next to such a run is
left out, so that no word is in both. Nothing is known of who talks.
"""

import itertools
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from frontend.data.audio import (
    Reader,
    audio_file,
    audio_info,
    entry_stamp,
    read_audio,
    stamp_of_entries,
)
from frontend.data.kaldi import read_entries, write_set
from frontend.data.segments import Span, read_spans, spans_by_energy, union
from frontend.data.speech import check_new_set
from frontend.data.writers import AudioWriter, ending_for, existing
from frontend.utils.errors import UserError, warn
from frontend.utils.files import check_name
from frontend.utils.parallel import parallel_map
from frontend.utils.rng import generator
from frontend.utils.stamps import Stamp

MIN_S, MAX_S = 3.0, 8.0  # of a chunk; halves of a longer stretch are long enough
MIN_SPEECH_S = 60.0  # in all; less teaches nothing, and the sums of mixtures need variety
DEV_SHARE = 0.1
_RUN = 4  # chunks for validation that follow each other
_MIN_DEV = 2  # a mixture of mixtures takes two
_ID = re.compile(r"(.+)-([0-9]{10,})-([0-9]{10,})")


@dataclass(frozen=True)
class Chunk:
    """A piece of a recording, in samples."""

    recording: str
    start: int
    end: int

    @property
    def id(self) -> str:
        """``RECORDING-START-END``, of ten digits."""
        return f"{self.recording}-{self.start:010d}-{self.end:010d}"

    @classmethod
    def of(cls, utterance: str) -> "Chunk | None":
        """Return the chunk with this id; None if it is no chunk's.

        >>> Chunk.of("m-1-0000000000-0000024000"), Chunk.of("train_000001")
        (Chunk(recording='m-1', start=0, end=24000), None)
        """
        found = _ID.fullmatch(utterance)
        return found and cls(found[1], int(found[2]), int(found[3]))


def chunk_spans(spans: list[Span], seconds: float) -> list[Span]:
    """Turn stretches of speech in a recording of ``seconds`` into chunks of 3 to 8 s, apart or touching.

    Neighbours with less than half a second between them become one stretch; a stretch is divided evenly into
    as few chunks as the longest allows; a short one is widened on both sides to the shortest, as far as its
    neighbours and the ends of the recording leave room.
    """
    stretches = union(spans, gap=0.5)
    chunks: list[Span] = []
    for index, (start, end) in enumerate(stretches):
        floor = chunks[-1][1] if chunks else 0.0
        ceiling = stretches[index + 1][0] if index + 1 < len(stretches) else seconds
        missing = MIN_S - (end - start)
        if missing > 0:
            start = max(floor, min(start - missing / 2, ceiling - MIN_S))
            end = min(ceiling, max(end, start + MIN_S))
            if end - start < MIN_S - 1e-6:
                continue  # squeezed between others
        start = max(start, floor)
        pieces = max(1, -int(-(end - start) // MAX_S))
        edges = [start + (end - start) * k / pieces for k in range(pieces + 1)]
        chunks += list(zip(edges[:-1], edges[1:], strict=True))
    return chunks


def split(chunks: list[Chunk], share: float, seed: int) -> tuple[list[Chunk], list[Chunk]]:
    """Divide chunks into training and validation; a training chunk beside a validation run is in neither.

    Args:
        chunks: sorted by recording and time.
        share: of the chunks, for validation; at least two are.
        seed: of the draw.
    """
    wanted = max(_MIN_DEV, round(share * len(chunks)))
    run = min(_RUN, wanted)
    runs = [range(start, min(start + run, len(chunks))) for start in range(0, len(chunks), run)]
    order = sorted(range(len(runs)), key=lambda k: generator(seed, chunks[runs[k][0]].id, "dev").random())
    chosen: set[int] = set()
    held: list[int] = []
    for k in order:
        if len(held) < wanted and not {k - 1, k + 1} & chosen:
            chosen.add(k)
            held += runs[k]
    dev = set(held[:wanted])
    beside = {
        j
        for i in dev
        for j in (i - 1, i + 1)
        if 0 <= j < len(chunks) and chunks[i].recording == chunks[j].recording
    }
    train = sorted(set(range(len(chunks))) - dev - beside)
    return [chunks[i] for i in train], [chunks[i] for i in sorted(dev)]


def make_chunks(
    data: str,
    outs: tuple[str, str],
    given: tuple[str, str] | None = None,
    min_speech: float = MIN_SPEECH_S,
    share: float = DEV_SHARE,
    seed: int = 0,
    nj: int = 1,
    strict: bool = False,
) -> None:
    """Write the chunks of all recordings of ``data`` as two unlabelled mixture sets.

    The chunks of a recording have a stamp beside them: a run that was cut off goes on at the next recording.

    Args:
        data: the whole recordings, made by :mod:`frontend.data.recordings`.
        outs: the sets to make, for training and for validation.
        given: ``("rttm", FILE)`` or ``("segments", FILE)`` instead of deciding by energy.
        min_speech: least total length of the chunks, in seconds.
        share: of the chunks, for validation.
        seed: of the division.
        nj: number of processes.
        strict: a line of that file that cannot be used is an error.

    Raises:
        UserError: too little speech, an unusable RTTM or segments file, unreadable audio.
    """
    if Path(outs[0]).resolve() == Path(outs[1]).resolve():
        raise UserError(f"--out {outs[0]} {outs[1]}: expected two directories, found one (name another)")
    for out in outs:
        check_new_set(out, data)
    wav = read_entries(Path(data) / "wav.scp")
    if (lines := Path(data) / "segments").is_file() and not given:
        warn(f"{lines}: not read, speech is found by its energy (give it with --segments)")
    for out, name in itertools.product(outs, wav):
        check_name(Path(out) / "wav" / f"{Chunk(name, 0, 0).id}.flac", "give the recordings shorter ids")
    whole = wav.recordings()
    seconds = {name: recording.seconds for name, recording in whole.items()}
    if given:
        spans = read_spans(given[1], given[0], seconds, strict)
    else:
        spans = dict(zip(wav, parallel_map(spans_by_energy, list(wav.values()), nj, "speech"), strict=True))
    chunks = [
        Chunk(name, round(start * recording.fs), round(end * recording.fs))
        for name, recording in whole.items()
        for start, end in chunk_spans(spans[name], recording.seconds)
    ]
    total = sum((chunk.end - chunk.start) / whole[chunk.recording].fs for chunk in chunks)
    if total < min_speech:
        raise UserError(
            f"{data}: found {total:.1f} s of speech in {len(wav)} recording(s) of "
            f"{sum(seconds.values()):.1f} s, expected at least {min_speech:g} s (give more recordings, or "
            "say where the speech is: --rttm or --segments)"
        )
    parts = split(chunks, share, seed)
    if min(map(len, parts)) < 2:
        raise UserError(
            f"{data}: found speech for {len(chunks)} chunks of {MIN_S:g} to {MAX_S:g} s, too few to divide "
            "into training and validation (give more recordings)"
        )
    for out, part, what in zip(outs, parts, ("training", "validation"), strict=True):
        _write_chunks(Path(out), part, wav, nj)
        minutes = sum((chunk.end - chunk.start) / whole[chunk.recording].fs for chunk in part) / 60
        print(f"{out}: {len(part)} chunks for {what}, {minutes:.1f} min", flush=True)


def _write_chunks(directory: Path, chunks: list[Chunk], wav: dict[str, str], nj: int) -> None:
    (directory / "wav.scp").unlink(missing_ok=True)  # no set until it is complete again
    by_recording: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        by_recording.setdefault(chunk.recording, []).append(chunk)
    jobs = [(wav[name], found) for name, found in by_recording.items()]
    work = partial(_cut, directory=directory / "wav")
    entries: dict[str, str] = {}
    for made in parallel_map(work, jobs, nj, f"chunks {directory.name}"):
        entries |= made
    samples = {chunk.id: chunk.end - chunk.start for chunk in chunks}
    write_set(directory, {"wav.scp": entries, "utt2num_samples": samples})


def _cut(job: tuple[str, list[Chunk]], directory: Path) -> dict[str, str]:
    """Write the chunks of one recording and return their entries."""
    source, chunks = job
    channels, _, fs = audio_info(source)
    ending = ending_for(channels)
    entries = {chunk.id: existing(directory / f"{chunk.id}.{ending}") for chunk in chunks}
    stamp = Stamp.of({"chunks": list(entries)}, {"recording": stamp_of_entries([source])})
    place = directory / f"{chunks[0].recording}.json"
    if not stamp.why_stale(place) and all(entry.is_file() for entry in entries.values()):
        return {name: str(entry) for name, entry in entries.items()}
    writer, made = AudioWriter(directory, ending, fs), {}
    for chunk in chunks:
        samples = read_audio(source, chunk.start, chunk.end - chunk.start, finite=True)[0]
        made[chunk.id] = writer.write(chunk.id, samples)
    stamp.write(place)
    return made


# --- utterances that `segments` of a data directory cuts out of recordings: segment:START:END:ENTRY


def _recording_of(entry: str) -> str:
    return entry.split(":", 3)[-1]


def _place(entry: str) -> tuple[int, int, tuple[int, int, int]]:
    """Return the first sample of a segment, the one behind its last, and its info."""
    try:
        _, start, end, source = entry.split(":", 3)
        times = float(start), float(end)
    except ValueError:
        raise UserError(f"{entry}: expected segment:START:END:ENTRY, times in seconds") from None
    channels, frames, fs = audio_info(source)
    first, last = round(times[0] * fs), min(frames, round(times[1] * fs))
    if not 0 <= first < last:
        wrong = f"no sample from {start} to {end} s, it has {frames} at {fs} Hz (correct the times)"
        raise UserError(f"{source}: found {wrong}")
    return first, last, (channels, last - first, fs)


def _read_segment(entry: str) -> tuple[np.ndarray, int]:
    first, last, _ = _place(entry)
    return read_audio(_recording_of(entry), first, last - first, finite=True)


READER = Reader(
    file=lambda entry: audio_file(_recording_of(entry)),
    info=lambda entry: _place(entry)[-1],
    read=_read_segment,
    stamp=lambda entry: (*entry.split(":", 3)[1:3], *entry_stamp(_recording_of(entry))),
)
