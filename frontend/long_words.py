"""Words of separated long recordings: each stream cut into segments of speech, each segment recognised.

Segments are cut by :mod:`frontend.activity`, with one more rule: a frame counts only in streams that are no
more than ``leak_db`` below the loudest of them at that time, since below that lies what leaks of the other
talkers. Lengths are rounded up to whole 0.2 s where there is room, so that equally long segments go through
the recogniser together. What was recognised is kept in ``OUT/cache.jsonl``: a run that was cut off goes on.
"""

import functools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from frontend import atomic, parallel
from frontend.activity import Rule, Segment, frame_samples, levels_db, segments_of_levels
from frontend.datadir import audio_info, read_audio
from frontend.decode import Search, loaded
from frontend.decode_cache import Cache, key_of
from frontend.decode_options import complete, read_options
from frontend.errors import UserError
from frontend.hypotheses import HYPOTHESES, INFO, write_segments
from frontend.long_streams import find_streams
from frontend.recogniser_files import find_in_zoo, find_recogniser

LEAK_DB = 10.0
_MAX_BATCH = 16
_STEP_S = 0.2  # lengths of segments are multiples of it
_BLOCK_S = 60.0  # of a stream, read at once


@dataclass(frozen=True)
class Request:
    """What to recognise with what, as the options of ``python -m frontend.bin.long_recognise`` say."""

    asr: str | None
    asr_model: str | None
    config: str | None
    streams: str
    out: str
    rule: Rule = field(default_factory=Rule)
    leak_db: float = LEAK_DB
    nj: int = 1
    device: str = "cpu"


@dataclass(frozen=True)
class Piece:
    """A segment of a stream: its samples are ``[start, start + samples)`` of ``entry``."""

    session: str
    stream: int
    entry: str
    start: int
    samples: int

    def read(self) -> np.ndarray:
        """Return ``(samples,)``."""
        return read_audio(self.entry, self.start, self.samples, finite=True)[0][0]


@dataclass(frozen=True)
class _Recognised:
    texts: dict[str, str]
    cpu_s: float


def recognise_streams(request: Request) -> list[dict]:
    """Recognise all streams below ``request.streams``; write and return SegLST.

    ``OUT/hyp.seglst.json`` has a segment wherever words were recognised (``speaker`` is the stream: ``spk1``
    ...), and one without words for a recording in which there were none; ``OUT/info.json`` says with what.

    Raises:
        UserError: streams, recogniser or options that do not fit; before the long work.
    """
    tables = find_streams(request.streams)
    files = find_recogniser(request.asr) if request.asr else find_in_zoo(request.asr_model)
    options = complete(read_options(request.config) if request.config else {}, files, request.config or "")
    for entry in tables[0].values():
        files.check_rate(entry, audio_info(entry)[2])
    search, cache = Search(files, options), Cache(Path(request.out) / "cache.jsonl")
    names = sorted(tables[0])
    pieces = [
        piece
        for name in parallel.progress(names, len(names), "segments")
        for piece in _pieces(name, [table[name] for table in tables], request.rule, request.leak_db)
    ]
    keys, jobs = _plan(pieces, search.identity, cache, files.fs)
    cpu_s = _run(jobs, search, cache, request) if jobs else 0.0
    rows = _rows(pieces, [cache[key] for key in keys], tables[0], files.fs)
    spoken = sum(piece.samples for piece in pieces) / files.fs
    info = {
        "streams": request.streams,
        "asr": files.path,
        "asr_fingerprint": files.fingerprint,
        "config": options,
        "activity": asdict(request.rule),
        "leak_db": request.leak_db,
        "recordings": len(names),
        "segments": len(pieces),
        "seconds": round(spoken, 3),
        "recognised_now": sum(len(keys) for keys, _ in jobs),
        "cpu_s": round(cpu_s, 3),
    }
    write_segments(Path(request.out) / HYPOTHESES, rows)
    atomic.write_text(Path(request.out) / INFO, json.dumps(info, indent=1) + "\n")
    return rows


def stream_segments(entries: Sequence[str], rule: Rule, leak_db: float) -> list[list[Segment]]:
    """Return where each stream of a recording has speech, in seconds.

    Args:
        entries: files of the streams.
        rule: of :mod:`frontend.activity`.
        leak_db: see above.
    """
    _, frames, fs = audio_info(entries[0])
    levels = np.stack([_levels(entry, frames, fs) for entry in entries])
    allowed = levels >= levels.max(axis=0) - leak_db
    rows = zip(levels, allowed, strict=True)
    return [segments_of_levels(row, fs, frames / fs, rule, mask) for row, mask in rows]


def _levels(entry: str, frames: int, fs: int) -> np.ndarray:
    block = frame_samples(fs) * round(_BLOCK_S * fs / frame_samples(fs))
    starts = range(0, frames, block)
    return np.concatenate([levels_db(read_audio(entry, k, block, finite=True)[0][:1], fs) for k in starts])


def _pieces(name: str, entries: Sequence[str], rule: Rule, leak_db: float) -> Iterator[Piece]:
    _, frames, fs = audio_info(entries[0])
    step = round(_STEP_S * fs)
    for stream, segments in enumerate(stream_segments(entries, rule, leak_db)):
        starts = [round(start_s * fs) for start_s, _ in segments]
        # Longer at the end by what is missing to a whole step, but not into the next segment.
        limits = [*starts[1:], frames][: len(starts)]
        for start, limit, (_, end_s) in zip(starts, limits, segments, strict=True):
            samples = -(-(round(end_s * fs) - start) // step) * step
            yield Piece(name, stream, entries[stream], start, min(samples, limit - start))


def _plan(pieces: Sequence[Piece], identity: str, cache: Cache, fs: int) -> tuple[list[str], list[tuple]]:
    """Return the key of each piece, and batches of those that the cache does not know: (keys, pieces)."""
    keys, new = [], {}
    for piece in pieces:
        keys.append(key := key_of(piece.read(), fs, identity))
        if key not in cache:
            new.setdefault(piece.samples, {})[key] = piece
    jobs = []
    for _, batch in sorted(new.items()):
        for begin in range(0, len(batch), _MAX_BATCH):
            some = tuple(batch.items())[begin : begin + _MAX_BATCH]
            jobs.append(tuple(zip(*some, strict=True)))
    return keys, jobs


def _run(jobs: list[tuple], search: Search, cache: Cache, request: Request) -> float:
    cpu_s, nj = 0.0, 1 if request.device != "cpu" else request.nj
    with loaded(search, request.device) as recogniser:
        work = functools.partial(_recognise, recogniser=recogniser)
        for done in parallel.parallel_map(work, jobs, nj, f"recognise with {search.files.path}", fork=True):
            cache.add(done.texts)
            cpu_s += done.cpu_s
    return cpu_s


def _recognise(job: tuple, recogniser) -> _Recognised:
    keys, pieces = job
    start = time.process_time()
    texts = recogniser(np.stack([piece.read() for piece in pieces]), recogniser.fs)
    return _Recognised(dict(zip(keys, texts, strict=True)), time.process_time() - start)


def _rows(pieces: Sequence[Piece], texts: Sequence[str], recordings: dict[str, str], fs: int) -> list[dict]:
    rows = [
        _row(piece.session, piece.stream, piece.start / fs, (piece.start + piece.samples) / fs, text)
        for piece, text in zip(pieces, texts, strict=True)
        if text
    ]
    heard = {row["session_id"] for row in rows}
    for name in recordings.keys() - heard:
        rows.append(_row(name, 0, 0.0, audio_info(recordings[name])[1] / fs, ""))
    return sorted(rows, key=lambda row: (row["session_id"], row["start_time"], row["speaker"]))


def _row(session: str, stream: int, start: float, end: float, words: str) -> dict:
    return {
        "session_id": session,
        "speaker": f"spk{stream + 1}",
        "start_time": round(start, 4),
        "end_time": round(end, 4),
        "words": words,
    }


def check_leak(leak_db: float) -> None:
    """Raise UserError unless a stream may be so much below the loudest."""
    if not leak_db >= 0:
        raise UserError(f"--leak_db: expected 0 or more, found {leak_db:g}")
