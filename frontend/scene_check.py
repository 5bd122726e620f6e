"""Is a scene possible, or a configuration of scenes? Everyone inside the room, every number in its place."""

import math
from typing import Any

from frontend.errors import UserError, did_you_mean
from frontend.scene_config import ARRAY_KINDS, NOISE_KINDS, SceneConfig, sabine_absorption

_KEYS = ("id", "seed", "fs", "samples", "room", "t60", "array", "mics", "talkers", "noise", "level_dbfs")
_TALKER_KEYS = ("speaker", "utterance", "samples", "position", "level_db", "offset")
_CLEARANCE = 0.01  # metres from a wall, and between a talker and a microphone


def validate_scene(scene: Any, where: str) -> None:
    """Check one scene.

    Args:
        scene: as described in :mod:`frontend.scenes`; ``measured`` may be there as well.
        where: file and line, for the message.

    Raises:
        UserError: one line that names what is impossible.
    """

    def fail(what: str) -> None:
        raise UserError(f"{where}: {what}")

    _check_keys(scene, _KEYS, ("measured", "virtual"), "scene", fail)
    if not (isinstance(scene["id"], str) and scene["id"] and not set(scene["id"]) & set(" \t/")):
        fail(f"id: expected a name without spaces or slashes; found {scene['id']!r}")
    for key in ("fs", "samples"):
        if not (type(scene[key]) is int and scene[key] > 0):
            fail(f"{key}: expected a positive integer; found {scene[key]!r}")
    if type(scene["seed"]) is not int:
        fail(f"seed: expected an integer; found {scene['seed']!r}")
    _check_room(scene, fail)
    if scene["array"] not in ARRAY_KINDS:
        fail(f"array: expected one of {ARRAY_KINDS}; found {scene['array']!r}")
    if not (isinstance(scene["mics"], list) and scene["mics"]):
        fail("mics: expected at least one microphone")
    for number, mic in enumerate(scene["mics"]):
        _check_inside(mic, scene["room"], f"microphone {number}", fail)
    _check_talkers(scene, fail)
    _check_noise(scene["noise"], fail)
    if not (_is_number(scene["level_dbfs"]) and scene["level_dbfs"] <= 0):
        fail(f"level_dbfs: expected a level of at most 0 dB; found {scene['level_dbfs']!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))


def _check_keys(content: Any, needed: tuple, optional: tuple, what: str, fail) -> None:
    if not isinstance(content, dict):
        fail(f"{what}: expected keys {', '.join(needed)}; found {content!r}")
    for key in content:
        if key not in needed + optional:
            fail(f"{what}: unknown key '{key}'{did_you_mean(key, needed + optional)}")
    for key in needed:
        if key not in content:
            fail(f"{what}: key '{key}' is missing")


def _check_room(scene: dict, fail) -> None:
    if not (_is_point(scene["room"]) and min(scene["room"]) > 2 * _CLEARANCE):
        fail(f"room: expected three sides in metres; found {scene['room']!r}")
    if not (_is_number(scene["t60"]) and scene["t60"] >= 0):
        fail(f"t60: expected seconds, 0 for anechoic; found {scene['t60']!r}")
    if scene["t60"] > 0 and sabine_absorption(scene["room"], scene["t60"]) > 1:
        shortest = sabine_absorption(scene["room"], 1.0)
        fail(f"t60: {scene['t60']} s cannot be had in a room of {scene['room']} m; at least {shortest:.3f} s")


def _check_inside(point: Any, room: list, who: str, fail) -> None:
    if not _is_point(point):
        fail(f"{who}: expected a position [x, y, z] in metres; found {point!r}")
    for axis, value, side in zip("xyz", point, room, strict=True):
        if not 0 <= value <= side:
            fail(f"{who} is outside the room: {axis} = {value} m, the room has 0 to {side} m")
        if not _CLEARANCE <= value <= side - _CLEARANCE:
            fail(f"{who} stands in a wall: {axis} = {value} m, keep {_CLEARANCE} m off 0 and {side} m")


def _check_talkers(scene: dict, fail) -> None:
    talkers = scene["talkers"]
    if not (isinstance(talkers, list) and talkers):
        fail("talkers: expected at least one talker")
    for number, talker in enumerate(talkers, 1):
        who = f"talker {number}"
        _check_keys(talker, _TALKER_KEYS, (), who, fail)
        _check_inside(talker["position"], scene["room"], who, fail)
        for mic, position in enumerate(scene["mics"]):
            if math.dist(position, talker["position"]) < _CLEARANCE:
                fail(f"{who} stands in microphone {mic}; keep {_CLEARANCE} m apart")
        if not (type(talker["samples"]) is int and talker["samples"] > 0):
            fail(f"{who}: samples: expected a positive integer; found {talker['samples']!r}")
        if not (_is_number(talker["level_db"]) and _is_number(talker["offset"]) and talker["offset"] >= 0):
            fail(f"{who}: expected level_db in dB and offset in seconds from 0")
        end = round(talker["offset"] * scene["fs"]) + talker["samples"]
        if end > scene["samples"]:
            fail(f"{who} ends at sample {end}, after the mixture's {scene['samples']}")
    speakers = [talker["speaker"] for talker in talkers]
    if len(set(speakers)) < len(speakers):
        fail(f"talkers: expected different speakers; found {speakers}")


def _check_noise(noise: Any, fail) -> None:
    kind = noise.get("kind") if isinstance(noise, dict) else None
    if kind not in NOISE_KINDS:
        fail(f"noise: kind: expected one of {NOISE_KINDS}; found {kind!r}")
    needed = {"none": ("kind",), "white": ("kind", "snr_db")}.get(kind, ("kind", "snr_db", "utterances"))
    _check_keys(noise, needed, (), "noise", fail)
    if kind != "none" and not _is_number(noise["snr_db"]):
        fail(f"noise: snr_db: expected dB; found {noise['snr_db']!r}")
    if "utterances" in needed and not (isinstance(noise["utterances"], list) and noise["utterances"]):
        fail(f"noise: utterances: {kind} needs at least one utterance")


def config_problems(config: SceneConfig) -> list[str]:
    """Return what cannot be met, each as ``key: expected; found; what to do``."""
    room, array, talkers, noise = config.room, config.array, config.talkers, config.noise
    lowest_side = min(room.length[0], room.width[0], room.height[0])
    requirements = [
        (config.fs > 0, f"fs: expected a positive rate in Hz; found {config.fs}"),
        (config.max_seconds > 0, f"max_seconds: expected more than 0; found {config.max_seconds}"),
        (config.level_dbfs[1] <= 0, f"level_dbfs: expected at most 0 dB; found {config.level_dbfs[1]}"),
        (config.t60[0] >= 0, f"t60: expected seconds, 0 for anechoic; found {config.t60[0]}"),
        (lowest_side > 0, f"room: expected positive sides in metres; found {lowest_side}"),
        (array.kind in ARRAY_KINDS, f"array: kind: {_one_of(array.kind, ARRAY_KINDS)}"),
        (noise.kind in NOISE_KINDS, f"noise: kind: {_one_of(noise.kind, NOISE_KINDS)}"),
        (array.radius > 0 < array.spacing, "array: expected a radius and a spacing above 0"),
        (array.n >= 1, f"array: n: expected at least one microphone; found {array.n}"),
        (array.channels >= 0, f"array: expected at least one channel; found {array.channels}"),
        (talkers.numbers[0] >= 1, f"talkers: number: expected at least 1; found {talkers.numbers[0]}"),
        (array.jitter[0] >= 0, f"array: jitter: expected metres from 0; found {array.jitter[0]}"),
        (0 <= talkers.one_talker_share <= 1, "talkers: one_talker_share: expected 0 to 1"),
        (talkers.onset[0] >= 0, f"talkers: onset: expected seconds from 0; found {talkers.onset[0]}"),
        (
            noise.babble_talkers >= 1,
            f"noise: babble_talkers: expected at least 1; found {noise.babble_talkers}",
        ),
    ]
    return [text for met, text in requirements if not met] or _impossible_geometry(config)


def _one_of(found: str, known: tuple[str, ...]) -> str:
    return f"expected one of {', '.join(known)}; found '{found}'{did_you_mean(found, known)}"


def _impossible_geometry(config: SceneConfig) -> list[str]:
    room, array, talkers = config.room, config.array, config.talkers
    offsets = array.offsets()
    reach = max(math.dist(offset, (0, 0, 0)) for offset in offsets) + array.jitter[1]
    clearance = min(array.wall_margin, array.height[0], room.height[0] - array.height[1])
    margin = max(array.wall_margin, talkers.wall_margin)
    largest = (room.length[1], room.width[1], room.height[1])
    shortest = sabine_absorption(largest, 1.0)
    ceiling = room.height[0]
    most = talkers.numbers[1]
    crowded = most > 1 and most * talkers.min_angle > 360
    requirements = [
        (
            len(offsets) >= array.channels,
            f"array: {array.channels} channels asked for, {array.file} has {len(offsets)} microphones",
        ),
        (
            reach + _CLEARANCE <= clearance,
            f"array: microphones {reach:.3f} m from its centre, which may come within {clearance:.3f} m of "
            "wall, floor or ceiling; raise wall_margin or change height",
        ),
        (
            talkers.distance[0] > reach,
            f"talkers: distance: expected more than the array's {reach:.3f} m; found {talkers.distance[0]}",
        ),
        (not crowded, f"talkers: {most} talkers cannot stand {talkers.min_angle} degrees apart"),
        (
            talkers.wall_margin >= _CLEARANCE and min(room.length[0], room.width[0]) > 2 * margin,
            f"talkers, array: wall_margin: expected {_CLEARANCE} m to half the smallest room; found {margin}",
        ),
        (
            talkers.height[0] >= _CLEARANCE and talkers.height[1] <= ceiling - _CLEARANCE,
            f"talkers: height: expected between floor and lowest ceiling, {ceiling} m",
        ),
        (
            not 0 < config.t60[0] < shortest,
            f"t60: no walls absorb enough for {config.t60[0]} s in the largest room; "
            f"make rooms smaller or take at least {shortest:.3f} s",
        ),
    ]
    return [text for met, text in requirements if not met]
