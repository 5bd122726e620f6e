"""Words of separated streams: of every system on a test set, or on whole recordings.

``OUT/SYSTEM`` gets what :mod:`frontend.recognition.text` describes, and a stamp. Of a test set,
``OUT/ref.seglst.json`` holds what was said. Whole recordings are cut where a stream has speech
(:mod:`frontend.dsp.activity`), with one more rule: a frame counts only in streams that are no more than
``leak_db`` below the loudest of them at that time, since below that lies what leaks of the other talkers.

No audio is recognised twice: ``OUT/cache.jsonl`` has every hypothesis by the content of the audio. The file
is only appended to, so that a kill loses nothing; where it holds all audio, ESPnet is not even imported.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from frontend.data.audio import audio_info, entry_stamp, read_audio
from frontend.data.kaldi import read_utterances
from frontend.data.mixtures import MixtureSet, Streams, find_streams, find_systems, labelled_set
from frontend.data.segments import read_levels
from frontend.dsp.activity import Rule, Segment, segments_of_levels
from frontend.recognition import model
from frontend.recognition.model import MAX_BATCH, RecogniserFiles, Search
from frontend.recognition.text import (
    HYPOTHESES,
    INFO,
    REFERENCES,
    reference_texts,
    segments,
    unknown_words,
    write_hypotheses,
    write_segments,
)
from frontend.separation.systems import load_systems, trained
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.files import write_json
from frontend.utils.parallel import Shard, parallel_map, part_of, progress
from frontend.utils.stamps import Stamp, of_text

# Raised with every change after which the same recordings are cut into other segments.
VERSION = 1
DRY = "dry"
STAMP = "stamp.json"
LEAK_DB = 10.0
_STEP_S = 0.2  # lengths of segments are multiples of it


@dataclass(frozen=True)
class Request:
    """What to recognise with what."""

    asr: str | None  # the recogniser: a directory,
    asr_model: str | None  # or else a name of espnet_model_zoo
    config: str | None  # options of the search; None: ESPnet's
    data: str  # a labelled test set, or whole recordings
    separated: str  # a directory of streams per system
    out: str  # where the hypotheses go
    only: tuple[str, ...] = ()  # names of systems; none for all
    nj: int = 1  # processes at once, each with one thread
    device: str = "cpu"  # or "cuda": then in one process
    shard: Shard = None  # part I of N of the systems alone
    # Of a test set:
    speech: str = ""  # the dry speech that it was simulated from
    systems: str = ""  # table of the systems; streams of others are left out
    exp: str = ""  # where the systems' own recognisers lie
    allow_unknown: bool = False  # go on where a reference word is not among the recogniser's tokens
    shared: bool = False  # leave out systems with a recogniser of their own
    # Of whole recordings:
    activity: Mapping[str, float] = field(default_factory=dict)  # numbers of the Rule where there is speech
    leak_db: float = LEAK_DB  # see above


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


# {id: [pieces of each stream]}; what there is of each piece
Found = Mapping[str, Sequence[Sequence[Piece]]]
Texts = Mapping[Piece, str]
Seconds = Mapping[Piece, float]


@dataclass(frozen=True)
class System:
    """The streams of one system, and its recogniser."""

    name: str
    # {id: [audio of each stream]}; the first channel is meant, None is no talker.
    streams: Mapping[str, Sequence[str | None]] = field(repr=False)
    search: Search
    settings: dict = field(default_factory=dict)  # of the cutting, which the words depend on too
    separated: Streams | None = field(default=None, repr=False)  # to be checked before they are read

    @cached_property
    def stamp(self) -> Stamp:
        """What the words depend on."""
        found = [(key, [e and (e, *entry_stamp(e)) for e in row]) for key, row in self.streams.items()]
        inputs = {"recogniser": self.search.files.fingerprint, "streams": of_text(json.dumps(found))}
        settings = {**self.search.options, **self.settings}
        return Stamp.of(settings, inputs | self.search.named_files(), [model, sys.modules[__name__]])

    def check(self) -> None:
        """Raise UserError for a stream that is unreadable, or of another rate or length than its mixture."""
        if self.separated is not None:
            self.separated.check()
        for entry in (e for streams in self.streams.values() for e in streams if e):
            self.search.files.check_rate(entry, audio_info(entry)[2])


def decode(request: Request) -> None:
    """Recognise what is not recognised yet.

    Raises:
        UserError: whatever is wrong with texts, streams, recogniser or options; before the long work.
    """
    out, is_long = Path(request.out), (Path(request.data) / "array").is_file()  # see `data recordings`
    systems = part_of((_recordings if is_long else _test_set)(request), request.shard)
    why = {
        system.name: system.stamp.why_stale(out / system.name / STAMP)
        if all((out / system.name / file).is_file() for file in (HYPOTHESES, INFO))
        else "it is not complete"
        for system in systems
    }
    stale = [system for system in systems if why[system.name]]
    print(f"{out}: {len(why)} systems, {len(why) - len(stale)} of them recognised before", flush=True)
    for system in stale:
        if (out / system.name).exists():
            print(f"{out / system.name}: recognised again, {why[system.name]}", flush=True)
        system.check()
    cache = Cache(out / "cache.jsonl")
    for path in dict.fromkeys(system.search.files.path for system in stale):
        group = [system for system in stale if system.search.files.path == path]
        _decode_group(group, cache, request, is_long)


def _decode_group(systems: list[System], cache: Cache, request: Request, is_long: bool) -> None:
    """Recognise and write the systems of one recogniser."""
    search, ids = systems[0].search, list(systems[0].streams)
    cut, write = (_speech, _write_recordings) if is_long else (_whole, _write_set)
    jobs = [(key, system) for key in ids for system in systems]
    pieces = {
        (system.name, key): cut(system.streams[key], request)
        for key, system in progress(jobs, len(jobs), f"read {request.separated}")
    }
    groups = ([p for system in systems for row in pieces[system.name, key] for p in row] for key in ids)
    made = recognise(groups, search, cache, request.device, request.nj)
    texts = {piece: cache[key] for piece, key in made.keys.items()}
    seconds = {piece: made.seconds[key] for piece, key in made.keys.items()}
    for system in systems:
        found = {key: pieces[system.name, key] for key in ids}
        keys = [made.keys[piece] for rows in found.values() for row in rows for piece in row]
        now = {key for key in keys if key in made.cpu_s}
        audio_s = sum(made.seconds[key] for key in now)
        info = {
            "system": system.name,
            "asr": search.files.path,
            "asr_fingerprint": search.files.fingerprint,
            "config": search.options,
            "data": str(Path(request.data)),
            "fs": search.files.fs,
            "streams": len(next(iter(found.values()))),
            "n": len(ids),
            **system.settings,
            "seconds": round(sum(made.seconds[key] for key in keys), 3),
            "cached": sum(key not in now for key in keys),
            "rtf": round(sum(made.cpu_s[key] for key in now) / audio_s, 5) if now else None,
        }
        # Of other words, should this be cut off.
        (Path(request.out) / system.name / STAMP).unlink(missing_ok=True)
        write(Path(request.out) / system.name, system, found, texts, seconds, info)
        system.stamp.write(Path(request.out) / system.name / STAMP)
    new = f"{len(made.cpu_s)} streams recognised, all others known" if made.cpu_s else "all streams known"
    print(f"{search.files.path}: {len(systems)} systems written, {new}", flush=True)


def _choose(names: Sequence[str], request: Request) -> list[str]:
    """Return those of ``names`` that are wanted, all of them if none is named."""
    for name in request.only:
        if name not in names:
            hint = did_you_mean(name, names)
            raise UserError(f"{request.separated}: no streams of a system '{name}'{hint}")
    return [name for name in names if name in request.only or not request.only]


# --- each audio once


@dataclass
class Recognised:
    """What was recognised: of every piece its key in the cache; by key, length and CPU time of one core."""

    keys: dict[Piece, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)  # of what was recognised now


class Cache:
    """Texts by key, one ``{"key": ..., "text": ...}`` a line of the file ``path``."""

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
    groups: Iterable[Iterable[Piece]], search: Search, cache: Cache, device: str, nj: int
) -> Recognised:
    """Recognise what the cache does not know, in batches of equal length, in ``nj`` processes on a CPU.

    Args:
        groups: pieces; no batch goes beyond a group, so that it depends on nothing else.
        search: the recogniser.
        cache: what is known; the new texts are added.
        device: ``cpu``, ``cuda``.
        nj: number of processes.

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

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads would not survive the fork
    try:
        recogniser = model.Recogniser(search.files, search.options, device)  # ESPnet: 8 s, once
        work = functools.partial(_recognise_batch, recogniser=recogniser)
        nj, what = nj if device == "cpu" else 1, f"decode with {search.files.path}"
        for texts, seconds in parallel_map(work, batches, nj, what, fork=True):
            cache.add(texts)
            made.cpu_s.update(dict.fromkeys(texts, seconds / len(texts)))
    finally:
        torch.set_num_threads(threads)
    return made


def _recognise_batch(batch: dict[str, Piece], recogniser: model.Recogniser) -> tuple[dict[str, str], float]:
    streams = np.stack([piece.read()[0] for piece in batch.values()])
    start = time.process_time()
    texts = recogniser(streams, recogniser.fs)
    return dict(zip(batch, texts, strict=True)), time.process_time() - start


# --- a test set


def _test_set(request: Request) -> list[System]:
    """Return the systems on a test set, the dry speech among them; write what is said in it."""
    mixtures = labelled_set(request.data)
    texts = reference_texts(mixtures)
    shared = Search.find(request.asr, request.asr_model, request.config)
    listed = {system.name: system for system in trained(load_systems(request.systems), request.exp)}
    own = {name: system.asr for name, system in listed.items() if system.asr}
    there = {path.name: Streams(path, mixtures) for path in find_systems(request.separated, "separate")}
    if unlisted := [name for name in there if name not in listed]:
        print(f"not in {request.systems}, left out: {', '.join(unlisted)}", flush=True)
    known = [name for name in there if name in listed and not (request.shared and name in own)]
    systems = []
    for name in _choose([*known, DRY], request):
        search = Search.find(Path(request.exp) / own[name], None, request.config) if name in own else shared
        if name == DRY:
            streams = _dry_entries(mixtures, request.speech, texts)
        else:
            streams = {utterance.id: list(utterance.streams) for utterance in there[name].utterances()}
        systems.append(System(name, streams, search, separated=there.get(name)))
    for files in {system.search.files.path: system.search.files for system in systems}.values():
        _check_recogniser(files, mixtures, texts, request.allow_unknown)
    ends = {key: audio_info(entry)[1:] for key, entry in mixtures.wav.items()}
    seconds = {key: [frames / fs] * len(texts[key]) for key, (frames, fs) in ends.items()}
    write_segments(Path(request.out) / REFERENCES, segments(texts, seconds, keep_empty=False))
    return systems


def _dry_entries(mixtures: MixtureSet, speech: str, texts: Mapping) -> dict[str, list[str | None]]:
    """Return ``{id: [dry utterance of each talker]}``, which the scenes of the test set name."""
    wav, entries = read_utterances(speech), {}
    for key in mixtures.ids:
        names = [talker["utterance"] for talker in mixtures.scene(key)["talkers"]]
        for k, name in enumerate(names, 1):
            if name not in wav:
                raise UserError(
                    f"{speech}/wav.scp: no utterance '{name}', which talker {k} of {key} says by "
                    f"{mixtures.path}/scenes.jsonl (give the speech set it was simulated from)"
                )
        entries[key] = [wav[name] for name in names] + [None] * (len(texts[key]) - len(names))
    return entries


def _check_recogniser(
    files: RecogniserFiles, mixtures: MixtureSet, texts: Mapping, allow_unknown: bool
) -> None:
    files.check_rate(str(mixtures.path), audio_info(mixtures.wav[mixtures.ids[0]])[2])
    unknown = unknown_words((text for row in texts.values() for text in row), files)
    if not unknown:
        return
    message = f"{mixtures.path}/text_spk*: {unknown}"
    if not allow_unknown:
        raise UserError(
            f"{message}; {files.path} cannot recognise them (train it on them, or count the errors: "
            "--allow_unknown)"
        )
    print(f"note: {message}; {files.path} will get each of them wrong", file=sys.stderr, flush=True)


def _whole(streams: Sequence[str | None], request: Request) -> list[list[Piece]]:
    return [[Piece(entry)] if entry else [] for entry in streams]


def _write_set(
    directory: Path, system: System, found: Found, texts: Texts, seconds: Seconds, info: dict
) -> None:
    words = {key: [texts[row[0]] if row else "" for row in rows] for key, rows in found.items()}
    lengths = {key: [seconds[row[0]] if row else 0.0 for row in rows] for key, rows in found.items()}
    write_hypotheses(directory, words, lengths, info)


# --- whole recordings


def _recordings(request: Request) -> list[System]:
    """Return the systems that separated whole recordings."""
    if not request.leak_db >= 0:
        raise UserError(f"--leak_db: expected 0 or more, found {request.leak_db:g}")
    ids = list(read_utterances(request.data))
    settings = {"activity": asdict(Rule(**request.activity)), "leak_db": request.leak_db}
    there = {path.name: path for path in find_systems(request.separated, "separate")}
    tables = {name: find_streams(there[name], ids) for name in _choose(list(there), request)}
    search = Search.find(request.asr, request.asr_model, request.config)
    return [
        System(name, {key: [table[key] for table in found] for key in ids}, search, settings)
        for name, found in tables.items()
    ]


def stream_segments(entries: Sequence[str], rule: Rule, leak_db: float) -> list[list[Segment]]:
    """Return where each stream (a file of ``entries``) of a recording has speech, in seconds."""
    _, frames, fs = audio_info(entries[0])
    levels = np.stack([read_levels(entry, 1) for entry in entries])
    allowed = levels >= levels.max(axis=0) - leak_db
    rows = zip(levels, allowed, strict=True)
    return [segments_of_levels(row, fs, frames / fs, rule, mask) for row, mask in rows]


def _speech(streams: Sequence[str], request: Request) -> list[list[Piece]]:
    """Return the segments of each stream of a recording."""
    _, frames, fs = audio_info(streams[0])
    step, found = round(_STEP_S * fs), []
    segments_of = stream_segments(streams, Rule(**request.activity), request.leak_db)
    for entry, spans in zip(streams, segments_of, strict=True):
        starts = [round(start_s * fs) for start_s, _ in spans]
        # Longer at the end by what is missing to a whole step, but not into the next segment: equally long
        # segments go through the recogniser together.
        limits = [*starts[1:], frames][: len(starts)]
        row = []
        for start, limit, (_, end_s) in zip(starts, limits, spans, strict=True):
            samples = -(-(round(end_s * fs) - start) // step) * step
            row.append(Piece(entry, start, min(samples, limit - start)))
        found.append(row)
    return found


def _write_recordings(
    directory: Path, system: System, found: Found, texts: Texts, seconds: Seconds, info: dict
) -> None:
    """Write ``hyp.seglst.json``: a segment wherever words were recognised, ``speaker`` is the stream.

    A recording without words has one segment without words, so that it is counted.
    """
    rows, fs = [], info["fs"]
    for key, streams in found.items():
        pieces = [(piece, k) for k, row in enumerate(streams, 1) for piece in row if texts[piece]]
        spoken = [
            (k, piece.start / fs, (piece.start + piece.samples) / fs, texts[piece])
            for piece, k in sorted(pieces, key=lambda one: (one[0].start, one[1]))
        ]
        _, frames, _ = audio_info(str(system.streams[key][0]))
        for k, start, end, words in spoken or [(1, 0.0, frames / fs, "")]:
            times = {"start_time": round(start, 4), "end_time": round(end, 4)}
            rows.append({"session_id": key, "speaker": f"spk{k}", **times, "words": words})
    write_segments(directory / HYPOTHESES, rows)
    write_json(directory / INFO, info)
    n_words = sum(len(row["words"].split()) for row in rows)
    print(f"{directory}: {n_words} words in {len(rows)} segments of {len(found)} recording(s)", flush=True)
