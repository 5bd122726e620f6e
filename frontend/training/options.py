"""The options of a training, as a command line and a configuration say them."""

import argparse
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from frontend.training.sharing import share
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.files import read_settings, read_text, scratch, write_text

DEFAULTS = {
    "best_model_criterion": [("valid", "loss", "min")],  # label-free
    "grad_clip": 5.0,
    "max_epoch": 20,
    "num_att_plot": 0,  # a plot an epoch costs more than the epoch
    "num_workers": 0,  # measured: benchmarks/train_step.py
    "resume": True,
    "use_matplotlib": False,  # its plots cost seconds an epoch
}


# The least value of each of ESPnet's settings for which less means nothing.
_LEAST = dict.fromkeys(
    ("max_epoch", "num_iters_per_epoch", "batch_size", "valid_batch_size", "accum_grad"), 1
)
_LEAST |= {"keep_nbest_models": 1, "num_threads": 1, "num_workers": 0, "ngpu": 0, "seed": 0, "patience": 0}


def given_options(argv: list[str]) -> list[tuple[str, list[str]]]:
    """Return the options of a command line with their values."""
    given: list[tuple[str, list[str]]] = []
    for word in argv:
        if re.match(r"--?[A-Za-z]", word):
            name, equals, value = word.lstrip("-").partition("=")
            given.append((name, [value] if equals else []))
        elif given:
            given[-1][1].append(word)
    return given


def _config(given: list[tuple[str, list[str]]]) -> str | None:
    return next((values[0] for name, values in reversed(given) if name == "config" and values), None)


def resolve(given: list[tuple[str, list[str]]]) -> dict:
    """Return the settings of ``--config`` and of the command line over it, by name, as ESPnet reads them."""
    config = _config(given)
    # ESPnet shows a traceback where it is no configuration.
    options = {} if config is None else read_config(config)
    for name, values in given:
        key, equals, value = values[0].partition("=") if values else ("", "", "")
        if name.endswith("_conf") and equals:
            conf, parts = options, [name, *key.split(".")]
            for depth, part in enumerate(parts[:-1], 1):
                conf[part] = _mapping(conf.get(part) or {}, ".".join(parts[:depth]), config or "command line")
                conf = conf[part]
            conf[parts[-1]] = _read_value(value)
        else:
            read = [_read_value(text) for text in values]
            options[name] = read[0] if len(read) == 1 else read
            if name.endswith("_conf"):
                _mapping(options[name], name, "command line")
    for name, setting in flat(options):
        if name == "defaults" or (isinstance(setting, str) and re.search(r"\$\{.*\}", setting)):
            raise UserError(
                f"{config}: {name}: expected a value, found {setting}: a recipe's run fills it in (give "
                "exp/NAME/conf/... of the run, which `mixit run --show STAGE` writes, too)"
            )
    return options


def read_config(path: str) -> dict:
    """Return the settings of a configuration; raise a UserError where it is none, or a part of it."""
    config = read_settings(path, "configuration (--config)")
    for name, conf in config.items():
        if str(name).endswith("_conf"):
            _mapping(conf, name, path)
    return config


def _mapping(conf: object, name: str, where: str) -> dict:
    """Return a copy of settings, such as ``optim_conf``; raise a UserError where it is something else."""
    if not isinstance(conf, dict):
        found = "nothing" if conf is None else repr(conf)
        raise UserError(f"{where}: {name}: settings (key: value) expected, found {found}")
    return dict(conf)


def _read_value(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def listed(value: object) -> list:
    """Return the values of an option that may be given once or several times."""
    return [] if value is None else value if isinstance(value, list) else [value]


def flat(content: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the settings with dotted names, so that a message can say which one changed."""
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def make_parser(task: Any, name: str, description: str | None, defaults: dict) -> argparse.ArgumentParser:
    """Return ESPnet's parser of a task, for the command ``name``: strict, with our options and defaults."""
    from espnet2.utils.types import str2bool

    parser = task.get_parser()
    parser.prog = f"mixit {name}"
    parser.description = description
    parser.allow_abbrev = False
    group = parser.add_argument_group("Front-end")
    group.add_argument("--train_set", metavar="DIR", help="data directory to train on")
    group.add_argument("--valid_set", metavar="DIR", help="data directory that chooses the epochs to average")
    group.add_argument(
        "--overwrite", type=str2bool, default=False, help="remove another training that lies in --output_dir"
    )
    group.add_argument("--num_threads", type=int, help="threads of a CPU training; default: torch's choice")
    parser.set_defaults(**DEFAULTS | defaults)

    def error(message: str) -> None:
        unknown = re.match(r"unrecognized arguments: -*(\w+)", message)
        known = {a.dest for a in parser._actions}
        raise UserError(message + (did_you_mean(unknown[1], known) if unknown else "") + " (see --help)")

    parser.error = error
    return parser


def _parsed(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Parse, with a copy of the configuration where ESPnet could not read it as it was saved (UTF-16)."""
    config = _config(given_options(argv))
    if config is None or Path(config).read_bytes() == (text := read_text(config)).encode():
        return parser.parse_args(argv)
    with scratch() as folder:
        write_text(copy := folder / "config.yaml", text)
        args = parser.parse_args([*argv, "--config", str(copy)])
    args.config = config
    return args


def parse(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Parse, and set the number of threads; raise a UserError for an unknown option, or no output."""
    import torch

    args = _parsed(parser, argv)
    del args.overwrite  # config.yaml is for what changes a training
    if args.output_dir is None:
        raise UserError("--output_dir DIR is missing: where shall the training be kept?")
    where = args.config or "command line"
    if not (isinstance(args.init_param, list) and all(isinstance(spec, str) for spec in args.init_param)):
        raise UserError(f"{where}: init_param: expected a list of files, found {args.init_param!r}")
    for option, least in _LEAST.items():
        value = getattr(args, option, None)
        for number in listed(value):
            if isinstance(number, (int, float)) and not number >= least:
                raise UserError(f"{where}: {option}: expected at least {least}, found {number}")
    share(args)
    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    # The kernels that CUDA chooses by default are not all deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return args


def given_set(args: argparse.Namespace, which: str, hint: str = "") -> Path:
    """Return the directory of ``--train_set`` or ``--valid_set``, as ``which`` says.

    Raises:
        UserError: none was given (``hint``: what it should hold), or there is no such directory.
    """
    given = getattr(args, f"{which}_set")
    if given is None:
        raise UserError(f"no {which} data: give --{which}_set DIR{hint}")
    if not isinstance(given, str):
        raise UserError(f"{args.config}: {which}_set: expected the name of a directory, found {given!r}")
    directory = Path(given)
    if not directory.is_dir():
        raise UserError(f"--{which}_set {directory}: no such directory (make it, or check the path)")
    return directory
