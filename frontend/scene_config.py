"""What scenes may look like: the ranges that a simulated set is drawn from."""

import math
from dataclasses import dataclass, field

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
    """Everything that :func:`frontend.scenes.sample_scene` draws from."""

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
