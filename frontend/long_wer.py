"""Word errors of long recordings as meeteval counts them: cpWER, ORC-WER and tcpWER.

tcpWER is cpWER in which a word counts as right only if it was recognised within ``collar`` seconds of where
it was said (von Neumann et al., MeetEval, 2023). Both texts go through :mod:`frontend.text_normaliser` first.
ORC-WER takes time, and 4 bytes of memory, for each of the words said times the product of the streams' words:
where that passes :data:`ORC_CELLS` (1.2 GB) it is left out, and said so.
"""

import contextlib
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from frontend import atomic
from frontend.errors import UserError, did_you_mean
from frontend.segment_files import read_segments
from frontend.tables import read_scp
from frontend.text_normaliser import RULES, normalise
from frontend.wer import COUNTS, word_error_rate

COLLAR_S = 5.0
ORC_CELLS = 3e8
MEASURES = ("cpwer", "orcwer", "tcpwer")


@dataclass(frozen=True)
class Request:
    """What to compare with what, as the options of ``python -m frontend.bin.long_wer`` say."""

    ref: str
    hyp: str
    out: str | None = None
    collar: float = COLLAR_S
    orc_cells: float = ORC_CELLS
    seed: int = 0


def count_long(request: Request) -> dict:
    """Count the word errors of every session and of all together; write ``OUT``; return what it holds.

    Raises:
        UserError: files that are not read, sessions of one file alone, a session without a word said.
    """
    references, hypotheses = _sessions(request.ref, words=True), _sessions(request.hyp)
    _check_same(request.ref, references, request.hyp, hypotheses, "session")
    rows = [
        {"session": name, **_count(references[name], hypotheses[name], request)}
        for name in sorted(references)
    ]
    about = {"ref": request.ref, "hyp": request.hyp, "collar": request.collar, "normaliser": list(RULES)}
    found = {**about, "pooled": pooled(rows, request.seed), "sessions": rows}
    if request.out:
        atomic.write_text(request.out, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return found


def check_transcripts(ref: str, scp: str) -> int:
    """Check, long before there is anything to count, that transcripts are those of some recordings.

    Args:
        ref: SegLST or STM.
        scp: table of the recordings, which are the sessions to come.

    Returns:
        number of words said, normalised.

    Raises:
        UserError: as :func:`count_long` of the recordings' words would.
    """
    references = _sessions(ref, words=True)
    _check_same(ref, references, scp, read_scp(scp), "recording")
    return sum(len(row["words"].split()) for rows in references.values() for row in rows)


def _check_same(ref: str, references: Mapping, other: str, others: Mapping, kind: str) -> None:
    """Raise UserError unless the sessions of ``ref`` are those of ``other``, where each is a ``kind``."""
    for name in sorted(references.keys() ^ others.keys()):
        missing = name in references
        lacks, there, has = (other, ref, others) if missing else (ref, other, references)
        raise UserError(
            f"{lacks}: has no {kind if missing else 'session'} '{name}', which {there} "
            f"has{did_you_mean(name, has)} (give files of the same set)"
        )


def _sessions(path: str, words: bool = False) -> dict[str, list[dict]]:
    """Return the normalised segments of each session; ``words``: there must be some in each."""
    if Path(path).suffix == ".rttm":
        raise UserError(f"{path}: expected SegLST (.json) or STM (.stm), found RTTM, which has no words")
    found: dict[str, list[dict]] = {}
    for row in read_segments(path):
        found.setdefault(row["session_id"], []).append({**row, "words": normalise(row["words"])})
    for name, rows in found.items():
        if words and not any(row["words"] for row in rows):
            raise UserError(f"{path}: session '{name}': expected words, found none (add what is said)")
    return found


def _count(references: list[dict], hypotheses: list[dict], request: Request) -> dict:
    import meeteval

    reference, hypothesis = ([row for row in rows if row["words"]] for rows in (references, hypotheses))
    if not hypothesis:
        # Nothing was recognised: all is deleted. A segment without words keeps the session countable.
        hypothesis = hypotheses[:1]
    sides = [meeteval.io.SegLST(rows) for rows in (reference, hypothesis)]
    words = sum(len(row["words"].split()) for row in reference)
    cells = words * math.prod(n + 1 for n in _stream_words(hypothesis))
    with _silently():
        counts = {
            "cpwer": meeteval.wer.cpwer(*sides),
            "tcpwer": meeteval.wer.tcpwer(*sides, collar=request.collar),
            "orcwer": meeteval.wer.orcwer(*sides) if cells <= request.orc_cells else None,
        }
    streams = {row["speaker"] for row in hypothesis}
    found: dict = {"words": words, "talkers": len({r["speaker"] for r in reference}), "streams": len(streams)}
    for measure in MEASURES:
        found[measure] = None
        if counts[measure] is not None:
            (rate,) = counts[measure].values()
            found[measure] = {key: getattr(rate, key) for key in COUNTS}
            found[measure]["rate"] = round(100 * rate.errors / words, 4)
    return found


@contextlib.contextmanager
def _silently() -> Iterator[None]:
    """Keep meeteval's remarks on lengths and overlaps of segments off the terminal: nothing to put right."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _stream_words(rows: Sequence[dict]) -> list[int]:
    words: dict[str, int] = {}
    for row in rows:
        words[row["speaker"]] = words.get(row["speaker"], 0) + len(row["words"].split())
    return list(words.values())


def pooled(rows: Sequence[dict], seed: int) -> dict:
    """Return the rates over all sessions in percent, with a 95 % bootstrap interval over two or more of them.

    A measure that was left out in any session is None, since rates over other sessions could not be compared.
    """
    words = [row["words"] for row in rows]
    found: dict = {"sessions": len(rows), "words": sum(words)}
    for measure in MEASURES:
        if any(row[measure] is None for row in rows):
            found[measure] = None
            continue
        errors = [row[measure]["errors"] for row in rows]
        rate, ci = word_error_rate(errors, words, seed)
        found[measure] = {key: sum(row[measure][key] for row in rows) for key in COUNTS}
        found[measure] |= {"rate": round(rate, 4), "ci": [round(v, 4) for v in ci] if len(rows) > 1 else None}
    return found


def table(found: dict) -> str:
    """Return the rates for reading."""
    both = found["pooled"]
    lines = [f"{both['sessions']} session(s), {both['words']} words"]
    names = {"cpwer": "cpWER", "orcwer": "ORC-WER", "tcpwer": f"tcpWER, collar {found['collar']:g} s"}
    for measure, name in names.items():
        if (row := both[measure]) is None:
            lines.append(f"{name}: left out, too much work for so many words at once (raise --orc_cells)")
            continue
        ci = f" [{row['ci'][0]:.1f}, {row['ci'][1]:.1f}]" if row["ci"] else ""
        kinds = "/".join(str(row[kind]) for kind in COUNTS[1:])
        lines.append(f"{name}: {row['rate']:.1f} %{ci} ({kinds} ins/del/sub)")
    return "\n".join(lines)
