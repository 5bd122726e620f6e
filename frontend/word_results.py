"""From word errors of utterances to the numbers of the report: columns, comparisons, sources of errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frontend.errors import UserError, did_you_mean
from frontend.intervals import paired_ratio
from frontend.results import entry, read_measured
from frontend.wer import KINDS, word_error_rate

_DECIMALS = 4
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
