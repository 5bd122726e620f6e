"""Files and directories that are either complete or not there.

Everything is written beside its place under a name that no reader looks for
(``.NAME.PID.part``) and renamed when complete, so that a kill or a full disk
never leaves half a file under its final name.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def _aside(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.part")


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
    """Yield an empty directory; on success it replaces ``path``, else it is removed."""
    path = Path(path)
    part = _aside(path)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
        if path.exists():
            shutil.rmtree(path)
        os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` (UTF-8) to ``path``, whole or not at all."""
    with file(path) as part:
        part.write_text(text, encoding="utf-8")
