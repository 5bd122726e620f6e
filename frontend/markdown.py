"""Numbers as Markdown: one place for digits, units and what does not exist."""

from collections.abc import Iterable, Mapping, Sequence

NOTHING = "—"


def number(value: float | None, digits: int = 1) -> str:
    """Return ``value`` with ``digits`` decimals, or a dash.

    >>> number(-0.04), number(None), number(3.14159, 2)
    ('0.0', '—', '3.14')
    """
    if value is None:
        return NOTHING
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def with_interval(value: float | None, ci: Sequence[float] | None, digits: int = 1) -> str:
    """Return ``value [low, high]``.

    >>> with_interval(4.14, [3.8, 4.5])
    '4.1 [3.8, 4.5]'
    """
    if ci is None:
        return number(value, digits)
    return f"{number(value, digits)} [{number(ci[0], digits)}, {number(ci[1], digits)}]"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Return a table whose first ``left`` columns are text, the others numbers."""
    marks = [":--" if k < left else "--:" for k in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, marks, *rows)) + "\n"


def duration(seconds: float) -> str:
    """Return seconds for reading.

    >>> duration(7.25), duration(200)
    ('7.2 s', '3 min 20 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def signal_cells(row: Mapping) -> list[str]:
    """Return the cells in front of the words in a table of systems: name and scores of the signal."""
    return [
        row["system"],
        str(row["channels"]),
        f"{number(100 * row['label_share'])} %" if "label_share" in row else NOTHING,
        with_interval(row["si_snri"], row["si_snri_ci"]),
        number(row["sdr"]),
        number(row["stoi"], 3),
        number(row["pesq"], 2),
    ]
