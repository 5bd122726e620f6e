"""What can be wrong with the training of a recogniser, found before anything heavy starts."""

import argparse
from collections import Counter
from pathlib import Path

import humanfriendly

from frontend.asr_task import ARCHIVES, FILES
from frontend.audio import audio_file, audio_info
from frontend.errors import UserError, did_you_mean
from frontend.espnet import abs_task, asr
from frontend.parallel import progress
from frontend.tables import read_scp, scan_table
from frontend.task import read_state
from frontend.token_list import unknown
from frontend.train_checks import GIVEN, check_conf, check_gpu, given_set, lookup

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


def check(args: argparse.Namespace) -> None:
    """Check everything but the data that ESPnet would only find out with a traceback, or not at all.

    Raises:
        UserError: the first thing that is wrong.
    """
    where = args.config or "command line"
    check_gpu(args)
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
