"""Draw the scenes of a set: room, array, talkers, levels and noise of each mixture, as JSON lines.

The scene of an id depends on configuration, speech set, seed and id alone: a larger --num
keeps the first scenes as they were.
"""

import argparse

from frontend.dry_speech import read_speech
from frontend.errors import UserError, run
from frontend.parallel import progress
from frontend.scenes import load_config, sample_scene, validate_scene, write_scenes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m frontend.bin.scenes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="YAML file, such as conf/scenes.yaml")
    parser.add_argument("--speech", required=True, help="speech set to draw talkers from: wav.scp, utt2spk")
    parser.add_argument("--num", type=int, required=True, help="number of mixtures")
    parser.add_argument("--prefix", required=True, help="of the mixtures' ids: PREFIX_000000 ...")
    parser.add_argument("--seed", type=int, default=0, help="of all draws (default: %(default)s)")
    parser.add_argument("--out", required=True, help="file to write, such as data/train/scenes.jsonl")
    parser.add_argument(
        "--n_talkers", type=int, help="talkers of every mixture, instead of the configuration's"
    )
    parser.add_argument("--channels", type=int, help="microphones, instead of the configuration's")
    return parser


def main() -> int | None:
    """Run the command."""
    args = _parser().parse_args()
    for option in ("num", "n_talkers", "channels"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise UserError(f"--{option}: expected at least 1, found {value}")
    config = load_config(args.config, args.n_talkers, args.channels)
    speech = read_speech(args.speech, config.fs)
    ids = [f"{args.prefix}_{number:06d}" for number in range(args.num)]
    scenes = [sample_scene(name, config, speech, args.seed) for name in progress(ids, len(ids), "scenes")]
    for scene in scenes:
        validate_scene(scene, f"{args.out}: {scene['id']}")
    write_scenes(args.out, scenes)
    longer = sum(seconds > config.max_seconds for _, seconds in speech.values())
    print(f"{args.out}: {len(ids)} scenes from {len(speech) - longer} utterances; {longer} are too long")


if __name__ == "__main__":
    run(main)
