"""Words that a recogniser can never put out, because its tokens do not make them."""

from collections import Counter
from collections.abc import Iterable

from frontend.recogniser_files import RecogniserFiles
from frontend.text_normaliser import normalise
from frontend.token_list import unknown


def unknown_words(texts: Iterable[str], files: RecogniserFiles) -> str:
    """Say what of reference texts a recogniser has no tokens for, both normalised as for scoring.

    Returns:
        counted and named: words, where its tokens are words, else characters that none of its tokens has.
        Empty where there are none, and where its tokens are of another kind, such as bytes.
    """
    if files.token_type == "word":
        known = {word for token in files.tokens for word in normalise(token).split()}
        return unknown(Counter(w for text in texts for w in normalise(text).split()), known, "word")
    if files.token_type not in ("char", "bpe"):
        return ""
    # An apostrophe is dropped from a token that is nothing else, though it makes words.
    known = {character for token in files.tokens for character in normalise(token) + token.upper()}
    return unknown(Counter(c for text in texts for c in normalise(text) if c != " "), known, "char")
