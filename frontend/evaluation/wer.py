"""Word errors of every system on a test set, one JSON line an utterance.

``OUT/SYSTEM.jsonl`` holds the errors of each utterance, ``OUT/SYSTEM.txt`` its alignments for reading, and
``OUT/SYSTEM.json`` the rates and a fingerprint of all that went in, so that a second run counts only
what changed. ``OUT/ref.seglst.json`` and ``OUT/SYSTEM.hyp.seglst.json`` are the texts as they were
compared: of these two files meeteval's command line counts the same.

Word errors of long recordings as meeteval counts them: cpWER, ORC-WER and tcpWER.

tcpWER is cpWER in which a word counts as right only if it was recognised within ``collar`` seconds of where
it was said (von Neumann et al., MeetEval, 2023). Both texts go through :mod:`frontend.recognition.text` first.
ORC-WER takes time, and 4 bytes of memory, for each of the words said times the product of the streams' words:
where that passes :data:`ORC_CELLS` (1.2 GB) it is left out, and said so.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from frontend.data.kaldi import read_scp
from frontend.data.mixtures import MixtureSet
from frontend.data.segments import read_segments
from frontend.evaluation.intervals import paired_ratio
from frontend.recognition.text import (
    COUNTS,
    HYPOTHESES,
    REFERENCES,
    RULES,
    Seconds,
    Texts,
    normalise,
    read_hypotheses,
    read_info,
    read_seconds,
    readable,
    reference_texts,
    segments,
    utterance_errors,
    write_segments,
)
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.espnet import quiet
from frontend.utils.files import write_json, write_text
from frontend.utils.parallel import parallel_map

_DECIMALS = 4
_SOURCES = ("recognition/text.py", "evaluation/intervals.py", "evaluation/wer.py")
_PACKAGES = ("meeteval", "kaldialign")


@dataclass(frozen=True)
class Job:
    """One system: what was said and what was recognised, ``{id: [text of each talker or stream]}``.

    ``seconds`` are the lengths of the streams.
    """

    system: str
    references: dict[str, list[str]]
    hypotheses: dict[str, list[str]]
    seconds: dict[str, list[float]]
    about: dict


def count_word_errors(data: str, decoded: str | Path, out: str | Path, nj: int = 1, seed: int = 0) -> None:
    """Count the word errors of every system below ``decoded`` whose count in ``out`` is not up to date.

    Args:
        data: the test set, with ``text_spk1 ..``.
        decoded: directory with one directory of hypotheses per system.
        out: where the counts go.
        nj: number of processes.
        seed: of the intervals.

    Raises:
        UserError: a talker has no text, or the hypotheses are of other utterances; found before any counting.
    """
    out, decoded, references = Path(out), Path(decoded), read_references(data)
    jobs = [_job(path, data, references, seed) for path in _find_systems(decoded)]
    lengths = _lengths(decoded / REFERENCES, references)
    write_segments(out / REFERENCES, segments(_normalised(references), lengths))
    stale = [job for job in jobs if not _is_current(out, job)]
    print(f"{decoded}: {len(jobs)} systems, {len(jobs) - len(stale)} of them counted before", flush=True)
    with contextlib.closing(parallel_map(partial(_count, seed=seed), stale, nj, "wer")) as counted:
        for job, (rows, rates) in zip(stale, counted, strict=True):
            _write(out, job, rows, rates)


def read_references(data: str | Path) -> dict[str, list[str]]:
    """Return ``{id: [what each talker said]}``, without the talkers whom a recording lacks."""
    texts = reference_texts(MixtureSet(data))
    return {key: [text for text in row if text] for key, row in texts.items()}


def _find_systems(decoded: Path) -> list[Path]:
    if not decoded.is_dir():
        raise UserError(f"{decoded}: expected a directory with a directory per system, found none")
    found = sorted(p for p in decoded.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not found:
        raise UserError(f"{decoded}: no system in it (run the stage 'decode' first)")
    return found


def _lengths(path: Path, references: Texts) -> dict[str, list[float]]:
    """Return ``{id: [length of the recording, for each talker]}`` by the references that decoding wrote."""
    ends = read_seconds(path)
    for key in sorted(references.keys() - ends.keys()):
        raise UserError(f"{path}: nothing said in utterance {key} (decode again)")
    return {key: [max(ends[key])] * len(texts) for key, texts in references.items()}


def _normalised(texts: Texts) -> dict[str, list[str]]:
    return {key: [normalise(text) for text in row] for key, row in texts.items()}


def _heard(texts: Texts, seconds: Seconds) -> list[dict]:
    """Return SegLST without silent streams, which meeteval's command line gets wrong (:mod:`frontend.recognition.text`).

    Who has no stream and who has a silent one has as many errors. Of a recording in which nothing was
    recognised the first stream stays: without any it would not be counted.
    """
    rows = segments(texts, seconds)
    some = {row["session_id"] for row in rows if row["words"]}
    return [r for r in rows if r["words"] or (r["session_id"] not in some and r["speaker"] == "spk1")]


def _job(directory: Path, data: str, references: dict[str, list[str]], seed: int) -> Job:
    hypotheses, info = read_hypotheses(directory), read_info(directory)
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
    }
    versions = [importlib.metadata.version(name) for name in _PACKAGES]
    code = [(Path(__file__).parents[1] / name).read_text(encoding="utf-8") for name in _SOURCES]
    everything = json.dumps([about, versions, code, seed, references, hypotheses, seconds])
    about["fingerprint"] = hashlib.sha256(everything.encode()).hexdigest()
    return Job(directory.name, references, hypotheses, seconds, about)


def _is_current(out: Path, job: Job) -> bool:
    files = [out / f"{job.system}.{kind}" for kind in ("json", "jsonl", "txt", HYPOTHESES)]
    if not all(path.is_file() for path in files):
        return False
    return json.loads(files[0].read_text(encoding="utf-8")).get("fingerprint") == job.about["fingerprint"]


def _count(job: Job, seed: int) -> tuple[list[dict], dict]:
    """Return one row an utterance, and the rates of them all."""
    orc = job.about["streams"] != max(map(len, job.references.values()))
    rows = [
        {"id": key, **utterance_errors(references, job.hypotheses[key], orc)}
        for key, references in job.references.items()
    ]
    return rows, rates(rows, seed)


def rates(rows: Sequence[dict], seed: int) -> dict:
    """Return sums over the utterances, and the rates in percent with intervals (None without ORC-WER)."""
    words = [row["words"] for row in rows]
    found = {key: sum(row[key] for row in rows) for key in ("words", *COUNTS)}
    spelt = [row["characters"] for row in rows]
    orc = [row["orc"]["errors"] for row in rows if row["orc"]]
    per_utterance = {
        "cpwer": ([row["errors"] for row in rows], words),
        "cpcer": ([row["errors"] for row in spelt], [row["characters"] for row in spelt]),
        "orcwer": (orc if len(orc) == len(rows) else None, words),
    }
    for name, (errors, said) in per_utterance.items():
        rate, ci = word_error_rate(errors, said, seed) if errors is not None else (None, None)
        found[name] = None if rate is None else round(rate, _DECIMALS)
        found[f"{name}_ci"] = None if ci is None else [round(v, _DECIMALS) for v in ci]
    return found


def _write(out: Path, job: Job, rows: list[dict], found: dict) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_text(out / f"{job.system}.jsonl", "".join(lines))
    write_text(out / f"{job.system}.txt", "\n".join(map(readable, rows)))
    write_segments(out / f"{job.system}.{HYPOTHESES}", _heard(_normalised(job.hypotheses), job.seconds))
    about = {**job.about, **found, "normaliser": list(RULES)}
    # Written last: with it the count is complete.
    write_json(out / f"{job.system}.json", about)
    kinds = "/".join(str(found[kind]) for kind in COUNTS[1:])
    rest = f", cpCER {found['cpcer']:.1f} %"
    rest += "" if found["orcwer"] is None else f", ORC-WER {found['orcwer']:.1f} %"
    print(f"{job.system}: cpWER {found['cpwer']:.1f} % of {found['words']} words ({kinds} ins/del/sub){rest}")


COLLAR_S = 5.0
ORC_CELLS = 3e8
MEASURES = ("cpwer", "orcwer", "tcpwer")


@dataclass(frozen=True)
class Request:
    """What to compare with what, as the options of ``mixit wer`` say."""

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
        {"session": name, **_count_recordings(references[name], hypotheses[name], request)}
        for name in sorted(references)
    ]
    about = {"ref": request.ref, "hyp": request.hyp, "collar": request.collar, "normaliser": list(RULES)}
    found = {**about, "pooled": pooled(rows, request.seed), "sessions": rows}
    if request.out:
        write_json(request.out, found, ensure_ascii=False)
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


def _count_recordings(references: list[dict], hypotheses: list[dict], request: Request) -> dict:
    import meeteval

    reference, hypothesis = ([row for row in rows if row["words"]] for rows in (references, hypotheses))
    if not hypothesis:
        # Nothing was recognised: all is deleted. A segment without words keeps the session countable.
        hypothesis = hypotheses[:1]
    sides = [meeteval.io.SegLST(rows) for rows in (reference, hypothesis)]
    words = sum(len(row["words"].split()) for row in reference)
    cells = words * math.prod(n + 1 for n in _stream_words(hypothesis))
    with quiet():
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


def word_error_rate(errors: np.ndarray, words: np.ndarray, seed: int) -> tuple[float, tuple[float, float]]:
    """Return the rate in percent and its 95 % bootstrap interval over utterances.

    Errors of two systems subtracted give the paired difference of their rates, in points.

    Args:
        errors: ``(n,)``, of each utterance.
        words: ``(n,)``, spoken in each utterance.
        seed: of the bootstrap.
    """
    return paired_ratio(100 * np.asarray(errors), words, seed)
