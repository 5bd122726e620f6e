"""Count the word errors of every system as meeteval does, of a test set or of whole recordings.

Of a test set: cpWER, cpCER and ORC-WER (:mod:`frontend.recognition.text`). Beside the counts
``OUT/SYSTEM.txt`` holds the alignments for reading; ``OUT/ref.seglst.json`` and
``OUT/SYSTEM.hyp.seglst.json`` are the texts as they were compared: of these two files meeteval's command line
counts the same.

Of whole recordings: cpWER, ORC-WER and tcpWER, which is cpWER in which a word counts as right only if it was
recognised within ``collar`` seconds of where it was said (von Neumann et al., MeetEval, 2023).
"""

import importlib.metadata
import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from frontend.data.kaldi import read_scp
from frontend.data.mixtures import MixtureSet, find_systems
from frontend.data.segments import in_seglst, read_segments
from frontend.evaluation import intervals
from frontend.evaluation.intervals import paired_ratio, rounded
from frontend.evaluation.measured import Job, run_jobs, stale_jobs
from frontend.recognition import text as recognition_text
from frontend.recognition.text import (
    COUNTS,
    HYPOTHESES,
    INFO,
    REFERENCES,
    RULES,
    Seconds,
    Texts,
    normalise,
    read_hypotheses,
    read_seconds,
    readable,
    reference_texts,
    segments,
    utterance_errors,
    write_segments,
)
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.espnet import quiet
from frontend.utils.files import read_json, write_text
from frontend.utils.stamps import Stamp, of_file, of_text

VERSION = 1
# Measure -> where its counts are in a row (None: in the row itself), and what they are counted in.
_MEASURES = {
    "cpwer": (None, "words"),
    "cpcer": ("characters", "characters"),
    "orcwer": ("orc", "words"),
    "tcpwer": ("tcp", "words"),
}


def word_error_rate(errors: np.ndarray, words: np.ndarray, seed: int) -> tuple[float, tuple[float, float]]:
    """Return the rate in percent and its 95 % bootstrap interval; errors and words are ``(n,)``.

    Errors of two systems subtracted give the paired difference of their rates, in points.
    """
    return paired_ratio(100 * np.asarray(errors), words, seed)


def rate(rows: Sequence[dict], name: str, seed: int) -> dict:
    """Return ``NAME`` and ``NAME_ci`` of rows as in :func:`rates`; None where not all were counted."""
    place, unit = _MEASURES[name]
    counts: list = [row.get(place) if place else row for row in rows]
    if not rows or None in counts:
        return {name: None, f"{name}_ci": None}
    lengths = [(one if place == unit else row)[unit] for one, row in zip(counts, rows, strict=True)]
    found, ci = word_error_rate(np.array([one["errors"] for one in counts]), np.array(lengths), seed)
    return {name: rounded(found), f"{name}_ci": rounded(ci)}


def rates(rows: Sequence[dict], seed: int) -> dict:
    """Return sums over the utterances, and the rates in percent with intervals.

    Args:
        rows: one an utterance or recording: ``words``, ``errors`` and its kinds (cpWER); below
            ``characters``, ``orc`` and ``tcp`` the same of cpCER, ORC-WER and tcpWER.
        seed: of the intervals.

    Returns:
        ``words``, the counts of cpWER, and for each measure ``NAME`` and ``NAME_ci``: None for a measure that
        was left out in any row, since rates over other rows could not be compared; no interval of one row.
    """
    found: dict = {key: sum(row[key] for row in rows) for key in ("words", *COUNTS)}
    for name, (place, _) in _MEASURES.items():
        if not place or place in rows[0]:
            found |= rate(rows, name, seed) | ({f"{name}_ci": None} if len(rows) == 1 else {})
    return found


def as_line(found: dict) -> str:
    """Return the rates as :func:`rates` gives them in a line."""
    parts = []
    for name, shown in (("cpwer", "cpWER"), ("cpcer", "cpCER"), ("orcwer", "ORC-WER"), ("tcpwer", "tcpWER")):
        if found.get(name) is not None:
            ci = found[f"{name}_ci"]
            parts.append(f"{shown} {found[name]:.1f} %" + (f" [{ci[0]:.1f}, {ci[1]:.1f}]" if ci else ""))
    kinds = "/".join(str(found[kind]) for kind in COUNTS[1:])
    parts[0] += f" of {found['words']} words ({kinds} ins/del/sub)"
    return ", ".join(parts)


_CODE = [intervals, recognition_text, sys.modules[__name__]]


def _versions() -> dict:
    return {name: importlib.metadata.version(name) for name in ("meeteval", "kaldialign")}


# --- a test set


@dataclass(frozen=True)
class _Utterance:
    """What was said and recognised of one mixture, lengths of the streams (s), whether ORC-WER is wanted."""

    id: str
    references: list[str]
    hypotheses: list[str]
    seconds: list[float]
    orc: bool


def count_set(data: str, decoded: str | Path, out: str | Path, nj: int = 1, seed: int = 0) -> None:
    """Count the word errors of every system below ``decoded`` whose count in ``out`` is not current.

    Args:
        data: the test set, with ``text_spk1 ..``.
        decoded: directory with one directory of hypotheses per system.
        out: where the counts go.
        nj: number of processes.
        seed: of the intervals.

    Raises:
        UserError: a talker without a text, hypotheses of other utterances; found before any counting.
    """
    out, decoded = Path(out), Path(decoded)
    texts = reference_texts(MixtureSet(data))
    references = {key: [text for text in row if text] for key, row in texts.items()}
    jobs = [_set_job(path, data, references, seed) for path in find_systems(decoded, "decode")]
    lengths = _lengths(decoded / REFERENCES, references)
    stale = stale_jobs(jobs, out, (".txt", f".{HYPOTHESES}"))
    normalised = {key: [normalise(text) for text in row] for key, row in references.items()}
    kept, content = out / REFERENCES, in_seglst(segments(normalised, lengths))
    if not kept.is_file() or kept.read_text(encoding="utf-8") != content:
        write_text(kept, content)
    run_jobs(stale, out, _set_row, partial(_sum_up_set, out=out, seed=seed), nj, "wer")


def _set_row(item: _Utterance) -> dict:
    return {"id": item.id, **utterance_errors(item.references, item.hypotheses, item.orc)}


def _sum_up_set(job: Job, rows: list[dict], out: Path, seed: int) -> tuple[dict, str]:
    write_text(out / f"{job.system}.txt", "\n".join(map(readable, rows)))
    texts = {item.id: [normalise(text) for text in item.hypotheses] for item in job.items}
    write_segments(out / f"{job.system}.{HYPOTHESES}", _spoken(texts, {i.id: i.seconds for i in job.items}))
    sums = rates(rows, seed)
    return sums, as_line(sums)


def _set_job(directory: Path, data: str, references: dict[str, list[str]], seed: int) -> Job:
    hypotheses, info = read_hypotheses(directory), read_json(directory / INFO)
    for key in sorted(hypotheses.keys() ^ references.keys()):
        where = "no hypothesis of" if key in references else "a hypothesis of unknown"
        raise UserError(f"{directory}: has {where} utterance {key} of {data} (decode again)")
    seconds = read_seconds(directory / HYPOTHESES)
    if {key: len(row) for key, row in seconds.items()} != {key: len(row) for key, row in hypotheses.items()}:
        raise UserError(f"{directory / HYPOTHESES}: not of the streams of text_spk1 ... (decode again)")
    about = {
        "system": directory.name,
        "data": str(data),
        "asr": info.get("asr"),
        "asr_fingerprint": info.get("asr_fingerprint"),
        "streams": len(next(iter(hypotheses.values()))),
        "n": len(hypotheses),
        "normaliser": list(RULES),
    }
    texts = {"references": references, "hypotheses": hypotheses, "seconds": seconds}
    inputs = {name: of_text(json.dumps(table)) for name, table in texts.items()}
    orc = about["streams"] != max(map(len, references.values()))
    items = [_Utterance(key, row, hypotheses[key], seconds[key], orc) for key, row in references.items()]
    return Job(directory.name, items, about, Stamp.of({"seed": seed, **about, **_versions()}, inputs, _CODE))


def _lengths(path: Path, references: Texts) -> dict[str, list[float]]:
    """Return ``{id: [length of the recording, for each talker]}`` by the references that decoding wrote."""
    ends = read_seconds(path)
    for key in sorted(references.keys() - ends.keys()):
        raise UserError(f"{path}: nothing said in utterance {key} (decode again)")
    return {key: [max(ends[key])] * len(texts) for key, texts in references.items()}


def _spoken(texts: Texts, seconds: Seconds) -> list[dict]:
    """Return SegLST without silent streams, which meeteval's command line gets wrong.

    Who has no stream and who has a silent one has as many errors. Of a recording in which nothing was
    recognised the first stream stays: without any it would not be counted.
    """
    rows = segments(texts, seconds)
    some = {row["session_id"] for row in rows if row["words"]}
    return [r for r in rows if r["words"] or (r["session_id"] not in some and r["speaker"] == "spk1")]


# --- whole recordings

COLLAR_S = 5.0
# ORC-WER takes time, and 4 bytes of memory, for each of the words said times the product of the streams'
# words: it is left out where that passes this (1.2 GB).
ORC_CELLS = 3e8


@dataclass(frozen=True)
class RecordingSettings:
    """Collar of tcpWER in seconds, where ORC-WER is left out (:data:`ORC_CELLS`), seed of the intervals."""

    collar: float = COLLAR_S
    orc_cells: float = ORC_CELLS
    seed: int = 0

    def __post_init__(self):
        for name in ("collar", "orc_cells"):
            if not getattr(self, name) >= 0:
                raise UserError(f"--{name}: expected 0 or more, found {getattr(self, name):g}")


def count_recordings(
    ref: str, decoded: str | Path, out: str | Path, settings: RecordingSettings | None = None, nj: int = 1
) -> None:
    """Count the word errors of whole recordings, a row a recording, of every system that is not current.

    Args:
        ref: what was said, SegLST or STM.
        decoded: directory with one directory per system, each with ``hyp.seglst.json``; the directory of one
            system; or a file of one, SegLST or STM.
        out: where the counts go.
        settings: how they are counted.
        nj: number of processes.

    Raises:
        UserError: files that are not read, recordings of one file alone, a recording without a word said.
    """
    settings, out, references = settings or RecordingSettings(), Path(out), _sessions(ref, words=True)
    jobs = []
    for system, path in _hypothesis_files(Path(decoded)).items():
        hypotheses = _sessions(path)
        _check_same(ref, references, str(path), hypotheses, "session")
        about = {"system": system, "ref": ref, "hyp": str(path), "collar": settings.collar}
        about |= {"n": len(references), "normaliser": list(RULES)}
        inputs = {"references": of_file(ref), "hypotheses": of_file(path)}
        stamp = Stamp.of({**asdict(settings), **_versions()}, inputs, _CODE)
        items = [(name, references[name], hypotheses[name]) for name in sorted(references)]
        jobs.append(Job(system, items, about, stamp))
    count, sum_up = (partial(f, settings=settings) for f in (_recording_row, _sum_up_recordings))
    run_jobs(stale_jobs(jobs, out), out, count, sum_up, nj, "wer")


def _sum_up_recordings(job: Job, rows: list[dict], settings: RecordingSettings) -> tuple[dict, str]:
    sums = rates(rows, settings.seed)
    left_out = "" if sums["orcwer"] is not None else "; ORC-WER left out, too many words (raise --orc_cells)"
    return sums, as_line(sums) + left_out


def _hypothesis_files(decoded: Path) -> dict[str, Path]:
    if decoded.is_file():
        return {decoded.name.split(".")[0]: decoded}
    if (decoded / HYPOTHESES).is_file():
        return {decoded.name: decoded / HYPOTHESES}
    return {path.name: path / HYPOTHESES for path in find_systems(decoded, "decode")}


def check_transcripts(ref: str, scp: str) -> int:
    """Check that transcripts (SegLST or STM) are those of the recordings of a table, before any other work.

    Returns:
        number of words said, normalised.

    Raises:
        UserError: as :func:`count_recordings` of the recordings' words would.
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


def _sessions(path: str | Path, words: bool = False) -> dict[str, list[dict]]:
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


def _recording_row(item: tuple[str, list[dict], list[dict]], settings: RecordingSettings) -> dict:
    import meeteval

    name, references, hypotheses = item
    reference, hypothesis = ([row for row in rows if row["words"]] for rows in (references, hypotheses))
    if not hypothesis:
        # Nothing was recognised: all is deleted. A segment without words keeps the session countable.
        hypothesis = hypotheses[:1]
    sides = [meeteval.io.SegLST(rows) for rows in (reference, hypothesis)]
    stream_words = Counter[str]()
    for row in hypothesis:
        stream_words[row["speaker"]] += len(row["words"].split())
    words = sum(len(row["words"].split()) for row in reference)
    cells = words * math.prod(n + 1 for n in stream_words.values())
    with quiet():  # meeteval's remarks on lengths and overlaps of segments
        cp, tcp = meeteval.wer.cpwer(*sides), meeteval.wer.tcpwer(*sides, collar=settings.collar)
        orc = meeteval.wer.orcwer(*sides) if cells <= settings.orc_cells else None
    found = {"id": name, "words": words, "talkers": len({row["speaker"] for row in reference})}
    found |= {"streams": len(stream_words), **_counts(cp)}
    return found | {"tcp": _counts(tcp), "orc": orc and _counts(orc)}


def _counts(found: dict) -> dict[str, int]:
    """Return the counts of the only session of meeteval's result."""
    (rate,) = found.values()
    return {key: getattr(rate, key) for key in COUNTS}
