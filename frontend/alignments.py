"""Which word became which: the alignment behind a word error rate, and how a person reads it."""

from collections.abc import Sequence

import kaldialign

# No word of a text has a blank in it.
_GAP = " "


def align(reference: str, hypothesis: str) -> list[tuple[str | None, str | None]]:
    """Return pairs of words of least Levenshtein distance, in order.

    The library is the one that counts for meeteval, so that the errors are the counted ones.

    Args:
        reference: words separated by blanks.
        hypothesis: words separated by blanks.

    Returns:
        ``(reference, hypothesis)``; None in the first for an insertion, in the second for a deletion.

    >>> align("A B C", "A X C D")
    [('A', 'A'), ('B', 'X'), ('C', 'C'), (None, 'D')]
    """
    pairs = kaldialign.align(reference.split(), hypothesis.split(), _GAP)
    return [(None if a == _GAP else a, None if b == _GAP else b) for a, b in pairs]


def mark(pair: tuple[str | None, str | None]) -> str:
    """Return what a pair is: ``I``, ``D``, ``S``, or nothing where the words are the same."""
    reference, hypothesis = pair
    if reference is None:
        return "I"
    if hypothesis is None:
        return "D"
    return "" if reference == hypothesis else "S"


def readable(row: dict) -> str:
    """Return one utterance's alignments as text, a block a talker and one a surplus stream.

    Args:
        row: as :func:`frontend.wer.utterance_errors` returns it, with ``id``.
    """
    counts = f"{row['errors']} errors, {row['words']} words"
    kinds = " ".join(f"{row[kind]} {kind}" for kind in ("insertions", "deletions", "substitutions"))
    blocks = [f"{row['id']}: {counts} ({kinds})\n"]
    for talker, (reference, stream) in enumerate(zip(row["references"], row["assignment"], strict=True), 1):
        where = "no stream" if stream is None else f"stream {stream + 1}"
        hypothesis = "" if stream is None else row["hypotheses"][stream]
        blocks.append(_block(f"talker {talker} = {where}", align(reference, hypothesis)))
    for stream in row["surplus"]:
        blocks.append(_block(f"surplus stream {stream + 1}", align("", row["hypotheses"][stream])))
    return "".join(blocks)


def _block(title: str, pairs: Sequence[tuple[str | None, str | None]]) -> str:
    """Three lines with the words below each other; what is missing is a row of asterisks."""
    if not pairs:
        return f"  {title}, silent\n"
    lines = {"REF": [], "HYP": [], "": []}
    for pair in pairs:
        width = max(len(word) for word in pair if word)
        for name, word in zip(lines, (*(word or "*" * width for word in pair), mark(pair)), strict=True):
            lines[name].append(word.ljust(width))
    shown = (f"    {name:4}{' '.join(words)}".rstrip() + "\n" for name, words in lines.items())
    return f"  {title}\n" + "".join(line for line in shown if line.strip())
