"""Who is mixed with whom, and how loud: the talkers of scenes given by a list instead of drawn.

A list is text, one mixture a line: ``MIXTURE_ID UTTERANCE1 UTTERANCE2 LEVEL_DB``, the level being
that of talker 2 relative to talker 1 at the reference. Everything else of a scene is drawn as always.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from frontend import atomic
from frontend.errors import UserError
from frontend.rng import generator

# Of each talker, as LibriMix draws it (Cosentino et al. 2020, arXiv 2005.11262, section 3): LUFS.
LOUDNESS = (-33.0, -25.0)
# LibriMix leaves out what is shorter.
SHORTEST_S = 3.0
_FRUITLESS_PASSES = 20

Speech = dict[str, tuple[str, float]]  # utterance -> (speaker, seconds)


@dataclass(frozen=True)
class Pair:
    """The talkers of one mixture; ``level_db`` of the second relative to the first."""

    id: str
    utterances: tuple[str, str]
    level_db: float


def read_pairs(path: str | Path) -> list[Pair]:
    """Read a list of mixtures.

    Raises:
        UserError: naming file and line: no such file, not four columns, a level that is no number,
            a mixture listed twice, an utterance mixed with itself.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{path}: expected a list of mixtures, found no file (check the path)") from None
    pairs: dict[str, Pair] = {}
    for number, line in enumerate(lines, 1):
        pair = _parse(line, f"{path}:{number}")
        if pair.id in pairs:
            raise UserError(f"{path}:{number}: mixture '{pair.id}' is listed twice (keep one of the lines)")
        pairs[pair.id] = pair
    if not pairs:
        raise UserError(f"{path}: expected a mixture a line, found an empty file (make it again)")
    return list(pairs.values())


def _parse(line: str, where: str) -> Pair:
    words = line.split()
    try:
        name, first, second, level = words
        pair = Pair(name, (first, second), float(level))
    except ValueError:
        raise UserError(
            f"{where}: expected 'MIXTURE_ID UTTERANCE1 UTTERANCE2 LEVEL_DB', found '{line.strip()}'"
        ) from None
    if first == second:
        raise UserError(f"{where}: '{first}' is mixed with itself (take another utterance)")
    if not -60 <= pair.level_db <= 60:
        raise UserError(f"{where}: expected a level of -60 to 60 dB, found {level}")
    return pair


def write_pairs(path: str | Path, pairs: Iterable[Pair]) -> None:
    """Write a list of mixtures, whole or not at all."""
    lines = (f"{p.id} {' '.join(p.utterances)} {p.level_db:g}\n" for p in pairs)
    atomic.write_text(path, "".join(lines))


def usable_pairs(
    pairs: list[Pair], speech: Speech, max_seconds: float, where: str | Path
) -> tuple[list[Pair], str]:
    """Keep the mixtures whose utterances are there and not too long.

    Args:
        pairs: all of the list.
        speech: id -> (speaker, seconds).
        max_seconds: longer utterances are left out, and their mixtures with them.
        where: the list's file, for messages.

    Returns:
        the rest in the list's order, and a sentence on what was left out ("" if nothing was).

    Raises:
        UserError: two utterances of one speaker, or nothing is left.
    """
    kept, absent, long = [], [], []
    for pair in pairs:
        unknown = [u for u in pair.utterances if u not in speech]
        if unknown:
            absent += unknown[:1]
        elif max(speech[u][1] for u in pair.utterances) > max_seconds:
            long.append(pair.id)
        elif len({speech[u][0] for u in pair.utterances}) < 2:
            raise UserError(
                f"{where}: mixture '{pair.id}': both utterances are by {speech[pair.utterances[0]][0]}; "
                "expected two speakers (is utt2spk of the speech set right?)"
            )
        else:
            kept.append(pair)
    said = [f"{len(long)} are longer than {max_seconds:g} s"] if long else []
    if absent:
        said.append(f"{len(absent)} name an utterance that the speech set lacks, such as '{absent[0]}'")
    if not kept:
        raise UserError(
            f"{where}: no mixture of {len(pairs)} can be made: {'; '.join(said)} "
            "(give the speech set that the list was made for, or raise max_seconds)"
        )
    return kept, f"{where}: of {len(pairs)} mixtures, {'; '.join(said)}: left out" if said else ""


def draw_pairs(
    speech: Speech,
    number: int,
    prefix: str,
    seed: int,
    loudness: tuple[float, float] = LOUDNESS,
    shortest: float = SHORTEST_S,
    longest: float = float("inf"),
) -> list[Pair]:
    """Draw mixtures ``PREFIX_000000 ...`` with LibriMix's statistics.

    Pass by pass, each a new random order, every utterance is used once, with one by another speaker
    (but for a few at a pass's end, where one speaker is left alone); no pair comes twice. Each talker's
    loudness is uniform in ``loudness``, so their difference is triangular.

    Args:
        speech: id -> (speaker, seconds).
        number: of mixtures; a larger one keeps the first as they were.
        prefix: of their ids.
        seed: of all draws.
        loudness: dB, lowest and highest.
        shortest: seconds; shorter utterances are left out.
        longest: seconds; longer utterances are left out.

    Returns:
        ``number`` mixtures, or fewer where there are no more different pairs.

    Raises:
        UserError: fewer than two speakers have utterances of that length.
    """
    usable = {name: who for name, (who, seconds) in speech.items() if shortest <= seconds <= longest}
    if len(set(usable.values())) < 2:
        raise UserError(
            f"{prefix}: expected utterances of {shortest:g} to {longest:g} s by 2 speakers or more, found "
            f"{len(usable)} by {len(set(usable.values()))} (take more speech)"
        )
    found = islice(_different_pairs(usable, prefix, seed), number)
    return [_levelled(f"{prefix}_{k:06d}", names, seed, loudness) for k, names in enumerate(found)]


def _levelled(name: str, utterances: tuple[str, str], seed: int, loudness: tuple[float, float]) -> Pair:
    first, second = generator(seed, name, "loudness").uniform(*loudness, 2)
    return Pair(name, utterances, round(float(second - first), 1))


def _different_pairs(speakers: dict[str, str], prefix: str, seed: int) -> Iterator[tuple[str, str]]:
    """Yield pairs of utterances by different speakers, none twice, until there seem to be no more."""
    names, seen, fruitless, turn = sorted(speakers), set(), 0, 0
    while fruitless < _FRUITLESS_PASSES:
        order = generator(seed, prefix, "pairs", turn).permutation(len(names))
        new = [p for p in _pass([names[k] for k in order], speakers) if frozenset(p) not in seen]
        seen.update(map(frozenset, new))
        fruitless, turn = 0 if new else fruitless + 1, turn + 1
        yield from new


def _pass(order: list[str], speakers: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Pair each utterance with the earliest waiting one by another speaker; all waiting are by one."""
    waiting: list[str] = []
    for name in order:
        if waiting and speakers[waiting[0]] != speakers[name]:
            yield waiting.pop(0), name
        else:
            waiting.append(name)
