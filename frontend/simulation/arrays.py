"""The microphones of a scene: their configuration, what is drawn of it, and where they stand."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from frontend.simulation.ranges import Count, Draw, Names, Range, Section

ARRAY_KINDS = ("circular", "linear", "random", "coordinates")

Point = tuple[float, float, float]


@dataclass
class ArrayConfig(Section):
    """The microphones: their shape, and where the shape's centre stands; lengths in metres."""

    kind: Names = ("circular",)  # or linear, random, coordinates
    n: Count = (4, 4)  # microphones, but of coordinates; where it is drawn, at least as many as talk
    radius: float = 0.05  # of a circle
    spacing: float = 0.05  # of a row
    # Instead of radius and spacing, a circle's diameter and a row's length; of random microphones, the
    # distance between the two that are farthest apart. 0: as above.
    extent: Range = (0.0, 0.0)
    file: str = ""  # of coordinates: one "x y z" a line, relative to the centre
    height: Range = (0.8, 1.3)  # of the centre
    wall_margin: float = 1.0  # from the centre to the nearest wall
    rotate: bool = True  # by any angle around the vertical
    # So far off their places are, in any direction, all microphones but microphone 0, to which phases and
    # places are relative.
    jitter: Range = (0.0, 0.0)
    channels: int = 0  # another number of microphones, with microphone 0 where it is; 0: as above
    coordinates: Any = ()  # the content of ``file``, or what was drawn; no key of the YAML file

    def of(self, kind: str, n: int, extent: float, points: Sequence[Point] = ()) -> "ArrayConfig":
        """Return the array of which nothing is left to draw; ``points`` are those of a random one."""
        return dataclasses.replace(
            self,
            kind=(kind,),
            n=(n, n),
            extent=(extent, extent),
            radius=extent / 2 or self.radius,
            spacing=extent / max(1, n - 1) or self.spacing,
            coordinates=points if kind == "random" else self.coordinates,
        )

    def offsets(self) -> list[Point]:
        """Return the positions around the centre before the rotation, in metres, of one kind and number.

        Microphone 0 does not depend on ``channels``, so that a set of one channel is the
        reference channel of the same set with many: a circle is divided anew, a row and
        a list of coordinates are cut after (a row: also extended to) ``channels``.
        """
        (kind,), number = self.kind, self.n[0]
        if kind in ("random", "coordinates"):
            return [tuple(point) for point in self.coordinates[: self.channels or None]]
        count = self.channels or number
        if kind == "linear":
            return [((k - (number - 1) / 2) * self.spacing, 0.0, 0.0) for k in range(count)]
        angles = [2 * math.pi * k / count for k in range(count)]
        return [(self.radius * math.cos(a), self.radius * math.sin(a), 0.0) for a in angles]

    @property
    def reach(self) -> float:
        """Greatest distance of a microphone from the centre, in metres, displacements included."""
        extent, fixed = self.extent[1], [kind for kind in self.kind if kind != "random"]
        arrays = [self.of(kind, n, extent) for kind in fixed for n in self.n]
        found = [math.dist(offset, (0, 0, 0)) for array in arrays for offset in array.offsets()]
        # Of random ones, the centre is the middle of the two that are farthest apart: a third is no farther
        # from it than the height of an equilateral triangle.
        found += [math.sqrt(0.75) * extent] * ("random" in self.kind)
        return max(found) + self.jitter[1]


def draw_array(draw: Draw, array: ArrayConfig, talkers: int) -> ArrayConfig:
    """Draw what the configuration leaves open of an array: its kind, number of microphones and extent.

    A number that is drawn is at least that of the talkers, as far as the configuration allows: AuxIVA makes
    no more streams than there are microphones.
    """
    kind, (number, most) = draw.choice(array.kind, "array_kind"), array.n
    if number < most:
        number = int(draw.rng("microphones").integers(min(max(number, talkers), most), most + 1))
    extent = draw.uniform(array.extent, 4, "extent")
    several = max(number, array.channels)
    points = _scattered(draw.rng("scattered"), several, extent) if kind == "random" else ()
    return array.of(kind, number, extent, points)


def _scattered(rng: np.random.Generator, number: int, extent: float) -> list[Point]:
    """Return random points: two are ``extent`` apart, none farther, none nearer than a tenth of that.

    They are drawn from a ball and scaled; the origin is the middle of the two that are farthest apart.
    """
    points: list[np.ndarray] = []
    while len(points) < number:
        point = rng.uniform(-1, 1, 3)
        if np.linalg.norm(point) <= 1 and all(np.linalg.norm(point - p) >= 0.2 for p in points):
            points.append(point)
    if number == 1:
        return [(0.0, 0.0, 0.0)]
    a, b = max(itertools.combinations(points, 2), key=lambda pair: float(np.linalg.norm(pair[0] - pair[1])))
    scale = extent / np.linalg.norm(a - b)
    placed = ((scale * (point - (a + b) / 2)).tolist() for point in points)
    return [(x, y, z) for x, y, z in placed]


def place_microphones(draw: Draw, array: ArrayConfig, centre: list[float]) -> list[list[float]]:
    """Return where the microphones are in the room, ``[[x, y, z], ...]``: the array turned, and displaced."""
    turn = math.radians(draw.rng("rotation").uniform(0, 360)) if array.rotate else 0.0
    cos, sin = math.cos(turn), math.sin(turn)
    mics = []
    for number, (x, y, z) in enumerate(array.offsets()):
        error = _displacement(draw, array, number)
        place = x * cos - y * sin, x * sin + y * cos, z
        # 0.1 mm: 1 mm would be 4 degrees of phase at 4 kHz.
        mics.append([round(c + p + e, 4) for c, p, e in zip(centre, place, error, strict=True)])
    return mics


def _displacement(draw: Draw, array: ArrayConfig, number: int) -> list[float]:
    """Return how far off its place a microphone is: [x, y, z] of a length drawn from ``jitter``."""
    if number == 0 or array.jitter[1] == 0:
        return [0.0, 0.0, 0.0]
    direction = draw.rng("jitter_direction", number).standard_normal(3)
    length = draw.rng("jitter", number).uniform(*array.jitter)
    return [float(v) for v in length * direction / math.hypot(*direction)]
