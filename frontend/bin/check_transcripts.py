"""Check transcripts before the work: readable, words in every session, a session for each recording."""

import argparse

from frontend.utils.errors import run


def main() -> int | None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--transcripts", required=True, help="what was said: .json (SegLST) or .stm")
    parser.add_argument("--scp", required=True, help="table 'ID FILE' of the recordings (bin.recordings)")
    args = parser.parse_args()
    from frontend.evaluation.wer import check_transcripts  # late, so that --help is quick

    print(f"{args.transcripts}: {check_transcripts(args.transcripts, args.scp)} words")


if __name__ == "__main__":
    run(main)
