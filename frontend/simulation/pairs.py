"""Who is mixed with whom, and how loud: lists of mixtures whose talkers are given instead of drawn.

A list is text, one mixture a line: ``MIXTURE_ID UTTERANCE1 UTTERANCE2 LEVEL_DB``, the level being that of
talker 2 relative to talker 1 at the reference microphone. All else of a scene is drawn as always.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from frontend.utils.errors import UserError
from frontend.utils.files import read_lines, write_text

Speech = dict[str, tuple[str, float]]  # utterance -> (speaker, seconds)


@dataclass(frozen=True)
class Pair:
    """The talkers of one mixture; ``level_db`` of the second relative to the first."""

    id: str
    utterances: tuple[str, str]
    level_db: float


def read_pairs(path: str | Path) -> list[Pair]:
    """Read a list of mixtures, ``MIXTURE_ID UTTERANCE1 UTTERANCE2 LEVEL_DB`` a line.

    Raises:
        UserError: naming file and line: no such file, not four columns, a level that is no number,
            a mixture listed twice, an utterance mixed with itself.
    """
    pairs: dict[str, Pair] = {}
    for number, line in read_lines(path, "a list of mixtures"):
        where = f"{path}:{number}"
        try:
            name, first, second, level = line.split()
            pair = Pair(name, (first, second), float(level))
        except ValueError:
            raise UserError(
                f"{where}: expected 'MIXTURE_ID UTTERANCE1 UTTERANCE2 LEVEL_DB', found '{line}'"
            ) from None
        if first == second:
            raise UserError(f"{where}: '{first}' is mixed with itself (take another utterance)")
        if not -60 <= pair.level_db <= 60:
            raise UserError(f"{where}: expected a level of -60 to 60 dB, found {level}")
        if name in pairs:
            raise UserError(f"{where}: mixture '{name}' is listed twice (keep one of the lines)")
        pairs[name] = pair
    if not pairs:
        raise UserError(f"{path}: expected a list of mixtures, found an empty file (make it again)")
    return list(pairs.values())


def write_pairs(path: str | Path, pairs: Iterable[Pair]) -> None:
    """Write a list of mixtures, whole or not at all."""
    lines = (f"{p.id} {' '.join(p.utterances)} {p.level_db:g}\n" for p in pairs)
    write_text(path, "".join(lines))


def usable_pairs(
    pairs: list[Pair], speech: Speech, max_seconds: float, where: str | Path
) -> tuple[list[Pair], str]:
    """Keep the mixtures whose utterances are there and not longer than ``max_seconds``.

    Returns:
        the rest in the order of the list, and a sentence on what was left out ("" if nothing was).

    Raises:
        UserError: two utterances of one speaker, or nothing is left; ``where``, the list's file, is named.
    """
    kept, absent, long = [], [], 0
    for pair in pairs:
        unknown = [u for u in pair.utterances if u not in speech]
        if unknown:
            absent += unknown[:1]
        elif max(speech[u][1] for u in pair.utterances) > max_seconds:
            long += 1
        elif len({speech[u][0] for u in pair.utterances}) < 2:
            raise UserError(
                f"{where}: mixture '{pair.id}': both utterances are by {speech[pair.utterances[0]][0]}; "
                "expected two speakers (is utt2spk of the speech set right?)"
            )
        else:
            kept.append(pair)
    why = [f"{long} are longer than {max_seconds:g} s"] if long else []
    if absent:
        why.append(f"{len(absent)} name an utterance that the speech set lacks, such as '{absent[0]}'")
    if not kept:
        raise UserError(
            f"{where}: no mixture of {len(pairs)} can be made: {'; '.join(why)} "
            "(give the speech set that the list was made for, or raise max_seconds)"
        )
    return kept, f"{where}: of {len(pairs)} mixtures, {'; '.join(why)}: left out" if why else ""
