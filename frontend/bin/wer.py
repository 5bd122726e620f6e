"""Count the word errors of every system: cpWER, and ORC-WER where streams and talkers differ in number.

Writes OUT/SYSTEM.jsonl (one line an utterance), OUT/SYSTEM.txt (alignments to read) and OUT/SYSTEM.json (the
rates with 95 % intervals over utterances). A system whose hypotheses have not changed is skipped.
"""

import argparse

from frontend.errors import run
from frontend.parallel import number_of_processes


def main() -> int | None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="test set with text_spk1, text_spk2, ...")
    parser.add_argument(
        "--decoded", required=True, help="directory with one directory of hypotheses per system"
    )
    parser.add_argument("--out", required=True, help="where the counts go")
    parser.add_argument("--seed", type=int, default=0, help="of the intervals (default: %(default)s)")
    parser.add_argument(
        "--nj", type=number_of_processes, default=1, help="number of processes (default: %(default)s)"
    )
    args = parser.parse_args()
    from frontend.wer_set import count_word_errors  # late, so that --help is quick

    count_word_errors(args.data, args.decoded, args.out, args.nj, args.seed)


if __name__ == "__main__":
    run(main)
