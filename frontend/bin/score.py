"""Score the separated streams of every system: SI-SNR, SDR, STOI, PESQ, over-separation.

Writes OUT/SYSTEM.jsonl (one line an utterance) and OUT/SYSTEM.json (what it was measured on);
those of the one-talker set go to OUT/one_talker. A system whose streams have not changed is skipped.
"""

import argparse
from pathlib import Path

from frontend.dsp.metrics import ACTIVE_DB
from frontend.utils.errors import UserError, run
from frontend.utils.parallel import number_of_processes


def main() -> int | None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="labelled test set")
    parser.add_argument(
        "--separated", required=True, help="directory with one directory of streams per system"
    )
    parser.add_argument("--single_data", help="test set with one talker, for over-separation")
    parser.add_argument("--single_separated", help="the systems' streams on that set")
    parser.add_argument("--out", required=True, help="where the scores go")
    parser.add_argument(
        "--measures",
        default="sdr,stoi,pesq",
        help="beside SI-SNR and over-separation, separated by commas, may be empty (default: %(default)s)",
    )
    parser.add_argument(
        "--active_db",
        type=float,
        default=ACTIVE_DB,
        help="an output is active above this level in dB relative to the mixture (default: %(default)s)",
    )
    parser.add_argument(
        "--nj", type=number_of_processes, default=1, help="number of processes (default: %(default)s)"
    )
    args = parser.parse_args()
    from frontend.evaluation.score import Settings, score_systems  # late, so that --help is quick

    if (args.single_data is None) != (args.single_separated is None):
        raise UserError("--single_data and --single_separated belong together: give both or none")
    measures = tuple(filter(None, args.measures.split(",")))
    settings = Settings(measures, args.active_db)
    score_systems(args.data, args.separated, args.out, settings, args.nj)
    if args.single_data is not None:
        # A talker alone has nothing to be separated from: only over-separation is asked of this set.
        single = Settings((), args.active_db)
        score_systems(args.single_data, args.single_separated, Path(args.out) / "one_talker", single, args.nj)


if __name__ == "__main__":
    run(main)
