"""Lists of mixtures: LibriMix's public tables (``metadata/Libri2Mix`` of its repository), or drawn like them.

One table a subset, ``libri2mix_SUBSET.csv``: mixture_ID, source_K_path, source_K_gain, noise_path,
noise_gain. A gain is a factor on the waveform as it is stored.
"""

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from frontend.simulation.pairs import Pair, Speech
from frontend.utils.errors import UserError
from frontend.utils.files import read_text
from frontend.utils.rng import generator

# Of each talker, as LibriMix draws it (Cosentino et al. 2020, arXiv 2005.11262, section 3): LUFS.
LOUDNESS = (-33.0, -25.0)
# LibriMix leaves out what is shorter.
SHORTEST_S = 3.0
_FRUITLESS_PASSES = 20
_COLUMNS = ("mixture_ID", "source_1_path", "source_1_gain", "source_2_path", "source_2_gain")


@dataclass(frozen=True)
class Listed:
    """One row: the utterances of a mixture and the factors on their waveforms."""

    id: str
    utterances: tuple[str, str]
    gains: tuple[float, float]


def read_table(directory: Path, subset: str) -> list[Listed]:
    """Return the mixtures of ``libri2mix_SUBSET.csv``, in its order.

    Raises:
        UserError: naming file and line: no table, other columns, a path of another subset, a bad gain.
    """
    path = directory / f"libri2mix_{subset}.csv"
    if not path.is_file():
        below = sorted(directory.glob(f"*/{path.name}")) + sorted(directory.glob(f"*/*/{path.name}"))
        hint = f"give {below[0].parent}" if below else "metadata/Libri2Mix of LibriMix's repository has it"
        raise UserError(f"{path}: expected LibriMix's table of {subset}, found no file ({hint})")
    with io.StringIO(read_text(path), newline="") as file:
        table = csv.DictReader(file)
        lacking = [name for name in _COLUMNS if name not in (table.fieldnames or [])]
        if lacking:
            raise UserError(
                f"{path}:1: expected the columns {', '.join(_COLUMNS)}; found no {', '.join(lacking)} "
                "(not the _info table)"
            )
        rows = [_listed(row, subset, f"{path}:{table.line_num}") for row in table]
    if not rows:
        raise UserError(f"{path}: expected a mixture a line, found none (copy the table again)")
    return rows


def _listed(row: dict, subset: str, where: str) -> Listed:
    if any(row[name] is None for name in _COLUMNS):
        raise UserError(
            f"{where}: expected {len(_COLUMNS)} columns or more, found fewer (cut off? copy it again)"
        )
    paths = [PurePosixPath(row[f"source_{k}_path"]) for k in (1, 2)]
    for path in paths:
        if path.parts[0] != subset or path.suffix != ".flac":
            raise UserError(f"{where}: expected a path {subset}/SPEAKER/CHAPTER/ID.flac, found '{path}'")
    try:
        gains = [float(row[f"source_{k}_gain"]) for k in (1, 2)]
    except ValueError:
        gains = [math.nan]
    if not all(0 < gain < math.inf for gain in gains):
        raise UserError(
            f"{where}: expected gains above 0, found {row['source_1_gain']}, {row['source_2_gain']}"
        )
    return Listed(row["mixture_ID"], (paths[0].stem, paths[1].stem), (gains[0], gains[1]))


def first_utterances(rows: list[Listed], number: int) -> set[str]:
    """Return the utterances of the table's first mixtures: at most ``number`` of them (0: all)."""
    taken: set[str] = set()
    for row in rows:
        if 0 < number < len(taken | {*row.utterances}):
            break
        taken |= {*row.utterances}
    return taken


def to_pairs(rows: list[Listed], levels: dict[str, float]) -> list[Pair]:
    """Return the mixtures whose utterances have a level, with the level between their talkers.

    LibriMix draws loudness (LUFS) and writes gains; scenes want the level between talkers by active frames.
    Hence ``20 log10(gain_2 / gain_1) + level_2 - level_1``, the level of each stored waveform in dB.
    """
    pairs = []
    for row in rows:
        one, two = (levels.get(name) for name in row.utterances)
        if one is not None and two is not None:
            level = 20 * math.log10(row.gains[1] / row.gains[0]) + two - one
            pairs.append(Pair(row.id, row.utterances, round(level, 1)))
    return pairs


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
