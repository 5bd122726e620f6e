"""Any audio recognised: in batches of equal length, in processes, and each audio once.

The cache of hypotheses is by content of the audio and survives a kill: a file that is only appended to, one
``{"key": ..., "text": ...}`` a line. Where it knows everything, ESPnet is not even imported.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from frontend.data.audio import read_audio
from frontend.recognition import model
from frontend.recognition.model import MAX_BATCH, Search
from frontend.utils.parallel import parallel_map


@dataclass(frozen=True)
class Piece:
    """Audio to recognise: the first channel of ``entry``, or ``samples`` of it from ``start`` on."""

    entry: str
    start: int = 0
    samples: int = -1

    def read(self) -> tuple[np.ndarray, int]:
        """Return ``(T,)`` and the rate in Hz."""
        audio, fs = read_audio(self.entry, self.start, self.samples, finite=True)
        return audio[0], fs


@dataclass(frozen=True)
class Batch:
    """Pieces that are equally long, and their keys in the cache."""

    keys: tuple[str, ...]
    pieces: tuple[Piece, ...]


@dataclass
class Plan:
    """What there is to recognise.

    Attributes:
        keys: of every piece, its key in the cache.
        seconds: length by key.
        batches: what the cache does not know, each audio once.
    """

    keys: dict[Piece, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)


def key_of(audio: np.ndarray, fs: int, recogniser: str) -> str:
    """Return the key of a piece of audio in the cache.

    Args:
        audio: (T,) float32.
        fs: its rate in Hz.
        recogniser: :attr:`frontend.recognition.model.Search.identity`.
    """
    digest = hashlib.sha256(f"{model.VERSION} {recogniser} {fs} ".encode())
    digest.update(np.ascontiguousarray(audio, dtype="<f4").tobytes())
    return digest.hexdigest()


class Cache:
    """Texts by key, on disk at once.

    Args:
        path: the file; a line that a kill has cut is dropped.
    """

    def __init__(self, path: str | Path):
        self.path, self._texts = Path(path), {}
        for line in self.path.read_bytes().splitlines() if self.path.is_file() else ():
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
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab+") as file:
            lines = b"".join(json.dumps({"key": k, "text": t}).encode() + b"\n" for k, t in texts.items())
            file.write(lines if _ends_a_line(file) else b"\n" + lines)


def _ends_a_line(file) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def plan_batches(groups: Iterable[Iterable[Piece]], recogniser: str, cache: Cache) -> Plan:
    """Read all pieces, and put those that the cache does not know into batches of equally long ones.

    Args:
        groups: pieces; no batch goes beyond a group, so that it depends on nothing else.
        recogniser: :attr:`frontend.recognition.model.Search.identity`.
        cache: what is known.

    Raises:
        UserError: unreadable audio, NaN.
    """
    made = Plan()
    for group in groups:
        new: dict[int, dict[str, Piece]] = {}
        for piece in group:
            if piece in made.keys:
                continue  # some systems name the same file
            audio, fs = piece.read()
            key = made.keys[piece] = key_of(audio, fs, recogniser)
            if key not in made.seconds and key not in cache:
                new.setdefault(len(audio), {})[key] = piece
            made.seconds[key] = len(audio) / fs
        for _, pieces in sorted(new.items()):
            keys = list(pieces)
            for some in (keys[k : k + MAX_BATCH] for k in range(0, len(keys), MAX_BATCH)):
                made.batches.append(Batch(tuple(some), tuple(pieces[key] for key in some)))
    return made


def run_batches(made: Plan, search: Search, cache: Cache, device: str, nj: int) -> dict[str, float]:
    """Recognise the batches of a plan, in ``nj`` processes on a CPU, and put the texts into the cache.

    Returns:
        CPU seconds of one core, by key, of what was recognised now.
    """
    if not made.batches:
        return {}
    import torch

    cpu_s: dict[str, float] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads would not survive the fork
    try:
        recogniser = model.Recogniser(search.files, search.options, device)  # ESPnet: 8 s, once
        work = functools.partial(_recognise_batch, recogniser=recogniser)
        nj, what = nj if device == "cpu" else 1, f"decode with {search.files.path}"
        for texts, seconds in parallel_map(work, made.batches, nj, what, fork=True):
            cache.add(texts)
            cpu_s.update(dict.fromkeys(texts, seconds / len(texts)))
    finally:
        torch.set_num_threads(threads)
    return cpu_s


def _recognise_batch(batch: Batch, recogniser: model.Recogniser) -> tuple[dict[str, str], float]:
    streams = np.stack([piece.read()[0] for piece in batch.pieces])
    start = time.process_time()
    texts = recogniser(streams, recogniser.fs)
    return dict(zip(batch.keys, texts, strict=True)), time.process_time() - start
