"""Train a recogniser: ESPnet's options and YAML, our data directories, strict checks.

    python -m frontend.bin.asr_train --config conf/asr.yaml \\
        --train_set data/asr_train --valid_set data/asr_dev --output_dir exp/asr

The steps of an ESPnet recipe in one process: list the tokens of the training text, collect
statistics, train, average the best epochs. OUTPUT_DIR becomes an ESPnet model that
espnet2.bin.asr_inference loads. A data directory has wav.scp (one channel) and text.

Interrupted at any moment and started again, it goes on and ends in the same weights.
"""

import argparse
import sys

from frontend.training.run import Training, make_parser, open_log, parse, train
from frontend.utils.errors import run

_DEFAULTS = {"batch_type": "numel", "keep_nbest_models": 5, "token_type": "word"}


def _add_options(parser: argparse.ArgumentParser, boolean: type) -> list[str]:
    group = parser.add_argument_group("Tokens (see also --token_type, --token_list, --bpemodel)")
    options = [
        group.add_argument("--nbpe", type=int, default=500, help="pieces of a sentencepiece model to train"),
        group.add_argument("--bpemode", default="unigram", help="how it is trained: unigram or bpe"),
        group.add_argument(
            "--allow_unknown",
            type=boolean,
            default=False,
            help="true: go on where a transcript has tokens that are not in the list, and count and "
            "name them, trained and validated as <unk>; false: that is an error",
        ),
    ]
    return [option.dest for option in options]


def main(argv: list[str] | None = None) -> int | None:
    """Parse, check, prepare, repair, train."""
    argv = sys.argv[1:] if argv is None else argv
    training = Training.of(argv, models=("token_list", "bpemodel"))
    if training.is_complete():
        return 0
    # Only now: ESPnet takes 9 s to import.
    from espnet2.utils.types import str2bool

    from frontend.recognition.training import (
        FrontendASRTask,
        check_recogniser_config,
        collect_statistics,
        finish,
        list_tokens,
        read_sets,
        register_asr,
        write_tokens,
    )

    register_asr()
    parser = make_parser(FrontendASRTask, "train recogniser", __doc__, _DEFAULTS)
    own = _add_options(parser, str2bool)
    args = parse(parser, argv)
    check_recogniser_config(args)
    texts = read_sets(args)
    tokens, notes = list_tokens(args, texts)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    open_log(args)
    write_tokens(args, tokens)
    for name in (*own, "train_set", "valid_set", "num_threads"):
        delattr(args, name)  # from here on it is ESPnet's; its config.yaml knows no others
    collect_statistics(FrontendASRTask, args, tokens)
    finish(FrontendASRTask, args)
    train(FrontendASRTask, args, training)
    if not args.dry_run:
        training.mark_complete()


if __name__ == "__main__":
    run(main)
