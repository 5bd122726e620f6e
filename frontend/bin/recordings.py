"""Make a Kaldi data directory of a folder of multi-channel recordings, or of a table of them.

A recording is a wav or flac file of several channels, or one file a channel: NAME_ch1.wav NAME_ch2.wav,
NAME.CH1.wav, NAME-1.wav, NAME_1.wav ... (numbers from 0 or 1). All must be of one array and one rate.
"""

import argparse

from frontend.utils.errors import UserError, run
from frontend.utils.parallel import number_of_processes


def main() -> int | None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--recordings", required=True, metavar="DIR|SCP", help="the folder, or a table 'id file'"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="the data directory to make")
    parser.add_argument("--fs", type=int, help="lower the rate to this, in Hz (default: as recorded)")
    parser.add_argument(
        "--geometry",
        default="none",
        help="circular, linear, none (unknown), or a file with a line 'x y z' for each channel "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--channel_pattern",
        help="regular expression for files of one channel, matched with their names without ending; "
        "its two groups are the recording's name and the channel's number",
    )
    parser.add_argument(
        "--nj", type=number_of_processes, default=1, help="number of processes (default: %(default)s)"
    )
    args = parser.parse_args()
    if args.fs is not None and args.fs < 1000:
        raise UserError(f"--fs {args.fs}: expected a rate in Hz, such as 8000 or 16000")
    from frontend.data.recordings import prepare  # late, so that --help is quick

    prepare(args.recordings, args.out, args.fs, args.geometry, args.channel_pattern, args.nj)


if __name__ == "__main__":
    run(main)
