"""Who spoke when, and what: SegLST, STM, RTTM and Kaldi segments, and where somebody talks by energy.

All formats are read into one form, SegLST's: ``{session_id, speaker, start_time, end_time, words}`` a
segment, times in seconds. RTTM and Kaldi's segments have no words. What fits is used; the rest is counted and
named in one warning, or with ``strict`` an error. Of STM the conventions of NIST are read [1]: stretches that
do not count, ``{ a / b }`` for either, ``(uh)`` for a word that may be left out.

[1] NIST, sclite and STM reference formats (SCTK, doc/infmts.htm).
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from meeteval.io import RTTMLine, STMLine

from frontend.data.audio import audio_info, read_audio, seconds_of
from frontend.dsp.activity import Levels, frame_samples, segments_of_levels
from frontend.utils.errors import UserError, did_you_mean, warn
from frontend.utils.files import parse_json, read_lines, read_text, write_text

Span = tuple[float, float]
_BLOCK_S = 60.0  # of a recording, read at once
_KEYS = ("session_id", "speaker", "start_time", "end_time", "words")
# Annotators round, and a file may have been cut by a few samples: so much beyond the end is not reported.
_SLACK_S = 0.1
CUTS = "segments 'utterance recording start end'"  # Kaldi's
CUT = "cut at the end of their recording"  # and used: a reason of :class:`Unused`


@dataclass
class Unused:
    """What of a file is not used, or not as it stands: counted, and said in one line.

    Attributes:
        path: the file.
        strict: the first is an error.
        found: reason -> each ``FILE:LINE: what is wrong``.
        names: utterances that Kaldi's ``segments`` name -> the line of the first.
    """

    path: Path
    strict: bool = False
    found: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)

    def add(self, where: str, reason: str, what: str) -> None:
        """Count one, or raise it as a UserError."""
        if self.strict:
            raise UserError(f"{where}: {what}")
        self.found.setdefault(reason, []).append(f"{where}: {what}")

    def say(self, left: int, wanted: str = "segments with a session and a speaker") -> None:
        """Warn of it; raise UserError if nothing is ``left``."""
        counted = [f"{len(each)} {reason} (the first: {each[0]})" for reason, each in self.found.items()]
        if not left and not counted:
            raise UserError(f"{self.path}: expected {wanted}, found none (empty file?)")
        if not left:
            raise UserError(f"{self.path}: expected {wanted}, found none to use: {', '.join(counted)}")
        if counted:
            warn(f"{self.path}: {left} segment{'s' * (left != 1)} used; {', '.join(counted)}")


def read_segments(path: str | Path, strict: bool = False) -> list[dict]:
    """Read SegLST (``*.json``), STM (``*.stm``) or RTTM (``*.rttm``).

    Args:
        path: the file.
        strict: a segment that cannot be used is an error.

    Returns:
        Segments sorted by session, start and speaker; ``words`` is ``""`` where there are none. A segment of
        an STM file with alternatives has also ``choices``: its parts in order, each with all its forms; its
        ``words`` are the first of each.

    Raises:
        UserError: no such file, another kind of file, no segment that can be used.
    """
    return read_scored(path, strict)[0]


def read_scored(path: str | Path, strict: bool = False) -> tuple[list[dict], dict[str, list[Span]]]:
    """Return :func:`read_segments`, and the stretches of each session that do not count in scoring.

    These are an STM file's lines of the speaker ``inter_segment_gap``, or with the words
    ``ignore_time_segment_in_scoring``.
    """
    unused = Unused(Path(path), strict)
    rows: list[dict] = []
    ignored: dict[str, list[Span]] = {}
    for _, row in read_any(unused):
        if row["words"] is None:
            ignored.setdefault(row["session_id"], []).append((row["start_time"], row["end_time"]))
        else:
            rows.append(row)
    if ignored and not rows and not unused.found:
        raise UserError(f"{path}: expected words, found stretches alone that do not count ({_IGNORED})")
    unused.say(len(rows))
    return _in_order(rows), {name: union(spans) for name, spans in ignored.items()}


def read_turns(
    path: str | Path, seconds: Mapping[str, float], strict: bool = False, kind: str = ""
) -> list[dict]:
    """Return what :func:`read_segments` does, of these recordings and no longer than they are.

    Args:
        path: the file.
        seconds: length of each recording.
        strict: a segment of another recording, or beyond its end, is an error.
        kind: ``segments``: Kaldi's (utterance recording start end; the speaker is the utterance's id).

    Raises:
        UserError: as :func:`read_segments`.
    """
    unused = Unused(Path(path), strict)
    spoken = (found for found in read_any(unused, kind) if found[1]["words"] is not None)
    rows = [row for _, row in fit(spoken, seconds, unused)]
    unused.say(len(rows), CUTS if kind else "segments")
    return _in_order(rows)


def _in_order(rows: list[dict]) -> list[dict]:
    return sorted(rows, key=lambda row: (row["session_id"], row["start_time"], row["speaker"]))


def fit(
    found: Iterator[tuple[str, dict]],
    seconds: Mapping[str, float],
    unused: Unused,
    overshoot: float = math.inf,
) -> Iterator[tuple[str, dict]]:
    """Yield the segments of these recordings, cut where they end more than 0.1 s beyond them.

    Args:
        found: (where it stands, segment).
        seconds: length of each recording.
        unused: counts the others.
        overshoot: one that ends further beyond the recording than so many seconds is left out, not cut.
    """
    for where, row in found:
        name, start, end = row["session_id"], row["start_time"], row["end_time"]
        if name not in seconds:
            some = ", ".join(sorted(seconds)[:3])
            same = did_you_mean(name, [one for one in seconds if one.casefold() == name.casefold()])
            wanted = same or f"; expected {some} ..."
            unused.add(where, "of recordings that are not given", f"no recording '{name}'{wanted}")
            continue
        length, hint = seconds[name], "(seconds, of this recording?)"
        end = length if end == math.inf else end
        if start >= length or end > length + overshoot:
            late = f"{start:.2f} to {end:.2f} s, but recording '{name}' ends at {length:.2f} s {hint}"
            unused.add(where, "beyond the end of their recording", late)
        elif min(end, length) <= start:
            unused.add(where, "without length", f"expected start < end, found {start:g} and {end:g}")
        else:
            if end > length + _SLACK_S:
                late = f"ends at {end:.2f} s, expected at most its {length:.2f} s {hint}"
                unused.add(where, CUT, late)
                end = length
            yield where, {**row, "end_time": end}


def _one_word(name: object) -> str:
    return re.sub(r"\s+", "_", str(name))


def check_stm_names(names: Iterable[str]) -> None:
    """Raise UserError if two recordings would have one name in STM, which has no blanks."""
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(_one_word(name), name)) != name:
            both = f"'{other}' and '{name}' would both become '{_one_word(name)}'"
            raise UserError(f"{both} in STM (rename one, or give --scp with two ids, or --format json)")


def in_stm(rows: Sequence[dict]) -> str:
    """Return STM, one line a segment; blanks in names, which would separate fields, become ``_``."""
    lines = []
    for row in rows:
        session, speaker = (_one_word(row[key]) for key in ("session_id", "speaker"))
        start, end = (f"{row[key]:.4f}" for key in ("start_time", "end_time"))
        words = re.sub(r"[\r\n]+", " ", row["words"])
        words = f"<> {words}" if _LABEL.match(words) else words  # behind an empty label these are words
        lines.append(STMLine(session, 1, speaker, start, end, words).serialize().rstrip(" ") + "\n")
    return "".join(lines)


def in_rttm(rows: Sequence[dict]) -> str:
    """Return NIST's RTTM, one ``SPEAKER`` line a segment; names as in :func:`in_stm`."""
    lines = []
    for row in rows:
        start, duration = f"{row['start_time']:.4f}", f"{row['end_time'] - row['start_time']:.4f}"
        session, speaker = (_one_word(row[key]) for key in ("session_id", "speaker"))
        line = RTTMLine(filename=session, begin_time=start, duration=duration, speaker_id=speaker)
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
    """Return :class:`frontend.dsp.activity.Levels` of a recording of any length, read block by block.

    Args:
        entry: of a ``.scp`` file.
        channels: so many of the first; None: all of them together.
    """
    _, frames, fs = audio_info(entry)
    block = frame_samples(fs) * round(_BLOCK_S * fs / frame_samples(fs))
    levels = Levels(fs)
    for start in range(0, frames, block):
        levels.add(read_audio(entry, start, block, finite=True)[0][:channels])
    return levels.db()


def spans_by_energy(entry: str) -> list[Span]:
    """Return ``[(start, end)]`` in seconds where the levels of all channels say that somebody talks."""
    return segments_of_levels(read_levels(entry), audio_info(entry)[2], seconds_of(entry))


def read_spans(
    path: str, kind: str, seconds: Mapping[str, float], strict: bool = False
) -> dict[str, list[Span]]:
    """Read who talks when, whoever it is: ``{recording: [(start, end)]}``, sorted and without overlap.

    Args:
        path: the file.
        kind: ``segments``, or ``rttm``: any form that :func:`read_segments` reads.
        seconds: length of each recording.
        strict: as in :func:`read_turns`.
    """
    found: dict[str, list[Span]] = {name: [] for name in seconds}
    for row in read_turns(path, seconds, strict, kind if kind == "segments" else ""):
        name = row["session_id"]
        found[name].append((row["start_time"], min(row["end_time"], seconds[name])))
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


def difference(spans: list[Span], taken: list[Span]) -> list[Span]:
    """Return what is left of spans outside those that are ``taken``, sorted.

    >>> difference([(0.0, 5.0)], [(1.0, 2.0), (4.0, 6.0)])
    [(0.0, 1.0), (2.0, 4.0)]
    """
    left = union(spans)
    for a, b in union(taken):
        left = [part for start, end in left for part in ((start, min(end, a)), (max(start, b), end))]
        left = [(start, end) for start, end in left if start < end]
    return left


# Each yields (where, session, speaker, start, end, words), which _row checks; words is None where a stretch
# does not count; instead of the end there may be (start, duration).


def read_any(unused: Unused, kind: str = "") -> Iterator[tuple[str, dict]]:
    """Yield where each segment of a file stands, and the segment; those of another form are counted."""
    path = unused.path
    readers = {".json": _seglst, ".stm": _stm, ".rttm": _rttm, "segments": _kaldi}
    if (form := kind or path.suffix.lower()) not in readers:
        raise UserError(f"{path}: expected SegLST (.json), STM (.stm) or RTTM (.rttm), found another name")
    for where, *fields in readers[form](unused):
        try:
            row = _row(form == "segments", *fields)
        except UserError as error:
            unused.add(where, "that cannot be read", str(error))
            continue
        if form == ".stm" and row["words"] and re.search("[{(]", row["words"]):
            parts = _choices(row["words"])
            row["words"] = " ".join(filter(None, (forms[0] for forms in parts)))
            row |= {"choices": parts} if any(len(forms) > 1 for forms in parts) else {}
        yield where, row


def _seglst(unused: Unused) -> Iterator[tuple]:
    path = unused.path
    text = read_text(path, "a SegLST file")
    if not text.strip():
        return
    content = parse_json(text, path, advice="expected a SegLST file")
    if not isinstance(content, list):
        raise UserError(f"{path}: expected SegLST, a list of segments, found {type(content).__name__}")
    for number, row in enumerate(content, 1):
        where = f"{path}: segment {number}"
        if not isinstance(row, dict) or not {*_KEYS[:-1]} <= row.keys():
            found = json.dumps(row, ensure_ascii=False)
            unused.add(where, _OTHER_FORM, f"expected the keys {', '.join(_KEYS)}, found {found[:200]}")
        else:
            words = row.get("words")
            yield where, *(row[key] for key in _KEYS[:-1]), "" if words is None else words


_OTHER_FORM = "of another form"
_LABEL = re.compile(r"<(?!unk>)[^<>]*>\s*", re.IGNORECASE)  # <o,f0,female>
_IGNORED = "ignore_time_segment_in_scoring"
_GAP = "inter_segment_gap"


def _stm(unused: Unused) -> Iterator[tuple]:
    for number, line in read_lines(unused.path, "an STM file"):
        if line.startswith(";"):
            continue
        where = f"{unused.path}:{number}"
        fields = re.split(r"[ \t]+", line, maxsplit=5)
        if len(fields) < 5:
            wanted = "session channel speaker start end words"
            unused.add(where, _OTHER_FORM, f"expected '{wanted}', found '{line}'")
            continue
        session, _, speaker, start, end, *rest = fields
        words = rest[0] if rest else ""
        words = words[label.end() :] if (label := _LABEL.match(words)) else words
        no_words = speaker.lower() == _GAP or words.strip().lower() == _IGNORED
        yield where, session, speaker, start, end, None if no_words else words


# A mark of its own, not a part of a word: { a / b }, {BREATH} or (uh).
_MARK = re.compile(r"(\{[^{}]*\}|(?<!\S)\([^()]*\)(?!\S))")
# The first mark within a form of an alternative: what stands before that form, before and behind the mark.
_INSIDE = re.compile(r"(\{(?:[^{}]*/)?)([^{}/]*)\{([^{}]*)\}((?:[^{}/]|\{[^{}]*\})*)")
_MOST = 10_000  # characters of a transcript with all its forms


def _flattened(nested: re.Match) -> str:
    """Return an alternative with one mark less in it: a form for each of the mark's, if not too many."""
    outside, before, inside, behind = nested.groups()
    forms = inside.split("/") if "/" in inside or inside[:1].isspace() else [""]  # {BREATH} is no word
    if len(nested.string) > _MOST:
        forms = forms[:1]
    return outside + " / ".join(f"{before} {form} {behind}" for form in forms)


def _choices(words: str) -> list[list[str]]:
    """Return the parts of an STM transcript in order, each with its forms; "" is nothing.

    >>> _choices("so { hello / hi } there (uh) {BREATH} friend")
    [['so'], ['hello', 'hi'], ['there'], ['', 'uh'], ['friend']]
    """
    while (flat := _INSIDE.sub(_flattened, words, count=1)) != words:
        words = flat
    parts = []
    for piece in map(str.strip, _MARK.split(words)):
        inside = piece[1:-1].strip()
        if not _MARK.fullmatch(piece):
            forms = [piece]
        elif piece[0] == "(":
            forms = ["", inside]
        elif "/" in piece:
            forms = [" ".join(form.split()) for form in inside.split("/")]
        else:  # {BREATH} is a sound, { hello } the one form that there is
            forms = [inside if piece[1:2].isspace() else ""]
        parts.append(["" if form == "@" else form for form in forms])  # @: NIST's for no word
    return [forms for forms in parts if any(forms)]


# Of RTTM lines, beside SPEAKER: no turns of a talker.
_OTHER_TYPES = set(
    "SEGMENT NOSCORE NO_RT_METADATA LEXEME NON-LEX NON-SPEECH FILLER EDIT SU IP CB A/P SPKR-INFO".split()
)


def _rttm(unused: Unused) -> Iterator[tuple]:
    for number, line in read_lines(unused.path, "an RTTM file"):
        where, fields = f"{unused.path}:{number}", re.split(r"[ \t]+", line)
        if fields[0].startswith(";") or fields[0].upper() in _OTHER_TYPES:
            continue
        if fields[0].upper() != "SPEAKER" or not 8 <= len(fields) <= 10:
            wanted = "SPEAKER session 1 start duration <NA> <NA> speaker <NA> <NA>"
            unused.add(where, _OTHER_FORM, f"expected '{wanted}', found '{line}'")
            continue
        _, session, _, start, duration, _, _, speaker, *_ = fields
        yield where, session, speaker, start, (start, duration), ""


_END = object()  # in place of a time: that of the recording


def _kaldi(unused: Unused) -> Iterator[tuple]:
    for number, line in read_lines(unused.path, "Kaldi's segments"):
        where, fields = f"{unused.path}:{number}", re.split(r"[ \t]+", line)
        unused.names.setdefault(fields[0], number)
        if len(fields) != 4:
            wanted = "utterance recording start end"
            unused.add(where, _OTHER_FORM, f"expected '{wanted}', found '{line}'")
            continue
        utterance, recording, start, end = fields
        yield where, recording, utterance, start, _END if end in ("-1", "-1.0") else end, ""


def _row(exact: bool, session: object, speaker: object, start: object, end: object, words: object) -> dict:
    """Return a segment; raise UserError if it is none. ``exact``: times are not rounded to 0.1 ms."""
    begin = _seconds(start)
    if isinstance(end, tuple):  # of start and duration
        stop = begin + _seconds(end[1])
    else:
        stop = math.inf if end is _END else _seconds(end)
    if not exact:
        begin, stop = round(begin, 4), round(stop, 4)
    if not 0 <= begin <= stop:
        raise UserError(f"expected 0 <= start <= end, found {begin:g} and {stop:g} (correct the times)")
    for value, what in ((session, "session"), (speaker, "speaker")):
        if not isinstance(value, str | int) or value == "":
            raise UserError(f"expected a name of the {what}, found {value!r}")
    if words is not None and not isinstance(words, str):
        raise UserError(f"expected words as text, found {words!r}")
    return dict(zip(_KEYS, (str(session), str(speaker), begin, stop, words), strict=True))


def _seconds(value: Any) -> float:
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise UserError(f"expected a time in seconds, found {value!r}")
    return seconds
