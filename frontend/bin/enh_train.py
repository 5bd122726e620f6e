"""Train a separator: ESPnet's options and YAML, our data directories, strict checks.

    python -m frontend.bin.enh_train --config conf/teacher.yaml \\
        --train_set data/train --valid_set data/dev --output_dir exp/teacher

Interrupted at any moment and started again, it goes on and ends in the same weights.
"""

import argparse
import hashlib
import logging
import os
import re
import sys
from pathlib import Path

from frontend import atomic
from frontend.errors import UserError, did_you_mean, run
from frontend.yaml_file import read_settings

# Holds a digest of the command and its configuration once the training is complete.
_DONE = "train.done"
_WORKER_ERROR = "frontend.errors.UserError: "
_DEFAULTS = {
    "batch_type": "unsorted",
    "best_model_criterion": [("valid", "loss", "min")],  # label-free
    "grad_clip": 5.0,
    "keep_nbest_models": 3,
    "max_epoch": 20,
    "num_att_plot": 0,
    "num_workers": 0,  # measured: benchmarks/train_step.py
    "resume": True,
    "use_matplotlib": False,  # its plots cost seconds an epoch
}


def _settle(argv: list[str]) -> tuple[Path | None, str]:
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


def _parser(task: type) -> argparse.ArgumentParser:
    parser = task.get_parser()
    parser.prog = "python -m frontend.bin.enh_train"
    parser.description = __doc__
    parser.allow_abbrev = False
    group = parser.add_argument_group("Front-end")
    group.add_argument("--train_set", metavar="DIR", help="data directory to train on")
    group.add_argument("--valid_set", metavar="DIR", help="data directory that chooses the epochs to average")
    group.add_argument("--num_threads", type=int, help="threads of a CPU training; default: torch's choice")
    parser.set_defaults(**_DEFAULTS)
    known = {a.dest for a in parser._actions}

    def error(message: str) -> None:
        unknown = re.match(r"unrecognized arguments: -*(\w+)", message)
        raise UserError(message + (did_you_mean(unknown[1], known) if unknown else "") + " (see --help)")

    parser.error = error
    return parser


def main(argv: list[str] | None = None) -> int | None:
    """Parse, check, repair, train."""
    argv = sys.argv[1:] if argv is None else argv
    output, digest = _settle(argv)
    done = output / _DONE if output else None
    if done and done.is_file() and done.read_text() == digest and (output / "valid.loss.ave.pth").exists():
        print(f"{output}: training is complete; nothing to do", file=sys.stderr)
        return 0
    # Only now: ESPnet takes 8 s to import.
    import torch

    from frontend import resume, train_config
    from frontend.task import FrontendTask, check_state, register

    register()
    args = _parser(FrontendTask).parse_args(argv)
    if args.output_dir is None:
        raise UserError("--output_dir DIR is missing: where shall the training be kept?")
    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    train_config.expand_data(args)
    train_config.fill_schedule(args)
    train_config.check(args)
    output.mkdir(parents=True, exist_ok=True)
    done.unlink(missing_ok=True)
    if args.resume:
        states = resume.repair(output)
        if states:
            expected = FrontendTask.build_model(args).state_dict()
            check_state(states["model"], expected, str(output / resume.CHECKPOINT), "this configuration")
    _train(FrontendTask, args)
    atomic.write_text(done, digest)


def _train(task: type, args: argparse.Namespace) -> None:
    # ESPnet says a lot; it goes beside the checkpoints, and the terminal shows how far it is.
    log = Path(args.output_dir) / "train.log"
    logging.basicConfig(filename=log, level=args.log_level, format="%(asctime)s %(levelname)s %(message)s")
    print(f"{args.output_dir}: training; the log is {log}", file=sys.stderr)
    # The kernels that CUDA chooses by default are not all deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    logging.captureWarnings(True)
    try:
        task.main(args=args)
    except UserError as error:
        # Of a data worker, torch hands on the whole traceback; the message is its last line.
        raise UserError(str(error).strip().splitlines()[-1].removeprefix(_WORKER_ERROR)) from None
    except RuntimeError as error:
        # What torch.save raises on a full disk.
        if "PytorchStreamWriter" in str(error) or "inline_container" in str(error):
            raise UserError(
                f"{args.output_dir}: a checkpoint could not be written: disk full? ({error})"
            ) from None
        raise


if __name__ == "__main__":
    run(main)
