"""One system of one experiment against one of another, on the same test set: what an ablation asks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from frontend.claims_data import Runs, estimate, load_runs
from frontend.claims_tables import ERROR_RATES
from frontend.errors import UserError, did_you_mean
from frontend.markdown import with_interval
from frontend.seed_intervals import ratio
from frontend.word_results import recogniser

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
        with ``a``, ``b`` and ``difference`` as :func:`frontend.claims_data.estimate` gives them;
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


def in_words(found: dict) -> str:
    """Return the lines that say what :func:`compare_runs` found."""
    a, b = (" ".join(found[side]) for side in ("a", "b"))
    lines = []
    for measure, name, unit in _MEASURES:
        if found[measure] is None:
            lines.append(f"{a} - {b}: {name} does not exist for both")
            continue
        one = found[measure]
        rates = " - ".join(f"{one[side]['value']:.1f}" for side in ("a", "b"))
        more = one["difference"]
        line = f"{a} - {b}: {name} {rates} = {with_interval(more['value'], more['ci'], 2)} {unit}"
        line += f" (95 % interval), n = {more['n']} utterances"
        if more["n_seeds"] > 1:
            values = ", ".join(f"{v:.2f}" for v in more["per_seed"] if v is not None)
            line += f", {more['n_seeds']} seeds ({values})"
        if measure in ERROR_RATES and not found["same_recogniser"]:
            line += "; heard by different recognisers"
        lines.append(line)
    return "\n".join(lines)


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
