"""A recogniser trained as ESPnet's users train it, and able to survive a kill.

The steps are those of ESPnet's ``asr.sh``, in one process since its import takes seconds: list the tokens
(``espnet2.bin.tokenize_text``, or sentencepiece), collect statistics (``asr_train --collect_stats``), train,
average the best epochs. What can be wrong is found before. The result is an ESPnet model.

ESPnet seeds the generators of Python, NumPy and torch at the start of every epoch (``seed + epoch``), and the
order of its batches is a function of the epoch too. So dropout and SpecAugment draw in a resumed training
what they draw in an undisturbed one.
"""

import argparse
import contextlib
import copy
import io
import logging
import shlex
import shutil
import sys
from collections import Counter, UserDict
from pathlib import Path

import numpy as np
from torch import nn

from frontend.data.audio import audio_file, read_audio
from frontend.data.kaldi import read_scp, read_utterances, write_scp
from frontend.recognition.model import rate_of
from frontend.recognition.text import as_trained, unknown, what_changed
from frontend.recognition.training_sets import (
    SPECIAL,
    read_list,
    read_pieces,
    read_transcripts,
    train_pieces,
    write_list,
)
from frontend.training import checks, options, run
from frontend.training.checkpoints import read_state
from frontend.training.sharing import Worker
from frontend.training.task import FrontendTrainer, WarmupCosine
from frontend.utils import stamps
from frontend.utils.device import check_gpu
from frontend.utils.errors import UserError
from frontend.utils.espnet import abs_task, asr, quiet, tokenize_text
from frontend.utils.files import atomic_directory, read_settings, scratch

TOKENS, PIECES, STATS, STAMP = "tokens.txt", "bpe.model", "stats", "stamp.json"
FILES, ARCHIVES = "sound", "archived_sound"  # ESPnet's type of data, and ours
_DEFAULTS = {"batch_type": "numel", "keep_nbest_models": 5, "token_type": "word"}
_WANTED = {
    "iterator_type": "sequence",
    "batch_type": ("unsorted", "sorted", "folded", "length", "numel"),
    "token_type": ("word", "char", "bpe"),
    "bpemode": ("unigram", "bpe"),
}
# Settings that the task fills in itself; if a user gives them they are ignored.
_GIVEN = checks.GIVEN | {"input_size", "vocab_size", "encoder_output_size", "odim", "embed_pad", "token_list"}
_GIVEN |= {"frontend", "specaug", "normalize", "preencoder", "encoder", "postencoder", "decoder", "ctc"}
_GIVEN |= {"joint_network", "train", "token_type", "bpemodel", "text_cleaner", "g2p_type", "aux_task_names"}
# Settings that this command fills in where the user does not: it collects statistics, and counts steps.
_FILLED = frozenset({"stats_file", "total_steps"})
_OF_ATTENTION = ("acc", "cer", "wer", "loss_att")


class ArchivedSound(UserDict):
    """Recordings of a ``wav.scp`` that names archives: id -> (T,) at full scale 1.0.

    ESPnet's ``sound`` reads files alone, and its ``kaldi_ark`` gives 16-bit numbers, 90 dB louder than files.
    """

    def __init__(self, path: str):
        super().__init__(read_scp(path))

    def __getitem__(self, key: str) -> np.ndarray:
        return read_audio(self.data[key], finite=True)[0][0]


def register_asr() -> None:
    """Make our classes known to ESPnet by name; safe to call again."""
    from espnet2.train.dataset import DATA_TYPES

    abs_task.scheduler_classes["warmupcosine"] = WarmupCosine
    DATA_TYPES[ARCHIVES] = {"func": ArchivedSound, "kwargs": [], "help": "recordings in files and archives"}


def with_padding_seen(model: nn.Module) -> nn.Module:
    """Let a conformer's convolutions see the padding of a batch, as they do in ESPnet 202511.

    202611 puts zeros there. The recogniser of egs/mini then learns more slowly (docs/versions.md). Words are
    the same either way: streams are recognised without padding.
    """
    takes_mask = "_conv_takes_mask"
    for layer in model.modules():
        if hasattr(layer, takes_mask):
            setattr(layer, takes_mask, False)
    return model


class FrontendASRTask(Worker, asr.ASRTask):
    """ESPnet's recognition with a trainer that shows progress and keeps checkpoints whole."""

    trainer, register = FrontendTrainer, staticmethod(register_asr)

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> nn.Module:
        """Return ESPnet's model; a conformer's convolutions see the padding."""
        return with_padding_seen(super().build_model(args))

    @classmethod
    def steps_per_epoch(cls, args: argparse.Namespace) -> int:
        """Return the number of batches of an epoch, which for most batch types only the data tell."""
        alone = abs_task.DistributedOption()  # several GPUs share every batch
        return len(cls.build_iter_factory(args, alone, "train").build_iter(1))


def make_parser() -> tuple[argparse.ArgumentParser, list[str]]:
    """Return the parser of ``train recogniser``, and the names of the options that ESPnet does not know."""
    register_asr()
    parser = options.make_parser(
        FrontendASRTask, "train recogniser", train_recogniser.__doc__ or "", _DEFAULTS
    )
    group = parser.add_argument_group("Tokens (see also --token_type, --token_list, --bpemodel)")
    group.add_argument("--nbpe", type=int, default=500, help="pieces of a sentencepiece model to train")
    group.add_argument("--bpemode", default="unigram", help="how it is trained: unigram or bpe")
    add_allow_unknown(group)
    return parser, ["nbpe", "bpemode", "allow_unknown", "train_set", "valid_set", "num_threads"]


def add_allow_unknown(group: argparse._ArgumentGroup) -> None:
    """Add the option ``--allow_unknown`` to a parser's group."""
    from espnet2.utils.types import str2bool

    text = (
        "true: go on where transcripts have tokens that are not in the list: count and name them, train them "
    )
    text += "as <unk> (default: that is an error)"
    group.add_argument("--allow_unknown", type=str2bool, default=False, help=text)


def train_recogniser(argv: list[str], training: run.Training, check: bool = False) -> None:
    """Train a recogniser; interrupted at any moment and started again, it ends in the same weights.

    Args:
        argv: every option of ``espnet2.bin.asr_train``, ``--train_set`` and ``--valid_set`` (with ``wav.scp``
            of one channel, and ``text``), and those of :func:`make_parser`.
        training: the same, as ``Training.of(argv, ("token_list", "bpemodel"))`` reads it, and not complete.
        check: stop where all that can be checked before the training has been.

    Raises:
        UserError: whatever is wrong with settings, data, tokens or weights.
    """
    parser, own = make_parser()
    args = options.parse(parser, argv)
    check_config(args)
    texts, changes = normalise_texts(args, read_sets(args))
    tokens, notes = list_tokens(args, texts)
    for note in dict.fromkeys([*changes, *notes]):
        print(f"note: {note}", file=sys.stderr)
    if check:
        return
    run.open_log(args, training)
    args.token_list = str(Path(args.output_dir) / TOKENS)
    write_list(args.token_list, tokens)
    for name in own:
        delattr(args, name)  # from here on it is ESPnet's; its config.yaml knows no others
    collect_statistics(FrontendASRTask, args, tokens)
    checks.fill_schedule(args, lambda: FrontendASRTask.steps_per_epoch(args))
    checks.check_weights(FrontendASRTask, copy.deepcopy(args))  # it makes a list of the token file's name
    _log_command(FrontendASRTask, args)
    run.train(FrontendASRTask, args, training)
    if not args.dry_run:
        training.mark_complete()


# --- settings and data


def check_config(args: argparse.Namespace) -> None:
    """Check everything but the data that ESPnet would only find out with a traceback, or not at all.

    Raises:
        UserError: the first thing that is wrong.
    """
    where = args.config or "command line"
    check_gpu(args.ngpu)
    checks.check_values(args, _WANTED, where)
    if args.batch_type == "folded" and not args.fold_length:
        args.fold_length = [80000, 150]  # ESPnet's recipes: samples, tokens
    attention = args.decoder is not None and args.model_conf.get("ctc_weight", 0.5) < 1
    for criterion in args.best_model_criterion:
        if len(criterion) != 3 or criterion[2] not in ("min", "max"):
            raise UserError(
                f"{where}: best_model_criterion: [valid, loss, min] or the like expected, found {criterion}"
            )
        if criterion[1] in _OF_ATTENTION and not attention:
            # ESPnet reports NaN, and keeps whatever epochs come out of sorting it.
            raise UserError(
                f"{where}: best_model_criterion: {criterion[1]} is measured with a decoder, and this model "
                "has CTC alone (choose by loss or cer_ctc)"
            )
    for spec in args.init_param:
        read_state(spec.split(":")[0])
    for choice in asr.ASRTask.class_choices_list:
        name, conf = getattr(args, choice.name), getattr(args, f"{choice.name}_conf")
        if name is not None:
            cls = checks.lookup(name, choice.classes, choice.name, where)
            checks.check_conf(conf, cls, f"{choice.name}_conf", where, _GIVEN | (_FILLED - set(conf)))
        elif conf:
            raise UserError(
                f"{where}: {choice.name}_conf: settings of no {choice.name} (say which: {choice.name}: NAME)"
            )
    checks.check_optimisation(args, where, _FILLED)
    checks.check_conf(args.ctc_conf, asr.CTC, "ctc_conf", where, _GIVEN)


def read_sets(args: argparse.Namespace) -> dict[str, dict[str, str]]:
    """Check ``--train_set`` and ``--valid_set`` and turn them into ESPnet's data options, in place.

    Returns:
        the transcripts of both: ``{"train": {id: text}, "valid": ...}``.

    Raises:
        UserError: a directory or table is missing, an utterance has no transcript or an empty one, audio of
            another rate than the configuration's, of several channels, or unreadable.
    """
    where, texts = args.config or "command line", {}
    fs = (rate_of(args.frontend_conf, where), f"{where}: frontend_conf: fs")
    channels = (1, "a recogniser takes one channel: select one, or separate first")
    for which in ("train", "valid"):
        directory = checks.given_set(args, which, " (with wav.scp and text)")
        text = str(directory / "text")
        entries = read_utterances(directory)
        texts[which] = read_transcripts(text, entries)
        checks.check_audio(args, which, channels, fs, images=False, texts=False)
        wav = checks.table_for_espnet(args, which, directory / "wav.scp", entries)
        archived = any(str(audio_file(entry)) != entry for entry in entries.values())
        triples = [(wav, "speech", ARCHIVES if archived else FILES), (text, "text", "text")]
        setattr(args, f"{which}_data_path_and_name_and_type", triples)
    return texts


def normalise_texts(
    args: argparse.Namespace, texts: dict[str, dict[str, str]]
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return the transcripts of :func:`read_sets` as :func:`as_trained` has them, and notes for the user.

    What changed is given to ESPnet as a table of its own; utterances in which no word is left are taken out.

    Raises:
        UserError: no utterance is left.
    """
    tokens = read_list(args.token_list) if args.token_list else []
    tokens = read_pieces(args.bpemodel) if args.token_type == "bpe" and args.bpemodel else tokens
    notes, spelt = [], {}
    for which, table in texts.items():
        found = as_trained(table, tokens, args.token_type == "word")
        path = Path(getattr(args, f"{which}_set")) / "text"
        silent = [key for key, text in found.items() if not text]
        if len(silent) == len(found):
            raise UserError(f"{path}: expected words, found none in {len(found)} lines (add what is said)")
        if note := what_changed(table, found):
            more = f"; {len(silent)} without a word left out, such as {silent[0]}" if silent else ""
            notes.append(f"{path}: {note}{more}")
        spelt[which] = {key: text for key, text in found.items() if text}
        (wav, *kind), (_, *text_kind) = getattr(args, f"{which}_data_path_and_name_and_type")
        if silent:
            entries = {key: entry for key, entry in read_scp(wav).items() if key in spelt[which]}
            wav = checks.table_for_espnet(args, which, path.parent / "wav.scp", entries)
        text = checks.table_for_espnet(args, which, path, spelt[which])
        setattr(args, f"{which}_data_path_and_name_and_type", [(wav, *kind), (text, *text_kind)])
    return spelt, notes


# --- tokens


def list_tokens(args: argparse.Namespace, texts: dict[str, dict[str, str]]) -> tuple[list[str], list[str]]:
    """Return the tokens of ``--token_list`` or else of the training text, and notes for the user.

    Args:
        args: parsed options; a sentencepiece model is made where there is none, and named in them.
        texts: from :func:`read_sets`.

    Raises:
        UserError: a bad list, or tokens that are not in it.
    """
    from espnet2.text.build_tokenizer import build_tokenizer
    from espnet2.text.cleaner import TextCleaner

    clean = TextCleaner(args.cleaner)
    cleaned = {which: [clean(text) for text in table.values()] for which, table in texts.items()}
    tokens = read_list(args.token_list) if args.token_list else None
    if args.token_type == "bpe" and args.bpemodel is None:
        if tokens:
            raise UserError(
                "--token_list without --bpemodel: give the model that cuts text into these pieces"
            )
        args.bpemodel = str(Path(args.output_dir) / PIECES)
        train_pieces(args.bpemodel, cleaned["train"], args.nbpe, args.bpemode)
    pieces = read_pieces(args.bpemodel) if args.token_type == "bpe" else None
    symbols = args.non_linguistic_symbols
    cut = build_tokenizer(args.token_type, args.bpemodel, non_linguistic_symbols=symbols).text2tokens
    counts = {which: Counter(t for line in lines for t in cut(line)) for which, lines in cleaned.items()}
    if tokens is None:
        for special in SPECIAL.keys() & counts["train"].keys() - {"<unk>"}:
            raise UserError(f"the training text says {special}, a token of the model's own (take it out)")
        tokens = pieces or espnets_list(args)
    notes = []
    for which, counted in counts.items():
        if found := unknown(counted, tokens, args.token_type):
            line = f"{Path(getattr(args, f'{which}_set')) / 'text'}: {found}"
            if not args.allow_unknown:
                raise UserError(f"{line} (correct the text, or go on with --allow_unknown true)")
            notes.append(f"{line}; they are <unk>")
    return tokens, notes


def espnets_list(args: argparse.Namespace) -> list[str]:
    """Let ``espnet2.bin.tokenize_text`` list the words or characters of the training text, by frequency."""
    with scratch() as folder:
        out = folder / TOKENS
        words = ["--input", args.train_data_path_and_name_and_type[1][0], "--output", str(out)]
        words += ["--field", "2-", "--token_type", args.token_type, "--write_vocabulary", "true"]
        for name in ("cleaner", "non_linguistic_symbols"):
            words += [f"--{name}", str(getattr(args, name))] if getattr(args, name) else []
        for symbol, place in SPECIAL.items():
            words += ["--add_symbol", f"{symbol}:{place}"]
        with quiet(), contextlib.redirect_stderr(io.StringIO()):  # it repeats its command line
            tokenize_text.main(words)
        lines = out.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    return list(dict.fromkeys(lines))  # <unk> may be in the text


# --- statistics


def collect_statistics(task: type[FrontendASRTask], args: argparse.Namespace, tokens: list[str]) -> None:
    """Let ESPnet measure lengths and features, and point ``args`` to what it wrote, in place.

    Statistics that are there and belong to the same data, tokens and features are kept.
    """
    stats = Path(args.output_dir) / STATS
    names = ("frontend", "frontend_conf", "input_size", "token_type", "cleaner", "preprocessor_conf")
    settings = {name: getattr(args, name) for name in names}
    inputs = {"tokens": stamps.of_text("\n".join(tokens))}
    for which in ("train", "valid"):
        triples = getattr(args, f"{which}_data_path_and_name_and_type")
        inputs |= {f"{which} {name}": stamps.of_file(path) for path, name, _ in triples}
    stamp = stamps.Stamp.of(settings, inputs)
    if stamp.why_stale(stats / STAMP):
        for left_over in stats.parent.glob(f".{STATS}.*"):
            shutil.rmtree(left_over)  # of a process that was killed
        with atomic_directory(stats) as part:
            _collect(task, args, part)
            for which in ("train", "valid"):
                # As ESPnet's recipes do, for batches of so many numbers (batch_type: numel).
                lengths = read_scp(part / which / "text_shape")
                shape = {k: f"{v},{len(tokens)}" for k, v in lengths.items()}
                write_scp(part / which / f"text_shape.{args.token_type}", shape)
            (part / "config.yaml").unlink()  # it names this directory by its temporary name
            stamp.write(part / STAMP)
    for which in ("train", "valid"):
        shapes = ("speech_shape", f"text_shape.{args.token_type}")
        setattr(args, f"{which}_shape_file", [str(stats / which / name) for name in shapes])
    if args.normalize == "global_mvn":
        args.normalize_conf.setdefault("stats_file", str(stats / "train" / "feats_stats.npz"))


def _collect(task: type[FrontendASRTask], args: argparse.Namespace, out: Path) -> None:
    mine = copy.deepcopy(args)
    mine.collect_stats, mine.dry_run, mine.output_dir = True, False, str(out)
    # What may want the statistics, or the number of steps.
    mine.normalize = mine.scheduler = None
    mine.normalize_conf, mine.scheduler_conf = {}, {}
    mine.ngpu, mine.multiprocessing_distributed, mine.dist_world_size = min(args.ngpu, 1), False, 1
    _log_command(task, mine)
    with contextlib.redirect_stderr(io.StringIO()):  # it repeats the command line
        task.main(args=mine)


# --- the same by ESPnet's commands


def _log_command(task: type[FrontendASRTask], args: argparse.Namespace) -> None:
    """Write ESPnet's own command to the log.

    It does the same, without what we register and :func:`with_padding_seen`.
    """
    parser = task.get_parser()
    words = ["python", "-m", "espnet2.bin.asr_train"]
    if args.config:
        known = {action.dest for action in parser._actions}
        own = read_settings(args.config, "configuration").items()
        parser.set_defaults(**{key: value for key, value in own if key in known})
        words += ["--config", args.config]
    for name, default in sorted(vars(parser.parse_args([])).items()):
        value = getattr(args, name, default)
        if value != default and name not in ("config", "required", "print_config"):
            words += _options(name, value, default)
    but = "since 202611 it puts zeros in the padding of convolutions"
    logging.info("in ESPnet's own words (%s): %s", but, shlex.join(words))


def _options(name: str, value: object, default: object) -> list[str]:
    if isinstance(value, dict):
        before = default if isinstance(default, dict) else {}
        changed = [key for key in sorted(value) if key not in before or before[key] != value[key]]
        return [word for key in changed for word in (f"--{name}", f"{key}={value[key]}")]
    items = value if isinstance(value, list) else [value]
    texts = [",".join(item) if isinstance(item, (list, tuple)) else str(item) for item in items]
    # ESPnet's options want these in small letters.
    texts = [text.lower() if text in ("True", "False", "None") else text for text in texts]
    return [word for text in texts for word in (f"--{name}", text)]
