"""What a stage costs as jobs of Slurm beside its own time: an array of two parts and a job, which only sleep.

    python -m benchmarks.launcher [--seconds 300]

It needs a Slurm on this machine.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from frontend.pipeline import commands
from frontend.pipeline.config import ROOT, Setting, read_launcher
from frontend.pipeline.launch import Slurm
from frontend.utils.errors import run
from frontend.utils.stamps import Stamp


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0)
    seconds = parser.parse_args().seconds
    asked = [Setting.read(text) for text in ("launcher.array=2", "launcher.memory=0.5")]
    settings = read_launcher(ROOT / "egs/mini", asked)
    commands.SHARDED, settings["./sleep.py"] = ("./sleep.py",), settings["other"]
    with tempfile.TemporaryDirectory(dir=".") as folder:
        os.chdir(folder)
        Path("sleep.py").write_text(f"import time\ntime.sleep({seconds / 2})\n")
        launcher, begun = Slurm(Path("exp"), settings, 1), time.monotonic()
        launcher.claim({"sleep": Stamp.of({}, {})})
        launcher.run("sleep", [["./sleep.py"]], Path("exp/log/sleep.log"))
        more = time.monotonic() - begun - seconds
        print(f"{seconds:.0f} s of work took {more:.1f} s more in two jobs: {100 * more / seconds:.1f} %")
        os.chdir("..")


if __name__ == "__main__":
    run(main)
