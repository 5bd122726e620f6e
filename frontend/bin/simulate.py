"""Render scenes into a mixture set: audio, images at the reference channel, tables.

Run it again after it was cut off: it goes on where it was. The audio is the same bit for bit
whatever --nj. Impulse responses are kept, so that a set with the same geometry but other speech,
levels or noise is rendered about ten times faster.

With --virtual no mixture is written: the set names scenes, and who reads it renders them, with the
same samples. It needs the speech and the impulse responses as long as it is used. Scenes made with
frontend.bin.scenes --bank N have N rooms however many they are, so that more mixtures are free.
"""

import argparse

from frontend.data.audio import AUDIO_FORMATS
from frontend.simulation.mixture_sets import simulate_set, virtual_set
from frontend.utils.errors import UserError, run
from frontend.utils.parallel import number_of_processes


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
    parser.add_argument("--audio_format", choices=AUDIO_FORMATS, help="default: wav")
    parser.add_argument(
        "--virtual", action="store_true", help="write no audio: it is rendered when it is read"
    )
    parser.add_argument("--rir_cache", help="directory of impulse responses (default: OUT/rirs)")
    parser.add_argument(
        "--parts",
        action="store_true",
        help="also write all channels of each image, and the noise (image1.scp ...)",
    )
    parser.add_argument(
        "--n_talkers",
        type=int,
        help="spkN.scp to write, silent where fewer talk (default: as many as in the fullest mixture)",
    )
    return parser


def main() -> int | None:
    """Run the command."""
    options = vars(_parser().parse_args())
    audio_format, out = options.pop("audio_format"), options["out"]
    if options.pop("virtual"):
        if audio_format:
            raise UserError("--audio_format: a virtual set has no audio (leave it out, or --virtual)")
        _say_virtual(out, virtual_set(**options))
        return
    count = simulate_set(audio_format=audio_format or "wav", **options)
    print(
        f"{out}: {count['total']} mixtures, {count['channels']} channels, {count['talkers']} talkers; "
        f"{count['rendered']} rendered now, {count['total'] - count['rendered']} were there"
    )


def _say_virtual(out: str, count: dict[str, int]) -> None:
    print(
        f"{out}: {count['total']} mixtures, {count['channels']} channels, {count['talkers']} talkers; "
        f"rendered when they are read, in {count['rooms']} rooms ({count['computed']} computed now); "
        f"{count['bytes'] / 1e6:.1f} MB instead of {count['rendered_bytes'] / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    run(main)
