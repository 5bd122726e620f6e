"""Draw the scenes of a set: room, array, talkers, levels and noise of each mixture, as JSON lines.

The scene of an id depends on configuration, speech set, seed and id alone: a larger --num
keeps the first scenes as they were. With --pairs, who is mixed with whom and the ids are given.
"""

import argparse

from frontend.data.speech import read_noises, read_speech
from frontend.simulation.config import load_config, read_count, validate_scene
from frontend.simulation.scenes import Pair, by_speaker, read_pairs, sample_scene, usable_pairs, write_scenes
from frontend.utils.errors import UserError, run
from frontend.utils.parallel import progress


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m frontend.bin.scenes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="YAML file, such as conf/scenes.yaml")
    parser.add_argument("--speech", required=True, help="speech set to draw talkers from: wav.scp, utt2spk")
    parser.add_argument("--changes", help="YAML file whose keys take the place of those of --config")
    parser.add_argument("--num", type=int, help="number of mixtures; with --pairs, at most (default: all)")
    parser.add_argument("--prefix", help="of the mixtures' ids: PREFIX_000000 ...")
    parser.add_argument("--pairs", help="list of mixtures: MIXTURE_ID UTTERANCE1 UTTERANCE2 LEVEL_DB a line")
    parser.add_argument("--seed", type=int, default=0, help="of all draws (default: %(default)s)")
    parser.add_argument("--out", required=True, help="file to write, such as data/train/scenes.jsonl")
    parser.add_argument(
        "--n_talkers", help="talkers of every mixture, instead of the configuration's: 3, or 2-3 for either"
    )
    parser.add_argument(
        "--talkers", help="the same, but the configuration's one_talker_share has one talker all the same"
    )
    parser.add_argument("--channels", type=int, help="microphones, instead of the configuration's")
    parser.add_argument(
        "--bank",
        type=int,
        metavar="N",
        help="take rooms, arrays and places from N that sets of this seed share (for training sets: their "
        "impulse responses are computed once, see frontend.bin.simulate --virtual); default: each its own",
    )
    return parser


def _mixtures(args, pairs: list[Pair], speech: dict, max_seconds: float) -> dict[str, Pair | None]:
    """Return the mixtures to make, id -> the talkers given or None."""
    if not pairs:
        return {f"{args.prefix}_{number:06d}": None for number in range(args.num)}
    usable, left_out = usable_pairs(pairs, speech, max_seconds, args.pairs)
    if left_out:
        print(left_out)
    if args.num is not None and args.num > len(usable):
        print(f"{args.pairs}: {args.num} mixtures asked for, it has {len(usable)}: all are taken")
    return {pair.id: pair for pair in usable[: args.num]}


def main() -> int | None:
    """Run the command."""
    args = _parser().parse_args()
    for option in ("num", "channels", "bank"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise UserError(f"--{option}: expected at least 1, found {value}")
    numbers = {
        option: read_count(f"--{option}", getattr(args, option))
        for option in ("n_talkers", "talkers")
        if getattr(args, option) is not None
    }
    if len(numbers) == 2:
        raise UserError("--n_talkers and --talkers both say how many talk: give one of them")
    if not args.pairs and (args.num is None or args.prefix is None):
        raise UserError("expected --num and --prefix, or --pairs; found neither")
    config = load_config(args.config, channels=args.channels, changes=args.changes, **numbers)
    pairs = read_pairs(args.pairs) if args.pairs else []
    speech = read_speech(args.speech, config.fs)
    noises = read_noises(args.speech, config.fs) if config.noise.kind == "recorded" else None
    mixtures = _mixtures(args, pairs, speech, config.max_seconds)
    speakers = by_speaker(speech, config.max_seconds)
    scenes = [
        sample_scene(name, config, speech, args.seed, pair, noises, speakers, args.bank)
        for name, pair in progress(mixtures.items(), len(mixtures), "scenes")
    ]
    for scene in scenes:
        validate_scene(scene, f"{args.out}: {scene['id']}")
    write_scenes(args.out, scenes)
    longer = sum(seconds > config.max_seconds for _, seconds in speech.values())
    print(f"{args.out}: {len(scenes)} scenes from {len(speech) - longer} utterances; {longer} are too long")


if __name__ == "__main__":
    run(main)
