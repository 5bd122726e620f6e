"""Compare a system of one experiment with one of another, on the same test set.

    compare_runs --a exp/espeak_ema:student --b exp/espeak:student

Prints by how much A differs from B in SI-SNRi (dB), cpWER and cpCER (points, fewer errors of A are negative),
paired by utterance, with 95 % intervals. Given several times, once for each training seed, the k-th --a is
paired with the k-th --b, and the intervals are over seeds and utterances.
"""

import argparse
import json
from pathlib import Path

from frontend.utils.errors import run
from frontend.utils.files import write_text


def main() -> int | None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for side in "ab":
        parser.add_argument(
            f"--{side}", action="append", required=True, metavar="EXP:SYSTEM", help="once, or once a seed"
        )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures to a JSON file, too")
    args = parser.parse_args()
    from frontend.evaluation.runs import compare_runs, parse_side
    from frontend.report.pages import in_words  # late, so that --help is quick
    from frontend.utils.provenance import provenance

    found = compare_runs([parse_side(text) for text in args.a], [parse_side(text) for text in args.b])
    if args.out is not None:
        write_text(args.out, json.dumps({**found, **provenance()}, indent=1, allow_nan=False) + "\n")
    print(in_words(found))


if __name__ == "__main__":
    run(main)
