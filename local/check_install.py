"""Is this environment complete? Exit code 1 and the list of what is missing if not; 2 if an extra is unknown.

usage: check_install.py REPOSITORY extra,extra

Every requirement of setup.cfg is installed in a version it allows, ``frontend`` is that of this repository;
torch and torchaudio import. The import takes seconds; once it worked, a file in the environment records that
for these versions.
"""

import configparser
import contextlib
import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path


def version(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def problems(root: Path, lines: list[str]) -> list[str]:
    """Return what is expected and not found."""
    from packaging.requirements import Requirement

    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    wrong = [
        f"expected {want}, found {version(want.name) or 'none'}"
        for want in wanted
        if (not want.marker or want.marker.evaluate())
        and not ((have := version(want.name)) and want.specifier.contains(have, prereleases=True))
    ]
    found = importlib.util.find_spec("frontend")  # others bear that name
    if found is None or found.origin is None or root not in Path(found.origin).resolve().parents:
        wrong.append(f"expected the package frontend of {root}, found {found.origin if found else 'none'}")
    return wrong or torch_imports()


def torch_imports() -> list[str]:
    """Return what keeps torch and torchaudio from being imported."""
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
    """Check the environment of this interpreter."""
    root, extras = Path(sys.argv[1]).resolve(), sys.argv[2].split(",")
    config = configparser.ConfigParser()
    config.read(root / "setup.cfg")
    known = config["options.extras_require"]
    for extra in extras:
        if extra not in known:
            print(f"unknown extra '{extra}'; setup.cfg has {', '.join(known)}")
            return 2
    lines = [config["options"]["install_requires"], *(known[extra] for extra in extras)]
    wrong = problems(root, "\n".join(lines).splitlines())
    print("\n".join(wrong))
    return bool(wrong)


sys.exit(main())
