"""Is this environment complete? Exit code 1 and the list of what is wrong if not.

usage: check_install.py REPOSITORY extra,extra

Every requirement of setup.cfg is installed in a version it allows, ``frontend``
is the one of this repository, and torch and torchaudio import. The import takes
seconds; once it worked, a file in the environment says so for these versions.
"""

import configparser
import contextlib
import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def requirements(root: Path, extras: str) -> list[str]:
    """Return what is expected and not found."""
    from packaging.requirements import Requirement

    config = configparser.ConfigParser()
    config.read(root / "setup.cfg")
    lines = config["options"]["install_requires"].splitlines()
    for extra in filter(None, extras.split(",")):
        lines += config["options.extras_require"][extra].splitlines()
    wanted = map(Requirement, filter(None, lines))
    found = [(want, version(want.name)) for want in wanted]
    return [
        f"expected {want}, found {have or 'none'}"
        for want, have in found
        if have is None or not want.specifier.contains(have, prereleases=True)
    ]


def package(root: Path) -> list[str]:
    """The module called ``frontend`` must be ours: others bear that name."""
    found = importlib.util.find_spec("frontend")
    if found is None or found.origin is None or root not in Path(found.origin).resolve().parents:
        return [f"expected the package frontend of {root}, found {found.origin if found else 'none'}"]
    return []


def torch_imports() -> list[str]:
    mark = Path(sys.prefix) / "frontend-torch-imports"
    versions = f"torch {version('torch')} torchaudio {version('torchaudio')}\n"
    with contextlib.suppress(OSError):
        if mark.read_text() == versions:
            return []
    done = subprocess.run([sys.executable, "-c", "import torch, torchaudio"], capture_output=True, text=True)
    if done.returncode:
        return [f"{versions.strip()} do not import: {(done.stderr.splitlines() or ['killed'])[-1]}"]
    with contextlib.suppress(OSError):  # an environment we may not write in: then it is imported each time
        mark.write_text(versions)
    return []


def main() -> int:
    root = Path(sys.argv[1]).resolve()
    problems = requirements(root, sys.argv[2]) + package(root)
    problems = problems or torch_imports()
    print("\n".join(problems))
    return bool(problems)


sys.exit(main())
