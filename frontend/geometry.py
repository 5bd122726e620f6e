"""What the shape of a microphone array allows in training: its symmetries, by a word or coordinates."""

from pathlib import Path

import numpy as np

from frontend.errors import UserError
from frontend.spatial import array_symmetries

KINDS = ("circular", "linear", "none")
# Of the array's largest distance: people measure with a ruler.
_TOLERANCE = 0.02


def read_geometry(geometry: str, n_mics: int) -> str:
    """Return the symmetry that training may use, ``circular``, ``linear`` or ``none``.

    Args:
        geometry: one of these words (microphones in order around a circle, or along a row), or a file
            with a line ``x y z`` in metres for each channel, in the order of the channels.
        n_mics: channels of the recordings.

    Raises:
        UserError: no such word or file, no coordinates in it, or those of another number of microphones.
    """
    if geometry in KINDS:
        return geometry
    if not Path(geometry).is_file():
        raise UserError(
            f"--geometry {geometry}: expected {', '.join(KINDS)} or a file of coordinates, found no such file"
        )
    positions = _read_coordinates(geometry)
    if len(positions) != n_mics:
        raise UserError(
            f"{geometry}: expected a line 'x y z' for each of the {n_mics} channels, found {len(positions)}"
        )
    return symmetry_of(positions)


def _read_coordinates(path: str) -> np.ndarray:
    rows = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        if len(row) != 3 or not np.isfinite(row).all():
            raise UserError(f"{path}:{number}: expected 'x y z' in metres, found '{line.strip()}'")
        rows.append(row)
    return np.array(rows).reshape(-1, 3)


def symmetry_of(positions: np.ndarray) -> str:
    """Return the largest symmetry of :func:`frontend.spatial.array_symmetries` that an array has.

    An order of the channels is a symmetry where all distances between microphones stay what they
    were: the reordered array is then the same array, turned or mirrored.

    Args:
        positions: (C, 3) in metres, in the order of the channels.
    """
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    for kind in ("circular", "linear"):
        orders = [np.array(order) for order in array_symmetries(kind, len(positions))]
        if all(
            np.abs(distances[np.ix_(o, o)] - distances).max() <= _TOLERANCE * distances.max() for o in orders
        ):
            return kind
    return "none"
