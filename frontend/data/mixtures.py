"""Mixture sets and the streams that systems made of them: Kaldi data directories, read as they are asked for.

Speech set (dry, one talker an utterance): ``wav.scp utt2spk spk2utt text``.

Mixture set: ``wav.scp`` (C channels), ``spk1.scp spk2.scp ...`` (images at the reference channel, mono;
absent in an unlabelled set; silent where a mixture has fewer talkers), ``text_spk1 text_spk2 ...`` (the id
alone where there is no talker), ``utt2spk spk2utt`` (utt -> utt), ``utt2num_samples``, ``scenes.jsonl``.

Streams of a set: ``spk1.scp .. spkS.scp``, one stream a talker, or without them files ``ID_spk1.wav ..``, as
``mixit separate`` names them; ``raw1.scp .. rawM.scp`` where these were selected or merged from more outputs;
and ``info.json`` (real-time factor, memory, number of outputs), where a system has one. Of a
file of several channels (the mixture itself, to compare with) the reference channel is meant.

Every table is sorted by id. Paths in ``.scp`` files are absolute where this program writes them; a relative
one starts at the working directory, as Kaldi's do, or beside the table (:mod:`frontend.data.audio`).
"""

import itertools
import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from frontend.data.audio import audio_info, check_alike, read_audio, read_image
from frontend.data.kaldi import (
    ALIKE,
    RATE,
    Table,
    Utterances,
    check_audio,
    compare_ids,
    compare_numbers,
    numbered,
    read_entries,
    read_records,
    read_scp,
    read_utterances,
    scan_by_name,
    scan_entries,
    write_set,
)
from frontend.data.speech import check_replaced_set
from frontend.utils.errors import UserError, did_you_mean, few, warn
from frontend.utils.files import atomic_directory, read_json

_STREAM_NAME = re.compile(r"(.+)_spk([1-9][0-9]*)\.(wav|flac)")
_STREAMS = "spk1.scp ... or files ID_spk1.wav ..."


class MixtureSet:
    """A mixture set, labelled or not, read as it is asked for.

    Attributes:
        path: the directory.
        ids: utterance ids, sorted.
        wav: ``{id: entry}`` of the mixtures.
        speakers: one ``{id: entry}`` a talker; empty in an unlabelled set.

    Raises:
        UserError: no such directory, a broken table, ids that differ between the tables.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_dir():
            raise UserError(f"{path}: expected a data directory, found none (check the path)")
        self.wav = read_utterances(self.path)
        self.ids = list(self.wav)
        self.speakers = [self._table(p) for p in numbered(self.path, "spk", ".scp")]

    def check(self, labels: bool = True, alike: Collection[str] = ALIKE) -> None:
        """Raise UserError with the first problem (:func:`check_set`); without ``labels``, of mixtures."""
        check_set(self.path, images=labels, texts=labels, alike=alike)

    @property
    def n_talkers(self) -> int:
        """Number of ``spkN.scp`` files; 0 in an unlabelled set."""
        return len(self.speakers)

    def mixture(self, utterance_id: str) -> tuple[np.ndarray, int]:
        """Return the mixture ``(C, T)`` and its rate in Hz; raise as :func:`read_audio`."""
        return read_audio(self._entry(self.wav, utterance_id), finite=True)

    def references(self, utterance_id: str) -> np.ndarray:
        """Return the talkers' images at the reference channel, ``(S, T)``; raise as :func:`read_image`."""
        if not self.speakers:
            raise UserError(f"{self.path}: expected spk1.scp ..., found none (unlabelled set)")
        _, frames, fs = audio_info(self._entry(self.wav, utterance_id))
        return np.stack([read_image(table[utterance_id], frames, fs) for table in self.speakers])

    def texts(self, utterance_id: str) -> list[str]:
        """Return what each talker says, ``""`` where there is none; an empty list without ``text_spkN``."""
        self._entry(self.wav, utterance_id)
        return [table[utterance_id] for table in self._texts]

    def scene(self, utterance_id: str) -> dict:
        """Return the line of ``scenes.jsonl`` that belongs to the utterance; raise UserError if none does."""
        return self._entry(self._scenes, utterance_id)

    def talkers(self, utterance_id: str, key: str = "") -> list:
        """Return the talkers of a scene, or what each has as ``key``; raise UserError where there is none."""
        try:
            talkers = self.scene(utterance_id)["talkers"]
            return [str(one[key]) for one in talkers] if key else talkers
        except (KeyError, TypeError):
            wanted = "talkers" + f", each with its '{key}'" * bool(key) + ", found none (make the file again)"
            raise UserError(f"{self.path}/scenes.jsonl: {utterance_id}: expected {wanted}") from None

    @cached_property
    def _texts(self) -> list[dict[str, str]]:
        return [self._table(p) for p in numbered(self.path, "text_spk")]

    @cached_property
    def _scenes(self) -> dict[str, dict]:
        return read_records(self.path / "scenes.jsonl").checked()

    def _table(self, path: Path) -> dict[str, str]:
        table = scan_by_name(path)
        for problem in table.problems + wrong_ids(path, table, self.wav):
            raise UserError(problem)
        return table.entries

    def _entry(self, table: dict, utterance_id: str):
        if utterance_id not in table:
            raise UserError(f"{self.path}: no utterance '{utterance_id}' among {len(self.ids)}")
        return table[utterance_id]


class Silences:
    """Talkers who are silent although neither an empty ``text_spkN`` nor ``scenes.jsonl`` says so."""

    def __init__(self, path: str | Path):
        self.path, self.found = Path(path), dict[str, str]()

    @cached_property
    def _said(self) -> tuple[list[dict], dict]:
        texts = [scan_by_name(p).entries for p in numbered(self.path, "text_spk")]
        return texts, read_records(self.path / "scenes.jsonl").entries

    def is_expected(self, key: str, talker: int) -> bool:
        """Tell whether an utterance has a talker (from 0), as far as the set says."""
        texts, scenes = self._said
        drawn = scenes.get(key, {}).get("talkers")
        is_drawn = not isinstance(drawn, list) or talker < len(drawn)
        return is_drawn and (talker >= len(texts) or texts[talker].get(key) != "")

    def add(self, key: str, talker: int, where: str) -> None:
        """Count an utterance if the talker is expected; ``where`` goes into the message."""
        if self.is_expected(key, talker):
            self.found.setdefault(key, where)

    def say(self) -> None:
        """Warn of them in one line."""
        for first in [*self.found.values()][:1]:
            number = f"{len(self.found)} utterance{'s' * (len(self.found) > 1)}"
            warn(
                f"{self.path}: {number} with a silent reference, the first: {first}: "
                "that talker does not count (wanted? then give text_spkN with the id alone there)"
            )


def wrong_ids(path: Path, table: Table, wav: Utterances) -> list[str]:
    """Return what is wrong where a table has other ids than the utterances; those left out may be in it."""
    lines = {key: line for key, line in table.lines.items() if key not in wav.left_out}
    return compare_ids(path, lines, wav.lines, wav.source)


def check_set(
    path: str | Path, images: bool = True, texts: bool = True, alike: Collection[str] = ALIKE
) -> None:
    """Look at the tables of a set and the headers of its audio (0.05 ms each), before work with it.

    Args:
        path: of a speech or mixture set.
        images: whether those of the talkers are used.
        texts: likewise.
        alike: what all must have in common.

    Raises:
        UserError: the first thing that :func:`frontend.data.kaldi.validate` would name, in its words.
    """
    directory, wav = Path(path), read_utterances(path)
    spk = numbered(directory, "spk", ".scp") if images else []
    said = numbered(directory, "text_spk") if texts else []
    lengths = [p for p in [directory / "utt2num_samples"] if p.exists()]
    check_tables(wav, spk, [*said, *lengths], alike)


def check_tables(
    wav: Utterances,
    images: Sequence[Path],
    others: Sequence[Path],
    alike: Collection[str] = ALIKE,
) -> None:
    """Check tables as :func:`check_set` does.

    Args:
        wav: the mixtures.
        images: tables of the talkers' images.
        others: further tables of the same ids: ``text_spk1`` ..., ``utt2num_samples``.
        alike: of :func:`check_set`.
    """
    tables = {p: scan_entries(p) for p in images} | {p: scan_by_name(p) for p in others}
    problems = compare_numbers(images, [p for p in others if p.name.startswith("text_spk")])
    problems += [problem for table in tables.values() for problem in table.problems]
    problems += [problem for path, table in tables.items() for problem in wrong_ids(path, table, wav)]
    lengths = next((table.entries for path, table in tables.items() if path.name == "utt2num_samples"), {})
    mixtures, labels = Table({**wav}, {**wav.lines}), {path: tables[path] for path in images}
    found = check_audio(wav.source, mixtures, labels, lengths, headers=True, alike=alike)
    for problem in itertools.chain(problems, found):
        raise UserError(problem)


def labelled_set(path: str | Path) -> MixtureSet:
    """Open a mixture set; raise UserError if it is none, has no images of the talkers, or mistakes."""
    mixtures = MixtureSet(path)
    if not mixtures.speakers:
        raise UserError(f"{path}: expected spk1.scp ... to score against, found none (unlabelled set)")
    mixtures.check(alike=[RATE])
    return mixtures


def subset(source: str | Path, destination: str | Path, ids: Iterable[str], labelled: bool = True) -> None:
    """Make a data directory of some of the utterances, which names the same audio.

    Args:
        source: a speech or mixture set.
        destination: one of tables alone is replaced.
        ids: the utterances to keep.
        labelled: False leaves out whatever says who spoke or what: images, texts, scenes.

    Raises:
        UserError: an id that is not there, or a destination that holds more than tables.
    """
    source, destination, keep = Path(source), Path(destination), set(ids)
    wav = read_utterances(source)
    for unknown in sorted(keep - wav.keys())[:1]:
        raise UserError(f"{source}/wav.scp: no utterance '{unknown}' to keep")
    if not keep:
        raise UserError(f"{source}: a subset of 0 utterances was asked for (ask for at least 1)")
    check_replaced_set(destination, source)
    labels = [*numbered(source, "spk", ".scp"), *numbered(source, "text_spk"), source / "text"]
    paths = [source / "utt2num_samples", *(labels if labelled else [])]
    tables: dict[str, dict[str, str]] = {"wav.scp": wav}
    for path in (p for p in paths if p.exists()):
        tables[path.name] = scan_by_name(path).checked()
    tables = {name: {k: v for k, v in table.items() if k in keep} for name, table in tables.items()}
    utt2spk = {k: v for k, v in read_scp(source / "utt2spk").items() if k in keep}
    records = None
    if labelled and (source / "scenes.jsonl").exists():
        scenes = read_records(source / "scenes.jsonl").checked()
        records = [record for key, record in scenes.items() if key in keep]
    with atomic_directory(destination) as out:
        write_set(out, tables, utt2spk, records)


@dataclass(frozen=True)
class Utterance:
    """The audio entries of one utterance: all a process needs to score it."""

    id: str
    mixture: str
    references: tuple[str, ...]
    streams: tuple[str, ...]
    outputs: tuple[str, ...]

    def read(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
        """Return references and streams ``(S, T)``, outputs ``(M, T)``, mixture ``(T,)``, rate in Hz."""
        mixture, fs = read_audio(self.mixture)
        # The row `mixture` names the multi-channel recording itself: its reference channel is meant.
        references, streams, outputs = (
            np.stack([read_audio(entry, finite=True)[0][0] for entry in entries])
            for entries in (self.references, self.streams, self.outputs)
        )
        return references, streams, outputs, mixture[0], fs


class Streams:
    """Streams of one system, checked against the test set they belong to.

    Raises:
        UserError: no streams, fewer than talkers, ids that are not those of the set.
    """

    def __init__(self, directory: Path, mixtures: MixtureSet):
        self.directory, self.mixtures = directory, mixtures
        of = f" of {mixtures.path}"
        self._spk = _stream_tables(directory, mixtures.ids, "utterance", of)
        self._raw = [read_entries(path) for path in numbered(directory, "raw", ".scp")]
        for number, table in enumerate(self._raw, 1):
            _check_names(f"{directory}/raw{number}.scp:", table, mixtures.ids, "utterance", of)
        if len(self._spk) < mixtures.n_talkers:
            wanted = f"at least {mixtures.n_talkers} streams, as {mixtures.path} has talkers"
            raise UserError(f"{directory}: expected {wanted}, found {len(self._spk)} ({_STREAMS})")

    def utterances(self) -> list[Utterance]:
        """Return what there is to score; outputs are the streams where none were kept beside them."""
        tables = (self.mixtures.speakers, self._spk, self._raw or self._spk)
        return [
            Utterance(key, entry, *(tuple(table[key] for table in kind) for kind in tables))
            for key, entry in self.mixtures.wav.items()
        ]

    def check(self) -> None:
        """Raise a UserError for the first stream that is not as long or fast as its mixture, or not mono."""
        for utterance in self.utterances():
            _, frames, fs = audio_info(utterance.mixture)
            for entry in (*utterance.references, *utterance.streams, *utterance.outputs):
                same, again = f"in the mixture {utterance.id}", "make it again"
                channels, *_ = check_alike(entry, frames, fs, same, again)
                if channels > 1 and os.path.realpath(entry) != os.path.realpath(utterance.mixture):
                    raise UserError(f"{entry}: expected a mono stream, found {channels} channels ({again})")

    def info(self) -> dict:
        """Return ``info.json``; empty where a system has none."""
        path = self.directory / "info.json"
        return read_json(path) if path.is_file() else {}


def _check_names(
    where: str, table: dict[str, str], names: Iterable[str], what: str, of: str = "", others: Sequence = ()
) -> None:
    """Raise UserError unless there is a stream of each name, and of no other; ``others`` are there too."""
    for name in sorted(set(names) - table.keys())[:1]:
        hint = did_you_mean(name, others) or (f"; there is one of {others[0]}" if others else "")
        raise UserError(f"{where} has no stream of {what} {name}{of}{hint} (separate again)")
    for name in sorted(table.keys() - set(names))[:1]:
        raise UserError(f"{where} has a stream of unknown {what} {name}{of} (separate again)")


def holds_streams(directory: Path) -> bool:
    """Say whether a directory holds the streams of one system: tables, or files named as ``ID_spk1.wav``."""
    return (directory / "spk1.scp").is_file() or bool(_by_name(directory))


def find_systems(
    directory: str | Path,
    stage: str,
    is_one: Callable[[Path], bool] = holds_streams,
    wanted: str = f"streams {_STREAMS}",
) -> list[Path]:
    """Return the systems' directories, sorted; ``directory`` itself where it is that of one system.

    Args:
        directory: of systems, or of one.
        stage: which makes them; for messages.
        is_one: whether a directory is that of one system.
        wanted: what such a directory holds; for messages.

    Raises:
        UserError: no such directory, or nothing in it.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory}: expected a directory with a directory per system, found none")
    below = [p for p in sorted(directory.iterdir()) if p.is_dir() and p.name[0] != "."]
    if is_one(directory):
        if systems := [path.name for path in below if is_one(path) and not _names_files_of(directory, path)]:
            kind = wanted.split()[0]
            both = f"{kind} of its own and those of {len(systems)} systems below it: {few(systems)}"
            raise UserError(
                f"{directory}: expected {kind} of one system, or a directory per system, found {both} (give "
                "one of these directories, or put each system into one of its own)"
            )
        return [directory if directory.name else Path(os.path.abspath(directory))]
    if not below:
        raise UserError(
            f"{directory}: no system in it: expected {wanted}, or a directory with these per system (run the "
            f"stage '{stage}' first)"
        )
    return below


def _names_files_of(directory: Path, folder: Path) -> bool:
    """Say whether the table of a system's first stream names files of a folder: they are no other system."""
    table = directory / "spk1.scp"
    entries = read_entries(table).values() if table.is_file() else ()
    return any(Path(entry).resolve().parent == folder.resolve() for entry in entries)


def find_streams(directory: str | Path, ids: Iterable[str] | None = None) -> list[dict[str, str]]:
    """Find the streams of whole recordings: ``spk1.scp ...``, or files ``ID_spk1.wav`` of ``mixit separate``.

    Args:
        directory: of the streams.
        ids: the recordings there must be; None: whichever there are.

    Returns:
        ``{id: entry}``, one for each stream; the streams of a recording have one rate and length.

    Raises:
        UserError: none there, other recordings, streams of a recording that differ in rate or length.
    """
    tables = _stream_tables(Path(directory), None if ids is None else list(ids), "recording")
    for name, first in sorted(tables[0].items()):
        _, frames, fs = audio_info(first)
        for table in tables[1:]:
            check_alike(table[name], frames, fs, f"in {first}", "separate again")
    return tables


def _stream_tables(
    directory: Path, ids: Sequence[str] | None, what: str, of: str = ""
) -> list[dict[str, str]]:
    """Return ``{id: entry}`` of each stream: by the tables, or where there is none by the files' names.

    Args:
        directory: of the streams.
        ids: what there must be streams of; None: whichever there are.
        what: kind of the ids; for messages.
        of: which set they are of; for messages.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: expected a directory of separated streams, found none")
    paths, extra = numbered(directory, "spk", ".scp"), []
    tables: list[dict[str, str]] = [read_entries(path) for path in paths]
    if not tables:
        tables = _by_name(directory)
        # Whoever names files may have separated more recordings than are asked for.
        there = {key for table in tables for key in table}
        extra = sorted(there.difference(there if ids is None else ids))
        tables = [{key: table[key] for key in table if key not in extra} for table in tables]
        while len(tables) > 1 and not tables[-1]:
            tables.pop()
    if not tables:
        raise UserError(f"{directory}: expected streams {_STREAMS}, found neither (separate first)")
    for number, table in enumerate(tables, 1):
        where = f"{directory}/spk{number}.scp:" if paths else f"{directory}: spk{number}"
        _check_names(where, table, tables[0] if ids is None else ids, what, of, extra)
    if extra:
        warn(f"{directory}: streams of {len(extra)} other {what}s are not used, such as {extra[0]}")
    return tables


def _by_name(directory: Path) -> list[dict[str, str]]:
    found: dict[int, dict[str, str]] = {}
    for path in sorted(directory.iterdir()):
        if not path.name.startswith(".") and (match := _STREAM_NAME.fullmatch(path.name)):
            table = found.setdefault(int(match[2]), {})
            if match[1] in table:
                raise UserError(f"{path}: the same stream as {table[match[1]]} (remove one of them)")
            table[match[1]] = str(path)
    return [found.get(number, {}) for number in range(1, max(found, default=0) + 1)]
