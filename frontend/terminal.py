"""The main table as plain text, from the ``results.json`` of a report; imports nothing heavy."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from frontend.errors import UserError
from frontend.markdown import NOTHING, number, signal_cells, with_interval
from frontend.text_file import read_json

_HEADER = "system,channels,labels,SI-SNRi dB [95 %],SDR dB,STOI,PESQ,cpWER % [95 %],RTF".split(",")


def summary(directory: Path) -> str:
    """Return the rows of the report in ``directory``, aligned, and where its page is.

    Raises:
        UserError: no ``results.json`` there, or one without rows.
    """
    path = directory / "results.json"
    results = read_json(path)
    if "rows" not in results:
        raise UserError(f"{path}: expected 'rows', found {', '.join(results) or 'nothing'} (make it again)")
    lines = _aligned([_HEADER, *(_cells(row) for row in results["rows"])])
    lines += ["", f"The whole page: {directory / 'RESULTS.md'}"]
    if results.get("quick"):
        lines.append("This was a quick run: too little data and training, its numbers mean nothing.")
    # A terminal may know no other characters.
    return "\n".join(lines).replace(NOTHING, "-")


def _cells(row: Mapping) -> list[str]:
    return [*signal_cells(row), with_interval(row["cpwer"], row["cpwer_ci"]), number(row["rtf"], 3)]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if k else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
