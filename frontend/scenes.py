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
    utterances only for babble; ``level_dbfs`` is the level of the mixture.

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
from frontend.scene_yaml import load_config

__all__ = ["load_config", "read_scenes", "sample_scene", "validate_scene", "write_scenes"]

_TRIES_PLACE = 200  # of one talker beside the others
_TRIES_ARRAY = 50  # of an array position around which all talkers find a place


class _Draw:
    """Rounded draws of one utterance, each from the generator of its purpose."""

    def __init__(self, seed: int, utterance: str):
        self.key = (seed, utterance)

    def rng(self, *purpose: str | int):
        return generator(*self.key, *purpose)

    def uniform(self, limits: Range, digits: int, *purpose: str | int) -> float:
        return round(float(self.rng(*purpose).uniform(*limits)), digits)


def sample_scene(
    utterance: str, config: SceneConfig, speech: dict[str, tuple[str, float]], seed: int
) -> dict:
    """Draw the scene that belongs to ``(seed, utterance)``.

    Args:
        utterance: id of the mixture.
        config: ranges to draw from.
        speech: dry utterances to choose from: id -> (speaker, seconds); those longer than
            ``config.max_seconds`` are left out.
        seed: of the set.

    Raises:
        UserError: too few speakers, or a geometry that finds no place in the room.
    """
    draw = _Draw(seed, utterance)
    single = draw.rng("n_talkers").random() < config.talkers.one_talker_share
    number = 1 if single else config.talkers.number
    sides = (config.room.length, config.room.width, config.room.height)
    room = [draw.uniform(side, 3, "room", axis) for axis, side in enumerate(sides)]
    centre, places = _place(draw, config, room, number)
    speakers = _speakers(speech, config, number, utterance)
    talkers = _talkers(draw, config, speakers, places, speech)
    return {
        "id": utterance,
        "seed": seed,
        "fs": config.fs,
        "samples": max(round(t["offset"] * config.fs) + t["samples"] for t in talkers),
        "room": room,
        "t60": draw.uniform(config.t60, 3, "t60"),
        "array": config.array.kind,
        "mics": _microphones(draw, config, centre),
        "talkers": talkers,
        "noise": _noise(draw, config, speakers, {t["speaker"] for t in talkers}, utterance),
        "level_dbfs": draw.uniform(config.level_dbfs, 1, "level_dbfs"),
    }


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
        f"scene {draw.key[1]}: {number} talkers at {config.talkers.distance} m from the array and "
        f"{config.talkers.min_angle} degrees apart found no place in a room of {room} m; "
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
    return [
        # 0.1 mm: 1 mm would be 4 degrees of phase at 4 kHz.
        [
            round(centre[0] + x * cos - y * sin, 4),
            round(centre[1] + x * sin + y * cos, 4),
            round(centre[2] + z, 4),
        ]
        for x, y, z in config.array.offsets()
    ]


def _speakers(speech: dict, config: SceneConfig, number: int, utterance: str) -> dict[str, list[str]]:
    """Speaker -> utterances short enough, both sorted; at least ``number`` speakers."""
    speakers: dict[str, list[str]] = {}
    for name in sorted(speech):
        if 0 < speech[name][1] <= config.max_seconds:
            speakers.setdefault(speech[name][0], []).append(name)
    if len(speakers) < number:
        raise UserError(
            f"scene {utterance}: {number} different speakers needed, the speech set has {len(speakers)} with "
            f"utterances of at most {config.max_seconds} s ({len(speech)} utterances in all); "
            "give more speech or raise max_seconds"
        )
    return dict(sorted(speakers.items()))


def _talkers(draw, config, speakers: dict[str, list[str]], places, speech) -> list[dict]:
    number = len(places)
    # All speakers are shuffled: talker 1 is then the same whatever the number of talkers.
    order = draw.rng("speaker").permutation(len(speakers))[:number]
    names = [list(speakers)[int(k)] for k in order]
    onsets = [draw.uniform(config.talkers.onset, 3, "onset", k) for k in range(number)]
    talkers = []
    for k, (name, place) in enumerate(zip(names, places, strict=True)):
        choice = speakers[name]
        utterance = choice[int(draw.rng("utterance", k).integers(len(choice)))]
        samples = round(speech[utterance][1] * config.fs)
        latest = math.floor((config.max_seconds - samples / config.fs) * 1000 + 1e-6) / 1000
        talkers.append(
            {
                "speaker": name,
                "utterance": utterance,
                "samples": samples,
                "position": place,
                "level_db": draw.uniform(config.talkers.level_db, 1, "level", k) if k else 0.0,
                "offset": min(round(onsets[k] - min(onsets), 3), latest),  # someone starts at once
            }
        )
    return talkers


def _noise(draw, config, speakers, talking: set[str], utterance: str) -> dict:
    if config.noise.kind == "none":
        return {"kind": "none"}
    noise = {"kind": config.noise.kind, "snr_db": draw.uniform(config.noise.snr_db, 1, "snr")}
    if config.noise.kind == "babble":
        others = [u for speaker, names in speakers.items() if speaker not in talking for u in names]
        count = config.noise.babble_talkers
        if len(others) < count:
            raise UserError(
                f"scene {utterance}: babble of {count} utterances needs as many by other speakers than "
                f"the talkers; found {len(others)}; lower noise: babble_talkers or give more speech"
            )
        picked = draw.rng("babble").choice(len(others), size=count, replace=False)
        noise["utterances"] = [others[int(k)] for k in picked]
    return noise


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
