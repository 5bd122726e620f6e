"""Recognise the streams of every system on a test set: OUT/SYSTEM/{text_spk1,...,hyp.seglst.json,info.json}.

Beside the listed systems below SEPARATED it recognises `dry`, the clean speech that the test set was
simulated from. A system that has not changed is skipped, audio that was ever recognised is not recognised
again (OUT/cache.jsonl), and what was killed goes on where it was.
"""

import argparse

from frontend.utils.errors import UserError, run
from frontend.utils.parallel import number_of_processes


def main() -> int | None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--asr", help="trained recogniser: a directory, or a model beside its config.yaml")
    which.add_argument("--asr_model", metavar="TAG", help="a recogniser of espnet_model_zoo, or a packed zip")
    parser.add_argument("--config", required=True, help="options of the search, such as conf/decode.yaml")
    parser.add_argument("--data", required=True, help="labelled test set, with texts")
    parser.add_argument(
        "--separated", required=True, help="directory with one directory of streams per system"
    )
    parser.add_argument("--speech", required=True, help="dry speech that the test set was simulated from")
    parser.add_argument("--systems", required=True, help="systems file, such as conf/systems.yaml")
    parser.add_argument("--exp", required=True, help="directory that the systems' own recognisers lie in")
    parser.add_argument("--out", required=True, help="where the hypotheses go")
    parser.add_argument("--only", default="", help="some of the systems, separated by commas")
    parser.add_argument(
        "--shared", action="store_true", help="leave out systems that have a recogniser of their own"
    )
    parser.add_argument(
        "--allow_unknown",
        action="store_true",
        help="go on where reference words are not among the recogniser's tokens: each is an error",
    )
    parser.add_argument(
        "--nj", type=number_of_processes, default=1, help="number of processes (default: %(default)s)"
    )
    parser.add_argument(
        "--ngpu", type=int, default=0, help="1: recognise on a GPU, in one process (default: %(default)s)"
    )
    args = vars(parser.parse_args())
    if (ngpu := args.pop("ngpu")) not in (0, 1):
        raise UserError(f"--ngpu: expected 0 or 1, found {ngpu} (decoding uses one GPU)")
    from frontend.recognition.decode import Request, decode  # late, so that --help is quick

    args["only"] = tuple(filter(None, args["only"].split(",")))
    decode(Request(**args, device="cuda" if ngpu else "cpu"))


if __name__ == "__main__":
    run(main)
