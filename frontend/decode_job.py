"""The work of decoding: which audio is still to be recognised, in batches, in processes."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from frontend import parallel
from frontend.datadir import read_audio
from frontend.decode_cache import Cache, key_of
from frontend.decode_rows import Row

if TYPE_CHECKING:  # ESPnet: 9 s
    from frontend.recognise import Recogniser

# As many streams of one utterance as go through the encoder at once.
_MAX_BATCH = 16


@dataclass(frozen=True)
class Job:
    """Streams that are equally long, those of one utterance: their keys, and where the audio lies."""

    keys: tuple[str, ...]
    entries: tuple[str, ...]


@dataclass(frozen=True)
class Recognised:
    """What a job gave: text by key, and CPU seconds of one core for all of it."""

    texts: dict[str, str]
    cpu_s: float


@dataclass
class Plan:
    """All streams of some systems that share a recogniser.

    Attributes:
        keys: by system and utterance, the key of each stream; None for a talker who is not there.
        seconds: length by key.
        jobs: what the cache does not know, each audio once.
    """

    keys: dict[str, dict[str, list[str | None]]]
    seconds: dict[str, float]
    jobs: list[Job]


def plan(rows: Sequence[Row], recogniser: str, cache: Cache) -> Plan:
    """Read the streams of ``rows`` and find which of them are new.

    Args:
        rows: systems that share a recogniser.
        recogniser: hash of its files and options.
        cache: what is known.

    Raises:
        UserError: unreadable audio, NaN.
    """
    made = Plan({row.name: {} for row in rows}, {}, [])
    known: dict[str, str] = {}  # by file: some systems name the same
    for utterance in rows[0].streams:
        new: dict[int, dict[str, str]] = {}
        for row in rows:
            keys = made.keys[row.name][utterance] = []
            for entry in row.streams[utterance]:
                if entry is not None and entry not in known:
                    audio, fs = _read(entry)
                    key = known[entry] = key_of(audio, fs, recogniser)
                    if key not in made.seconds and key not in cache:
                        new.setdefault(len(audio), {})[key] = entry
                    made.seconds[key] = len(audio) / fs
                keys.append(known.get(entry))
        for batch in new.values():
            for begin in range(0, len(batch), _MAX_BATCH):
                keys = tuple(batch)[begin : begin + _MAX_BATCH]
                made.jobs.append(Job(keys, tuple(batch[key] for key in keys)))
    return made


def run(jobs: Sequence[Job], recogniser: Recogniser, nj: int, what: str) -> Iterator[Recognised]:
    """Yield what each job gave, in their order, from ``nj`` processes forked from this one."""
    return parallel.parallel_map(
        functools.partial(_recognise, recogniser=recogniser), jobs, nj, what, fork=True
    )


def cost(keys: Mapping[str, Sequence[str | None]], cpu_s: Mapping[str, float], plan: Plan) -> dict:
    """Return ``seconds``, ``cached`` and ``rtf`` of one system.

    Args:
        keys: of its streams, by utterance.
        cpu_s: what recognising took, by key; of those that were recognised now.
        plan: for the lengths.
    """
    streams = [key for row in keys.values() for key in row if key is not None]
    now = {key for key in streams if key in cpu_s}
    audio_s = sum(plan.seconds[key] for key in now)
    return {
        "seconds": round(sum(plan.seconds[key] for key in streams), 3),
        "cached": sum(key not in now for key in streams),
        "rtf": round(sum(cpu_s[key] for key in now) / audio_s, 5) if now else None,
    }


def _recognise(job: Job, recogniser: Recogniser) -> Recognised:
    streams = np.stack([_read(entry)[0] for entry in job.entries])
    start = time.process_time()
    texts = recogniser(streams, recogniser.fs)
    return Recognised(dict(zip(job.keys, texts, strict=True)), time.process_time() - start)


def _read(entry: str) -> tuple[np.ndarray, int]:
    # The row `mixture` names the multi-channel recording itself: its reference channel is meant.
    audio, fs = read_audio(entry, finite=True)
    return audio[0], fs
