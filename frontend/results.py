"""From per-utterance scores to the numbers of the report: rows, comparisons, over-separation.

Everything is averaged over the talkers of an utterance first, then over the
utterances, which are what the intervals resample.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frontend.errors import UserError
from frontend.intervals import bootstrap_interval, paired_difference, paired_ratio
from frontend.systems import System

_DECIMALS = 4
# (better, than): the differences that the method claims.
CLAIMS = (
    ("student", "teacher_energy"),
    ("student", "ilrma"),
    ("student_ft", "student"),
    ("student_ft", "supervised_small"),
    ("distilled_ft", "supervised_small"),
    ("distilled_ft", "student_ft"),
    ("joint", "student_ft"),
)
FULL = "supervised_full"
SEMI_SUPERVISED = ("student_ft", "distilled", "distilled_ft")
# Of a talker alone: (more over-separation, less).
OVER_SEPARATION_CLAIM = ("teacher_energy", "student")
OVER_SEPARATION = ("surplus_outputs", "energy_outside_best")
SIGNAL_COLUMNS = ("si_snr", "si_snri", "si_snri_ci", "sdr", "stoi", "pesq", "over_separation")


@dataclass(frozen=True)
class Scores:
    """The scores of one system on one set: ``about`` it, and one entry of ``utterances`` each."""

    about: dict
    utterances: list[dict]

    @property
    def ids(self) -> list[str]:
        return [row["id"] for row in self.utterances]

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


def load_scores(directory: Path) -> dict[str, Scores]:
    """Read every system's scores in ``directory``; empty if there is none.

    Raises:
        UserError: a file that is no score.
    """
    return {name: Scores(*measured) for name, measured in read_measured(directory, "score").items()}


def read_measured(directory: Path, stage: str) -> dict[str, tuple[dict, list[dict]]]:
    """Return what a stage measured of every system: what is said about it, and a row for each utterance.

    Raises:
        UserError: a file that is incomplete.
    """
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


def mean(values: np.ndarray) -> float | None:
    """Mean of the finite values, rounded; None if there is none."""
    values = values[np.isfinite(values)]
    return round(float(values.mean()), _DECIMALS) if len(values) else None


def interval(values: np.ndarray, seed: int) -> list[float] | None:
    """95 % interval of :func:`mean`; None if there is no value."""
    values = values[np.isfinite(values)]
    return [round(v, _DECIMALS) for v in bootstrap_interval(values, seed)] if len(values) else None


def table_row(
    system: System, scores: Scores | None, words: dict, about: dict, label_share: float | None, seed: int
) -> dict:
    """Return the row of one system: dB, percent, null where a value does not exist.

    Args:
        system: whose row it is.
        scores: None where there are no streams to score, as of dry speech.
        words: the columns of :func:`frontend.word_results.word_columns`.
        about: ``channels`` and ``n`` of the test set.
        label_share: of the small labelled set.
        seed: of the intervals.
    """
    row = {"system": system.name, "channels": about["channels"], **_signal_columns(scores, seed), **words}
    row["rtf"] = scores.about["info"].get("rtf") if scores else None
    row["n"] = len(scores.utterances) if scores else about["n"]
    if system.labels:
        row["label_share"] = {"full": 1.0, "small": label_share}.get(system.labels, system.labels)
    return row


def _signal_columns(scores: Scores | None, seed: int) -> dict:
    if scores is None:
        return dict.fromkeys(SIGNAL_COLUMNS)
    row = {key: None if scores.silent else mean(scores.values(key)) for key in ("si_snr", "si_snri", "sdr")}
    row |= {key: mean(scores.values(key)) for key in ("stoi", "pesq")}
    row["si_snri_ci"] = None if row["si_snri"] is None else interval(scores.values("si_snri"), seed)
    row["over_separation"] = mean(100 * scores.values("energy_outside_best"))
    return {key: row[key] for key in SIGNAL_COLUMNS}


def claims(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs that are compared: those claimed, and each refined system with what it refines."""
    return [
        *CLAIMS,
        *((name, name.split("+")[0]) for name in names if name.split("+")[0] in names and "+" in name),
    ]


def comparisons(scores: dict[str, Scores], single: dict[str, Scores], seed: int) -> list[dict]:
    """Return the paired comparisons of what was scored: differences in dB or points, ratios in percent."""
    found = [_difference(scores, "si_snri", *pair, 1.0, seed) for pair in claims(list(scores))]
    found += [_share_of_full(scores, name, seed) for name in SEMI_SUPERVISED]
    found += [_difference(single, key, *OVER_SEPARATION_CLAIM, 100.0, seed) for key in OVER_SEPARATION]
    return [entry for entry in found if entry]


def over_separation(
    scores: dict[str, Scores], systems: Sequence[System], talkers: str, seed: int
) -> list[dict]:
    """Return both measures of over-separation (percent, with intervals) of each network, and its outputs.

    Whatever rule makes streams of a network's outputs, the outputs are the same, so that a network has one
    entry, under its own name; a beamformer is no network. Blind methods and unprocessed signals have theirs.
    """
    rows = []
    for system in systems:
        name = system.model or system.name
        if system.name not in scores or system.refine or name in [row["system"] for row in rows]:
            continue
        one = scores[system.name]
        row = {"system": name, "channels": one.about["channels"], "set": talkers, "n": len(one.utterances)}
        row["outputs"] = one.about["info"].get("n_outputs")
        row["active_outputs"] = mean(one.values("active_outputs"))
        for key in OVER_SEPARATION:
            row[key] = mean(100 * one.values(key))
            row[f"{key}_ci"] = interval(100 * one.values(key), seed)
        rows.append(row)
    return rows


def paired(scores: dict[str, Scores], measure: str, a: str, b: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Values of two systems on the utterances where both have one; None if that is no fair comparison."""
    if a not in scores or b not in scores or scores[a].silent or scores[b].silent:
        return None
    if scores[a].ids != scores[b].ids:
        raise UserError(f"{a} and {b} were scored on different utterances (run the stage 'score' again)")
    both = np.stack([scores[name].values(measure) for name in (a, b)])
    both = both[:, np.isfinite(both).all(0)]
    return (both[0], both[1]) if both.size else None


def _difference(scores: dict, measure: str, a: str, b: str, unit: float, seed: int) -> dict | None:
    pair = paired(scores, measure, a, b)
    if pair is None:
        return None
    difference, bounds = paired_difference(unit * pair[0], unit * pair[1], seed)
    return _entry(scores, a, b, f"{measure}_difference", difference, bounds, len(pair[0]))


def _share_of_full(scores: dict, name: str, seed: int) -> dict | None:
    pair = paired(scores, "si_snri", name, FULL)
    if pair is None:
        return None
    ratio, bounds = paired_ratio(100 * pair[0], pair[1], seed)
    return _entry(scores, name, FULL, "si_snri_percent", ratio, bounds, len(pair[0]))


def _entry(scores: dict, a: str, b: str, what: str, value: float, bounds: tuple, n: int) -> dict:
    ci = [round(v, _DECIMALS) for v in bounds]
    return entry(a, b, scores[a].about["channels"], what, round(value, _DECIMALS), ci, n)


def entry(a: str, b: str | None, channels: int, what: str, value: float, ci: list[float], n: int) -> dict:
    """Return a comparison of system ``a`` with ``b`` as it stands in the results."""
    return {
        "system": a,
        "against": b,
        "channels": channels,
        "what": what,
        "value": value,
        "ci": ci,
        "n": n,
    }
