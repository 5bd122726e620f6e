"""What can be wrong with the settings of any training, found before anything heavy starts."""

import argparse
import inspect
import re
from collections.abc import Iterable
from pathlib import Path

import torch

from frontend.errors import UserError, did_you_mean
from frontend.task import check_state, read_state

# Settings that the task fills in itself; a user who gives them would be ignored.
GIVEN = frozenset({"self", "optimizer", "params"})


def check_gpu(args: argparse.Namespace) -> None:
    """Check that there are as many GPUs as ``--ngpu`` asks for.

    Raises:
        UserError: there are fewer.
    """
    if args.ngpu > torch.cuda.device_count():
        raise UserError(
            f"--ngpu {args.ngpu}: expected so many CUDA devices, torch finds {torch.cuda.device_count()} "
            "(give --ngpu 0 to train on the CPU)"
        )


def given_set(args: argparse.Namespace, which: str, hint: str = "") -> Path:
    """Return the directory of ``--train_set`` or ``--valid_set``.

    Args:
        args: with ``train_set`` and ``valid_set``.
        which: ``train`` or ``valid``.
        hint: what the directory should hold, for who gave none.

    Raises:
        UserError: none was given, or there is no such directory.
    """
    given = getattr(args, f"{which}_set")
    if given is None:
        raise UserError(f"no {which} data: give --{which}_set DIR{hint}")
    directory = Path(given)
    if not directory.is_dir():
        raise UserError(f"--{which}_set {directory}: no such directory (make it, or check the path)")
    return directory


def _settings(cls: type, given: frozenset[str]) -> dict[str, bool]:
    """Return the settings a class takes, and whether each must be given."""
    found: dict[str, bool] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()
        named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        found = {p.name: p.default is p.empty for p in named} | found
        if len(named) == len(parameters):
            break  # else **others are the settings of the class above
    return {k: v for k, v in found.items() if k not in given}


def check_conf(conf: object, cls: type, name: str, where: str, given: frozenset[str] = GIVEN) -> None:
    """Check a mapping of settings against what a class takes.

    Args:
        conf: the settings.
        cls: the class.
        name: of the mapping: ``encoder_conf``.
        where: file, for the message.
        given: arguments that the task itself gives to the class.

    Raises:
        UserError: no mapping, an unknown or missing key, a text for a number.
    """
    if not isinstance(conf, dict):
        raise UserError(f"{where}: {name}: settings (key: value) expected, found {conf!r}")
    known = _settings(cls, given)
    for key, value in conf.items():
        if key not in known:
            raise UserError(f"{where}: {name}: unknown key '{key}'{did_you_mean(key, known)}")
        if isinstance(value, str) and re.fullmatch(r"[+-]?[\d.]+([eE][+-]?\d+)?", value):
            raise UserError(
                f"{where}: {name}: {key}: a number expected, found the text '{value}' "
                "(YAML wants a point in 2.0e-3, and no quotes)"
            )
    missing = [k for k, needed in known.items() if needed and k not in conf]
    if missing:
        raise UserError(f"{where}: {name}: key '{missing[0]}' is missing")


def lookup(name: str | None, classes: dict[str, type], what: str, where: str) -> type:
    """Return the class that a configuration names.

    Raises:
        UserError: there is none of that name.
    """
    if name not in classes:
        raise UserError(f"{where}: unknown {what} '{name}'{did_you_mean(str(name), classes)}")
    return classes[name]


def same_ids(entries: Iterable[str], others: Iterable[str], path: str, other: str) -> None:
    """Raise a UserError for the first utterance that one of two tables has and the other has not."""
    different = sorted(set(entries) ^ set(others))
    if different:
        raise UserError(
            f"{path}: the utterances of {other} expected, found a difference at {different[0]} "
            "(python -m frontend.bin.validate_data names all)"
        )


def check_weights(task: type, args: argparse.Namespace) -> None:
    """Build the network, and compare the weights it shall start from with it.

    Raises:
        UserError: no weights, or those of another network.
    """
    expected = task.build_model(args).state_dict()
    for spec in args.init_param:
        path, *rest = spec.split(":")
        state = read_state(path)
        # Parts of a network (path:from:to:without) and --ignore_init_mismatch are up to the user.
        if not any(rest) and not args.ignore_init_mismatch:
            check_state(state, expected, path, f"the network of {args.config or 'the command line'}")
