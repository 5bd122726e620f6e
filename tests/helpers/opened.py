"""Which files anything opens meanwhile, whatever the language and the process: Linux's inotify."""

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

_OPEN = 0x20
_EVENT = struct.Struct("iIII")


@contextlib.contextmanager
def opened(paths: Sequence[Path]) -> Iterator[set[Path] | None]:
    """Yield a set that holds, once the context is left, those of ``paths`` that were opened in it.

    None where the system has no inotify.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    queue = libc.inotify_init1(os.O_NONBLOCK) if hasattr(libc, "inotify_init1") else -1
    if queue < 0:
        yield None
        return
    try:
        watches = {libc.inotify_add_watch(queue, os.fsencode(path), _OPEN): path for path in paths}
        assert -1 not in watches, "no such file, or too many watches"
        found: set[Path] = set()
        yield found
        with contextlib.suppress(BlockingIOError):
            while events := os.read(queue, 1 << 16):  # of files, not of directories: none has a name
                found |= {watches[number] for number, *_ in _EVENT.iter_unpack(events)}
    finally:
        os.close(queue)
