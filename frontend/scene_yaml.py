"""The YAML file of a simulated set, read strictly."""

import dataclasses
import math
from pathlib import Path
from typing import Any

from frontend.errors import UserError, did_you_mean
from frontend.scene_check import config_problems
from frontend.scene_config import Range, SceneConfig
from frontend.yaml_file import read_settings

_NOT_IN_YAML = {"coordinates", "channels"}


def load_config(path: str | Path, n_talkers: int | None = None, channels: int | None = None) -> SceneConfig:
    """Read a scene configuration.

    Args:
        path: YAML file; every key is optional, an unknown one is an error.
        n_talkers: of every mixture, instead of ``talkers: number`` and ``one_talker_share``.
        channels: replaces the number of microphones, microphone 0 staying where it is.

    Raises:
        UserError: no such file, bad YAML, unknown key, wrong type, or a range that
            cannot be met (such as a T60 too short for the largest room).
    """
    config = _build(SceneConfig, read_settings(path, "scene configuration"), str(path))
    array, talkers = config.array, config.talkers
    if array.kind == "coordinates":
        array = dataclasses.replace(array, coordinates=_read_coordinates(array.file, path))
    if channels is not None:
        array = dataclasses.replace(array, channels=channels)
    if n_talkers is not None:
        talkers = dataclasses.replace(talkers, number=n_talkers, one_talker_share=0.0)
    config = dataclasses.replace(config, array=array, talkers=talkers)
    for problem in config_problems(config):
        raise UserError(f"{path}: {problem}")
    return config


def _build(cls: type, content: Any, where: str) -> Any:
    """Make the dataclass ``cls`` from a mapping; ``where`` names file and section in errors."""
    fields = {f.name: f for f in dataclasses.fields(cls) if f.name not in _NOT_IN_YAML}
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected keys {', '.join(fields)}; found {content!r}")
    values = {}
    for key, value in content.items():
        if key not in fields:
            raise UserError(f"{where}: unknown key '{key}'{did_you_mean(str(key), fields)}")
        values[key] = _convert(fields[key].type, value, f"{where}: {key}")
    return cls(**values)


def _convert(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, where)
    if kind == Range:
        pair = value if isinstance(value, list) else [value, value]
        if len(pair) != 2 or not all(map(_is_number, pair)) or pair[0] > pair[1]:
            raise UserError(f"{where}: expected a number or [lowest, highest]; found {value!r}")
        return float(pair[0]), float(pair[1])
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
