"""Mistakes a user can make, said in one line.

Whatever can be wrong with a path, a configuration or a recording is raised as :class:`UserError`; :func:`run`
turns it into one line on standard error and exit code 2. Everything else that escapes is a bug of ours and
keeps its traceback.
"""

import argparse
import contextlib
import difflib
import errno
import os
import select
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn


class UserError(Exception):
    """A mistake that the reader of the message can put right.

    The message is one line: what was expected, what was found, in which file (and line), what to do.
    """


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)``, or an empty string if nothing is close.

    What a user wrote may be a number or a list.

    >>> did_you_mean("techer", ["teacher", "student"])
    " (did you mean 'teacher'?)"
    """
    name, known = str(name), list(known)
    same = [one for one in known if one.casefold() == name.casefold()]
    close = same or difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def few(texts: Iterable[str], most: int = 3) -> str:
    """Return the first of some texts, and how many there are beside them.

    >>> few(["lr", "seed", "data", "weights"])
    'lr, seed, data and 1 more'
    """
    texts = list(texts)
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


class Parser(argparse.ArgumentParser):
    """The parser of a recipe's script: a mistake is a ``UserError``."""

    def error(self, message: str) -> NoReturn:
        """Raise it."""
        raise UserError(f"{message} (see --help)")


_warned: set[str] = set()


def warn(text: str) -> None:
    """Print ``warning: text`` on standard error, in one line, once for each text in a process."""
    text = " ".join(text.split())
    if text not in _warned:
        _warned.add(text)
        print(f"warning: {text}", file=sys.stderr, flush=True)


def is_complaint(line: str) -> bool:
    """Whether a line of a command's output is a warning or an error of ours."""
    return line.startswith("warning: ") or ": error: " in line


# Conditions of the machine rather than of the program, and paths to write that lead through a file: reported,
# not traced; some with what to do.
_MACHINE_ERRORS = {
    errno.ENOSPC: "make room there, or write elsewhere",
    errno.EDQUOT: "make room there, or write elsewhere",
    errno.EFBIG: "the file system or the limit of the shell holds no larger file",
    errno.EROFS: "write elsewhere",
    errno.EACCES: "change the permissions, or choose another path",
    errno.EPERM: "change the permissions, or choose another path",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "a link leads to itself: correct it",
    errno.EMFILE: "raise the limit of open files: ulimit -n",
    errno.ENFILE: "close other programs",
    errno.ENOTDIR: "choose another path",
    errno.EISDIR: "choose another path",
    errno.EEXIST: "choose another path",
    errno.EPIPE: "its reader is gone: start it again",
    errno.EIO: "the disk or its network failed",
    errno.ESTALE: "the disk or its network failed",
}
# What the user typed, where that is not the command itself: ./run.sh, of whose stages each is a command.
TYPED = "MIXIT_COMMAND"
INTERRUPTED, CLOSED = 130, 141  # exit codes, as a shell has them for SIGINT and SIGPIPE


def run(main: Callable[[], int | None], name: str = "") -> None:
    """Call ``main`` and exit: 0 on success, 2 with one line on a user's mistake.

    A full disk, an unwritable directory and an interrupt are reported in one line as well; where nobody reads
    the output any more, nothing is said. What ``main`` returns is the exit code.

    Args:
        main: the work.
        name: of the command, which signs the line; by default that of the script.
    """
    name = signature(name or os.path.splitext(os.path.basename(sys.argv[0]))[0])
    try:
        code = main() or 0
        sys.stdout.flush()
    except UserError as error:
        code = _fail(f"{name}: error: {' '.join(str(error).split())}")
    except (OSError, KeyboardInterrupt, ImportError, SystemError) as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            code = CLOSED
        elif _is_interrupt(error):
            code = _fail(f"{name}: interrupted; run the same command again", INTERRUPTED)
        elif isinstance(error, OSError) and error.errno in _MACHINE_ERRORS:
            where = error.filename or ("standard output" if _is_full_out(error) else "")
            where = f"{where}: " if where else ""
            code = _fail(f"{name}: error: {where}{os.strerror(error.errno)} ({_MACHINE_ERRORS[error.errno]})")
        else:
            raise
    if not _can_write_out():
        code = code or 2
    sys.exit(code)


def signature(name: str) -> str:
    """Return what a message of the command ``name`` is signed with: what the user typed."""
    return os.environ.get(TYPED) or name


def open_standard_files() -> None:
    """Let an output that was closed (``>&-``) lead nowhere: no file that is opened later takes its place."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(number)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))


def _fail(line: str, code: int = 2) -> int:
    """Print a line on standard error and return the exit code."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)
    return code


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether it is Ctrl-C, or what an extension module made of it while it was imported."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _nobody_reads() -> bool:
    """Whether an output of ours leads into a closed pipe."""
    closed = False
    for number in (1, 2):
        with contextlib.suppress(OSError):
            watched = select.poll()
            watched.register(number, select.POLLOUT)
            closed |= any(event & (select.POLLERR | select.POLLHUP) for _, event in watched.poll(0))
    return closed


def _is_full_out(error: OSError) -> bool:
    """Whether it is the output that cannot be written; Python forgets what failed there, so write again."""
    if not _can_write_out():
        return True
    try:
        os.write(sys.stdout.fileno(), b"\n" if error.errno in (errno.ENOSPC, errno.EDQUOT) else b"")
    except (OSError, ValueError) as again:
        return getattr(again, "errno", None) == error.errno
    return False


def _can_write_out() -> bool:
    """Write what is left of the output; where it cannot be, let Python not try it again when it ends."""
    complete = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            complete = False
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
    return complete
