"""What scenes may look like: the ranges that a simulated set is drawn from.

The YAML file of a simulated set, read strictly.

Is a scene possible, or a configuration of scenes? Everyone inside the room, every number in its place.
"""

import dataclasses
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.files import read_settings

SPEED_OF_SOUND = 343.0  # m/s, in air at 20 degrees Celsius
Range = tuple[float, float]
Count = int | tuple[int, int]  # a number, or fewest and most, each as likely


@dataclass(frozen=True)
class RoomConfig:
    """Shoebox rooms; each side in metres, uniform in its range."""

    length: Range = (5.0, 8.0)
    width: Range = (4.0, 6.0)
    height: Range = (2.6, 3.4)


@dataclass(frozen=True)
class ArrayConfig:
    """The microphones: their shape, and where the shape's centre stands.

    ``n`` microphones on a circle of ``radius``, in a row of ``spacing`` (metres) or as in
    ``file`` (one ``x y z`` a line, metres from the array's centre). ``channels`` asks for
    another number of microphones without moving microphone 0 (see :meth:`offsets`). ``jitter``:
    so many metres off their places, in any direction, are all microphones but microphone 0, to
    which phases and places are relative.
    """

    kind: str = "circular"
    n: int = 4
    radius: float = 0.05
    spacing: float = 0.05
    file: str = ""
    height: Range = (0.8, 1.3)
    wall_margin: float = 1.0
    rotate: bool = True
    jitter: Range = (0.0, 0.0)
    channels: int = 0  # 0: as many as n (or as lines in file)
    coordinates: tuple[tuple[float, float, float], ...] = ()  # content of ``file``

    def offsets(self) -> list[tuple[float, float, float]]:
        """Positions around the array's centre before its rotation, in metres.

        Microphone 0 does not depend on ``channels``, so that a set of one channel is the
        reference channel of the same set with many: a circle is divided anew, a row and
        a list of coordinates are cut after (a row: also extended to) ``channels``.
        """
        if self.kind == "coordinates":
            return list(self.coordinates[: self.channels or None])
        count = self.channels or self.n
        if self.kind == "linear":
            return [((k - (self.n - 1) / 2) * self.spacing, 0.0, 0.0) for k in range(count)]
        angles = [2 * math.pi * k / count for k in range(count)]
        return [(self.radius * math.cos(a), self.radius * math.sin(a), 0.0) for a in angles]


@dataclass(frozen=True)
class TalkersConfig:
    """Who speaks, from where (seen from the array's centre), how loud and when."""

    number: Count = 2
    one_talker_share: float = 0.0
    distance: Range = (0.75, 2.0)
    min_angle: float = 30.0
    height: Range = (1.2, 1.8)
    wall_margin: float = 0.3
    level_db: Range = (-2.5, 2.5)
    onset: Range = (0.0, 0.5)

    @property
    def numbers(self) -> tuple[int, int]:
        """Fewest and most talkers, but for mixtures of one talker."""
        return (self.number, self.number) if isinstance(self.number, int) else self.number


@dataclass(frozen=True)
class NoiseConfig:
    """``none``, ``white`` (independent at each microphone), ``babble`` or ``recorded`` (both diffuse)."""

    kind: str = "white"
    snr_db: Range = (20.0, 30.0)
    babble_talkers: int = 6


@dataclass(frozen=True)
class SceneConfig:
    """Everything that :func:`frontend.simulation.scenes.sample_scene` draws from."""

    fs: int = 8000
    max_seconds: float = 4.0
    level_dbfs: Range = (-28.0, -28.0)
    t60: Range = (0.15, 0.4)
    room: RoomConfig = field(default_factory=RoomConfig)
    array: ArrayConfig = field(default_factory=ArrayConfig)
    talkers: TalkersConfig = field(default_factory=TalkersConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)


ARRAY_KINDS = ("circular", "linear", "coordinates")
NOISE_KINDS = ("none", "white", "babble", "recorded")
JOINT_S = 0.05  # seconds, over which two recordings of noise are faded into each other


def sabine_absorption(room: tuple[float, ...] | list[float], t60: float) -> float:
    """Energy absorption of the walls that gives ``t60`` by Sabine's formula; above 1: impossible.

    Args:
        room: length, width, height in metres.
        t60: seconds, above 0.
    """
    x, y, z = room
    surface = 2 * (x * y + x * z + y * z)
    return 24 * math.log(10) * x * y * z / (SPEED_OF_SOUND * surface * t60)


_NOT_IN_YAML = {"coordinates", "channels"}


def load_config(
    path: str | Path,
    n_talkers: Count | None = None,
    channels: int | None = None,
    changes: str | Path | dict | None = None,
    talkers: Count | None = None,
    kind: type[SceneConfig] = SceneConfig,
) -> SceneConfig:
    """Read a scene configuration.

    Args:
        path: YAML file; every key is optional, an unknown one is an error.
        n_talkers: of every mixture, instead of ``talkers: number`` and ``one_talker_share``.
        channels: replaces the number of microphones, microphone 0 staying where it is.
        changes: another YAML file, or what it would hold, whose keys take the place of those of ``path``.
        talkers: replaces ``talkers: number`` alone; ``one_talker_share`` stays.
        kind: what is configured, where that is more than scenes.

    Raises:
        UserError: no such file, bad YAML, unknown key, wrong type, or a range that
            cannot be met (such as a T60 too short for the largest room).
    """
    config = _build(kind, read_settings(path, "scene configuration"), str(path))
    if isinstance(changes, dict):
        config = _build(kind, changes, str(path), config)
    elif changes is not None:
        config = _build(kind, read_settings(changes, "scene configuration"), str(changes), config)
    array, who = config.array, config.talkers
    if array.kind == "coordinates":
        array = dataclasses.replace(array, coordinates=_read_coordinates(array.file, path))
    if channels is not None:
        array = dataclasses.replace(array, channels=channels)
    if talkers is not None:
        who = dataclasses.replace(who, number=talkers)
    if n_talkers is not None:
        who = dataclasses.replace(who, number=n_talkers, one_talker_share=0.0)
    config = dataclasses.replace(config, array=array, talkers=who)
    for problem in config_problems(config):
        raise UserError(f"{path}: {problem}")
    return config


def read_count(option: str, text: str) -> Count:
    """Return the number of talkers that an option gives: ``3``, or ``2-3`` for either.

    Raises:
        UserError: something else.
    """
    found = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", text)
    fewest, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= fewest <= most:
        raise UserError(f"{option}: expected a number of talkers such as 3, or a range as 2-3, found {text}")
    return fewest if fewest == most else (fewest, most)


def _build(cls: type, content: Any, where: str, base: Any = None) -> Any:
    """Make the dataclass ``cls`` from a mapping; ``where`` names file and section in errors.

    What the mapping does not name is as in ``base``, else the default.
    """
    fields = {f.name: f for f in dataclasses.fields(cls) if f.name not in _NOT_IN_YAML}
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected keys {', '.join(fields)}; found {content!r}")
    values = {}
    for key, value in content.items():
        if key not in fields:
            raise UserError(f"{where}: unknown key '{key}'{did_you_mean(str(key), fields)}")
        values[key] = _convert(fields[key].type, value, f"{where}: {key}", base and getattr(base, key))
    return cls(**values) if base is None else dataclasses.replace(base, **values)


def _convert(kind: Any, value: Any, where: str, base: Any = None) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, where, base)
    if kind == Range:
        pair = value if isinstance(value, list) else [value, value]
        if len(pair) != 2 or not all(map(_is_number, pair)) or pair[0] > pair[1]:
            raise UserError(f"{where}: expected a number or [lowest, highest]; found {value!r}")
        return float(pair[0]), float(pair[1])
    if kind == Count:
        pair = value if isinstance(value, list) else [value, value]
        if len(pair) != 2 or not all(type(v) is int for v in pair) or pair[0] > pair[1]:
            raise UserError(f"{where}: expected a whole number or [fewest, most]; found {value!r}")
        return pair[0] if pair[0] == pair[1] else (pair[0], pair[1])
    if kind is float and _is_number(value):
        return float(value)
    if kind is not float and type(value) is kind:
        return value
    raise UserError(f"{where}: expected a value of type {kind.__name__}; found {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _read_coordinates(file: str, config: str | Path) -> tuple[tuple[float, float, float], ...]:
    if not file:
        raise UserError(
            f"{config}: array: kind 'coordinates' needs the key 'file' (one 'x y z' a line, metres)"
        )
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{config}: array: cannot read the coordinates file '{file}': {error}") from None
    points = []
    for number, line in enumerate(lines, 1):
        text = line.split("#")[0].replace(",", " ").split()
        if not text:
            continue
        try:
            x, y, z = map(float, text)
        except ValueError:
            raise UserError(f"{file}:{number}: expected 'x y z' in metres; found '{line.strip()}'") from None
        points.append((x, y, z))
    if not points:
        raise UserError(f"{file}: expected one 'x y z' a line, found none")
    return tuple(points)


_KEYS = ("id", "seed", "fs", "samples", "room", "t60", "array", "mics", "talkers", "noise", "level_dbfs")
_TALKER_KEYS = ("speaker", "utterance", "samples", "position", "level_db", "offset")
_CLEARANCE = 0.01  # metres from a wall, and between a talker and a microphone


def validate_scene(scene: Any, where: str) -> None:
    """Check one scene.

    Args:
        scene: as described in :mod:`frontend.simulation.scenes`; ``measured`` may be there as well.
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
