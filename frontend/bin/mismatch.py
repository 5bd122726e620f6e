"""Make the table of conditions that the training did not see: MISMATCH.md and mismatch.json.

From EXP/mismatch/CONDITION/scores, made by frontend.bin.score of the sets of frontend.bin.conditions, and
from the scores of experiments with other numbers of microphones.
"""

import argparse
from pathlib import Path

from frontend.utils.errors import run


def main() -> int | None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--exp", type=Path, required=True, help="experiment with mismatch/ and stages.json")
    parser.add_argument("--systems", type=Path, required=True, help="systems file; columns keep its order")
    parser.add_argument("--out", type=Path, required=True, help="directory for the page")
    parser.add_argument(
        "--microphones",
        type=Path,
        nargs="*",
        default=[],
        metavar="EXP",
        help="experiments with other numbers of microphones, such as exp/NAME_2ch",
    )
    parser.add_argument(
        "--conditions",
        type=Path,
        help="file of conditions: no others are shown (default: all that were scored)",
    )
    args = parser.parse_args()
    from frontend.report.comparisons import write_mismatch  # late, so that --help is quick

    write_mismatch(args.exp, args.systems, args.out, args.microphones, args.conditions)
    print((args.out / "MISMATCH.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    run(main)
