"""What every training command does around its task: options, what is complete, kills, the log.

The tasks differ in what they check and prepare; the order is theirs (see :mod:`frontend.bin.enh_train`).
Nothing here imports torch or ESPnet before it must: ESPnet takes 8 s.
"""

import argparse
import hashlib
import logging
import os
import re
import sys
from pathlib import Path

from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.files import read_settings, write_text

MODEL = "valid.loss.ave.pth"
# Holds a digest of the command and its configuration once the training is complete.
_DONE = "train.done"
_WORKER_ERROR = "frontend.utils.errors.UserError: "
DEFAULTS = {
    "best_model_criterion": [("valid", "loss", "min")],  # label-free
    "grad_clip": 5.0,
    "max_epoch": 20,
    "num_att_plot": 0,  # a plot an epoch costs more than the epoch
    "num_workers": 0,  # measured: benchmarks/train_step.py
    "resume": True,
    "use_matplotlib": False,  # its plots cost seconds an epoch
}


def output_and_digest(argv: list[str]) -> tuple[Path | None, str]:
    """Return the output directory, and a digest of command and configuration, which must be readable."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--output_dir")
    parser.add_argument("--config")
    args, _ = parser.parse_known_args(argv)
    digest = hashlib.sha256("\0".join(argv).encode())
    if args.config is not None:
        read_settings(args.config, "configuration (--config)")  # ESPnet shows a traceback where it is none
        digest.update(Path(args.config).read_bytes())
    return Path(args.output_dir) if args.output_dir else None, digest.hexdigest()


def is_complete(output: Path | None, digest: str) -> bool:
    """Say, also to the user, whether this very training has come to its end before."""
    done = output / _DONE if output else None
    if done and done.is_file() and done.read_text() == digest and (output / MODEL).exists():
        print(f"{output}: training is complete; nothing to do", file=sys.stderr)
        return True
    return False


def make_parser(task: type, name: str, description: str, defaults: dict) -> argparse.ArgumentParser:
    """Return ESPnet's parser of the task, with our data directories, strict and with our defaults.

    Args:
        task: a subclass of ESPnet's ``AbsTask``.
        name: of the command: ``enh_train``.
        description: for ``--help``.
        defaults: beside :data:`DEFAULTS`.
    """
    parser = task.get_parser()
    parser.prog = f"python -m frontend.bin.{name}"
    parser.description = description
    parser.allow_abbrev = False
    group = parser.add_argument_group("Front-end")
    group.add_argument("--train_set", metavar="DIR", help="data directory to train on")
    group.add_argument("--valid_set", metavar="DIR", help="data directory that chooses the epochs to average")
    group.add_argument("--num_threads", type=int, help="threads of a CPU training; default: torch's choice")
    parser.set_defaults(**DEFAULTS | defaults)

    def error(message: str) -> None:
        unknown = re.match(r"unrecognized arguments: -*(\w+)", message)
        known = {a.dest for a in parser._actions}
        raise UserError(message + (did_you_mean(unknown[1], known) if unknown else "") + " (see --help)")

    parser.error = error
    return parser


def parse(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Parse, and set the number of threads.

    Raises:
        UserError: an unknown option or key, or no ``--output_dir``.
    """
    import torch

    args = parser.parse_args(argv)
    if args.output_dir is None:
        raise UserError("--output_dir DIR is missing: where shall the training be kept?")
    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    # The kernels that CUDA chooses by default are not all deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return args


def open_log(args: argparse.Namespace) -> None:
    """Make the directory of the training, no longer complete, and send what ESPnet says to its log."""
    output = Path(args.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    (output / _DONE).unlink(missing_ok=True)
    # ESPnet says a lot; it goes beside the checkpoints, and the terminal shows how far it is.
    log = output / "train.log"
    logging.basicConfig(filename=log, level=args.log_level, format="%(asctime)s %(levelname)s %(message)s")
    logging.captureWarnings(True)
    print(f"{output}: training; the log is {log}", file=sys.stderr)


def train(task: type, args: argparse.Namespace, digest: str) -> None:
    """Go on after the last complete epoch, train to the end, and mark the training as complete.

    Raises:
        UserError: the checkpoint is of another network, the training diverged, the disk is full, an
            utterance is too short for a recogniser.
    """
    from espnet.nets.pytorch_backend.transformer.subsampling import TooShortUttError

    output = Path(args.output_dir)
    if args.resume:
        _repair(task, args)
    try:
        task.main(args=args)
    except UserError as error:
        # Of a data worker, torch hands on the whole traceback; the message is its last line.
        raise UserError(str(error).strip().splitlines()[-1].removeprefix(_WORKER_ERROR)) from None
    except TooShortUttError as error:
        data = Path(args.train_data_path_and_name_and_type[0][0]).parent
        raise UserError(f"{data}: an utterance is too short for the encoder: {error.args[0]}") from None
    except RuntimeError as error:
        # What torch.save raises on a full disk.
        if "PytorchStreamWriter" in str(error) or "inline_container" in str(error):
            raise UserError(f"{output}: a checkpoint could not be written: disk full? ({error})") from None
        raise
    if not args.dry_run:
        _link_average(output, args.best_model_criterion)
        mark_complete(output, digest)


def mark_complete(output: Path, digest: str) -> None:
    """Let :func:`is_complete` find this training's end."""
    write_text(output / _DONE, digest)


def _repair(task: type, args: argparse.Namespace) -> None:
    from frontend.training.checkpoints import CHECKPOINT, check_state, had_enough, repair_checkpoint

    states = repair_checkpoint(args.output_dir, args.best_model_criterion)
    if states is None:
        return
    where = str(Path(args.output_dir) / CHECKPOINT)
    check_state(states["model"], task.build_model(args).state_dict(), where, "this configuration")
    if args.patience is not None and had_enough(states, args.patience, args.early_stopping_criterion):
        args.max_epoch = states["reporter"]["epoch"]  # killed after it stopped early, before it averaged


def _link_average(output: Path, criteria: list) -> None:
    """Give the averaged model its one name where another criterion than the validation loss chose it."""
    phase, key, _ = criteria[0]
    average = f"{phase}.{key}.ave.pth"
    if not (output / average).exists():
        raise UserError(
            f"{output}: best_model_criterion: no '{key}' was measured in '{phase}' to choose a model by"
        )
    if average != MODEL:
        (output / MODEL).unlink(missing_ok=True)
        (output / MODEL).symlink_to(average)
