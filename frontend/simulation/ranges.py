"""Ranges and names of a configuration: how YAML gives them, and how a value is drawn from them.

Each quantity has a generator of its own, so that changing one leaves the others as they were. All numbers are
rounded when drawn, so that the text of a scene is exact.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.rng import generator

Range = tuple[float, float]  # drawn from uniformly; in YAML a single number stands for both ends
Count = tuple[int, int]  # fewest and most, each number between as likely
Names = tuple[str, ...]  # one is drawn; in YAML a single name stands for itself


@dataclass
class Section:
    """Turns what YAML gives for a range (a number, a list) into a pair, and a name into names."""

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            if one.type in (Range, Count, Names):
                alone = (value,) if one.type == Names else (value, value)
                setattr(self, one.name, tuple(value) if isinstance(value, list | tuple) else alone)


def checked(content: Any, kind: type, where: str) -> dict:
    """Check the keys of a section of a YAML file, and what its ranges and names are.

    Args:
        content: of the section.
        kind: its dataclass.
        where: begins the message of an error.

    Returns:
        the content; a single number of a range has become a pair, a single name a list.

    Raises:
        UserError: an unknown key, or something else than a number, a range or names.
    """
    known = {one.name: one.type for one in dataclasses.fields(kind) if one.name != "coordinates"}
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected keys {', '.join(known)}; found {content!r}")
    result = {}
    for key, value in content.items():
        if key not in known:
            raise UserError(f"{where}: unknown key '{key}'{did_you_mean(str(key), known)}")
        if dataclasses.is_dataclass(known[key]):
            value = checked(value, cast(type, known[key]), f"{where}: {key}")
        elif known[key] in (Range, Count):
            value = _pair(value, known[key] == Count, f"{where}: {key}")
        elif known[key] == Names:
            value = _names(value, f"{where}: {key}")
        elif known[key] is float and not is_number(value):
            raise UserError(f"{where}: {key}: expected a number; found {value!r}")
        result[key] = value
    return result


def _pair(value: Any, whole: bool, where: str) -> list:
    pair = value if isinstance(value, list) else [value, value]
    right = len(pair) == 2 and all(type(v) is int if whole else is_number(v) for v in pair)
    if not right or pair[0] > pair[1]:
        expected = "a whole number or [fewest, most]" if whole else "a number or [lowest, highest]"
        raise UserError(f"{where}: expected {expected}; found {value!r}")
    return pair


def _names(value: Any, where: str) -> list:
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
        raise UserError(f"{where}: expected a name or a list of different ones; found {value!r}")
    return names


def is_number(value: Any) -> bool:
    """Tell whether a value from YAML or JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class Draw:
    """Rounded draws of one mixture (or room of a bank), each from the generator of its purpose."""

    def __init__(self, seed: int, *name: str | int):
        self.seed, self.key, self.scene = seed, name, " ".join(map(str, name))

    def rng(self, *purpose: str | int) -> np.random.Generator:
        """Return the generator of a purpose."""
        return generator(self.seed, *self.key, *purpose)

    def uniform(self, limits: Range, digits: int, *purpose: str | int) -> float:
        """Return a number of the range, rounded to ``digits``."""
        return round(float(self.rng(*purpose).uniform(*limits)), digits)

    def choice(self, names: Names, *purpose: str | int) -> str:
        """Return one of the names."""
        return names[0] if len(names) == 1 else names[int(self.rng(*purpose).integers(len(names)))]
