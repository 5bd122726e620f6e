"""Make the table: RESULTS.md, results.json and curves.png from the scores of one or more experiments."""

import argparse
from pathlib import Path

from frontend.errors import run


def main() -> int | None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--exp",
        type=Path,
        action="append",
        required=True,
        help="directory with scores/ and stages.json; several stand in one table, the first names the run",
    )
    parser.add_argument("--systems", type=Path, required=True, help="systems file; the rows keep its order")
    parser.add_argument("--out", type=Path, required=True, help="directory for the report")
    parser.add_argument(
        "--config",
        type=Path,
        action="append",
        help="file to embed in the page, several times (default: all YAML files beside --systems)",
    )
    parser.add_argument(
        "--quality",
        type=Path,
        action="append",
        default=[],
        help="quality.json of pseudo-targets, several times",
    )
    parser.add_argument("--quick", action="store_true", help="mark the page: its numbers mean nothing")
    args = parser.parse_args()
    from frontend.report import write_report  # late, so that --help is quick

    configs = args.config if args.config is not None else sorted(args.systems.parent.glob("*.yaml"))
    results = write_report(args.exp, args.systems, args.out, configs, args.quality, args.quick)
    print(f"{args.out / 'RESULTS.md'}: {len(results['rows'])} rows")


if __name__ == "__main__":
    run(main)
