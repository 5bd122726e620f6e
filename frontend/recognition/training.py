"""The tokens of a recogniser to be trained: listed from its training text, and checked against other texts.

Words, characters, or pieces of words (sentencepiece), as ESPnet's tokenizers cut them; the list is
that of ``espnet2.bin.tokenize_text``: by frequency, between ``<blank> <unk>`` and ``<sos/eos>``.

ESPnet's recognition task, trained as ESPnet's users train it, and able to survive a kill.

ESPnet seeds the generators of Python, NumPy and torch at the start of every epoch
(``seed + epoch``), and the order of its batches is a function of the epoch too. So dropout and
SpecAugment draw in a resumed training what they draw in an undisturbed one, and what is left to do
is that of :class:`frontend.training.task.FrontendTrainer`: keep the last checkpoint whole.

What an ESPnet user does before training a recogniser: list the tokens, collect statistics.

What can be wrong with the training of a recogniser, found before anything heavy starts.
"""

import argparse
import copy
import hashlib
import io
import json
import logging
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import humanfriendly
import numpy as np

from frontend.data.audio import audio_file, audio_info, read_audio
from frontend.data.kaldi import read_scp, scan_table, write_scp
from frontend.training.checkpoints import read_state
from frontend.training.checks import GIVEN, check_conf, check_weights, given_set, lookup
from frontend.training.run import Training, make_parser, open_log, parse, train
from frontend.training.task import FrontendTrainer, WarmupCosine
from frontend.utils.device import check_gpu
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.espnet import abs_task, asr
from frontend.utils.files import atomic_directory, atomic_file, read_settings, write_text
from frontend.utils.parallel import progress

FIRST, LAST = ("<blank>", "<unk>"), "<sos/eos>"
_KINDS = {"word": "word", "char": "character", "bpe": "piece"}
_NAMED = 10  # unknown tokens in a message


def count(texts: Iterable[str], cut: Callable[[str], list[str]]) -> Counter:
    """Count the tokens of texts.

    Args:
        texts: to be cut.
        cut: text -> tokens.
    """
    counts: Counter = Counter()
    for text in texts:
        counts.update(cut(text))
    return counts


def make_list(counts: Counter) -> list[str]:
    """Return the token list of a counted text; of equally frequent tokens, the one met first comes first.

    Raises:
        UserError: the text has a token that is the model's own.
    """
    for special in (FIRST[0], LAST):
        if special in counts:
            raise UserError(
                f"the training text says {special}, a token of the model's own (take it out of the text)"
            )
    words = [token for token in counts if token not in FIRST]
    return [*FIRST, *sorted(words, key=lambda token: -counts[token]), LAST]


def read_list(path: str | Path) -> list[str]:
    """Read a token list, one token a line.

    Raises:
        UserError: no such file, a token twice, or not the special tokens in their places.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UserError(f"{path}: expected a token list (--token_list), found no such file") from None
    tokens = [line.rstrip() for line in text.removesuffix("\n").split("\n")]
    if tuple(tokens[:2]) != FIRST or tokens[-1] != LAST:
        raise UserError(
            f"{path}: expected {' '.join(FIRST)} ... {LAST}, one token a line, "
            f"found {' '.join(tokens[:2])} ... {tokens[-1]}"
        )
    for token, times in Counter(tokens).items():
        if times > 1:
            raise UserError(f"{path}: token {token} occurs {times} times (keep one of the lines)")
    return tokens


def write_list(path: str | Path, tokens: Iterable[str]) -> None:
    """Write a token list, one token a line, whole or not at all."""
    write_text(path, "".join(f"{token}\n" for token in tokens))


def unknown(counts: Counter, tokens: Iterable[str], token_type: str) -> str:
    """Say which tokens of a text are not in a list; an empty string where all are.

    >>> unknown(Counter({"FOO": 2, "ONE": 7, "BAR": 1}), ["ONE"], "word")
    "3 words unknown to the model's tokens: FOO (2), BAR (1)"
    """
    known = set(tokens)
    strange = {token: n for token, n in counts.items() if token not in known}
    if not strange:
        return ""
    total, kind = sum(strange.values()), _KINDS[token_type]
    order = sorted(strange, key=lambda token: (-strange[token], token))
    named = ", ".join(f"{token} ({strange[token]})" for token in order[:_NAMED])
    more = f" and {len(order) - _NAMED} more" if len(order) > _NAMED else ""
    return f"{total} {kind}{'s' if total > 1 else ''} unknown to the model's tokens: {named}{more}"


def train_pieces(path: str | Path, texts: Iterable[str], size: int, mode: str) -> None:
    """Train a sentencepiece model, with the settings of ESPnet's recipes, whole or not at all.

    Args:
        path: of the model to make.
        texts: to train on.
        size: of the vocabulary.
        mode: ``unigram`` or ``bpe``.

    Raises:
        UserError: the text has too few or too many different pieces for that size.
    """
    import sentencepiece  # of ESPnet's packages, and for this alone

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=size,
            model_type=mode,
            character_coverage=1.0,
            num_threads=1,  # sums in one order
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(f"--nbpe {size}: the training text gives no such vocabulary: {error}") from None
    with atomic_file(path) as part:
        part.write_bytes(model.getvalue())


def read_pieces(path: str | Path) -> list[str]:
    """Return the token list of a sentencepiece model; its own special pieces are ESPnet's.

    Raises:
        UserError: no such file, or no such model.
    """
    import sentencepiece

    try:
        model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError):
        raise UserError(f"{path}: expected a sentencepiece model (--bpemodel), found none") from None
    special = {"<unk>", "<s>", "</s>"}
    found = [model.id_to_piece(i) for i in range(model.get_piece_size())]
    return [*FIRST, *(piece for piece in found if piece not in special), LAST]


FILES, ARCHIVES = "sound", "archived_sound"  # ESPnet's type of data, and ours


class ArchivedSound(Mapping):
    """Recordings of a ``wav.scp`` that names archives: id -> (T,) at full scale 1.0.

    ESPnet's ``sound`` reads files alone, and its ``kaldi_ark`` gives 16-bit numbers, so that a
    recogniser would hear archives 90 dB louder than files.

    Args:
        path: of the table.
    """

    def __init__(self, path: str):
        self.entries = read_scp(path)

    def __getitem__(self, key: str) -> np.ndarray:
        return read_audio(self.entries[key], finite=True)[0][0]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)


def register_asr() -> None:
    """Make our classes known to ESPnet by name; safe to call again."""
    from espnet2.train.dataset import DATA_TYPES

    abs_task.scheduler_classes["warmupcosine"] = WarmupCosine
    DATA_TYPES[ARCHIVES] = {"func": ArchivedSound, "kwargs": [], "help": "recordings in files and archives"}


class FrontendASRTask(asr.ASRTask):
    """Recognition: ESPnet's task with a trainer that shows progress and keeps checkpoints whole."""

    trainer = FrontendTrainer

    @classmethod
    def steps_per_epoch(cls, args: argparse.Namespace) -> int:
        """Return the number of batches of an epoch, which for most batch types only the data tell."""
        alone = abs_task.DistributedOption()  # several GPUs share every batch
        return len(cls.build_iter_factory(args, alone, "train").build_iter(1))


TOKENS, PIECES, STATS = "tokens.txt", "bpe.model", "stats"
_WORDS = ("True", "False", "None")  # ESPnet's options want them in small letters
_STAMP = "made_from.json"


def list_tokens(args: argparse.Namespace, texts: dict[str, dict[str, str]]) -> tuple[list[str], list[str]]:
    """Settle the tokens, in place: those of ``--token_list``, or of the training text.

    Args:
        args: of the command; a sentencepiece model is made where there is none.
        texts: from :func:`frontend.recognition.training.read_sets`.

    Returns:
        the tokens, and notes for the user.

    Raises:
        UserError: a bad list, or tokens that are not in it.
    """
    from espnet2.text.build_tokenizer import build_tokenizer
    from espnet2.text.cleaner import TextCleaner

    clean = TextCleaner(args.cleaner)
    cleaned = {which: [clean(text) for text in table.values()] for which, table in texts.items()}
    tokens = read_list(args.token_list) if args.token_list else None
    if args.token_type == "bpe":
        if args.bpemodel is None:
            if tokens:
                raise UserError(
                    "--token_list without --bpemodel: give the model that cuts text into these pieces"
                )
            args.bpemodel = str(Path(args.output_dir) / PIECES)
            train_pieces(args.bpemodel, cleaned["train"], args.nbpe, args.bpemode)
        listed = read_pieces(args.bpemodel)
    tokenizer = build_tokenizer(
        args.token_type, args.bpemodel, non_linguistic_symbols=args.non_linguistic_symbols
    )
    counts = {which: count(lines, tokenizer.text2tokens) for which, lines in cleaned.items()}
    if tokens is None:
        tokens = listed if args.token_type == "bpe" else make_list(counts["train"])
    return tokens, check_tokens(args, counts, tokens)


def write_tokens(args: argparse.Namespace, tokens: list[str]) -> None:
    """Write the token list beside the model to be, and name it in ``args``."""
    args.token_list = str(Path(args.output_dir) / TOKENS)
    write_list(args.token_list, tokens)


def collect_statistics(task: type, args: argparse.Namespace, tokens: list[str]) -> None:
    """Let ESPnet measure lengths and features, and point ``args`` to what it wrote, in place.

    It is done once: statistics that are there and belong to the same data and features are kept.
    """
    stats = Path(args.output_dir) / STATS
    stamp = _stamp(args, tokens)
    if not (stats / _STAMP).is_file() or json.loads((stats / _STAMP).read_text()) != stamp:
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
            (part / _STAMP).write_text(json.dumps(stamp) + "\n")
    for which in ("train", "valid"):
        names = ("speech_shape", f"text_shape.{args.token_type}")
        setattr(args, f"{which}_shape_file", [str(stats / which / name) for name in names])
    if args.normalize == "global_mvn":
        args.normalize_conf.setdefault("stats_file", str(stats / "train" / "feats_stats.npz"))


def _collect(task: type, args: argparse.Namespace, out: Path) -> None:
    mine = copy.deepcopy(args)
    mine.collect_stats, mine.dry_run, mine.output_dir = True, False, str(out)
    # What may want the statistics, or the number of steps.
    mine.normalize = mine.scheduler = None
    mine.normalize_conf, mine.scheduler_conf = {}, {}
    mine.ngpu = min(args.ngpu, 1)
    mine.multiprocessing_distributed = False
    log_command(task, mine)
    abs_task.resolve_distributed_mode(mine)
    mine.version = abs_task.__version__
    task.main_worker(mine)


def _stamp(args: argparse.Namespace, tokens: list[str]) -> str:
    """Return a digest of what the statistics depend on."""
    data = [args.train_data_path_and_name_and_type, args.valid_data_path_and_name_and_type]
    tables = [Path(path).read_text(encoding="utf-8") for triples in data for path, _, _ in triples]
    settings = [args.frontend, args.frontend_conf, args.input_size, args.token_type, args.cleaner]
    content = json.dumps([data, tables, settings, args.preprocessor_conf, tokens])
    return hashlib.sha256(content.encode()).hexdigest()


def finish(task: type, args: argparse.Namespace) -> None:
    """Derive the length of the learning-rate schedule from that of the training, and check the weights.

    Raises:
        UserError: weights to start from (``--init_param``) that do not fit.
    """
    if args.scheduler == "warmupcosine" and "total_steps" not in args.scheduler_conf:
        steps = args.num_iters_per_epoch or task.steps_per_epoch(args)
        args.scheduler_conf["total_steps"] = args.max_epoch * max(1, steps // args.accum_grad)
    check_weights(task, copy.deepcopy(args))  # building the network makes a list of the token file's name
    log_command(task, args)


def log_command(task: type, args: argparse.Namespace) -> None:
    """Write the command of ESPnet's own that does the same to the log."""
    logging.info("in ESPnet's own words: %s", equivalent(task, args))


def equivalent(task: type, args: argparse.Namespace) -> str:
    """Return ``python -m espnet2.bin.asr_train ...``: the options that differ from its defaults.

    (ESPnet knows ``scheduler: warmupcosine`` and archives only once they are registered with it.)
    """
    config = ["--config", args.config] if args.config else []
    parser = task.get_parser()
    known = {action.dest for action in parser._actions}
    own = (
        {k: v for k, v in read_settings(args.config, "configuration").items() if k in known} if config else {}
    )
    parser.set_defaults(**own)
    words = ["python", "-m", "espnet2.bin.asr_train", *config]
    for name, default in sorted(vars(parser.parse_args([])).items()):
        value = getattr(args, name, default)
        if value != default and name not in ("config", "required", "print_config"):
            words += _options(name, value, default)
    return shlex.join(words)


def _options(name: str, value: object, default: object) -> list[str]:
    if isinstance(value, dict):
        before = default if isinstance(default, dict) else {}
        changed = [key for key in sorted(value) if key not in before or before[key] != value[key]]
        return [word for key in changed for word in (f"--{name}", f"{key}={value[key]}")]
    items = value if isinstance(value, list) else [value]
    texts = [",".join(item) if isinstance(item, (list, tuple)) else str(item) for item in items]
    return [word for text in texts for word in (f"--{name}", text.lower() if text in _WORDS else text)]


TOKEN_TYPES = ("word", "char", "bpe")
_BATCH_TYPES = ("unsorted", "sorted", "folded", "length", "numel")
# Settings that the task fills in itself; a user who gives them would be ignored.
_GIVEN = GIVEN | {"input_size", "vocab_size", "encoder_output_size", "odim", "embed_pad", "token_list"}
_GIVEN |= {"frontend", "specaug", "normalize", "preencoder", "encoder", "postencoder", "decoder", "ctc"}
_GIVEN |= {"joint_network", "train", "token_type", "bpemodel", "text_cleaner", "g2p_type", "aux_task_names"}
_OF_ATTENTION = ("acc", "cer", "wer", "loss_att")
# Settings that this command fills in where the user does not: it collects statistics, and counts steps.
_FILLED = frozenset({"stats_file", "total_steps"})


def read_sets(args: argparse.Namespace) -> dict[str, dict[str, str]]:
    """Check ``--train_set`` and ``--valid_set`` and turn them into ESPnet's data options, in place.

    Returns:
        the transcripts of both: ``{"train": {id: text}, "valid": ...}``.

    Raises:
        UserError: a directory or table is missing, an utterance has no transcript or an empty one, audio of
            another rate than the configuration's, of several channels, or unreadable.
    """
    fs, where = sampling_rate(args), args.config or "command line"
    texts = {}
    for which in ("train", "valid"):
        directory = given_set(args, which, " (with wav.scp and text)")
        wav, text = str(directory / "wav.scp"), str(directory / "text")
        entries, texts[which] = read_scp(wav), _read_texts(text)
        _match(wav, entries, text, texts[which])
        for utterance, entry in progress(entries.items(), len(entries), f"check {wav}"):
            _check_header(f"{wav}: {utterance}", entry, fs, where)
        archived = any(str(audio_file(entry)) != entry for entry in entries.values())
        triples = [(wav, "speech", ARCHIVES if archived else FILES), (text, "text", "text")]
        setattr(args, f"{which}_data_path_and_name_and_type", triples)
    return texts


def sampling_rate(args: argparse.Namespace) -> int:
    """Return the rate that the frontend is made for, in Hz."""
    fs = (args.frontend_conf or {}).get("fs", 16000)
    return humanfriendly.parse_size(fs) if isinstance(fs, str) else fs


def _read_texts(path: str) -> dict[str, str]:
    table = scan_table(path, allow_empty=True)
    if table.problems:
        raise UserError(table.problems[0])
    for utterance, text in table.entries.items():
        if not text.strip():
            raise UserError(
                f"{path}:{table.lines[utterance]}: utterance {utterance} has an empty transcript "
                "(write what is said, or take it out of the set)"
            )
    return table.entries


def _match(wav: str, entries: dict, text: str, texts: dict) -> None:
    for utterance in entries:
        if utterance not in texts:
            raise UserError(f"{text}: utterance {utterance} of {wav} has no transcript (add it)")
    for utterance in texts:
        if utterance not in entries:
            raise UserError(f"{wav}: utterance {utterance} of {text} has no audio (add it)")


def _check_header(which: str, entry: str, fs: int, where: str) -> None:
    channels, _, found = audio_info(entry)
    if found != fs:
        raise UserError(f"{which}: {fs} Hz expected ({where}: frontend_conf: fs), found {found} in {entry}")
    if channels != 1:
        raise UserError(
            f"{which}: one channel expected, found {channels} in {entry} "
            "(a recogniser hears one stream: select a channel, or separate first)"
        )


def check_recogniser_config(args: argparse.Namespace) -> None:
    """Check everything but the data that ESPnet would only find out with a traceback, or not at all.

    Raises:
        UserError: the first thing that is wrong.
    """
    where = args.config or "command line"
    check_gpu(args.ngpu)
    for key, wanted in (
        ("iterator_type", ("sequence",)),
        ("batch_type", _BATCH_TYPES),
        ("token_type", TOKEN_TYPES),
        ("bpemode", ("unigram", "bpe")),
    ):
        value = getattr(args, key)
        if value not in wanted:
            hint = did_you_mean(str(value), wanted)
            raise UserError(f"{where}: {key} must be {' or '.join(wanted)}, found {value}{hint}")
    if args.batch_type == "folded" and not args.fold_length:
        args.fold_length = [80000, 150]  # ESPnet's recipes: samples, tokens
    _check_criteria(args, where)
    for spec in args.init_param:
        read_state(spec.split(":")[0])
    _check_names(args, where)


def _check_criteria(args: argparse.Namespace, where: str) -> None:
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


def _check_names(args: argparse.Namespace, where: str) -> None:
    choices = {c.name: c.classes for c in asr.ASRTask.class_choices_list}
    choices |= {"optim": abs_task.optim_classes, "scheduler": abs_task.scheduler_classes}
    for what, classes in choices.items():
        name, conf = getattr(args, what), getattr(args, f"{what}_conf")
        if name is not None:
            cls = lookup(name, classes, what, where)
            check_conf(conf, cls, f"{what}_conf", where, _GIVEN | (_FILLED - set(conf)))
        elif conf:
            raise UserError(f"{where}: {what}_conf: settings of no {what} (say which: '{what}: NAME')")
    check_conf(args.ctc_conf, asr.CTC, "ctc_conf", where, _GIVEN)


def check_tokens(args: argparse.Namespace, counts: dict[str, Counter], tokens: list[str]) -> list[str]:
    """Return a line for each set that has tokens which are not in the list.

    Raises:
        UserError: that line, unless ``--allow_unknown true``.
    """
    notes = []
    for which, counted in counts.items():
        found = unknown(counted, tokens, args.token_type)
        if found:
            line = f"{Path(getattr(args, f'{which}_set')) / 'text'}: {found}"
            if not args.allow_unknown:
                raise UserError(f"{line} (correct the text, or go on with --allow_unknown true)")
            notes.append(f"{line}; they are <unk>")
    return notes


_DEFAULTS = {"batch_type": "numel", "keep_nbest_models": 5, "token_type": "word"}


def train_recogniser(argv: list[str], training: Training, check: bool = False) -> None:
    """Train a recogniser; interrupted and started again, it ends in the same weights.

    Args:
        argv: options of ``mixit train recogniser``: ESPnet's and ours.
        training: the same, as ``Training.of(argv, ("token_list", "bpemodel"))`` reads it, and not complete.
        check: stop where all that can be checked before the training has been.

    Raises:
        UserError: whatever is wrong with settings, data or tokens.
    """
    register_asr()
    parser = make_parser(FrontendASRTask, "train recogniser", train_recogniser.__doc__, _DEFAULTS)
    own = _add_options(parser)
    args = parse(parser, argv)
    check_recogniser_config(args)
    tokens, notes = list_tokens(args, read_sets(args))
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if check:
        return
    open_log(args)
    write_tokens(args, tokens)
    for name in (*own, "train_set", "valid_set", "num_threads"):
        delattr(args, name)  # from here on it is ESPnet's; its config.yaml knows no others
    collect_statistics(FrontendASRTask, args, tokens)
    finish(FrontendASRTask, args)
    train(FrontendASRTask, args, training)
    if not args.dry_run:
        training.mark_complete()


def _add_options(parser: argparse.ArgumentParser) -> list[str]:
    """Add the options about tokens, and return their names."""
    from espnet2.utils.types import str2bool

    group = parser.add_argument_group("Tokens (see also --token_type, --token_list, --bpemodel)")
    options = [
        group.add_argument("--nbpe", type=int, default=500, help="pieces of a sentencepiece model to train"),
        group.add_argument("--bpemode", default="unigram", help="how it is trained: unigram or bpe"),
        group.add_argument(
            "--allow_unknown",
            type=str2bool,
            default=False,
            help="true: go on where a transcript has tokens that are not in the list, and count and "
            "name them, trained and validated as <unk>; false: that is an error",
        ),
    ]
    return [option.dest for option in options]
