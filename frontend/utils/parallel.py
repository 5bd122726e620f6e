"""The same function over many items: in order, in processes of one thread each, with progress.

Own code, since nothing else forks processes that inherit a loaded model: a fresh one imports ESPnet again.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from multiprocessing import connection, resource_tracker
from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]
from multiprocessing.process import BaseProcess
from typing import Any

from tqdm import tqdm

from frontend.utils.errors import UserError

# Set before a worker imports numpy or torch: one thread a process, so that
# --nj processes use nj cores, and so that sums are made in one order.
_ONE_THREAD = {k: "1" for k in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
Shard = tuple[int, int] | None  # part I of N of the work; None: all of it
_LOG_EVERY_S = 15.0
# Of the environment: seconds that a run expects for the stages after the one this process works for.
LEFT_AFTER = "FRONTEND_LEFT_AFTER"
_AHEAD = 16  # items a process that are given out before the first of them is done


def number_of_processes(text: str) -> int:
    """Read ``--nj``, as a ``type`` for argparse; raise UserError if it is no number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--nj: expected at least 1, found {text} (give a number of processes)")
    return int(text)


def duration(seconds: float) -> str:
    """Return a length of time in words.

    >>> duration(44), duration(300), duration(7000), duration(200000)
    ('44 s', '5 min', '1 h 57 min', '2 d 7 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


class Progress:
    """Say how far a long work is: a bar on a terminal, else a plain line every 15 s.

    The time that is left is that of this work, as fast as it went so far, and in a run of several stages also
    that of the whole run, which the run expects for what comes after (:data:`LEFT_AFTER`). ``what`` names the
    work; of its ``total`` steps ``done`` were done in an earlier run.
    """

    def __init__(self, total: int, what: str, done: int = 0, unit: str = "utt"):
        self.total, self.what, self.done = total, what, done
        self.timed_from: int | None = None
        self.bar = None
        if sys.stderr.isatty():
            self.bar = tqdm(total=total, initial=done, desc=what, unit=unit, dynamic_ncols=True)
        self.start = self.last = time.monotonic()

    def step(self, steps: int = 1) -> None:
        """Count one step, or several, or none."""
        self.done += steps
        now = time.monotonic()
        if self.bar is not None:
            self.bar.update(steps)
        if self.timed_from is None:  # before it lies the start of processes, which says nothing of the rest
            if steps:
                self.start = self.last = now
                self.timed_from = self.done
        elif now - self.last > _LOG_EVERY_S and self.timed_from < self.done < self.total:
            left = (now - self.start) / (self.done - self.timed_from) * (self.total - self.done)
            after = float(os.environ.get(LEFT_AFTER) or 0)
            whole = f", {duration(left + after)} in the whole run" if after else ""
            if self.bar is not None:
                self.bar.set_postfix_str(whole.strip(", "))
            else:
                state = f"{self.what}: {self.done}/{self.total}, about {duration(left)} left{whole}"
                print(state, file=sys.stderr, flush=True)
            self.last = now

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.close()


def progress(items: Iterable, total: int, what: str) -> Iterator:
    """Yield ``items`` and say how far it is, see :class:`Progress`."""
    shown = Progress(total, what)
    for item in items:
        yield item
        shown.step()
    shown.close()


def parallel_map(
    function: Callable, items: Sequence, nj: int, what: str, fork: bool = False, steps: int = 0
) -> Generator[Any, None, None]:
    """Yield ``function(item)`` for each item, in the order of ``items``.

    All processes end with the generator, and with the process that started them.

    Args:
        function: picklable unless forked; it must not depend on the order of its calls.
        items: what to do.
        nj: number of processes; 1 works in this process.
        what: name for the progress bar.
        fork: fork the processes from this one, with what it has imported and loaded. It must have run
            nothing in threads: torch's would hang. Otherwise fresh processes are spawned, which is safe
            whatever the caller did before.
        steps: number of steps of all items together, each of which is several. ``function(item, tick)`` then
            calls ``tick()`` after each step, and every item has a process of its own, forked from this
            one: its peak memory is that of the item.

    Raises:
        UserError: a process was killed.
        Exception: what ``function`` raised, of the first item in the order of ``items``.
    """
    if not steps and (nj <= 1 or len(items) <= 1):
        yield from progress(map(function, items), len(items), what)
        return
    shown = Progress(steps or len(items), what)
    workers = _Workers(function, fork or bool(steps), bool(steps), what)
    waiting, turn = deque(enumerate(items)), 0
    found: dict[int, tuple[str, Any]] = {}
    try:
        while turn < len(items):
            while waiting and len(workers.busy) < nj and waiting[0][0] < turn + nj * _AHEAD:
                workers.give(waiting.popleft())
            for kind, index, value in workers.answers():
                if kind == "error":
                    waiting.clear()  # nothing after it is wanted any more
                if kind != "step":
                    found[index] = kind, value
                if (kind == "step") == bool(steps):
                    shown.step()
            while turn in found:
                kind, value = found.pop(turn)
                if kind == "error":
                    raise value
                yield value
                turn += 1
    finally:
        workers.end()
        shown.close()


class _Workers:
    """Processes that each wait for an item, work, and answer through a pipe."""

    def __init__(self, function: Callable, fork: bool, only_one: bool, what: str):
        self.function, self.only_one, self.what = function, only_one, what
        self.context: Any = multiprocessing.get_context("fork" if fork else "spawn")
        if not fork:  # else it is started with the first process, and unblocks there what _started blocks
            resource_tracker.ensure_running()
        self.busy: dict[connection.Connection, BaseProcess] = {}
        self.idle: list[tuple[connection.Connection, BaseProcess]] = []

    def give(self, item: tuple[int, object]) -> None:
        """Let an idle process, or a new one, work on ``(index, item)``."""
        pipe, process = self.idle.pop() if self.idle else self._started()
        self.busy[pipe] = process
        with contextlib.suppress(BrokenPipeError):  # its end is found when the answer is waited for
            pipe.send(item)

    def _started(self) -> tuple[connection.Connection, BaseProcess]:
        ours, theirs = self.context.Pipe()
        arguments = (self.function, self.only_one, theirs)
        process = self.context.Process(target=_work, args=arguments, daemon=True)
        before = {k: os.environ.get(k) for k in _ONE_THREAD}
        os.environ.update(_ONE_THREAD)
        # It has an interrupt blocked from its first moment: the parent says it, once, and ends it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for key, value in before.items():
                os.environ.pop(key, None) if value is None else os.environ.__setitem__(key, value)
        theirs.close()  # so that the end of the process is the end of the pipe
        return ours, process

    def answers(self) -> Iterator[tuple[str, int, Any]]:
        """Wait, and yield what there is: ``(kind, index, content)``, kind is step, value or error."""
        ready = set(connection.wait(list(self.busy)))
        for pipe, process in [each for each in self.busy.items() if each[0] in ready]:
            try:
                kind, index, value = pipe.recv()
            except (EOFError, ConnectionResetError):
                process.join()
                raise UserError(
                    f"{self.what}: a process was killed; out of memory? "
                    f"(exit code {process.exitcode}; try a smaller --nj)"
                ) from None
            if kind != "step":
                del self.busy[pipe]
                if self.only_one:
                    pipe.close()
                    process.join()
                else:
                    self.idle.append((pipe, process))
            yield kind, index, value

    def end(self) -> None:
        """End all processes, in the middle of what they do."""
        every = [*self.busy.items(), *self.idle]
        for _, process in every:
            process.terminate()
        for pipe, process in every:
            process.join()
            pipe.close()


def _work(function: Callable, only_one: bool, pipe: connection.Connection) -> None:
    """Answer one item after the other; a process of its own takes one."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    with contextlib.suppress(EOFError, ConnectionError):  # the parent is gone
        while True:
            index, item = pipe.recv()
            extra = [functools.partial(pipe.send, ("step", index, None))] if only_one else []
            try:
                pipe.send(("value", index, function(item, *extra)))
            except Exception as error:  # raised again in the parent
                pipe.send(("error", index, ExceptionWithTraceback(error, error.__traceback__)))
            if only_one:
                return


def end_with_parent() -> None:
    """End this process when the one that started it was killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    while parent and os.getppid() == parent.pid:
        time.sleep(1.0)
    os._exit(1)


def part_of(items: Sequence, shard: Shard) -> list:
    """Return the items of part ``(I, N)`` of the work, I from 1 on; all of them for None."""
    return list(items) if shard is None else list(items[shard[0] - 1 :: shard[1]])
