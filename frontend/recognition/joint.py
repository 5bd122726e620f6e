"""Separator and recogniser fine-tuned as one network: ESPnet's EnhS2T task with our separators and batches.

The separator's streams are put in the talkers' order by PIT on the separation loss, and that order holds for
both losses. Not by PIT on the recogniser's loss: where both streams are still mixtures their transcripts
decide nothing, it costs talkers times as many passes through the recogniser, and a talker whose two losses
disagree would be pulled both ways.

Afterwards each network is written in the form that everything else loads: the separator as a training
directory of :mod:`frontend.training.task`, the recogniser below it in ``asr/`` as one of ESPnet.
"""

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
import yaml
from espnet2.enh.loss.wrappers.pit_solver import PITSolver
from espnet2.torch_utils.device_funcs import force_gatherable
from torch.nn.utils.rnn import pad_sequence

from frontend import MODEL
from frontend.data.audio import read_audio
from frontend.data.kaldi import read_scp
from frontend.dsp.activity import sounds
from frontend.recognition.model import RecogniserFiles, find_recogniser
from frontend.recognition.text import as_trained, unknown, what_changed
from frontend.recognition.training import add_allow_unknown, with_padding_seen
from frontend.recognition.training_sets import read_list, write_list
from frontend.training import checks, options, run
from frontend.training.checkpoints import Trained, load_state, open_trained, read_state
from frontend.training.examples import WholeUtterances
from frontend.training.sharing import Worker, rank
from frontend.training.task import FrontendTask, FrontendTrainer, KeyedIterFactory, register
from frontend.utils.device import check_gpu
from frontend.utils.errors import UserError
from frontend.utils.espnet import ESPnetEnhancementModel, abs_task, enh, enh_s2t, quiet
from frontend.utils.files import atomic_directory, atomic_file, read_settings, write_text

# Prefixes of the two parts in the weights of the joint network.
SEPARATOR, RECOGNISER = "enh_model", "s2t_model"
_STARTS = {"separator": "separator", "asr": "recogniser"}  # options, and what they name
_DEFAULTS = {"batch_type": "unsorted", "keep_nbest_models": 3}
# Settings of the joint task, by their names in the two configurations.
_PARTS = ("encoder", "separator", "decoder", "mask_module")
OF_SEPARATOR = {f"enh_{part}{conf}": f"{part}{conf}" for part in _PARTS for conf in ("", "_conf")}
OF_SEPARATOR["enh_model_conf"] = "model_conf"
_SAME = """token_list token_type bpemodel non_linguistic_symbols cleaner g2p input_size ctc_conf
    frontend frontend_conf specaug specaug_conf normalize normalize_conf"""
_OWN = """preencoder preencoder_conf encoder encoder_conf postencoder postencoder_conf
    decoder decoder_conf model_conf"""
OF_RECOGNISER = {name: name for name in _SAME.split()} | {f"asr_{name}": name for name in _OWN.split()}
# What the joint training says of itself, in place of what the two said of theirs.
_TRAINING = """max_epoch num_iters_per_epoch batch_size optim optim_conf scheduler scheduler_conf seed
    init_param train_set valid_set output_dir version best_model_criterion keep_nbest_models grad_clip
    freeze_param train_data_path_and_name_and_type train_shape_file valid_data_path_and_name_and_type
    valid_shape_file"""


def train_joint(argv: list[str], training: run.Training, check: bool = False) -> None:
    """Fine-tune a separator and a recogniser together; killed and started again, it ends in the same weights.

    Args:
        argv: options of ``mixit train joint``: ESPnet's and ours.
        training: the same, as ``Training.of(argv, ("separator", "asr"))`` reads it, and not complete.
        check: stop where all that can be checked before the training has been.

    Raises:
        UserError: whatever is wrong with settings, data or weights.
    """
    register_joint()
    args = options.parse(_parser(), argv)
    args.output_dir = str(Path(args.output_dir) / "training")
    given = {word[2:].partition("=")[0] for word in argv if word.startswith("--")}
    given |= read_settings(args.config, "configuration (--config)").keys() if args.config else set()
    adopt(args, given)
    use_sets(args, args.enh_separator_conf["num_spk"])
    checks.fill_schedule(args)
    check_config(args)
    strange = check_data(args, JointTask.build_preprocess_fn(args, train=False))
    if strange and not args.allow_unknown:
        raise UserError(f"{'; '.join(strange)} (correct them, or give --allow_unknown true)")
    for line in strange:
        print(f"note: {line}", file=sys.stderr)
    if check:
        return
    run.open_log(args, training)
    run.train(JointTask, args, training)
    if not args.dry_run and not rank():
        export(args.output_dir, args.separator, args.asr, Path(args.output_dir).parent)
        training.mark_complete()


def _parser() -> argparse.ArgumentParser:
    parser = options.make_parser(JointTask, "train joint", train_joint.__doc__ or "", _DEFAULTS)
    group = parser.add_argument_group("Joint training")
    for name, network in _STARTS.items():
        group.add_argument(
            f"--{name}", metavar="DIR", help=f"training directory of the {network} to start from"
        )
    add_allow_unknown(group)
    return parser


# --- the task


def register_joint() -> None:
    """Make our classes known to the joint task too; safe to call again."""
    register()
    # EnhS2T deep-copies the choices when it is imported, whoever imported it first.
    enh_s2t.enh_separator_choices.classes.update(enh.separator_choices.classes)


class JointModel(enh_s2t.ESPnetEnhS2TModel):
    """A separator, and a recogniser that reads all of its streams.

    Args:
        enh_model: the separator.
        s2t_model: the recogniser.
        enh_weight: of the separation loss (dB) beside the recogniser's (nats per utterance).
    """

    def __init__(
        self, enh_model: ESPnetEnhancementModel, s2t_model: enh_s2t.ESPnetASRModel, enh_weight: float = 0.1
    ):
        super().__init__(enh_model, s2t_model)
        self.enh_weight = enh_weight

    def separate(self, speech: torch.Tensor, lengths: torch.Tensor) -> tuple[list[torch.Tensor], tuple]:
        """Return the streams [(B, T)] * S, and what the separation loss wants beside them.

        ESPnet's own path does without ``normalize_variance``, which :func:`adopt` refuses, and passes on to
        the recogniser what the inverse STFT gives beyond the end of a short item.
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

        ESPnet's own forward has no weight of the separation loss, skips that loss for the whole
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
            pad_sequence(
                [text for k in talkers for text in given[f"text_spk{k}"]], True, self.s2t_model.ignore_id
            ),
            torch.cat([given[f"text_spk{k}_lengths"] for k in talkers]),
        )
        loss = loss_asr + self.enh_weight * loss_enh[0]
        stats |= {"loss_asr": loss_asr.detach(), "loss_enh": stats_enh["loss"], "loss": loss.detach()}
        return force_gatherable((loss, stats, speech.shape[0]), loss.device)


class JointTask(Worker, enh_s2t.EnhS2TTask):
    """ESPnet's joint task, with whole utterances in keyed batches."""

    trainer = FrontendTrainer
    register = staticmethod(register_joint)

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
        return JointModel(parts.enh_model, with_padding_seen(parts.s2t_model), **args.model_conf)

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> WholeUtterances:
        """Build the reader of utterances; the recogniser's configuration turns texts into tokens."""
        names = [f"text_spk{k}" for k in range(1, args.enh_separator_conf["num_spk"] + 1)]
        text = super().build_preprocess_fn(argparse.Namespace(**vars(args) | {"text_name": names}), train)
        return WholeUtterances(train, text, **args.reading)

    @classmethod
    def build_sequence_iter_factory(
        cls, args: argparse.Namespace, iter_options: abs_task.IteratorOptions, mode: str
    ) -> KeyedIterFactory:
        """Batches keyed by seed and epoch, as those of the separators."""
        build = FrontendTask.__dict__["build_sequence_iter_factory"]  # of no task that ours descends from
        return build.__func__(cls, args, iter_options, mode)


# --- settings and data


def adopt(args: argparse.Namespace, given: Iterable[str]) -> None:
    """Take both networks and their weights from ``args.separator`` and ``args.asr``, in place.

    Args:
        args: parsed options.
        given: the settings that the user gave, in the configuration or on the command line.

    Raises:
        UserError: nothing trained there, a network that cannot be trained jointly, a result that would
            replace one of them, or a user who gave a setting of the networks again.
    """
    for name in sorted(set(given) & (OF_SEPARATOR.keys() | OF_RECOGNISER.keys())):
        raise UserError(
            f"{args.config or 'command line'}: {name} is what --separator and --asr were trained with, "
            "and read from there: leave it out"
        )
    for name, network in _STARTS.items():
        if getattr(args, name) is None:
            raise UserError(f"--{name} DIR is missing: the training directory of the {network} to start from")
    out = Path(args.output_dir).parent
    for name, place in (("separator", out), ("asr", out), ("asr", out / "asr")):
        start = Path(getattr(args, name))
        if (start.parent if start.is_file() else start).resolve() == place.resolve():
            raise UserError(f"--output_dir {out}: the result would replace --{name} {start} (choose another)")
    trained, separator = _separator(args.separator)
    files = _recogniser(args.asr)
    for theirs, mapping in ((separator, OF_SEPARATOR), (files.settings, OF_RECOGNISER)):
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


def _separator(path: str) -> tuple[Trained, dict]:
    if Path(path).is_file():
        raise UserError(f"--separator {path}: a directory expected, found a file (unpack it)")
    with open_trained(path) as trained:
        settings = read_settings(trained.config, "config.yaml of a training")
    for key in ("normalize_variance", "normalize_variance_per_ch"):
        if settings["model_conf"].get(key):  # ESPnet's joint model leaves it out, without a word
            raise UserError(f"{trained.config}: trained with {key}, which the joint task does not know")
    return trained, settings


def _recogniser(path: str | Path) -> RecogniserFiles:
    files = find_recogniser(path)
    settings = files.settings
    if isinstance(settings["token_list"], str):
        settings["token_list"] = read_list(settings["token_list"])
    if settings.get("model", "espnet") != "espnet" or settings.get("decoder") == "transducer":
        # The joint task builds ESPnetASRModel whatever was trained, and drops joint_net_conf.
        raise UserError(
            f"{files.config}: expected a CTC/attention recogniser (model: espnet), which is all that the "
            "joint task builds (train one with `train recogniser`)"
        )
    return files


def check_config(args: argparse.Namespace) -> None:
    """Check settings and weights before anything heavy starts.

    Raises:
        UserError: the first thing that is wrong.
    """
    where = args.config or "command line"
    check_gpu(args.ngpu)
    wanted = {"iterator_type": "sequence", "batch_type": "unsorted", "use_preprocessor": True}
    checks.check_values(args, wanted, where)
    if SEPARATOR in args.freeze_param:
        raise UserError(
            f"{where}: freeze_param: nothing is joint about a frozen separator (use `train recogniser`)"
        )
    checks.check_optimisation(args, where)
    checks.check_conf(
        args.model_conf, JointModel, "model_conf", where, checks.GIVEN | {"enh_model", "s2t_model"}
    )

    def says_whose(name: str, solver: type) -> None:
        if not issubclass(solver, PITSolver):
            # mixit's order is one of mixtures; without any, ESPnet falls back to CTC for two talkers.
            raise UserError(
                f"{where}: enh_criterions: wrapper: thresholded_pit or pit expected, which say whose stream "
                f"is whose, found {name}"
            )

    checks.check_criterions(args.enh_criterions, "enh_criterions", where, says_whose)
    with quiet():
        model = JointTask.build_model(args)
    for spec, part in zip(args.init_param, (model.enh_model, model.s2t_model), strict=True):
        path = spec.split(":")[0]
        network = f"the network of {Path(path).parent / 'config.yaml'}"
        load_state(part, read_state(path), path, network, as_named=True)


def use_sets(args: argparse.Namespace, talkers: int) -> None:
    """Turn ``--train_set`` and ``--valid_set`` into ESPnet's data options, in place.

    Raises:
        UserError: a directory or a table in it is missing, or it has another number of talkers.
    """
    for which in ("train", "valid"):
        directory = checks.given_set(args, which)
        references = checks.reference_tables(directory)
        if len(references) != talkers:
            raise UserError(
                f"{directory}: one reference (spkN.scp) per output of --separator expected: {talkers}, "
                f"found {len(references)}"
            )
        texts = {f"text_spk{k}": f"text_spk{k}" for k in range(1, talkers + 1)}
        names = {"wav.scp": "speech"} | references | texts
        checks.use_tables(args, which, directory, names, lambda path, table: _spelt(args, path, table))


def _spelt(args: argparse.Namespace, path: Path, table: Mapping[str, str]) -> dict[str, str]:
    """Return transcripts as they are trained on; what that changes is printed."""
    spelt = as_trained(table, args.token_list, args.token_type == "word")
    if note := what_changed(table, spelt):
        print(f"note: {path}: {note}", file=sys.stderr)
    return spelt


def check_data(args: argparse.Namespace, reader: WholeUtterances) -> list[str]:
    """Look at every recording's header and every transcript of both sets.

    Args:
        args: with the data options filled in by :func:`use_sets`.
        reader: as the training will use it.

    Returns:
        of each table with words that the recogniser has no token for, a line that counts and names them.

    Raises:
        UserError: the first thing that is wrong.
    """
    found, fs = [], (reader.fs, f"--separator {args.separator}")
    kind = args.token_type if args.token_type in ("word", "char") else "bpe"
    for which in ("train", "valid"):
        images: dict[str, dict[str, str]] = {}
        given = getattr(args, f"{which}_data_path_and_name_and_type")
        checks.check_audio(args, which, (reader.n_mics, fs[1]), fs)
        for path, name, _ in given:
            is_text = name.startswith("text_spk")
            table = read_scp(path, allow_empty=is_text)
            if not is_text:  # "speech" comes first, texts last
                images[name] = table
                continue
            for utterance, entry in images[name.replace("text_spk", "speech_ref")].items():
                # The recogniser would learn to pass over speech.
                if not table[utterance] and sounds(read_audio(entry)[0]).any():
                    raise UserError(
                        f"{path}: {utterance}: a transcript expected, found none, though {entry} is not "
                        "silent (add it, or leave the utterance out of the set)"
                    )
            # ESPnet turns them into <unk> without a word.
            counts = Counter(token for text in table.values() for token in reader.cut(text))
            line = unknown(counts, reader.text.token_id_converter.token_list, kind)
            found += [f"{path}: {line}"] if line else []
    return found


# --- export


def export(training: str | Path, separator: str | Path, recogniser: str | Path, out: str | Path) -> None:
    """Write ``out/config.yaml``, the averaged weights and ``out/asr``.

    Args:
        training: directory of the joint training, complete.
        separator: the training directory of the separator that it started from.
        recogniser: that of the recogniser.
        out: directory to write to; the recogniser's own files (statistics, token model) are copied, and
            are named relative to the working directory as ``out`` is.

    Raises:
        UserError: one of them is not what it should be.
    """
    training, out = Path(training), Path(out)
    joint = read_settings(training / "config.yaml", "config.yaml of a training")
    changed = {key: joint[key] for key in _TRAINING.split() if key in joint}
    parts: dict[str, dict] = {SEPARATOR: {}, RECOGNISER: {}}
    for name, value in read_state(training / MODEL).items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    _export_recogniser(parts[RECOGNISER], changed, recogniser, out / "asr")
    with open_trained(separator) as trained:
        config = read_settings(trained.config, "config.yaml of a training")
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "config.yaml", _yaml(config | changed))
    with atomic_file(out / MODEL) as path:
        torch.save(parts[SEPARATOR], path)


def _export_recogniser(state: dict, changed: dict, source: str | Path, out: Path) -> None:
    files = _recogniser(source)
    config = files.settings
    with atomic_directory(out) as part:
        for path in files.needs:  # what ESPnet opens when it builds the network
            shutil.copyfile(path, part / path.name)
        normalize = config.get("normalize_conf") or {}
        if normalize.get("stats_file") is not None:
            normalize["stats_file"] = str(out / Path(normalize["stats_file"]).name)
        if config.get("bpemodel") is not None:
            config["bpemodel"] = str(out / Path(config["bpemodel"]).name)
        # ESPnet's own keys alone: its config.yaml knows nothing of our data directories.
        config |= {key: value for key, value in changed.items() if key in config}
        (part / "config.yaml").write_text(_yaml(config), encoding="utf-8")
        write_list(part / "tokens.txt", config["token_list"])
        torch.save(state, part / MODEL)


def _yaml(values: dict) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
