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
# (better, than): the differences in SI-SNRi that the method claims.
CLAIMS = (
    ("student", "teacher_energy"),
    ("student", "ilrma"),
    ("student_ft", "student"),
    ("student_ft", "supervised_small"),
    ("distilled_ft", "supervised_small"),
    ("distilled_ft", "student_ft"),
)
FULL = "supervised_full"
SEMI_SUPERVISED = ("student_ft", "distilled", "distilled_ft")
# Of a talker alone: (more over-separation, less).
OVER_SEPARATION_CLAIM = ("teacher_energy", "student")
OVER_SEPARATION = ("surplus_outputs", "energy_outside_best")


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
    scores = {}
    for path in sorted(directory.glob("*.jsonl")):
        try:
            about = json.loads(path.with_suffix(".json").read_text())
            rows = [json.loads(line) for line in path.read_text().splitlines()]
        except (FileNotFoundError, json.JSONDecodeError) as error:
            raise UserError(f"{path}: not a complete score: {error} (run the stage 'score' again)") from None
        scores[path.stem] = Scores(about, rows)
    return scores


def mean(values: np.ndarray) -> float | None:
    """Mean of the finite values, rounded; None if there is none."""
    values = values[np.isfinite(values)]
    return round(float(values.mean()), _DECIMALS) if len(values) else None


def interval(values: np.ndarray, seed: int) -> list[float] | None:
    """95 % interval of :func:`mean`; None if there is no value."""
    values = values[np.isfinite(values)]
    return [round(v, _DECIMALS) for v in bootstrap_interval(values, seed)] if len(values) else None


def table_row(system: System, scores: Scores, label_share: float | None, seed: int) -> dict:
    """Return the row of one system: dB, percent, null where a value does not exist."""
    level = {key: None if scores.silent else mean(scores.values(key)) for key in ("si_snr", "si_snri", "sdr")}
    outside = mean(100 * scores.values("energy_outside_best"))
    row = {
        "system": system.name,
        "channels": scores.about["channels"],
        "si_snr": level["si_snr"],
        "si_snri": level["si_snri"],
        "si_snri_ci": None if level["si_snri"] is None else interval(scores.values("si_snri"), seed),
        "sdr": level["sdr"],
        "stoi": mean(scores.values("stoi")),
        "pesq": mean(scores.values("pesq")),
        "over_separation": outside,
        "cpwer": None,
        "cpwer_ci": None,
        "rtf": scores.about["info"].get("rtf"),
        "n": len(scores.utterances),
    }
    if system.labels:
        row["label_share"] = 1.0 if system.labels == "full" else label_share
    return row


def comparisons(scores: dict[str, Scores], single: dict[str, Scores], seed: int) -> list[dict]:
    """Return the paired comparisons of what was scored: differences in dB or points, ratios in percent."""
    pairs = [*CLAIMS, *((name, name.removesuffix("+mvdr")) for name in scores if name.endswith("+mvdr"))]
    found = [_difference(scores, "si_snri", *pair, 1.0, seed) for pair in pairs]
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
        if system.name not in scores or system.mvdr or name in [row["system"] for row in rows]:
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


def _paired(scores: dict[str, Scores], measure: str, a: str, b: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Values of two systems on the utterances where both have one; None if that is no fair comparison."""
    if a not in scores or b not in scores or scores[a].silent or scores[b].silent:
        return None
    if scores[a].ids != scores[b].ids:
        raise UserError(f"{a} and {b} were scored on different utterances (run the stage 'score' again)")
    both = np.stack([scores[name].values(measure) for name in (a, b)])
    both = both[:, np.isfinite(both).all(0)]
    return (both[0], both[1]) if both.size else None


def _difference(scores: dict, measure: str, a: str, b: str, unit: float, seed: int) -> dict | None:
    pair = _paired(scores, measure, a, b)
    if pair is None:
        return None
    difference, bounds = paired_difference(unit * pair[0], unit * pair[1], seed)
    return _entry(scores, a, b, f"{measure}_difference", difference, bounds, len(pair[0]))


def _share_of_full(scores: dict, name: str, seed: int) -> dict | None:
    pair = _paired(scores, "si_snri", name, FULL)
    if pair is None:
        return None
    ratio, bounds = paired_ratio(100 * pair[0], pair[1], seed)
    return _entry(scores, name, FULL, "si_snri_percent", ratio, bounds, len(pair[0]))


def _entry(scores: dict, a: str, b: str, what: str, value: float, bounds: tuple, n: int) -> dict:
    ci = [round(v, _DECIMALS) for v in bounds]
    channels = scores[a].about["channels"]
    return {
        "system": a,
        "against": b,
        "channels": channels,
        "what": what,
        "value": round(value, 4),
        "ci": ci,
        "n": n,
    }
