"""Count the word errors of every system, or compare two systems that were counted.

    wer --data DIR --decoded DIR --out DIR    counts
    wer --compare A B --out DIR               compares, and counts nothing

Counting gives cpWER, cpCER (the same of characters), and ORC-WER where streams and talkers differ in number.
It writes OUT/SYSTEM.jsonl (one line an utterance), OUT/SYSTEM.txt (alignments to read), OUT/SYSTEM.json (the
rates with 95 % intervals over utterances), and the normalised texts, for meeteval's command line to count
alike: OUT/ref.seglst.json and OUT/SYSTEM.hyp.seglst.json. A system whose hypotheses have not changed is
skipped.

Comparing prints by how many points of cpWER A differs from B on the same utterances (fewer errors of A are
negative), with a 95 % interval over utterances, and the change relative to B.
"""

import argparse
from pathlib import Path

from frontend.utils.errors import UserError, run
from frontend.utils.parallel import number_of_processes


def main() -> int | None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="to count: test set with text_spk1, text_spk2, ...")
    parser.add_argument("--decoded", help="to count: directory with one directory of hypotheses per system")
    parser.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="instead of counting: two systems counted in OUT"
    )
    parser.add_argument("--out", required=True, type=Path, help="where the counts go, or were written")
    parser.add_argument("--seed", type=int, default=0, help="of the intervals (default: %(default)s)")
    parser.add_argument(
        "--nj", type=number_of_processes, default=1, help="number of processes (default: %(default)s)"
    )
    args = parser.parse_args()
    to_count = {"--data": args.data, "--decoded": args.decoded}
    given = [option for option, value in to_count.items() if value is not None]
    if args.compare and given:
        raise UserError(f"--compare counts nothing: leave {' and '.join(given)} out, or --compare")
    if not args.compare and len(given) < len(to_count):
        missing = " and ".join(option for option in to_count if option not in given)
        raise UserError(f"{missing}: expected a directory to count from, found none (or use --compare A B)")
    # late, so that --help is quick
    if args.compare:
        from frontend.evaluation.results import compared

        print(compared(args.out, *args.compare, args.seed))
    else:
        from frontend.evaluation.wer import count_word_errors

        count_word_errors(args.data, args.decoded, args.out, args.nj, args.seed)


if __name__ == "__main__":
    run(main)
