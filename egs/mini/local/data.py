"""Make the speech sets of this recipe: OUT/train, OUT/dev and OUT/test in Kaldi form, 8 kHz.

The same seed gives the same sets, bit for bit, for any --nj. Every utterance is trimmed to
50 ms of silence and scaled to an active level of -26 dB re full scale.
"""

import argparse
from pathlib import Path

import digits
import espeak
from sentences import FS

from frontend.data.speech import check_out, write_sets
from frontend.utils.errors import Parser, UserError, run

CORPORA = {"fsdd": digits.plan_fsdd, "audiomnist": digits.plan_audiomnist}


def _parse() -> argparse.Namespace:
    parser = Parser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--corpus", choices=("espeak", *CORPORA), default="espeak", help="default: %(default)s"
    )
    parser.add_argument("--corpus_dir", type=Path, help="where the corpus lies (fsdd and audiomnist)")
    parser.add_argument("--out", type=Path, required=True, help="such as data/espeak/speech")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--nj", type=int, default=1, help="processes (default: %(default)s)")
    for name, number in (("train", 1200), ("dev", 150), ("test", 200)):
        parser.add_argument(f"--{name}_utts", type=int, default=number, help="default: %(default)s")
    return parser.parse_args()


def main() -> None:
    """Check, plan, render."""
    options = _parse()
    check_out(options.out, digits.SETS)
    sizes = {name: getattr(options, f"{name}_utts") for name in digits.SETS}
    for name, number in sizes.items():
        if number < 1:
            raise UserError(f"--{name}_utts {number}: expected at least 1")
    if options.corpus == "espeak":
        if options.corpus_dir:
            raise UserError(
                "--corpus_dir: espeak makes its own speech (leave the option out, or give --corpus)"
            )
        sets = espeak.plan(options.seed, sizes)
    elif options.corpus_dir is None:
        raise UserError(
            f"--corpus {options.corpus}: expected --corpus_dir DIR, found none (say where it lies)"
        )
    else:
        sets = CORPORA[options.corpus](options.corpus_dir, options.seed, sizes)
    for name, seconds in write_sets(options.out, sets, FS, options.nj).items():
        talkers = len({u.speaker for u in sets[name]})
        print(
            f"{options.out / name}: {len(sets[name])} utterances, {talkers} talkers, {seconds / 60:.1f} min"
        )


if __name__ == "__main__":
    run(main)
