"""Make meeting-like long recordings: the same talkers in one room, who take turns, overlap and pause.

OUT becomes a mixture set whose utterances are the recordings, with the talkers' images (spk1.scp ...) and
references ref.rttm, ref.stm, ref.seglst.json. The recordings are the same bit for bit whatever --nj; run it
again after it was cut off: it goes on with those that are missing.
"""

import argparse

from frontend.simulation.meetings import load_meeting_config
from frontend.utils.errors import UserError, run
from frontend.utils.parallel import number_of_processes


def main() -> int | None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="YAML file, such as conf/meetings.yaml")
    parser.add_argument("--speech", required=True, help="speech set to draw talkers from: wav.scp, utt2spk")
    parser.add_argument("--num", type=int, default=1, help="number of recordings (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=20.0, help="length of each recording (default: %(default)g)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all draws (default: %(default)s)")
    parser.add_argument("--out", required=True, help="mixture set to write")
    parser.add_argument(
        "--prefix", default="meeting", help="of the ids: PREFIX_0000 ... (default: %(default)s)"
    )
    parser.add_argument(
        "--audio_format", choices=("flac", "wav"), default="flac", help="default: %(default)s"
    )
    parser.add_argument("--nj", type=number_of_processes, default=1, help="processes (default: %(default)s)")
    args = vars(parser.parse_args())
    if args["num"] < 1:
        raise UserError(f"--num: expected at least 1, found {args['num']}")
    if not 0.1 <= args["minutes"] <= 24 * 60:
        raise UserError(f"--minutes: expected 0.1 to 1440, found {args['minutes']:g}")
    if not args["prefix"] or set(args["prefix"]) & set(" \t/"):
        raise UserError(f"--prefix: expected a name without blanks or slashes, found '{args['prefix']}'")
    config = load_meeting_config(args.pop("config"))
    from frontend.simulation.meetings import Request, make_meetings, summary  # late, so that --help is quick

    meetings = make_meetings(Request(config, **args))
    print(f"{args['out']}: {summary(meetings, config.turns.overlap)}")


if __name__ == "__main__":
    run(main)
