"""Words of separated streams: of every system on a test set or on whole recordings, and of one file.

``OUT/SYSTEM`` gets what :mod:`frontend.recognition.text` describes, and a stamp. Of a test set,
``OUT/ref.seglst.json`` holds what was said. Whole recordings are cut where a stream has speech
(:mod:`frontend.dsp.activity`), with one more rule: a frame counts only in streams that are no more than
``leak_db`` below the loudest of them at that time, since below that lies what leaks of the other talkers.

No audio is recognised twice: ``OUT/cache.jsonl``, see :mod:`frontend.recognition.batches`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from frontend.data.audio import audio_info, entry_stamp, read_audio
from frontend.data.kaldi import read_scp
from frontend.data.mixtures import MixtureSet, Streams, find_streams, find_systems, labelled_set
from frontend.data.segments import in_seglst, in_stm, read_levels
from frontend.dsp.activity import Rule, Segment, segments_of_levels
from frontend.dsp.refine import check_refinement, check_size
from frontend.recognition import model
from frontend.recognition.batches import Cache, Piece, Plan, plan_batches, run_batches
from frontend.recognition.model import RecogniserFiles, Search
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
from frontend.separation.files import plan, write_streams
from frontend.separation.systems import load_systems, trained
from frontend.training.checkpoints import MAX_SECONDS, check_length, open_trained
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.files import write_json
from frontend.utils.parallel import Shard, part_of, progress
from frontend.utils.stamps import Stamp, of_text

# Raised with every change after which the same recordings are cut into other segments.
VERSION = 1
DRY = "dry"
STAMP = "stamp.json"
LEAK_DB = 10.0
_STEP_S = 0.2  # lengths of segments are multiples of it

# {id: [pieces of each stream]}
Found = Mapping[str, Sequence[Sequence[Piece]]]


@dataclass(frozen=True)
class Request:
    """What to recognise with what.

    Attributes:
        asr, asr_model: the recogniser: a directory, or a name of espnet_model_zoo. One of them.
        config: options of the search; None: ESPnet's.
        data: a labelled test set, or whole recordings.
        separated: a directory of streams per system.
        out: where the hypotheses go.
        only: names of systems; none for all.
        nj: processes at once, each with one thread.
        device: ``cpu``, or ``cuda``: then ``nj`` is 1.
        speech: of a test set: the dry speech that it was simulated from.
        systems: of a test set: table of the systems; streams of others are left out.
        exp: of a test set: where the systems' own recognisers lie.
        allow_unknown: of a test set: go on where a reference word is not among the recogniser's tokens.
        shared: of a test set: leave out systems with a recogniser of their own.
        activity: of whole recordings: numbers of the rule where there is speech (:class:`Rule`), by name.
        leak_db: of whole recordings: see above.
        shard: part I of N of the systems alone.
    """

    asr: str | None
    asr_model: str | None
    config: str | None
    data: str
    separated: str
    out: str
    only: tuple[str, ...] = ()
    nj: int = 1
    device: str = "cpu"
    speech: str = ""
    systems: str = ""
    exp: str = ""
    allow_unknown: bool = False
    shared: bool = False
    activity: Mapping[str, float] = field(default_factory=dict)
    leak_db: float = LEAK_DB
    shard: Shard = None


def decode(request: Request) -> None:
    """Recognise what is not recognised yet.

    Raises:
        UserError: whatever is wrong with texts, streams, recogniser or options; before the long work.
    """
    out, is_long = Path(request.out), (Path(request.data) / "array").is_file()  # see `data recordings`
    systems = part_of((_recordings if is_long else _test_set)(request), request.shard)
    why = {system.name: system.stamp.why_stale(out / system.name / STAMP) for system in systems}
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


@dataclass(frozen=True)
class System:
    """The streams of one system, and its recogniser.

    Attributes:
        name: of the system.
        streams: ``{id: [audio of each stream]}``; the first channel is meant, None is no talker.
        search: who recognises them.
        settings: of the cutting, which the words depend on too.
        separated: the streams' directory, checked before they are read; None where that is done.
    """

    name: str
    streams: Mapping[str, Sequence[str | None]] = field(repr=False)
    search: Search
    settings: dict = field(default_factory=dict)
    separated: Streams | None = field(default=None, repr=False)

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


def _decode_group(systems: list[System], cache: Cache, request: Request, is_long: bool) -> None:
    """Recognise and write the systems of one recogniser."""
    search, ids = systems[0].search, list(systems[0].streams)
    cut, write = (_speech, _write_recordings) if is_long else (_whole, _write_set)
    jobs = [(key, system) for key in ids for system in systems]
    pieces = {
        (system.name, key): cut(system.streams[key], request)
        for key, system in progress(jobs, len(jobs), f"read {request.separated}")
    }
    made = plan_batches(
        ([p for system in systems for row in pieces[system.name, key] for p in row] for key in ids),
        search.identity,
        cache,
    )
    cpu_s = run_batches(made, search, cache, request.device, request.nj)
    for system in systems:
        found = {key: pieces[system.name, key] for key in ids}
        keys = [made.keys[piece] for rows in found.values() for row in rows for piece in row]
        now = {key for key in keys if key in cpu_s}
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
            "rtf": round(sum(cpu_s[key] for key in now) / audio_s, 5) if now else None,
        }
        write(Path(request.out) / system.name, system, found, made, cache, info)
        system.stamp.write(Path(request.out) / system.name / STAMP)
    new = f"{len(cpu_s)} streams recognised, all others known" if cpu_s else "all streams known"
    print(f"{search.files.path}: {len(systems)} systems written, {new}", flush=True)


def _choose(names: Sequence[str], request: Request) -> list[str]:
    """Return those of ``names`` that are wanted, all of them if none is named."""
    for name in request.only:
        if name not in names:
            raise UserError(
                f"{request.separated}: no streams of a system '{name}'{did_you_mean(name, names)}"
            )
    return [name for name in names if name in request.only or not request.only]


# --- a test set


def _test_set(request: Request) -> list[System]:
    """Return the systems on a test set, the dry speech among them; write what is said in it."""
    mixtures = labelled_set(request.data)
    texts = reference_texts(mixtures)
    shared = Search.find(request.asr, request.asr_model, request.config)
    listed = {system.name: system for system in trained(load_systems(request.systems), request.exp)}
    own = {name: system.asr for name, system in listed.items() if system.asr}
    there = {path.name: Streams(path, mixtures) for path in find_systems(request.separated, "separate")}
    unlisted = [name for name in there if name not in listed]
    if unlisted:
        print(f"not in {request.systems}, left out: {', '.join(unlisted)}", flush=True)
    known = [name for name in there if name in listed and not (request.shared and name in own)]
    systems = []
    for name in _choose([*known, DRY], request):
        search = shared
        if name in own:
            search = Search.find(Path(request.exp) / own[name], None, request.config)
        if name == DRY:
            streams = dry_entries(mixtures, request.speech, texts)
        else:
            streams = {utterance.id: list(utterance.streams) for utterance in there[name].utterances()}
        systems.append(System(name, streams, search, separated=there.get(name)))
    for files in {system.search.files.path: system.search.files for system in systems}.values():
        _check_recogniser(files, mixtures, texts, request.allow_unknown)
    ends = {key: audio_info(entry)[1:] for key, entry in mixtures.wav.items()}
    seconds = {key: [frames / fs] * len(texts[key]) for key, (frames, fs) in ends.items()}
    write_segments(Path(request.out) / REFERENCES, segments(texts, seconds, keep_empty=False))
    return systems


def dry_entries(
    mixtures: MixtureSet, speech: str | Path, texts: Mapping[str, Sequence[str]]
) -> dict[str, list[str | None]]:
    """Return ``{id: [dry utterance of each talker]}``, which the scenes of the test set name.

    Raises:
        UserError: no scenes, or an utterance that ``speech`` has not got.
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


def _write_set(directory: Path, system: System, found: Found, made: Plan, cache: Cache, info: dict) -> None:
    keys = {u: [made.keys[row[0]] if row else None for row in rows] for u, rows in found.items()}
    texts = {u: ["" if key is None else cache[key] for key in row] for u, row in keys.items()}
    seconds = {u: [0.0 if key is None else made.seconds[key] for key in row] for u, row in keys.items()}
    write_hypotheses(directory, texts, seconds, info)


# --- whole recordings


def _recordings(request: Request) -> list[System]:
    """Return the systems that separated whole recordings."""
    if not request.leak_db >= 0:
        raise UserError(f"--leak_db: expected 0 or more, found {request.leak_db:g}")
    ids = list(read_scp(Path(request.data) / "wav.scp"))
    settings = {"activity": asdict(Rule(**request.activity)), "leak_db": request.leak_db}
    there = {path.name: path for path in find_systems(request.separated, "separate")}
    tables = {name: find_streams(there[name], ids) for name in _choose(list(there), request)}
    search = Search.find(request.asr, request.asr_model, request.config)
    systems = [
        System(name, {key: [table[key] for table in found] for key in ids}, search, settings)
        for name, found in tables.items()
    ]
    for system in systems:
        system.check()
    return systems


def stream_segments(entries: Sequence[str], rule: Rule, leak_db: float) -> list[list[Segment]]:
    """Return where each stream of a recording has speech, in seconds.

    Args:
        entries: files of the streams.
        rule: of :mod:`frontend.dsp.activity`.
        leak_db: see above.
    """
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
    directory: Path, system: System, found: Found, made: Plan, cache: Cache, info: dict
) -> None:
    """Write ``hyp.seglst.json``: a segment wherever words were recognised, ``speaker`` is the stream.

    A recording without words has one segment without words, so that it is counted.
    """
    rows, fs = [], info["fs"]
    for key, streams in found.items():
        texts = [(p, k, cache[made.keys[p]]) for k, row in enumerate(streams, 1) for p in row]
        spoken = sorted((one for one in texts if one[2]), key=lambda one: (one[0].start, one[1]))
        for piece, k, text in spoken:
            times = {"start_time": piece.start / fs, "end_time": (piece.start + piece.samples) / fs}
            times = {name: round(seconds, 4) for name, seconds in times.items()}
            rows.append({"session_id": key, "speaker": f"spk{k}", **times, "words": text})
        if not spoken:
            _, frames, _ = audio_info(str(system.streams[key][0]))
            times = {"start_time": 0.0, "end_time": round(frames / fs, 4)}
            rows.append({"session_id": key, "speaker": "spk1", **times, "words": ""})
    write_segments(directory / HYPOTHESES, rows)
    write_json(directory / INFO, info)
    words = sum(len(row["words"].split()) for row in rows)
    print(f"{directory}: {words} words in {len(rows)} segments of {len(found)} recording(s)", flush=True)


# --- one file: separated, recognised, one transcript a talker

FORMATS = ("text", "json", "stm")


@dataclass(frozen=True)
class FileRequest:
    """What to separate and recognise with what, as the options of ``mixit recognise`` say."""

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
    channels, frames, fs = audio_info(request.input)
    with open_trained(request.separator) as separator:
        separator.check(request.input, channels, fs, request.resample)
        check_length(request.input, frames / fs, request.max_seconds)
        if request.refine:
            check_refinement(request.refine, "--refine: ")
            check_size(request.refine, separator.n_mics, separator.n_outputs, f"{separator.path}: ")
    search = Search.find(request.asr, request.asr_model, request.config)
    if not request.resample:
        search.files.check_rate(request.input, fs, ", or allow resampling: --resample")
    texts = _transcripts(request, search)
    name = Path(request.input).stem
    return segments({name: texts}, {name: [frames / fs] * len(texts)})


def _transcripts(request: FileRequest, search: Search) -> list[str]:
    import torch

    from frontend.dsp.refine import refine
    from frontend.dsp.resample import resample
    from frontend.separation.model import Separator

    jobs = []
    if request.save_streams:
        jobs = plan([request.input], None, request.separator, request.save_streams, request.resample)
    separator = Separator.from_pretrained(request.separator, request.device, request.max_seconds)
    recogniser = model.Recogniser(search.files, search.options, request.device)
    waveform, fs = read_audio(request.input, finite=True)
    streams = separator(waveform, fs, request.resample)
    if request.refine:
        streams = refine(torch.from_numpy(streams), torch.from_numpy(waveform), fs, request.refine).numpy()
    for job in jobs:
        write_streams(job, streams, waveform, fs)
    return recogniser(resample(streams, fs, recogniser.fs), recogniser.fs)


def in_format(rows: list[dict], form: str) -> str:
    """Return SegLST as one of :data:`FORMATS`.

    >>> print(in_format([{"session_id": "a b", "speaker": "spk1", "words": "GO ON", "start_time": 0.0,
    ...     "end_time": 1.5}], "stm"))
    a_b 1 spk1 0.0000 1.5000 GO ON
    """
    if form == "text":
        return "\n".join(f"{row['speaker']}: {row['words']}".rstrip() for row in rows)
    return (in_seglst if form == "json" else in_stm)(rows).rstrip("\n")
