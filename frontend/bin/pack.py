"""Pack a trained system into one directory, or one zip, that loads on another machine."""

import argparse

from frontend.training.checkpoints import pack
from frontend.utils.errors import run


def main() -> int | None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--model", required=True, help="training directory, such as exp/espeak/student")
    parser.add_argument("--out", required=True, help="directory to make, or a file to make that ends in .zip")
    args = parser.parse_args()
    packed = pack(args.model, args.out)
    print(f"{args.out}: {packed.n_mics} channel(s) at {packed.fs} Hz to {packed.n_outputs} streams")


if __name__ == "__main__":
    run(main)
