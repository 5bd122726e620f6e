"""Render scenes into a mixture set: audio, images at the reference channel, tables.

Run it again after it was cut off: it goes on where it was. The audio is the same bit for bit
whatever --nj. Impulse responses are kept, so that a set with the same geometry but other speech,
levels or noise is rendered about ten times faster.
"""

import argparse

from frontend.datadir import AUDIO_FORMATS
from frontend.errors import run
from frontend.parallel import number_of_processes
from frontend.simulate_set import simulate_set


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m frontend.bin.simulate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--scenes", required=True, help="JSON lines made by frontend.bin.scenes")
    parser.add_argument("--speech", required=True, help="the speech set they were made from")
    parser.add_argument("--out", required=True, help="mixture set to write")
    parser.add_argument("--nj", type=number_of_processes, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--audio_format", choices=AUDIO_FORMATS, default="wav", help="default: %(default)s")
    parser.add_argument("--rir_cache", help="directory of impulse responses (default: OUT/rirs)")
    parser.add_argument(
        "--parts",
        action="store_true",
        help="also write all channels of each image, and the noise (image1.scp ...)",
    )
    return parser


def main() -> int | None:
    """Run the command."""
    args = _parser().parse_args()
    count = simulate_set(**vars(args))
    print(
        f"{args.out}: {count['total']} mixtures, {count['channels']} channels, {count['talkers']} talkers; "
        f"{count['rendered']} rendered now, {count['total'] - count['rendered']} were there"
    )


if __name__ == "__main__":
    run(main)
