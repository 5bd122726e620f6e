"""Recognise the streams of every system on a test set, each audio once.

``OUT/SYSTEM/`` gets what :mod:`frontend.hypotheses` describes, ``OUT/ref.seglst.json`` what was said, and
``OUT/cache.jsonl`` all that was ever recognised. A system whose streams, recogniser and options have not
changed is skipped; what the cache knows is not recognised again, and where it knows all, ESPnet
is not even imported.
"""

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from frontend import decode_job, decode_rows, hypotheses
from frontend.datadir import MixtureSet, audio_info
from frontend.decode_cache import Cache
from frontend.decode_options import complete, read_options, search_files
from frontend.decode_rows import DRY, Row
from frontend.errors import UserError
from frontend.recogniser_files import RecogniserFiles, find_in_zoo, find_recogniser
from frontend.streams import labelled_set
from frontend.systems import load_systems, trained
from frontend.vocabulary import unknown_words


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
    texts = decode_rows.reference_texts(mixtures)
    rows = _rows(request, mixtures, texts)
    recognisers = {row.recogniser.path: row.recogniser for row in rows}
    searches = {
        path: Search(files, complete(options, files, request.config)) for path, files in recognisers.items()
    }
    for files in recognisers.values():
        _check_recogniser(files, mixtures, texts, request.allow_unknown)
    prints = {row.name: row.fingerprint(searches[row.recogniser.path].identity) for row in rows}
    stale = [row for row in rows if not _is_current(out / row.name, prints[row.name])]
    print(f"{out}: {len(rows)} systems, {len(rows) - len(stale)} of them recognised before", flush=True)
    for row in stale:
        row.check()
    _write_references(out / hypotheses.REFERENCES, mixtures, texts)
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
    there = decode_rows.separated_streams(request.separated, mixtures)
    unlisted = [name for name in there if name not in listed]
    if unlisted:
        print(f"not in {request.systems}, left out: {', '.join(unlisted)}", flush=True)
    known = [name for name in there if name in listed and not (request.shared and name in own)]
    rows = []
    for name in decode_rows.choose([*known, DRY], request.only, request.separated):
        recogniser = find_recogniser(Path(request.exp) / own[name]) if name in own else shared
        if name == DRY:
            streams = decode_rows.dry_entries(mixtures, request.speech, texts)
        else:
            streams = decode_rows.stream_entries(there[name])
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
    plan = decode_job.plan(rows, search.identity, cache)
    cpu_s: dict[str, float] = {}
    if plan.jobs:
        with loaded(search, request.device) as recogniser:
            nj = 1 if request.device != "cpu" else request.nj
            for done in decode_job.run(plan.jobs, recogniser, nj, f"decode with {search.files.path}"):
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
            **decode_job.cost(keys, cpu_s, plan),
            "fingerprint": prints[row.name],
        }
        texts = {u: ["" if key is None else cache[key] for key in keys[u]] for u in keys}
        seconds = {u: [plan.seconds.get(key, 0.0) for key in keys[u]] for u in keys}
        hypotheses.write_hypotheses(Path(request.out) / row.name, texts, seconds, info)
    new = f"{len(cpu_s)} streams recognised, all others known" if cpu_s else "all streams known"
    print(f"{search.files.path}: {len(rows)} systems written, {new}", flush=True)


@contextlib.contextmanager
def loaded(search: Search, device: str) -> Iterator:
    """Load a :class:`frontend.recognise.Recogniser`.

    Where it is to be forked, without starting threads, which would not survive that.
    """
    import torch

    from frontend.recognise import Recogniser  # ESPnet: 9 s, once for all processes forked from here

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
    hypotheses.write_segments(path, hypotheses.segments(texts, seconds, keep_empty=False))


def _is_current(directory: Path, fingerprint: str) -> bool:
    if not (directory / hypotheses.INFO).is_file():
        return False
    info = hypotheses.read_info(directory)
    names = [f"text_spk{k}" for k in range(1, info.get("streams", 0) + 1)]
    there = all((directory / name).is_file() for name in (*names, hypotheses.HYPOTHESES))
    return there and info.get("fingerprint") == fingerprint
