"""Reading a text or JSON file, or saying in one line why that is not possible."""

import json
from pathlib import Path

from frontend.errors import UserError


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file.

    Raises:
        UserError: no such file.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UserError(f"{path}: expected a file, found none (check the path)") from None


def read_json(path: Path) -> dict:
    """Return the object that a JSON file holds.

    Raises:
        UserError: no such file, not JSON, or no object.
    """
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg} (make it again)") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(content).__name__} (make it again)")
    return content
