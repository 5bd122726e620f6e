"""What can be wrong with a training's configuration, found before anything heavy starts."""

import argparse
from pathlib import Path

from frontend.audio import audio_info
from frontend.errors import UserError
from frontend.espnet import ESPnetEnhancementModel, abs_task, enh
from frontend.parallel import progress
from frontend.tables import read_scp
from frontend.task import PREPROCESSORS, FrontendTask
from frontend.train_checks import GIVEN, check_conf, check_gpu, check_weights, given_set, lookup, same_ids

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


def check(args: argparse.Namespace) -> None:
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
