"""Which devices there are, whether one computes in bfloat16, and processes that share a training.

PyTorch is imported when it is needed.
"""

import contextlib
import functools
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from frontend.utils.errors import UserError


@functools.cache
def computes_in_bfloat16(device_type: str) -> bool:
    """Say whether ``cpu`` or ``cuda`` has the instructions; PyTorch emulates missing ones, slowly.

    Where they are, they train a convolution stack faster than float32.
    """
    import torch

    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def check_gpu(ngpu: int) -> None:
    """Raise UserError unless there are as many GPUs as ``--ngpu`` asks for."""
    import torch

    found = torch.cuda.device_count()
    if ngpu > found:
        raise UserError(
            f"--ngpu {ngpu}: expected so many CUDA devices, torch finds {found} "
            "(give --ngpu 0 to train on the CPU)"
        )


def rank() -> int:
    """Return the number of this process among those that share a training; 0 is the first, or alone.

    Processes that something else has started learn of each other by the environment: ``RANK``,
    ``WORLD_SIZE``, ``MASTER_ADDR``, ``MASTER_PORT``. Jobs of several nodes have them, and torchrun sets them.
    """
    return int(os.environ.get("RANK", 0))


def sharing(ngpu: int) -> int:
    """Return how many processes share a training of ``--ngpu``; 1: it is alone."""
    each = 1 if "LOCAL_RANK" in os.environ else max(ngpu, 1)
    return int(os.environ.get("WORLD_SIZE", 1)) * each


_turn: list[Any] = []  # where the processes of a training meet, while the first of them prepares it
_DONE, _FAILED = "done", "failed"


@contextlib.contextmanager
def first_alone() -> Iterator[None]:
    """Let the first of the processes that share a training prepare it alone: :func:`let_others` ends that.

    The others do the same after it, and find it done; the first speaks for all.

    Raises:
        SystemExit: the first one failed, and has said why.
    """
    if sharing(0) == 1:
        yield
        return
    import torch

    # torchrun has a store; else the first process has it, beside that of the training.
    is_host = not rank() and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    port = int(os.environ["MASTER_PORT"]) + (os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True")
    store = torch.distributed.TCPStore(
        os.environ["MASTER_ADDR"], port, is_master=is_host, wait_for_workers=False, timeout=timedelta(days=1)
    )
    if rank():
        try:
            answer = store.get("frontend prepared").decode()
        except RuntimeError:  # it is gone
            answer = _FAILED
        if answer == _FAILED:
            raise SystemExit(2)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            yield
        return
    _turn.append(store)
    try:
        yield
        let_others()
    except BaseException:
        store.set("frontend prepared", _FAILED)
        raise


def let_others() -> None:
    """Say, as the first of several processes, that what they share is prepared."""
    for store in _turn:
        store.set("frontend prepared", _DONE)


def check_device(device: str) -> None:
    """Raise UserError unless torch can compute on ``device``: ``cpu``, ``cuda``, ``cuda:1``."""
    import torch

    try:
        kind = torch.device(device)
    except RuntimeError:
        raise UserError(f"expected a device such as cpu or cuda, found '{device}'") from None
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device '{device}' asked for, found {torch.cuda.device_count()} CUDA device(s)")
