"""Word errors of several streams against several talkers: cpWER, cpCER and ORC-WER as meeteval counts them.

cpWER [1] gives each talker one stream, so that the errors are fewest; talkers without a stream are deletions,
streams without a talker insertions. cpCER is the same of characters: a recogniser that gets no word whole,
for want of speech to learn from, still tells streams apart by their letters. ORC-WER [2] lets each talker
choose any stream: it is the measure where more streams than talkers come out and a talker may share one.

[1] Watanabe et al., CHiME-6 Challenge, 2020. [2] Sklyar et al., Multi-turn RNN-T for streaming recognition
of multi-party speech, 2022. Both counted by von Neumann et al., MeetEval, 2023.
"""

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

import meeteval.wer
import numpy as np

from frontend.intervals import paired_ratio
from frontend.text_normaliser import UNKNOWN, normalise

KINDS = ("insertions", "deletions", "substitutions")
COUNTS = ("errors", *KINDS)
# Of what has no time stamps, the order given is the order said; meeteval would log a line a call to say so.
_AS_GIVEN = {"reference_sort": False, "hypothesis_sort": False}


def utterance_errors(references: Sequence[str], hypotheses: Sequence[str], orc: bool | None = None) -> dict:
    """Count the word errors of one recording.

    Args:
        references: what each talker said, in any spelling; at least one word in all.
        hypotheses: what was recognised in each stream; none, or empty ones, are deletions.
        orc: whether ORC-WER is wanted too; None: where streams and talkers differ in number.

    Returns:
        ``errors, words, insertions, deletions, substitutions``; ``assignment``, the stream of each talker
        (an index, or None); ``surplus``, the streams of none; both texts normalised; ``characters``, the
        counts of cpCER and the ``characters`` said; ``orc``, those of ORC-WER and its assignment, or None.
    """
    references, hypotheses = [normalise(t) for t in references], [normalise(t) for t in hypotheses]
    found = meeteval.wer.cp_word_error_rate(references, hypotheses, **_AS_GIVEN)
    stream_of = dict(found.assignment)
    taken = {stream for talker, stream in found.assignment if talker is not None}
    if orc is None:
        orc = len(hypotheses) != len(references)
    return {
        **_counts(found),
        "words": found.length,
        "assignment": [stream_of[talker] for talker in range(len(references))],
        "surplus": [stream for stream in range(len(hypotheses)) if stream not in taken],
        "references": references,
        "hypotheses": hypotheses,
        "characters": _characters(references, hypotheses),
        "orc": _orc(references, hypotheses) if orc and hypotheses else None,
    }


def _counts(found: Any) -> dict[str, int]:
    return {key: getattr(found, key) for key in COUNTS}


def _characters(references: list[str], hypotheses: list[str]) -> dict:
    """Count as if each character were a word, with an assignment of its own."""
    spelt = [[_spelt(text) for text in texts] for texts in (references, hypotheses)]
    found = meeteval.wer.cp_word_error_rate(*spelt, **_AS_GIVEN)
    return {**_counts(found), "characters": found.length}


def _spelt(text: str) -> str:
    """Return the characters with blanks between them; those between words do not count, and <UNK> is one.

    >>> _spelt("NO ONE <UNK>")
    'N O O N E <UNK>'
    """
    return " ".join(word if word == UNKNOWN else " ".join(word) for word in text.split())


def _orc(references: list[str], hypotheses: list[str]) -> dict:
    """Try all assignments: a talker's words are one utterance here, so that there are few.

    meeteval's own search goes through the product of all streams' lengths: gigabytes for six streams.
    """
    talkers, streams = range(len(references)), range(len(hypotheses))

    @cache
    def alone(stream: int, chosen: tuple[int, ...]) -> Any:
        said = " ".join(references[k] for k in chosen)
        return meeteval.wer.siso_word_error_rate(said, hypotheses[stream])

    def heard(assignment: tuple[int, ...]) -> list:
        return [alone(s, tuple(k for k in talkers if assignment[k] == s)) for s in streams]

    best = min(product(streams, repeat=len(references)), key=lambda a: sum(one.errors for one in heard(a)))
    counts = {key: sum(getattr(one, key) for one in heard(best)) for key in COUNTS}
    return {**counts, "assignment": list(best)}


def word_error_rate(errors: np.ndarray, words: np.ndarray, seed: int) -> tuple[float, tuple[float, float]]:
    """Return the rate in percent and its 95 % bootstrap interval over utterances.

    Errors of two systems subtracted give the paired difference of their rates, in points.

    Args:
        errors: ``(n,)``, of each utterance.
        words: ``(n,)``, spoken in each utterance.
        seed: of the bootstrap.
    """
    return paired_ratio(100 * np.asarray(errors), words, seed)
