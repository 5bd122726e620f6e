"""Starting from a model of another recipe: does it fit these recordings and this configuration?

What can be wrong with the settings of any training, found before anything heavy starts.

What can be wrong with a training's configuration, found before anything heavy starts.
"""

import argparse
import inspect
import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from frontend.data.audio import audio_info
from frontend.data.kaldi import read_scp
from frontend.training.checkpoints import check_state, open_trained, read_state
from frontend.training.task import PREPROCESSORS, FrontendTask
from frontend.utils.device import check_gpu
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.espnet import ESPnetEnhancementModel, abs_task, enh
from frontend.utils.files import read_settings
from frontend.utils.parallel import progress

_ARCHITECTURE = ("encoder", "encoder_conf", "separator", "decoder", "decoder_conf")
_SAMPLES = ("n_fft", "hop_length")


def check_start(model: str, config: str, n_mics: int, fs: int, n_outputs: int) -> Path:
    """Return the weights of ``model`` for ``--init_param``, if they fit.

    Args:
        model: a training directory of another recipe.
        config: YAML of the training to come.
        n_mics, fs: channels and rate in Hz of the recordings.
        n_outputs: streams wanted.

    Raises:
        UserError: no trained model, or one of another rate, number of microphones or outputs, or
            architecture.
    """
    wanted = read_settings(config, "training configuration")
    with open_trained(model) as trained:
        theirs = yaml.safe_load(trained.config.read_text(encoding="utf-8"))
        for what, need, has in (
            ("microphones", n_mics, trained.n_mics),
            ("Hz", fs, trained.fs),
            ("outputs", n_outputs, trained.n_outputs),
        ):
            if need != has:
                raise UserError(
                    f"{model}: trained for {has} {what}, expected {need} to start from it here "
                    "(give another --init_model, or leave it out and train from nothing)"
                )
        own = {k: v for k, v in wanted.get("separator_conf", {}).items() if k not in ("n_mics", "num_spk")}
        found = {key: theirs.get(key) for key in _ARCHITECTURE}
        found |= {f"separator_conf.{key}": theirs["separator_conf"].get(key) for key in own}
        expected = {key: wanted.get(key) for key in _ARCHITECTURE}
        # run.sh gives windows of the configuration's milliseconds at the rate of the recordings.
        factor = fs / wanted.get("preprocessor_conf", {}).get("fs", fs)
        for key in ("encoder_conf", "decoder_conf"):
            scaled = {k: round(v * factor) for k, v in (expected[key] or {}).items() if k in _SAMPLES}
            expected[key] = {**(expected[key] or {}), **scaled}
        expected |= {f"separator_conf.{key}": value for key, value in own.items()}
        for key, value in expected.items():
            if key != "separator_conf.precision" and found[key] != value:
                raise UserError(
                    f"{model}: {key} is {found[key]}, expected {value} as in {config} (copy the setting of "
                    f"{trained.config} into {config}, or train from nothing)"
                )
        return trained.checkpoint


# Settings that the task fills in itself; a user who gives them would be ignored.
GIVEN = frozenset({"self", "optimizer", "params"})


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


# Settings that the task fills in itself; a user who gives them would be ignored.
_GIVEN = GIVEN | {"train", "lengths", "entries", "seed", "input_dim", "criterion"}
_GIVEN |= {"encoder", "separator", "decoder", "mask_module", "loss_wrappers"}


def expand_data(args: argparse.Namespace) -> None:
    """Turn ``--train_set`` and ``--valid_set`` into ESPnet's data options, in place.

    Raises:
        UserError: a directory or a table in it is missing.
    """
    for which in ("train", "valid"):
        espnet_s = (
            getattr(args, f"{which}_{name}") for name in ("data_path_and_name_and_type", "shape_file")
        )
        if getattr(args, f"{which}_set") is None and all(espnet_s):
            continue
        directory = given_set(args, which)
        names = {"wav.scp": "speech_mix"}
        if args.preprocessor != "mom":
            numbers = sorted(int(p.stem[3:]) for p in directory.glob("spk*.scp") if p.stem[3:].isdigit())
            names.update({f"spk{k}.scp": f"speech_ref{k}" for k in numbers})
        triples = [(str(directory / file), name, "text") for file, name in names.items()]
        setattr(args, f"{which}_data_path_and_name_and_type", triples)
        setattr(args, f"{which}_shape_file", [str(directory / "utt2num_samples")])


def check_config(args: argparse.Namespace) -> None:
    """Check everything that ESPnet would only find out with a traceback, or not at all.

    Raises:
        UserError: the first thing that is wrong.
    """
    where = args.config or "command line"
    check_gpu(args)
    if args.preprocessor not in PREPROCESSORS:
        raise UserError(
            f"{where}: preprocessor must be {' or '.join(PREPROCESSORS)}, found {args.preprocessor}"
        )
    for key, wanted in (("iterator_type", "sequence"), ("batch_type", "unsorted")):
        if getattr(args, key) != wanted:
            raise UserError(
                f"{where}: {key} must be {wanted} (all crops are equally long), found {getattr(args, key)}"
            )
    _check_names(args, where)
    _check_data(args, where)
    channels = [conf.get("ref_channel", 0) for conf in (args.separator_conf, args.preprocessor_conf)]
    if len(set(channels)) > 1:
        raise UserError(
            f"{where}: separator_conf and preprocessor_conf: the same ref_channel expected, found {channels}"
        )
    check_weights(FrontendTask, args)


def fill_schedule(args: argparse.Namespace) -> None:
    """Derive the length of the learning-rate schedule from that of the training, in place."""
    if args.scheduler == "warmupcosine" and "total_steps" not in args.scheduler_conf:
        steps = args.num_iters_per_epoch
        if steps is None:
            steps = -(-len(read_scp(args.train_shape_file[0])) // args.batch_size)
        args.scheduler_conf["total_steps"] = args.max_epoch * (steps // args.accum_grad)


def _check_names(args: argparse.Namespace, where: str) -> None:
    choices = {c.name: c.classes for c in FrontendTask.class_choices_list}
    choices |= {"optim": abs_task.optim_classes, "scheduler": abs_task.scheduler_classes}
    for what in ("encoder", "separator", "decoder", "preprocessor", "optim", "scheduler"):
        name, conf = getattr(args, what), getattr(args, f"{what}_conf")
        if what != "scheduler" or name is not None:
            cls = lookup(name, choices[what], what, where)
            # The task tells a preprocessor the number of microphones.
            given = _GIVEN | {"n_mics"} if what == "preprocessor" else _GIVEN
            check_conf(conf, cls, f"{what}_conf", where, given)
    check_conf(args.model_conf, ESPnetEnhancementModel, "model_conf", where, _GIVEN)
    for criterion in args.criterions:
        extra = set(criterion) - {"name", "conf", "wrapper", "wrapper_conf"}
        if extra or not {"name", "wrapper"} <= set(criterion):
            raise UserError(
                f"{where}: criterions: name, conf, wrapper, wrapper_conf expected, found {list(criterion)}"
            )
        loss = lookup(criterion["name"], enh.criterion_choices.classes, "criterion", where)
        solver = lookup(criterion["wrapper"], enh.loss_wrapper_choices.classes, "wrapper", where)
        # ESPnet asks for wrapper_conf by key.
        name = f"criterions: {criterion['name']}: conf"
        check_conf(criterion.setdefault("conf", {}), loss, name, where, _GIVEN)
        check_conf(
            criterion.setdefault("wrapper_conf", {}), solver, "criterions: wrapper_conf", where, _GIVEN
        )


def _check_data(args: argparse.Namespace, where: str) -> None:
    outputs = args.separator_conf.get("num_spk", 2)
    for which in ("train", "valid"):
        data = getattr(args, f"{which}_data_path_and_name_and_type")
        shapes = read_scp(getattr(args, f"{which}_shape_file")[0])
        for path, name, _ in data:
            entries = read_scp(path)
            same_ids(entries, shapes, path, "utt2num_samples")
            _check_headers(args, where, path, name, entries)
        references = sum(name.startswith("speech_ref") for _, name, _ in data)
        if args.preprocessor != "mom" and references != outputs:
            raise UserError(
                f"{Path(data[0][0]).parent}: one reference (spkN.scp) per output expected: {outputs} "
                f"({where}: separator_conf: num_spk), found {references}"
            )
        FrontendTask.build_preprocess_fn(args, train=which == "train")  # checks its settings
    mixtures = args.preprocessor_conf.get("n_mixtures", 2)
    if args.preprocessor == "mom" and mixtures > outputs:
        raise UserError(
            f"{where}: separator_conf: num_spk must be at least n_mixtures ({mixtures}), found {outputs}: "
            "every mixture needs an output"
        )


def _check_headers(
    args: argparse.Namespace, where: str, path: str, name: str, entries: dict[str, str]
) -> None:
    """Check channels, rate and readability of all recordings of a table (0.05 ms each)."""
    fs = args.preprocessor_conf["fs"]
    n_mics = args.separator_conf.get("n_mics", 1) if name == "speech_mix" else 1
    for utterance, entry in progress(entries.items(), len(entries), f"check {path}"):
        channels, _, found = audio_info(entry)
        if channels != n_mics:
            raise UserError(
                f"{path}: {utterance}: {n_mics} channel(s) expected ({where}: separator_conf: n_mics), "
                f"found {channels} in {entry} (use data of that array, or set n_mics)"
            )
        if found != fs:
            raise UserError(
                f"{path}: {utterance}: {fs} Hz expected ({where}: preprocessor_conf: fs), "
                f"found {found} in {entry}"
            )
