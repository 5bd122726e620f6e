"""From measurements of utterances to the figures of the report: rows, comparisons, sources of errors.

A measure is averaged over the talkers of an utterance first, then over the utterances, which are what the
intervals resample. Error rates are sums of errors over sums of words.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau, spearmanr

from frontend.evaluation.intervals import bootstrap_interval, paired_difference, paired_ratio, rounded
from frontend.evaluation.measured import Scores, Words, load_words
from frontend.evaluation.wer import rate, word_error_rate
from frontend.recognition.text import KINDS
from frontend.separation.systems import System
from frontend.utils.errors import UserError, did_you_mean

# (better, than): the differences that the method claims; of words alone also that separating helps at all.
CLAIMS = (
    ("student", "teacher_energy"),
    ("student", "auxiva+mask"),
    ("student", "auxiva_starts+mask"),
    ("student", "ilrma"),
    ("student", "any_array"),
    ("any_array", "auxiva+mask"),
    ("student", "student_masknet"),
    ("student", "student_gen1"),
    ("student_gen1", "student_labels"),
    ("student_gen1", "student_blind"),
    ("student_gen1", "student_masknet_remix"),
    ("student_ft", "student"),
    ("student_ft", "supervised_small"),
    ("distilled_ft", "supervised_small"),
    ("distilled_ft", "student_ft"),
    ("joint", "student_ft"),
)
WORD_CLAIMS = (("student", "mixture"),)
FULL = "supervised_full"
SEMI_SUPERVISED = ("student_ft", "cotrained", "distilled", "distilled_ft")
# Of a talker alone: (more over-separation, less).
OVER_SEPARATION_CLAIM = ("teacher_energy", "student")
OVER_SEPARATION = ("surplus_outputs", "energy_outside_best")
SIGNAL_COLUMNS = ("si_snr", "si_snri", "si_snri_ci", "sdr", "stoi", "pesq", "over_separation")
DRY, ORACLE = "dry", "oracle"
# An interval of a share of errors needs errors in most resamples of the utterances.
_ENOUGH = 20


def mean(values: np.ndarray) -> float | None:
    """Return the mean of the finite values, rounded; None if there is none."""
    values = values[np.isfinite(values)]
    return rounded(values.mean()) if len(values) else None


def interval(values: np.ndarray, seed: int) -> list[float] | None:
    """Return the 95 % interval of :func:`mean`; None if there is no value."""
    values = values[np.isfinite(values)]
    return rounded(bootstrap_interval(values, seed)) if len(values) else None


# --- the columns of a row


def table_row(
    system: System, scores: Scores | None, words: dict, about: dict, label_share: float | None, seed: int
) -> dict:
    """Return the row of one system: dB, percent, null where a value does not exist.

    Args:
        system: whose row it is.
        scores: None where there are no streams to score, as of dry speech.
        words: the columns of :func:`word_columns`.
        about: ``channels`` and ``n`` of the test set.
        label_share: of the small labelled set.
        seed: of the intervals, here and below.
    """
    row = {"system": system.name, "channels": about["channels"], **_signal_columns(scores, seed), **words}
    row["rtf"] = scores.about["info"].get("rtf") if scores else None
    row["n"] = len(scores.utterances) if scores else about["n"]
    if system.labels:
        known: dict = {"full": 1.0, "small": label_share}
        row["label_share"] = known.get(system.labels, system.labels)
    return row


def _signal_columns(scores: Scores | None, seed: int) -> dict:
    if scores is None:
        return dict.fromkeys(SIGNAL_COLUMNS)
    row: dict = {
        key: None if scores.silent else mean(scores.values(key)) for key in ("si_snr", "si_snri", "sdr")
    }
    row |= {key: mean(scores.values(key)) for key in ("stoi", "pesq")}
    row["si_snri_ci"] = None if row["si_snri"] is None else interval(scores.values("si_snri"), seed)
    row["over_separation"] = mean(100 * scores.values("energy_outside_best"))
    return {key: row[key] for key in SIGNAL_COLUMNS}


def word_columns(words: Words | None, separated: Words | None, seed: int) -> dict:
    """Return the columns of word errors of a row: percent of the reference words, null where not counted.

    ``words`` are of the recogniser that all rows share, ``separated`` of one trained on separated speech.
    """
    counted = words.utterances if words else []
    row = rate(counted, "cpwer", seed)
    for kind in KINDS:
        row[kind] = words and rounded(100 * words.count(kind).sum() / words.count("words").sum())
    row["words"] = words and int(words.count("words").sum())
    row |= rate(counted, "cpcer", seed) | rate(counted, "orcwer", seed)
    retrained = rate(separated.utterances if separated else [], "cpwer", seed)
    return row | {key.replace("cpwer", "cpwer_separated"): value for key, value in retrained.items()}


def over_separation(
    scores: dict[str, Scores], systems: Sequence[System], talkers: str, seed: int
) -> list[dict]:
    """Return both measures of over-separation (percent, with intervals) of each network, and its outputs.

    Whatever rule makes streams of a network's outputs, the outputs are the same, so that a network has one
    entry, under its own name; a beamformer is no network. Blind methods and unprocessed signals have theirs.
    """
    rows: list[dict] = []
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


def counted(
    scores: Mapping[str, Scores],
    single: Mapping[str, Scores],
    systems: Sequence[System],
    seed: int,
) -> list[dict]:
    """Count talkers by active streams (:data:`frontend.dsp.metrics.ACTIVE_DB`) and compare with the truth.

    A network with an output for each of up to three talkers should leave one silent where two talk.

    The scores are of the test set and of the ``single`` set of one talker, which may be empty. ``mixture``,
    whose streams are all the same, has no entry. Where two talk at most, only mixtures of one are counted:
    there are no more streams than two.

    Returns:
        an entry for each system and true number of talkers, ``{system, channels, talkers, n, active:
        {number: mixtures}, right, surplus, missing, si_snri}``. Percent of the mixtures, with ``.._ci``: the
        number is right; more streams are active than talk; fewer are. SI-SNRi in dB, None where a talker's
        stream is silent in some mixture.

    Raises:
        UserError: scores that were made before active streams were counted.
    """
    entries: list[dict] = []
    most = max((row["talkers"] for one in scores.values() for row in one.utterances), default=0)
    for system in systems:
        if system.name == "mixture" or system.name not in scores:
            continue
        about = {"system": system.name, "channels": scores[system.name].about["channels"]}
        rows = [*scores[system.name].utterances, *getattr(single.get(system.name), "utterances", [])]
        for talkers in sorted({row["talkers"] for row in rows if most > 2 or row["talkers"] == 1}):
            those = [row for row in rows if row["talkers"] == talkers]
            entries.append({**about, **_counted_entry(those, talkers, seed)})
    return entries


def _counted_entry(rows: list[dict], talkers: int, seed: int) -> dict:
    for row in rows:
        if "active_streams" not in row:
            raise UserError(
                f"scores of {row['id']}: expected 'active_streams', found none (run the stage 'score' again)"
            )
    active = np.array([row["active_streams"] for row in rows])
    counts = {str(number): count for number, count in sorted(Counter(active.tolist()).items())}
    found = {"talkers": talkers, "n": len(rows), "active": counts}
    kinds = {"right": active == talkers, "surplus": active > talkers, "missing": active < talkers}
    for name, met in kinds.items():
        found[name], found[f"{name}_ci"] = mean(100.0 * met), interval(100.0 * met, seed)
    scores = Scores({}, rows)
    gains = np.array([]) if scores.silent else scores.values("si_snri")
    return found | {"si_snri": mean(gains), "si_snri_ci": interval(gains, seed)}


# --- comparisons of two systems


def claims(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs that are compared: those claimed, and each refined system with what it refines."""
    refined = [(name, name.split("+")[0]) for name in names if "+" in name]
    return [*CLAIMS, *(pair for pair in refined if pair[1] in names)]


def comparisons(scores: dict[str, Scores], single: dict[str, Scores], seed: int) -> list[dict]:
    """Return the paired comparisons of what was scored: differences in dB or points, ratios in percent."""
    found = [_compared(scores, "si_snri_difference", *pair, 1.0, seed) for pair in claims(list(scores))]
    found += [_compared(scores, "si_snri_percent", name, FULL, 100.0, seed) for name in SEMI_SUPERVISED]
    found += [
        _compared(single, f"{key}_difference", *OVER_SEPARATION_CLAIM, 100.0, seed) for key in OVER_SEPARATION
    ]
    return [one for one in found if one]


def paired(scores: dict[str, Scores], measure: str, a: str, b: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return values of two systems on the utterances where both have one; None if a stream is silent."""
    if a not in scores or b not in scores or scores[a].silent or scores[b].silent:
        return None
    if scores[a].ids != scores[b].ids:
        raise UserError(f"{a} and {b} were scored on different utterances (run the stage 'score' again)")
    both = np.stack([scores[name].values(measure) for name in (a, b)])
    both = both[:, np.isfinite(both).all(0)]
    return (both[0], both[1]) if both.size else None


def _compared(scores: dict, what: str, a: str, b: str, unit: float, seed: int) -> dict | None:
    """Return the difference of ``a`` and ``b`` in ``what``, or ``a`` in percent of ``b``."""
    measure, _, kind = what.rpartition("_")
    pair = paired(scores, measure, a, b)
    if pair is None:
        return None
    if kind == "percent":
        found = paired_ratio(unit * pair[0], pair[1], seed)
    else:
        found = paired_difference(unit * pair[0], unit * pair[1], seed)
    return _entry(a, b, scores[a].about["channels"], what, *found, len(pair[0]))


def _entry(
    a: str, b: str | None, channels: int, what: str, value: float, ci: Sequence[float], n: int
) -> dict:
    """Return a comparison of system ``a`` with ``b`` as it stands in the results."""
    about = {"system": a, "against": b, "channels": channels, "what": what}
    return {**about, "value": rounded(value), "ci": rounded(ci), "n": n}


def word_comparisons(
    words: Mapping[str, Words], pairs: Sequence[tuple[str, str]], channels: int, seed: int
) -> list[dict]:
    """Return the paired differences in cpWER of those pairs that were counted, in points."""
    return [
        _entry(a, b, channels, "cpwer_difference", *_cpwer_difference(words, a, b, seed), len(words[a].ids))
        for a, b in pairs
        if a in words and b in words
    ]


def _cpwer_difference(
    words: Mapping[str, Words], a: str, b: str, seed: int
) -> tuple[float, tuple[float, float]]:
    errors = words[a].count("errors") - words[b].count("errors")
    return word_error_rate(errors, words[a].count("words"), seed)


def compared(directory: Path, a: str, b: str, seed: int) -> str:
    """Return a line with the paired difference in cpWER of system ``a`` from ``b``, both in ``directory``."""
    words = load_words(directory)
    for name in (a, b):
        if name not in words:
            there = f"; there are {', '.join(words)}" if words else " (run the stage 'wer' first)"
            raise UserError(
                f"{directory}: no word errors of a system '{name}'{did_you_mean(name, words) or there}"
            )
    value, (low, high) = _cpwer_difference(words, a, b, seed)
    rates = [100 * words[name].count("errors").sum() / words[name].count("words").sum() for name in (a, b)]
    relative = f"{100 * value / rates[1]:+.1f} % relative" if rates[1] else "no errors to compare with"
    line = f"{a} - {b}: cpWER {rates[0]:.1f} - {rates[1]:.1f} = {value:+.1f} points"
    line += f" (95 % interval {low:+.1f} to {high:+.1f}), n = {len(words[a].ids)} utterances, {relative}"
    return line if _same_recogniser(words, a, b) else f"{line}; recognised by different recognisers"


def error_sources(words: Mapping[str, Words], names: Sequence[str], channels: int, seed: int) -> list[dict]:
    """Attribute the word errors to the recogniser, the room and the separation.

    The recogniser's own errors are those on clean dry speech; the rooms' what true images have more; the
    separation's what a system's streams have more than true images. Only for systems of one recogniser.
    ``names`` are the systems, in the order of the rows.

    Returns:
        per system and source (``what``): points of cpWER, and their share of the system's errors in percent.
    """
    chain = [(DRY, None, "recogniser"), (ORACLE, DRY, "rooms")]
    chain += [(name, ORACLE, "separation") for name in names if name not in (DRY, ORACLE)]
    found = []
    for name, against, source in chain:
        if name not in words or (against and not _same_recogniser(words, name, against)):
            continue
        errors = words[name].count("errors")
        more = errors - (words[against].count("errors") if against else 0)
        points = word_error_rate(more, words[name].count("words"), seed)
        one = _entry(name, against, channels, source, *points, len(words[name].ids))
        found.append(one | _share(more, errors, seed))
    return found


def _share(part: np.ndarray, errors: np.ndarray, seed: int) -> dict:
    if not errors.any():
        return {"share": None, "share_ci": None}
    if np.count_nonzero(errors) < _ENOUGH:
        return {"share": rounded(100 * part.sum() / errors.sum()), "share_ci": None}
    share, ci = paired_ratio(100 * part, errors, seed)
    return {"share": rounded(share), "share_ci": rounded(ci)}


def _same_recogniser(words: Mapping[str, Words], a: str, b: str) -> bool:
    return b in words and words[a].recogniser == words[b].recogniser


def rank_order(
    scores: Mapping[str, Scores], words: Mapping[str, Words], names: Sequence[str], channels: int
) -> list[dict]:
    """Compare the order of the systems by SI-SNRi with that by cpWER: Kendall's tau and Spearman's rho.

    Ordered are the systems that have a finite SI-SNRi, as many streams as talkers (surplus streams cost
    words, but no SI-SNRi), and the recogniser that most of them share.

    Returns:
        one entry ``{channels, systems, kendall, spearman}`` (1: the same order, None: no order at all); none
        for fewer than three systems.
    """
    both = [name for name in names if name in scores and name in words]
    for name in both:
        if scores[name].ids != words[name].ids:
            raise UserError(
                f"{name}: word errors and scores are of different utterances "
                "(run the stages 'score', 'decode' and 'wer' again)"
            )
    both = [
        name
        for name in both
        if not scores[name].silent
        and np.isfinite(scores[name].values("si_snri")).any()
        and words[name].about["streams"] == scores[name].about["talkers"]
    ]
    recognisers = [words[name].recogniser for name in both]
    both = [name for name in both if words[name].recogniser == max(recognisers, key=recognisers.count)]
    if len(both) < 3:
        return []
    rates = [words[name].count("errors").sum() / words[name].count("words").sum() for name in both]
    quality = [[np.nanmean(scores[name].values("si_snri")) for name in both], np.negative(rates)]
    correlations = {"kendall": kendalltau(*quality).statistic, "spearman": spearmanr(*quality).statistic}
    return [{"channels": channels, "systems": both, **rounded(correlations)}]
