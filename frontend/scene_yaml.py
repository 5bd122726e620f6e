"""The YAML file of a simulated set, read strictly."""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

from frontend.errors import UserError, did_you_mean
from frontend.scene_check import config_problems
from frontend.scene_config import Count, Range, SceneConfig
from frontend.yaml_file import read_settings

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
