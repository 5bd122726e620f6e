"""Train a separator: ESPnet's options and YAML, our data directories, strict checks.

    python -m frontend.bin.enh_train --config conf/teacher.yaml \\
        --train_set data/train --valid_set data/dev --output_dir exp/teacher

Interrupted at any moment and started again, it goes on and ends in the same weights.
"""

import sys

from frontend import train_door
from frontend.errors import run

_DEFAULTS = {"batch_type": "unsorted", "keep_nbest_models": 3}


def main(argv: list[str] | None = None) -> int | None:
    """Parse, check, repair, train."""
    argv = sys.argv[1:] if argv is None else argv
    output, digest = train_door.settle(argv)
    if train_door.is_complete(output, digest):
        return 0
    # Only now: ESPnet takes 8 s to import.
    from frontend import train_config
    from frontend.task import FrontendTask, register

    register()
    parser = train_door.make_parser(FrontendTask, "enh_train", __doc__, _DEFAULTS)
    args = train_door.parse(parser, argv)
    train_config.expand_data(args)
    train_config.fill_schedule(args)
    train_config.check(args)
    train_door.open_log(args)
    train_door.train(FrontendTask, args, digest)


if __name__ == "__main__":
    run(main)
