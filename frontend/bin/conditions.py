"""Make the test set once more under each of some conditions: another array, room, distance, or noise.

OUT/matched is made as the configuration says, OUT/NAME with the changes of condition NAME; the utterances and
talkers of a mixture are the same in all. Run it again after it was cut off: it goes on where it was. --check
makes nothing: the conditions are read, which needs no speech.
"""

import argparse
from pathlib import Path

from frontend.data.audio import AUDIO_FORMATS
from frontend.simulation.config import read_count
from frontend.utils.errors import UserError, run
from frontend.utils.parallel import number_of_processes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="scene configuration, such as conf/scenes.yaml")
    parser.add_argument("--conditions", required=True, help="what differs, such as conf/conditions.yaml")
    parser.add_argument(
        "--changes", help="YAML file whose keys take the place of those of --config, in all sets"
    )
    parser.add_argument("--check", action="store_true", help="only check the conditions")
    parser.add_argument("--speech", help="speech set of the test talkers (but for --check, required)")
    parser.add_argument("--num", type=int, help="mixtures of each condition (likewise)")
    parser.add_argument("--out", help="directory of the mixture sets (likewise)")
    parser.add_argument("--prefix", default="test", help="of the mixtures' ids (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all draws, as of the test set (default: 0)")
    parser.add_argument("--n_talkers", default="2", help="of every mixture, such as 2-3 (default: 2)")
    parser.add_argument("--channels", type=int, help="microphones, instead of the configuration's")
    parser.add_argument("--only", help="some of the conditions, separated by commas")
    parser.add_argument("--without", help="all but some of the conditions, separated by commas")
    parser.add_argument("--nj", type=number_of_processes, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--audio_format", choices=AUDIO_FORMATS, default="wav", help="default: %(default)s")
    parser.add_argument("--rir_cache", help="directory of impulse responses (default: OUT/rirs)")
    return parser


def main() -> int | None:
    """Run the command."""
    args = _parser().parse_args()
    for option in ("num", "channels"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise UserError(f"--{option}: expected at least 1, found {value}")
    for option in () if args.check else ("speech", "num", "out"):
        if getattr(args, option) is None:
            raise UserError(f"--{option}: expected a value, found none (or --check, which makes nothing)")
    if args.only is not None and args.without is not None:
        raise UserError("--only and --without both choose conditions: give one of them")
    from frontend.simulation.conditions import load_conditions, sample_conditions, simulate_conditions

    numbers = read_count("--n_talkers", args.n_talkers)
    chosen = (args.only or args.without or "").split(",")
    if args.without is not None:  # the names are checked, too
        load_conditions(args.config, args.conditions, numbers, args.channels, chosen, args.changes)
        every = load_conditions(args.config, args.conditions, numbers, args.channels, None, args.changes)
        conditions = [one for one in every if one.name not in chosen]
    else:
        only = chosen if args.only is not None else None
        conditions = load_conditions(args.config, args.conditions, numbers, args.channels, only, args.changes)
    if args.check:
        print(f"{args.conditions}: {', '.join(one.name for one in conditions)}")
        return
    scenes = sample_conditions(conditions, args.speech, args.num, args.prefix, args.seed)
    options = {"nj": args.nj, "audio_format": args.audio_format}
    options["rir_cache"] = args.rir_cache or Path(args.out) / "rirs"
    simulate_conditions(conditions, scenes, args.speech, args.out, **options)


if __name__ == "__main__":
    run(main)
