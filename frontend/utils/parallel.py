"""The same function over many items: in order, in processes, with progress."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from tqdm import tqdm

from frontend.utils.errors import UserError

# Set before a worker imports numpy or torch: one thread a process, so that
# --nj processes use nj cores, and so that sums are made in one order.
_ONE_THREAD = {k: "1" for k in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
_LOG_EVERY_S = 15.0
_AHEAD = 16  # items a process that are given out before the first of them is done


def number_of_processes(text: str) -> int:
    """Read ``--nj``: a ``type`` for argparse.

    Raises:
        UserError: no whole number, or below 1.
    """
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--nj: expected at least 1, found {text} (give a number of processes)")
    return int(text)


class Progress:
    """Say how far a long work is: a bar on a terminal, else a plain line every 15 s.

    Args:
        total: number of steps.
        what: name of the work.
        done: steps done in an earlier run.
        unit: what a step is.
    """

    def __init__(self, total: int, what: str, done: int = 0, unit: str = "utt"):
        self.total, self.what, self.first, self.done = total, what, done, done
        self.timed_from = done
        self.bar = None
        if sys.stderr.isatty():
            self.bar = tqdm(total=total, initial=done, desc=what, unit=unit, dynamic_ncols=True)
        self.start = self.last = time.monotonic()

    def step(self, steps: int = 1) -> None:
        """Count one step, or several."""
        is_first = self.done == self.first
        self.done += steps
        now = time.monotonic()
        if self.bar is not None:
            self.bar.update(steps)
        elif is_first:
            # Before the first step lies the start of processes, which says nothing of the rest.
            self.start = self.last = now
            self.timed_from = self.done
        elif now - self.last > _LOG_EVERY_S and self.done < self.total:
            left = (now - self.start) / (self.done - self.timed_from) * (self.total - self.done)
            print(
                f"{self.what}: {self.done}/{self.total}, about {left:.0f} s left", file=sys.stderr, flush=True
            )
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


def _single_threaded() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def parallel_map(function: Callable, items: Sequence, nj: int, what: str, fork: bool = False) -> Iterator:
    """Yield ``function(item)`` for each item, in the order of ``items``.

    Args:
        function: picklable unless forked; it must not depend on the order of its calls.
        items: what to do.
        nj: number of processes; 1 works in this process.
        what: name for the progress bar.
        fork: fork the processes from this one, with what it has imported and loaded. It must have run
            nothing in threads: torch's would hang.

    Raises:
        UserError: a process was killed.
        Exception: what ``function`` raised first, in the order of ``items``.
    """
    if nj <= 1 or len(items) <= 1:
        yield from progress(map(function, items), len(items), what)
        return
    others = set(multiprocessing.active_children())
    # spawn is safe whatever the caller did before.
    context = multiprocessing.get_context("fork" if fork else "spawn")
    with _one_thread(), ProcessPoolExecutor(min(nj, len(items)), context, _start_worker, (function,)) as pool:
        try:
            yield from progress(_in_order(pool, items, nj * _AHEAD), len(items), what)
        except BrokenProcessPool:
            raise UserError(f"{what}: a process was killed; out of memory? (try a smaller --nj)") from None
        except BaseException:  # also an interrupt, or a caller who wants no more: nobody waits for the rest
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that are started meanwhile have one thread each."""
    before = {k: os.environ.get(k) for k in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key, None) if value is None else os.environ.__setitem__(key, value)


def _in_order(pool: ProcessPoolExecutor, items: Iterable, ahead: int) -> Iterator:
    """Yield the results in the order of ``items``, with no more than ``ahead`` of them given out."""
    given_out: deque[Future] = deque()
    for item in items:
        if len(given_out) == ahead:
            yield given_out.popleft().result()
        # This starts processes. They have an interrupt blocked from their first moment (one ignored by
        # the initializer would still end their imports with a traceback): the parent says it, and ends them.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            given_out.append(pool.submit(_work, item))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    while given_out:
        yield given_out.popleft().result()


def _start_worker(function: Callable) -> None:
    """Keep what is the same for all items, so that it is sent once a process."""
    global _function
    _function = function
    _single_threaded()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the one that started it was killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    while os.getppid() == parent.pid:
        time.sleep(1.0)
    os._exit(1)


def _work(item: object) -> object:
    return _function(item)


def forked(function: Callable, items: Sequence, nj: int, what: str, total: int) -> list:
    """Return ``[function(item, tick), ...]``, each call in a new process forked from this one.

    For work that needs what this process has imported or loaded, since that takes
    longer than the work. Every process has one thread, and memory that can be
    measured apart from the others'.

    Args:
        function: calls ``tick()`` after each of its steps; its result is sent back.
        items: what to do.
        nj: number of processes at a time.
        what: name for the progress bar.
        total: number of steps of all calls together.

    Raises:
        UserError: a process was killed.
        Exception: what ``function`` raised first.
    """
    context = multiprocessing.get_context("fork")
    waiting, running, results = list(enumerate(items)), {}, [None] * len(items)

    def steps() -> Iterator[None]:
        while waiting or running:
            while waiting and len(running) < max(1, nj):
                index, item = waiting.pop(0)
                receive, send = context.Pipe(duplex=False)
                process = context.Process(target=_forked_child, args=(function, item, send), daemon=True)
                process.start()
                send.close()  # so that the end of the child is the end of the pipe
                running[receive] = index, process
            for pipe in multiprocessing.connection.wait(running):
                index, process = running[pipe]
                try:
                    done, results[index] = pipe.recv()
                except EOFError:
                    process.join()
                    code = process.exitcode
                    raise UserError(
                        f"{what}: a process was killed (exit code {code}); out of memory?"
                    ) from None
                if not done:
                    yield
                elif isinstance(results[index], BaseException):
                    raise results[index]
                else:
                    process.join()
                    del running[pipe]

    try:
        for _ in progress(steps(), total, what):
            pass
    finally:
        for _, process in running.values():
            process.terminate()
    return results


def _forked_child(function: Callable, item: object, pipe: multiprocessing.connection.Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says it, once, and ends us
    _single_threaded()
    try:
        result = function(item, lambda: pipe.send((False, None)))
    except Exception as error:  # raised again in the parent
        result = error
    pipe.send((True, result))
