"""Kaldi's two-column tables: ``id rest of the line``, one entry a line, sorted by id."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from frontend import atomic
from frontend.errors import UserError


@dataclass
class Table:
    """What a table says and what is wrong with it.

    Attributes:
        entries: by id, in the order of the file; of duplicates the first.
        lines: the line number of each id.
        problems: ``file:line: what (what to do)``.
    """

    entries: dict = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def _read_lines(path: str | Path) -> tuple[list[str], str]:
    """Return the lines of a text file, or the problem with it."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return [], f"{path}: expected a table 'id value', found no file (check the path)"
    except (IsADirectoryError, NotADirectoryError):
        return [], f"{path}: expected a table 'id value', found a directory (check the path)"
    except UnicodeDecodeError as error:
        return [], f"{path}: not UTF-8 text at byte {error.start} (convert it)"
    # Not splitlines(), which also splits at U+2028 and others that may stand in a text.
    lines = text.removesuffix("\n").split("\n") if text.strip() else []
    return lines, "" if lines else f"{path}: no entries (is the step that makes it complete?)"


def scan_table(path: str | Path, allow_empty: bool = False) -> Table:
    """Read a table and list what is wrong with it instead of stopping there.

    Args:
        path: the file.
        allow_empty: an id alone on its line is fine (a mixture without a k-th talker in ``text_spkK``).
    """
    lines, problem = _read_lines(path)
    if problem:
        return Table(problems=[problem])
    table, previous = Table(), ""
    for number, line in enumerate(lines, 1):
        # Not str.split(), which also splits at the no-break and ideographic spaces of texts.
        key, *rest = re.split(r"[ \t]+", line.strip(" \t\r"), maxsplit=1)
        wrong = ""
        if not key:
            wrong = "empty line (remove it)"
        elif key in table.entries:
            wrong = f"id {key} occurs twice (keep one of the lines)"
        elif not rest and not allow_empty:
            wrong = f"expected 'id value', found '{key}' alone (add the value)"
        elif key < previous:
            wrong = f"id {key} comes after {previous} (sort the file with LC_ALL=C sort)"
        if wrong:
            table.problems.append(f"{path}:{number}: {wrong}")
        if key and key not in table.entries:
            table.entries[key], table.lines[key] = rest[0] if rest else "", number
            previous = max(previous, key)
    return table


def read_scp(path: str | Path, allow_empty: bool = False) -> dict[str, str]:
    """Return a table (``wav.scp``, ``text``, ``utt2spk``, ...) as ``{id: rest of the line}``.

    Args:
        path: the file.
        allow_empty: an id alone on its line is fine and gives ``""``.

    Raises:
        UserError: no such file, no entries, a duplicate, unsorted ids, or a missing second column.
    """
    table = scan_table(path, allow_empty)
    if table.problems:
        raise UserError(table.problems[0])
    return table.entries


def write_scp(path: str | Path, mapping: Mapping[str, object]) -> None:
    """Write ``{id: value}`` as a sorted table, whole or not at all."""
    lines = (f"{key} {mapping[key]}".rstrip() + "\n" for key in sorted(mapping))
    atomic.write_text(path, "".join(lines))
