"""Count talkers by the streams that sound, against the truth: a table for every system that was scored.

From the scores of a test set, and of the set of one talker where DIR/one_talker is there. --out writes
OUT/talkers.json and OUT/TALKERS.md.
"""

import argparse
import json
from pathlib import Path

from frontend.evaluation.results import load_scores
from frontend.separation.systems import load_systems
from frontend.utils.errors import UserError, run
from frontend.utils.files import write_text


def main() -> int | None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scores", type=Path, required=True, metavar="DIR", help="such as exp/NAME/scores")
    parser.add_argument("--systems", required=True, help="systems file; the rows keep its order")
    parser.add_argument("--out", type=Path, help="directory for the page")
    parser.add_argument("--seed", type=int, default=0, help="of the intervals (default: %(default)s)")
    args = parser.parse_args()
    from frontend.evaluation.results import counted  # late, so that --help is quick
    from frontend.report.pages import counting_section

    scores = load_scores(args.scores)
    entries = counted(scores, load_scores(args.scores / "one_talker"), load_systems(args.systems), args.seed)
    if not entries:
        raise UserError(
            f"{args.scores}: no score of any system of {args.systems} (run the stage 'score' first)"
        )
    page = counting_section(entries)
    print(page)
    if args.out:
        write_text(args.out / "talkers.json", json.dumps(entries, indent=1) + "\n")
        title = "Made by `python -m frontend.bin.count_talkers`; not edited.\n\n"
        write_text(args.out / "TALKERS.md", title + page)


if __name__ == "__main__":
    run(main)
