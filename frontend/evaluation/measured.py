"""What ``score`` and ``wer`` leave of each system: written, skipped where it is current, and read again.

``OUT/SYSTEM.jsonl`` holds a line for each utterance, ``OUT/SYSTEM.json`` facts and sums, and
``OUT/SYSTEM.stamp.json``, written last, what both were made from.
"""

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from frontend.utils.errors import UserError
from frontend.utils.files import write_json, write_json_lines
from frontend.utils.parallel import parallel_map
from frontend.utils.stamps import Stamp


@dataclass(frozen=True)
class Job:
    """One system to measure: the items to be measured, the facts known before, what the result depends on."""

    system: str
    items: Sequence
    about: dict
    stamp: Stamp


def stale_jobs(jobs: Sequence[Job], out: Path, endings: Sequence[str] = ()) -> list[Job]:
    """Return the jobs without a current result in ``out``, and say which of them changed why.

    Args:
        jobs: all systems.
        out: where the results are.
        endings: of further files that belong to a result, ``OUT/SYSTEM{ending}``.
    """
    found = []
    for job in jobs:
        files = [out / f"{job.system}{ending}" for ending in (".json", ".jsonl", *endings)]
        complete = all(path.is_file() for path in files)
        why = job.stamp.why_stale(_stamp_path(out, job.system)) if complete else "it is not complete"
        if why:
            found.append(job)
            if complete:
                print(f"again: {job.system}: {why}")
    print(f"{out}: {len(jobs)} systems, {len(jobs) - len(found)} of them current", flush=True)
    return found


def run_jobs(jobs: Sequence[Job], out: Path, measure: Callable, sum_up: Callable, nj: int, what: str) -> None:
    """Measure all items of all jobs and write each system's result, the stamp last.

    Args:
        jobs: of :func:`stale_jobs`.
        out: where the results go.
        measure: item -> its row; picklable.
        sum_up: (job, rows) -> (sums for ``SYSTEM.json``, what is printed); it may add to the rows and write
            further files.
        nj: number of processes.
        what: name of the work.
    """
    items = [item for job in jobs for item in job.items]
    with contextlib.closing(parallel_map(measure, items, nj, what)) as found:
        for job in jobs:
            rows = list(islice(found, len(job.items)))
            _stamp_path(out, job.system).unlink(missing_ok=True)  # of another result, should this be cut off
            sums, text = sum_up(job, rows)
            write_json_lines(out / f"{job.system}.jsonl", rows, ensure_ascii=False)
            write_json(out / f"{job.system}.json", job.about | sums)
            job.stamp.write(_stamp_path(out, job.system))
            print(f"{job.system}: {text}", flush=True)


def _stamp_path(out: Path, system: str) -> Path:
    return out / f"{system}.stamp.json"


def read_measured(directory: Path, stage: str) -> dict[str, tuple[dict, list[dict]]]:
    """Return what a stage measured of every system: facts about it, and a row for each utterance."""
    found = {}
    for path in sorted(directory.glob("*.jsonl")):
        try:
            about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            # Not splitlines(), which also splits at U+2028 and others that may stand in a text.
            lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
            rows = [json.loads(line) for line in lines]
        except (FileNotFoundError, json.JSONDecodeError) as error:
            raise UserError(
                f"{path}: not a complete {stage}: {error} (run the stage '{stage}' again)"
            ) from None
        found[path.stem] = (about, rows)
    return found


@dataclass(frozen=True)
class Measured:
    """Facts ``about`` one system on one set, and a row for each utterance."""

    about: dict
    utterances: list[dict]

    @property
    def ids(self) -> list[str]:
        """Ids of the utterances."""
        return [row["id"] for row in self.utterances]


class Scores(Measured):
    """The scores of one system on one set."""

    @property
    def silent(self) -> list[str]:
        """Utterances in which a talker's stream is silent: their mean SI-SNR would be minus infinity."""
        return [row["id"] for row in self.utterances if row["silent"]]

    def refused(self, measure: str) -> list[str]:
        """Utterances with a talker that ``measure`` gave no score."""
        return [row["id"] for row in self.utterances if None in row.get(measure, [])]

    def values(self, measure: str) -> np.ndarray:
        """Return ``(n,)``, the mean over the talkers that have a value, nan where none has."""
        result = []
        for row in self.utterances:
            found = row.get(measure)
            found = [v for v in (found if isinstance(found, list) else [found]) if v is not None]
            result.append(np.mean(found) if found else np.nan)
        return np.array(result)


class Words(Measured):
    """The word errors of one system on one set."""

    @property
    def recogniser(self) -> str | None:
        """What identifies the recogniser of this system's streams."""
        return self.about.get("asr_fingerprint") or self.about.get("asr")

    def count(self, key: str) -> np.ndarray:
        """Return ``(n,)``: ``errors``, ``words``, ``insertions`` ... of each utterance."""
        return np.array([row[key] for row in self.utterances])

    def count_of(self, measure: str, key: str) -> np.ndarray | None:
        """Return ``(n,)`` of cpCER (``characters``) or ORC-WER (``orc``); None where it was not counted."""
        found = [row.get(measure) for row in self.utterances]
        return None if None in found else np.array([one[key] for one in found if one is not None])


def load_scores(directory: Path) -> dict[str, Scores]:
    """Read every system's scores in ``directory``; empty if there is none."""
    return {name: Scores(*measured) for name, measured in read_measured(directory, "score").items()}


def load_words(directory: Path) -> dict[str, Words]:
    """Read every system's word errors in ``directory``; an error if they are of different utterances."""
    found = {name: Words(*measured) for name, measured in read_measured(directory, "wer").items()}
    # Which form of an alternative was said, and so the number of words, depends on the system.
    counted = {
        name: [(row["id"], -row["choices"] if "choices" in row else row["words"]) for row in words.utterances]
        for name, words in found.items()
    }
    first = next(iter(found), "")
    for name in found:
        if counted[name] != counted[first]:
            raise UserError(
                f"{directory}: {name} and {first} were counted on different utterances "
                "(run the stages 'decode' and 'wer' again)"
            )
    return found
