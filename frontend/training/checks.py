"""What can be wrong with a training, found and said in one line before anything heavy starts.

The trainings of separators, of recognisers and of both together ask the same questions: are the settings
those that the classes take, do the tables name the same utterances, is all audio of one rate and number of
channels, do the weights to start from fit the network. They are asked here.
"""

import argparse
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from frontend.data.audio import Recording, audio_info
from frontend.data.kaldi import (
    ALIKE,
    RATE,
    in_scp,
    numbered,
    read_entries,
    read_scp,
    read_utterances,
    scan_by_name,
)
from frontend.data.mixtures import check_set, check_tables
from frontend.dsp.activity import Faults
from frontend.training.checkpoints import ANY_ARRAY, load_state, open_trained, read_state
from frontend.training.options import given_set, read_config
from frontend.training.task import PREPROCESSORS, FrontendTask
from frontend.utils.device import check_gpu
from frontend.utils.errors import UserError, did_you_mean, warn
from frontend.utils.espnet import ESPnetEnhancementModel, abs_task, enh
from frontend.utils.files import read_settings, write_text

# Settings that the task fills in itself; if a user gives them they are ignored.
GIVEN = frozenset({"self", "optimizer", "params"})
_GIVEN = GIVEN | {"train", "lengths", "entries", "seed", "fewer_mics", "input_dim", "criterion"}
_GIVEN |= {"encoder", "separator", "decoder", "mask_module", "loss_wrappers"}
_LOOKED_AT = 5  # mixtures of a set, in search of dead channels


# --- settings


def check_values(args: argparse.Namespace, wanted: Mapping[str, object], where: str) -> None:
    """Raise a UserError for the first of the settings ``wanted`` that is not its value, or one of a tuple."""
    for key, values in wanted.items():
        values, found = values if isinstance(values, tuple) else (values,), getattr(args, key)
        if found not in values:
            hint = did_you_mean(found, [str(value) for value in values])
            raise UserError(f"{where}: {key} must be {' or '.join(map(str, values))}, found {found}{hint}")


def lookup(name: str | None, classes: dict[str, type], what: str, where: str) -> type:
    """Return the class that a configuration names; raise a UserError if there is none of that name."""
    if not isinstance(name, str) or name not in classes:
        raise UserError(f"{where}: unknown {what} '{name}'{did_you_mean(name, classes)}")
    return classes[name]


def _settings(cls: type, given: frozenset[str]) -> dict[str, Any]:
    """Return the settings a class takes with their defaults, or ``inspect.Parameter.empty``."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        found = {p.name: p.default for p in named} | found
        if len(named) == len(parameters):
            break  # else **others are the settings of the class above
    return {k: v for k, v in found.items() if k not in given}


def check_conf(conf: object, cls: type, name: str, where: str, given: frozenset[str] = GIVEN) -> None:
    """Check a mapping of settings, such as ``encoder_conf``, against what a class takes.

    Args:
        conf: the settings.
        name: what they are called.
        cls: the class.
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
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{where}: {name}: {key}: a finite number expected, found {value}")
        counts = type(known[key]) is int and known[key] > 0  # sizes and numbers of things
        if counts and isinstance(value, (int, float)) and not isinstance(value, bool) and value < 1:
            raise UserError(f"{where}: {name}: {key}: expected at least 1, found {value}")
    empty = inspect.Parameter.empty
    missing = [k for k, default in known.items() if default is empty and k not in conf]
    if missing:
        raise UserError(f"{where}: {name}: key '{missing[0]}' is missing")


def check_optimisation(args: argparse.Namespace, where: str, filled: frozenset[str] = frozenset()) -> None:
    """Check ``optim`` and ``scheduler`` and their settings; those in ``filled`` may be missing still.

    Raises:
        UserError: an unknown name or setting.
    """
    for what, classes in (("optim", abs_task.optim_classes), ("scheduler", abs_task.scheduler_classes)):
        name = getattr(args, what)
        if what == "optim" or name is not None:
            cls = lookup(name, classes, what, where)
            conf = getattr(args, f"{what}_conf")
            check_conf(conf, cls, f"{what}_conf", where, GIVEN | (filled - set(conf)))
            if what == "optim":
                try:
                    cls([torch.nn.Parameter(torch.zeros(1))], **conf)
                except (ValueError, TypeError) as error:
                    raise UserError(f"{where}: optim_conf: {error} (correct the settings)") from None


def check_criterions(
    criterions: list[dict], name: str, where: str, check_solver: Callable[[str, type], None] | None = None
) -> None:
    """Check a list of criteria; give each the ``conf`` and ``wrapper_conf`` that ESPnet asks for, in place.

    Args:
        criterions: each with ``name`` and ``wrapper``, and perhaps their settings.
        name: what the list is called.
        where: file, for the message.
        check_solver: called with the name and the class of each wrapper, to refuse some.

    Raises:
        UserError: an unknown criterion, wrapper or setting.
    """
    if not isinstance(criterions, list):
        raise UserError(f"{where}: {name}: a list of criteria (- name: ...) expected, found {criterions!r}")
    for criterion in criterions:
        given = set(criterion) if isinstance(criterion, dict) else set()
        if not {"name", "wrapper"} <= given <= {"name", "conf", "wrapper", "wrapper_conf"}:
            raise UserError(f"{where}: {name}: name, conf, wrapper, wrapper_conf expected, found {criterion}")
        loss = lookup(criterion["name"], enh.criterion_choices.classes, "criterion", where)
        solver = lookup(criterion["wrapper"], enh.loss_wrapper_choices.classes, "wrapper", where)
        if check_solver:
            check_solver(criterion["wrapper"], solver)
        what = f"{name}: {criterion['name']}: conf"
        check_conf(criterion.setdefault("conf", {}), loss, what, where, _GIVEN)
        check_conf(criterion.setdefault("wrapper_conf", {}), solver, f"{name}: wrapper_conf", where, _GIVEN)


def fill_schedule(args: argparse.Namespace, count_steps: Callable[[], int] | None = None) -> None:
    """Derive the length of the learning-rate schedule from that of the training, in place.

    Args:
        args: parsed options, with the data's.
        count_steps: returns the batches of an epoch; default: the utterances over ``batch_size``.
    """
    if args.scheduler == "warmupcosine" and "total_steps" not in args.scheduler_conf:
        steps = args.num_iters_per_epoch
        if not steps:
            utterances = read_scp(args.train_shape_file[0])
            steps = count_steps() if count_steps else math.ceil(len(utterances) / args.batch_size)
        args.scheduler_conf["total_steps"] = args.max_epoch * max(1, steps // args.accum_grad)


# --- data


def reference_tables(directory: Path) -> dict[str, str]:
    """Return ``{"spk1.scp": "speech_ref1", ...}``, the images that a data directory has.

    Raises:
        UserError: a number is left out.
    """
    names = [path.name for path in numbered(directory, "spk", ".scp")]
    return {name: f"speech_ref{k}" for k, name in enumerate(names, 1)}


TABLES = "tables"


def table_for_espnet(args: argparse.Namespace, which: str, path: Path, content: Mapping[str, str]) -> str:
    """Return a table from which ESPnet reads ``content``: ``path``, or a copy below ``--output_dir``.

    It is a copy where ESPnet would read something else: of a file with a byte-order mark or blank lines, with
    paths that start beside it, or of recordings that ``segments`` divides.
    """
    text = in_scp(content)
    if path.is_file() and path.read_bytes() == text.encode():
        return str(path)
    copy = Path(args.output_dir) / TABLES / which / path.name
    write_text(copy, text)
    return str(copy)


def use_tables(
    args: argparse.Namespace,
    which: str,
    directory: Path,
    names: Mapping[str, str],
    spell: Callable[[Path, Mapping[str, str]], Mapping[str, str]] = lambda path, texts: texts,
) -> None:
    """Give ESPnet tables of a directory, file -> its name, as data in place; the preprocessors read audio.

    Lengths are counted where ``utt2num_samples`` is missing. ``spell`` says how transcripts (a file, and what
    it holds) are trained on.
    """
    wav, lengths = read_utterances(directory), directory / "utt2num_samples"

    def given(file: str) -> str:
        path = directory / file
        if file == "wav.scp":
            content: Mapping[str, str] = wav
        elif path == lengths and not path.is_file():
            content = {key: str(audio_info(entry)[1]) for key, entry in wav.items()}
        else:
            table = scan_by_name(path).checked()
            content = {key: value for key, value in table.items() if key not in wav.left_out}
            content = spell(path, content) if file.startswith("text_") else content
        return table_for_espnet(args, which, path, content)

    triples = [(given(file), name, "text") for file, name in names.items()]
    setattr(args, f"{which}_data_path_and_name_and_type", triples)
    setattr(args, f"{which}_shape_file", [given(lengths.name)])


def expand_data(args: argparse.Namespace) -> None:
    """Turn ``--train_set`` and ``--valid_set`` of a separator into ESPnet's data options, in place.

    Raises:
        UserError: a directory or a table in it is missing.
    """
    for which in ("train", "valid"):
        own = [getattr(args, f"{which}_{name}") for name in ("data_path_and_name_and_type", "shape_file")]
        if getattr(args, f"{which}_set") is None and all(own):
            continue
        directory = given_set(args, which)
        references = {} if args.preprocessor == "mom" else reference_tables(directory)
        use_tables(args, which, directory, {"wav.scp": "speech_mix"} | references)


def check_audio(
    args: argparse.Namespace,
    which: str,
    channels: tuple[int, str],
    fs: tuple[int, str],
    images: bool = True,
    texts: bool = True,
    any_array: bool = False,
) -> None:
    """Check a set as ``mixit data check`` does, as far as headers show it, and that it fits the network.

    Args:
        args: parsed options; the set is that of ``--train_set`` or ``--valid_set``, or of ESPnet's options.
        which: train or valid.
        channels: how many a mixture must have, and where that is said, for the message.
        fs: the rate in Hz, and where that is said.
        images: whether the training uses those of the talkers.
        texts: likewise.
        any_array: mixtures may have fewer channels, and different numbers of them.

    Raises:
        UserError: the first thing that is wrong.
    """
    alike = [RATE] if any_array else ALIKE
    if directory := getattr(args, f"{which}_set"):
        check_set(directory, images, texts, alike)
        wav, where = read_utterances(directory), f"{directory}/wav.scp"
    else:
        first, *others = getattr(args, f"{which}_data_path_and_name_and_type")
        wav, where = read_entries(first[0]), first[0]
        lengths = getattr(args, f"{which}_shape_file")[:1]
        tables = ([Path(path) for path, *_ in others if images], [Path(path) for path in lengths])
        check_tables(wav, *tables, alike)
    for utterance, entry in list(wav.items())[: None if any_array else 1]:  # else the others are like it
        n_channels, _, rate = audio_info(entry)
        if rate != fs[0]:
            raise UserError(f"{where}: {utterance}: {fs[0]} Hz expected ({fs[1]}), found {rate} in {entry}")
        if n_channels != channels[0] and not (any_array and 1 < n_channels < channels[0]):
            raise UserError(
                f"{where}: {utterance}: {channels[0]} channel(s) expected ({channels[1]}), found "
                f"{n_channels} in {entry}"
            )
    check_channels(where, list(wav.values()))


def check_channels(where: str, entries: Sequence[str]) -> None:
    """Look at a few mixtures, spread over the set: what is wrong in all of them is the array's.

    Raises:
        UserError: the reference channel is dead.
    """
    looked_at = entries[:: -(-len(entries) // _LOOKED_AT)]
    found = [Recording([entry]).faults() for entry in looked_at]
    dead = set.intersection(*({*one.dead} for one in found))
    copies = set.intersection(*({*one.copies} for one in found))
    if 0 in dead:
        raise UserError(
            f"{where}: channel 1 is dead in all of {len(found)} mixtures that were looked at, such as "
            f"{looked_at[0]}; it is the reference (put a live one first)"
        )
    common = Faults(tuple(sorted(dead)), tuple(sorted(copies)))
    for text in common.warnings(lambda channel: f"{where}: channel {channel + 1}"):
        warn(text)


# --- weights


def check_weights(task: Any, args: argparse.Namespace) -> None:
    """Build the network; raise a UserError if weights it shall start from are missing or do not fit."""
    where = args.config or "command line"
    try:
        model = task.build_model(args)
    except (ValueError, TypeError, ArithmeticError, AssertionError, RuntimeError) as error:
        raise UserError(
            f"{where}: no network can be built of these settings: {type(error).__name__}: {error} "
            "(correct them)"
        ) from None
    for spec in args.init_param:
        path, *rest = spec.split(":")
        state = read_state(path)
        # Parts of a network (path:from:to:without) and --ignore_init_mismatch are up to the user.
        if not any(rest) and not args.ignore_init_mismatch:
            load_state(model, state, path, "this configuration", as_named=True)


def check_start(model: str, config: str, n_mics: int, fs: int, n_outputs: int) -> None:
    """Refuse a model of another recipe that the networks to be trained cannot start from.

    Args:
        model: its training directory.
        config: YAML of the training to come.
        n_mics: channels of the recordings.
        fs: their rate in Hz.
        n_outputs: streams wanted.

    Raises:
        UserError: no trained model, or one of another rate, number of microphones or outputs, or
            architecture.
    """
    wanted = read_config(config)
    with open_trained(model) as trained:
        for what, need, has in (
            ("microphones", n_mics, n_mics if trained.any_array else trained.n_mics),
            ("Hz", fs, trained.fs),
            ("outputs", n_outputs, trained.n_outputs),
        ):
            if need != has:
                raise UserError(
                    f"{model}: trained for {has} {what}, expected {need} to start from it here "
                    "(give another --init_model, or leave it out and train from nothing)"
                )
        found = _architecture(read_settings(trained.config, "config.yaml of a training"))
        for key, value in _architecture(wanted).items():
            if found.get(key) != value:
                raise UserError(
                    f"{model}: {key} is {found.get(key)}, expected {value} as in {config} (copy the "
                    f"setting of {trained.config} into {config}, or train from nothing)"
                )


def _architecture(config: dict) -> dict:
    """Return what says how a network is built, but for what is compared with the recordings."""
    found = {key: config.get(key) for key in ("encoder", "separator", "decoder")}
    for part in ("encoder_conf", "decoder_conf", "separator_conf"):
        left_out = ("n_mics", "num_spk", "precision")
        found |= {f"{part}.{k}": v for k, v in (config.get(part) or {}).items() if k not in left_out}
    return found


# --- the training of a separator


def check_config(args: argparse.Namespace) -> None:
    """Check everything that ESPnet would only find out with a traceback, or not at all.

    Raises:
        UserError: the first thing that is wrong.
    """
    where = args.config or "command line"
    check_gpu(args.ngpu)
    wanted = {"preprocessor": tuple(PREPROCESSORS), "iterator_type": "sequence", "batch_type": "unsorted"}
    check_values(args, wanted, where)  # all crops are equally long
    _check_names(args, where)
    _check_data(args, where)
    read, defaults = args.preprocessor_conf, _settings(enh.separator_choices.classes[args.separator], GIVEN)
    for key, default in (("ref_channel", 0), ("fs", defaults.get("fs", read["fs"]))):
        pair = [args.separator_conf.get(key, default), read.get(key, default)]
        if pair[0] != pair[1]:
            found = f"the same {key} expected, found {pair}"
            raise UserError(f"{where}: separator_conf and preprocessor_conf: {found}")
    stft = args.encoder_conf
    if args.separator_conf.get("streams") and stft.get("n_fft") != 2 * stft.get("hop_length", 0):
        found = f"streams need an n_fft of two hop_length, found {stft}"
        raise UserError(f"{where}: encoder_conf: {found}")
    if read.get("array_symmetry") == "any" and args.separator not in ANY_ARRAY:
        found = f"array_symmetry: 'any' is for {', '.join(ANY_ARRAY)}, found {args.separator}"
        raise UserError(f"{where}: preprocessor_conf: {found} (name the symmetry of the array, or none)")
    check_weights(FrontendTask, args)


def _check_names(args: argparse.Namespace, where: str) -> None:
    choices = {c.name: c.classes for c in FrontendTask.class_choices_list}
    for what in ("encoder", "separator", "decoder", "preprocessor"):
        cls = lookup(getattr(args, what), choices[what], what, where)
        # The task tells a preprocessor the number of microphones.
        given = _GIVEN | {"n_mics", "ids", "number"} if what == "preprocessor" else _GIVEN
        check_conf(getattr(args, f"{what}_conf"), cls, f"{what}_conf", where, given)
    check_optimisation(args, where)
    check_conf(args.model_conf, ESPnetEnhancementModel, "model_conf", where, _GIVEN)
    check_criterions(args.criterions, "criterions", where)


def _check_data(args: argparse.Namespace, where: str) -> None:
    outputs = args.separator_conf.get("num_spk", 2)
    fs = (args.preprocessor_conf["fs"], f"{where}: preprocessor_conf: fs")
    n_mics = (args.separator_conf.get("n_mics", 1), f"{where}: separator_conf: n_mics")
    for which in ("train", "valid"):
        data = getattr(args, f"{which}_data_path_and_name_and_type")
        any_array = args.separator in ANY_ARRAY
        check_audio(args, which, n_mics, fs, args.preprocessor != "mom", texts=False, any_array=any_array)
        references = sum(name.startswith("speech_ref") for _, name, _ in data)
        if args.preprocessor != "mom" and references != outputs:
            raise UserError(
                f"{Path(data[0][0]).parent}: one reference (spkN.scp) per output expected: {outputs} "
                f"({where}: separator_conf: num_spk), found {references}"
            )
        reader: Any = FrontendTask.build_preprocess_fn(args, train=which == "train")  # checks its settings
        least = args.encoder_conf.get("n_fft", 0)
        if reader.samples < least:
            raise UserError(
                f"{where}: preprocessor_conf: crop: expected at least the {least} samples of encoder_conf: "
                f"n_fft, found {reader.samples}"
            )
    mixtures = args.preprocessor_conf.get("n_mixtures", 2)
    if args.preprocessor == "mom" and mixtures > outputs:
        found = f"num_spk must be at least n_mixtures ({mixtures}), found {outputs}"
        raise UserError(f"{where}: separator_conf: {found}: every mixture needs an output")
