"""Recognise separated long recordings: every stream is cut into segments of speech, by energy.

Writes OUT/SYSTEM/hyp.seglst.json (session: the recording, speaker: the stream, spk1 ...) and info.json. What was
recognised before is not recognised again (OUT/cache.jsonl), and what was cut off goes on where it was.
"""

import argparse
import dataclasses

from frontend.dsp.activity import Rule
from frontend.utils.errors import UserError, run
from frontend.utils.parallel import number_of_processes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--asr", help="trained recogniser: a directory, or a model beside its config.yaml")
    which.add_argument("--asr_model", metavar="TAG", help="a recogniser of espnet_model_zoo, or a packed zip")
    parser.add_argument("--config", help="options of the search, such as conf/decode.yaml")
    parser.add_argument("--data", required=True, help="whole recordings, as bin.recordings makes them")
    parser.add_argument("--separated", required=True, help="directory with one directory of streams per system")
    parser.add_argument("--out", required=True, help="directory for the words")
    parser.add_argument(
        "--leak_db",
        type=float,
        default=10.0,
        help="a stream so far below the loudest holds only what leaks into it (default: %(default)g)",
    )
    for name, what in (
        ("margin_db", "speech is so far above the noise floor"),
        ("range_db", "and no farther below the loudest parts"),
        ("min_pause", "shorter pauses are bridged, seconds"),
        ("max_seconds", "longer segments are cut at their quietest place"),
    ):
        default = getattr(Rule, name)
        parser.add_argument(f"--{name}", type=float, default=default, help=f"{what} (default: %(default)g)")
    parser.add_argument("--nj", type=number_of_processes, default=1, help="processes (default: %(default)s)")
    parser.add_argument(
        "--ngpu", type=int, default=0, help="1: on a GPU, in one process (default: %(default)s)"
    )
    return parser


def main() -> int | None:
    args = vars(_parser().parse_args())
    if (ngpu := args.pop("ngpu")) not in (0, 1):
        raise UserError(f"--ngpu: expected 0 or 1, found {ngpu} (recognition uses one GPU)")
    names = {field.name for field in dataclasses.fields(Rule)} & args.keys()
    rule = Rule(**{name: args.pop(name) for name in names})
    from frontend.recognition.decode import Request, decode  # late, so that --help is quick

    decode(Request(**args, rule=rule, device="cuda" if ngpu else "cpu"))


if __name__ == "__main__":
    run(main)
