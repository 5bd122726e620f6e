"""Mistakes a user can make, said in one line.

Whatever can be wrong with a path, a configuration or a recording is raised as :class:`UserError`; :func:`run`
turns it into one line on standard error and exit code 2. Everything else that escapes is a bug of ours and
keeps its traceback.
"""

import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterable


class UserError(Exception):
    """A mistake that the reader of the message can put right.

    The message is one line: what was expected, what was found, in which file (and line), what to do.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)``, or an empty string if nothing is close.

    >>> did_you_mean("techer", ["teacher", "student"])
    " (did you mean 'teacher'?)"
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


_warned: set[str] = set()


def warn(text: str) -> None:
    """Print ``warning: text`` on standard error, in one line, once for each text in a process."""
    text = " ".join(text.split())
    if text not in _warned:
        _warned.add(text)
        print(f"warning: {text}", file=sys.stderr, flush=True)


# Conditions of the machine rather than of the program, and paths to write that lead through a file: reported,
# not traced.
_MACHINE_ERRORS = {errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EPERM}
_MACHINE_ERRORS |= {errno.ENOTDIR, errno.EISDIR, errno.EEXIST}


def run(main: Callable[[], int | None], name: str = "") -> None:
    """Call ``main`` and exit: 0 on success, 2 with one line on a user's mistake.

    A full disk, an unwritable directory and an interrupt are reported in one line as well. It is signed with
    the ``name`` of the command, by default that of the script. What ``main`` returns is the exit code.
    """
    name = name or os.path.splitext(os.path.basename(sys.argv[0]))[0]
    try:
        sys.exit(main() or 0)
    except UserError as error:
        print(f"{name}: error: {' '.join(str(error).split())}", file=sys.stderr)
    except OSError as error:
        if error.errno not in _MACHINE_ERRORS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"{name}: error: {where}{os.strerror(error.errno)}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    sys.exit(2)
