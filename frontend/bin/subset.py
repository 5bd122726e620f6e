"""Make a data directory of a random part of another; the audio stays where it is.

Which utterances are kept depends on the seed and their ids alone, and a larger part
contains every smaller one of the same seed.
"""

import argparse

from frontend.data.kaldi import read_scp
from frontend.data.mixtures import subset
from frontend.utils.errors import UserError, run
from frontend.utils.rng import generator


def main() -> None:
    """Parse, choose, write."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--data", required=True, metavar="DIR", help="the data directory to take from")
    parser.add_argument("--out", required=True, metavar="DIR", help="the data directory to make")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--num", type=int, help="number of utterances (default: all)")
    size.add_argument("--share", type=float, help="share of the utterances, 0 < share <= 1")
    parser.add_argument("--unlabelled", action="store_true", help="leave images, texts and scenes out")
    parser.add_argument("--seed", type=int, default=0, help="of the choice (default: %(default)s)")
    arguments = parser.parse_args()
    ids = list(read_scp(f"{arguments.data}/wav.scp"))
    number = len(ids) if arguments.num is None else arguments.num
    if arguments.share is not None:
        if not 0 < arguments.share <= 1:
            raise UserError(f"--share {arguments.share}: expected a number above 0 and at most 1")
        number = max(1, round(arguments.share * len(ids)))
    if not 1 <= number <= len(ids):
        raise UserError(f"--num {number}: expected 1 to {len(ids)}, which {arguments.data}/wav.scp has")
    ids.sort(key=lambda key: (generator(arguments.seed, key, "subset").random(), key))
    subset(arguments.data, arguments.out, ids[:number], labelled=not arguments.unlabelled)
    print(f"{arguments.out}: {number} of {len(ids)} utterances of {arguments.data}")


if __name__ == "__main__":
    run(main)
