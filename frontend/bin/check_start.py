"""Check that a training on recordings can start from a trained model: rate, channels, architecture."""

import argparse
from pathlib import Path

from frontend.utils.errors import run


def main() -> int | None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--model", required=True, help="its training directory")
    parser.add_argument("--config", required=True, help="YAML of the training to come")
    parser.add_argument(
        "--array", required=True, help="written by bin.recordings: microphones, symmetry, rate"
    )
    parser.add_argument("--outputs", required=True, type=int, help="streams that the network is to have")
    args = parser.parse_args()
    from frontend.training.checks import check_start  # late, so that --help is quick

    mics, _, fs = Path(args.array).read_text(encoding="utf-8").split()
    check_start(args.model, args.config, int(mics), int(fs), args.outputs)


if __name__ == "__main__":
    run(main)
