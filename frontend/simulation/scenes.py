"""Which noise a scene has: its level, and what it is made of.

Who is mixed with whom, and how loud: the talkers of scenes given by a list instead of drawn.

A list is text, one mixture a line: ``MIXTURE_ID UTTERANCE1 UTTERANCE2 LEVEL_DB``, the level being
that of talker 2 relative to talker 1 at the reference. Everything else of a scene is drawn as always.

Scenes: which room, array, talkers, levels and noise an utterance has; text, no audio.

A scene is a dictionary (one JSON line) with these keys; lengths are in metres from a corner
of the room, angles counter-clockwise:

``id, seed, fs, samples``
    ``samples`` is the length of the mixture (``max`` length mode: no talker is cut).
``room [x, y, z], t60``
    ``t60`` in seconds is nominal (Sabine); 0 is anechoic.
``array, mics [[x, y, z], ...]``
    kind of the array and its microphones; microphone 0 is the reference.
``talkers [{speaker, utterance, samples, position, level_db, offset}, ...]``
    level relative to talker 1 at the reference, offset in seconds.
``noise {kind, snr_db, utterances}, level_dbfs``
    utterances only for babble, and for recorded (of noise.scp); ``level_dbfs`` is the mixture's level.

Each quantity has a generator of its own, so that changing one in the configuration leaves
the others as they were (as in fgnt/mms_msg: sampling apart from rendering). All numbers are
rounded when drawn, so that the text is the exact scene.
"""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from frontend.data.speech import read_noises, read_speech
from frontend.simulation.config import JOINT_S, Range, SceneConfig, validate_scene
from frontend.utils.errors import UserError
from frontend.utils.files import write_text
from frontend.utils.parallel import progress
from frontend.utils.rng import generator


def draw_noise(
    draw: Any,
    config: SceneConfig,
    speakers: dict[str, list[str]] | None,
    talking: set[str],
    noises: dict[str, float] | None,
    samples: int,
) -> dict:
    """Draw the noise of a scene.

    Args:
        draw: the scene's draws (``frontend.simulation.scenes``).
        config: kind and level.
        speakers: speaker -> utterances, for babble.
        talking: the talkers' speakers, who are not in the babble.
        noises: recordings, id -> seconds, for noise of kind ``recorded``.
        samples: of the mixture.

    Raises:
        UserError: too little speech for babble, or no recordings.
    """
    if config.noise.kind == "none":
        return {"kind": "none"}
    noise = {"kind": config.noise.kind, "snr_db": draw.uniform(config.noise.snr_db, 1, "snr")}
    if config.noise.kind == "babble":
        others = [u for speaker, names in speakers.items() if speaker not in talking for u in names]
        count = config.noise.babble_talkers
        if len(others) < count:
            raise UserError(
                f"scene {draw.key[1]}: babble of {count} utterances needs as many by other speakers than "
                f"the talkers; found {len(others)}; lower noise: babble_talkers or give more speech"
            )
        picked = draw.rng("babble").choice(len(others), size=count, replace=False)
        noise["utterances"] = [others[int(k)] for k in picked]
    if config.noise.kind == "recorded":
        noise["utterances"] = _recordings(draw, noises or {}, samples / config.fs)
    return noise


def _recordings(draw: Any, noises: dict[str, float], seconds: float) -> list[str]:
    """Draw recordings until they are as long as the mixture when joined; all, if that is not enough."""
    if not noises:
        raise UserError(
            f"scene {draw.key[1]}: noise of kind 'recorded' needs noise.scp in the speech set, found none "
            "or an empty one (prepare the data with --noise_dir, or take another kind)"
        )
    names, picked, found = sorted(noises), [], 0.0
    for k in draw.rng("recorded").permutation(len(names)):
        picked.append(names[int(k)])
        found += noises[picked[-1]] - JOINT_S
        if found >= seconds:
            break
    return picked


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
    write_text(path, "".join(lines))


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


_TRIES_PLACE = 200  # of one talker beside the others
_TRIES_ARRAY = 50  # of an array position around which all talkers find a place


class _Draw:
    """Rounded draws of one utterance (or room of a bank), each from the generator of its purpose."""

    def __init__(self, seed: int, *name: str | int):
        self.key = (seed, *name)

    def rng(self, *purpose: str | int):
        return generator(*self.key, *purpose)

    def uniform(self, limits: Range, digits: int, *purpose: str | int) -> float:
        return round(float(self.rng(*purpose).uniform(*limits)), digits)


def sample_scene(
    utterance: str,
    config: SceneConfig,
    speech: dict[str, tuple[str, float]],
    seed: int,
    pair: Pair | None = None,
    noises: dict[str, float] | None = None,
    speakers: dict[str, list[str]] | None = None,
    bank: int | None = None,
) -> dict:
    """Draw the scene that belongs to ``(seed, utterance)``.

    Args:
        utterance: id of the mixture.
        config: ranges to draw from.
        speech: dry utterances to choose from: id -> (speaker, seconds); those longer than
            ``config.max_seconds`` are left out.
        seed: of the set.
        pair: the talkers' utterances and levels, given instead of drawn.
        noises: recorded noise to choose from, id -> seconds; only where the noise is of that kind.
        speakers: ``by_speaker(speech, config.max_seconds)``, where it is at hand already.
        bank: take the geometry (room, array, number of talkers and their places) from one of so many,
            which all sets of this seed share; None: each mixture has its own.

    Raises:
        UserError: too few speakers, or a geometry that finds no place in the room.
    """
    draw = _Draw(seed, utterance)
    where = _Draw(seed, "bank", int(draw.rng("bank").integers(bank))) if bank else draw
    number = _number(where, config)
    sides = (config.room.length, config.room.width, config.room.height)
    room = [where.uniform(side, 3, "room", axis) for axis, side in enumerate(sides)]
    centre, places = _place(where, config, room, number)
    if speakers is None and (pair is None or config.noise.kind == "babble"):
        speakers = by_speaker(speech, config.max_seconds)
    if pair is None:
        _check_enough(speakers, len(speech), config, number, utterance)
    talkers = _talkers(draw, config, speakers, places, speech, pair)
    samples = max(round(t["offset"] * config.fs) + t["samples"] for t in talkers)
    return {
        "id": utterance,
        "seed": seed,
        "fs": config.fs,
        "samples": samples,
        "room": room,
        "t60": where.uniform(config.t60, 3, "t60"),
        "array": config.array.kind,
        "mics": _microphones(where, config, centre),
        "talkers": talkers,
        "noise": draw_noise(draw, config, speakers, {t["speaker"] for t in talkers}, noises, samples),
        "level_dbfs": draw.uniform(config.level_dbfs, 1, "level_dbfs"),
    }


def _number(draw: _Draw, config: SceneConfig) -> int:
    single = draw.rng("n_talkers").random() < config.talkers.one_talker_share
    fewest, most = config.talkers.numbers
    return 1 if single else int(draw.rng("number").integers(fewest, most + 1))


def _place(
    draw: _Draw, config: SceneConfig, room: list[float], number: int
) -> tuple[list[float], list[list[float]]]:
    """Return the array's centre and the talkers' positions."""
    margin = config.array.wall_margin
    for attempt in range(_TRIES_ARRAY):
        rng = draw.rng("array", attempt)
        centre = [round(float(rng.uniform(margin, side - margin)), 3) for side in room[:2]]
        centre.append(draw.uniform(config.array.height, 3, "array_height"))
        places, azimuths = [], []
        for talker in range(number):
            found = _stand(draw, config, room, centre, azimuths, (talker, attempt))
            if found is None:
                break
            places.append(found[0])
            azimuths.append(found[1])
        else:
            return centre, places
    raise UserError(
        f"scene {' '.join(map(str, draw.key[1:]))}: {number} talkers at {config.talkers.distance} m from "
        f"the array and {config.talkers.min_angle} degrees apart found no place in a room of {room} m; "
        "take larger rooms, smaller distances or smaller margins"
    )


def _stand(draw, config, room, centre, azimuths, key) -> tuple[list[float], float] | None:
    """Find a place for one talker: (position, azimuth), or None after many tries."""
    limits, margin = config.talkers, config.talkers.wall_margin
    angle_rng, distance_rng = draw.rng("azimuth", *key), draw.rng("distance", *key)
    height = draw.uniform(limits.height, 3, "talker_height", key[0])
    for _ in range(_TRIES_PLACE):
        azimuth, distance = angle_rng.uniform(0, 360), distance_rng.uniform(*limits.distance)
        x = round(float(centre[0] + distance * math.cos(math.radians(azimuth))), 3)
        y = round(float(centre[1] + distance * math.sin(math.radians(azimuth))), 3)
        apart = min((abs((azimuth - a + 180) % 360 - 180) for a in azimuths), default=360.0)
        inside = margin <= x <= room[0] - margin and margin <= y <= room[1] - margin
        if inside and apart >= limits.min_angle:
            return [x, y, height], azimuth
    return None


def _microphones(draw: _Draw, config: SceneConfig, centre: list[float]) -> list[list[float]]:
    turn = math.radians(draw.rng("rotation").uniform(0, 360)) if config.array.rotate else 0.0
    cos, sin = math.cos(turn), math.sin(turn)
    mics = []
    for number, (x, y, z) in enumerate(config.array.offsets()):
        error = _displacement(draw, config, number)
        place = x * cos - y * sin, x * sin + y * cos, z
        # 0.1 mm: 1 mm would be 4 degrees of phase at 4 kHz.
        mics.append([round(c + p + e, 4) for c, p, e in zip(centre, place, error, strict=True)])
    return mics


def _displacement(draw: _Draw, config: SceneConfig, number: int) -> list[float]:
    """Return how far off its place a microphone is: [x, y, z] of a length drawn from ``jitter``."""
    if number == 0 or config.array.jitter[1] == 0:
        return [0.0, 0.0, 0.0]
    direction = draw.rng("jitter_direction", number).standard_normal(3)
    length = draw.rng("jitter", number).uniform(*config.array.jitter)
    return [float(v) for v in length * direction / math.hypot(*direction)]


def by_speaker(speech: dict[str, tuple[str, float]], max_seconds: float) -> dict[str, list[str]]:
    """Return speaker -> utterances of at most ``max_seconds``, both sorted."""
    speakers: dict[str, list[str]] = {}
    for name in sorted(speech):
        if 0 < speech[name][1] <= max_seconds:
            speakers.setdefault(speech[name][0], []).append(name)
    return dict(sorted(speakers.items()))


def _check_enough(speakers: dict, utterances: int, config: SceneConfig, number: int, scene: str) -> None:
    if len(speakers) < number:
        raise UserError(
            f"scene {scene}: {number} different speakers needed, the speech set has {len(speakers)} with "
            f"utterances of at most {config.max_seconds} s ({utterances} utterances in all); "
            "give more speech or raise max_seconds"
        )


def _talkers(draw, config, speakers, places, speech, pair: Pair | None) -> list[dict]:
    number = len(places)
    if pair is not None and number > len(pair.utterances):
        raise UserError(f"scene {draw.key[1]}: {number} talkers asked for, the list of mixtures gives 2")
    # All speakers are shuffled: talker 1 is then the same whatever the number of talkers.
    if pair is None:
        known = list(speakers)
        names = [known[int(k)] for k in draw.rng("speaker").permutation(len(known))[:number]]
    else:
        names = [speech[utterance][0] for utterance in pair.utterances[:number]]
    onsets = [draw.uniform(config.talkers.onset, 3, "onset", k) for k in range(number)]
    talkers = []
    for k, (name, place) in enumerate(zip(names, places, strict=True)):
        if pair is not None:
            utterance = pair.utterances[k]
        else:
            choice = speakers[name]
            utterance = choice[int(draw.rng("utterance", k).integers(len(choice)))]
        level = draw.uniform(config.talkers.level_db, 1, "level", k) if pair is None else pair.level_db
        samples = round(speech[utterance][1] * config.fs)
        latest = math.floor((config.max_seconds - samples / config.fs) * 1000 + 1e-6) / 1000
        talkers.append(
            {
                "speaker": name,
                "utterance": utterance,
                "samples": samples,
                "position": place,
                "level_db": level if k else 0.0,
                "offset": min(round(onsets[k] - min(onsets), 3), latest),  # someone starts at once
            }
        )
    return talkers


def write_scenes(path: str | Path, scenes: Iterable[dict]) -> None:
    """Write scenes as JSON lines, sorted by id, whole or not at all."""
    lines = [json.dumps(scene) for scene in sorted(scenes, key=lambda s: s["id"])]
    write_text(path, "".join(line + "\n" for line in lines))


def read_scenes(path: str | Path) -> list[dict]:
    """Read and check a file of scenes.

    Raises:
        UserError: naming file and line: not JSON, a missing or unknown key, a duplicate id,
            a microphone or talker outside the room, ...
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{path}: no such file of scenes; make it with mixit simulate scenes") from None
    scenes: dict[str, dict] = {}
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        try:
            scene = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: expected one scene in JSON: {error}; make the file again") from None
        validate_scene(scene, where)
        if scene["id"] in scenes:
            raise UserError(f"{where}: duplicate id '{scene['id']}'")
        scenes[scene["id"]] = scene
    if not scenes:
        raise UserError(
            f"{path}: expected one scene a line, found an empty file; make it with mixit simulate scenes"
        )
    return list(scenes.values())


def draw_set(
    config: SceneConfig,
    speech: str | Path,
    out: str | Path,
    num: int | None,
    prefix: str | None,
    pairs: str | Path | None,
    seed: int,
    bank: int | None = None,
) -> None:
    """Draw the scenes of a set, write them, and say how many.

    Args:
        config: the scene configuration.
        speech: speech set to draw talkers from.
        out: file to write.
        num: of mixtures; with ``pairs`` at most so many.
        prefix: of the ids, where they are not given by ``pairs``.
        pairs: file of given pairs (:func:`read_pairs`).
        seed: of all draws.
        bank: take rooms from so many; ``None``: each its own.

    Raises:
        UserError: naming what is wrong with the speech set or the pairs.
    """
    given = read_pairs(pairs) if pairs else []
    known = read_speech(speech, config.fs)
    noises = read_noises(speech, config.fs) if config.noise.kind == "recorded" else None
    mixtures: dict[str, Pair | None]
    if pairs:
        usable, left_out = usable_pairs(given, known, config.max_seconds, pairs)
        if left_out:
            print(left_out)
        if num is not None and num > len(usable):
            print(f"{pairs}: {num} mixtures asked for, it has {len(usable)}: all are taken")
        mixtures = {pair.id: pair for pair in usable[:num]}
    else:
        mixtures = {f"{prefix}_{number:06d}": None for number in range(num or 0)}
    speakers = by_speaker(known, config.max_seconds)
    scenes = [
        sample_scene(name, config, known, seed, pair, noises, speakers, bank)
        for name, pair in progress(mixtures.items(), len(mixtures), "scenes")
    ]
    for scene in scenes:
        validate_scene(scene, f"{out}: {scene['id']}")
    write_scenes(out, scenes)
    longer = sum(seconds > config.max_seconds for _, seconds in known.values())
    print(f"{out}: {len(scenes)} scenes from {len(known) - longer} utterances; {longer} are too long")
