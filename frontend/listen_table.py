"""The table of results as HTML, with what its columns are sorted by."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from frontend.listen_html import Html, element
from frontend.markdown import NOTHING, number, with_interval


@dataclass(frozen=True)
class _Column:
    """A heading, its unit, the key it is sorted by, and how a value is written."""

    key: str
    heading: str
    write: Callable[[Mapping], str]
    unit: str = ""


def _plain(key: str, heading: str, digits: int = 1, unit: str = "", factor: float = 1.0) -> _Column:
    def write(row: Mapping) -> str:
        value = row.get(key)
        return number(None if value is None else factor * value, digits)

    return _Column(key, heading, write, unit)


def _bounded(key: str, heading: str, unit: str) -> _Column:
    return _Column(
        key, heading, lambda row: with_interval(row.get(key), row.get(f"{key}_ci")), f"{unit} [95 %]"
    )


_COLUMNS = (
    _plain("channels", "channels", 0),
    _plain("label_share", "labels", 0, "%", 100.0),
    _bounded("si_snri", "SI-SNRi", "dB"),
    _plain("sdr", "SDR", unit="dB"),
    _plain("stoi", "STOI", 3),
    _plain("pesq", "PESQ", 2),
    _bounded("cpwer", "cpWER", "%"),
    _plain("insertions", "ins", unit="%"),
    _plain("deletions", "del", unit="%"),
    _plain("substitutions", "sub", unit="%"),
    _bounded("cpcer", "cpCER", "%"),
    _bounded("orcwer", "ORC-WER", "%"),
    _bounded("cpwer_separated", "cpWER, retrained", "%"),
    _plain("rtf", "RTF", 3),
    _plain("n", "n", 0),
)


def results_table(rows: Sequence[Mapping]) -> Html:
    """Return the table in a box that scrolls.

    Columns that tell nothing are left out: no row has a value, or all have the same number of channels or
    utterances, which stand above the table.
    """
    columns = [one for one in _COLUMNS if _tells(one.key, [row.get(one.key) for row in rows])]
    head = element("tr", _heading("system", ""), [_heading(one.heading, one.unit) for one in columns])
    body = [
        element("tr", element("th", _name(row["system"]), scope="row"), [_cell(row, one) for one in columns])
        for row in rows
    ]
    table = element("table", element("thead", head), element("tbody", body), id="results")
    # A box that scrolls has to be reachable by keyboard, and so has a name.
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label="Table of results")


def _name(system: str) -> list[str]:
    """Let the name of a system be broken where its parts join; on a phone it has little room."""
    parts = re.split(r"(?<=[_+])", system)
    return [piece for part in parts for piece in (element("wbr"), part)][1:]


def _tells(key: str, values: Sequence) -> bool:
    return len(set(values)) > 1 if key in ("channels", "n") else any(value is not None for value in values)


def _heading(text: str, unit: str) -> Html:
    parts = [text, *([" ", element("small", unit)] if unit else [])]
    return element("th", element("button", parts, type="button"), scope="col", aria_sort="none")


def _cell(row: Mapping, column: _Column) -> Html:
    """Return a cell; without ``data-value`` it is sorted behind all others."""
    value = row.get(column.key)
    text = column.write(row)
    if value is None:
        hidden = element("span", "none", class_="hidden")
        return element("td", element("span", NOTHING, aria_hidden="true"), hidden)
    return element("td", text, data_value=repr(value))
