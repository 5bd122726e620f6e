"""Make the table: RESULTS.md, results.json and pictures, of one or more experiments.

From scores/ and, where words were counted, wer/ and wer_separated/ of each. The main rows are printed
too; with --show, those of a report that is there already, and nothing is made.
"""

import argparse
from pathlib import Path

from frontend.report.pages import summary
from frontend.utils.errors import UserError, run


def main() -> int | None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--exp",
        type=Path,
        action="append",
        help="directory with scores/ and stages.json; several stand in one table, the first names the run",
    )
    parser.add_argument("--systems", type=Path, help="systems file; the rows keep its order")
    parser.add_argument("--out", type=Path, help="directory for the report")
    parser.add_argument(
        "--config",
        type=Path,
        action="append",
        help="YAML or shell file to embed in the page, several times (default: all YAML beside --systems)",
    )
    parser.add_argument(
        "--quality",
        type=Path,
        action="append",
        default=[],
        help="quality.json of pseudo-targets, several times, of any of the experiments",
    )
    parser.add_argument(
        "--listen",
        type=Path,
        metavar="DIR",
        help="write report.html there too, a folder to listen to: utterances of the first --exp",
    )
    parser.add_argument("--quick", action="store_true", help="mark the page: its numbers mean nothing")
    parser.add_argument(
        "--show",
        type=Path,
        metavar="DIR",
        help="print the table of the report in DIR; alone, without the others",
    )
    args = parser.parse_args()
    given = [name for name in ("exp", "systems", "out", "listen") if getattr(args, name)]
    if args.show is not None and given:
        raise UserError(f"--show prints a report that is there, --{given[0]} makes one: give one of them")
    if args.show is None:
        _make(args)
    print(summary(args.show or args.out))


def _make(args: argparse.Namespace) -> None:
    for name in ("exp", "systems", "out"):
        if not getattr(args, name):
            raise UserError(
                f"expected --{name}, found none: a report needs --exp, --systems and --out (--help)"
            )
    from frontend.report.collect import write_report  # late, so that --help is quick

    configs = args.config if args.config is not None else sorted(args.systems.parent.glob("*.yaml"))
    results = write_report(args.exp, args.systems, args.out, configs, args.quality, args.quick)
    if args.listen is not None:
        _listen(args, results)


def _listen(args: argparse.Namespace, results: dict) -> None:
    from frontend.report.listening import Picture, write_listening_page
    from frontend.separation.systems import load_systems

    said = {
        "words": ("SI-SNRi against cpWER", "cpWER over SI-SNRi, one point a system"),
        "curves": ("Learning curves", "loss of every network over its training steps"),
    }
    there = {key: args.out / name for key, name in results["pictures"].items()}
    shown = [Picture(title, there[key], alt) for key, (title, alt) in said.items() if key in there]
    page = write_listening_page(args.listen, results, args.exp[0], load_systems(args.systems), shown)
    print(f"To listen to: {page}")


if __name__ == "__main__":
    run(main)
