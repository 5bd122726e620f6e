"""Files and directories, complete or not there; text, JSON and YAML, read or refused in one line.

Everything is written beside its place under a name that no reader looks for (``.NAME.PID.part``) and renamed
when complete, so that a kill or a full disk never leaves half of it under its final name.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from frontend.utils.errors import UserError


def _aside(path: Path, kind: str = "part") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.{kind}")


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; on success it replaces ``path``, else it is removed."""
    path = Path(path)
    part = _aside(path)
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
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
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: object, **options: Any) -> None:
    """Write ``content`` as indented JSON, whole or not at all; ``options`` are those of ``json.dumps``."""
    write_text(path, json.dumps(content, indent=1, **options) + "\n")


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file; raise UserError if there is no such file."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UserError(f"{path}: expected a file, found none (check the path)") from None


def read_json(path: Path) -> dict:
    """Return the object that a JSON file holds; raise UserError if there is none."""
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg} (make it again)") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(content).__name__} (make it again)")
    return content


def read_settings(path: str | Path, what: str) -> dict:
    """Return the mapping that a YAML file holds; an empty file holds none.

    The message of an error says ``what`` it should be: ``"scene configuration"``.

    Raises:
        UserError: no such file, not YAML, or something other than ``key: value``.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UserError(f"{path}: expected a {what}, found no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a {what}, found a file that is not YAML: {error}") from None
    if content is not None and not isinstance(content, dict):
        raise UserError(f"{path}: expected a {what} (key: value), found {type(content).__name__}")
    return content or {}
