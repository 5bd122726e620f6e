"""Transcribe one multi-channel recording of several talkers: separate it, then recognise each stream.

Prints one transcript per talker: as text `spk1: WORDS`, as SegLST JSON, or as STM lines
`INPUT 1 spk1 START END WORDS`. The talkers' order is the separator's.
"""

import argparse

from frontend.training.checkpoints import MAX_SECONDS
from frontend.utils.errors import UserError, run
from frontend.utils.files import write_text


def main() -> int | None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", metavar="INPUT.wav", help="multi-channel wav or flac file")
    parser.add_argument(
        "--separator",
        required=True,
        metavar="DIR",
        help="trained separator: exp/..., a packed directory or zip",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--asr", help="trained recogniser: a directory, or a model beside its config.yaml")
    which.add_argument("--asr_model", metavar="TAG", help="a recogniser of espnet_model_zoo, or a packed zip")
    parser.add_argument(
        "--config", help="options of the search, such as conf/decode.yaml (default: ESPnet's)"
    )
    parser.add_argument(
        "--format", choices=("text", "json", "stm"), default="text", help="(default: %(default)s)"
    )
    parser.add_argument("-o", "--out", metavar="FILE", help="write there instead of to standard output")
    parser.add_argument("--save_streams", metavar="DIR", help="keep the streams: DIR/INPUT_spk1.wav, ...")
    parser.add_argument("--resample", action="store_true", help="allow other sample rates than the models'")
    parser.add_argument(
        "--refine", metavar="STEPS", help="refine the streams: mvdr, iva or mask, joined by a plus"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: %(default)s)")
    parser.add_argument(
        "--max_seconds",
        type=float,
        default=MAX_SECONDS,
        help="refuse longer recordings (default: %(default)g)",
    )
    args = vars(parser.parse_args())
    if not args["max_seconds"] > 0:
        raise UserError(f"--max_seconds: expected more than 0, found {args['max_seconds']:g}")
    out, form = args.pop("out"), args.pop("format")
    from frontend.recognition.decode import (  # late, so that --help is quick
        FileRequest,
        in_format,
        recognise_file,
    )

    transcript = in_format(recognise_file(FileRequest(**args)), form)
    if out:
        write_text(out, transcript + "\n")
    else:
        print(transcript)


if __name__ == "__main__":
    run(main)
