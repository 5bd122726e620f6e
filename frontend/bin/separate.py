"""Separate recordings with a trained system: one file per talker, same rate, length and level.

INPUT.wav becomes DIR/INPUT_spk1.wav, DIR/INPUT_spk2.wav ...; with --scp, ID becomes DIR/ID_spk1.wav.
Samples are written as 16-bit integers where the input is 16-bit and no stream would clip, else as
32-bit floats.

Recordings of any length: those above --max_seconds are separated continuously, in bounded memory:
window by window, the talkers followed from one window to the next (frontend/stitching.py).
"""

import argparse

from frontend.training.checkpoints import MAX_SECONDS
from frontend.utils.errors import UserError, run


def main() -> int | None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inputs", nargs="*", metavar="INPUT.wav", help="multi-channel wav or flac files")
    parser.add_argument("--scp", help="table 'ID FILE' of recordings, instead of files")
    parser.add_argument("--model", required=True, help="trained system: exp/..., a packed directory or zip")
    parser.add_argument("-o", "--out", required=True, metavar="DIR", help="where the streams go")
    parser.add_argument("--resample", action="store_true", help="allow other sample rates than the model's")
    parser.add_argument(
        "--refine", metavar="STEPS", help="refine the streams: mvdr, iva or mask, joined by a plus"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: %(default)s)")
    parser.add_argument(
        "--join",
        metavar="NAME",
        help="the inputs are the channels of one recording, a file each, in order; its streams are "
        "NAME_spk1.wav ...",
    )
    parser.add_argument(
        "--max_seconds",
        type=float,
        default=MAX_SECONDS,
        help="separate longer recordings in windows (default: %(default)g), shorter ones as a whole, in "
        "about 4 MiB of memory per second at 8 kHz",
    )
    parser.add_argument(
        "--window",
        type=float,
        metavar="S",
        help="length of a window; separates all that is longer in windows",
    )
    parser.add_argument("--hop", type=float, metavar="S", help="between windows (default: half a window)")
    args = parser.parse_args()
    if not args.max_seconds > 0:
        raise UserError(f"--max_seconds: expected more than 0, found {args.max_seconds:g}")
    if bool(args.inputs) == (args.scp is not None):
        raise UserError("expected recordings either as files or as --scp wav.scp (see --help)")
    if args.join is not None and not (args.join and args.inputs):
        raise UserError(
            "--join NAME: expected a name and the channels of one recording as files (see --help)"
        )
    from frontend.separation.files import How, plan, separate_files  # late, so that --help is quick

    how = How(args.resample, args.refine, args.device, args.max_seconds, args.window, args.hop)
    jobs = plan(args.inputs, args.scp, args.model, args.out, args.resample, args.refine, join=args.join)
    separate_files(jobs, args.model, how)


if __name__ == "__main__":
    run(main)
