"""Separate recordings with a trained system: one file per talker, same rate, length and level.

INPUT.wav becomes DIR/INPUT_spk1.wav, DIR/INPUT_spk2.wav ...; with --scp, ID becomes DIR/ID_spk1.wav.
Samples are written as 16-bit integers where the input is 16-bit and no stream would clip, else as
32-bit floats.
"""

import argparse

from frontend.errors import UserError, run
from frontend.packing import MAX_SECONDS


def main() -> int | None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inputs", nargs="*", metavar="INPUT.wav", help="multi-channel wav or flac files")
    parser.add_argument("--scp", help="table 'ID FILE' of recordings, instead of files")
    parser.add_argument("--model", required=True, help="trained system: exp/..., a packed directory or zip")
    parser.add_argument("-o", "--out", required=True, metavar="DIR", help="where the streams go")
    parser.add_argument("--resample", action="store_true", help="allow other sample rates than the model's")
    parser.add_argument("--refine", metavar="STEPS", help="refine the streams: mvdr, iva or mask, joined by a plus")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: %(default)s)")
    parser.add_argument(
        "--max_seconds",
        type=float,
        default=MAX_SECONDS,
        help="refuse longer recordings (default: %(default)g): each is separated as a whole, in about 4 MiB "
        "of memory per second at 8 kHz",
    )
    args = parser.parse_args()
    if not args.max_seconds > 0:
        raise UserError(f"--max_seconds: expected more than 0, found {args.max_seconds:g}")
    if bool(args.inputs) == (args.scp is not None):
        raise UserError("expected recordings either as files or as --scp wav.scp (see --help)")
    from frontend.separate_files import plan, separate_files  # late, so that --help is quick

    jobs = plan(args.inputs, args.scp, args.model, args.out, args.resample, args.refine, args.max_seconds)
    separate_files(jobs, args.model, args.resample, args.refine, args.device, args.max_seconds)


if __name__ == "__main__":
    run(main)
