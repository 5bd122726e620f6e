"""Make the page of the paper's two claims, over several training seeds: CLAIMS.md, claims.json, claims.png.

Each --exp is an experiment directory that was scored and decoded (stages.json, scores/, wer/), all of the
same data and test set and of another training seed (run.sh --train_seed). Rows that are missing are an
error; with --partial the page is made of what is there, and says what is not.
"""

import argparse
import os
import shlex
from pathlib import Path

from frontend.utils.errors import UserError, run


def main() -> int | None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--exp", type=Path, action="append", required=True, help="experiment directory, once a training seed"
    )
    parser.add_argument("--out", type=Path, required=True, help="directory for the page")
    parser.add_argument("--refinement", help="show the rows refined by it too, such as iva or iva+mask")
    parser.add_argument("--partial", action="store_true", help="make the page though rows are missing")
    args = parser.parse_args()
    if args.refinement == "":
        raise UserError("--refinement: expected a name such as iva, found nothing (leave it out for none)")
    from frontend.report.comparisons import write_claims  # late, so that --help is quick

    results = write_claims(args.exp, args.out, args.refinement, args.partial, _command(args))
    for line in results["missing"]:
        print(f"missing: {line}")
    print(f"Training seeds: {len(results['experiments'])}. The page: {args.out / 'CLAIMS.md'}")


def _command(args: argparse.Namespace) -> str:
    """Return the command without the names of somebody's directories."""
    options = [word for path in args.exp for word in ("--exp", os.path.relpath(path))]
    options += ["--out", os.path.relpath(args.out)]
    options += ["--refinement", args.refinement] if args.refinement else []
    options += ["--partial"] if args.partial else []
    return shlex.join(["python", "-m", "frontend.bin.claims", *options])


if __name__ == "__main__":
    run(main)
