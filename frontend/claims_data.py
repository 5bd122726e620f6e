"""Several experiments on one test set, such as the training seeds of one recipe: their scores side by side.

Everything is paired by seed and by utterance, so that before anything is computed the experiments are shown
to have the same test set: the same ids, and mixtures with the same SI-SNR, which no training touches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frontend.errors import UserError
from frontend.results import Scores, load_scores
from frontend.run_facts import run_facts
from frontend.seed_intervals import hierarchical
from frontend.word_results import Words, load_words, recogniser

_DECIMALS = 4
_SAME_DB = 0.05  # processors differ in the last digits; another test set differs by whole dB


@dataclass(frozen=True)
class Runs:
    """K experiments: their ``names`` and ``facts``, and by experiment ``{system: Scores or Words}``.

    ``two`` are the scores of the test set, ``one`` those of its one-talker set, ``words`` the word errors.
    """

    names: list[str]
    facts: list[dict]
    two: list[dict[str, Scores]]
    one: list[dict[str, Scores]]
    words: list[dict[str, Words]]

    @property
    def seed(self) -> int:
        """The seed of intervals."""
        return self.facts[0]["seed"]

    @property
    def systems(self) -> list[str]:
        """Every system that some experiment scored."""
        return sorted({name for scores in self.two for name in scores})

    @property
    def n(self) -> int:
        """How many utterances the test set has."""
        return len(_any_of(self.two).ids)

    def signal(self, system: str, measure: str = "si_snri", one_talker: bool = False) -> np.ndarray:
        """Return ``(K, n)``; a row of nan where an experiment has no such scores, or a stream is silent."""
        sets = self.one if one_talker else self.two
        n = len(_any_of(sets).ids) if any(sets) else 1
        return np.stack([_row(scores.get(system), measure, n) for scores in sets])

    def errors(self, system: str, measure: str = "cpwer") -> np.ndarray:
        """Return ``(K, n)`` errors of words or, by cpCER, characters; a row of nan where nobody counted."""
        counted = [words[system] if system in words else None for words in self.words]
        return np.stack([_counts(words, measure, "errors", self.n) for words in counted])

    def spoken(self, measure: str = "cpwer") -> np.ndarray:
        """Return ``(K, n)``, the words or characters said, the same for all; nan where nobody counted."""
        key = "words" if measure == "cpwer" else "characters"
        counted = (_counts(one, measure, key, self.n) for words in self.words for one in words.values())
        said = next((row for row in counted if np.isfinite(row).all()), np.full(self.n, np.nan))
        return np.tile(said, (len(self.names), 1))

    def silent(self, system: str) -> list[str]:
        """Return ``EXPERIMENT: ids`` where a stream of the system is silent, whose SI-SNR does not exist."""
        pairs = zip(self.names, self.two, strict=True)
        return [
            f"{name}: {', '.join(scores[system].silent)}"
            for name, scores in pairs
            if system in scores and scores[system].silent
        ]


def load_runs(paths: Sequence[Path]) -> Runs:
    """Read the experiments of ``paths``, which have ``stages.json``, ``scores/`` and perhaps ``wer/``.

    Raises:
        UserError: an experiment that is not there or named twice, without scores, or of another test set.
    """
    for path in paths:
        if [other.resolve() for other in paths].count(path.resolve()) > 1:
            raise UserError(f"{path}: the same experiment twice; give every seed's directory once")
    facts = [run_facts(path) for path in paths]
    two = [load_scores(path / "scores") for path in paths]
    for path, scores in zip(paths, two, strict=True):
        if not scores:
            raise UserError(f"{path / 'scores'}: no score (run the stage 'score' first)")
    one = [load_scores(path / "scores" / "one_talker") for path in paths]
    words = [load_words(path / "wer") for path in paths]
    _check_same_set([path / "scores" for path in paths], two)
    _check_same_set([path / "scores" / "one_talker" for path in paths], one)
    _check_same_words(paths, two, words)
    names = [path.resolve().name for path in paths]
    unique = len(set(names)) == len(names)
    return Runs(names if unique else [path.as_posix() for path in paths], facts, two, one, words)


def check_recogniser(runs: Runs, systems: Sequence[str]) -> None:
    """Raise a UserError if ``systems`` were not all heard by one recogniser within an experiment."""
    for experiment, words in zip(runs.names, runs.words, strict=True):
        counted = [name for name in systems if name in words]
        for name in counted[1:]:
            if recogniser(words[name]) != recogniser(words[counted[0]]):
                raise UserError(
                    f"{experiment}/wer: {name} and {counted[0]} were heard by different recognisers, their "
                    "cpWER cannot be compared (run the stages 'decode' and 'wer' again)"
                )


def estimate(
    runs: Runs, rows: Sequence[np.ndarray], statistic: Callable[[np.ndarray], np.ndarray], unit: float = 1.0
) -> dict | None:
    """Return a figure for the page: value, interval and each seed's own; None if no seed has all ``rows``.

    Args:
        runs: the experiments.
        rows: J arrays ``(K, n)``; a seed where one of them is nan counts for nothing.
        statistic: of means ``(J, ...)``; nan where it does not exist.
        unit: what the statistic is multiplied by, 100 for percent.
    """
    values = np.stack(rows)
    usable = np.isfinite(values).all((0, 2))
    if not usable.any():
        return None
    found = hierarchical(values[:, usable], lambda means: unit * statistic(means), runs.seed)
    if not np.isfinite(found.value):
        return None
    alone = iter(found.per_seed)
    return {
        "value": round(found.value, _DECIMALS),
        "ci": None if found.ci is None else [round(v, _DECIMALS) for v in found.ci],
        "per_seed": [_finite(next(alone)) if one else None for one in usable],
        "n_seeds": int(usable.sum()),
        "n": values.shape[-1],
    }


def _finite(value: float) -> float | None:
    return round(value, _DECIMALS) if np.isfinite(value) else None


def _counts(words: Words | None, measure: str, key: str, n: int) -> np.ndarray:
    found = words and (words.count(key) if measure == "cpwer" else words.characters(key))
    return np.full(n, np.nan) if found is None else found.astype(float)


def _any_of(sets: Sequence[dict]) -> Scores | Words:
    return next(one for measured in sets for one in measured.values())


def _row(scores: Scores | None, measure: str, n: int) -> np.ndarray:
    if scores is None or (measure == "si_snri" and scores.silent):
        return np.full(n, np.nan)
    return scores.values(measure)


def _check_same_set(paths: Sequence[Path], sets: Sequence[dict[str, Scores]]) -> None:
    """Hold every system of every experiment to the utterances of the first, and to its mixtures."""
    there = [(path, measured) for path, measured in zip(paths, sets, strict=True) if measured]
    if not there:
        return
    first_path, first = there[0]
    one = _any_of([first])
    for path, measured in there:
        for name, scores in measured.items():
            if scores.ids != one.ids or scores.about["talkers"] != one.about["talkers"]:
                raise UserError(
                    f"{path}: {name} was scored on other utterances than {first_path} has; expected one test "
                    "set (the same data and --seed, another --train_seed)"
                )
        gap = _mixture_gap(first, measured)
        if gap > _SAME_DB:
            raise UserError(
                f"{path}: the mixtures differ from those of {first_path} by up to {gap:.1f} dB in SI-SNR; "
                "expected one test set (the same data and --seed, another --train_seed)"
            )


def _mixture_gap(a: dict[str, Scores], b: dict[str, Scores]) -> float:
    """By how many dB the SI-SNR of an unprocessed mixture differs at most; 0 where it was not scored."""
    if "mixture" not in a or "mixture" not in b:
        return 0.0
    gap = np.abs(a["mixture"].values("si_snr") - b["mixture"].values("si_snr"))
    return float(np.nanmax(gap)) if np.isfinite(gap).any() else 0.0


def _check_same_words(paths: Sequence[Path], scores: Sequence[dict], words: Sequence[dict]) -> None:
    said = {}
    for path, measured, counted in zip(paths, scores, words, strict=True):
        if not counted:
            continue
        one = _any_of([counted])
        if one.ids != _any_of([measured]).ids:
            raise UserError(
                f"{path / 'wer'}: words were counted on other utterances than {path / 'scores'} has "
                "(run the stages 'score', 'decode' and 'wer' again)"
            )
        said[path] = [(row["id"], row["words"]) for row in one.utterances]
        first = next(iter(said))
        if said[path] != said[first]:
            raise UserError(
                f"{path / 'wer'}: other words were said than in {first / 'wer'}; expected one test set "
                "(the same data and --seed, another --train_seed)"
            )
