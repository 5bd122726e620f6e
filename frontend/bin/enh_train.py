"""Train a separator: ESPnet's options and YAML, our data directories, strict checks.

    python -m frontend.bin.enh_train --config conf/teacher.yaml \\
        --train_set data/train --valid_set data/dev --output_dir exp/teacher

Interrupted at any moment and started again, it goes on and ends in the same weights.
"""

import sys

from frontend.training.run import is_complete, make_parser, open_log, output_and_digest, parse, train
from frontend.utils.errors import run

_DEFAULTS = {"batch_type": "unsorted", "keep_nbest_models": 3}


def main(argv: list[str] | None = None) -> int | None:
    """Parse, check, repair, train."""
    argv = sys.argv[1:] if argv is None else argv
    output, digest = output_and_digest(argv)
    if is_complete(output, digest):
        return 0
    # Only now: ESPnet takes 8 s to import.
    from frontend.training.checks import check_config, expand_data, fill_schedule
    from frontend.training.task import FrontendTask, register

    register()
    parser = make_parser(FrontendTask, "enh_train", __doc__, _DEFAULTS)
    args = parse(parser, argv)
    expand_data(args)
    fill_schedule(args)
    check_config(args)
    open_log(args)
    train(FrontendTask, args, digest)


if __name__ == "__main__":
    run(main)
