"""Which utterances and systems a person gets to hear, by rules that stand on the page.

An utterance is chosen by what the main system made of it, never by ear.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from scipy.stats import rankdata

from frontend.results import Scores, mean
from frontend.systems import System

MOST = 12
# What is played, of what there is, in this order; all other streams stay in exp/NAME/separated.
PLAYED = (
    "mixture",
    "oracle",
    "dry",
    "teacher_energy",
    "student",
    "student+mvdr",
    "distilled_ft",
    "supervised_full",
    "joint",
    "auxiva",
    "ilrma",
    "teacher_spatial_merge",
    "student_ft",
    "supervised_small",
)
# Behind a heading to open, for whom the others are not enough.
FOLDED = PLAYED[PLAYED.index("auxiva") :]
MAIN = "student"
BEST, MEDIAN, WORST, DISAGREE = "best", "median", "worst", "disagree"
KINDS = {
    BEST: "highest mean SI-SNRi over the talkers",
    MEDIAN: "mean SI-SNRi closest to the median by rank",
    WORST: "lowest mean SI-SNRi over the talkers",
    DISAGREE: "place by SI-SNRi and place by word error rate farthest apart",
}


def main_system(scores: Mapping[str, Scores], systems: Sequence[System]) -> str:
    """Return the system that utterances are chosen by.

    It is ``student``; where there is none, the one of highest mean SI-SNRi among those without labels, or
    among all that were scored.
    """
    if MAIN in scores:
        return MAIN
    scored = [system for system in systems if system.name in scores]
    free = [one for one in scored if (one.model or one.blind) and not one.labels and one.rule != "oracle"]
    gains = {one.name: mean(scores[one.name].values("si_snri")) for one in free or scored}
    return max(gains, key=lambda name: -np.inf if gains[name] is None else gains[name])


def played_systems(known: Collection[str], main: str) -> list[str]:
    """Return the systems to hear: those of :data:`PLAYED` that are known, and the main one."""
    return [name for name in (*PLAYED, *(() if main in PLAYED else (main,))) if name in known]


def places(gains: Mapping[str, float], word_errors: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Return the place of each utterance by SI-SNRi and by word errors, as :mod:`frontend.agreement` has it.

    Args:
        gains: SI-SNRi per utterance, dB; utterances where it is nan have no place.
        word_errors: word error rates.

    Returns:
        two places each, 1 for the best; equal values share the mean of theirs.
    """
    both = [key for key in sorted(gains) if key in word_errors and np.isfinite(gains[key])]
    if not both:
        return {}
    by_gain = rankdata([-gains[key] for key in both]).tolist()
    by_words = rankdata([word_errors[key] for key in both]).tolist()
    return dict(zip(both, zip(by_gain, by_words, strict=True), strict=True))


def choose_utterances(
    gains: Mapping[str, float], word_errors: Mapping[str, float], most: int = MOST
) -> dict[str, str]:
    """Choose utterances, as many of each kind as there is room for.

    The kinds take turns, each with the next of its own order that no other has taken; equal values stand in
    the order of their ids.

    Args:
        gains: mean SI-SNRi of the main system per utterance, dB; nan is never chosen.
        word_errors: its word error rate per utterance; empty where no words were counted.
        most: number of utterances.

    Returns:
        ``{id: kind}``, in the order of choice: leaving some out at the end thins all kinds alike.
    """
    gains = {key: value for key, value in sorted(gains.items()) if np.isfinite(value)}
    orders = {kind: iter(order) for kind, order in _orders(gains, word_errors).items()}
    chosen: dict[str, str] = {}
    while len(chosen) < min(most, len(gains)):
        for kind, order in orders.items():
            key = _next_free(order, chosen)
            if key is not None and len(chosen) < most:
                chosen[key] = kind
    return chosen


def _orders(gains: Mapping[str, float], word_errors: Mapping[str, float]) -> dict[str, list[str]]:
    """Return all utterances as each kind would take them."""
    rising = sorted(gains, key=lambda key: gains[key])  # stable: ids in order where values are equal
    middle = (len(rising) - 1) / 2
    near = sorted(range(len(rising)), key=lambda place: abs(place - middle))
    falling = sorted(gains, key=lambda key: -gains[key])
    orders = {BEST: falling, MEDIAN: [rising[place] for place in near], WORST: rising}
    if found := places(gains, word_errors):
        orders[DISAGREE] = sorted(found, key=lambda key: -abs(found[key][0] - found[key][1]))
    return orders


def _next_free(order: Iterator[str], taken: Mapping[str, str]) -> str | None:
    return next((key for key in order if key not in taken), None)
