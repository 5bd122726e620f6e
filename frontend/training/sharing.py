"""A training in several processes: on several GPUs, which ESPnet starts itself, or on several nodes.

What starts the processes of several nodes (a job of Slurm, torchrun) tells them of each other in the
environment: ``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR``, ``MASTER_PORT``. torchrun has a process for each GPU,
and says which in ``LOCAL_RANK``. The training itself is ESPnet's, by torch's DistributedDataParallel.
"""

import argparse
import contextlib
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from frontend.utils import errors
from frontend.utils.errors import UserError
from frontend.utils.parallel import end_with_parent

LOG = "train.log"
SETTINGS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_WORKER_ERROR = "frontend.utils.errors.UserError: "
_CONNECT = timedelta(minutes=5)  # for the first process to be there
_PREPARE = timedelta(days=1)  # for it to prepare the training
_LEAVE_S = 60.0  # for the others to learn that there is nothing to do


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        raise UserError(f"{name}: expected a number in the environment, found '{text}' (unset it)")
    return int(text)


def rank() -> int:
    """Return the number of this process among those that were started for one training; 0 if it is alone."""
    return _number("RANK", 0) if _number("WORLD_SIZE", 1) > 1 else 0


def processes(ngpu: int) -> int:
    """Return how many processes share a training with so many GPUs a node; 1 if it runs alone."""
    started = _number("WORLD_SIZE", 1)
    return started * (1 if started > 1 and "LOCAL_RANK" in os.environ else max(ngpu, 1))


def share(args: argparse.Namespace) -> None:
    """Set what ESPnet must know where several processes share the training, in place.

    Raises:
        UserError: a batch has fewer utterances than there are processes.
    """
    if _number("WORLD_SIZE", 1) > 1 and "LOCAL_RANK" in os.environ:
        args.ngpu, args.multiprocessing_distributed = min(args.ngpu, 1), False
    if processes(0) > 1 and not args.ngpu:
        # ESPnet would read it from CUDA_VISIBLE_DEVICES.
        args.dist_backend, args.local_rank = "gloo", 0
    least = processes(args.ngpu)
    for option in ("batch_size", "valid_batch_size"):
        size = getattr(args, option)
        if args.batch_type == "unsorted" and size and size < least:
            raise UserError(
                f"{args.config or 'command line'}: {option}: expected at least {least}, an utterance for "
                f"each process that shares the training, found {size} (raise it, or use fewer GPUs or nodes)"
            )


class _Meeting:
    """Where the processes of a training wait for each other before they train: torch's key-value store.

    Raises:
        UserError: the environment does not say where it is.
        SystemExit: the first process has gone, and has said why.
    """

    def __init__(self) -> None:
        import torch

        lacks = [name for name in SETTINGS[3:] if not os.environ.get(name)]
        if lacks:
            raise UserError(
                f"WORLD_SIZE is {os.environ['WORLD_SIZE']}: expected {lacks[0]} in the environment, too, "
                "found none (unset WORLD_SIZE to train in one process)"
            )
        # torchrun has a store; else the first process has it, beside that of the training.
        own = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        self.is_host = own and not rank()
        place = (os.environ["MASTER_ADDR"], _number("MASTER_PORT", 0) + own)
        try:
            self.store: Any = torch.distributed.TCPStore(
                *place, is_master=self.is_host, wait_for_workers=False, timeout=_CONNECT
            )
        except RuntimeError:
            if self.is_host:
                raise UserError(f"MASTER_PORT {place[1]}: in use (choose another port)") from None
            raise SystemExit(2) from None
        self.store.set_timeout(_PREPARE)
        self.others = _number("WORLD_SIZE", 1) - 1

    def key(self, name: str) -> str:
        """Return a name of this start; torchrun's store outlives one that failed."""
        return f"frontend {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')} {name}"

    def wait_for_first(self) -> None:
        """Wait until the first process has prepared the training."""
        answer = "failed"
        with contextlib.suppress(RuntimeError):  # it is gone
            answer = self.store.get(self.key("prepared")).decode()
            self.store.add(self.key("seen"), 1)
        if answer == "failed":
            raise SystemExit(2)

    def has(self, name: str) -> bool:
        """Say whether all other processes have come so far."""
        return int(self.store.add(self.key(name), 0)) >= self.others

    def leave(self) -> None:
        """Stay, as the host, until all others have had the answer, but not for long."""
        end = time.monotonic() + _LEAVE_S
        while self.is_host and not self.has("seen") and time.monotonic() < end:
            time.sleep(0.1)


_meeting: list[_Meeting] = []


@contextlib.contextmanager
def first_alone() -> Iterator[None]:
    """Let the first of the processes that share a training prepare it alone, until it calls :func:`ready`.

    The others do the same after it, and find it done. The first one speaks for all.

    Raises:
        SystemExit: the first one failed, and has said why.
    """
    if processes(0) == 1:
        yield
        return
    _meeting[:] = [met := _Meeting()]
    try:
        if rank():
            met.wait_for_first()
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
                yield
        else:
            yield
            met.store.set(met.key("prepared"), "done")
    except BaseException:
        with contextlib.suppress(RuntimeError):
            met.store.set(met.key("failed" if rank() else "prepared"), "failed")
        raise
    finally:
        met.leave()


def ready() -> None:
    """Wait until all processes that share the training have prepared it, as the first one has.

    Raises:
        UserError: one of the others failed.
    """
    for met in _meeting:
        if rank():
            met.store.add(met.key("ready"), 1)
            continue
        met.store.set(met.key("prepared"), "done")
        while not met.has("ready"):
            if met.store.check([met.key("failed")]):
                raise UserError(
                    "another process of this training failed before it began (see its own output)"
                )
            time.sleep(0.1)


def log_to(args: argparse.Namespace) -> None:
    """Send what ESPnet says, which is a lot, to a file beside the checkpoints; the terminal has a bar."""
    # Of several processes the first says what all of them do.
    level = "ERROR" if (rank() if args.dist_rank is None else args.dist_rank) else args.log_level
    log = Path(args.output_dir) / LOG
    logging.basicConfig(filename=log, level=level, format="%(asctime)s %(levelname)s %(message)s")
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a full disk is said once, by whoever writes something that counts


@contextlib.contextmanager
def in_one_line(args: argparse.Namespace) -> Iterator[None]:
    """Raise UserError for what ESPnet and torch raise where the user can do something about it."""
    from frontend.utils.espnet import TooShortUttError

    output = args.output_dir
    try:
        yield
    except UserError as error:
        # Of a data worker, torch hands on the whole traceback; the message is its last line.
        raise UserError(str(error).strip().splitlines()[-1].removeprefix(_WORKER_ERROR)) from None
    except TooShortUttError as error:
        data = Path(args.train_data_path_and_name_and_type[0][0]).parent
        raise UserError(f"{data}: an utterance is too short for the encoder: {error.args[0]}") from None
    except RuntimeError as error:
        said = str(error)
        # What torch.save raises on a full disk.
        if "PytorchStreamWriter" in said or "inline_container" in said:
            raise UserError(f"{output}: a checkpoint could not be written: disk full? ({error})") from None
        if "DataLoader worker" in said or "shared memory" in said or "</torch_" in said:
            raise UserError(
                f"{output}: a process that reads data ended, out of memory or of room in /dev/shm? ({error}; "
                "give --num_workers 0)"
            ) from None
        if "more than world_size" in said:
            raise UserError(
                f"{output}: a batch has fewer utterances than processes share the training: {error} (use "
                "fewer GPUs or nodes)"
            ) from None
        raise


class Worker:
    """What a task adds to a process of a training, which may be a fresh one: ESPnet starts one for a GPU."""

    register: Callable[[], None]

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Make our classes known to this process, send its log to the training's, and train."""
        cls.register()
        log_to(args)
        work = functools.partial(super().main_worker, args)  # type: ignore[misc]
        if not (args.distributed and args.multiprocessing_distributed):  # in the process of the command
            with in_one_line(args):
                work()
            return
        # It holds no lock: it must not outlive the process that does.
        threading.Thread(target=end_with_parent, daemon=True).start()

        def train() -> None:
            with in_one_line(args):
                work()

        errors.run(train)
