"""Report on separated recordings what can be known without references: OUT/REPORT.md and OUT/report.json.

Residual, leakage, activity and spatial consistency of every system's streams, the MixIT loss of the teacher
on held-out chunks, and cpWER where it was counted.
"""

import argparse

from frontend.utils.errors import run
from frontend.utils.parallel import number_of_processes


def main() -> int | None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="the whole recordings (bin.recordings)")
    parser.add_argument("--separated", required=True, help="one directory a system (bin.separate_long)")
    parser.add_argument("--systems", required=True, help="YAML, a line a system")
    parser.add_argument("--dev", required=True, help="held-out chunks (bin.chunks)")
    parser.add_argument("--teacher", required=True, help="the teacher's training directory")
    parser.add_argument("--start", help="the teacher that it started from")
    parser.add_argument("--wer", help="directory with SYSTEM.json of bin.long_wer")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the report goes")
    parser.add_argument("--talkers", type=int, default=2, help="streams a recording (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the random assignment (default: %(default)s)")
    parser.add_argument(
        "--nj", type=number_of_processes, default=1, help="number of processes (default: %(default)s)"
    )
    args = parser.parse_args()
    from frontend.report.collect import write_recordings_report  # late, so that --help is quick
    from frontend.report.pages import recordings_summary

    teachers = {**({"start": args.start} if args.start else {}), "teacher": args.teacher}
    report = write_recordings_report(
        args.data,
        args.separated,
        args.dev,
        teachers,
        args.systems,
        args.out,
        args.talkers,
        args.wer,
        args.seed,
        args.nj,
    )
    print(f"{recordings_summary(report)}\n{args.out}/REPORT.md")


if __name__ == "__main__":
    run(main)
