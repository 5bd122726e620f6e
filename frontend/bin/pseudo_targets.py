"""Label a set of mixtures with a trained network's streams: pseudo-targets for the next network.

OUT becomes a mixture set whose spk1.scp, spk2.scp ... are the targets. A run that was cut off goes
on at the next utterance; a set that is complete is left as it is.
"""

import argparse

from frontend.utils.errors import run
from frontend.utils.parallel import number_of_processes


def main() -> int | None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="trained system: exp/..., a packed directory or zip")
    parser.add_argument("--data", required=True, help="mixture set to label, such as data/train_unlabelled")
    parser.add_argument("--out", required=True, help="mixture set to make, such as data/train_pseudo")
    parser.add_argument("--config", help="YAML with rule, n_talkers, refine and the rule's settings")
    parser.add_argument(
        "--rule",
        help="how outputs become targets: all, energy, energy+residual, spatial_merge (over --config)",
    )
    parser.add_argument("--n_talkers", type=int, help="targets per mixture (over --config; default: 2)")
    parser.add_argument(
        "--refine", metavar="STEPS", help="refine the targets: mvdr, iva or mask, several joined by a plus"
    )
    parser.add_argument("--reference", help="labelled set to compare with, for information")
    parser.add_argument(
        "--nj", type=number_of_processes, default=1, help="number of processes (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: %(default)s)")
    args = parser.parse_args()
    from frontend.separation.labels import label_set, load_labelling  # late, so that --help is quick

    labelling = load_labelling(args.config, rule=args.rule, n_talkers=args.n_talkers, refine=args.refine)
    label_set(args.model, args.data, args.out, labelling, args.nj, args.device, args.reference)


if __name__ == "__main__":
    run(main)
