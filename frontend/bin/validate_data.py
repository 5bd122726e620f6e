"""Check data directories: tables, ids, and every audio file they name.

Prints one line a directory and exits with 0 if all is well, else one line a problem and 2.
"""

import argparse
import sys

from frontend.data.kaldi import read_scp, validate
from frontend.utils.errors import run

MOST_SHOWN = 20


def main() -> int:
    """Parse, check, print."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("directories", nargs="+", metavar="DIR", help="speech or mixture set in Kaldi form")
    arguments = parser.parse_args()
    wrong = False
    for directory in arguments.directories:
        problems = validate(directory)
        for problem in problems[:MOST_SHOWN]:
            print(problem, file=sys.stderr)
        if len(problems) > MOST_SHOWN:
            print(f"{directory}: and {len(problems) - MOST_SHOWN} more problems", file=sys.stderr)
        if not problems:
            print(f"{directory}: valid, {len(read_scp(f'{directory}/wav.scp'))} utterances")
        wrong |= bool(problems)
    return 2 if wrong else 0


if __name__ == "__main__":
    run(main)
