"""One run at a time in a directory: locks that end with the process, and what killed runs left.

A lock is ``flock`` on ``DIR/.mixit.lock``, which children inherit. Processes that a run starts in a directory
that it holds (the stages of ``mixit run``) are told so by the environment (:func:`held`).
"""

import contextlib
import errno
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from frontend.utils.errors import UserError, warn
from frontend.utils.files import LOCK, make_directory, remove_left_over

# Directories that the process that started this one holds for it, a line each.
_HELD = "FRONTEND_HELD"
_held: list[str] = []
_PATIENCE_S = 2.0  # for what was killed just now: its children end within a second


@contextlib.contextmanager
def locked(directory: str | Path, patience_s: float | None = 0.0, shared: bool = False) -> Iterator[bool]:
    """Hold the lock of a directory; yield False if it was not to be had.

    It ends with this process, however that ends, and with those that were started meanwhile. Where nothing
    can be written, nothing needs to be held.

    Args:
        directory: made if need be, and removed afterwards if nothing was put into it.
        patience_s: seconds to wait; None: as long as it takes.
        shared: together with others that share it.
    """
    if os.path.islink(directory) and not os.path.exists(directory):
        raise UserError(f"{directory}: expected a directory, found a link to nothing (choose another path)")
    directory = Path(directory).absolute()
    path = directory / LOCK
    name = str(path.resolve())
    if name in os.environ.get(_HELD, "").split("\n") or (directory.exists() and not directory.is_dir()):
        yield True  # of a file the caller says what is wrong
        return
    made = [place for place in (directory, *directory.parents) if not place.exists()]
    make_directory(directory)
    file = _flocked(path, patience_s, shared)
    if file is not None and file.closed:
        yield False
        return
    _held.append(name)
    try:
        yield True
    finally:
        _held.remove(name)
        if file is not None:
            with contextlib.suppress(OSError), file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unless others share it
                path.unlink()
        with contextlib.suppress(OSError):
            for place in made:
                place.rmdir()


def _flocked(path: Path, patience_s: float | None, shared: bool) -> TextIO | None:
    """Return the locked file; None where there can be none, a closed one where another run has it."""
    end = None if patience_s is None else time.monotonic() + patience_s
    while True:
        try:
            file = open(path, "w", encoding="utf-8")
        except OSError as error:
            if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
                return None
            if isinstance(error, FileNotFoundError) and not path.parent.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)  # whoever held it removed it as empty
                continue
            error.filename = str(path.parent)
            raise
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    os.set_inheritable(file.fileno(), True)
                    return file
            file.close()  # its holder removed it meanwhile
        except BlockingIOError:
            file.close()
            if end is not None and time.monotonic() >= end:
                return file
            time.sleep(0.1)
        except OSError as error:
            file.close()
            why = os.strerror(error.errno or 0)
            warn(f"{path.parent}: cannot be locked ({why}): start no second run in it")
            return None


def held() -> dict[str, str]:
    """Return what the environment of a child must have, so that it may work where this process does."""
    return {_HELD: "\n".join([*filter(None, [os.environ.get(_HELD)]), *_held])}


@contextlib.contextmanager
def working_in(
    *directories: str | Path | None,
    shared: bool = False,
    depth: int = 3,
    patience_s: float = _PATIENCE_S,
    wait: bool = False,
) -> Iterator[None]:
    """Let no other run work in some directories, and remove what killed ones left there.

    Args:
        directories: made if need be; None: no directory.
        shared: other parts of the same work may run at the same time.
        depth: see :func:`remove_left_over`.
        patience_s: how long a run that was just killed may take to end.
        wait: for the end of another run, instead of the error.

    Raises:
        UserError: another run works in one of them.
    """
    with contextlib.ExitStack() as stack:
        # One directory named twice is locked once; the command says what is wrong with that.
        for directory in {os.path.realpath(one): one for one in directories if one is not None}.values():
            mine = stack.enter_context(locked(directory, patience_s, shared))
            if not mine and wait:
                print(f"{directory}: waiting for another run, which works in it", file=sys.stderr, flush=True)
                mine = stack.enter_context(locked(directory, None, shared))
            if not mine:
                raise UserError(
                    f"{directory}: expected a directory of this run alone, found another run at work in it "
                    "(wait for its end or stop it, or choose another directory)"
                )
            if not shared:
                remove_left_over(Path(directory), depth)
        yield
