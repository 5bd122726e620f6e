"""Where the microphones of an array are, as far as a user says it."""

from pathlib import Path

import numpy as np

from frontend.utils.errors import UserError
from frontend.utils.files import read_lines

GEOMETRIES = ("circular", "linear", "none")
_TOLERANCE = 0.02  # of the array's largest distance: people measure with a ruler


def read_geometry(geometry: str, n_mics: int) -> str:
    """Return the largest symmetry of :func:`frontend.dsp.spatial.array_symmetries` that an array has.

    Args:
        geometry: one of these words (microphones in order around a circle, or along a row), or a file
            with a line ``x y z`` in metres for each channel, in the order of the channels.
        n_mics: channels of the recordings.

    Raises:
        UserError: no such word or file, no coordinates in it, or those of another number of microphones.
    """
    if geometry in GEOMETRIES:
        return geometry
    if not Path(geometry).is_file():
        wanted = f"{', '.join(GEOMETRIES)} or a file of coordinates"
        raise UserError(f"--geometry {geometry}: expected {wanted}, found no such file")
    positions = np.array(read_coordinates(geometry))
    if len(positions) != n_mics:
        raise UserError(
            f"{geometry}: expected a line 'x y z' for each of the {n_mics} channels, found {len(positions)}"
        )
    from frontend.dsp.spatial import array_symmetries  # torch, for who needs it

    # A symmetry keeps all distances: the reordered array is the same array, turned or mirrored.
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    tolerance = _TOLERANCE * distances.max()
    for kind in ("circular", "linear"):
        orders = [np.array(order) for order in array_symmetries(kind, n_mics)]
        if all(np.abs(distances[np.ix_(o, o)] - distances).max() <= tolerance for o in orders):
            return kind
    return "none"


def read_coordinates(path: str | Path) -> list[tuple[float, float, float]]:
    """Return the points of a file with a line ``x y z`` in metres each; ``#`` starts a remark.

    Raises:
        UserError: no such file, another kind of line, no point at all.
    """
    points = []
    for number, line in read_lines(path):
        words = line.split("#")[0].replace(",", " ").split()
        if not words:
            continue
        try:
            x, y, z = map(float, words)
        except ValueError:
            x = y = z = np.nan
        if not np.isfinite((x, y, z)).all():
            raise UserError(f"{path}:{number}: expected 'x y z' in metres, found '{line}'")
        points.append((x, y, z))
    if not points:
        raise UserError(f"{path}: expected one 'x y z' a line, found none")
    return points
