"""Files and directories: names, writing whole or not at all, temporary files, text, JSON and YAML.

Everything is written beside its place under a name that no reader looks for (``.NAME.PID.mixit-part``) and
renamed when complete, so that a kill or a full disk never leaves half of it under its final name. What is
read is read as people save it, or refused in one line.
"""

import codecs
import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from frontend.utils.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


# --- names

# A name holds 255 bytes on most file systems; what is added to it for its hidden neighbours holds this many.
_NAME_BYTES, _PATH_BYTES, _ADDED_BYTES = 255, 4095, 24


def check_name(path: str | Path, what_to_do: str = "choose a shorter name") -> None:
    """Raise UserError if the name of a file to be written is too long for the file system."""
    path = Path(path)
    length, limit = len(os.fsencode(path.name)), _name_bytes(path.parent)
    if length > limit:
        raise UserError(f"{path}: expected a name of at most {limit} bytes, found {length} ({what_to_do})")
    if (length := len(os.fsencode(path.absolute()))) > _PATH_BYTES:
        raise UserError(
            f"{path}: expected a path of at most {_PATH_BYTES} bytes, found {length} ({what_to_do})"
        )


def check_utf8(name: str) -> None:
    """Raise UserError if a name of a file is not in UTF-8: it cannot stand in a table."""
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
        raise UserError(f"'{shown}': expected a name in UTF-8 (rename the file)") from None


def _name_bytes(folder: Path) -> int:
    """Return how long a name in ``folder``, which may not be there yet, may be."""
    for place in (folder, *folder.parents):
        with contextlib.suppress(OSError, ValueError):
            return os.pathconf(place, "PC_NAME_MAX")
    return _NAME_BYTES


def _stem(path: Path) -> str:
    """Return the name of a path, or of a long one its beginning and a digest: more can be added to it."""
    name, room = os.fsencode(path.name), _NAME_BYTES - _ADDED_BYTES
    if len(name) <= room:
        return path.name
    digest = hashlib.sha256(name).hexdigest()[:12]
    return f"{name[: room - 13].decode('utf-8', 'ignore')}~{digest}"


def make_directory(path: Path) -> None:
    """Make a directory, and those that it lies in, unless it is there.

    Raises:
        UserError: in /proc, or below a folder that is removed meanwhile.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no directory can be made there (choose another)") from None


def _aside(path: Path, kind: str = "part") -> Path:
    check_name(path)
    make_directory(path.parent)
    return path.with_name(f".{_stem(path)}.{os.getpid()}.mixit-{kind}")


# What is read by its name, in a directory: tables, audio, weights, settings.
_READ = re.compile(
    r"text(_spk\d+)?|segments|utt2.*|spk2utt|array|tokens\.txt|ref\..*|scenes\.jsonl|"
    r".*\.(scp|ark|wav|flac|pth|yaml|zip|model|npz)"
)


def check_place(out: str | Path, *inputs: str | Path) -> None:
    """Raise UserError if what is written to ``out`` would replace an input.

    Args:
        out: a file or a directory; new ones are fine.
        inputs: files and directories; ``out`` may be a file in one of these, unless it is of a kind that is
            read there.
    """
    out = Path(out)
    if not out.exists():
        return
    real, is_file = out.resolve(), out.is_file()
    for path in map(Path, inputs):
        with contextlib.suppress(OSError, ValueError):  # no path at all
            other = path.resolve()
            if real == other:
                what = "an input that the output would replace" if is_file else "is the source itself"
                raise UserError(f"{out}: {what} (choose another --out)")
            if is_file and other in real.parents and path.is_dir() and _READ.fullmatch(real.name):
                raise UserError(f"{out}: a file of the input {path} would be replaced (choose another --out)")


# --- written whole or not at all

LOCK = ".mixit.lock"  # of a directory, see :mod:`frontend.utils.locks`


@contextlib.contextmanager
def _said_of(path: Path, part: Path) -> Iterator[None]:
    """Let an error of the disk name ``path``, of which nobody knows that it is written as ``part``."""
    try:
        yield
    except OSError as error:
        if (error.filename is None and error.errno in _FULL) or str(error.filename) == str(part):
            error.filename = str(path)
        raise


@contextlib.contextmanager
def scratch_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which is removed at the end.

    Raises:
        UserError: a name that is too long, before anything is written.
    """
    path = Path(path)
    part = _aside(path)
    try:
        with _said_of(path, part):
            yield part
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; on success it replaces ``path``, else it is removed.

    Raises:
        UserError: a name that is too long, before anything is written.
    """
    with scratch_file(path) as part, _said_of(Path(path), part):
        yield part
        os.replace(part, path)


@contextlib.contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield an empty directory; on success it replaces ``path``, else it is removed.

    At no moment does ``path`` hold a part of the old or of the new. POSIX cannot swap two
    directories in one step: a kill between the two renames leaves nothing there, and beside it
    both of them whole, the old as ``.NAME.PID.mixit-old``, the new as ``.NAME.PID.mixit-part``. Any error
    or interrupt puts the old back. A link is followed: what it points to is replaced. Who holds the lock of
    the old holds that of the new.
    """
    path = Path(path)
    if path.is_symlink():
        path = path.resolve()  # so that the renames stay within its file system
    part, old = _aside(path), _aside(path, "old")
    _tidy(path, part, old)  # a killed process may have had our number
    with _said_of(path, part):
        part.mkdir()
    try:
        with _said_of(path, part):
            yield part
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.link(path / LOCK, part / LOCK)
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


def write_named(path: str | Path, text: str) -> None:
    """Write ``text`` to what a user names: a link is followed; what is a pipe or a device stays one."""
    path = Path(path)
    check_name(path)
    if not path.exists() or path.is_file():
        write_text(path.resolve() if path.is_symlink() else path, text)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        error.filename = str(path)
        raise


def write_json(path: str | Path, content: object, **options: Any) -> None:
    """Write ``content`` as indented JSON, whole or not at all; ``options`` are those of ``json.dumps``."""
    write_text(path, json.dumps(content, indent=1, **options) + "\n")


def write_json_lines(path: str | Path, rows: Iterable[dict], **options: Any) -> None:
    """Write JSON, a row a line, whole or not at all; ``options`` are those of ``json.dumps``."""
    write_text(path, "".join(json.dumps(row, **options) + "\n" for row in rows))


# --- removed

_LEFT_OVER = re.compile(r"\.(.+)\.(\d+)\.mixit-(part|old)")


def remove(path: Path) -> None:
    """Remove a file or directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_left_over(path: Path, depth: int = 3) -> None:
    """Remove what killed processes left of files and directories in ``path``, and of itself beside it.

    What they had moved aside and not yet replaced is put back. Of a living process nothing is touched.

    Args:
        path: held by the caller, since a process of another machine looks like a dead one.
        depth: how far down it is looked for; links are not followed.
    """
    found, folders, stem = [], [(path, depth)], _stem(path)
    with contextlib.suppress(OSError):
        found = [p for p in path.parent.glob(".*") if (m := _LEFT_OVER.fullmatch(p.name)) and m[1] == stem]
    while folders:
        folder, below = folders.pop()
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if _LEFT_OVER.fullmatch(entry.name):
                    found.append(Path(entry.path))
                elif below and entry.is_dir(follow_symlinks=False):
                    folders.append((Path(entry.path), below - 1))
    for left_over in found:
        name, pid, kind = _LEFT_OVER.fullmatch(left_over.name).groups()  # type: ignore[union-attr]
        if os.path.exists(f"/proc/{pid}"):
            continue
        whole = path if name == stem and left_over.parent == path.parent else left_over.with_name(name)
        if kind == "old" and not os.path.lexists(whole):
            os.rename(left_over, whole)
        else:
            remove(left_over)


# --- temporary files


@contextlib.contextmanager
def scratch(fill: Callable[[Path], object] = lambda folder: None) -> Iterator[Path]:
    """Yield a directory for temporary files, in that of ``TMPDIR``; it is removed afterwards.

    Args:
        fill: puts something into it.

    Raises:
        UserError: there is no such directory, or no room in it.
    """
    given = os.environ.get("TMPDIR")
    if given and not os.path.isdir(given):
        raise UserError(
            f"TMPDIR={given}: expected a directory for temporary files, found none (set it to one, or "
            "unset it)"
        )
    with contextlib.ExitStack() as stack:
        where = given or "temporary files"
        try:
            where = given or tempfile.gettempdir()
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="frontend-", dir=where)))
            fill(folder)
        except OSError as error:
            if error.filename is not None and not str(error.filename).startswith(where):
                raise
            raise _no_room(where, error) from None
        try:
            yield folder
        except OSError as error:
            if error.errno not in _FULL or folder not in Path(str(error.filename)).parents:
                raise
            raise _no_room(where, error) from None


def _no_room(where: str, error: OSError) -> UserError:
    return UserError(
        f"{where}: expected room for temporary files, found: {os.strerror(error.errno or 0)} "
        "(set the variable TMPDIR to another directory)"
    )


# --- text, JSON and YAML, read

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
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub("(^|\n)\ufeff+", r"\1", text) if "\ufeff" in text else text


def read_lines(path: str | Path, what: str = "a file") -> list[tuple[int, str]]:
    """Return the lines of a text that are not blank, each with its number (from 1).

    Blanks and tabs at both ends are left out. A line ends at LF alone, not at U+2028 and others, at which
    ``str.splitlines`` divides and which a text may have. It raises what :func:`read_text` raises.
    """
    lines = ((number, line.strip(" \t")) for number, line in enumerate(read_text(path, what).split("\n"), 1))
    return [(number, line) for number, line in lines if line.strip()]  # a form feed is blank, too


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


class _Loader(yaml.SafeLoader):
    """YAML in which no key stands twice in a mapping: PyYAML keeps the last one, without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return a mapping as it is written."""
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple, int] = {}
        for key, _ in node.value:
            name, line = (key.tag, str(key.value)), key.start_mark.line + 1
            if name in lines and key.value != "<<":
                both = f"in lines {lines[name]} and {line}" if line != lines[name] else f"in line {line}"
                raise UserError(f"the key '{key.value}' stands twice, {both} (keep one of them)")
            lines[name] = line
        return node


def read_settings(path: str | Path, what: str) -> dict:
    """Return the mapping that a YAML file holds; an empty file holds none.

    The message of an error says ``what`` it should be: ``"scene configuration"``.

    Raises:
        UserError: no such file, not YAML, a key twice, or something other than ``key: value``.
    """
    text = read_text(path, f"a {what}")
    try:
        content = yaml.load(text, _Loader)  # noqa: S506, it is a safe one
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # of any kind, where a value is none of its type: 2024-99-99, !!int ""
        raise UserError(f"{path}: expected a {what}, found a file that is not YAML: {error}") from None
    if content is not None and not isinstance(content, dict):
        raise UserError(f"{path}: expected a {what} (key: value), found {type(content).__name__}")
    return content or {}


def numbered(directory: Path, prefix: str, suffix: str = "") -> list[Path]:
    """Return ``prefix1suffix, prefix2suffix, ...`` of ``directory`` in the order of their numbers.

    Raises:
        UserError: a number is left out.
    """
    pattern = re.compile(re.escape(prefix) + r"([1-9][0-9]*)" + re.escape(suffix))
    found = sorted(int(m[1]) for m in map(pattern.fullmatch, (p.name for p in directory.iterdir())) if m)
    for expected, number in enumerate(found, 1):
        if number != expected:
            have, lack = f"{prefix}{number}{suffix}", f"{prefix}{expected}{suffix}"
            raise UserError(f"{directory}: {have} without {lack} (number the talkers 1, 2, ...)")
    return [directory / f"{prefix}{n}{suffix}" for n in found]
