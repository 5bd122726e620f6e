"""The figures of the two claims, over seeds: over-separation, the curve over labels, shares, differences.

SI-SNRi is averaged over the talkers of an utterance, then over utterances and seeds. cpWER is the number of
all word errors over that of all words, cpCER the same of characters. Every figure is an entry of
:func:`frontend.claims_data.estimate`.
"""

from collections.abc import Sequence

import numpy as np

from frontend.claims_data import Runs, estimate
from frontend.claims_systems import (
    FULL,
    MIXTURE,
    OPTIONAL,
    OUTPUTS,
    RULES,
    SEMI_SUPERVISED,
    STUDENT,
    Point,
    blind_rows,
    refined,
)
from frontend.results import OVER_SEPARATION
from frontend.seed_intervals import ratio

ERROR_RATES = ("cpwer", "cpcer")
MEASURES = ("si_snri", *ERROR_RATES)


def over_separation(runs: Runs, refinement: str | None) -> dict[str, list[dict]]:
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
