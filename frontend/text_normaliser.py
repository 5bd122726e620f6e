"""One form for reference and hypothesis before words are counted: punctuation and case are no errors.

Both sides go through :func:`normalise` and nothing else; :data:`RULES` says in words what it does, and stands
beside every figure that was counted so.
"""

import re
import unicodedata

UNKNOWN = "<UNK>"
RULES = (
    "Unicode NFKC; typographic apostrophes become '",
    "upper case",
    "tags without blanks in angle or square brackets (<noise>, [LAUGHTER]) are removed: no words",
    "<unk> and [unk] stay, as the word <UNK>: who puts it out has heard a word and got it wrong",
    "apostrophes inside a word stay, all other punctuation (hyphens too) becomes a blank",
    "symbols such as + stay, invisible format marks go",
    "white space of any kind and number becomes one blank, none at the ends",
    "numbers, spellings and contractions stay as they are written",
)

# As typed or set: grave and acute accents standing alone, quotation marks, the modifier letter, primes.
_APOSTROPHES = str.maketrans(dict.fromkeys("`\u00b4\u2018\u2019\u02bc\u2032\uff07", "'"))
_UNKNOWN = re.compile(r"<UNK>|\[UNK\]")
_TAG = re.compile(r"<[^<>\[\]\s]+>|\[[^<>\[\]\s]+\]")
_NOT_INSIDE_WORD = re.compile(r"(?<!\w)'|'(?!\w)")


def normalise(text: str) -> str:
    """Return ``text`` by :data:`RULES`; empty where no word is left.

    >>> normalise("Don\u2019t turn-on  the\u00a0'kitchen' light!")
    "DON'T TURN ON THE KITCHEN LIGHT"
    >>> normalise("um <noise> seven, <unk> [laughter]")
    'UM SEVEN <UNK>'
    """
    text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).upper()
    parts = (_plain(_TAG.sub(" ", part)) for part in _UNKNOWN.split(text))
    return " ".join(f" {UNKNOWN} ".join(parts).split())


def _plain(text: str) -> str:
    text = "".join(character if character == "'" else _spoken(character) for character in text)
    return _NOT_INSIDE_WORD.sub(" ", text)


def _spoken(character: str) -> str:
    """Return what stays of a character: a blank of punctuation and separators, nothing of format marks."""
    category = unicodedata.category(character)
    return "" if category == "Cf" else " " if category[0] in "PZC" else character
