"""Set up an environment for each Python from 3.11 to 3.13 that is here, and run the quick tests in it.

usage: test_matrix.py

Pythons are looked for on the PATH and below ``$PYENV_ROOT`` (default ``~/.pyenv``). Prints the table of
docs/versions.md; exit code 1 if a test failed or an environment could not be set up.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What depends on the releases of ESPnet, torch and numpy, in a few minutes: networks, losses, ESPnet's
# defects, decoding, trainings that are killed and go on, ESPnet3.
QUICK = """utils/test_espnet.py utils/test_espnet_defects.py networks dsp training/test_losses.py
    training/test_checkpoints.py training/test_espnets_trainer.py training/test_examples.py
    recognition/test_recognise.py recognition/test_joint.py egs/test_espnet3.py""".split()
VERSIONS = """import platform
from importlib.metadata import version
print(platform.python_version(), version('espnet'), version('torch'))"""


def runs(python: str | Path) -> bool:
    """Say whether a Python runs; pyenv's on the PATH do not where another one is chosen."""
    return subprocess.run([python, "-c", ""], capture_output=True).returncode == 0


def pythons() -> dict[int, str]:
    """Return an interpreter of each minor version that is here."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {}
    for minor in (11, 12, 13):
        names = [
            shutil.which(f"python3.{minor}"),
            *sorted(pyenv.glob(f"3.{minor}.*/bin/python"), reverse=True),
        ]
        if python := next((str(name) for name in names if name and runs(name)), None):
            found[minor] = python
    return found


def timed(command: list, **environment: str) -> tuple[int, str, str]:
    """Run a command; return its exit code, its output, and its seconds: by the clock (of processors)."""
    began, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    own = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONHOME")}
    done = subprocess.run(command, env={**own, **environment}, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.returncode, done.stdout, f"{time.time() - began:.0f} ({busy:.0f})"


def row(minor: int, python: str) -> tuple[bool, str]:
    """Return whether all went well, and the line of the table."""
    venv = ROOT / f".venv3{minor}"
    install = [ROOT / "local/install.sh", "--extras", "mini,test,whisper"]
    failed, _, installing = timed(install, PYTHON=python, MIXIT_VENV=str(venv))
    if failed:
        return False, f"| {python} | could not be set up | | {installing} | | |"
    interpreter = venv / "bin/python"
    versions = subprocess.run([interpreter, "-c", VERSIONS], capture_output=True, text=True).stdout.split()
    path = f"{venv}/bin:{os.environ['PATH']}"
    quick = [interpreter, "-m", "pytest", "-q", *(f"tests/{name}" for name in QUICK)]
    failed, output, testing = timed(quick, PATH=path, PYTHONPATH=str(ROOT))
    print(output, file=sys.stderr)
    last = output.strip().splitlines()[-1] if output.strip() else "no test ran"
    return not failed, f"| {' | '.join(versions)} | {installing} | {testing} | {re.sub(' in .*', '', last)} |"


def main() -> int:
    """Print the table."""
    found = pythons()
    if not found:
        print("test_matrix: error: no Python 3.11 to 3.13 here", file=sys.stderr)
        return 2
    rows = [row(minor, python) for minor, python in found.items()]
    print("| Python | ESPnet | torch | install, s (of processors) | tests, s (of processors) | tests |")
    print("| :-- | :-- | :-- | --: | --: | :-- |", *(line for _, line in rows), sep="\n")
    return not all(good for good, _ in rows)


sys.exit(main())
