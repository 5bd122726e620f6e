"""Work in a child process that is killed at a chosen moment, and what a training leaves."""

import importlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import torch


def exit_code(work: Callable) -> int:
    """Call a function in a forked child and return the child's exit code."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    return child.exitcode


def in_child(main: Callable, argv: list[str], sabotage: Callable | None = None) -> int:
    """Run a training command in a forked child, after ``sabotage``, and return its exit code."""
    # Forked children find imported what takes longer than to train.
    for module in ("frontend.training.checks", "torch._dynamo", "torch.utils.tensorboard"):
        importlib.import_module(module)

    def target():
        if sabotage:
            sabotage()
        main(argv)

    return exit_code(target)


def weights(directory: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Return all weights that a training leaves, and the state of its optimiser."""
    files = {p.name: torch.load(p, weights_only=True) for p in Path(directory).glob("*epoch.pth")}
    files["ave"] = torch.load(Path(directory) / "valid.loss.ave.pth", weights_only=True)
    checkpoint = torch.load(Path(directory) / "checkpoint.pth", weights_only=False)
    moments = checkpoint["optimizers"][0]["state"]
    files["optimiser"] = {f"{i}.{k}": v for i, s in moments.items() for k, v in s.items()}
    return files


def losses(directory: Path) -> list[float]:
    """Return the losses of training and validation, epoch by epoch."""
    stats = torch.load(directory / "checkpoint.pth", weights_only=False)["reporter"]["stats"]
    return [float(stats[epoch][phase]["loss"]) for epoch in sorted(stats) for phase in ("train", "valid")]


def assert_same(a: dict, b: dict) -> None:
    """Compare two results of :func:`weights` bit for bit."""
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].keys() == b[name].keys()
        for key in a[name]:
            assert torch.equal(a[name][key], b[name][key]), (name, key)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at_save(n: int) -> None:
    """Die by SIGKILL in the middle of writing the n-th file."""
    save, calls = torch.save, []

    def half(obj, path, *args, **kwargs):
        calls.append(path)
        save(obj, path, *args, **kwargs)
        if len(calls) == n:
            os.truncate(path, os.path.getsize(path) // 2)
            _die()

    torch.save = half


def kill_at_call(owner: object, name: str, n: int) -> None:
    """Die by SIGKILL instead of the n-th call of ``owner.name``."""
    original, calls = getattr(owner, name), []

    def counted(*args, **kwargs):
        calls.append(args)
        if len(calls) == n:
            _die()
        return original(*args, **kwargs)

    setattr(owner, name, counted)


def kill_at_link(n: int) -> None:
    """Die instead of making the n-th symbolic link."""
    kill_at_call(Path, "symlink_to", n)


def kill_at_step(n: int) -> None:
    """Die instead of Adam's n-th step."""
    kill_at_call(torch.optim.Adam, "step", n)
