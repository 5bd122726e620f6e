"""What an ESPnet user does before training a recogniser: list the tokens, collect statistics."""

import argparse
import copy
import hashlib
import json
import logging
import shlex
import shutil
from pathlib import Path

from frontend import atomic, token_list
from frontend.asr_config import check_tokens
from frontend.errors import UserError
from frontend.espnet import abs_task
from frontend.tables import read_scp, write_scp
from frontend.train_checks import check_weights
from frontend.yaml_file import read_settings

TOKENS, PIECES, STATS = "tokens.txt", "bpe.model", "stats"
_WORDS = ("True", "False", "None")  # ESPnet's options want them in small letters
_STAMP = "made_from.json"


def list_tokens(args: argparse.Namespace, texts: dict[str, dict[str, str]]) -> tuple[list[str], list[str]]:
    """Settle the tokens, in place: those of ``--token_list``, or of the training text.

    Args:
        args: of the command; a sentencepiece model is made where there is none.
        texts: from :func:`frontend.asr_config.read_sets`.

    Returns:
        the tokens, and notes for the user.

    Raises:
        UserError: a bad list, or tokens that are not in it.
    """
    from espnet2.text.build_tokenizer import build_tokenizer
    from espnet2.text.cleaner import TextCleaner

    clean = TextCleaner(args.cleaner)
    cleaned = {which: [clean(text) for text in table.values()] for which, table in texts.items()}
    tokens = token_list.read_list(args.token_list) if args.token_list else None
    if args.token_type == "bpe":
        if args.bpemodel is None:
            if tokens:
                raise UserError(
                    "--token_list without --bpemodel: give the model that cuts text into these pieces"
                )
            args.bpemodel = str(Path(args.output_dir) / PIECES)
            token_list.train_pieces(args.bpemodel, cleaned["train"], args.nbpe, args.bpemode)
        listed = token_list.read_pieces(args.bpemodel)
    tokenizer = build_tokenizer(
        args.token_type, args.bpemodel, non_linguistic_symbols=args.non_linguistic_symbols
    )
    counts = {which: token_list.count(lines, tokenizer.text2tokens) for which, lines in cleaned.items()}
    if tokens is None:
        tokens = listed if args.token_type == "bpe" else token_list.make_list(counts["train"])
    return tokens, check_tokens(args, counts, tokens)


def write_tokens(args: argparse.Namespace, tokens: list[str]) -> None:
    """Write the token list beside the model to be, and name it in ``args``."""
    args.token_list = str(Path(args.output_dir) / TOKENS)
    token_list.write_list(args.token_list, tokens)


def collect_statistics(task: type, args: argparse.Namespace, tokens: list[str]) -> None:
    """Let ESPnet measure lengths and features, and point ``args`` to what it wrote, in place.

    It is done once: statistics that are there and belong to the same data and features are kept.
    """
    stats = Path(args.output_dir) / STATS
    stamp = _stamp(args, tokens)
    if not (stats / _STAMP).is_file() or json.loads((stats / _STAMP).read_text()) != stamp:
        for left_over in stats.parent.glob(f".{STATS}.*"):
            shutil.rmtree(left_over)  # of a process that was killed
        with atomic.directory(stats) as part:
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
