"""A joint training's configuration: both networks as they were trained, and what can be wrong with it."""

import argparse
import logging
from collections.abc import Iterable
from pathlib import Path

from espnet2.enh.loss.wrappers.pit_solver import PITSolver

from frontend import packing
from frontend.errors import UserError
from frontend.espnet import abs_task, enh
from frontend.joint_task import RECOGNISER, SEPARATOR, JointModel, JointTask
from frontend.recogniser_files import RecogniserFiles, find_recogniser
from frontend.task import check_state, read_state
from frontend.token_list import read_list
from frontend.train_checks import GIVEN, check_conf, check_gpu, lookup
from frontend.yaml_file import read_settings

# Settings of the joint task, by their names in the two configurations.
_PARTS = ("encoder", "separator", "decoder", "mask_module")
OF_SEPARATOR = {f"enh_{part}{conf}": f"{part}{conf}" for part in _PARTS for conf in ("", "_conf")}
OF_SEPARATOR["enh_model_conf"] = "model_conf"
_SAME = ["token_list", "token_type", "bpemodel", "non_linguistic_symbols", "cleaner", "g2p", "input_size"]
_SAME += [
    "ctc_conf",
    *(f"{part}{conf}" for part in ("frontend", "specaug", "normalize") for conf in ("", "_conf")),
]
_OWN = [
    f"{part}{conf}" for part in ("preencoder", "encoder", "postencoder", "decoder") for conf in ("", "_conf")
]
OF_RECOGNISER = {name: name for name in _SAME} | {f"asr_{name}": name for name in [*_OWN, "model_conf"]}


def adopt(args: argparse.Namespace, given: Iterable[str]) -> None:
    """Take both networks and their weights from ``args.separator`` and ``args.asr``, in place.

    Args:
        args: parsed options of :class:`frontend.joint_task.JointTask`, ``separator`` and ``asr``.
        given: the settings that the user gave, in the configuration or on the command line.

    Raises:
        UserError: nothing trained there, a network that cannot be trained jointly, or a user who
            gave a setting of the networks again.
    """
    again = sorted(set(given) & (OF_SEPARATOR.keys() | OF_RECOGNISER.keys()))
    if again:
        raise UserError(
            f"{args.config or 'command line'}: {again[0]} is what --separator and --asr were trained with, "
            "and read from there: leave it out"
        )
    trained, separator = _separator(args.separator)
    files, recogniser = _recogniser(args.asr)
    for theirs, mapping in ((separator, OF_SEPARATOR), (recogniser, OF_RECOGNISER)):
        for name, source in mapping.items():
            setattr(args, name, theirs.get(source, getattr(args, name)))
    files.check_rate(f"--separator {args.separator}", trained.fs)
    preprocessor = separator["preprocessor_conf"]
    args.reading = {
        "fs": trained.fs,
        "n_mics": trained.n_mics,
        "ref_channel": args.enh_separator_conf.get("ref_channel", 0),
        "array_symmetry": preprocessor.get("array_symmetry", "none"),
        "seed": args.seed,
    }
    args.init_param = [f"{trained.checkpoint}::{SEPARATOR}", f"{files.checkpoint}::{RECOGNISER}"]


def _separator(path: str | None) -> tuple[packing.Trained, dict]:
    if path is None:
        raise UserError("--separator DIR is missing: the training directory of the separator to start from")
    if Path(path).is_file():
        raise UserError(f"--separator {path}: a directory expected, found a file (unpack it)")
    with packing.opened(path) as trained:
        settings = read_settings(trained.config, "config.yaml of a training")
    unusable = [
        k for k in ("normalize_variance", "normalize_variance_per_ch") if settings["model_conf"].get(k)
    ]
    if unusable:
        # ESPnet's joint model leaves it out, without a word.
        raise UserError(f"{trained.config}: trained with {unusable[0]}, which the joint task does not know")
    return trained, settings


def _recogniser(path: str | None) -> tuple[RecogniserFiles, dict]:
    if path is None:
        raise UserError("--asr DIR is missing: the training directory of the recogniser to start from")
    files = find_recogniser(path)
    settings = read_settings(files.config, "config.yaml of a recogniser's training")
    if isinstance(settings["token_list"], str):
        settings["token_list"] = read_list(settings["token_list"])
    if settings.get("model", "espnet") != "espnet" or settings.get("decoder") == "transducer":
        # The joint task builds ESPnetASRModel whatever was trained, and drops joint_net_conf.
        raise UserError(
            f"{files.config}: expected a CTC/attention recogniser (model: espnet), which is all that the "
            "joint task builds (train one with asr_train)"
        )
    return files, settings


def check(args: argparse.Namespace) -> None:
    """Check settings and weights before anything heavy starts; the data: :mod:`frontend.joint_data`.

    Raises:
        UserError: the first thing that is wrong.
    """
    where = args.config or "command line"
    check_gpu(args)
    for key, wanted in (
        ("iterator_type", "sequence"),
        ("batch_type", "unsorted"),
        ("use_preprocessor", True),
    ):
        if getattr(args, key) != wanted:
            raise UserError(f"{where}: {key} must be {wanted}, found {getattr(args, key)}")
    if SEPARATOR in args.freeze_param:
        raise UserError(f"{where}: freeze_param: nothing is joint about a frozen separator (use asr_train)")
    for what, classes in (("optim", abs_task.optim_classes), ("scheduler", abs_task.scheduler_classes)):
        name, conf = getattr(args, what), getattr(args, f"{what}_conf")
        if what == "optim" or name is not None:
            check_conf(conf, lookup(name, classes, what, where), f"{what}_conf", where)
    check_conf(args.model_conf, JointModel, "model_conf", where, GIVEN | {"enh_model", "s2t_model"})
    _check_criterions(args.enh_criterions, where)
    deaf = logging.NullHandler()  # without any, what ESPnet says now would open its log on the terminal
    logging.root.addHandler(deaf)
    model = JointTask.build_model(args)
    logging.root.removeHandler(deaf)
    for spec, part in zip(args.init_param, (model.enh_model, model.s2t_model), strict=True):
        path = spec.split(":")[0]
        network = f"the network of {Path(path).parent / 'config.yaml'}"
        check_state(read_state(path), part.state_dict(), path, network)


def _check_criterions(criterions: list[dict], where: str) -> None:
    for criterion in criterions:
        if not {"name", "wrapper"} <= set(criterion) <= {"name", "conf", "wrapper", "wrapper_conf"}:
            raise UserError(
                f"{where}: enh_criterions: expected name, conf, wrapper and wrapper_conf, "
                f"found {list(criterion)}"
            )
        loss = lookup(criterion["name"], enh.criterion_choices.classes, "criterion", where)
        solver = lookup(criterion["wrapper"], enh.loss_wrapper_choices.classes, "wrapper", where)
        if not issubclass(solver, PITSolver):
            # mixit's order is one of mixtures; without any, ESPnet falls back to CTC for two talkers.
            raise UserError(
                f"{where}: enh_criterions: wrapper: thresholded_pit or pit expected, which say whose stream "
                f"is whose, found {criterion['wrapper']}"
            )
        # ESPnet asks for wrapper_conf by key.
        given = GIVEN | {"criterion"}
        check_conf(criterion.setdefault("conf", {}), loss, "enh_criterions: conf", where, given)
        check_conf(
            criterion.setdefault("wrapper_conf", {}), solver, "enh_criterions: wrapper_conf", where, given
        )
