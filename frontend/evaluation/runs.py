"""Several experiments on one test set, such as the training seeds of one recipe: their scores side by side.

Everything is paired by seed and by utterance, so that before anything is computed the experiments are shown
to have the same test set: the same ids, and mixtures with the same SI-SNR, which no training touches.

Which rows of the results the two claims are about, and which of them an experiment lacks.

The figures of the two claims, over seeds: over-separation, the curve over labels, shares, differences.

SI-SNRi is averaged over the talkers of an utterance, then over utterances and seeds. cpWER is the number of
all word errors over that of all words, cpCER the same of characters. Every figure is an entry of
:func:`frontend.evaluation.runs.estimate`.

One system of one experiment against one of another, on the same test set: what an ablation asks.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frontend.evaluation.intervals import hierarchical, ratio
from frontend.evaluation.results import OVER_SEPARATION, Scores, Words, load_scores, load_words, recogniser
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.provenance import run_facts

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


MIXTURE, OUTPUTS, STUDENT, FULL = "mixture", "teacher_outputs", "student", "supervised_full"
# The paper's own rule first; the control that is told the truth, and the floor, where they were scored.
RULES = ("teacher_energy", "teacher_energy_residual", "teacher_spatial_merge")
OPTIONAL = ("teacher_oracle", "oracle")
BLIND = re.compile(r"(auxiva|ilrma)\w*")
KINDS = ("supervised", "fine-tuned", "distilled")
_SMALL = "small"
_CURVE = {
    STUDENT: ("fine-tuned", 0.0),
    "student_ft_1": ("fine-tuned", 0.01),
    "student_ft_5": ("fine-tuned", 0.05),
    "student_ft": ("fine-tuned", _SMALL),
    "distilled_ft_1": ("distilled", 0.01),
    "distilled_ft_5": ("distilled", 0.05),
    "distilled_ft": ("distilled", _SMALL),
    "supervised_1": ("supervised", 0.01),
    "supervised_5": ("supervised", 0.05),
    "supervised_small": ("supervised", _SMALL),
    "supervised_25": ("supervised", 0.25),
    FULL: ("supervised", 1.0),
}
# With the small share: what the goal is stated for.
SEMI_SUPERVISED = ("student_ft", "distilled_ft")
_REFINED = (STUDENT, *SEMI_SUPERVISED, FULL)


@dataclass(frozen=True)
class Point:
    """One point of the label curve: its row's name without refinement, how it was trained, on what share."""

    name: str
    kind: str
    share: float


def refined(name: str, refinement: str | None) -> str:
    """Return the name of a row's refined one.

    >>> refined("student", "iva"), refined("student", None)
    ('student+iva', 'student')
    """
    return f"{name}+{refinement}" if refinement else name


def curve_points(runs: Runs) -> list[Point]:
    """Return the points of the curve, with the small share that the runs noted.

    Raises:
        UserError: no ``label_share`` was noted, or they differ.
    """
    small = []
    for name, facts in zip(runs.names, runs.facts, strict=True):
        if "label_share" not in facts:
            raise UserError(f"{name}/stages.json: expected 'label_share', found {', '.join(facts)}")
        small.append(float(facts["label_share"]))
        if small[-1] != small[0]:
            raise UserError(
                f"{name}/stages.json: label_share is {small[-1]:g}, that of {runs.names[0]} is {small[0]:g}; "
                "expected the same share of labels in all experiments"
            )
    return [
        Point(name, kind, small[0] if share == _SMALL else share) for name, (kind, share) in _CURVE.items()
    ]


def blind_rows(runs: Runs, refinement: str | None) -> list[str]:
    """Return the blind rows: as they are, or those refined by steps that ``refinement`` has too."""
    wanted = set(refinement.split("+")) if refinement else set()
    found = []
    for name in runs.systems:
        base, *steps = name.split("+")
        if BLIND.fullmatch(base) and bool(steps) == bool(wanted) and set(steps) <= wanted:
            found.append(name)
    return found


def missing(runs: Runs, refinement: str | None) -> list[str]:
    """Return a line per experiment and kind of measurement that lacks rows the page needs.

    A refined row is needed where the goal is stated for it, any other only if some experiment has it.
    """
    curve = list(_CURVE)
    some = {name for scores in runs.two for name in scores}
    if refinement:
        names = [refined(name, refinement) for name in _CURVE]
        curve += [n for n in names if n in some or n.split("+")[0] in _REFINED]
    blind = blind_rows(runs, None) + (blind_rows(runs, refinement) if refinement else [])
    blind = blind or ["auxiva", "ilrma"]
    heard = [MIXTURE, *blind, *curve]
    lines = []
    for k, experiment in enumerate(runs.names):
        lacking = {
            "scores": _absent([MIXTURE, *blind, OUTPUTS, *RULES, *curve], runs.two[k]),
            "one-talker scores": _absent([OUTPUTS, STUDENT], runs.one[k]),
            "word errors": _absent(heard, runs.words[k]),
        }
        lines += [
            f"{experiment} has no {what} of {', '.join(rows)}" for what, rows in lacking.items() if rows
        ]
    return lines


def check_refinement_is_there(runs: Runs, refinement: str) -> None:
    """Raise a UserError if no experiment has a row of that refinement."""
    there = sorted({"+".join(name.split("+")[1:]) for name in runs.systems if "+" in name})
    if refinement not in there:
        raise UserError(
            f"--refinement {refinement}: expected one that some row was refined by, "
            f"found {', '.join(there) or 'none'} in the scores of {', '.join(runs.names)}"
        )


def _absent(names: Sequence[str], measured: dict) -> list[str]:
    return [name for name in names if name not in measured]


ERROR_RATES = ("cpwer", "cpcer")
MEASURES = ("si_snri", *ERROR_RATES)


def claims_over_separation(runs: Runs, refinement: str | None) -> dict[str, list[dict]]:
    """Return claim (a): the teacher's raw outputs, its streams under each rule and the student's.

    Over-separation is of what a network puts out, so that a rule has no such figures; the true images have
    the floor of the energy measure.

    Returns:
        ``rows``; ``differences`` in SI-SNRi (student less the rule's streams) and in the energy outside the
        best output (the teacher's outputs less the student's, points of percent). Surplus outputs have none:
        their number is bounded by that of the outputs, which the student has fewer of by construction.
    """
    names = [OUTPUTS, *RULES, OPTIONAL[0], STUDENT, *([refined(STUDENT, refinement)] if refinement else [])]
    rows = []
    for name in [*names, OPTIONAL[1]]:
        row = {"system": name, "si_snri": estimate(runs, [runs.signal(name)], _first)}
        if name in (OUTPUTS, STUDENT, OPTIONAL[1]):
            row |= {
                key: estimate(runs, [runs.signal(name, measure, one)], _first, 100.0)
                for key, measure, one in _over_separation_keys()
            }
        if any(row[key] for key in row if key != "system"):
            rows.append(row)
    differences = [_difference(runs, STUDENT, rule, "si_snri") for rule in RULES]
    for key, measure, one in _over_separation_keys():
        if measure == "surplus_outputs":
            continue
        pair = [runs.signal(name, measure, one) for name in (OUTPUTS, STUDENT)]
        found = estimate(runs, pair, _subtracted, 100.0)
        differences.append(found and {"system": OUTPUTS, "against": STUDENT, "measure": key, **found})
    return {"rows": rows, "differences": [entry for entry in differences if entry]}


def _over_separation_keys() -> list[tuple[str, str, bool]]:
    """Return (key on the page, measure, of the one-talker set): the number ends the key."""
    return [(f"{m}_{1 if one else 2}", m, one) for one in (False, True) for m in OVER_SEPARATION]


def curve(runs: Runs, points: Sequence[Point], refinement: str | None) -> list[dict]:
    """Return claim (b): :data:`MEASURES` (dB, percent) of every point, and with ``refinement`` if given."""
    rows = []
    for steps in (None, *([refinement] if refinement else [])):
        for point in points:
            name = refined(point.name, steps)
            row = {"system": name, "kind": point.kind, "share": point.share, "refinement": steps}
            row |= {measure: _figure(runs, name, measure) for measure in MEASURES}
            if any(row[measure] for measure in MEASURES):
                rows.append(row)
    return rows


def references(runs: Runs, refinement: str | None) -> list[dict]:
    """Return :data:`MEASURES` of the mixture and of every blind row."""
    names = [MIXTURE, *blind_rows(runs, None), *(blind_rows(runs, refinement) if refinement else [])]
    return [{"system": n} | {measure: _figure(runs, n, measure) for measure in MEASURES} for n in names]


def best_blind(rows: Sequence[dict], names: Sequence[str], measure: str) -> str | None:
    """Say which of ``names`` is best by ``measure`` in the rows of :func:`references`, None if none has it.

    The choice is made on the test set, in favour of the blind methods.
    """
    found = {row["system"]: row[measure]["value"] for row in rows if row["system"] in names and row[measure]}
    sign = 1 if measure in ERROR_RATES else -1
    return min(found, key=lambda name: sign * found[name], default=None)


def shares_of_full(runs: Runs, rows: Sequence[dict]) -> list[dict]:
    """Return which share of the improvement by full supervision each row of the curve reaches, in percent.

    By SI-SNRi ``SI-SNRi(x) / SI-SNRi(full)``, by error rates ``(mixture - x) / (mixture - full)``; ``full``
    has the same refinement. Ratios are of means over all seeds; nothing where full supervision improves
    nothing.
    """
    found = []
    for row in rows:
        full = refined(FULL, row["refinement"])
        if row["system"] == full:
            continue
        one = {key: row[key] for key in ("system", "kind", "share", "refinement")}
        one["si_snri"] = estimate(runs, [runs.signal(row["system"]), runs.signal(full)], ratio, 100.0)
        for measure in ERROR_RATES:
            errors = [runs.errors(name, measure) for name in (MIXTURE, row["system"], full)]
            one[measure] = estimate(runs, errors, _saved_share, 100.0)
        if any(one[measure] for measure in MEASURES):
            found.append(one)
    return found


def against_blind(runs: Runs, rows: Sequence[dict], refinement: str | None) -> list[dict]:
    """Return the paired differences of the student and the semi-supervised rows from the best blind row.

    A refined row is held against the best blind row as it is, and against the best one that is refined too.
    """
    found = []
    for name in (STUDENT, *SEMI_SUPERVISED):
        for steps in (None, *([refinement] if refinement else [])):
            for opponents in (None, *([steps] if steps else [])):
                for measure in MEASURES:
                    best = best_blind(rows, blind_rows(runs, opponents), measure)
                    one = best and _difference(runs, refined(name, steps), best, measure)
                    found += [one | {"refinement": steps}] if one else []
    return found


def _figure(runs: Runs, name: str, measure: str) -> dict | None:
    if measure == "si_snri":
        return estimate(runs, [runs.signal(name)], _first)
    return estimate(runs, [runs.errors(name, measure), runs.spoken(measure)], ratio, 100.0)


def _difference(runs: Runs, a: str, b: str, measure: str) -> dict | None:
    if measure == "si_snri":
        found = estimate(runs, [runs.signal(a), runs.signal(b)], _subtracted)
    else:
        more = runs.errors(a, measure) - runs.errors(b, measure)
        found = estimate(runs, [more, runs.spoken(measure)], ratio, 100.0)
    return found and {"system": a, "against": b, "measure": measure, **found}


def _first(means: np.ndarray) -> np.ndarray:
    return means[0]


def _subtracted(means: np.ndarray) -> np.ndarray:
    return means[0] - means[1]


def _saved_share(means: np.ndarray) -> np.ndarray:
    """Errors that ``x`` saves of the mixture's over those that ``full`` saves, from means of the three."""
    mixture, x, full = means
    return ratio(np.stack([mixture - x, mixture - full]))


Side = Sequence[tuple[Path, str]]
_MEASURES = (("si_snri", "SI-SNRi", "dB"), ("cpwer", "cpWER", "points"), ("cpcer", "cpCER", "points"))


def parse_side(text: str) -> tuple[Path, str]:
    """Split ``EXPERIMENT:SYSTEM`` at its last colon.

    >>> parse_side("exp/espeak:student+iva")
    (PosixPath('exp/espeak'), 'student+iva')

    Raises:
        UserError: no experiment or no system.
    """
    path, _, system = text.rpartition(":")
    if not path or not system:
        raise UserError(f"'{text}': expected EXPERIMENT:SYSTEM, such as exp/espeak:student")
    return Path(path), system


def compare_runs(a: Side, b: Side) -> dict:
    """Return the paired differences ``a - b`` in SI-SNRi (dB), cpWER and cpCER (points), with 95 % intervals.

    Args:
        a, b: experiment and system, one a training seed, the k-th of ``a`` paired with the k-th of ``b``.

    Returns:
        ``a``, ``b`` (as they were named), ``si_snri``, ``cpwer``, ``cpcer`` (None where not measured), each
        with ``a``, ``b`` and ``difference`` as :func:`frontend.evaluation.runs.estimate` gives them;
        ``same_recogniser``: whether each pair was heard by one.

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
    places = [[(paths.index(path), system) for path, system in side] for side in (a, b)]
    for k, system in [*places[0], *places[1]]:
        if system not in runs.two[k]:
            hint = did_you_mean(system, runs.two[k]) or f"; there are {', '.join(runs.two[k])}"
            raise UserError(f"{paths[k] / 'scores'}: no score of a system '{system}'{hint}")
    found = {
        side: [f"{runs.names[k]}:{system}" for k, system in place]
        for side, place in zip("ab", places, strict=True)
    }
    found |= {"si_snri": _signals(runs, places)}
    found |= {measure: _errors(runs, places, measure) for measure in ERROR_RATES}
    if found["si_snri"] is None and found["cpwer"] is None:
        raise UserError(
            f"{found['a'][0]} and {found['b'][0]}: neither SI-SNRi nor cpWER exists for both (silent?)"
        )
    found["same_recogniser"] = all(
        _recogniser(runs, *x) == _recogniser(runs, *y) for x, y in zip(*places, strict=True)
    )
    return found


def _signals(runs: Runs, places: Sequence) -> dict | None:
    a, b = (np.stack([runs.signal(system)[k] for k, system in side]) for side in places)
    return _both(runs, a, b, [], lambda means: means[0])


def _errors(runs: Runs, places: Sequence, measure: str) -> dict | None:
    a, b = (np.stack([runs.errors(system, measure)[k] for k, system in side]) for side in places)
    said = runs.spoken(measure)[:1].repeat(len(a), 0)
    return _both(runs, a, b, [said], lambda means: 100 * ratio(means))


def _both(runs: Runs, a: np.ndarray, b: np.ndarray, beside: list[np.ndarray], statistic) -> dict | None:
    """Estimates of ``a``, of ``b`` and of their difference, from the seeds where both have a value."""
    absent = ~np.isfinite(a + b).all(1)
    for rows in (a, b):
        rows[absent] = np.nan
    named = {"a": a, "b": b, "difference": a - b}
    found = {key: estimate(runs, [rows, *beside], statistic) for key, rows in named.items()}
    return found if found["difference"] else None


def _recogniser(runs: Runs, k: int, system: str) -> str | None:
    return recogniser(runs.words[k][system]) if system in runs.words[k] else None
