"""Do SI-SNRi and cpWER say the same? Over systems, over pairs of them, and utterance by utterance."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import kendalltau, rankdata, spearmanr

from frontend.evaluation.intervals import paired_difference
from frontend.evaluation.results import Scores, Words, difference, mean, paired, recogniser
from frontend.utils.errors import UserError

_DECIMALS = 4
LISTED = 10
EVERY = "all systems"


def comparable(scores: Mapping[str, Scores], words: Mapping[str, Words], names: Sequence[str]) -> list[str]:
    """Return the systems whose figures can be ordered by both measures.

    They have a finite SI-SNRi, as many streams as talkers (surplus streams cost words, but no SI-SNRi), and
    were heard by the recogniser that most of them share.

    Args:
        scores: by system.
        words: by system.
        names: the systems, in the order of the rows.

    Raises:
        UserError: a system was scored and counted on different utterances.
    """
    for name in names:
        if name in scores and name in words and scores[name].ids != words[name].ids:
            raise UserError(
                f"{name}: word errors and scores are of different utterances "
                "(run the stages 'score', 'decode' and 'wer' again)"
            )
    found = [
        name
        for name in names
        if name in scores
        and name in words
        and not scores[name].silent
        and mean(scores[name].values("si_snri")) is not None
        and words[name].about["streams"] == scores[name].about["talkers"]
    ]
    heard_by = [recogniser(words[name]) for name in found]
    most = max(heard_by, key=heard_by.count, default=None)
    return [name for name, one in zip(found, heard_by, strict=True) if one == most]


def rank_order(
    scores: Mapping[str, Scores], words: Mapping[str, Words], names: Sequence[str], channels: int, seed: int
) -> list[dict]:
    """Compare the order of the systems by SI-SNRi with that by cpWER.

    A pair contradicts where one system is better in SI-SNRi and the other in cpWER and both paired 95 %
    intervals leave out zero.

    Args:
        scores: by system.
        words: by system.
        names: of :func:`comparable` systems.
        channels: of the test set.
        seed: of the intervals.

    Returns:
        one entry with rank correlations (1: the same order), the number of pairs, how many of them are
        ordered differently and those that contradict; none for fewer than three systems.
    """
    if len(names) < 3:
        return []
    gains = {name: float(np.nanmean(scores[name].values("si_snri"))) for name in names}
    rates = {name: words[name].count("errors").sum() / words[name].count("words").sum() for name in names}
    quality = [[gains[name] for name in names], [-rates[name] for name in names]]
    reversed_pairs = [
        (a, b) if gains[a] > gains[b] else (b, a)
        for a, b in itertools.combinations(names, 2)
        if (gains[a] - gains[b]) * (rates[a] - rates[b]) > 0
    ]
    contradictions = [_contradiction(scores, words, *pair, seed) for pair in reversed_pairs]
    one = {
        "channels": channels,
        "systems": list(names),
        "kendall": _finite(kendalltau(*quality).statistic),
        "spearman": _finite(spearmanr(*quality).statistic),
        "pairs": len(names) * (len(names) - 1) // 2,
        "reversed": len(reversed_pairs),
        "contradictions": [pair for pair in contradictions if pair],
    }
    return [one]


def _contradiction(scores: Mapping, words: Mapping, a: str, b: str, seed: int) -> dict | None:
    """Return by how much ``a`` has more SI-SNRi, and more word errors, than ``b``; None within intervals."""
    gain, gain_ci = paired_difference(*paired(scores, "si_snri", a, b), seed)
    if gain_ci[0] <= 0:
        return None
    points, points_ci = difference(words, a, b, seed)
    if points_ci[0] <= 0:
        return None
    return {
        "better_si_snri": a,
        "better_cpwer": b,
        "si_snri_difference": round(gain, _DECIMALS),
        "si_snri_ci": [round(v, _DECIMALS) for v in gain_ci],
        "cpwer_difference": points,
        "cpwer_ci": points_ci,
    }


def disagreements(
    scores: Mapping[str, Scores], words: Mapping[str, Words], names: Sequence[str], main: str, channels: int
) -> list[dict]:
    """List the utterances whose rank by SI-SNRi and rank by word errors are farthest apart.

    Args:
        scores: by system.
        words: by system.
        names: of :func:`comparable` systems.
        main: the system to look at; then all of ``names`` together.
        channels: of the test set.

    Returns:
        for each of the two its :data:`LISTED` utterances, the farthest apart first. Rank 1 is best.
    """
    found = []
    if main in scores and main in words:
        rows = [
            {k: row[k] for k in ("references", "hypotheses", "assignment")} for row in words[main].utterances
        ]
        gains, errors = scores[main].values("si_snri"), words[main].count("errors")
        found.append((main, gains, errors, words[main].count("words"), rows))
    if len(names) > 1:
        gains = np.mean([scores[name].values("si_snri") for name in names], axis=0)
        errors, said = (np.sum([words[name].count(k) for name in names], axis=0) for k in ("errors", "words"))
        rows = [{"references": row["references"]} for row in words[names[0]].utterances]
        found.append((EVERY, gains, errors, said, rows))
    ids = next(iter(words.values())).ids if words else []
    return [
        {"system": name, "channels": channels, "utterances": _farthest(ids, *columns)}
        for name, *columns in found
    ]


def _farthest(
    ids: list[str], gains: np.ndarray, errors: np.ndarray, words: np.ndarray, rows: list[dict]
) -> list[dict]:
    scored = np.flatnonzero(np.isfinite(gains))
    by_gain = rankdata(-gains[scored])
    by_words = rankdata(errors[scored] / words[scored])
    # A stable sort: of ties the first utterance comes first.
    farthest = np.argsort(-np.abs(by_gain - by_words), kind="stable")[:LISTED]
    return [
        {
            "id": ids[k],
            "si_snri": round(float(gains[k]), _DECIMALS),
            "si_snri_rank": float(by_gain[i]),
            "errors": int(errors[k]),
            "words": int(words[k]),
            "words_rank": float(by_words[i]),
            **rows[k],
        }
        for i, k in zip(farthest, scored[farthest], strict=True)
    ]


def _finite(value: float) -> float | None:
    return round(float(value), _DECIMALS) if np.isfinite(value) else None
