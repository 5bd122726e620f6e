"""Files and directories that are either complete or not there.

Everything is written beside its place under a name that no reader looks for
(``.NAME.PID.part``) and renamed when complete, so that a kill or a full disk
never leaves half of it under its final name.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def _aside(path: Path, kind: str = "part") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.{kind}")


@contextlib.contextmanager
def file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; on success it replaces ``path``, else it is removed."""
    path = Path(path)
    part = _aside(path)
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def directory(path: str | Path) -> Iterator[Path]:
    """Yield an empty directory; on success it replaces ``path``, else it is removed.

    At no moment does ``path`` hold a part of the old or of the new. POSIX cannot swap two
    directories in one step: a kill between the two renames leaves nothing there, and beside it
    both of them whole, the old as ``.NAME.PID.old`` and the new as ``.NAME.PID.part``. Any error
    or interrupt puts the old back. A link is followed: what it points to is replaced.
    """
    path = Path(path)
    if path.is_symlink():
        path = path.resolve()  # so that the renames stay within its file system
    part, old = _aside(path), _aside(path, "old")
    _tidy(path, part, old)  # a killed process may have had our number
    part.mkdir()
    try:
        yield part
        if path.is_dir():
            os.rename(path, old)
        os.rename(part, path)
    finally:
        _tidy(path, part, old)


def _tidy(path: Path, part: Path, old: Path) -> None:
    """Put ``old`` back where nothing took its place; delete what is left over."""
    if old.exists() and not path.exists():
        os.rename(old, path)
    for left_over in (part, old):
        shutil.rmtree(left_over, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` (UTF-8) to ``path``, whole or not at all."""
    with file(path) as part:
        part.write_text(text, encoding="utf-8")
