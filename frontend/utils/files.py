"""Files and directories, complete or not there; text, JSON and YAML, read or refused in one line.

Everything is written beside its place under a name that no reader looks for (``.NAME.PID.part``) and renamed
when complete, so that a kill or a full disk never leaves half of it under its final name.
"""

import codecs
import contextlib
import json
import os
import re
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


# Byte-order marks; UTF-32 first, whose mark begins as that of UTF-16 does.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_text(path: str | Path, what: str = "a file") -> str:
    """Return the text of a file, with LF alone as the end of a line: the one reader of text.

    It is UTF-8, or what its byte-order mark says: UTF-16 or UTF-32. The mark is left out, also at the start
    of a line, where files that had one were joined. CR LF and CR become LF. Split it at LF alone.

    Args:
        path: the file.
        what: what it should be, for the message of an error.

    Raises:
        UserError: no such file, or not text.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(4096)
            mark, encoding = next((one for one in _MARKS if content.startswith(one[0])), (b"", "utf-8"))
            if mark or b"\0" not in content:  # else it is refused below, however large it is
                content += file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: expected {what}, found no such file (check the path)") from None
    except IsADirectoryError:
        raise UserError(f"{path}: expected {what}, found a directory (check the path)") from None
    try:
        text = content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        name, start = encoding.upper().removesuffix("-LE").removesuffix("-BE"), len(mark) + error.start
        raise UserError(f"{path}: not {name} text at byte {start} (convert it to UTF-8)") from None
    if "\0" in text:
        start = content.index(b"\0") if encoding == "utf-8" else len(mark) + text.index("\0")
        wrong = "not text but binary, or UTF-16 without a byte-order mark: NUL"
        raise UserError(f"{path}: {wrong} at byte {start} (give {what}, or convert it to UTF-8)")
    return re.sub("(^|\n)\ufeff+", r"\1", text.replace("\r\n", "\n").replace("\r", "\n"))


def read_lines(path: str | Path, what: str = "a file") -> list[tuple[int, str]]:
    """Return the lines of a text that are not blank, each with its number (from 1).

    Blanks and tabs at both ends are left out. A line ends at LF alone, not at U+2028 and others, at which
    ``str.splitlines`` divides and which a text may have. It raises what :func:`read_text` raises.
    """
    lines = ((number, line.strip(" \t")) for number, line in enumerate(read_text(path, what).split("\n"), 1))
    return [(number, line) for number, line in lines if line]


def parse_json(text: str, path: str | Path, line: int | None = None, advice: str = "make it again") -> Any:
    """Return what a JSON text says: a file's, or a ``line`` of it (from 1).

    Raises:
        UserError: not JSON, or text that has no encoding; it ends in ``(advice)``.
    """
    try:
        content = json.loads(text)
        # Half of a surrogate pair ("\\ud800") could not be written again.
        if "\\ud" in text.lower():
            json.dumps(content, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{line or error.lineno}: not JSON: {error.msg} ({advice})") from None
    except (ValueError, RecursionError) as error:  # an endless number, nested without end
        raise UserError(f"{path}:{line or 1}: not JSON that can be read: {error} ({advice})") from None
    return content


def read_json(path: str | Path) -> dict:
    """Return the object that a JSON file holds; raise UserError if there is none."""
    content = parse_json(read_text(path), path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(content).__name__} (make it again)")
    return content


def read_settings(path: str | Path, what: str) -> dict:
    """Return the mapping that a YAML file holds; an empty file holds none.

    The message of an error says ``what`` it should be: ``"scene configuration"``.

    Raises:
        UserError: no such file, not YAML, or something other than ``key: value``.
    """
    text = read_text(path, f"a {what}")
    try:
        content = yaml.safe_load(text)
    except Exception as error:  # of any kind, where a value is none of its type: 2024-99-99, !!int ""
        raise UserError(f"{path}: expected a {what}, found a file that is not YAML: {error}") from None
    if content is not None and not isinstance(content, dict):
        raise UserError(f"{path}: expected a {what} (key: value), found {type(content).__name__}")
    return content or {}
