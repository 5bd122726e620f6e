"""Count the word errors of long recordings by meeteval: cpWER, ORC-WER, tcpWER, of each session and of all.

References and hypotheses are SegLST (.json) or STM (.stm) of the same sessions.
"""

import argparse

from frontend.utils.errors import UserError, run


def main() -> int | None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ref", required=True, help="what was said: .json (SegLST) or .stm")
    parser.add_argument("--hyp", required=True, help="what was recognised: .json (SegLST) or .stm")
    parser.add_argument("--out", metavar="FILE.json", help="where the counts go")
    parser.add_argument(
        "--collar", type=float, default=5.0, help="of tcpWER, in seconds (default: %(default)g)"
    )
    parser.add_argument(
        "--orc_cells",
        type=float,
        default=3e8,
        help="leave ORC-WER out where words said times words of all streams pass this (default: %(default)g)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the intervals (default: %(default)s)")
    args = parser.parse_args()
    for name in ("collar", "orc_cells"):
        if not getattr(args, name) >= 0:
            raise UserError(f"--{name}: expected 0 or more, found {getattr(args, name):g}")
    from frontend.evaluation.wer import Request, count_long, table  # late, so that --help is quick

    print(table(count_long(Request(**vars(args)))))


if __name__ == "__main__":
    run(main)
