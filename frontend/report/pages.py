"""Pages and tables from the JSON of a report, by the Jinja2 templates beside this file.

A page holds what its JSON holds and nothing else. Imports nothing heavy, so that ``report --show`` is quick.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import jinja2

from frontend.utils.errors import UserError, few
from frontend.utils.files import read_json, write_text

NOTHING = "—"
PAGES = ("results.json", "report.json", "mismatch.json", "claims.json")
# Key of a row and heading of its column. A column without any value is left out, except cpWER.
_WORD_COLUMNS = {
    "cpwer": "cpWER % [95 %] (ins/del/sub)",
    "cpcer": "cpCER % [95 %]",
    "orcwer": "ORC-WER % [95 %]",
    "cpwer_separated": "cpWER %, recogniser trained on streams [95 %]",
}
_COMPARED = (("si_snri", "SI-SNRi", "dB"), ("cpwer", "cpWER", "points"), ("cpcer", "cpCER", "points"))


def write_page(source: Path, out: Path | None = None) -> Path:
    """Write the page of one of the files :data:`PAGES`, such as ``RESULTS.md``, and return it.

    Args:
        source: the file.
        out: directory for the page; by default that of the file, where the pictures of the page are.

    Raises:
        UserError: another file, or one that lacks what the page shows.
    """
    if source.name not in PAGES:
        raise UserError(f"{source}: expected one of {', '.join(PAGES)} (the file that a report wrote)")
    page = (out or source.parent) / f"{source.stem.upper()}.md"
    try:
        text = render(f"{source.stem}.md.j2", results=read_json(source))
    except jinja2.UndefinedError as error:
        raise UserError(f"{source}: {error} (make the report again)") from None
    write_text(page, text)
    return page


def render(template: str, **values: object) -> str:
    """Return a template of ``templates/`` with ``values``; HTML is escaped, a missing key is an error."""
    return environment().get_template(template).render(**values)


@cache
def environment() -> jinja2.Environment:
    """Return the templates with their filters."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=lambda name: (name or "").endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters = (number, interval, percent, duration, cell, named, described)
    views = (word_columns, side_by_side, by_network, active_range, recordings_rows, limits)
    found.filters |= {one.__name__: one for one in (*filters, *views)}
    return found


# --- filters


def number(value: float | None, digits: int = 1) -> str:
    """Return ``value`` with ``digits`` decimals, or a dash.

    >>> number(-0.04), number(None), number(3.14159, 2)
    ('0.0', '—', '3.14')
    """
    if value is None:
        return NOTHING
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def interval(entry: Mapping | None, key: str = "value", digits: int = 1) -> str:
    """Return ``value [low, high]`` of an entry; the bounds of ``key`` are ``key_ci``, or ``ci``.

    >>> interval({"si_snri": 4.14, "si_snri_ci": [3.8, 4.5]}, "si_snri")
    '4.1 [3.8, 4.5]'
    >>> interval({"value": 1.0, "ci": None}), interval(None)
    ('1.0', '—')
    """
    entry = entry or {}
    value, ci = entry.get(key), entry.get(f"{key}_ci", entry.get("ci") if key in ("value", "rate") else None)
    if ci is None:
        return number(value, digits)
    return f"{number(value, digits)} [{number(ci[0], digits)}, {number(ci[1], digits)}]"


def percent(share: float | None, digits: int = 1, unit: str = " %") -> str:
    """Return a share in percent.

    >>> percent(0.04), percent(0.04, 0, ""), percent(None)
    ('4.0 %', '4', '—')
    """
    return NOTHING if share is None else f"{number(100 * share, digits)}{unit}"


def duration(seconds: float) -> str:
    """Return seconds for reading.

    >>> duration(7.25), duration(200)
    ('7.2 s', '3 min 20 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def cell(text: str) -> str:
    """Return ``text`` without a character that would end the cell of a Markdown table."""
    return text.replace("|", "\\|")


def named(ids: Sequence[str], most: int = 10) -> str:
    """Return how many utterances there are, and their ids.

    >>> named(["u1", "u2", "u3"], most=2)
    '3 utterances: u1, u2 and 1 more'
    """
    return f"{len(ids)} utterance{'s' * (len(ids) != 1)}: {few(ids, most)}"


def described(changes: Mapping) -> str:
    """Return what a condition changes, for reading.

    >>> described({"array": {"kind": "linear", "spacing": 0.03}, "t60": [0.4, 0.7]})
    'array kind linear, array spacing 0.03, t60 0.4 to 0.7'
    """
    found = []
    for key, value in changes.items():
        if isinstance(value, Mapping):
            found += [f"{key} {text}" for text in described(value).split(", ")]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            found.append(f"{key} {' to '.join(map(str, value))}")
        else:
            found.append(f"{key} {value}")
    return ", ".join(found) or "as in training"


# --- how rows stand beside each other


def word_columns(rows: Sequence[Mapping]) -> dict[str, str]:
    """Return key and heading of the columns on words that the rows have."""
    return {
        key: heading
        for key, heading in _WORD_COLUMNS.items()
        if key == "cpwer" or any(row.get(key) is not None for row in rows)
    }


def side_by_side(comparisons: Sequence[Mapping]) -> tuple[list[dict], list[Mapping]]:
    """Return differences in SI-SNRi and in cpWER, one row a pair of systems, and all other comparisons."""
    measures = ("si_snri_difference", "cpwer_difference")
    pairs: dict[tuple, dict] = {}
    for one in comparisons:
        if one["what"] in measures:
            key = one["system"], one["against"], one["channels"]
            pairs.setdefault(key, {})[one["what"]] = one
    differences = []
    for (system, against, channels), found in pairs.items():
        n = " and ".join(dict.fromkeys(str(one["n"]) for one in found.values()))
        row = {"system": system, "against": against, "channels": channels, "n": n}
        differences.append(row | {measure: found.get(measure) for measure in measures})
    return differences, [one for one in comparisons if one["what"] not in measures]


def by_network(entries: Sequence[Mapping]) -> list[dict]:
    """Return over-separation with one row a network, its test sets beside each other."""
    rows: dict[tuple, dict] = {}
    for one in entries:
        about = {key: one[key] for key in ("system", "channels", "outputs")}
        row = rows.setdefault((one["experiment"], one["system"]), {**about, "sets": {}})
        row["sets"][one["set"]] = one
    return list(rows.values())


def recordings_rows(report: Mapping) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """Return the systems of a ``report.json``: headings with units, and rows that begin with the name."""
    rows = []
    for name, row in report["systems"].items():
        spatial = row["all"]["spatial"] or {}
        rows.append(
            [
                name,
                number(report["wer"].get(name, {}).get("rate")),
                *(number(spatial.get(key), 2) for key in ("own", "other", "random")),
                percent(spatial.get("changed"), 0, ""),
                number(row["all"]["leakage"], 2),
                number(row["rtf"], 3),
            ]
        )
    headings = "cpWER %,own ,other ,random ,changed %,leakage ,RTF ".split(",")
    return [(one.partition(" ")[0], one.partition(" ")[2]) for one in headings], rows


def limits(report: Mapping) -> list[str]:
    """Return in sentences which recordings of a ``report.json`` are too short for which measure."""
    short, found = report.get("short") or {}, []

    def of(names: Collection[str]) -> str:
        return few(names) if len(names) < len(report["recordings"]) else "all recordings"

    if blocks := short.get("blocks"):
        lengths = " to ".join(dict.fromkeys(number(pick(blocks.values())) for pick in (min, max)))
        found.append(
            f"Too short for blocks of 8 s: {of(blocks)}. Their directions are of blocks of {lengths} s, "
            "which is less exact: compare systems by them, not recordings of other lengths."
        )
    for key, what in (("directions", "directions ({:g} s)"), ("activity", "activity ({:g} s of speech)")):
        if names := short.get(key, {}).get("recordings"):
            least = what.format(short[key]["least_s"])
            found.append(f"Too short for {least}: {of(names)}. There is no figure.")
    return found


def active_range(entries: Sequence[Mapping]) -> range:
    """Return the numbers of active streams that occur, from the smallest to the largest."""
    numbers = [int(count) for entry in entries for count in entry["active"]]
    return range(min(numbers), max(numbers) + 1)


# --- the terminal


def results_table(directory: Path) -> str:
    """Return the rows of the report in ``directory`` as aligned text, and where its page is."""
    path = directory / "results.json"
    results = read_json(path)
    if "rows" not in results:
        raise UserError(f"{path}: expected 'rows', found {', '.join(results) or 'nothing'} (make it again)")
    header = "system,channels,labels,SI-SNRi dB [95 %],SDR dB,STOI,PESQ,cpWER % [95 %],RTF"
    rows = [
        [
            row["system"],
            str(row["channels"]),
            percent(row.get("label_share")),
            interval(row, "si_snri"),
            number(row["sdr"]),
            number(row["stoi"], 3),
            number(row["pesq"], 2),
            interval(row, "cpwer"),
            number(row["rtf"], 3),
        ]
        for row in results["rows"]
    ]
    lines = [_aligned([header.split(","), *rows]), "", f"The whole page: {directory / 'RESULTS.md'}"]
    if results.get("quick"):
        lines.append("This was a quick run: too little data and training, its numbers mean nothing.")
    return "\n".join(lines)


def recordings_table(report: Mapping) -> str:
    """Return the systems of a ``report.json`` as aligned text."""
    headings, rows = recordings_rows(report)
    return _aligned([["system", *(" ".join(one).strip() for one in headings)], *rows])


def comparison(found: Mapping) -> str:
    """Return a line for each measure that :func:`frontend.evaluation.runs.compare_runs` compared."""
    a, b = (" ".join(found[side]) for side in ("a", "b"))
    lines = []
    for measure, name, unit in _COMPARED:
        if found[measure] is None:
            lines.append(f"{a} - {b}: {name} does not exist for both")
            continue
        one = found[measure]
        values = " - ".join(number(one[side]["value"]) for side in ("a", "b"))
        line = f"{a} - {b}: {name} {values} = {interval(one['difference'], digits=2)} {unit}"
        line += f" (95 % interval), n = {one['difference']['n']} utterances"
        if one["difference"]["n_seeds"] > 1:
            seeds = ", ".join(f"{v:.2f}" for v in one["difference"]["per_seed"] if v is not None)
            line += f", {one['difference']['n_seeds']} seeds ({seeds})"
        if unit == "points" and not found["same_recogniser"]:
            line += "; decoded by different recognisers"
        lines.append(line)
    return "\n".join(lines)


def _aligned(rows: Iterable[Sequence[str]]) -> str:
    """Return lines with the first column to the left and the others to the right, in plain characters."""
    columns = []
    for k, column in enumerate(zip(*rows, strict=True)):
        width = max(map(len, column))
        columns.append([text.rjust(width) if k else text.ljust(width) for text in column])
    return "\n".join(map("  ".join, zip(*columns, strict=True))).replace(NOTHING, "-")
