"""Fine-tune a separator and a recogniser together, on mixtures with references and transcripts.

    python -m frontend.bin.joint_train --config conf/joint.yaml --separator exp/student_ft --asr exp/asr \\
        --train_set data/train_small --valid_set data/dev_small --output_dir exp/joint

Both networks are as their own trainings left them: the configuration holds the joint training's
settings alone. The result is a separator (OUTPUT_DIR) and a recogniser (OUTPUT_DIR/asr) that every other
command takes; the training itself lies in OUTPUT_DIR/training. Interrupted at any moment and
started again, it goes on and ends in the same weights.
"""

import argparse
import sys

from frontend.training.run import Training, make_parser, open_log, parse, train
from frontend.utils.errors import UserError, run
from frontend.utils.files import read_settings

_DEFAULTS = {"batch_type": "unsorted", "keep_nbest_models": 3}


def _parser(task: type) -> argparse.ArgumentParser:
    from espnet2.utils.types import str2bool

    parser = make_parser(task, "train joint", __doc__, _DEFAULTS)
    group = parser.add_argument_group("Joint training")
    group.add_argument("--separator", metavar="DIR", help="training directory of the separator to start from")
    group.add_argument("--asr", metavar="DIR", help="training directory of the recogniser to start from")
    group.add_argument(
        "--allow_unknown",
        type=str2bool,
        default=False,
        help="true: go on where the transcripts hold words that the recogniser has no token for, and name "
        "them; they are trained as <unk> (default: that is an error)",
    )
    return parser


def _given(args: argparse.Namespace, argv: list[str]) -> set[str]:
    """Return the settings that the user gave, in the configuration or on the command line."""
    options = {word[2:].partition("=")[0] for word in argv if word.startswith("--")}
    return options | (set(read_settings(args.config, "configuration (--config)")) if args.config else set())


def main(argv: list[str] | None = None) -> int | None:
    """Parse, check, train, export."""
    argv = sys.argv[1:] if argv is None else argv
    training = Training.of(argv, models=("separator", "asr"))
    if training.is_complete():
        return 0
    # Only now: ESPnet takes 12 s to import.
    from frontend.recognition.joint import (
        JointTask,
        adopt,
        check_data,
        check_joint_config,
        expand_joint_data,
        export,
        register_joint,
    )
    from frontend.training.checks import fill_schedule

    register_joint()
    args = parse(_parser(JointTask), argv)
    args.output_dir = str(training.output / "training")
    adopt(args, _given(args, argv))
    expand_joint_data(args, args.enh_separator_conf["num_spk"])
    fill_schedule(args)
    check_joint_config(args)
    unknown = check_data(args, JointTask.build_preprocess_fn(args, train=False))
    if unknown and not args.allow_unknown:
        raise UserError(f"{'; '.join(unknown)} (correct them, or give --allow_unknown true)")
    for line in unknown:
        print(f"note: {line}", file=sys.stderr)
    open_log(args)
    train(JointTask, args, training)
    export(args.output_dir, args.separator, args.asr, training.output)
    training.mark_complete()


if __name__ == "__main__":
    run(main)
