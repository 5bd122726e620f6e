"""Trainings that two processes share, as they would two GPUs or nodes."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import kills
import pytest
import torch
from recipes import ROOT

# Gradients of halves of a batch are added in another order than those of the batch: float32.
TOLERANCE = {"rtol": 1e-4, "atol": 2e-5}


def free_ports() -> str:
    """Return a port that is free, and so is the next one."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            number = one.getsockname()[1]
            try:
                two.bind(("127.0.0.1", number + 1))
            except OSError:
                continue
            return str(number)


def start(argv: list[str], processes: int = 2, kind: str = "separator", late_s: float = 0.0):
    """Start the same command in processes that know of each other, as on several nodes."""
    more = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_ports()}
    line = [sys.executable, "-m", "frontend", "train", kind, *argv]
    how = {"cwd": ROOT, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = []
    for k in range(processes):
        running.append(subprocess.Popen(line, env={**os.environ, **more, "RANK": str(k)}, **how))
        time.sleep(late_s if k == 0 else 0)
    return running


def together(argv: list[str], late_s: float = 0.0, **how) -> list[tuple[int, str]]:
    """Train together, the second process started ``late_s`` later; return exit codes and what was said."""
    running = start(argv, late_s=late_s, **how)
    try:
        said = [process.communicate(timeout=300) for process in running]
    finally:
        for process in running:
            process.kill()
    return [(process.returncode, err) for process, (_, err) in zip(running, said, strict=True)]


def assert_near(one: Path, other: Path) -> None:
    """Compare all that two trainings leave, but for the order of sums."""
    assert kills.losses(one) == pytest.approx(kills.losses(other), rel=TOLERANCE["rtol"])
    a, b = kills.weights(one), kills.weights(other)
    assert a.keys() == b.keys()
    for name in a.keys() - {"optimiser"}:
        for key, value in a[name].items():
            torch.testing.assert_close(value, b[name][key], msg=f"{name}: {key}", **TOLERANCE)
