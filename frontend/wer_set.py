"""Word errors of every system on a test set, one JSON line an utterance.

``OUT/SYSTEM.jsonl`` holds the errors of each utterance, ``OUT/SYSTEM.txt`` its alignments for reading, and
``OUT/SYSTEM.json`` the rates and a fingerprint of all that went in, so that a second run counts only
what changed. ``OUT/ref.seglst.json`` and ``OUT/SYSTEM.hyp.seglst.json`` are the texts as they were
compared: of these two files meeteval's command line counts the same.
"""

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from frontend import atomic
from frontend.alignments import readable
from frontend.datadir import MixtureSet
from frontend.errors import UserError
from frontend.hypotheses import (
    HYPOTHESES,
    REFERENCES,
    Seconds,
    Texts,
    read_hypotheses,
    read_info,
    read_seconds,
    segments,
    write_segments,
)
from frontend.parallel import parallel_map
from frontend.text_normaliser import RULES, normalise
from frontend.wer import COUNTS, utterance_errors, word_error_rate

_DECIMALS = 4
_SOURCES = ("alignments.py", "hypotheses.py", "intervals.py", "text_normaliser.py", "wer.py", "wer_set.py")
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
    """Return ``{id: [what each talker said]}``, without the talkers whom a recording lacks.

    Raises:
        UserError: no ``text_spk1``, a talker without a text, a text without a word.
    """
    mixtures = MixtureSet(data)
    found = {key: mixtures.texts(key) for key in mixtures.ids}
    number = len(found[mixtures.ids[0]])
    if number < max(1, mixtures.n_talkers):
        raise UserError(
            f"{mixtures.path / f'text_spk{number + 1}'}: expected what talker {number + 1} says, "
            "found no such file (word errors need the texts of all talkers)"
        )
    in_scenes = (mixtures.path / "scenes.jsonl").is_file()
    for key, texts in found.items():
        talkers = len(mixtures.scene(key)["talkers"]) if in_scenes else 0
        for k, text in enumerate(texts):
            where = f"{mixtures.path / f'text_spk{k + 1}'}: {key}: "
            if not text and k < talkers:
                raise UserError(
                    f"{where}expected what talker {k + 1} of the scene says, found nothing (add it)"
                )
            if text and not normalise(text):
                raise UserError(f"{where}expected words, found '{text}' (add them, or leave the id alone)")
        if not any(texts):
            raise UserError(f"{where}expected a talker with a text, found none (add it)")
    return {key: [text for text in texts if text] for key, texts in found.items()}


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
    """Return SegLST without silent streams, which meeteval's command line gets wrong (:mod:`frontend.wer`).

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
    code = [(Path(__file__).parent / name).read_text(encoding="utf-8") for name in _SOURCES]
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
    atomic.write_text(out / f"{job.system}.jsonl", "".join(lines))
    atomic.write_text(out / f"{job.system}.txt", "\n".join(map(readable, rows)))
    write_segments(out / f"{job.system}.{HYPOTHESES}", _heard(_normalised(job.hypotheses), job.seconds))
    about = {**job.about, **found, "normaliser": list(RULES)}
    # Written last: with it the count is complete.
    atomic.write_text(out / f"{job.system}.json", json.dumps(about, indent=1) + "\n")
    kinds = "/".join(str(found[kind]) for kind in COUNTS[1:])
    rest = f", cpCER {found['cpcer']:.1f} %"
    rest += "" if found["orcwer"] is None else f", ORC-WER {found['orcwer']:.1f} %"
    print(f"{job.system}: cpWER {found['cpwer']:.1f} % of {found['words']} words ({kinds} ins/del/sub){rest}")
