"""Cut training and validation chunks of 3 to 8 s out of whole recordings, where somebody talks.

Where that is, the energy says, or a file: RTTM, or Kaldi's segments. The chunks for validation
are stretches of time of their own.
"""

import argparse

from frontend.utils.errors import UserError, run
from frontend.utils.parallel import number_of_processes


def main() -> int | None:
    from frontend.data.recordings import DEV_SHARE, MIN_SPEECH_S, make_chunks

    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="the whole recordings (bin.recordings)")
    parser.add_argument(
        "--out", required=True, nargs=2, metavar=("TRAIN", "DEV"), help="the two unlabelled sets to make"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--rttm", help="who talks when: SPEAKER recording 1 start duration ...")
    where.add_argument("--segments", help="Kaldi's: utterance recording start end")
    parser.add_argument(
        "--min_speech",
        type=float,
        default=MIN_SPEECH_S,
        help="least length of all chunks in seconds (default: %(default)g)",
    )
    parser.add_argument(
        "--dev_share",
        type=float,
        default=DEV_SHARE,
        help="share of the chunks for validation (default: %(default)g)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the division (default: %(default)s)")
    parser.add_argument(
        "--nj", type=number_of_processes, default=1, help="number of processes (default: %(default)s)"
    )
    args = parser.parse_args()
    if not 0 < args.dev_share < 0.5:
        raise UserError(f"--dev_share {args.dev_share:g}: expected more than 0 and less than 0.5")
    kind = "rttm" if args.rttm else "segments"
    given = (kind, args.rttm or args.segments) if args.rttm or args.segments else None
    make_chunks(args.data, tuple(args.out), given, args.min_speech, args.dev_share, args.seed, args.nj)


if __name__ == "__main__":
    run(main)
