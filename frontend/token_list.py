"""The tokens of a recogniser to be trained: listed from its training text, and checked against other texts.

Words, characters, or pieces of words (sentencepiece), as ESPnet's tokenizers cut them; the list is
that of ``espnet2.bin.tokenize_text``: by frequency, between ``<blank> <unk>`` and ``<sos/eos>``.
"""

import io
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from frontend import atomic
from frontend.errors import UserError

FIRST, LAST = ("<blank>", "<unk>"), "<sos/eos>"
_KINDS = {"word": "word", "char": "character", "bpe": "piece"}
_NAMED = 10  # unknown tokens in a message


def count(texts: Iterable[str], cut: Callable[[str], list[str]]) -> Counter:
    """Count the tokens of texts.

    Args:
        texts: to be cut.
        cut: text -> tokens.
    """
    counts: Counter = Counter()
    for text in texts:
        counts.update(cut(text))
    return counts


def make_list(counts: Counter) -> list[str]:
    """Return the token list of a counted text; of equally frequent tokens, the one met first comes first.

    Raises:
        UserError: the text has a token that is the model's own.
    """
    for special in (FIRST[0], LAST):
        if special in counts:
            raise UserError(
                f"the training text says {special}, a token of the model's own (take it out of the text)"
            )
    words = [token for token in counts if token not in FIRST]
    return [*FIRST, *sorted(words, key=lambda token: -counts[token]), LAST]


def read_list(path: str | Path) -> list[str]:
    """Read a token list, one token a line.

    Raises:
        UserError: no such file, a token twice, or not the special tokens in their places.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UserError(f"{path}: expected a token list (--token_list), found no such file") from None
    tokens = [line.rstrip() for line in text.removesuffix("\n").split("\n")]
    if tuple(tokens[:2]) != FIRST or tokens[-1] != LAST:
        raise UserError(
            f"{path}: expected {' '.join(FIRST)} ... {LAST}, one token a line, "
            f"found {' '.join(tokens[:2])} ... {tokens[-1]}"
        )
    for token, times in Counter(tokens).items():
        if times > 1:
            raise UserError(f"{path}: token {token} occurs {times} times (keep one of the lines)")
    return tokens


def write_list(path: str | Path, tokens: Iterable[str]) -> None:
    """Write a token list, one token a line, whole or not at all."""
    atomic.write_text(path, "".join(f"{token}\n" for token in tokens))


def unknown(counts: Counter, tokens: Iterable[str], token_type: str) -> str:
    """Say which tokens of a text are not in a list; an empty string where all are.

    >>> unknown(Counter({"FOO": 2, "ONE": 7, "BAR": 1}), ["ONE"], "word")
    "3 words unknown to the model's tokens: FOO (2), BAR (1)"
    """
    known = set(tokens)
    strange = {token: n for token, n in counts.items() if token not in known}
    if not strange:
        return ""
    total, kind = sum(strange.values()), _KINDS[token_type]
    order = sorted(strange, key=lambda token: (-strange[token], token))
    named = ", ".join(f"{token} ({strange[token]})" for token in order[:_NAMED])
    more = f" and {len(order) - _NAMED} more" if len(order) > _NAMED else ""
    return f"{total} {kind}{'s' if total > 1 else ''} unknown to the model's tokens: {named}{more}"


def train_pieces(path: str | Path, texts: Iterable[str], size: int, mode: str) -> None:
    """Train a sentencepiece model, with the settings of ESPnet's recipes, whole or not at all.

    Args:
        path: of the model to make.
        texts: to train on.
        size: of the vocabulary.
        mode: ``unigram`` or ``bpe``.

    Raises:
        UserError: the text has too few or too many different pieces for that size.
    """
    import sentencepiece  # of ESPnet's packages, and for this alone

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=size,
            model_type=mode,
            character_coverage=1.0,
            num_threads=1,  # sums in one order
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(f"--nbpe {size}: the training text gives no such vocabulary: {error}") from None
    with atomic.file(path) as part:
        part.write_bytes(model.getvalue())


def read_pieces(path: str | Path) -> list[str]:
    """Return the token list of a sentencepiece model; its own special pieces are ESPnet's.

    Raises:
        UserError: no such file, or no such model.
    """
    import sentencepiece

    try:
        model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError):
        raise UserError(f"{path}: expected a sentencepiece model (--bpemodel), found none") from None
    special = {"<unk>", "<s>", "</s>"}
    found = [model.id_to_piece(i) for i in range(model.get_piece_size())]
    return [*FIRST, *(piece for piece in found if piece not in special), LAST]
