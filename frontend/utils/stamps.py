"""What a result was made from: written beside it, and compared before it is used again.

There is one mechanism for all results. A :class:`Stamp` names three things: the settings that the result
depends on, the content of its inputs, and the versions of the code that made it. Whoever makes a result
writes its stamp last, so that a result without a stamp is an unfinished one::

    stamp = Stamp.of(asdict(settings), {"mixtures": of_table(wav)}, code=[blind, refine])
    if why := stamp.why_stale(out / "stamp.json"):
        ...  # say why, make the result
        stamp.write(out / "stamp.json")

What changes no result is no part of a stamp: the number of processes or threads, the order, the time.

A module whose numbers can change has a constant ``VERSION``. It is raised by one with every change of code
after which the same input gives another output; a rename or a comment changes nothing.

A stamp answers whether one result is of today's inputs. Whether work in several parts is complete is decided
by the module that does it: the stages of a run in ``pipeline/engine.py``, items of separated and labelled
sets in ``separation/loop.py``, pieces of a simulated set in ``simulation/mixture_sets.py``, systems of a
table in ``evaluation/measured.py``, checkpoints and their average in ``training/run.py``.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType

from frontend.utils.errors import UserError, few
from frontend.utils.files import write_json

# Inside directories these are compared by name and size: large, and written once by our own tools.
_BULK = {".wav", ".flac", ".ark", ".npz", ".pth", ".png"}
_HASH_AT_MOST = 64 << 20  # larger files, such as archives of a corpus, are compared by size and time


@dataclass(frozen=True)
class Stamp:
    """What a result was made from.

    Attributes:
        settings: name -> value, such as JSON holds.
        inputs: what was read -> a digest of its content, by the functions of this module.
        code: module -> its ``VERSION``.
    """

    settings: dict = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    code: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Mapping, inputs: Mapping[str, str], code: Iterable[ModuleType] = ()) -> "Stamp":
        """Make a stamp that equals itself after a way through JSON (tuples become lists)."""
        versions = {module.__name__: module.VERSION for module in code}
        return cls(json.loads(json.dumps(dict(settings))), dict(inputs), versions)

    @property
    def digest(self) -> str:
        """A digest of all of it, for a file name or for a stamp of stamps."""
        return of_text(json.dumps(asdict(self), sort_keys=True))

    def write(self, path: str | Path) -> None:
        """Write the stamp, whole or not at all; last of all that belongs to the result."""
        write_json(path, asdict(self))

    def why_stale(self, path: str | Path) -> str:
        """Return in one sentence why the result beside ``path`` is not the one of this stamp; "" if it is."""
        before = read_stamp(path)
        return "it is not complete" if before is None else self.changed_since(before)

    def changed_since(self, before: "Stamp") -> str:
        """Return in one sentence what differs from an earlier stamp; "" if nothing does."""
        found = []
        for what, part in (("setting", "settings"), ("input", "inputs"), ("code", "code")):
            old, new = getattr(before, part), getattr(self, part)
            found += [f"{what} {name}" for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
        return f"{few(found)} changed since it was made" if found else ""


def read_stamp(path: str | Path) -> Stamp | None:
    """Return the stamp that lies in ``path``, None if there is none.

    Raises:
        UserError: the file is no stamp.
    """
    try:
        return Stamp(**json.loads(Path(path).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError):
        raise UserError(f"{path}: expected a stamp as this program writes it (delete the file)") from None


def of_text(text: str) -> str:
    """Return a digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def of_file(path: str | Path) -> str:
    """Return a digest of a file's content; of a larger one than 64 MiB, of its size and time.

    Raises:
        UserError: no such file.
    """
    digest = hashlib.sha256()
    try:
        found = Path(path).stat()
        if found.st_size > _HASH_AT_MOST:
            digest.update(f"{found.st_size} {found.st_mtime_ns}".encode())
        else:
            _add_content(digest, Path(path))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UserError(f"{path}: expected a file, found none (check the path)") from None
    return digest.hexdigest()


def of_tree(path: str | Path, by_size: bool = False) -> str:
    """Return a digest of a file or of everything below a directory; "" if there is neither.

    Inside directories audio, weights and pictures are compared by name and size.

    Args:
        path: a file or directory; hidden files and ``__pycache__`` are passed over.
        by_size: compare all files by name and size alone.
    """
    path = Path(path)
    if not path.exists():
        return ""
    digest, alone = hashlib.sha256(), path.is_file()
    for file in [path] if alone else sorted(filter(Path.is_file, files_below(path, ["__pycache__"]))):
        inside = file.relative_to(path)
        found = file.stat()
        digest.update(f"{inside}\0{found.st_size}\0".encode())
        if by_size or (file.suffix in _BULK and not alone):
            continue
        if alone or found.st_size <= _HASH_AT_MOST:
            _add_content(digest, file)
        else:
            digest.update(f"{found.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _add_content(digest, file: Path) -> None:
    with open(file, "rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)


def files_below(
    folder: str | Path,
    put_aside: Sequence[str] = (),
    unreadable: Callable[[str], None] = lambda text: None,
) -> Iterator[Path]:
    """Yield what is no directory in a folder and below it; links are followed, each real directory once.

    Args:
        folder: may be hidden itself; hidden files and directories in it are passed over.
        put_aside: names of others that are.
        unreadable: is told of a directory that cannot be read.
    """
    folders, links = [Path(folder)], list[Path]()
    seen = set()
    while folders or links:
        # Links last: what can be reached without them has the name of the place where it lies.
        directory = folders.pop(0) if folders else links.pop(0)
        if (real := os.path.realpath(directory)) in seen:
            continue
        seen.add(real)
        try:
            children = sorted(directory.iterdir())
        except OSError as error:
            unreadable(f"{directory}: passed over, it cannot be read: {error.strerror}")
            continue
        for child in children:
            if child.name.startswith(".") or child.name in put_aside:
                continue
            if os.path.isdir(child):
                (links if child.is_symlink() else folders).append(child)
            else:
                yield child


def each_once(files: Iterable[Path]) -> tuple[list[Path], dict[Path, Path]]:
    """Return each real file once, under its own name if that is among them, and the links left out.

    Returns:
        the files in their order; and for each link that is none of them, which of them it leads to.
    """
    real: dict[str, Path] = {}
    files = list(files)
    for file in sorted(files, key=Path.is_symlink):
        real.setdefault(os.path.realpath(file), file)
    kept = {file: real[os.path.realpath(file)] for file in files}
    return [file for file in files if kept[file] == file], {a: b for a, b in kept.items() if a != b}
