"""From per-utterance scores to the numbers of the report: rows, comparisons, over-separation.

Everything is averaged over the talkers of an utterance first, then over the
utterances, which are what the intervals resample.

How many talk, by the streams that sound: counted against the truth, system by system.

A network with an output for each of up to three talkers should leave one silent where two talk.
A stream counts as a talker if it is active (:data:`frontend.dsp.metrics.ACTIVE_DB`); nothing is
told how many there are.

From word errors of utterances to the numbers of the report: columns, comparisons, sources of errors.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frontend.evaluation.intervals import bootstrap_interval, paired_difference, paired_ratio
from frontend.evaluation.wer import word_error_rate
from frontend.recognition.text import KINDS
from frontend.separation.systems import System
from frontend.utils.errors import UserError, did_you_mean

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
        words: the columns of :func:`frontend.evaluation.results.word_columns`.
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


def counted(
    scores: Mapping[str, Scores],
    single: Mapping[str, Scores],
    systems: Sequence[System],
    seed: int,
    least: int = 1,
) -> list[dict]:
    """Return the talkers counted of each system, one entry for each true number.

    Args:
        scores: of the test set.
        single: of the set of one talker; may be empty.
        systems: the rows wanted; ``mixture``, whose streams are all the same, has no entry.
        seed: of the intervals.
        least: nothing is returned where no mixture has so many talkers.

    Returns:
        entries ``{system, channels, talkers, n, active: {number: mixtures}, right, surplus, missing,
        si_snri}``. Percent of the mixtures, with ``.._ci``: the number is right; more streams are active than
        talk; fewer are. SI-SNRi in dB, None where a talker's stream is silent in some mixture.

    Raises:
        UserError: scores that were made before active streams were counted.
    """
    entries = []
    most = max((row["talkers"] for one in scores.values() for row in one.utterances), default=0)
    for system in systems:
        if most < least or system.name == "mixture" or system.name not in scores:
            continue
        rows = [*scores[system.name].utterances, *getattr(single.get(system.name), "utterances", [])]
        channels = scores[system.name].about["channels"]
        for talkers in sorted({row["talkers"] for row in rows}):
            those = [row for row in rows if row["talkers"] == talkers]
            entries.append(
                {"system": system.name, "channels": channels, **_counted_entry(those, talkers, seed)}
            )
    return entries


def _counted_entry(rows: list[dict], talkers: int, seed: int) -> dict:
    active = np.array([_active(row) for row in rows])
    entry = {"talkers": talkers, "n": len(rows), "active": dict(sorted(Counter(active.tolist()).items()))}
    kinds = {"right": active == talkers, "surplus": active > talkers, "missing": active < talkers}
    for name, met in kinds.items():
        entry[name], entry[f"{name}_ci"] = mean(100.0 * met), interval(100.0 * met, seed)
    gains = Scores({}, rows).values("si_snri")
    audible = not any(row["silent"] for row in rows) and np.isfinite(gains).any()
    entry["si_snri"] = mean(gains) if audible else None
    entry["si_snri_ci"] = interval(gains, seed) if audible else None
    return entry


def _active(row: Mapping) -> int:
    if "active_streams" not in row:
        raise UserError(
            f"scores of {row['id']}: expected 'active_streams', found none (run the stage 'score' again)"
        )
    return row["active_streams"]


DRY, ORACLE = "dry", "oracle"
# Claimed of words alone: that separating helps at all is what SI-SNRi itself says.
WORD_CLAIMS = (("student", "mixture"),)
# An interval of a share of errors needs errors in most resamples of the utterances.
_ENOUGH = 20


@dataclass(frozen=True)
class Words:
    """The word errors of one system on one set: ``about`` it, and one entry of ``utterances`` each."""

    about: dict
    utterances: list[dict]

    @property
    def ids(self) -> list[str]:
        return [row["id"] for row in self.utterances]

    def count(self, key: str) -> np.ndarray:
        """Return ``(n,)``: ``errors``, ``words``, ``insertions`` ... of each utterance."""
        return np.array([row[key] for row in self.utterances])

    def characters(self, key: str) -> np.ndarray | None:
        """Return ``(n,)``: ``errors`` or ``characters`` of cpCER; None in a count that is older than it."""
        found = [row.get("characters") for row in self.utterances]
        return None if None in found else np.array([one[key] for one in found])

    def orc_errors(self) -> np.ndarray | None:
        """Return ``(n,)``, None where ORC-WER was not wanted."""
        found = [row["orc"] for row in self.utterances]
        return None if None in found else np.array([one["errors"] for one in found])


def load_words(directory: Path) -> dict[str, Words]:
    """Read every system's word errors in ``directory``; empty if there is none.

    Raises:
        UserError: a file that is no count, or systems counted on different utterances.
    """
    found = {name: Words(*measured) for name, measured in read_measured(directory, "wer").items()}
    first = next(iter(found), None)
    for name, words in found.items():
        said = [[(row["id"], row["words"]) for row in one.utterances] for one in (words, found[first])]
        if said[0] != said[1]:
            raise UserError(
                f"{directory}: {name} and {first} were counted on different utterances "
                "(run the stages 'decode' and 'wer' again)"
            )
    return found


def word_columns(words: Words | None, separated: Words | None, seed: int) -> dict:
    """Return the columns of a row that tell of words: percent of the words said, null where not counted.

    Args:
        words: of the recogniser that all rows share.
        separated: of one trained on separated speech.
        seed: of the intervals.
    """
    row = _word_rate("cpwer", words, seed)
    for kind in KINDS:
        total = None if words is None else 100 * words.count(kind).sum() / words.count("words").sum()
        row[kind] = None if total is None else round(float(total), _DECIMALS)
    row["words"] = None if words is None else int(words.count("words").sum())
    spelt = (words and words.characters(key) for key in ("errors", "characters"))
    row |= _rate("cpcer", *spelt, seed)
    row |= _rate("orcwer", words and words.orc_errors(), words and words.count("words"), seed)
    return row | _word_rate("cpwer_separated", separated, seed)


def _word_rate(name: str, words: Words | None, seed: int) -> dict:
    return _rate(name, words and words.count("errors"), words and words.count("words"), seed)


def _rate(name: str, errors: np.ndarray | None, said: np.ndarray | None, seed: int) -> dict:
    if errors is None:
        return {name: None, f"{name}_ci": None}
    rate, ci = word_error_rate(errors, said, seed)
    return {name: round(rate, _DECIMALS), f"{name}_ci": _rounded(ci)}


def difference(words: Mapping[str, Words], a: str, b: str, seed: int) -> tuple[float, list[float]]:
    """Return the paired difference in cpWER, ``a - b`` in points, and its interval."""
    errors = words[a].count("errors") - words[b].count("errors")
    value, ci = word_error_rate(errors, words[a].count("words"), seed)
    return round(value, _DECIMALS), _rounded(ci)


def compared(directory: Path, a: str, b: str, seed: int) -> str:
    """Say in a line what the paired difference in cpWER of two systems is.

    Args:
        directory: with the word errors of both.
        a, b: their names; the difference is that of ``a`` from ``b``.
        seed: of the interval.

    Raises:
        UserError: a system that was not counted, or counts that do not belong together.
    """
    words = load_words(directory)
    for name in (a, b):
        if name not in words:
            there = f"; there are {', '.join(words)}" if words else " (run the stage 'wer' first)"
            raise UserError(
                f"{directory}: no word errors of a system '{name}'{did_you_mean(name, words) or there}"
            )
    value, (low, high) = difference(words, a, b, seed)
    rates = [_word_rate("cpwer", words[name], seed)["cpwer"] for name in (a, b)]
    relative = f"{100 * value / rates[1]:+.1f} % relative" if rates[1] else "no errors to compare with"
    line = f"{a} - {b}: cpWER {rates[0]:.1f} - {rates[1]:.1f} = {value:+.1f} points"
    line += f" (95 % interval {low:+.1f} to {high:+.1f}), n = {len(words[a].ids)} utterances, {relative}"
    return line if _same_recogniser(words, a, b) else f"{line}; heard by different recognisers"


def word_comparisons(
    words: Mapping[str, Words], pairs: Sequence[tuple[str, str]], channels: int, seed: int
) -> list[dict]:
    """Return the paired differences in cpWER of those pairs that were counted, in points."""
    return [
        entry(*pair, channels, "cpwer_difference", *difference(words, *pair, seed), len(words[pair[0]].ids))
        for pair in pairs
        if all(name in words for name in pair)
    ]


def error_sources(words: Mapping[str, Words], names: Sequence[str], channels: int, seed: int) -> list[dict]:
    """Say where the words are lost: in the recogniser, in the room, in the separation.

    The recogniser's own errors are those on clean dry speech; the rooms' what true images have more; the
    separation's what a system's streams have more than true images. Only for systems that the same
    recogniser heard.

    Args:
        words: by system.
        names: the systems, in the order of the rows.
        channels: of the test set.
        seed: of the intervals.

    Returns:
        per system and ``source``: points of cpWER, and their share of the system's errors in percent.
    """
    chain = [(DRY, None, "recogniser"), (ORACLE, DRY, "rooms")]
    chain += [(name, ORACLE, "separation") for name in names if name not in (DRY, ORACLE)]
    found = []
    for name, against, source in chain:
        if name not in words or (against and not _same_recogniser(words, name, against)):
            continue
        errors, n = words[name].count("errors"), len(words[name].ids)
        more = errors - (words[against].count("errors") if against else 0)
        value, ci = word_error_rate(more, words[name].count("words"), seed)
        one = entry(name, against, channels, source, round(value, _DECIMALS), _rounded(ci), n)
        found.append(one | _share(more, errors, seed))
    return found


def _share(part: np.ndarray, errors: np.ndarray, seed: int) -> dict:
    if not errors.any():
        return {"share": None, "share_ci": None}
    if np.count_nonzero(errors) < _ENOUGH:
        return {"share": round(float(100 * part.sum() / errors.sum()), _DECIMALS), "share_ci": None}
    share, ci = paired_ratio(100 * part, errors, seed)
    return {"share": round(share, _DECIMALS), "share_ci": _rounded(ci)}


def recogniser(words: Words) -> str | None:
    """Return what identifies the recogniser that heard a system."""
    return words.about.get("asr_fingerprint") or words.about.get("asr")


def _same_recogniser(words: Mapping[str, Words], a: str, b: str) -> bool:
    return b in words and recogniser(words[a]) == recogniser(words[b])


def _rounded(ci: Sequence[float]) -> list[float]:
    return [round(v, _DECIMALS) for v in ci]
