"""Around the task of every training: options, what is complete, resuming after a kill, the log.

The trainings of separators, recognisers and both together differ in what they check and prepare; the order is
the same (:func:`train_separator` shows it). Nothing here imports torch or ESPnet before it must: ESPnet takes
8 s, which a training that is complete need not wait for.
"""

import argparse
import json
import logging
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from frontend.training.checkpoints import CHECKPOINT, MODEL, weights_of
from frontend.utils import stamps
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.files import read_settings
from frontend.utils.stamps import Stamp, read_stamp

# Raised with every change after which the same training ends in other weights.
VERSION = 1
# With DONE a training is complete. BEGUN says what the checkpoint of one that is not was made from.
DONE, BEGUN = "stamp.json", ".begun.json"
# What changes how long a training takes and what it says, not its weights; and what is an input.
_NO_SETTING = {
    *("output_dir", "config", "train_set", "valid_set", "init_param", "dry_run", "resume", "print_config"),
    *("num_threads", "num_workers", "ngpu", "log_level", "log_interval", "use_tensorboard", "use_matplotlib"),
}
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


@dataclass(frozen=True)
class Training:
    """A training as its command line describes it.

    Attributes:
        output: its directory, None if none was given.
        stamp: what its weights depend on.
    """

    output: Path | None
    stamp: Stamp

    @classmethod
    def of(cls, argv: list[str], models: Iterable[str] = ()) -> "Training":
        """Read options and configuration as far as that is possible without ESPnet.

        Args:
            argv: options as ESPnet takes them; those on the command line replace those of ``--config``.
            models: options that name a trained model to start from.

        Raises:
            UserError: an unreadable configuration.
        """
        options, inputs = _resolve(argv), {}
        # What is not there is found, with a hint, when the options are checked.
        for name in ("train_set", "valid_set"):
            if options.get(name) and Path(str(options[name])).is_dir():
                inputs[name] = of_data(Path(str(options[name])))
        for spec in _listed(options.get("init_param")):
            path, _, part = str(spec).partition(":")
            if Path(path).is_file():
                inputs[f"init_param {part}".strip()] = stamps.of_file(path)
        for name in models:
            if options.get(name):
                inputs[name] = stamps.of_text("".join(map(stamps.of_file, weights_of(options[name]))))
        settings = {k: v for k, v in options.items() if k not in {*_NO_SETTING, *models}}
        output = options.get("output_dir")
        return cls(Path(str(output)) if output else None, Stamp.of(settings, inputs, [sys.modules[__name__]]))

    def file(self, name: str) -> Path:
        """Return a file of the training's directory."""
        return Path(self.output or "") / name

    def is_complete(self) -> bool:
        """Return whether this training was completed before; report it on the terminal if so."""
        if self.output is None or not self.file(MODEL).exists() or self.stamp.why_stale(self.file(DONE)):
            return False
        print(f"{self.output}: training is complete; nothing to do", file=sys.stderr)
        return True

    def mark_complete(self) -> None:
        """Write the stamp that :meth:`is_complete` compares; last of all."""
        self.stamp.write(self.file(DONE))

    def changed(self) -> str:
        """Return in one sentence how this training differs from that of the checkpoint; "" if it does not."""
        before = read_stamp(self.file(DONE)) or read_stamp(self.file(BEGUN))
        return self.stamp.changed_since(before) if before else ""


def _resolve(argv: list[str]) -> dict:
    """Return the settings of ``--config`` and of the command line over it, by name, as ESPnet reads them."""
    given: list[tuple[str, list[str]]] = []
    for word in argv:
        if re.match(r"--?[A-Za-z]", word):
            name, equals, value = word.lstrip("-").partition("=")
            given.append((name, [value] if equals else []))
        elif given:
            given[-1][1].append(word)
    config = next((values[0] for name, values in reversed(given) if name == "config" and values), None)
    # ESPnet shows a traceback where it is no configuration.
    options = read_settings(config, "configuration (--config)") if config is not None else {}
    for name, values in given:
        key, equals, value = values[0].partition("=") if values else ("", "", "")
        if name.endswith("_conf") and equals:
            conf = options[name] = dict(options.get(name) or {})
            *outer, last = key.split(".")
            for part in outer:
                conf[part] = dict(conf.get(part) or {})
                conf = conf[part]
            conf[last] = _read_value(value)
        else:
            read = [_read_value(text) for text in values]
            options[name] = read[0] if len(read) == 1 else read
    return options


def _read_value(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _listed(value: object) -> list:
    return [] if value is None else value if isinstance(value, list) else [value]


def of_data(directory: Path) -> str:
    """Return a digest of a data directory: of its tables, and of its stamp where it was made here."""
    files = sorted(p for p in directory.iterdir() if p.is_file() and not p.name.startswith("."))
    return stamps.of_text(json.dumps([(path.name, stamps.of_file(path)) for path in files]))


def make_parser(task: Any, name: str, description: str | None, defaults: dict) -> argparse.ArgumentParser:
    """Return ESPnet's parser of a task, for the command ``name``: strict, with our options and defaults."""
    parser = task.get_parser()
    parser.prog = f"mixit {name}"
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
    """Parse, and set the number of threads; raise a UserError for an unknown option, or no output."""
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
    """Make the directory of the training, and send what ESPnet says to its log."""
    output = Path(args.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    # ESPnet says a lot; it goes beside the checkpoints, and the terminal shows how far it is.
    log = output / "train.log"
    logging.basicConfig(filename=log, level=args.log_level, format="%(asctime)s %(levelname)s %(message)s")
    logging.captureWarnings(True)
    print(f"{output}: training; the log is {log}", file=sys.stderr)


def train(task: Any, args: argparse.Namespace, training: Training) -> None:
    """Go on after the last complete epoch, and train to the end; the caller marks the training as complete.

    Raises:
        UserError: the checkpoint is of another network, or complete and of other settings; the training
            diverged, the disk is full, an utterance is too short for a recogniser.
    """
    from espnet.nets.pytorch_backend.transformer.subsampling import TooShortUttError

    output = Path(args.output_dir)
    if args.resume:
        _repair(task, args, training)
    if not args.dry_run:
        training.file(DONE).unlink(missing_ok=True)
        training.stamp.write(training.file(BEGUN))
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


def _repair(task: Any, args: argparse.Namespace, training: Training) -> None:
    """Bring the directory to the state after its last complete epoch; refuse what cannot go on from there."""
    from frontend.training.checkpoints import check_state, had_enough, repair_checkpoint

    states = repair_checkpoint(args.output_dir, args.best_model_criterion)
    if states is None:
        return
    where = str(Path(args.output_dir) / CHECKPOINT)
    check_state(states["model"], task.build_model(args).state_dict(), where, "this configuration")
    epoch = states["reporter"]["epoch"]
    if args.patience is not None and had_enough(states, args.patience, args.early_stopping_criterion):
        args.max_epoch = epoch  # killed after it stopped early, before it averaged
    if changed := training.changed():
        if epoch >= args.max_epoch:  # ESPnet would train no step and leave the weights as they are
            raise UserError(
                f"{training.output}: expected a training that can go on, found one whose {epoch} epochs are "
                f"complete: {changed} (choose another --output_dir, or remove this one)"
            )
        print(f"{training.output}: going on from epoch {epoch}, though {changed}", file=sys.stderr)


def _link_average(output: Path, criteria: list) -> None:
    """Give the averaged model its one name where another criterion than the validation loss chose it."""
    phase, key, _ = criteria[0]
    average = f"{phase}.{key}.ave.pth"
    if not (output / average).exists():
        raise UserError(f"{output}: best_model_criterion: no '{key}' was measured in '{phase}'")
    if average != MODEL:
        (output / MODEL).unlink(missing_ok=True)
        (output / MODEL).symlink_to(average)


def train_separator(argv: list[str], check: bool = False) -> None:
    """Train a MixIT teacher or a PIT student; interrupted and started again, it ends in the same weights.

    Args:
        argv: every option of ``espnet2.bin.enh_train``, ``--train_set`` and ``--valid_set``.
        check: stop where all that can be checked before the training has been.

    Raises:
        UserError: whatever is wrong with settings, data or weights.
    """
    training = Training.of(argv)
    if training.is_complete():
        return
    # Only now: ESPnet takes 8 s to import.
    from frontend.training.checks import check_config, expand_data, fill_schedule
    from frontend.training.task import FrontendTask, register

    register()
    defaults = {"batch_type": "unsorted", "keep_nbest_models": 3}
    args = parse(make_parser(FrontendTask, "train separator", train_separator.__doc__, defaults), argv)
    expand_data(args)
    fill_schedule(args)
    check_config(args)
    if check:
        return
    open_log(args)
    train(FrontendTask, args, training)
    if not args.dry_run:
        training.mark_complete()
