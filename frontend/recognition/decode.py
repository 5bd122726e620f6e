"""Words of separated streams: of every system on a test set, or on whole recordings.

``OUT/SYSTEM`` gets what :mod:`frontend.recognition.text` describes, and a stamp. Of a test set,
``OUT/ref.seglst.json`` holds what was said. Whole recordings are cut where a stream has speech
(:mod:`frontend.recognition.pieces`).

No audio is recognised twice: ``OUT/cache.jsonl`` has every hypothesis by the content of the audio. The file
is only appended to, so that a kill loses nothing; where it holds all audio, ESPnet is not even imported.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from frontend.data.audio import audio_info, seconds_of, stamp_of_entries
from frontend.data.kaldi import read_utterances
from frontend.data.mixtures import MixtureSet, Streams, find_streams, find_systems, labelled_set
from frontend.recognition import model, pieces
from frontend.recognition.model import Files, Search
from frontend.recognition.pieces import (
    Cache,
    Cutting,
    Found,
    Piece,
    Seconds,
    Texts,
    cut,
    recognise,
    segments_of,
)
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
from frontend.separation.systems import choose, load_systems, trained
from frontend.utils.errors import UserError, few
from frontend.utils.files import write_json
from frontend.utils.parallel import Shard, part_of, progress
from frontend.utils.stamps import Stamp, of_text

DRY = "dry"
STAMP = "stamp.json"


@dataclass(frozen=True)
class Request:
    """What to recognise with what."""

    asr: str | None  # the recogniser: a directory,
    asr_model: str | None  # or a name of espnet_model_zoo,
    asr_whisper: str | None  # or a model of Whisper
    config: str | None  # options of the search; None: the recogniser's own
    data: str  # a labelled test set, or whole recordings
    separated: str  # a directory of streams per system
    out: str  # where the hypotheses go
    only: tuple[str, ...] = ()  # names of systems; none for all
    nj: int = 1  # processes at once, each with one thread
    device: str = "cpu"  # or "cuda": then in one process
    shard: Shard = None  # part I of N of the systems alone
    # Of a test set:
    speech: str | None = None  # the dry speech that it was simulated from, a system of its own
    systems: str | None = None  # table of the systems, streams of others are left out; None: all there are
    exp: str | None = None  # where the systems' own recognisers lie
    allow_unknown: bool = False  # go on where a reference word is not among the recogniser's tokens
    shared: bool = False  # leave out systems with a recogniser of their own
    # Of whole recordings:
    cutting: Cutting = field(default_factory=Cutting)  # into segments of speech


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
        found = [
            (key, [entry is None for entry in row], stamp_of_entries(entry for entry in row if entry))
            for key, row in self.streams.items()
        ]
        inputs = {"recogniser": self.search.files.fingerprint, "streams": of_text(json.dumps(found))}
        settings = {**self.search.options, **self.settings}
        return Stamp.of(settings, inputs | self.search.named_files(), [self.search.code, pieces])

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
            _check_replaced(out / system.name)
            print(f"{out / system.name}: recognised again, {why[system.name]}", flush=True)
        system.check()
    cache = Cache(out / "cache.jsonl")
    for path in dict.fromkeys(system.search.files.path for system in stale):
        group = [system for system in stale if system.search.files.path == path]
        _decode_group(group, cache, request, is_long)


def _check_replaced(folder: Path) -> None:
    """Raise UserError unless there is nothing in ``folder``, or the words of a system."""
    there = [path.name for path in folder.iterdir()] if folder.is_dir() else [folder.name]
    there = [name for name in there if not name.startswith(".")]  # of a run that was killed
    if there and HYPOTHESES not in there:
        found = few(sorted(there))
        raise UserError(f"{folder}: expected words of a system, found {found} (choose another --out)")


def _decode_group(systems: list[System], cache: Cache, request: Request, is_long: bool) -> None:
    """Recognise and write the systems of one recogniser."""
    search, ids = systems[0].search, list(systems[0].streams)
    cut_up, write = (_speech, _write_recordings) if is_long else (_whole, _write_set)
    jobs = [(key, system) for key in ids for system in systems]
    made_of = {
        (system.name, key): cut_up(system.streams[key], request, search.files)
        for key, system in progress(jobs, len(jobs), f"read {request.separated}")
    }
    groups = ([p for system in systems for row in made_of[system.name, key] for p in row] for key in ids)
    load = functools.partial(model.Recogniser, search.files, search.options, request.device)
    made = recognise(groups, search, cache, load, request.nj if request.device == "cpu" else 1)
    texts = {piece: cache[key] for piece, key in made.keys.items()}
    seconds = {piece: made.seconds[key] for piece, key in made.keys.items()}
    for system in systems:
        found = {key: made_of[system.name, key] for key in ids}
        keys = [made.keys[piece] for rows in found.values() for row in rows for piece in row]
        now = {key for key in keys if key in made.cpu_s}
        audio_s = sum(made.seconds[key] for key in now)
        info = {
            "system": system.name,
            "asr": search.files.path,
            "asr_fingerprint": search.files.fingerprint,
            "config": search.options,
            "normaliser": search.normaliser,
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


# --- a test set


def _test_set(request: Request) -> list[System]:
    """Return the systems on a test set, the dry speech among them; write what is said in it."""
    mixtures = labelled_set(request.data)
    texts = reference_texts(mixtures)
    shared = Search.find(request.asr, request.asr_model, request.asr_whisper, request.config)
    there = {path.name: Streams(path, mixtures) for path in find_systems(request.separated, "separate")}
    known, own = list(there), dict[str, str]()
    if request.systems is not None and request.exp is not None:
        listed = {system.name: system for system in trained(load_systems(request.systems), request.exp)}
        own = {name: system.asr for name, system in listed.items() if system.asr}
        if unlisted := [name for name in there if name not in listed]:
            print(f"not in {request.systems}, left out: {', '.join(unlisted)}", flush=True)
        known = [name for name in there if name in listed and not (request.shared and name in own)]
    if request.speech is not None:
        known.append(DRY)
    systems = []
    for name in choose(known, request.only, request.separated):
        asr = Path(str(request.exp)) / own[name] if name in own else None
        search = Search.find(asr, None, None, request.config) if asr else shared
        if name == DRY and request.speech is not None:
            streams = _dry_entries(mixtures, request.speech, texts)
        else:
            streams = {utterance.id: list(utterance.streams) for utterance in there[name].utterances()}
        systems.append(System(name, streams, search, separated=there.get(name)))
    for files in {system.search.files.path: system.search.files for system in systems}.values():
        _check_recogniser(files, mixtures, texts, request.allow_unknown)
    seconds = {key: [seconds_of(entry)] * len(texts[key]) for key, entry in mixtures.wav.items()}
    write_segments(Path(request.out) / REFERENCES, segments(texts, seconds, keep_empty=False))
    return systems


def _dry_entries(mixtures: MixtureSet, speech: str, texts: Mapping) -> dict[str, list[str | None]]:
    """Return ``{id: [dry utterance of each talker]}``, which the scenes of the test set name."""
    wav, entries = read_utterances(speech), {}
    for key in mixtures.ids:
        names = mixtures.talkers(key, "utterance")
        for k, name in enumerate(names, 1):
            if name not in wav:
                raise UserError(
                    f"{speech}/wav.scp: no utterance '{name}', which talker {k} of {key} says by "
                    f"{mixtures.path}/scenes.jsonl (give the speech set it was simulated from)"
                )
        entries[key] = [wav[name] for name in names] + [None] * (len(texts[key]) - len(names))
    return entries


def _check_recogniser(files: Files, mixtures: MixtureSet, texts: Mapping, allow_unknown: bool) -> None:
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


def _whole(streams: Sequence[str | None], request: Request, files: Files) -> list[list[Piece]]:
    """Return each stream in one piece; where it has speech, if that is more than the recogniser takes."""
    most = files.longest_s

    def pieces_of(entry: str) -> list[Piece]:
        too_long = most is not None and seconds_of(entry) > most
        return cut([entry], Cutting(), files.fs)[0] if too_long else [Piece(entry, fs=files.fs)]

    return [pieces_of(entry) if entry else [] for entry in streams]


def _write_set(
    directory: Path, system: System, found: Found, texts: Texts, seconds: Seconds, info: dict
) -> None:
    def length(entry: str | None, row: Sequence[Piece]) -> float:
        if row and row[0].samples < 0:
            return seconds[row[0]]
        return seconds_of(entry) if entry else 0.0

    words = {
        key: [" ".join(filter(None, map(texts.get, row))) for row in rows] for key, rows in found.items()
    }
    lengths = {key: list(map(length, system.streams[key], rows)) for key, rows in found.items()}
    write_hypotheses(directory, words, lengths, info)


# --- whole recordings


def _recordings(request: Request) -> list[System]:
    """Return the systems that separated whole recordings."""
    cutting, ids = request.cutting, list(read_utterances(request.data))
    settings = {"activity": asdict(cutting.rule), "leak_db": cutting.leak_db}
    there = {path.name: path for path in find_systems(request.separated, "separate")}
    chosen = choose(list(there), request.only, request.separated)
    tables = {name: find_streams(there[name], ids) for name in chosen}
    search = Search.find(request.asr, request.asr_model, request.asr_whisper, request.config)
    if (longest := search.files.longest_s) is not None and cutting.rule.max_seconds > longest:
        found = f"found {cutting.rule.max_seconds:g}"
        raise UserError(
            f"--max_seconds: expected at most {longest:g}, which {search.files.path} takes, {found}"
        )
    return [
        System(name, {key: [table[key] for table in found] for key in ids}, search, settings)
        for name, found in tables.items()
    ]


def _speech(streams: Sequence[str], request: Request, files: Files) -> list[list[Piece]]:
    return cut(streams, request.cutting, files.fs)


def _write_recordings(
    directory: Path, system: System, found: Found, texts: Texts, seconds: Seconds, info: dict
) -> None:
    """Write ``hyp.seglst.json``, see :func:`segments_of`."""
    rows: list[dict] = []
    for key, streams in found.items():
        rows += segments_of(key, streams, texts, str(system.streams[key][0]))
    write_segments(directory / HYPOTHESES, rows)
    write_json(directory / INFO, info)
    n_words = sum(len(row["words"].split()) for row in rows)
    print(f"{directory}: {n_words} words in {len(rows)} segments of {len(found)} recording(s)", flush=True)
