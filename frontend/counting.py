"""How many talk, by the streams that sound: counted against the truth, system by system.

A network with an output for each of up to three talkers should leave one silent where two talk.
A stream counts as a talker if it is active (:data:`frontend.over_separation.ACTIVE_DB`); nothing is
told how many there are.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from frontend.errors import UserError
from frontend.results import Scores, interval, mean
from frontend.systems import System


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
            entries.append({"system": system.name, "channels": channels, **_entry(those, talkers, seed)})
    return entries


def _entry(rows: list[dict], talkers: int, seed: int) -> dict:
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
