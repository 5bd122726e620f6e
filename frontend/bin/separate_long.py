"""Separate whole recordings of any length by every system of a table: networks, rules, blind methods.

OUT/SYSTEM/spk1.scp, spk2.scp ... name the streams. A run that was cut off goes on; a system whose
model, settings or recordings changed is made again.
"""

import argparse

from frontend.utils.errors import run
from frontend.utils.parallel import number_of_processes


def main() -> int | None:
    from frontend.separation.continuous import HOP_S, WINDOW_S

    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--systems", required=True, help="YAML, a line a system (frontend/systems.py)")
    parser.add_argument("--exp", required=True, help="where the models lie")
    parser.add_argument("--scp", required=True, help="table 'ID FILE' of multi-channel recordings")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the systems' directories go")
    parser.add_argument(
        "--n_talkers", type=int, default=2, help="streams of rules and blind methods (default: %(default)s)"
    )
    parser.add_argument(
        "--window",
        type=float,
        default=WINDOW_S,
        help="of separation, in seconds, where a row of the table has no 'block' (default: %(default)g)",
    )
    parser.add_argument(
        "--hop",
        type=float,
        default=HOP_S,
        help="from window to window, in seconds, likewise (default: %(default)g)",
    )
    parser.add_argument(
        "--nj", type=number_of_processes, default=1, help="number of processes (default: %(default)s)"
    )
    args = parser.parse_args()
    from frontend.separation.sets import separate_long  # late, so that --help is quick

    separate_long(args.systems, args.exp, args.scp, args.out, args.n_talkers, args.window, args.hop, args.nj)


if __name__ == "__main__":
    run(main)
