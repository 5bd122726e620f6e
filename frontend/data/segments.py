"""Who spoke when, and what: SegLST, STM, RTTM and Kaldi segments, and where somebody talks by energy.

All formats are read into one form, SegLST's: ``{session_id, speaker, start_time, end_time, words}`` a
segment, times in seconds. The lines of STM and RTTM are parsed and written by meeteval.io; what is wrong with
one is said here, with its number. RTTM has no words.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from meeteval.io import RTTMLine, STMLine

from frontend.data.audio import audio_info, read_audio
from frontend.dsp.activity import frame_samples, levels_db, segments_of_levels
from frontend.utils.errors import UserError
from frontend.utils.files import parse_json, read_text, write_text

Span = tuple[float, float]
_BLOCK_S = 60.0  # of a recording, read at once
_KEYS = ("session_id", "speaker", "start_time", "end_time", "words")


def read_segments(path: str | Path) -> list[dict]:
    """Read SegLST (``*.json``), STM (``*.stm``) or RTTM (``*.rttm``).

    Returns:
        Segments sorted by session, start and speaker; ``words`` is ``""`` where there are none.

    Raises:
        UserError: no such file, another kind of file, a line or object that is none, no segment at all.
    """
    path = Path(path)
    readers = {".json": _seglst, ".stm": _stm, ".rttm": _rttm}
    if path.suffix not in readers:
        raise UserError(f"{path}: expected SegLST (.json), STM (.stm) or RTTM (.rttm), found another name")
    rows = [_row(*found) for found in readers[path.suffix](path, read_text(path))]
    if not rows:
        raise UserError(f"{path}: expected segments with a session and a speaker, found none (empty file?)")
    return sorted(rows, key=lambda row: (row["session_id"], row["start_time"], row["speaker"]))


def in_stm(rows: Sequence[dict]) -> str:
    """Return STM, one line a segment; blanks in names, which would separate fields, become ``_``."""
    lines = []
    for row in rows:
        session, speaker = (re.sub(r"\s+", "_", str(row[key])) for key in ("session_id", "speaker"))
        start, end = (f"{row[key]:.4f}" for key in ("start_time", "end_time"))
        lines.append(STMLine(session, 1, speaker, start, end, row["words"]).serialize().rstrip() + "\n")
    return "".join(lines)


def in_rttm(rows: Sequence[dict]) -> str:
    """Return NIST's RTTM, one ``SPEAKER`` line a segment."""
    lines = []
    for row in rows:
        start, duration = f"{row['start_time']:.4f}", f"{row['end_time'] - row['start_time']:.4f}"
        line = RTTMLine(
            filename=row["session_id"], begin_time=start, duration=duration, speaker_id=row["speaker"]
        )
        lines.append(line.serialize() + "\n")
    return "".join(lines)


def in_seglst(rows: Sequence[dict]) -> str:
    """Return SegLST JSON, one segment a line."""
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n"


def write_references(directory: str | Path, rows: Sequence[dict], with_words: bool = True) -> None:
    """Write ``ref.rttm`` and, with words, ``ref.stm`` and ``ref.seglst.json`` into ``directory``."""
    directory = Path(directory)
    write_text(directory / "ref.rttm", in_rttm(rows))
    for name, form in (("ref.stm", in_stm), ("ref.seglst.json", in_seglst)):
        if with_words:
            write_text(directory / name, form(rows))
        else:
            (directory / name).unlink(missing_ok=True)  # of an earlier run with words


def read_levels(entry: str, channels: int | None = None) -> np.ndarray:
    """Return :func:`frontend.dsp.activity.levels_db` of a recording of any length, read block by block.

    Args:
        entry: of a ``.scp`` file.
        channels: so many of the first; None: all of them together.
    """
    _, frames, fs = audio_info(entry)
    block = frame_samples(fs) * round(_BLOCK_S * fs / frame_samples(fs))
    blocks = (read_audio(entry, start, block, finite=True)[0] for start in range(0, frames, block))
    return np.concatenate([levels_db(samples[:channels], fs) for samples in blocks])


def spans_by_energy(entry: str) -> list[Span]:
    """Return ``[(start, end)]`` in seconds where the levels of all channels say that somebody talks."""
    _, frames, fs = audio_info(entry)
    return segments_of_levels(read_levels(entry), fs, frames / fs)


def read_spans(path: str, kind: str, seconds: Mapping[str, float]) -> dict[str, list[Span]]:
    """Read who talks when, whoever it is: ``{recording: [(start, end)]}``, sorted and without overlap.

    Args:
        path: the file.
        kind: ``segments`` (Kaldi's: utterance recording start end), or ``rttm``: any form that
            :func:`read_segments` reads.
        seconds: length of each recording.

    Raises:
        UserError: no such file, a line of another form, a recording that is not there or shorter.
    """
    if kind == "segments":
        turns = _kaldi_segments(path)
    else:
        turns = [(row["session_id"], row["start_time"], row["end_time"]) for row in read_segments(path)]
    found: dict[str, list[Span]] = {name: [] for name in seconds}
    for recording, start, end in turns:
        if recording not in found:
            some = ", ".join(sorted(found)[:3])
            raise UserError(f"{path}: no recording '{recording}'; expected ids of wav.scp, such as {some}")
        # Annotators round, and a file may have been cut by a few samples.
        if end > seconds[recording] + 0.1:
            raise UserError(
                f"{path}: a segment of '{recording}' ends at {end:.2f} s, expected at most its "
                f"{seconds[recording]:.2f} s (seconds, of this recording?)"
            )
        if end > start:
            found[recording].append((start, min(end, seconds[recording])))
    return {name: union(spans) for name, spans in found.items()}


def union(spans: list[Span], gap: float = 0.0) -> list[Span]:
    """Return the union of spans, sorted; those no further apart than ``gap`` seconds become one.

    >>> union([(4.0, 5.0), (0.0, 2.0), (1.0, 3.0)])
    [(0.0, 3.0), (4.0, 5.0)]
    """
    joined: list[list[float]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1] + gap:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    return [(start, end) for start, end in joined]


# Each yields (where, session, speaker, start, end, words), which _row checks.


def _seglst(path: Path, text: str) -> Iterator[tuple]:
    if not text.strip():
        return
    content = parse_json(text, path, advice="expected a SegLST file")
    if not isinstance(content, list):
        raise UserError(f"{path}: expected SegLST, a list of segments, found {type(content).__name__}")
    for number, row in enumerate(content, 1):
        if not isinstance(row, dict) or not {*_KEYS} <= row.keys():
            raise UserError(f"{path}: segment {number}: expected the keys {', '.join(_KEYS)}, found {row!r}")
        yield (f"{path}: segment {number}", *(row[key] for key in _KEYS))


def _stm(path: Path, text: str) -> Iterator[tuple]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith(";"):
            continue
        try:
            found = STMLine.parse(line, parse_float=str)
        except ValueError:
            wanted = "session channel speaker start end words"
            raise UserError(f"{path}:{number}: expected '{wanted}', found '{line}'") from None
        words = re.sub(r"^<[^<>]*>\s*", "", found.transcript).strip()  # <o,f0,female>: a label
        times = found.begin_time, found.end_time
        yield f"{path}:{number}", found.filename, found.speaker_id, *times, words


def _rttm(path: Path, text: str) -> Iterator[tuple]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.split()[:1] != ["SPEAKER"]:
            continue
        where = f"{path}:{number}"
        try:
            found = RTTMLine.parse(line, parse_float=str)
        except AssertionError:  # another number of fields
            wanted = "SPEAKER session 1 start duration <NA> <NA> speaker <NA> <NA>"
            raise UserError(f"{where}: expected '{wanted}', found '{line}'") from None
        start, duration = _seconds(where, found.begin_time), _seconds(where, found.duration)
        yield where, found.filename, found.speaker_id, start, start + duration, ""


def _row(where: str, session: object, speaker: object, start: object, end: object, words: object) -> dict:
    begin, stop = round(_seconds(where, start), 4), round(_seconds(where, end), 4)
    if not 0 <= begin <= stop:
        raise UserError(f"{where}: expected 0 <= start <= end, found {start} and {end} (correct the times)")
    if not isinstance(words, str):
        raise UserError(f"{where}: expected words as text, found {words!r}")
    return dict(zip(_KEYS, (str(session), str(speaker), begin, stop, words), strict=True))


def _seconds(where: str, value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise UserError(f"{where}: expected a time in seconds, found {value!r}")
    return seconds


def _kaldi_segments(path: str) -> list[tuple[str, float, float]]:
    turns, form = [], "'utterance recording start end'"
    for number, line in enumerate(read_text(Path(path)).splitlines(), 1):
        try:
            _, recording, start, end = line.split()
            turns.append((recording, float(start), float(end)))
        except ValueError:
            turns.append(("", math.nan, math.nan))
        if not 0 <= turns[-1][1] < turns[-1][2]:
            raise UserError(f"{path}:{number}: expected {form}, found '{line}'")
    if not turns:
        raise UserError(f"{path}: expected segments {form}, found none (empty file?)")
    return turns
