"""Configurations of egs/mini as a run of size full has them."""

from pathlib import Path

import yaml

from frontend.pipeline.options import Given
from frontend.pipeline.recipes import read_options


def config_file(name: str, folder: str | Path, given: str | Path | None = None) -> Path:
    """Return the path of a complete configuration.

    Args:
        name: such as ``teacher``.
        folder: ``NAME.yaml`` is written there, unless a file is given.
        given: a complete file of the user's own, such as ``exp/NAME/conf/teacher.yaml``.
    """
    if given is not None:
        return Path(given)
    path = Path(folder) / f"{name}.yaml"
    path.write_text(yaml.safe_dump(read_options(Given(size="full")).content(name), sort_keys=False))
    return path
