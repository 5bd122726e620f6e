"""Separated whole recordings in a directory: one file a stream.

Of a file of several channels (the mixture itself, to compare with) the reference channel is meant.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from frontend.datadir import audio_info, read_scp
from frontend.errors import UserError
from frontend.validate import numbered

_NAME = re.compile(r"(.+)_spk([1-9][0-9]*)\.(wav|flac)")


def find_streams(directory: str | Path, ids: Iterable[str] | None = None) -> list[dict[str, str]]:
    """Find the streams of recordings: ``spk1.scp ...``, or the files ``ID_spk1.wav ...`` of bin/separate.

    Args:
        directory: where they lie.
        ids: the recordings there must be; None: whichever there are.

    Returns:
        ``{id: entry}``, one for each stream; the streams of a recording have one rate and length.

    Raises:
        UserError: none there, other recordings, streams of a recording that differ in rate or length.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory}: expected a directory of separated streams, found none")
    tables = [read_scp(path) for path in numbered(directory, "spk", ".scp")] or _by_name(directory)
    if not tables:
        raise UserError(
            f"{directory}: expected spk1.scp ... or files ID_spk1.wav ..., found neither (separate first)"
        )
    wanted = set(tables[0] if ids is None else ids)
    for number, table in enumerate(tables, 1):
        for name in sorted(table.keys() ^ wanted):
            lacks = "has no stream of" if name in wanted else "has a stream of unknown"
            raise UserError(f"{directory}: spk{number} {lacks} recording {name} (separate again)")
    for name in sorted(wanted):
        _check_alike([table[name] for table in tables])
    return tables


def _by_name(directory: Path) -> list[dict[str, str]]:
    found: dict[int, dict[str, str]] = {}
    for path in sorted(directory.iterdir()):
        if match := _NAME.fullmatch(path.name):
            found.setdefault(int(match[2]), {})[match[1]] = str(path)
    return [found.get(number, {}) for number in range(1, max(found, default=0) + 1)]


def _check_alike(entries: list[str]) -> None:
    _, frames, fs = audio_info(entries[0])
    for entry in entries[1:]:
        _, found, rate = audio_info(entry)
        if (found, rate) != (frames, fs):
            raise UserError(
                f"{entry}: expected {frames} samples at {fs} Hz as in {entries[0]}, found {found} at "
                f"{rate} Hz (separate again)"
            )
