"""Audio to words, piece by piece: where streams have speech, each audio recognised once, words with times.

Whole recordings are cut where a stream has speech (:mod:`frontend.dsp.activity`), with one more rule: a frame
counts only in streams that are no more than ``leak_db`` below the loudest of them at that time, since below
that lies what leaks of the other talkers.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from frontend.data.audio import audio_info, read_audio
from frontend.data.segments import read_levels
from frontend.dsp.activity import Rule, Segment, segments_of_levels
from frontend.dsp.resample import resample
from frontend.recognition import model
from frontend.recognition.model import MAX_BATCH, Recogniser, Search
from frontend.utils.errors import UserError
from frontend.utils.parallel import parallel_map

# Raised with every change after which the same recordings are cut into other segments.
VERSION = 1
LEAK_DB = 10.0
_STEP_S = 0.2  # lengths of segments are multiples of it


@dataclass(frozen=True)
class Piece:
    """Audio to recognise: the first channel of ``entry``, or ``samples`` of it from ``start`` on."""

    entry: str
    start: int = 0
    samples: int = -1
    fs: int | None = None  # rate in Hz that it is brought to; None: its own

    def read(self) -> tuple[np.ndarray, int]:
        """Return ``(T,)`` and the rate in Hz."""
        audio, fs = read_audio(self.entry, self.start, self.samples, finite=True)
        wanted = self.fs or fs
        return resample(audio[0], fs, wanted), wanted


# {id: [pieces of each stream]}; what there is of each piece
Found = Mapping[str, Sequence[Sequence[Piece]]]
Texts = Mapping[Piece, str]
Seconds = Mapping[Piece, float]


@dataclass(frozen=True)
class Cutting:
    """How streams are cut: what counts as speech, and ``leak_db``."""

    rule: Rule = field(default_factory=Rule)
    leak_db: float = LEAK_DB

    def __post_init__(self):
        if not self.leak_db >= 0:
            raise UserError(f"--leak_db: expected 0 or more, found {self.leak_db:g}")


def stream_segments(entries: Sequence[str], rule: Rule, leak_db: float) -> list[list[Segment]]:
    """Return where each stream (a file of ``entries``) of a recording has speech, in seconds."""
    _, frames, fs = audio_info(entries[0])
    levels = np.stack([read_levels(entry, 1) for entry in entries])
    allowed = levels >= levels.max(axis=0) - leak_db
    rows = zip(levels, allowed, strict=True)
    return [segments_of_levels(row, fs, frames / fs, rule, mask) for row, mask in rows]


def cut(entries: Sequence[str], how: Cutting, fs: int | None = None) -> list[list[Piece]]:
    """Return the segments of each stream of a recording.

    Args:
        entries: a file for each stream; alike in rate and length.
        how: to cut.
        fs: rate in Hz that the pieces are to be brought to; None: their own.
    """
    _, frames, rate = audio_info(entries[0])
    step, found = max(1, round(_STEP_S * rate)), []
    for entry, spans in zip(entries, stream_segments(entries, how.rule, how.leak_db), strict=True):
        starts = [round(start_s * rate) for start_s, _ in spans]
        # Longer at the end by what is missing to a whole step, but not into the next segment: equally long
        # segments go through the recogniser together.
        limits = [*starts[1:], frames][: len(starts)]
        row = []
        for start, limit, (_, end_s) in zip(starts, limits, spans, strict=True):
            samples = -(-(round(end_s * rate) - start) // step) * step
            row.append(Piece(entry, start, min(samples, limit - start), fs))
        found.append(row)
    return found


def segments_of(key: str, streams: Sequence[Sequence[Piece]], texts: Texts, entry: str) -> list[dict]:
    """Return SegLST of a recording: a segment wherever words were recognised, ``speaker`` is the stream.

    A recording without words has one segment without words, so that it is counted.

    Args:
        key: of the recording.
        streams: the pieces of each stream, of :func:`cut`.
        texts: the words of each.
        entry: one of its streams, for its rate and length.
    """
    _, frames, fs = audio_info(entry)
    pieces = [(piece, k) for k, row in enumerate(streams, 1) for piece in row if texts[piece]]
    spoken = [
        (k, piece.start / fs, (piece.start + piece.samples) / fs, texts[piece])
        for piece, k in sorted(pieces, key=lambda one: (one[0].start, one[1]))
    ]
    return [
        {
            "session_id": key,
            "speaker": f"spk{k}",
            "start_time": round(start, 4),
            "end_time": round(end, 4),
            "words": words,
        }
        for k, start, end, words in spoken or [(1, 0.0, frames / fs, "")]
    ]


# --- each audio once


@dataclass
class Recognised:
    """What was recognised: of every piece its key in the cache; by key, length and CPU time of one core."""

    keys: dict[Piece, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)  # of what was recognised now


class Cache:
    """Texts by key, one ``{"key": ..., "text": ...}`` a line of the file ``path``; None: in memory alone."""

    def __init__(self, path: Path | None = None):
        self.path, self._texts = path, dict[str, str]()
        for line in path.read_bytes().splitlines() if path and path.is_file() else ():
            try:
                entry = json.loads(line)
                self._texts[entry["key"]] = entry["text"]
            except (ValueError, KeyError, TypeError):
                continue  # cut off: recognised again

    def __contains__(self, key: str) -> bool:
        return key in self._texts

    def __getitem__(self, key: str) -> str:
        return self._texts[key]

    def add(self, texts: Mapping[str, str]) -> None:
        """Append texts by key, and see that they are written."""
        self._texts.update(texts)
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = b"".join(json.dumps({"key": k, "text": t}).encode() + b"\n" for k, t in texts.items())
        with open(self.path, "ab+") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            is_cut = file.read(1) not in (b"", b"\n")  # by a kill, perhaps of another shard
            file.write(b"\n" * is_cut + lines)


def key_of(audio: np.ndarray, fs: int, recogniser: str) -> str:
    """Return the key in the cache of audio (T,) of ``fs`` Hz; ``recogniser`` is :attr:`Search.identity`."""
    digest = hashlib.sha256(f"{model.VERSION} {recogniser} {fs} ".encode())
    digest.update(np.ascontiguousarray(audio, dtype="<f4").tobytes())
    return digest.hexdigest()


def recognise(
    groups: Iterable[Iterable[Piece]],
    search: Search,
    cache: Cache,
    load: Callable[[], Recogniser],
    nj: int = 1,
    threads: int | None = 1,
) -> Recognised:
    """Recognise what the cache does not know, in batches of equal length, in ``nj`` processes.

    Args:
        groups: pieces; no batch goes beyond a group, so that it depends on nothing else.
        search: the recogniser.
        cache: what is known; the new texts are added.
        load: loads the recogniser; called where anything is new.
        nj: number of processes.
        threads: of torch; more than one do not survive the fork of further processes. None: as they are.

    Raises:
        UserError: unreadable audio, NaN.
    """
    made, batches = Recognised(), []
    for group in groups:
        new: dict[int, dict[str, Piece]] = {}
        for piece in group:
            if piece in made.keys:
                continue  # some systems name the same file
            audio, fs = piece.read()
            key = made.keys[piece] = key_of(audio, fs, search.identity)
            if key not in made.seconds and key not in cache:
                new.setdefault(len(audio), {})[key] = piece
            made.seconds[key] = len(audio) / fs
        for _, equal in sorted(new.items()):
            items = list(equal.items())
            batches += [dict(items[k : k + MAX_BATCH]) for k in range(0, len(items), MAX_BATCH)]
    if not batches:
        return made
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        work = functools.partial(_recognise_batch, recogniser=load())
        for texts, seconds in parallel_map(work, batches, nj, f"decode with {search.files.path}", fork=True):
            cache.add(texts)
            made.cpu_s.update(dict.fromkeys(texts, seconds / len(texts)))
    finally:
        torch.set_num_threads(before)
    return made


def _recognise_batch(batch: dict[str, Piece], recogniser: Recogniser) -> tuple[dict[str, str], float]:
    streams = np.stack([piece.read()[0] for piece in batch.values()])
    start = time.process_time()
    texts = recogniser(streams, recogniser.fs)
    return dict(zip(batch, texts, strict=True)), time.process_time() - start
