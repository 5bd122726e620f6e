"""The table over several runs: experiments on one test set that differ in their training seed.

Any row has a mean over seeds and utterances (:func:`figure`), any two rows a paired difference
(:func:`difference`), any row a share of what another one improves (:func:`share_of`); all with intervals
over seeds and utterances. The experiments must have one test set: the same ids, and mixtures with the same
SI-SNR, which no training touches.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frontend.evaluation.intervals import hierarchical, ratio, rounded
from frontend.evaluation.measured import Scores, Words, load_scores, load_words
from frontend.evaluation.results import OVER_SEPARATION
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.provenance import run_facts

_SAME_DB = 0.05  # processors differ in the last digits; another test set differs by whole dB
ERROR_RATES = ("cpwer", "cpcer")
MEASURES = ("si_snri", *ERROR_RATES)
# Percent, of the test set of two talkers and of that of one: the number ends the key.
SEPARATION_KEYS = tuple(f"{measure}_{talkers}" for talkers in (2, 1) for measure in OVER_SEPARATION)

# A row: the name of a system that all experiments have, or (experiment, system) for each seed.
Row = str | Sequence[tuple[int, str]]


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

    def values(self, row: Row, measure: str) -> np.ndarray:
        """Return ``(K, n)``: dB, shares or counts; nan for a seed without them, or with a silent stream."""
        places = [(k, row) for k in range(len(self.names))] if isinstance(row, str) else row
        if measure in ERROR_RATES:
            counted = [_counts(self.words[k].get(name), measure, "errors") for k, name in places]
            return np.stack([np.full(self.n, np.nan) if one is None else one for one in counted])
        name, _, talkers = measure.rpartition("_") if measure in SEPARATION_KEYS else (measure, "", "2")
        sets = self.one if talkers == "1" else self.two
        found = np.full((len(places), len(_any_of(sets).ids) if any(sets) else 1), np.nan)
        for value, (k, system) in zip(found, places, strict=True):
            scores = sets[k].get(system)
            if scores is not None and not (name == "si_snri" and scores.silent):
                value[:] = scores.values(name)
        return found

    def spoken(self, measure: str = "cpwer") -> np.ndarray:
        """Return ``(n,)``, the words or characters said; nan where nobody counted."""
        key = "words" if measure == "cpwer" else "characters"
        counted = (_counts(one, measure, key) for words in self.words for one in words.values())
        return next((one for one in counted if one is not None), np.full(self.n, np.nan))

    def silent(self, system: str) -> list[str]:
        """Return ``EXPERIMENT: ids`` where a stream of the system is silent, whose SI-SNR does not exist."""
        return [
            f"{name}: {', '.join(scores[system].silent)}"
            for name, scores in zip(self.names, self.two, strict=True)
            if system in scores and scores[system].silent
        ]


def _any_of(sets: Sequence[dict]) -> Scores | Words:
    return next(one for measured in sets for one in measured.values())


def _counts(words: Words | None, measure: str, key: str) -> np.ndarray | None:
    if words is None:
        return None
    found = words.count(key) if measure == "cpwer" else words.count_of("characters", key)
    return None if found is None else found.astype(float)


# --- reading


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
    _check_same_set(paths, {"scores": two, "scores/one_talker": one, "wer": words})
    names = [path.resolve().name for path in paths]
    unique = len(set(names)) == len(names)
    return Runs(names if unique else [path.as_posix() for path in paths], facts, two, one, words)


def _check_same_set(paths: Sequence[Path], kinds: dict[str, list]) -> None:
    """Compare every system of every experiment with the utterances, words and mixtures of the first one."""
    wanted = "expected one test set (the same data and --seed, another --train_seed)"
    for kind, sets in kinds.items():
        there = [(path / kind, measured) for path, measured in zip(paths, sets, strict=True) if measured]
        for where, measured in there:
            first_where, first = there[0]
            for name, one in measured.items():
                if _identity(one) != _identity(_any_of([first])):
                    raise UserError(
                        f"{where}: {name} is of other utterances or words than {first_where}; {wanted}"
                    )
            if kind != "wer" and "mixture" in first and "mixture" in measured:
                gap = np.abs(first["mixture"].values("si_snr") - measured["mixture"].values("si_snr"))
                if np.isfinite(gap).any() and np.nanmax(gap) > _SAME_DB:
                    raise UserError(
                        f"{where}: the mixtures differ from those of {first_where} by up to "
                        f"{np.nanmax(gap):.1f} dB in SI-SNR; {wanted}"
                    )
    for path, scores, words in zip(paths, kinds["scores"], kinds["wer"], strict=True):
        if words and _any_of([words]).ids != _any_of([scores]).ids:
            raise UserError(
                f"{path / 'wer'}: words were counted on other utterances than {path / 'scores'} has "
                "(run the stages 'score', 'decode' and 'wer' again)"
            )


def _identity(one: Scores | Words) -> tuple:
    """Return what two systems on one test set have in common: utterances and talkers, or the words said."""
    if isinstance(one, Words):
        return one.ids, one.count("words").tolist()
    return one.ids, one.about["talkers"]


# --- figures of any rows


def figure(runs: Runs, row: Row, measure: str) -> dict | None:
    """Return the mean of a row: dB of ``si_snri``, percent of all other measures; see :func:`difference`."""
    return _estimate(runs, measure, [runs.values(row, measure)])


def difference(runs: Runs, a: Row, b: Row, measure: str) -> dict | None:
    """Return by how much row ``a`` exceeds ``b``, paired by seed and utterance: dB, or points of percent.

    The measure is of :data:`MEASURES` or :data:`SEPARATION_KEYS`.

    Returns:
        ``{value, ci, per_seed, n_seeds, n}``. Seeds that lack a row are None in ``per_seed`` and count for
        nothing else; ``ci`` is None where too many resamples have no value. None if no seed has all rows.
    """
    return _estimate(runs, measure, [runs.values(a, measure) - runs.values(b, measure)])


def share_of(runs: Runs, row: Row, full: Row, measure: str) -> dict | None:
    """Return which share of the improvement by ``full`` a row reaches, in percent; see :func:`difference`.

    By SI-SNRi it is ``SI-SNRi(row) / SI-SNRi(full)``, by error rates ``(mixture - row) / (mixture - full)``,
    ratios of means over all seeds; None where ``full`` improves nothing.
    """
    values = [runs.values(one, measure) for one in (row, full)]
    if measure in ERROR_RATES:
        base = runs.values("mixture", measure)
        values = [base - one for one in values]
    return _figure(runs, values, lambda means: 100 * ratio(means))


def _estimate(runs: Runs, measure: str, values: list[np.ndarray]) -> dict | None:
    if measure in ERROR_RATES:
        lengths = np.tile(runs.spoken(measure), (len(values[0]), 1))
        return _figure(runs, [*values, lengths], lambda means: 100 * ratio(means))
    unit = 100 if measure in SEPARATION_KEYS else 1
    return _figure(runs, values, lambda means: unit * means[0])


def _figure(
    runs: Runs, rows: Sequence[np.ndarray], statistic: Callable[[np.ndarray], np.ndarray]
) -> dict | None:
    """Return a figure of J rows ``(K, n)``; ``statistic`` is of means ``(J, ...)``, nan where it has none."""
    values = np.stack(rows)
    usable = np.isfinite(values).all((0, 2))
    if not usable.any():
        return None
    found = hierarchical(values[:, usable], statistic, runs.seed)
    if not np.isfinite(found.value):
        return None
    alone = iter(found.per_seed)
    return {
        "value": rounded(found.value),
        "ci": rounded(found.ci),
        "per_seed": [rounded(next(alone)) if one else None for one in usable],
        "n_seeds": int(usable.sum()),
        "n": values.shape[-1],
    }


# --- one system against another, in any experiments

Side = Sequence[tuple[Path, str]]


def parse_side(text: str) -> tuple[Path, str]:
    """Split ``EXPERIMENT:SYSTEM`` at its last colon.

    >>> parse_side("exp/espeak:student+iva")
    (PosixPath('exp/espeak'), 'student+iva')
    """
    path, _, system = text.rpartition(":")
    if not path or not system:
        raise UserError(f"'{text}': expected EXPERIMENT:SYSTEM, such as exp/espeak:student")
    return Path(path), system


def compare_runs(a: Side, b: Side) -> dict:
    """Return the paired differences ``a - b`` in SI-SNRi (dB), cpWER and cpCER (points), with 95 % intervals.

    A side is experiment and system, one a training seed, the k-th of ``a`` paired with the k-th of ``b``.

    Returns:
        ``a``, ``b`` (as they were named), ``si_snri``, ``cpwer``, ``cpcer`` (None where not measured), each
        with ``a``, ``b`` and ``difference`` as :func:`difference` gives them; ``same_recogniser``: whether
        each pair was recognised by one.

    Raises:
        UserError: unequal numbers, an unknown system, different test sets, nothing to compare.
    """
    if len(a) != len(b):
        raise UserError(f"--a was given {len(a)} times, --b {len(b)} times: expected pairs, seed by seed")
    for option, side in (("--a", a), ("--b", b)):
        if len(set(side)) < len(side):
            raise UserError(f"{option}: the same experiment and system twice; give every seed once")
    paths = list(dict.fromkeys(path for path, _ in [*a, *b]))
    runs = load_runs(paths)
    rows = {key: [(paths.index(path), name) for path, name in side] for key, side in (("a", a), ("b", b))}
    for k, system in [*rows["a"], *rows["b"]]:
        if system not in runs.two[k]:
            hint = did_you_mean(system, runs.two[k]) or f"; there are {', '.join(runs.two[k])}"
            raise UserError(f"{paths[k] / 'scores'}: no score of a system '{system}'{hint}")
    found: dict = {key: [f"{runs.names[k]}:{name}" for k, name in row] for key, row in rows.items()}
    found |= {measure: _both(runs, rows, measure) for measure in MEASURES}
    if found["si_snri"] is None and found["cpwer"] is None:
        raise UserError(
            f"{found['a'][0]} and {found['b'][0]}: neither SI-SNRi nor cpWER exists for both (silent?)"
        )
    by = [[getattr(runs.words[k].get(name), "recogniser", None) for k, name in row] for row in rows.values()]
    return found | {"same_recogniser": by[0] == by[1]}


def _both(runs: Runs, rows: Mapping[str, Row], measure: str) -> dict | None:
    """Return the figures of ``a``, of ``b`` and their difference, from the seeds where both have a value."""
    values = {key: runs.values(row, measure) for key, row in rows.items()}
    values["difference"] = values["a"] - values["b"]
    absent = ~np.isfinite(values["difference"]).all(1)
    for row in values.values():
        row[absent] = np.nan
    found = {key: _estimate(runs, measure, [row]) for key, row in values.items()}
    return found if found["difference"] else None
