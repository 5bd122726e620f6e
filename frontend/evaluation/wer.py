"""Count the word errors of every system on a test set as meeteval does; rates of counts, for recordings too.

It counts cpWER, cpCER and ORC-WER (:mod:`frontend.recognition.text`). Beside the counts
``OUT/SYSTEM.txt`` holds the alignments for reading; ``OUT/ref.seglst.json`` and
``OUT/SYSTEM.hyp.seglst.json`` are the texts as they were compared: of these two files meeteval's command line
counts the same.
"""

import importlib.metadata
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from frontend.data.mixtures import MixtureSet, find_systems, holds_streams
from frontend.data.segments import in_seglst
from frontend.evaluation import intervals
from frontend.evaluation.intervals import paired_ratio, rounded
from frontend.evaluation.measured import Job, run_jobs, stale_jobs
from frontend.recognition import text as recognition_text
from frontend.recognition.text import (
    COUNTS,
    HYPOTHESES,
    INFO,
    REFERENCES,
    Seconds,
    Texts,
    normalise,
    read_hypotheses,
    read_seconds,
    readable,
    recorded_normaliser,
    reference_texts,
    rules,
    segments,
    utterance_errors,
    write_segments,
)
from frontend.utils.errors import UserError
from frontend.utils.files import read_json, write_text
from frontend.utils.stamps import Stamp, of_text

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
    """Return ``NAME`` and ``NAME_ci`` of rows as in :func:`rates`; None where not all were counted.

    There is no interval either where too many resamples of the rows have no words at all.
    """
    place, unit = _MEASURES[name]
    counts: list = [row.get(place) if place else row for row in rows]
    if not rows or None in counts:
        return {name: None, f"{name}_ci": None}
    lengths = [(one if place == unit else row)[unit] for one, row in zip(counts, rows, strict=True)]
    found, ci = word_error_rate(np.array([one["errors"] for one in counts]), np.array(lengths), seed)
    return {name: rounded(found), f"{name}_ci": rounded(ci) if np.isfinite(ci).all() else None}


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


CODE = [intervals, recognition_text, sys.modules[__name__]]


def library_versions() -> dict:
    """Return the versions of the libraries that count."""
    return {name: importlib.metadata.version(name) for name in ("meeteval", "kaldialign")}


# --- a test set


@dataclass(frozen=True)
class _Utterance:
    """What was said and recognised of one mixture, lengths of the streams (s), and how it is counted."""

    id: str
    references: list[str]
    hypotheses: list[str]
    seconds: list[float]
    orc: bool  # ORC-WER is wanted
    how: str | None  # the texts are normalised


def count_set(data: str, decoded: str | Path, out: str | Path, nj: int = 1, seed: int = 0) -> None:
    """Count the word errors of every system below ``decoded`` whose count in ``out`` is not current.

    Args:
        data: the test set, with ``text_spk1 ..``.
        decoded: directory with one directory of hypotheses per system, or that of one.
        out: where the counts go.
        nj: number of processes.
        seed: of the intervals.

    Raises:
        UserError: a talker without a text, hypotheses of other utterances; found before any counting.
    """
    out, decoded = Path(out), Path(decoded)
    texts = reference_texts(MixtureSet(data))
    references = {key: [text for text in row if text] for key, row in texts.items()}
    systems = decoded_systems(decoded)
    how = recorded_normaliser(systems)
    jobs = [_set_job(path, data, references, seed, how) for path in systems]
    is_one = not (decoded / REFERENCES).is_file() and (decoded.parent / REFERENCES).is_file()
    lengths = _lengths((decoded.parent if is_one else decoded) / REFERENCES, references)
    stale = stale_jobs(jobs, out, (".txt", f".{HYPOTHESES}"))
    normalised = {key: [normalise(text, how) for text in row] for key, row in references.items()}
    kept, content = out / REFERENCES, in_seglst(segments(normalised, lengths))
    if not kept.is_file() or kept.read_text(encoding="utf-8") != content:
        write_text(kept, content)
    run_jobs(stale, out, _set_row, partial(_sum_up_set, out=out, seed=seed), nj, "wer")


def _set_row(item: _Utterance) -> dict:
    return {"id": item.id, **utterance_errors(item.references, item.hypotheses, item.orc, item.how)}


def _sum_up_set(job: Job, rows: list[dict], out: Path, seed: int) -> tuple[dict, str]:
    write_text(out / f"{job.system}.txt", "\n".join(map(readable, rows)))
    texts = {item.id: [normalise(text, item.how) for text in item.hypotheses] for item in job.items}
    write_segments(out / f"{job.system}.{HYPOTHESES}", _spoken(texts, {i.id: i.seconds for i in job.items}))
    sums = rates(rows, seed)
    return sums, as_line(sums)


def _set_job(directory: Path, data: str, references: dict[str, list[str]], seed: int, how: str | None) -> Job:
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
        "normaliser": rules(how),
    }
    texts = {"references": references, "hypotheses": hypotheses, "seconds": seconds}
    inputs = {name: of_text(json.dumps(table)) for name, table in texts.items()}
    orc = about["streams"] != max(map(len, references.values()))
    items = [_Utterance(key, row, hypotheses[key], seconds[key], orc, how) for key, row in references.items()]
    return Job(
        directory.name, items, about, Stamp.of({"seed": seed, **about, **library_versions()}, inputs, CODE)
    )


def decoded_systems(decoded: Path) -> list[Path]:
    """Return the directories of hypotheses in ``decoded``, or that directory itself."""
    if decoded.is_dir() and holds_streams(decoded):
        raise UserError(
            f"{decoded}: expected hypotheses ({HYPOTHESES}), found streams without words (recognise them "
            f"first: mixit decode --separated {decoded})"
        )
    return find_systems(
        decoded, "decode", lambda path: (path / HYPOTHESES).is_file(), f"hypotheses {HYPOTHESES}"
    )


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
