"""What the joint training reads: whole mixtures, their references and transcripts.

Separator and recogniser as one network: ESPnet's EnhS2T task with our separators and batches.

The separator's streams are put in the talkers' order by PIT on the separation loss, and that one
order holds for both losses. Not by PIT on the recogniser's loss: where both streams are still
mixtures their transcripts decide nothing, it costs talkers times as many passes through the
recogniser, and a talker whose two losses disagree would be pulled both ways.

A joint training's configuration: both networks as they were trained, and what can be wrong with it.

The two networks of a joint training, each in the form that everything else loads.

The separator becomes an ordinary training directory of :mod:`frontend.training.task`, the recogniser, below it
in ``asr/``, an ordinary one of ESPnet: nothing that separates or recognises knows of joint training.
"""

import argparse
import logging
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
import yaml
from espnet2.enh.loss.wrappers.pit_solver import PITSolver
from espnet2.torch_utils.device_funcs import force_gatherable
from torch.nn import functional as F

from frontend.data.audio import audio_info, read_audio
from frontend.data.kaldi import read_scp
from frontend.dsp.spatial import array_symmetries
from frontend.recognition.model import RecogniserFiles, find_recogniser
from frontend.recognition.training import count, read_list, write_list
from frontend.recognition.training import unknown as unknown_tokens
from frontend.training.checkpoints import MODEL, Trained, check_state, open_trained, read_state
from frontend.training.checks import GIVEN, check_conf, fill_schedule, given_set, lookup, same_ids
from frontend.training.run import Training, make_parser, open_log, parse, train
from frontend.training.task import FrontendTask, FrontendTrainer, KeyedIterFactory, register
from frontend.utils.device import check_gpu
from frontend.utils.errors import UserError
from frontend.utils.espnet import AbsPreprocessor, ESPnetEnhancementModel, abs_task, enh, enh_s2t
from frontend.utils.files import atomic_directory, atomic_file, read_settings, write_text
from frontend.utils.parallel import progress
from frontend.utils.rng import generator


class WholeUtterances(AbsPreprocessor):
    """Read a mixture, its references and its transcripts as they are.

    A recogniser needs whole utterances, and the level that it is used at: nothing is cropped or
    scaled. In training the channels are turned by a random symmetry of the array that leaves the
    reference channel in place, keyed by (seed, epoch, utterance).

    Args:
        train: False reads the channels in their own order.
        text: ESPnet's preprocessor that turns transcripts into numbers.
        fs: rate that all recordings must have.
        n_mics: channels that the mixtures must have.
        ref_channel: where the references were taken.
        array_symmetry: see :func:`frontend.dsp.spatial.array_symmetries`.
        seed: of the training.
    """

    def __init__(
        self,
        train: bool,
        text: AbsPreprocessor,
        fs: int,
        n_mics: int,
        ref_channel: int = 0,
        array_symmetry: str = "none",
        seed: int = 0,
    ):
        super().__init__(train)
        self.text, self.fs, self.n_mics, self.seed, self.epoch = text, fs, n_mics, seed, 0
        symmetries = array_symmetries(array_symmetry if train else "none", n_mics)
        self.symmetries = [list(s) for s in symmetries if s[ref_channel] == ref_channel]

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next examples are for (the iterator factory does)."""
        self.epoch = epoch

    def cut(self, text: str) -> list[str]:
        """Return the tokens of a transcript."""
        return self.text.tokenizer.text2tokens(self.text.text_cleaner(text))

    def __call__(self, uid: str, data: dict[str, str]) -> dict[str, np.ndarray]:
        """Return speech (T, C), or (T,) of one microphone, speech_ref1..S (T,), text_spk1..S (L,)."""
        mixture = self._read(data["speech"], self.n_mics)
        turn = generator(self.seed, uid, self.epoch, "symmetry").integers(len(self.symmetries))
        mixture = mixture[self.symmetries[int(turn)]]
        example = {"speech": mixture[0] if self.n_mics == 1 else np.ascontiguousarray(mixture.T)}
        references = {name: entry for name, entry in data.items() if name.startswith("speech_ref")}
        example |= {name: self._read(entry, 1)[0] for name, entry in references.items()}
        return example | self.text(uid, {k: v for k, v in data.items() if k.startswith("text_spk")})

    def _read(self, entry: str, channels: int) -> np.ndarray:
        audio, fs = read_audio(entry, finite=True)  # NaN of one recording would become that of all weights
        if (len(audio), fs) != (channels, self.fs):
            raise UserError(
                f"{entry}: {channels} channel(s) at {self.fs} Hz expected, found {len(audio)} at {fs} Hz"
            )
        return audio


def expand_joint_data(args: argparse.Namespace, talkers: int) -> None:
    """Turn ``--train_set`` and ``--valid_set`` into ESPnet's data options, in place.

    Raises:
        UserError: a directory or a table in it is missing, or it has another number of talkers.
    """
    for which in ("train", "valid"):
        directory = given_set(args, which)
        found = sum(path.stem[3:].isdigit() for path in directory.glob("spk*.scp"))
        if found != talkers:
            raise UserError(
                f"{directory}: one reference (spkN.scp) per output of --separator expected: {talkers}, "
                f"found {found}"
            )
        names = {"wav.scp": "speech"}
        names |= {f"spk{k}.scp": f"speech_ref{k}" for k in range(1, talkers + 1)}
        names |= {f"text_spk{k}": f"text_spk{k}" for k in range(1, talkers + 1)}
        triples = [(str(directory / file), name, "text") for file, name in names.items()]
        setattr(args, f"{which}_data_path_and_name_and_type", triples)
        setattr(args, f"{which}_shape_file", [str(directory / "utt2num_samples")])


def check_data(args: argparse.Namespace, reader: WholeUtterances) -> list[str]:
    """Look at every recording's header and every transcript of both sets.

    Args:
        args: with the data options filled in by :func:`expand_data`.
        reader: as the training will use it.

    Returns:
        of each table with words that the recogniser has no token for, a line that counts and names them.

    Raises:
        UserError: the first thing that is wrong.
    """
    unknown = []
    kind = args.token_type if args.token_type in ("word", "char") else "bpe"
    for which in ("train", "valid"):
        shapes = read_scp(getattr(args, f"{which}_shape_file")[0])
        tables, paths = {}, {}
        for path, name, _ in getattr(args, f"{which}_data_path_and_name_and_type"):
            tables[name], paths[name] = read_scp(path, allow_empty=name.startswith("text_spk")), path
            same_ids(tables[name], shapes, path, "utt2num_samples")
        _check_audio(tables, paths, reader)
        for name in (name for name in tables if name.startswith("text_spk")):
            images = tables[name.replace("text_spk", "speech_ref")]
            _check_spoken(tables[name], paths[name], images)
            # ESPnet turns them into <unk> without a word.
            counts = count(tables[name].values(), reader.cut)
            line = unknown_tokens(counts, reader.text.token_id_converter.token_list, kind)
            unknown += [f"{paths[name]}: {line}"] if line else []
    return unknown


def _check_audio(tables: dict[str, dict[str, str]], paths: dict[str, str], reader: WholeUtterances) -> None:
    frames = {}
    for name in (name for name in tables if name.startswith("speech")):
        channels = reader.n_mics if name == "speech" else 1
        for utterance, entry in progress(tables[name].items(), len(tables[name]), f"check {paths[name]}"):
            found = audio_info(entry)
            wanted = (channels, frames.setdefault(utterance, found[1]), reader.fs)  # "speech" comes first
            if found != wanted:
                raise UserError(
                    f"{paths[name]}: {utterance}: {{}} channel(s), {{}} samples, {{}} Hz expected, ".format(
                        *wanted
                    )
                    + f"found {found[0]}, {found[1]}, {found[2]} in {entry}"
                )


def _check_spoken(texts: dict[str, str], path: str, images: dict[str, str]) -> None:
    """Let only a silent talker have no transcript: the recogniser would learn to pass over speech."""
    for utterance in (utterance for utterance, text in texts.items() if not text):
        if read_audio(images[utterance])[0].any():
            raise UserError(
                f"{path}: {utterance}: a transcript expected, found none, though {images[utterance]} is not "
                "silent (add it, or leave the utterance out of the set)"
            )


# Prefixes of the two parts in the weights of the joint network.
SEPARATOR, RECOGNISER = "enh_model", "s2t_model"


def register_joint() -> None:
    """Make our classes known to the joint task too; safe to call again."""
    register()
    # EnhS2T deep-copies the choices when it is imported, whoever imported it first.
    enh_s2t.enh_separator_choices.classes.update(enh.separator_choices.classes)


class JointModel(enh_s2t.ESPnetEnhS2TModel):
    """A separator, and a recogniser that reads all of its streams.

    Args:
        enh_model, s2t_model: the two parts.
        enh_weight: of the separation loss (dB) beside the recogniser's (nats per utterance).
    """

    def __init__(
        self, enh_model: ESPnetEnhancementModel, s2t_model: enh_s2t.ESPnetASRModel, enh_weight: float = 0.1
    ):
        super().__init__(enh_model, s2t_model)
        self.enh_weight = enh_weight

    def separate(self, speech: torch.Tensor, lengths: torch.Tensor) -> tuple[list[torch.Tensor], tuple]:
        """Return the streams [(B, T)] * S, and what the separation loss wants beside them.

        ESPnet's own path does without ``normalize_variance``, which our networks do not need and
        :mod:`frontend.recognition.joint` refuses, and leaves in a short item of the batch what
        the inverse STFT gives beyond its end, for the recogniser to hear.
        """
        speech = speech[:, : lengths.max()]
        streams, *others = self.enh_model.forward_enhance(
            speech, lengths, {"num_spk": self.enh_model.num_spk}
        )
        inside = torch.arange(speech.shape[1], device=speech.device) < lengths[:, None]
        return [stream * inside for stream in streams], tuple(others)

    def forward(
        self, speech: torch.Tensor, speech_lengths: torch.Tensor, **given: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Return the sum of both losses.

        ESPnet's own forward knows no weight of the separation loss, skips that loss for the whole
        batch where its first utterance happens to be named ``...REAL`` or ``...CLEAN``, and looks
        for the order of the talkers by CTC (for two talkers only) where a solver gives none.

        Args:
            speech: (B, T, C), or (B, T) of one microphone.
            speech_lengths: (B,) in samples.
            given: ``speech_ref1..S`` (B, T), ``text_spk1..S`` (B, L) and their ``_lengths`` (B,).
        """
        talkers = range(1, self.enh_model.num_spk + 1)
        references = [given[f"speech_ref{k}"][:, : speech_lengths.max()] for k in talkers]
        streams, others = self.separate(speech, speech_lengths)
        loss_enh, stats_enh, _, order = self.enh_model.forward_loss(
            streams, speech_lengths, *others, references
        )
        streams = ESPnetEnhancementModel.sort_by_perm(streams, order)
        loss_asr, stats, _ = self.s2t_model(
            torch.cat(streams),
            speech_lengths.repeat(len(streams)),
            _stacked([given[f"text_spk{k}"] for k in talkers], self.s2t_model.ignore_id),
            torch.cat([given[f"text_spk{k}_lengths"] for k in talkers]),
        )
        loss = loss_asr + self.enh_weight * loss_enh[0]
        stats |= {"loss_asr": loss_asr.detach(), "loss_enh": stats_enh["loss"], "loss": loss.detach()}
        return force_gatherable((loss, stats, speech.shape[0]), loss.device)


def _stacked(texts: list[torch.Tensor], ignore_id: int) -> torch.Tensor:
    """[(B, L_k)] * S -> (S B, L), talker after talker."""
    longest = max(text.shape[1] for text in texts)
    return torch.cat([F.pad(text, (0, longest - text.shape[1]), value=ignore_id) for text in texts])


class JointTask(enh_s2t.EnhS2TTask):
    """ESPnet's joint task, with whole utterances in keyed batches."""

    trainer = FrontendTrainer

    @classmethod
    def get_parser(cls) -> argparse.ArgumentParser:
        """Return ESPnet's parser with the defaults of our model; call :func:`register_joint` first."""
        parser = super().get_parser()
        parser.set_defaults(
            model_conf={"enh_weight": 0.1},
            enh_criterions=[{"name": "thresholded_snr", "wrapper": "thresholded_pit"}],
            use_preprocessor=True,
        )
        return parser

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> JointModel:
        """Let ESPnet build both parts, and join them in our model."""
        parts = super().build_model(argparse.Namespace(**vars(args) | {"model_conf": {}}))
        return JointModel(parts.enh_model, parts.s2t_model, **args.model_conf)

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        """Build the reader of utterances; the recogniser's configuration turns texts into tokens."""
        names = [f"text_spk{k}" for k in range(1, args.enh_separator_conf["num_spk"] + 1)]
        text = super().build_preprocess_fn(argparse.Namespace(**vars(args) | {"text_name": names}), train)
        return WholeUtterances(train, text, **args.reading)

    @classmethod
    def build_sequence_iter_factory(
        cls, args: argparse.Namespace, iter_options: abs_task.IteratorOptions, mode: str
    ) -> KeyedIterFactory:
        """Batches keyed by seed and epoch, as those of the separators."""
        return FrontendTask.build_sequence_iter_factory.__func__(cls, args, iter_options, mode)


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
        args: parsed options of :class:`frontend.recognition.joint.JointTask`, ``separator`` and ``asr``.
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


def _separator(path: str | None) -> tuple[Trained, dict]:
    if path is None:
        raise UserError("--separator DIR is missing: the training directory of the separator to start from")
    if Path(path).is_file():
        raise UserError(f"--separator {path}: a directory expected, found a file (unpack it)")
    with open_trained(path) as trained:
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


def check_joint_config(args: argparse.Namespace) -> None:
    """Check settings and weights before anything heavy starts; the data: :mod:`frontend.recognition.joint`.

    Raises:
        UserError: the first thing that is wrong.
    """
    where = args.config or "command line"
    check_gpu(args.ngpu)
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


# What the joint training says of itself, in place of what the two said of theirs.
_TRAINING = (
    "max_epoch",
    "num_iters_per_epoch",
    "batch_size",
    "optim",
    "optim_conf",
    "scheduler",
    "scheduler_conf",
)
_TRAINING += ("seed", "init_param", "train_set", "valid_set", "output_dir", "version", "best_model_criterion")
_TRAINING += ("keep_nbest_models", "train_data_path_and_name_and_type", "train_shape_file")
_TRAINING += ("valid_data_path_and_name_and_type", "valid_shape_file", "grad_clip", "freeze_param")


def export(training: str | Path, separator: str | Path, recogniser: str | Path, out: str | Path) -> None:
    """Write ``out/{config.yaml,valid.loss.ave.pth}`` and ``out/asr``.

    Args:
        training: directory of the joint training, complete.
        separator, recogniser: the training directories that it started from.
        out: directory to write to; the recogniser's own files (statistics, token model) are copied, and
            are named relative to the working directory as ``out`` is.

    Raises:
        UserError: one of them is not what it should be.
    """
    training, out = Path(training), Path(out)
    joint = read_settings(training / "config.yaml", "config.yaml of a training")
    changed = {key: joint[key] for key in _TRAINING if key in joint}
    parts = {SEPARATOR: {}, RECOGNISER: {}}
    for name, value in read_state(training / MODEL).items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    _export_recogniser(parts[RECOGNISER], changed, recogniser, out / "asr")
    with open_trained(separator) as trained:
        config = read_settings(trained.config, "config.yaml of a training")
    out.mkdir(parents=True, exist_ok=True)
    _write_yaml(out / "config.yaml", config | changed)
    with atomic_file(out / MODEL) as part:
        torch.save(parts[SEPARATOR], part)


def _export_recogniser(state: dict, changed: dict, source: str | Path, out: Path) -> None:
    files = find_recogniser(source)
    config = read_settings(files.config, "config.yaml of a recogniser's training")
    with atomic_directory(out) as part:
        for path in files.needs:  # what ESPnet opens when it builds the network
            shutil.copyfile(path, part / path.name)
        normalize = config.get("normalize_conf") or {}
        if normalize.get("stats_file") is not None:
            config["normalize_conf"] = normalize | {
                "stats_file": str(out / Path(normalize["stats_file"]).name)
            }
        if config.get("bpemodel") is not None:
            config["bpemodel"] = str(out / Path(config["bpemodel"]).name)
        if isinstance(config["token_list"], str):
            config["token_list"] = read_list(config["token_list"])
        # ESPnet's own keys alone: its config.yaml knows nothing of our data directories.
        _write_yaml(part / "config.yaml", config | {k: v for k, v in changed.items() if k in config})
        write_list(part / "tokens.txt", config["token_list"])
        torch.save(state, part / MODEL)


def _write_yaml(path: Path, values: dict) -> None:
    write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


_DEFAULTS = {"batch_type": "unsorted", "keep_nbest_models": 3}


def train_joint(argv: list[str], training: Training, check: bool = False) -> None:
    """Fine-tune a separator and a recogniser together; interrupted and started again, it ends in the same weights.

    Args:
        argv: options of ``mixit train joint``: ESPnet's and ours.
        training: the same, as ``Training.of(argv, ("separator", "asr"))`` reads it, and not complete.
        check: stop where all that can be checked before the training has been.

    Raises:
        UserError: whatever is wrong with settings, data or weights.
    """
    register_joint()
    args = parse(_parser(), argv)
    args.output_dir = str(training.output / "training")
    adopt(args, _given(args, argv))
    expand_joint_data(args, args.enh_separator_conf["num_spk"])
    fill_schedule(args)
    check_joint_config(args)
    unknown = check_data(args, JointTask.build_preprocess_fn(args, train=False))
    if unknown and not args.allow_unknown:
        raise UserError(f"{'; '.join(unknown)} (correct them, or give --allow_unknown true)")
    for line in unknown:
        print(f"note: {line}", file=sys.stderr)
    if check:
        return
    open_log(args)
    train(JointTask, args, training)
    export(args.output_dir, args.separator, args.asr, training.output)
    training.mark_complete()


def _parser() -> argparse.ArgumentParser:
    from espnet2.utils.types import str2bool

    parser = make_parser(JointTask, "train joint", train_joint.__doc__, _DEFAULTS)
    group = parser.add_argument_group("Joint training")
    group.add_argument("--separator", metavar="DIR", help="training directory of the separator to start from")
    group.add_argument("--asr", metavar="DIR", help="training directory of the recogniser to start from")
    group.add_argument(
        "--allow_unknown",
        type=str2bool,
        default=False,
        help="true: go on where the transcripts hold words that the recogniser has no token for, and name "
        "them; they are trained as <unk> (default: that is an error)",
    )
    return parser


def _given(args: argparse.Namespace, argv: list[str]) -> set[str]:
    """Return the settings that the user gave, in the configuration or on the command line."""
    options = {word[2:].partition("=")[0] for word in argv if word.startswith("--")}
    return options | (set(read_settings(args.config, "configuration (--config)")) if args.config else set())
