"""What was recognised before, by content: nothing is recognised twice, and a kill loses nothing.

``cache.jsonl`` is only ever appended to, one ``{"key": ..., "text": ...}`` a line. The key is a hash of the
recogniser's files, the search's options and the audio: what is found under it is true whatever has changed.

What there is to recognise: the streams of every system on a test set, and what was really said.

The work of decoding: which audio is still to be recognised, in batches, in processes.

Recognise the streams of every system on a test set, each audio once.

``OUT/SYSTEM/`` gets what :mod:`frontend.recognition.text` describes, ``OUT/ref.seglst.json`` what was said, and
``OUT/cache.jsonl`` all that was ever recognised. A system whose streams, recogniser and options have not
changed is skipped; what the cache knows is not recognised again, and where it knows all, ESPnet
is not even imported.

Words of separated long recordings: each stream cut into segments of speech, each segment recognised.

Segments are cut by :mod:`frontend.dsp.activity`, with one more rule: a frame counts only in streams that are no
more than ``leak_db`` below the loudest of them at that time, since below that lies what leaks of the other
talkers. Lengths are rounded up to whole 0.2 s where there is room, so that equally long segments go through
the recogniser together. What was recognised is kept in ``OUT/cache.jsonl``: a run that was cut off goes on.

The whole stack on one recording: separated, recognised, one transcript a talker.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from frontend.data.audio import audio_info, entry_stamp, read_audio
from frontend.data.kaldi import read_scp
from frontend.data.mixtures import MixtureSet, Streams, find_streams, labelled_set
from frontend.dsp.activity import Rule, Segment, frame_samples, levels_db, segments_of_levels
from frontend.dsp.refine import check_refinement, check_size
from frontend.recognition.model import (
    RecogniserFiles,
    complete_options,
    find_in_zoo,
    find_recogniser,
    read_options,
    search_files,
)
from frontend.recognition.text import (
    HYPOTHESES,
    INFO,
    REFERENCES,
    normalise,
    read_info,
    segments,
    unknown_words,
    write_hypotheses,
    write_segments,
)
from frontend.separation.files import Job, plan, write_streams
from frontend.separation.systems import load_systems, trained
from frontend.training.checkpoints import MAX_SECONDS, check_length, open_trained
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.files import write_text
from frontend.utils.parallel import parallel_map, progress

# Changes when recognise.py gives other words for the same audio.
_VERSION = 1


def key_of(audio: np.ndarray, fs: int, recogniser: str) -> str:
    """Return the key of a stream.

    Args:
        audio: (T,) float32.
        fs: its rate in Hz.
        recogniser: hash of the recogniser's files and options.
    """
    digest = hashlib.sha256(f"{_VERSION} {recogniser} {fs} ".encode())
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


DRY = "dry"


@dataclass(frozen=True)
class Row:
    """One system: its streams and its recogniser.

    Attributes:
        name: of the system.
        streams: ``{id: [audio of each stream]}``; the first channel is meant, None is no talker.
        recogniser: who recognises them.
        separated: the streams' directory, checked before they are read; None where there is none (``dry``).
    """

    name: str
    streams: Mapping[str, Sequence[str | None]] = field(repr=False)
    recogniser: RecogniserFiles
    separated: Streams | None = field(default=None, repr=False)

    def fingerprint(self, about: object) -> str:
        """Hash ``about`` and the name, size and time of every audio file."""
        stamps = [[e and (e, *entry_stamp(e)) for e in self.streams[key]] for key in sorted(self.streams)]
        return hashlib.sha256(json.dumps([about, list(self.streams), stamps]).encode()).hexdigest()

    def check(self) -> None:
        """Raise UserError for a stream that is unreadable or of another rate or length than its mixture."""
        if self.separated is not None:
            self.separated.check()
        for entry in (e for streams in self.streams.values() for e in streams if e):
            self.recogniser.check_rate(entry, audio_info(entry)[2])


def reference_texts(mixtures: MixtureSet) -> dict[str, list[str]]:
    """Return ``{id: [words of each talker]}``; ``""`` where a mixture has fewer talkers.

    Raises:
        UserError: no ``text_spkK`` of a talker, no words where there is a voice, or nobody who speaks.
    """
    for k in range(1, mixtures.n_talkers + 1):
        path = mixtures.path / f"text_spk{k}"
        if not path.is_file():
            raise UserError(f"{path}: expected the words of talker {k} of each mixture, found no such file")
    texts = {key: mixtures.texts(key) for key in mixtures.ids}
    for key, words in texts.items():
        for k, text in enumerate(words, 1):
            if normalise(text):
                continue
            image = mixtures.speakers[k - 1][key]
            if read_audio(image, finite=True)[0].any():
                raise UserError(
                    f"{mixtures.path}/text_spk{k}: {key} has no words, but {image} is not silent "
                    "(add what is said there)"
                )
        if not any(map(normalise, words)):
            raise UserError(f"{mixtures.path}/text_spk1: nobody says anything in {key} (leave it out)")
    return texts


def separated_streams(separated: str | Path, mixtures: MixtureSet) -> dict[str, Streams]:
    """Return the streams of every system below ``separated``.

    Raises:
        UserError: no system, or one without a stream for an utterance.
    """
    separated = Path(separated)
    if not separated.is_dir():
        raise UserError(f"{separated}: expected a directory with a directory per system, found none")
    found = sorted(p for p in separated.iterdir() if p.is_dir() and not p.name.startswith("."))
    return {path.name: Streams(path, mixtures) for path in found}


def stream_entries(streams: Streams) -> dict[str, tuple[str, ...]]:
    """Return ``{id: [audio of each stream]}``."""
    return {utterance.id: utterance.streams for utterance in streams.utterances()}


def dry_entries(
    mixtures: MixtureSet, speech: str | Path, texts: Mapping[str, Sequence[str]]
) -> dict[str, list[str | None]]:
    """Return ``{id: [dry utterance of each talker]}``, which the scenes of the test set name.

    Raises:
        UserError: no scenes, an utterance that ``speech`` has not got, or a talker without words.
    """
    wav, entries = read_scp(Path(speech) / "wav.scp"), {}
    for key in mixtures.ids:
        names = [talker["utterance"] for talker in mixtures.scene(key)["talkers"]]
        for k, name in enumerate(names, 1):
            if name not in wav:
                raise UserError(
                    f"{speech}/wav.scp: no utterance '{name}', which talker {k} of {key} says by "
                    f"{mixtures.path}/scenes.jsonl (give the speech set it was simulated from)"
                )
            if k > len(texts[key]) or not normalise(texts[key][k - 1]):
                raise UserError(
                    f"{mixtures.path}/text_spk{k}: {key} has no words, but its scene has a talker"
                )
        entries[key] = [wav[name] for name in names] + [None] * (len(texts[key]) - len(names))
    return entries


def choose(names: Sequence[str], wanted: Sequence[str], where: str | Path) -> list[str]:
    """Return those of ``names`` that are ``wanted``, all of them if none is named.

    Raises:
        UserError: a name that is not there.
    """
    for name in wanted:
        if name not in names:
            raise UserError(f"{where}: no streams of a system '{name}'{did_you_mean(name, names)}")
    return [name for name in names if name in wanted or not wanted]


if TYPE_CHECKING:  # ESPnet: 9 s
    from frontend.recognition.model import Recogniser

# As many streams of one utterance as go through the encoder at once.
_MAX_BATCH = 16


@dataclass(frozen=True)
class Batch:
    """Streams that are equally long, those of one utterance: their keys, and where the audio lies."""

    keys: tuple[str, ...]
    entries: tuple[str, ...]


@dataclass(frozen=True)
class Recognised:
    """What a job gave: text by key, and CPU seconds of one core for all of it."""

    texts: dict[str, str]
    cpu_s: float


@dataclass
class BatchPlan:
    """All streams of some systems that share a recogniser.

    Attributes:
        keys: by system and utterance, the key of each stream; None for a talker who is not there.
        seconds: length by key.
        jobs: what the cache does not know, each audio once.
    """

    keys: dict[str, dict[str, list[str | None]]]
    seconds: dict[str, float]
    jobs: list[Batch]


def plan_batches(rows: Sequence[Row], recogniser: str, cache: Cache) -> BatchPlan:
    """Read the streams of ``rows`` and find which of them are new.

    Args:
        rows: systems that share a recogniser.
        recogniser: hash of its files and options.
        cache: what is known.

    Raises:
        UserError: unreadable audio, NaN.
    """
    made = BatchPlan({row.name: {} for row in rows}, {}, [])
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
                made.jobs.append(Batch(keys, tuple(batch[key] for key in keys)))
    return made


def run_batches(jobs: Sequence[Batch], recogniser: Recogniser, nj: int, what: str) -> Iterator[Recognised]:
    """Yield what each job gave, in their order, from ``nj`` processes forked from this one."""
    return parallel_map(functools.partial(_recognise_batch, recogniser=recogniser), jobs, nj, what, fork=True)


def decoding_cost(
    keys: Mapping[str, Sequence[str | None]], cpu_s: Mapping[str, float], plan: BatchPlan
) -> dict:
    """Return ``seconds``, ``cached`` and ``rtf`` of one system.

    Args:
        keys: of its streams, by utterance.
        cpu_s: what recognising took, by key; of those that were recognised now.
        plan: for the lengths.
    """
    streams = [key for row in keys.values() for key in row if key is not None]
    now = {key for key in streams if key in cpu_s}
    audio_s = sum(plan_batches.seconds[key] for key in now)
    return {
        "seconds": round(sum(plan_batches.seconds[key] for key in streams), 3),
        "cached": sum(key not in now for key in streams),
        "rtf": round(sum(cpu_s[key] for key in now) / audio_s, 5) if now else None,
    }


def _recognise_batch(job: Batch, recogniser: Recogniser) -> Recognised:
    streams = np.stack([_read(entry)[0] for entry in job.entries])
    start = time.process_time()
    texts = recogniser(streams, recogniser.fs)
    return Recognised(dict(zip(job.keys, texts, strict=True)), time.process_time() - start)


def _read(entry: str) -> tuple[np.ndarray, int]:
    # The row `mixture` names the multi-channel recording itself: its reference channel is meant.
    audio, fs = read_audio(entry, finite=True)
    return audio[0], fs


@dataclass(frozen=True)
class Request:
    """What to recognise with what.

    Attributes:
        asr, asr_model: the recogniser: a directory, or a name of espnet_model_zoo. One of them.
        config: options of the search.
        data: a labelled test set.
        separated: a directory of streams per system.
        speech: the dry speech that the test set was simulated from.
        systems: table of the systems; streams of others are left out.
        exp: where their own recognisers lie.
        out: where the hypotheses go.
        only: names of systems; none for all.
        allow_unknown: go on where a reference word is not among the recogniser's tokens.
        nj: processes at once, each with one thread.
        device: ``cpu``, or ``cuda``: then ``nj`` is 1.
        shared: leave out systems with a recogniser of their own.
    """

    asr: str | None
    asr_model: str | None
    config: str
    data: str
    separated: str
    speech: str
    systems: str
    exp: str
    out: str
    only: tuple[str, ...] = ()
    allow_unknown: bool = False
    nj: int = 1
    device: str = "cpu"
    shared: bool = False


def decode(request: Request) -> None:
    """Recognise what is not recognised yet.

    Raises:
        UserError: whatever is wrong with texts, streams, recogniser or options; before the long work.
    """
    out, options, mixtures = Path(request.out), read_options(request.config), labelled_set(request.data)
    texts = reference_texts(mixtures)
    rows = _rows(request, mixtures, texts)
    recognisers = {row.recogniser.path: row.recogniser for row in rows}
    searches = {
        path: Search(files, complete_options(options, files, request.config))
        for path, files in recognisers.items()
    }
    for files in recognisers.values():
        _check_recogniser(files, mixtures, texts, request.allow_unknown)
    prints = {row.name: row.fingerprint(searches[row.recogniser.path].identity) for row in rows}
    stale = [row for row in rows if not _is_current(out / row.name, prints[row.name])]
    print(f"{out}: {len(rows)} systems, {len(rows) - len(stale)} of them recognised before", flush=True)
    for row in stale:
        row.check()
    _write_references(out / REFERENCES, mixtures, texts)
    cache = Cache(out / "cache.jsonl")
    for path, search in searches.items():
        group = [row for row in stale if row.recogniser.path == path]
        if group:
            _decode_group(group, search, cache, prints, mixtures, request)


@dataclass(frozen=True)
class Search:
    """A recogniser and the options of its search, before the long imports."""

    files: RecogniserFiles
    options: dict

    @property
    def identity(self) -> str:
        """Hash of all but the audio that a hypothesis depends on."""
        contents = [hashlib.sha256(Path(p).read_bytes()).hexdigest() for p in search_files(self.options)]
        about = [self.files.fingerprint, self.options, contents]
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _rows(request: Request, mixtures: MixtureSet, texts: Mapping[str, list[str]]) -> list[Row]:
    shared = find_recogniser(request.asr) if request.asr else find_in_zoo(request.asr_model)
    listed = {system.name: system for system in trained(load_systems(request.systems), request.exp)}
    own = {name: system.asr for name, system in listed.items() if system.asr}
    there = separated_streams(request.separated, mixtures)
    unlisted = [name for name in there if name not in listed]
    if unlisted:
        print(f"not in {request.systems}, left out: {', '.join(unlisted)}", flush=True)
    known = [name for name in there if name in listed and not (request.shared and name in own)]
    rows = []
    for name in choose([*known, DRY], request.only, request.separated):
        recogniser = find_recogniser(Path(request.exp) / own[name]) if name in own else shared
        if name == DRY:
            streams = dry_entries(mixtures, request.speech, texts)
        else:
            streams = stream_entries(there[name])
        rows.append(Row(name, streams, recogniser, there.get(name)))
    return rows


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


def _decode_group(
    rows: list[Row],
    search: Search,
    cache: Cache,
    prints: Mapping[str, str],
    mixtures: MixtureSet,
    request: Request,
) -> None:
    """Recognise and write the systems of one recogniser."""
    plan = plan_batches(rows, search.identity, cache)
    cpu_s: dict[str, float] = {}
    if plan.jobs:
        with loaded(search, request.device) as recogniser:
            nj = 1 if request.device != "cpu" else request.nj
            for done in run_batches(plan.jobs, recogniser, nj, f"decode with {search.files.path}"):
                cache.add(done.texts)
                cpu_s.update(dict.fromkeys(done.texts, done.cpu_s / len(done.texts)))
    for row in rows:
        keys = plan.keys[row.name]
        info = {
            "system": row.name,
            "asr": search.files.path,
            "asr_fingerprint": search.files.fingerprint,
            "config": search.options,
            "data": str(mixtures.path),
            "fs": search.files.fs,
            "streams": len(next(iter(keys.values()))),
            "n": len(keys),
            **decoding_cost(keys, cpu_s, plan),
            "fingerprint": prints[row.name],
        }
        texts = {u: ["" if key is None else cache[key] for key in keys[u]] for u in keys}
        seconds = {u: [plan.seconds.get(key, 0.0) for key in keys[u]] for u in keys}
        write_hypotheses(Path(request.out) / row.name, texts, seconds, info)
    new = f"{len(cpu_s)} streams recognised, all others known" if cpu_s else "all streams known"
    print(f"{search.files.path}: {len(rows)} systems written, {new}", flush=True)


@contextlib.contextmanager
def loaded(search: Search, device: str) -> Iterator:
    """Load a :class:`frontend.recognition.model.Recogniser`.

    Where it is to be forked, without starting threads, which would not survive that.
    """
    import torch

    from frontend.recognition.model import Recogniser  # ESPnet: 9 s, once for all processes forked from here

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield Recogniser(search.files, search.options, device)
    finally:
        torch.set_num_threads(threads)


def _write_references(path: Path, mixtures: MixtureSet, texts: Mapping[str, list[str]]) -> None:
    seconds = {}
    for key, entry in mixtures.wav.items():
        _, frames, fs = audio_info(entry)
        seconds[key] = [frames / fs] * len(texts[key])
    write_segments(path, segments(texts, seconds, keep_empty=False))


def _is_current(directory: Path, fingerprint: str) -> bool:
    if not (directory / INFO).is_file():
        return False
    info = read_info(directory)
    names = [f"text_spk{k}" for k in range(1, info.get("streams", 0) + 1)]
    there = all((directory / name).is_file() for name in (*names, HYPOTHESES))
    return there and info.get("fingerprint") == fingerprint


LEAK_DB = 10.0
_STEP_S = 0.2  # lengths of segments are multiples of it
_BLOCK_S = 60.0  # of a stream, read at once


@dataclass(frozen=True)
class RecordingRequest:
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


def recognise_streams(request: RecordingRequest) -> list[dict]:
    """Recognise all streams below ``request.streams``; write and return SegLST.

    ``OUT/hyp.seglst.json`` has a segment wherever words were recognised (``speaker`` is the stream: ``spk1``
    ...), and one without words for a recording in which there were none; ``OUT/info.json`` says with what.

    Raises:
        UserError: streams, recogniser or options that do not fit; before the long work.
    """
    tables = find_streams(request.streams)
    files = find_recogniser(request.asr) if request.asr else find_in_zoo(request.asr_model)
    options = complete_options(
        read_options(request.config) if request.config else {}, files, request.config or ""
    )
    for entry in tables[0].values():
        files.check_rate(entry, audio_info(entry)[2])
    search, cache = Search(files, options), Cache(Path(request.out) / "cache.jsonl")
    names = sorted(tables[0])
    pieces = [
        piece
        for name in progress(names, len(names), "segments")
        for piece in _pieces(name, [table[name] for table in tables], request.rule, request.leak_db)
    ]
    keys, jobs = _plan(pieces, search.identity, cache, files.fs)
    cpu_s = _run(jobs, search, cache, request) if jobs else 0.0
    rows = _recording_rows(pieces, [cache[key] for key in keys], tables[0], files.fs)
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
    write_text(Path(request.out) / INFO, json.dumps(info, indent=1) + "\n")
    return rows


def stream_segments(entries: Sequence[str], rule: Rule, leak_db: float) -> list[list[Segment]]:
    """Return where each stream of a recording has speech, in seconds.

    Args:
        entries: files of the streams.
        rule: of :mod:`frontend.dsp.activity`.
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


def _run(jobs: list[tuple], search: Search, cache: Cache, request: RecordingRequest) -> float:
    cpu_s, nj = 0.0, 1 if request.device != "cpu" else request.nj
    with loaded(search, request.device) as recogniser:
        work = functools.partial(_recognise_segments, recogniser=recogniser)
        for done in parallel_map(work, jobs, nj, f"recognise with {search.files.path}", fork=True):
            cache.add(done.texts)
            cpu_s += done.cpu_s
    return cpu_s


def _recognise_segments(job: tuple, recogniser) -> _Recognised:
    keys, pieces = job
    start = time.process_time()
    texts = recogniser(np.stack([piece.read() for piece in pieces]), recogniser.fs)
    return _Recognised(dict(zip(keys, texts, strict=True)), time.process_time() - start)


def _recording_rows(
    pieces: Sequence[Piece], texts: Sequence[str], recordings: dict[str, str], fs: int
) -> list[dict]:
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


FORMATS = ("text", "json", "stm")


@dataclass(frozen=True)
class FileRequest:
    """What to recognise with what, as the options of ``python -m frontend.bin.recognise`` say."""

    input: str
    separator: str
    asr: str | None
    asr_model: str | None = None
    config: str | None = None
    resample: bool = False
    refine: str | None = None
    device: str = "cpu"
    max_seconds: float = MAX_SECONDS
    save_streams: str | None = None


def recognise_file(request: FileRequest) -> list[dict]:
    """Return SegLST: one segment a stream, in the order of the separator's outputs.

    Raises:
        UserError: a recording, separator, recogniser or option that does not fit; before the long imports.
    """
    job = _check_recording(request)
    files = find_recogniser(request.asr) if request.asr else find_in_zoo(request.asr_model)
    options = complete_options(
        read_options(request.config) if request.config else {}, files, request.config or ""
    )
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


def _check_recording(request: FileRequest) -> Job | None:
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
    with open_trained(request.separator) as trained:
        trained.check(request.input, channels, fs, request.resample)
        check_length(request.input, frames / fs, request.max_seconds)
        if request.refine:
            check_refinement(request.refine, "--refine: ")
            check_size(request.refine, trained.n_mics, trained.n_outputs, f"{trained.path}: ")
    return None


def _transcripts(request: FileRequest, files: RecogniserFiles, options: dict, job: Job | None) -> list[str]:
    import torch

    from frontend.data.audio import change_rate
    from frontend.dsp.refine import refine
    from frontend.recognition.model import Recogniser
    from frontend.separation.model import Separator

    separator = Separator.from_pretrained(request.separator, request.device, request.max_seconds)
    recogniser = Recogniser(files, options, request.device)
    waveform, fs = read_audio(request.input, finite=True)
    streams = separator(waveform, fs, request.resample)
    if request.refine:
        streams = refine(torch.from_numpy(streams), torch.from_numpy(waveform), fs, request.refine).numpy()
    if job:
        write_streams(job, streams, waveform, fs)
    return recogniser(change_rate(streams, fs, recogniser.fs), recogniser.fs)
