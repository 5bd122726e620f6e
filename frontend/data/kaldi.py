"""Kaldi's data directories: two-column tables read and written, whole sets written and checked.

A table has one entry a line, ``id rest of the line``, sorted by id. What is wrong with a set is named with
file and line (:func:`validate`).
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from frontend import SEGMENT
from frontend.data.audio import (
    Recording,
    audio_info,
    check_image,
    is_there,
    read_image,
    scheme_of,
    seconds_of,
)
from frontend.data.segments import CUT, CUTS, Unused, fit, read_any
from frontend.dsp.activity import Faults, sounds
from frontend.utils.errors import UserError, warn
from frontend.utils.files import numbered, parse_json, read_lines, write_json_lines, write_text
from frontend.utils.parallel import progress

# What all recordings of a set have in common.
RATE, CHANNELS = ALIKE = ("sample rate", "number of channels")


@dataclass
class Table:
    """What a table says and what is wrong with it.

    Attributes:
        entries: by id, in the order of the file; of duplicates the first.
        lines: the line number of each id.
        problems: ``file:line: what (what to do)``.
    """

    entries: dict = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def checked(self) -> dict:
        """Return the entries; raise UserError with the first problem."""
        for problem in self.problems:
            raise UserError(problem)
        return self.entries


def read_scp(path: str | Path, allow_empty: bool = False) -> dict[str, str]:
    """Return a table (``wav.scp``, ``text``, ``utt2spk``, ...) as ``{id: rest of the line}``.

    Args:
        path: the file.
        allow_empty: an id alone on its line is fine and gives ``""`` (a mixture without a k-th talker in
            ``text_spkK``).

    Raises:
        UserError: no such file, no entries, a duplicate, unsorted ids, or a missing second column.
    """
    return scan_table(path, allow_empty).checked()


def scan_table(path: str | Path, allow_empty: bool = False) -> Table:
    """Read a table as :func:`read_scp`, and list what is wrong with it instead of stopping there."""
    try:
        lines = read_lines(path, "a table 'id value'")
    except UserError as error:
        return Table(problems=[str(error)])
    if not lines:
        return Table(problems=[f"{path}: no entries (is the step that makes it complete?)"])
    table, previous = Table(), ""
    for number, line in lines:
        # Not str.split(), which also splits at the no-break and ideographic spaces of texts.
        key, *rest = re.split(r"[ \t]+", line, maxsplit=1)
        wrong = ""
        if key in table.entries:
            wrong = f"id {key} occurs twice (keep one of the lines)"
        elif not rest and not allow_empty:
            wrong = f"expected 'id value', found '{key}' alone (add the value)"
        elif key < previous:
            wrong = f"id {key} comes after {previous} (sort the file: LC_ALL=C sort -o {path} {path})"
        if wrong:
            table.problems.append(f"{path}:{number}: {wrong}")
        if key not in table.entries:
            table.entries[key], table.lines[key] = rest[0] if rest else "", number
            previous = max(previous, key)
    return table


def located(entry: str, folder: str | Path) -> str:
    """Return an entry of a table in ``folder`` as it is found from the working directory.

    A relative path starts at the working directory, as Kaldi's do, or, if nothing is there, beside the table.
    """

    def place(word: str) -> str | None:
        beside = os.path.join(folder, word)
        return word if os.path.isabs(word) or is_there(word) else beside if is_there(beside) else None

    if scheme_of(entry) == SEGMENT:
        *times, source = entry.split(":", 3)
        return ":".join([*times, located(source, folder)])
    if scheme_of(entry) or entry.endswith("|"):
        return entry
    words = [entry] if place(entry) else entry.split()  # a file a channel
    return " ".join(place(word) or word for word in words) if len(words) > 1 else place(entry) or entry


def absolute(entry: str) -> str:
    """Return an entry that is found from every working directory; links and ``..`` stay as they are."""
    if (scheme := scheme_of(entry)) == SEGMENT:
        *times, source = entry.split(":", 3)
        return ":".join([*times, absolute(source)])
    if scheme:
        return f"{scheme}:{_absolute(entry.partition(':')[2])}"
    if entry.endswith("|"):
        return entry
    words = entry.split()
    if len(words) < 2 or is_there(entry) or not all(map(is_there, words)):
        return _absolute(entry)
    # Blanks divide a file a channel: where a directory has one in its name, the paths stay as they are.
    files = [_absolute(word) for word in words]
    return entry if any(" " in file for file in files) else " ".join(files)


def _absolute(path: str) -> str:
    return os.path.join(os.getcwd(), path) if ".." in path.split("/") else os.path.abspath(path)


def scan_entries(path: str | Path) -> Table:
    """Return a table of audio as :func:`scan_table` does, its entries :func:`located`."""
    table = scan_table(path)
    table.entries = {key: located(entry, Path(path).parent) for key, entry in table.entries.items()}
    return table


def scan_by_name(path: Path) -> Table:
    """Scan a table of a set: entries of audio (``*.scp``) are :func:`located`, ``text_spkN`` may be empty."""
    if path.suffix == ".scp":
        return scan_entries(path)
    return scan_table(path, allow_empty=path.name.startswith("text_spk"))


class Utterances(dict[str, str]):
    """The utterances of a data directory, ``{id: entry}``.

    Attributes:
        source, lines: the table that lists them, and the line of each.
        left_out: the ids of those that are not used.
    """

    source = Path("wav.scp")
    lines: Mapping[str, int] = {}
    left_out: frozenset[str] = frozenset()

    def recordings(self) -> dict[str, Recording]:
        """Open them all; a UserError names file and line of the entry."""
        found, key = {}, ""
        try:
            for key, entry in self.items():
                found[key] = Recording([entry])
        except UserError as error:
            raise UserError(f"{self.source}:{self.lines[key]}: {error}") from None
        return found


def read_entries(path: str | Path) -> Utterances:
    """Return a table of audio as :func:`read_scp` does, its entries :func:`located`."""
    table = scan_entries(path)
    found = Utterances(table.checked())
    found.source, found.lines = Path(path), table.lines
    return found


_OVERSHOOT_S = 0.5  # Kaldi's extract-segments --max-overshoot


def read_utterances(directory: str | Path) -> Utterances:
    """Return the utterances of a data directory: of ``wav.scp``, or of ``segments`` where that is there.

    A segment becomes the entry ``segment:START:END:ENTRY``, times in seconds. One that ends more than 0.5 s
    beyond its recording is left out, as Kaldi does, and so is one of another recording: a warning counts
    them.

    Raises:
        UserError: as :func:`read_entries`; an unreadable recording that is cut into segments; none is left.
    """
    wav, path = read_entries(Path(directory) / "wav.scp"), Path(directory) / "segments"
    if not path.is_file():
        return wav
    unused = Unused(path)
    found = _read_cuts(wav, unused)
    unused.say(len(found), CUTS)
    found.source, found.lines = path, {key: unused.names[key] for key in found}
    found.left_out = frozenset(unused.names.keys() - found.keys())
    return found


def _read_cuts(wav: Mapping[str, str], unused: Unused) -> Utterances:
    """Return the utterances of ``segments``, sorted."""
    rows: dict[str, tuple[str, dict]] = {}
    for where, row in read_any(unused, "segments"):
        if row["speaker"] in rows:
            twice = f"utterance {row['speaker']} occurs twice (keep one of the lines)"
            unused.add(where, "of an id that was there before", twice)
        else:
            rows[row["speaker"]] = where, row
    cut = {row["session_id"] for _, row in rows.values()}
    seconds = {name: seconds_of(entry) for name, entry in wav.items() if name in cut}
    found = Utterances()
    for _, row in fit(iter(rows.values()), seconds, unused, _OVERSHOOT_S):
        source = wav[row["session_id"]]
        found[row["speaker"]] = f"{SEGMENT}:{row['start_time']!r}:{row['end_time']!r}:{source}"
    return Utterances(sorted(found.items()))


def read_records(path: str | Path) -> Table:
    """Return the scenes, JSON lines, of ``path`` by their "id": a table whose entries are objects."""
    table = Table()
    try:
        lines = read_lines(path, "JSON lines")
    except UserError as error:
        return Table(problems=[str(error)])
    for number, line in lines:
        try:
            record = parse_json(line, path, number, "make the file again")
        except UserError as error:
            table.problems.append(str(error))
            continue
        if not isinstance(record, dict) or not isinstance(record.get("id"), str):
            table.problems.append(f'{path}:{number}: expected an object with an "id" (make the file again)')
        elif (key := record["id"]) in table.entries:
            table.problems.append(f"{path}:{number}: id {key} occurs twice (keep one of the lines)")
        elif odd := [k for k in ("mics", "talkers") if not isinstance(record.get(k, []), list)]:
            found = f"expected a list as '{odd[0]}', found {record[odd[0]]!r}"
            table.problems.append(f"{path}:{number}: {found} (make the file again)")
        else:
            table.entries[key], table.lines[key] = record, number
    return table


def in_scp(mapping: Mapping[str, object]) -> str:
    """Return ``{id: value}`` as the text of a sorted table."""
    return "".join(f"{key} {mapping[key]}".rstrip(" \t") + "\n" for key in sorted(mapping))


def write_scp(path: str | Path, mapping: Mapping[str, object]) -> None:
    """Write ``{id: value}`` as a sorted table, whole or not at all."""
    write_text(path, in_scp(mapping))


MARK = ".mixit"  # of a set that this program made: the names of its tables, a line each
_NUMBERED = ("spk[1-9]*.scp", "raw[1-9]*.scp", "text_spk[1-9]*", "image[1-9]*.scp")


def write_set(
    directory: str | Path,
    tables: Mapping[str, Mapping[str, object]],
    utt2spk: Mapping[str, str] | None = None,
    records: Iterable[dict] | None = None,
) -> None:
    """Write the tables of a data directory, or of a directory of streams: the one writer of sets.

    ``wav.scp`` is removed first and written last: with it a set is complete. Tables of an earlier run that
    are not among ``tables`` are removed: those with a number (``spk3.scp``, ``text_spk3``, ``image1.scp``
    ...), ``text`` and ``utt2num_samples`` of a set, ``noise.scp`` of one with records. Other files stay.

    Args:
        directory: made if it is not there.
        tables: file name -> {id: value}; entries of audio (``*.scp``) become :func:`absolute`; without
            ``wav.scp`` (streams of a set) there is no ``utt2spk`` either.
        utt2spk: the talker of each utterance; None: every utterance is its own. ``spk2utt`` follows from it.
        records: for ``scenes.jsonl``, objects with a key ``id``.
    """
    directory, patterns = Path(directory), [*_NUMBERED]
    if "wav.scp" in tables:
        patterns += ["text", "utt2num_samples"]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "wav.scp").unlink(missing_ok=True)
    if records is not None:
        write_json_lines(directory / "scenes.jsonl", sorted(records, key=lambda record: record["id"]))
        patterns.append("noise.scp")
    for old in [path for pattern in patterns for path in directory.glob(pattern)]:
        if old.name not in tables:
            old.unlink()
    if "wav.scp" in tables:
        write_text(directory / MARK, "\n".join(sorted({*tables, "utt2spk", "spk2utt"})) + "\n")
        utt2spk = {name: name for name in tables["wav.scp"]} if utt2spk is None else utt2spk
        write_scp(directory / "utt2spk", utt2spk)
        spk2utt: dict[str, list[str]] = {}
        for utterance in sorted(utt2spk):
            spk2utt.setdefault(utt2spk[utterance], []).append(utterance)
        write_scp(directory / "spk2utt", {speaker: " ".join(ids) for speaker, ids in spk2utt.items()})
    for name in sorted(tables, key=lambda name: name == "wav.scp"):
        table = tables[name]
        if name.endswith(".scp"):  # for who starts elsewhere
            table = {key: absolute(str(entry)) for key, entry in table.items()}
        write_scp(directory / name, table)


def validate(path: str | Path, silent: Callable = lambda key, talker, where: None) -> list[str]:
    """Check a speech or mixture set completely; all audio is read.

    ``silent`` is told of images that are: utterance, talker from 0, file and line.

    Returns:
        problems as ``file:line: what (what to do)``; an empty list if there are none.
    """
    directory = Path(path)
    if not directory.is_dir():
        return [f"{path}: expected a data directory, found {'a file' if directory.exists() else 'nothing'}"]
    if not any(directory.iterdir()):
        return [f"{path}: empty directory (is the step that makes it complete?)"]
    wav = scan_entries(directory / "wav.scp")
    if not wav.entries:
        return wav.problems
    utterances, source = wav, directory / "wav.scp"
    if (directory / "segments").is_file():
        source = directory / "segments"
        utterances = _scan_segments(wav, source)
    try:
        spk, texts = numbered(directory, "spk", ".scp"), numbered(directory, "text_spk")
    except UserError as error:
        return [*utterances.problems, str(error)]
    # Every table beside wav.scp whose ids must be those of the utterances.
    optional = [p for p in (directory / "text", directory / "utt2num_samples") if p.exists()]
    tables = {p: scan_by_name(p) for p in [*spk, directory / "utt2spk", *texts, *optional]}
    if (scenes := directory / "scenes.jsonl").exists():
        tables[scenes] = read_records(scenes)
    problems, ids = [*utterances.problems, *compare_numbers(spk, texts)], utterances.lines
    for name, table in tables.items():
        problems += table.problems + (compare_ids(name, table.lines, ids, source) if table.entries else [])
    problems += _check_spk2utt(directory / "spk2utt", tables[directory / "utt2spk"].entries)
    lengths = tables.get(directory / "utt2num_samples", Table()).entries
    mics = {k: len(one["mics"]) for k, one in tables.get(scenes, Table()).entries.items() if "mics" in one}
    found = check_audio(source, utterances, {p: tables[p] for p in spk}, lengths, mics=mics, silent=silent)
    return [*problems, *found]


def _scan_segments(wav: Table, path: Path) -> Table:
    """Return the utterances that ``segments`` cuts out of recordings, and what is wrong with both."""
    problems, readable = [*wav.problems], {}
    for key, entry in wav.entries.items():
        try:
            audio_info(entry)
            readable[key] = entry
        except UserError as error:
            problems.append(f"{path.parent / 'wav.scp'}:{wav.lines[key]}: {error}")
    unused = Unused(path)
    try:
        found = _read_cuts(readable, unused)
    except UserError as error:
        return Table(problems=[*problems, str(error)])
    for reason, lines in unused.found.items():
        problems += lines if reason != CUT else []
    if not unused.names:
        problems.append(f"{path}: expected {CUTS}, found none (empty file?)")
    return Table(found, unused.names, problems)


def compare_ids(path: Path, lines: Mapping[str, int], wanted: Mapping[str, int], source: Path) -> list[str]:
    """Return what is wrong where a table has other ids than ``source``; both are id -> line."""
    missing = [(key, line) for key, line in wanted.items() if key not in lines]
    extra = [(key, line) for key, line in lines.items() if key not in wanted]
    problems = [f"{path}: id {key} of {source.name}:{line} is missing (add it)" for key, line in missing]
    advice = f"correct the id, or add it to {source.name}"
    return problems + [f"{path}:{line}: id {key} is not in {source.name} ({advice})" for key, line in extra]


def compare_numbers(images: Sequence[Path], texts: Sequence[Path]) -> list[str]:
    """Return what is wrong unless there is a text for each image, where there are both."""
    if not images or not texts or len(images) == len(texts):
        return []
    found = f"{len(images)} tables spkN.scp and {len(texts)} text_spkN"
    return [f"{images[0].parent}: expected one of each for a talker, found {found} (add the missing ones)"]


def _check_spk2utt(path: Path, utt2spk: dict[str, str]) -> list[str]:
    spk2utt, listed = scan_table(path), set()
    problems = spk2utt.problems
    for speaker, utterances in spk2utt.entries.items():
        for utterance in utterances.split():
            if utt2spk.get(utterance) != speaker:
                wrong = f"{utterance} is not {speaker}'s in utt2spk (make spk2utt again from utt2spk)"
                problems.append(f"{path}:{spk2utt.lines[speaker]}: {wrong}")
            listed.add(utterance)
    missing = [k for k in utt2spk if k not in listed] if spk2utt.entries else []
    return problems + [
        f"{path}: {k} of utt2spk is missing (make spk2utt again from utt2spk)" for k in missing
    ]


def check_audio(
    path: Path,
    wav: Table,
    spk: dict[Path, Table],
    lengths: dict[str, str],
    headers: bool = False,
    alike: Collection[str] = ALIKE,
    mics: Mapping[str, int] | None = None,
    silent: Callable = lambda key, talker, where: None,
) -> Iterator[str]:
    """Read every recording, or its header; what is in ``alike`` the first readable one sets for all.

    With ``mics``, mixtures may have arrays of their own, of so many channels; a warning counts others.
    """
    first: dict[str, tuple[int, str]] = {}
    numbers: Counter[int] = Counter()
    look: Callable = check_image if headers else read_image
    for key, entry in progress(wav.entries.items(), len(wav.entries), f"check {path.parent}"):
        where = f"{path}:{wav.lines[key]}"
        try:
            recording = Recording([entry])
            faults = Faults() if headers else recording.faults(whole=True)
        except UserError as error:
            yield f"{where}: {error}"
            continue
        channels, frames, fs = recording.channels, recording.frames, recording.fs
        if mics is not None and key not in mics:
            numbers[channels] += 1
        elif mics is not None and channels != mics[key]:
            yield f"{where}: {channels} channels in {entry}, its scene has {mics[key]} (make it again)"
        for what, found in ((RATE, fs), (CHANNELS, channels)):
            expected, example = first.setdefault(what, (found, entry))
            if found != expected and what in alike and (mics is None or what != CHANNELS):
                yield f"{where}: {what} {found} in {entry}, but {expected} in {example} (make them equal)"
        counted = lengths.get(key, str(frames)).split(",")[0]
        if counted != str(frames):
            wrong = f"{frames} samples in {entry}, but '{counted}' in utt2num_samples (make it again)"
            yield f"{where}: {wrong}"
        yield from (f"{where}: {text}" for text in faults.warnings(recording.where))
        for k, (table_path, table) in enumerate(spk.items()):
            try:
                image = look(table.entries[key], frames, fs) if key in table.entries else None
                if image is not None and not sounds(image):
                    silent(key, k, f"{table_path}:{table.lines[key]}")
            except UserError as error:
                yield f"{table_path}:{table.lines[key]}: {error}"
    if len(numbers) > 1:
        each = ", ".join(f"{channels} ({count})" for channels, count in sorted(numbers.items()))
        warn(f"{path}: channels (utterances): {each}; for networks alone that take any number")
