"""Reading a YAML file of settings, or saying in one line why that is not possible."""

from pathlib import Path

import yaml

from frontend.errors import UserError


def read_settings(path: str | Path, what: str) -> dict:
    """Return the mapping that a YAML file holds; an empty file holds none.

    Args:
        path: the file.
        what: what it should be, for the message: ``"scene configuration"``.

    Raises:
        UserError: no such file, not YAML, or something other than ``key: value``.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UserError(f"{path}: expected a {what}, found no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a {what}, found a file that is not YAML: {error}") from None
    if content is not None and not isinstance(content, dict):
        raise UserError(f"{path}: expected a {what} (key: value), found {type(content).__name__}")
    return content or {}
