"""Score separated long recordings utterance by utterance: SI-SNR, stream swaps, constancy of the streams.

DATA is a mixture set of recordings with ref.rttm, as bin/meetings writes it. With --model each utterance is
also separated alone, cut out of the mixture, and compared, paired.
"""

import argparse

from frontend.utils.errors import UserError, run


def main() -> int | None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="recordings with images (spk1.scp ...) and references")
    parser.add_argument("--streams", required=True, help="separated: spk1.scp ..., or ID_spk1.wav ...")
    parser.add_argument("--model", help="trained separator, to separate each utterance alone")
    parser.add_argument("--ref", help="who talks when: .rttm, .stm or .json (default: DATA/ref.rttm)")
    parser.add_argument("--out", required=True, metavar="FILE.json", help="where the scores go")
    parser.add_argument(
        "--least_s",
        type=float,
        default=2.5,
        help="length of what is separated alone, at least (default: %(default)g)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the intervals (default: %(default)s)")
    args = parser.parse_args()
    if not 0 < args.least_s <= 60:
        raise UserError(f"--least_s: expected more than 0 and at most 60, found {args.least_s:g}")
    from frontend.evaluation.score import Request, score_long, table  # late, so that --help is quick

    print(table(score_long(Request(**vars(args)))))


if __name__ == "__main__":
    run(main)
