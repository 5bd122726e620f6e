"""Train a separator: ESPnet's options and YAML, our data directories, strict checks.

    python -m frontend.bin.enh_train --config conf/teacher.yaml \\
        --train_set data/train --valid_set data/dev --output_dir exp/teacher

Interrupted at any moment and started again, it goes on and ends in the same weights.
"""

import sys

from frontend.training.run import train_separator
from frontend.utils.errors import run


def main(argv: list[str] | None = None) -> int | None:
    """Parse, check, repair, train."""
    train_separator(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    run(main)
