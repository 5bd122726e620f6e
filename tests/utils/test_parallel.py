"""Work in processes: order, kills, interrupts, mistakes."""

import contextlib
import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from frontend.utils.errors import UserError
from frontend.utils.parallel import number_of_processes, parallel_map

ROOT = Path(__file__).resolve().parents[2]


def work(item, place=None):
    """Square a number; what the others do, they are named after."""
    if item == "bad":
        raise UserError("bad item")
    if item == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "pid":
        return os.getpid(), os.environ["OMP_NUM_THREADS"]
    if place:
        (place / str(item)).touch()
        time.sleep(0.05)
    return item**2


@pytest.mark.parametrize("nj", [1, 2, 3])
def test_results_come_in_order(nj):
    assert list(parallel_map(work, range(100), nj, "test")) == [k**2 for k in range(100)]


def test_forked_processes_need_no_pickles():
    loaded = {"by": "this process"}
    answers = parallel_map(lambda item: (loaded["by"], os.getpid(), item), range(40), 2, "test", fork=True)
    by, pids, items = zip(*answers, strict=True)
    assert set(by) == {"this process"} and os.getpid() not in pids and items == tuple(range(40))


@pytest.mark.parametrize("fork", [False, True])
def test_processes_end_with_the_one_that_started_them(tmp_path, fork):
    """Killed, it cannot end them; they would wait for its next item for ever."""

    def start():
        list(parallel_map(functools.partial(tell_and_wait, place=tmp_path), range(4), 2, "test", fork=fork))

    parent = multiprocessing.get_context("fork").Process(target=start)
    parent.start()
    _wait_until(lambda: len(list(tmp_path.iterdir())) >= 2)
    pids = [int(path.name) for path in tmp_path.iterdir()]
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    _wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def tell_and_wait(item, place):
    (place / str(os.getpid())).touch()
    time.sleep(60)


def _wait_until(condition, seconds=30):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.fixture
def still_running():
    """Return which processes of the test still run; data workers of a training before it may."""
    others = set(multiprocessing.active_children())
    return lambda: set(multiprocessing.active_children()) - others


def test_processes_are_others_and_single_threaded(monkeypatch, still_running):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    found = set(parallel_map(work, ["pid"] * 40, 2, "test"))
    assert os.getpid() not in {pid for pid, _ in found} and {threads for _, threads in found} == {"1"}
    assert os.environ["OMP_NUM_THREADS"] == "7" and not still_running()


def test_the_first_mistake_and_a_killed_process_end_it(still_running):
    results = parallel_map(work, [1, 2, "bad", "killed"], 2, "test")
    assert [next(results), next(results)] == [1, 4]
    with pytest.raises(UserError, match="bad item|a process was killed"):
        next(results)
    with pytest.raises(UserError, match="^scores: a process was killed; out of memory"):
        list(parallel_map(work, [1, "killed", *range(50)], 2, "scores"))
    assert not still_running()


def test_who_wants_no_more_waits_for_no_more(tmp_path, still_running):
    with contextlib.closing(
        parallel_map(functools.partial(work, place=tmp_path), range(500), 2, "test")
    ) as rows:
        assert next(rows) == 0
    assert not still_running()
    assert len(list(tmp_path.iterdir())) < 16, "what had been given out was done to the end"


@pytest.mark.parametrize("started", [False, True])
def test_an_interrupt_is_one_line(tmp_path, started):
    """Ctrl-C goes to all processes of the terminal: while they import, and while they work."""
    code = f"""
import functools, sys, pathlib
sys.path[:0] = {[str(ROOT), str(ROOT / "tests/utils")]!r}
import test_parallel
from frontend.utils.errors import run
from frontend.utils.parallel import parallel_map
work = functools.partial(test_parallel.work, place=pathlib.Path({str(tmp_path)!r}))
print("ready", flush=True)
run(lambda: list(parallel_map(work, range(10000), 2, "test")) and None)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Tests that run in a shell's background are born deaf to it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 60
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while time.monotonic() < deadline and (
        not any(tmp_path.iterdir()) if started else len(children.read_text().split()) < 3
    ):
        time.sleep(0.01)
    for child in children.read_text().split():
        assert _is_deaf(child)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.count("\n") == 1 and "interrupted" in err, err


@pytest.mark.parametrize("text", ["0", "-2", "two", "1.5", ""])
def test_number_of_processes(text):
    assert number_of_processes("3") == 3
    with pytest.raises(UserError, match=f"--nj: expected at least 1, found {text}"):
        number_of_processes(text)


def test_every_item_of_several_steps_has_a_process_of_its_own():
    def work(item, tick):
        tick()
        if item == "bad":
            raise UserError("bad item")
        if item == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        return item, os.getpid()

    answers = list(parallel_map(work, list("abc"), 2, "test", steps=3))
    assert [item for item, _ in answers] == list("abc")
    assert len({pid for _, pid in answers} | {os.getpid()}) == 4
    with pytest.raises(UserError, match="bad item"):
        list(parallel_map(work, ["a", "bad"], 1, "test", steps=2))
    with pytest.raises(UserError, match=r"killed.*\(exit code -9"):
        list(parallel_map(work, ["killed", "a"], 2, "test", steps=2))


def _is_deaf(number):
    """Return whether a process has an interrupt blocked or ignores it."""
    lines = Path(f"/proc/{number}/status").read_text().splitlines()
    masks = dict(line.split(":\t") for line in lines if line.startswith(("SigBlk", "SigIgn")))
    return any(int(mask, 16) >> (signal.SIGINT - 1) & 1 for mask in masks.values())
