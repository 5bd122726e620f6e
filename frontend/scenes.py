"""Scenes: which room, array, talkers, levels and noise an utterance has; text, no audio.

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
from collections.abc import Iterable
from pathlib import Path

from frontend import atomic
from frontend.errors import UserError
from frontend.rng import generator
from frontend.scene_check import validate_scene
from frontend.scene_config import Range, SceneConfig
from frontend.scene_noise import draw_noise
from frontend.scene_pairs import Pair
from frontend.scene_yaml import load_config

__all__ = ["load_config", "read_scenes", "sample_scene", "validate_scene", "write_scenes"]

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
    atomic.write_text(path, "".join(line + "\n" for line in lines))


def read_scenes(path: str | Path) -> list[dict]:
    """Read and check a file of scenes.

    Raises:
        UserError: naming file and line: not JSON, a missing or unknown key, a duplicate id,
            a microphone or talker outside the room, ...
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{path}: no such file of scenes; make it with frontend.bin.scenes") from None
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
            f"{path}: expected one scene a line, found an empty file; make it with frontend.bin.scenes"
        )
    return list(scenes.values())
