"""The table over several runs: experiments on one test set that differ in their training seed.

Any row has a mean over seeds and utterances (:func:`figure`), any two rows a paired difference
(:func:`difference`), any row a share of what another one improves (:func:`share_of`); all with intervals over
seeds and utterances. Before anything is computed the experiments are shown to have one test set: the same ids,
and mixtures with the same SI-SNR, which no training touches. The paper's two claims are such figures
(:func:`paper_claims`): over-separation of student against teacher, and share of full supervision reached.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frontend.evaluation.intervals import hierarchical, ratio, rounded
from frontend.evaluation.measured import Scores, Words, load_scores, load_words
from frontend.evaluation.results import FULL, OVER_SEPARATION
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
        n = len(_any_of(sets).ids) if any(sets) else 1
        return np.stack([_signal(sets[k].get(system), name, n) for k, system in places])

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


def _signal(scores: Scores | None, measure: str, n: int) -> np.ndarray:
    if scores is None or (measure == "si_snri" and scores.silent):
        return np.full(n, np.nan)
    return scores.values(measure)


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
                    raise UserError(f"{where}: {name} is of other utterances than {first_where}; {wanted}")
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

    Args:
        runs: the experiments.
        a, b: the rows.
        measure: of :data:`MEASURES` or :data:`SEPARATION_KEYS`.

    Returns:
        ``{value, ci, per_seed, n_seeds, n}``. Seeds that lack a row are None in ``per_seed`` and count for
        nothing else; ``ci`` is None where too many resamples have no value. None if no seed has all rows.
    """
    return _estimate(runs, measure, [runs.values(a, measure) - runs.values(b, measure)])


def share_of(runs: Runs, row: Row, full: Row, measure: str, start: Row = "mixture") -> dict | None:
    """Return which share of the improvement by ``full`` a row reaches, in percent; see :func:`difference`.

    By SI-SNRi it is ``SI-SNRi(row) / SI-SNRi(full)``, by error rates ``(start - row) / (start - full)``,
    ratios of means over all seeds; None where ``full`` improves nothing.
    """
    values = [runs.values(one, measure) for one in (row, full)]
    if measure in ERROR_RATES:
        base = runs.values(start, measure)
        values = [base - one for one in values]
    return _figure(runs, values, lambda means: 100 * ratio(means))


def _estimate(runs: Runs, measure: str, values: list[np.ndarray]) -> dict | None:
    if measure in ERROR_RATES:
        said = np.tile(runs.spoken(measure), (len(values[0]), 1))
        return _figure(runs, [*values, said], lambda means: 100 * ratio(means))
    unit = 100 if measure in SEPARATION_KEYS else 1
    return _figure(runs, values, lambda means: unit * means[0])


def _figure(
    runs: Runs, rows: Sequence[np.ndarray], statistic: Callable[[np.ndarray], np.ndarray]
) -> dict | None:
    """Return a figure of J rows ``(K, n)``; ``statistic`` of means ``(J, ...)`` is nan where there is none."""
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


def _both(runs: Runs, rows: dict[str, Row], measure: str) -> dict | None:
    """Return the figures of ``a``, of ``b`` and their difference, from the seeds where both have a value."""
    values = {key: runs.values(row, measure) for key, row in rows.items()}
    values["difference"] = values["a"] - values["b"]
    absent = ~np.isfinite(values["difference"]).all(1)
    for row in values.values():
        row[absent] = np.nan
    found = {key: _estimate(runs, measure, [row]) for key, row in values.items()}
    return found if found["difference"] else None


# --- the paper's two claims

MIXTURE, OUTPUTS, STUDENT, TRUE_IMAGES = "mixture", "teacher_outputs", "student", "oracle"
# The paper's own rule first.
RULES = ("teacher_energy", "teacher_energy_residual", "teacher_spatial_merge")
KINDS = ("supervised", "fine-tuned", "distilled")
_BLIND = re.compile(r"(auxiva|ilrma)\w*")
_TRAINED = re.compile(r"(student_ft|distilled_ft|supervised)(?:_(\d+|small|full))?")
_KIND = {"student_ft": "fine-tuned", "distilled_ft": "distilled", "supervised": "supervised"}


def refined(name: str, refinement: str | None) -> str:
    """Return the name of a row's refined one.

    >>> refined("student", "iva"), refined("student", None)
    ('student+iva', 'student')
    """
    return f"{name}+{refinement}" if refinement else name


def curve_points(runs: Runs) -> list[tuple[str, str, float]]:
    """Return ``(name, kind, share of the labels)`` of the rows of the label curve, without refinement.

    Raises:
        UserError: the experiments did not note one ``label_share``, which is that of ``student_ft``.
    """
    noted = [facts.get("label_share") for facts in runs.facts]
    for name, share in zip(runs.names, noted, strict=True):
        if share is None or float(share) != float(noted[0]):
            raise UserError(
                f"{name}/stages.json: label_share is {share}, that of {runs.names[0]} is {noted[0]}; expected "
                "the same share of labels in all experiments"
            )
    small = float(noted[0])
    points = [(STUDENT, "fine-tuned", 0.0)] if STUDENT in runs.systems else []
    for match in filter(None, map(_TRAINED.fullmatch, runs.systems)):
        known = {None: small, "small": small, "full": 1.0}
        share = known[match[2]] if match[2] in known else int(match[2]) / 100
        points.append((match[0], _KIND[match[1]], share))
    order = list(_KIND.values())
    return sorted(points, key=lambda point: (order.index(point[1]), point[2]))


def blind_rows(runs: Runs, refinement: str | None) -> list[str]:
    """Return the blind rows: as they are, or those refined by steps that ``refinement`` has too."""
    wanted = set(refinement.split("+")) if refinement else set()
    found = []
    for name in runs.systems:
        base, *steps = name.split("+")
        if _BLIND.fullmatch(base) and bool(steps) == bool(wanted) and set(steps) <= wanted:
            found.append(name)
    return found


def missing(runs: Runs, refinement: str | None) -> list[str]:
    """Return a line per experiment and kind of measurement that lacks rows which another experiment has."""
    curve = [refined(name, steps) for name, _, _ in curve_points(runs) for steps in (None, refinement)]
    words = [MIXTURE, *blind_rows(runs, None), *blind_rows(runs, refinement), *curve]
    kinds = {
        "scores": (runs.two, [OUTPUTS, *RULES, *words]),
        "one-talker scores": (runs.one, [OUTPUTS, STUDENT]),
        "word errors": (runs.words, words),
    }
    lines = []
    for k, experiment in enumerate(runs.names):
        for what, (sets, names) in kinds.items():
            some = {name for measured in sets for name in measured}
            rows = [name for name in dict.fromkeys(names) if name in some and name not in sets[k]]
            lines += [f"{experiment} has no {what} of {', '.join(rows)}"] if rows else []
    return lines


def paper_claims(runs: Runs, refinement: str | None = None) -> dict:
    """Return the figures of the paper's two claims, as ``claims.json`` holds them.

    Args:
        runs: the experiments.
        refinement: such as ``iva``; the rows ``NAME+iva`` are compared too.

    Raises:
        UserError: no row of the label curve, none of that refinement, or recognisers that differ within an
            experiment.
    """
    points = curve_points(runs)
    if not points:
        raise UserError(f"no row of the label curve in the scores of {', '.join(runs.names)}")
    steps = sorted({"+".join(name.split("+")[1:]) for name in runs.systems if "+" in name})
    if refinement and refinement not in steps:
        raise UserError(
            f"--refinement {refinement}: expected one that some row was refined by, "
            f"found {', '.join(steps) or 'none'} in the scores of {', '.join(runs.names)}"
        )
    plain = blind_rows(runs, None)
    blind = plain + (blind_rows(runs, refinement) if refinement else [])
    both = (None, refinement) if refinement else (None,)
    _check_recogniser(runs, [MIXTURE, *blind, *(refined(name, r) for name, _, _ in points for r in both)])
    references = [{"system": name, **_measured(runs, name)} for name in [MIXTURE, *blind]]
    best = {
        key: {measure: _best(references, among, measure) for measure in MEASURES}
        for key, among in (("plain", plain), ("refined", blind))
    }
    return {
        "label_share": next((share for name, _, share in points if name == "student_ft"), None),
        "over_separation": _over_separation(runs, refinement),
        **_curve(runs, points, both),
        "references": references,
        "best_blind": best,
        "against_blind": _against_blind(runs, references, both),
        "silent": {name: runs.silent(name) for name in runs.systems if runs.silent(name)},
    }


def _measured(runs: Runs, name: str) -> dict:
    return {measure: figure(runs, name, measure) for measure in MEASURES}


def _check_recogniser(runs: Runs, systems: Sequence[str]) -> None:
    for experiment, words in zip(runs.names, runs.words, strict=True):
        counted = [name for name in systems if name in words]
        for name in counted[1:]:
            if words[name].recogniser != words[counted[0]].recogniser:
                raise UserError(
                    f"{experiment}/wer: {name} and {counted[0]} were recognised by different recognisers, "
                    "their cpWER cannot be compared (run the stages 'decode' and 'wer' again)"
                )


def _over_separation(runs: Runs, refinement: str | None) -> dict[str, list[dict]]:
    """Return claim (a): the teacher's raw outputs, its streams under each rule and the student's.

    Over-separation is of what a network puts out, so that a rule has none; the true images have the floor of the
    energy measure. Differences are in SI-SNRi and in the energy outside the best output: the number of surplus
    outputs is bounded by that of the outputs, which the student has fewer of by construction.
    """
    names = [OUTPUTS, *RULES, "teacher_oracle", STUDENT]
    names += [refined(STUDENT, refinement)] if refinement else []
    rows = []
    for name in [*names, TRUE_IMAGES]:
        keys = SEPARATION_KEYS if name in (OUTPUTS, STUDENT, TRUE_IMAGES) else ()
        row = {key: figure(runs, name, key) for key in ("si_snri", *keys)}
        rows += [{"system": name, **row}] if any(row.values()) else []
    pairs = [(STUDENT, rule, "si_snri") for rule in RULES]
    pairs += [(OUTPUTS, STUDENT, key) for key in SEPARATION_KEYS if key.startswith("energy_outside_best")]
    return {"rows": rows, "differences": [one for pair in pairs if (one := _compared(runs, *pair))]}


def _compared(runs: Runs, a: str, b: str, measure: str) -> dict | None:
    found = difference(runs, a, b, measure)
    return found and {"system": a, "against": b, "measure": measure, **found}


def _curve(runs: Runs, points: Sequence[tuple[str, str, float]], both: Sequence) -> dict[str, list[dict]]:
    """Return claim (b): every row of the label curve, and its share of full supervision refined like it."""
    curve, shares = [], []
    for refinement in both:
        full = refined(FULL, refinement)
        for point, kind, share in points:
            name = refined(point, refinement)
            about = {"system": name, "kind": kind, "share": share, "refinement": refinement}
            reached = {m: share_of(runs, name, full, m) for m in MEASURES} if name != full else {}
            for rows, found in ((curve, _measured(runs, name)), (shares, reached)):
                rows += [about | found] if any(found.values()) else []
    return {"curve": curve, "shares_of_full": shares}


def _best(rows: Sequence[dict], names: Sequence[str], measure: str) -> str | None:
    """Return the best of ``names`` by ``measure``, chosen on the test set, in favour of the blind methods."""
    found = {row["system"]: row[measure]["value"] for row in rows if row["system"] in names and row[measure]}
    sign = 1 if measure in ERROR_RATES else -1
    return min(found, key=lambda name: sign * found[name], default=None)


def _against_blind(runs: Runs, references: Sequence[dict], both: Sequence) -> list[dict]:
    """Return differences of the student and the semi-supervised rows from the best blind row.

    A refined row is compared with the best blind row as it is, and with the best one that is refined too.
    """
    found = []
    for name in (STUDENT, "student_ft", "distilled_ft"):
        for refinement in both:
            for opponents in (None, refinement) if refinement else (None,):
                for measure in MEASURES:
                    best = _best(references, blind_rows(runs, opponents), measure)
                    one = best and _compared(runs, refined(name, refinement), best, measure)
                    found += [one | {"refinement": refinement}] if one else []
    return found
