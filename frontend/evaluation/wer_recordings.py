"""Count the word errors of every system on whole recordings: cpWER, ORC-WER and tcpWER.

tcpWER is cpWER in which a word counts as right only if it was recognised within ``collar`` seconds of where
it was said (von Neumann et al., MeetEval, 2023). Of STM references the stretches that NIST does not score are
left out on both sides, and of alternatives the one with the fewest errors counts.
"""

import math
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import kaldialign
import meeteval

from frontend.data.kaldi import read_scp
from frontend.data.segments import Span, difference, read_scored
from frontend.evaluation.measured import Job, run_jobs, stale_jobs
from frontend.evaluation.wer import CODE, as_line, decoded_systems, library_versions, rates
from frontend.recognition.text import COUNTS, HYPOTHESES, normalise, recorded_normaliser, rules
from frontend.utils.errors import UserError, did_you_mean, warn
from frontend.utils.espnet import quiet
from frontend.utils.stamps import Stamp, of_file, of_text

VERSION = 1
COLLAR_S = 5.0
# ORC-WER takes time, and 4 bytes of memory, for each of the words said times the product of the streams'
# words: it is left out where that passes this (1.2 GB).
ORC_CELLS = 3e8


@dataclass(frozen=True)
class RecordingSettings:
    """How whole recordings are counted.

    Attributes:
        collar: of tcpWER, in seconds.
        orc_cells: where ORC-WER is left out (:data:`ORC_CELLS`).
        seed: of the intervals.
        strict: files must be of the same recordings, with words in all, and each line must be usable.
    """

    collar: float = COLLAR_S
    orc_cells: float = ORC_CELLS
    seed: int = 0
    strict: bool = False

    def __post_init__(self):
        for name in ("collar", "orc_cells"):
            if not getattr(self, name) >= 0:
                raise UserError(f"--{name}: expected 0 or more, found {getattr(self, name):g}")


def count_recordings(
    ref: str, decoded: str | Path, out: str | Path, settings: RecordingSettings | None = None, nj: int = 1
) -> None:
    """Count the word errors of whole recordings, a row a recording, of every system that is not current.

    Recordings without a reference are not counted, nor those of the reference that no system has; a recording
    in whose reference nobody says a word has as many errors as words were recognised in it.

    Args:
        ref: what was said, SegLST or STM.
        decoded: directory with one directory per system, each with ``hyp.seglst.json``; the directory of one
            system; or a file of one, SegLST or STM.
        out: where the counts go.
        settings: how they are counted.
        nj: number of processes.

    Raises:
        UserError: files that are not read, no recording or no word to count, a recording that one system has
            and another has not.
    """
    settings, out = settings or RecordingSettings(), Path(out)
    paths = _hypothesis_files(Path(decoded))
    how = recorded_normaliser(path.parent for path in paths.values() if path.name == HYPOTHESES)
    references = _sessions(ref, settings.strict, words=True, how=how)
    systems = {name: _sessions(path, settings.strict, how=how) for name, path in paths.items()}
    every: dict[str, list] = {name: [] for found in systems.values() for name in found.rows}
    for name in references.ignored.keys() - references.rows.keys():
        every.pop(name, None)  # nothing of it counts
    counted = _shared(ref, references.rows, str(decoded), every, "session", settings.strict)
    jobs = []
    for system, path in paths.items():
        for name in sorted(set(counted) - systems[system].rows.keys()):
            raise UserError(f"{path}: has no session '{name}', which another system has (decode again)")
        about = {"system": system, "ref": ref, "hyp": str(path), "collar": settings.collar}
        about |= {"n": len(counted), "normaliser": rules(how)}
        inputs = {
            "references": of_file(ref),
            "hypotheses": of_file(path),
            "counted": of_text(" ".join(counted)),
        }
        kept = {name: value for name, value in asdict(settings).items() if name != "strict"}
        stamp = Stamp.of({**kept, **library_versions()}, inputs, [*CODE, sys.modules[__name__]])
        items = [(name, references.of(name), systems[system].of(name, references)) for name in counted]
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
    return {path.name: path / HYPOTHESES for path in decoded_systems(decoded)}


def check_transcripts(ref: str, scp: str, strict: bool = False) -> int:
    """Check that transcripts (SegLST or STM) are of the recordings of a table, before any other work.

    Returns:
        number of words said, normalised, in the recordings that both have.

    Raises:
        UserError: as :func:`count_recordings` of the recordings' words would.
    """
    rows = _sessions(ref, strict, words=True).rows
    counted = _shared(ref, rows, scp, read_scp(scp), "recording", strict)
    return sum(len(row["words"].split()) for name in counted for row in rows[name])


def _shared(ref: str, references: Mapping, other: str, others: Mapping, kind: str, strict: bool) -> list[str]:
    """Return the sessions of ``ref`` that ``others`` has too, each a ``kind``; warn of the rest.

    Raises:
        UserError: there is none; with ``strict``, if not all are shared.
    """
    shared = sorted(references.keys() & others.keys())
    silent = " (where nothing was recognised, give a segment without words)" if kind == "session" else ""
    for lacks, there, missing, what, advice in (
        (other, ref, references.keys() - others.keys(), kind, silent),
        (ref, other, others.keys() - references.keys(), "session", ""),
    ):
        if not missing:
            continue
        first = min(missing)
        hint = did_you_mean(first, others if lacks == other else references)
        text = f"{lacks}: has no {what} '{first}', which {there} has{hint}"
        if strict or not shared:
            raise UserError(f"{text} (give files of the same set)")
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        warn(f"{text}{more}: not counted{advice}; {len(shared)} session{'s' * (len(shared) != 1)} counted")
    return shared


@dataclass
class _Sessions:
    """What a file says of each session: normalised segments, and the stretches that do not count."""

    rows: dict[str, list[dict]]
    ignored: dict[str, list[Span]]

    def of(self, name: str, references: "_Sessions | None" = None) -> list[dict]:
        """Return the segments of a session; hypotheses without those in stretches that do not count."""
        rows = self.rows[name]
        if references is None or name not in references.ignored:
            return rows
        said = [row for row in references.rows[name] if row["words"]]
        gaps = difference(references.ignored[name], [(row["start_time"], row["end_time"]) for row in said])
        return [row for row in rows if not _inside(row, gaps)] or [{**rows[0], "words": ""}]


def _inside(row: dict, gaps: list[Span]) -> bool:
    """Tell whether a segment lies wholly in one of the stretches, times being rounded to 0.1 ms."""
    return any(a - 1e-4 <= row["start_time"] and row["end_time"] <= b + 1e-4 for a, b in gaps)


def _sessions(path: str | Path, strict: bool, words: bool = False, how: str | None = None) -> _Sessions:
    """Return the sessions of a file; ``words``: some must be said, and sessions without are named.

    ``how``: the texts are normalised, see :func:`frontend.recognition.text.normalise`.
    """
    if Path(path).suffix.lower() == ".rttm":
        raise UserError(f"{path}: expected SegLST (.json) or STM (.stm), found RTTM, which has no words")
    found: dict[str, list[dict]] = {}
    rows, ignored = read_scored(path, strict)
    for row in rows:
        choices = [[normalise(form, how) for form in forms] for forms in row.get("choices", [])]
        row |= {"words": normalise(row["words"], how)} | ({"choices": choices} if choices else {})
        found.setdefault(row["session_id"], []).append(row)
    silent = [name for name, rows in found.items() if not any(row["words"] for row in rows)]
    if words and silent:
        text = f"{path}: session '{silent[0]}': expected words, found none"
        if strict or len(silent) == len(found):
            raise UserError(f"{text} (add what is said)")
        more = f" (and in {len(silent) - 1} more)" if len(silent) > 1 else ""
        warn(f"{text}{more}; what is recognised there is inserted")
    return _Sessions(found, ignored)


def _recording_row(item: tuple[str, list[dict], list[dict]], settings: RecordingSettings) -> dict:
    name, references, hypotheses = item
    hypothesis = [row for row in hypotheses if row["words"]]
    reference, n_choices = _nearest(references, hypothesis)
    reference = [row for row in reference if row["words"]]
    stream_words = Counter[str]()
    for row in hypothesis:
        stream_words[row["speaker"]] += len(row["words"].split())
    words = sum(len(row["words"].split()) for row in reference)
    found = {"id": name, "words": words, "talkers": len({row["speaker"] for row in reference})}
    found |= {"streams": len(stream_words)} | ({"choices": n_choices} if n_choices else {})
    if not reference:  # all that is recognised is too much; meeteval counts no such session
        inserted = dict.fromkeys(COUNTS, 0) | dict.fromkeys(("errors", "insertions"), stream_words.total())
        return found | inserted | {"tcp": inserted, "orc": inserted}
    if not hypothesis:
        # Nothing was recognised: all is deleted. A segment without words keeps the session countable.
        hypothesis = hypotheses[:1]
    sides = [meeteval.io.SegLST(rows) for rows in (reference, hypothesis)]
    cells = words * math.prod(n + 1 for n in stream_words.values())
    with quiet():  # meeteval's remarks on lengths and overlaps of segments
        cp, tcp = meeteval.wer.cpwer(*sides), meeteval.wer.tcpwer(*sides, collar=settings.collar)
        orc = meeteval.wer.orcwer(*sides) if cells <= settings.orc_cells else None
    return found | _counts(cp) | {"tcp": _counts(tcp), "orc": orc and _counts(orc)}


# An alternative costs as many steps as the words said times those recognised; beyond so many in a session the
# first form of each is taken (about a minute).
_CHOICE_STEPS = 1e10


def _nearest(reference: list[dict], hypothesis: list[dict]) -> tuple[list[dict], int]:
    """Choose of each alternative (``choices``) the form with the fewest errors, the first of equal ones.

    Each talker's words are compared with those of the stream that is the talker's by cpWER of the first
    forms, one alternative after the other.

    Returns:
        the segments without ``choices``, and the number of alternatives.
    """
    plain = [{key: value for key, value in row.items() if key != "choices"} for row in reference]
    n_choices = sum(len(forms) > 1 for row in reference for forms in row.get("choices", []))
    if not n_choices:
        return plain, 0
    streams: dict[str | None, list[str]] = {row["speaker"]: [] for row in hypothesis}
    said: dict[str, list[list[list[str]]]] = {row["speaker"]: [] for row in reference}
    for row in hypothesis:
        streams[row["speaker"]] += row["words"].split()
    for row in reference:
        said[row["speaker"]].append([list(forms) for forms in row.get("choices", [[row["words"]]])])
    steps = n_choices * sum(map(len, streams.values())) * sum(len(row["words"].split()) for row in plain)
    if steps > _CHOICE_STEPS:
        name = reference[0]["session_id"]
        warn(
            f"session '{name}': {n_choices} alternatives are too many to try: the first form of each is taken"
        )
        return plain, n_choices
    of_talker: dict[str, str | None] = {}
    if streams and any(row["words"] for row in plain):
        with quiet():
            (rate,) = meeteval.wer.cpwer(*map(meeteval.io.SegLST, (plain, hypothesis))).values()
        of_talker = dict(rate.assignment)
    for speaker, segments_of in said.items():
        heard = streams.get(of_talker.get(speaker), [])
        parts = [forms for segment in segments_of for forms in segment]
        for forms in parts:
            if len(forms) > 1:
                tried = [" ".join(f if p is forms else p[0] for p in parts).split() for f in forms]
                errors = [kaldialign.edit_distance(one, heard)["total"] for one in tried]
                forms[:] = [forms[errors.index(min(errors))]]
    chosen = {speaker: iter(rows) for speaker, rows in said.items()}
    for row in plain:
        row["words"] = " ".join(" ".join(forms[0] for forms in next(chosen[row["speaker"]])).split())
    return plain, n_choices


def _counts(found: dict) -> dict[str, int]:
    """Return the counts of the only session of meeteval's result."""
    (rate,) = found.values()
    return {key: getattr(rate, key) for key in COUNTS}
