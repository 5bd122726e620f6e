"""Separate a test set with every system of a table: untrained, blind and trained ones.

Writes OUT/SYSTEM/{spk1.scp,spk2.scp,...,info.json}. A system that is complete is skipped; one whose
model, settings or data have changed is made again.
"""

import argparse

from frontend.utils.errors import run
from frontend.utils.parallel import number_of_processes


def main() -> int | None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--systems", required=True, help="systems file, such as conf/systems.yaml")
    parser.add_argument("--exp", required=True, help="directory with the trained models the file names")
    parser.add_argument("--data", required=True, help="mixture set to separate")
    parser.add_argument("--out", required=True, help="where the systems' directories go")
    parser.add_argument("--n_talkers", type=int, default=2, help="streams wanted (default: %(default)s)")
    parser.add_argument(
        "--nj", type=number_of_processes, default=1, help="number of processes (default: %(default)s)"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--only", help="some of the systems, separated by commas")
    which.add_argument("--blind", action="store_true", help="only what needs no trained model")
    which.add_argument("--models", action="store_true", help="only trained models")
    args = parser.parse_args()
    from frontend.separation.sets import separate_set  # late, so that --help is quick
    from frontend.separation.systems import choose, load_systems, trained

    listed = load_systems(args.systems)
    systems = trained(listed, args.exp)
    for system in listed:
        if system not in systems:
            print(f"{system.name}: optional, and not trained; left out", flush=True)
    if args.only is not None:
        systems = choose(systems, args.only.split(","), args.systems)
    elif args.blind or args.models:
        systems = [s for s in systems if bool(s.model) == args.models]
    separate_set(systems, args.exp, args.data, args.out, args.n_talkers, args.nj)


if __name__ == "__main__":
    run(main)
