"""Is every requirement of setup.cfg installed, in a version it allows? Exit code 1 and the list if not.

usage: check_install.py setup.cfg extra,extra
"""

import configparser
import importlib.metadata
import importlib.util
import sys


def main() -> int:
    from packaging.requirements import Requirement

    config = configparser.ConfigParser()
    config.read(sys.argv[1])
    lines = config["options"]["install_requires"].splitlines()
    for extra in filter(None, sys.argv[2].split(",")):
        lines += config["options.extras_require"][extra].splitlines()
    problems = [] if importlib.util.find_spec("frontend") else ["frontend itself is not installed"]
    for line in filter(None, lines):
        wanted = Requirement(line)
        try:
            found = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            found = None
        if found is None or not wanted.specifier.contains(found, prereleases=True):
            problems.append(f"expected {wanted}, found {found or 'none'}")
    print("\n".join(problems))
    return bool(problems)


sys.exit(main())
