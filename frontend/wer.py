"""Word errors of several streams against several talkers: cpWER and ORC-WER as meeteval counts them.

cpWER [1] gives each talker one stream, so that the errors are fewest; talkers without a stream are deletions,
streams without a talker insertions. ORC-WER [2] lets each talker choose any stream: it is the measure
where more streams than talkers come out and a talker may share one.

[1] Watanabe et al., CHiME-6 Challenge, 2020. [2] Sklyar et al., Multi-turn RNN-T for streaming recognition
of multi-party speech, 2022. Both counted by von Neumann et al., MeetEval, 2023.
"""

from collections.abc import Sequence

import meeteval.wer
import numpy as np

from frontend.intervals import paired_ratio
from frontend.text_normaliser import normalise

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
        (an index, or None); ``surplus``, the streams of none; both texts normalised; ``orc``, the same counts
        with its own assignment, or None.
    """
    references, hypotheses = [normalise(t) for t in references], [normalise(t) for t in hypotheses]
    found = meeteval.wer.cp_word_error_rate(references, hypotheses, **_AS_GIVEN)
    stream_of = dict(found.assignment)
    taken = {stream for talker, stream in found.assignment if talker is not None}
    if orc is None:
        orc = len(hypotheses) != len(references)
    return {
        "errors": found.errors,
        "words": found.length,
        **{kind: getattr(found, kind) for kind in KINDS},
        "assignment": [stream_of[talker] for talker in range(len(references))],
        "surplus": [stream for stream in range(len(hypotheses)) if stream not in taken],
        "references": references,
        "hypotheses": hypotheses,
        "orc": _orc(references, hypotheses) if orc and hypotheses else None,
    }


def _orc(references: list[str], hypotheses: list[str]) -> dict:
    # meeteval 0.4.3 misses the optimum where one of four or more streams is empty. No talker needs an empty
    # stream: all of its words are deletions there, and in a stream with words no more of them are.
    spoken = [k for k, text in enumerate(hypotheses) if text] or [0]
    streams = [hypotheses[k] for k in spoken]
    found = meeteval.wer.orc_word_error_rate(references, streams, **_AS_GIVEN)
    counts = {key: getattr(found, key) for key in COUNTS}
    return {**counts, "assignment": [spoken[k] for k in found.assignment]}


def word_error_rate(errors: np.ndarray, words: np.ndarray, seed: int) -> tuple[float, tuple[float, float]]:
    """Return the rate in percent and its 95 % bootstrap interval over utterances.

    Errors of two systems subtracted give the paired difference of their rates, in points.

    Args:
        errors: ``(n,)``, of each utterance.
        words: ``(n,)``, spoken in each utterance.
        seed: of the bootstrap.
    """
    return paired_ratio(100 * np.asarray(errors), words, seed)
