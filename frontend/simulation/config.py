"""What the scenes of a set are drawn from: ranges in a YAML file, and overrides ``key=value``.

The dataclasses below are the schema (OmegaConf structured configs): a key that they do not have, a value of
another type and a range that no scene can meet are each refused in one line. A condition is a test set that
differs from the matched one in one thing; a file of conditions gives each a list of overrides.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from frontend.dsp.arrays import read_coordinates
from frontend.simulation.arrays import ARRAY_KINDS, ArrayConfig, Point
from frontend.simulation.ranges import Count, Names, Range, Section, checked
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.files import read_settings

SPEED_OF_SOUND = 343.0  # m/s, in air at 20 degrees Celsius
CLEARANCE = 0.01  # metres from a wall, and between a talker and a microphone
CROSSFADE_S = 0.05  # seconds, over which two recordings of noise are faded into each other
NOISE_KINDS = ("none", "white", "babble", "recorded")
MATCHED = "matched"  # the condition without overrides
_MOST_RANDOM = 32  # places that keep apart are found by trying


@dataclass
class RoomConfig(Section):
    """Shoebox rooms; each side in metres."""

    length: Range = (5.0, 8.0)
    width: Range = (4.0, 6.0)
    height: Range = (2.6, 3.4)


@dataclass
class TalkersConfig(Section):
    """Who speaks, from where, how loud and when."""

    number: Count = (2, 2)  # of talkers in a mixture
    one_talker_share: float = 0.0  # of the mixtures, those that have one talker all the same
    distance: Range = (0.75, 2.0)  # from the array's centre along the floor, metres
    min_angle: float = 30.0  # between any two talkers seen from the array, degrees
    height: Range = (1.2, 1.8)  # of the mouth, metres
    wall_margin: float = 0.3  # from the nearest wall, metres
    level_db: Range = (-2.5, 2.5)  # of each further talker, relative to talker 1 at the reference
    onset: Range = (0.0, 0.5)  # start of each, seconds; the first to start is moved to 0


@dataclass
class NoiseConfig(Section):
    """The noise at the microphones."""

    kind: Names = ("white",)  # independent at each microphone; none; babble or recorded, which are diffuse
    snr_db: Range = (20.0, 30.0)  # the images' sum to the noise at the reference
    babble_talkers: int = 6  # utterances in babble


@dataclass
class SceneConfig(Section):
    """Everything that :func:`frontend.simulation.scenes.sample_scene` draws from."""

    fs: int = 8000  # of speech and mixtures, Hz
    max_seconds: float = 4.0  # longer utterances are left out; no talker is cut off
    level_dbfs: Range = (-28.0, -28.0)  # of the mixture at the reference, dB re full scale
    # Nominal reverberation time (Sabine), seconds; 0 is anechoic. Where a room's walls cannot absorb enough
    # for the lowest, the range begins with the shortest that they can.
    t60: Range = (0.15, 0.4)
    room: RoomConfig = field(default_factory=RoomConfig)
    array: ArrayConfig = field(default_factory=ArrayConfig)
    talkers: TalkersConfig = field(default_factory=TalkersConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)


def load_config(
    path: str | Path, overrides: Sequence[str] = (), kind: type[SceneConfig] = SceneConfig
) -> SceneConfig:
    """Read a scene configuration.

    Args:
        path: YAML file; every key is optional.
        overrides: ``key=value`` each, such as ``noise.kind=recorded`` or ``room.height=[2.4,3]``; the last
            of several for one key counts.
        kind: the dataclass to make, where more than scenes is configured.

    Raises:
        UserError: no such file, bad YAML, an unknown key, a wrong type, or a range that cannot be met (such
            as a T60 too short for the largest room).
    """
    from omegaconf import OmegaConf

    config = _merge(OmegaConf.structured(kind), read_settings(path, "scene configuration"), kind, str(path))
    for override in overrides:
        config = _merge(config, _read_override(override), kind, f"{path}: override {override}")
    found = cast(SceneConfig, OmegaConf.to_object(config))
    is_listed = "coordinates" in found.array.kind
    found.array.coordinates = _read_coordinates(found.array.file, path) if is_listed else ()
    for problem in _problems(found):
        changed = f" with {' '.join(overrides)}" if overrides else ""
        raise UserError(f"{path}{changed}: {problem}")
    return found


def _read_override(override: str) -> dict:
    """Return the nested mapping that an override stands for."""
    import yaml

    key, equals, value = override.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z0-9_.]+", key):
        raise UserError(f"override '{override}': expected KEY=VALUE, such as noise.kind=white")
    try:
        return values_of([override])
    except yaml.YAMLError:
        raise UserError(f"override '{override}': expected a value in YAML, found {value}") from None


def values_of(overrides: Sequence[str]) -> dict:
    """Return overrides as a nested mapping.

    >>> values_of(["array.kind=linear", "t60=[0.4,0.7]"])
    {'array': {'kind': 'linear'}, 't60': [0.4, 0.7]}
    """
    from omegaconf import OmegaConf

    return cast(dict, OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides))))


def _merge(config: Any, content: Any, kind: type, where: str) -> Any:
    """Return an OmegaConf with the values of ``content`` put in; ``where`` begins the message of an error."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.merge(config, checked(content, kind, where))
    except OmegaConfBaseException as error:
        key = str(error.full_key).replace(".", ": ")
        raise UserError(f"{where}: {key}: {str(error).splitlines()[0]}") from None


def _read_coordinates(file: str, config: str | Path) -> tuple[Point, ...]:
    if not file:
        raise UserError(
            f"{config}: array: kind 'coordinates' needs the key 'file' (one 'x y z' a line, metres)"
        )
    try:
        return tuple(read_coordinates(file))
    except UserError as error:
        raise UserError(f"{config}: array: {error}") from None


def read_count(option: str, text: str) -> Count:
    """Return the number of talkers that an option gives, fewest and most: ``3``, or ``2-3`` for either.

    Raises:
        UserError: something else.
    """
    found = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", text)
    fewest, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= fewest <= most:
        raise UserError(f"{option}: expected a number of talkers such as 3, or a range as 2-3, found {text}")
    return fewest, most


def read_conditions(path: str | Path) -> dict[str, list[str]]:
    """Return the overrides of each condition of a YAML file; :data:`MATCHED`, without any, is the first.

    Raises:
        UserError: no such file, a name that is no file name, or something else than a list of overrides.
    """
    listed = read_settings(path, "file of conditions")
    for name, overrides in listed.items():
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", str(name)) or name == MATCHED:
            raise UserError(
                f"{path}: '{name}': expected a name of letters, digits, '_', '-' and '.' "
                f"other than '{MATCHED}' (the matched set is always made)"
            )
        if not (isinstance(overrides, list) and overrides and all(isinstance(o, str) for o in overrides)):
            raise UserError(
                f"{path}: {name}: expected a list of overrides such as array.radius=0.03, found {overrides!r}"
            )
    return {MATCHED: [], **listed}


def load_condition(
    config: str | Path, conditions: str | Path, name: str, overrides: Sequence[str] = ()
) -> SceneConfig:
    """Read the scene configuration of a condition.

    Args:
        config: YAML file of the matched set.
        conditions: YAML file, ``NAME: [key=value, ...]`` each.
        name: one of them, or :data:`MATCHED`.
        overrides: of all conditions, the matched one too.

    Raises:
        UserError: no such condition; as :func:`load_config`; a condition that cannot be compared with the
            matched one, since it changes the sampling rate.
    """
    listed = read_conditions(conditions)
    if name not in listed:
        raise UserError(f"{conditions}: no condition '{name}'{did_you_mean(name, listed)}")
    matched = load_config(config, overrides)
    try:
        found = load_config(config, [*overrides, *listed[name]])
    except UserError as error:
        raise UserError(f"{conditions}: {name}: {error}") from None
    if found.fs != matched.fs:
        raise UserError(
            f"{conditions}: '{name}' changes the sampling rate, {matched.fs} in the matched set, "
            f"{found.fs} in it: the two cannot be compared (change another key)"
        )
    return found


def sabine_absorption(room: Sequence[float], t60: float) -> float:
    """Energy absorption of the walls that gives ``t60`` by Sabine's formula; above 1: impossible.

    Args:
        room: length, width, height in metres.
        t60: seconds, above 0.
    """
    x, y, z = room
    surface = 2 * (x * y + x * z + y * z)
    return 24 * math.log(10) * x * y * z / (SPEED_OF_SOUND * surface * t60)


def _problems(config: SceneConfig) -> list[str]:
    """Return what cannot be met, each as ``key: expected; found; what to do``."""
    array, talkers, noise = config.array, config.talkers, config.noise
    sides = (config.room.length, config.room.width, config.room.height)
    requirements = [
        (config.fs > 0, f"fs: expected a positive rate in Hz; found {config.fs}"),
        (config.max_seconds > 0, f"max_seconds: expected more than 0; found {config.max_seconds}"),
        (config.level_dbfs[1] <= 0, f"level_dbfs: expected at most 0 dB; found {config.level_dbfs[1]}"),
        (config.t60[0] >= 0, f"t60: expected seconds, 0 for anechoic; found {config.t60[0]}"),
        (min(sides)[0] > 0, f"room: expected positive sides in metres; found {min(sides)[0]}"),
        *((kind in ARRAY_KINDS, f"array: kind: {_one_of(kind, ARRAY_KINDS)}") for kind in array.kind),
        *((kind in NOISE_KINDS, f"noise: kind: {_one_of(kind, NOISE_KINDS)}") for kind in noise.kind),
        (array.radius > 0 < array.spacing, "array: expected a radius and a spacing above 0"),
        (array.n[0] >= 1, f"array: n: expected at least one microphone; found {array.n[0]}"),
        (
            array.n[1] <= _MOST_RANDOM or "random" not in array.kind,
            f"array: n: expected at most {_MOST_RANDOM} microphones at random places; found {array.n[1]}",
        ),
        (
            array.extent[0] > 0 or array.extent[1] == 0 and "random" not in array.kind,
            f"array: extent: expected metres above 0, or 0 without kind 'random'; found {array.extent[0]}",
        ),
        (array.channels >= 0, f"array: channels: expected 0 or more; found {array.channels}"),
        (array.jitter[0] >= 0, f"array: jitter: expected metres from 0; found {array.jitter[0]}"),
        (talkers.number[0] >= 1, f"talkers: number: expected at least 1; found {talkers.number[0]}"),
        (0 <= talkers.one_talker_share <= 1, "talkers: one_talker_share: expected 0 to 1"),
        (talkers.onset[0] >= 0, f"talkers: onset: expected seconds from 0; found {talkers.onset[0]}"),
        (
            noise.babble_talkers >= 1,
            f"noise: babble_talkers: expected 1 or more; found {noise.babble_talkers}",
        ),
    ]
    return [text for met, text in requirements if not met] or _impossible_geometry(config)


def _one_of(found: str, known: tuple[str, ...]) -> str:
    return f"expected one of {', '.join(known)}; found '{found}'{did_you_mean(found, known)}"


def _impossible_geometry(config: SceneConfig) -> list[str]:
    room, array, talkers = config.room, config.array, config.talkers
    reach, most, ceiling = array.reach, talkers.number[1], room.height[0]
    clearance = min(array.wall_margin, array.height[0], ceiling - array.height[1])
    margin, narrow = max(array.wall_margin, talkers.wall_margin), min(room.length[0], room.width[0])
    smallest, largest = (
        sabine_absorption((room.length[k], room.width[k], room.height[k]), 1.0) for k in (0, 1)
    )
    low, high = talkers.height
    requirements = [
        (
            "coordinates" not in array.kind or len(array.coordinates) >= array.channels,
            f"array: {array.channels} channels asked for, {array.file} has {len(array.coordinates)} "
            "microphones",
        ),
        (
            reach + CLEARANCE <= clearance,
            f"array: microphones {reach:.3f} m from its centre, which may come within {clearance:.3f} m of "
            "wall, floor or ceiling; raise wall_margin or change height",
        ),
        (
            talkers.distance[0] > reach,
            f"talkers: distance: expected more than the array's {reach:.3f} m; found {talkers.distance[0]}",
        ),
        (
            most == 1 or most * talkers.min_angle <= 360,
            f"talkers: {most} talkers cannot stand {talkers.min_angle} degrees apart",
        ),
        (
            talkers.wall_margin >= CLEARANCE and narrow > 2 * margin,
            f"talkers, array: wall_margin: expected {CLEARANCE} m to half the smallest room; found {margin}",
        ),
        (
            CLEARANCE <= low and high <= ceiling - CLEARANCE,
            f"talkers: height: expected between floor and lowest ceiling, {ceiling} m",
        ),
        (
            config.t60[1] == 0 or largest <= config.t60[1],
            f"t60: no walls absorb enough for {config.t60[1]} s in the largest room; "
            f"make rooms smaller or take at least {largest:.3f} s",
        ),
        (
            config.t60[1] == 0 or smallest <= config.t60[0],
            f"t60: no walls absorb enough for {config.t60[0]} s in the smallest room; "
            f"make rooms smaller or take at least {smallest:.3f} s (0 alone is anechoic)",
        ),
    ]
    return [text for met, text in requirements if not met]
