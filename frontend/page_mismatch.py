"""The page on mismatch as Markdown, made from what ``mismatch.json`` holds and nothing else."""

from collections.abc import Mapping, Sequence

from frontend.markdown import NOTHING, number, table, with_interval

_PAIRED = (
    "SI-SNRi in dB with 95 % intervals; the second table has the paired difference to `matched`: the same\n"
    "talkers say the same, only what the condition names is another. A network is as it was trained.\n"
)


def render(results: Mapping) -> str:
    """Return the page.

    Args:
        results: what ``mismatch.json`` holds.
    """
    sections = [_title(results), _conditions(results), _expect(results), _microphones(results)]
    return "\n".join(section for section in sections if section)


def _title(results: Mapping) -> str:
    facts = {
        "command": f"`{results['command']}`",
        "date": results["date"],
        "commit": results["commit"] or NOTHING,
        "machine": results["machine"],
        "seed": str(results["seed"]),
    }
    title = f"# Mismatch: {results['experiment']}\n\nMade by `python -m frontend.bin.mismatch`; not edited.\n"
    return (
        f"{title}\n{table(['', ''], [[k, v.replace('|', chr(92) + '|')] for k, v in facts.items()], left=2)}"
    )


def _conditions(results: Mapping) -> str:
    names = [one["system"] for one in results["systems"]]
    gains, losses = [], []
    for one in results["conditions"]:
        rows = _by_system(one["rows"])
        head = [f"`{one['condition']}`", described(one["changes"])]
        n = {row["n"] for row in one["rows"] if row["n"] is not None}
        count = " and ".join(map(str, sorted(n))) or NOTHING
        gains.append([*head, *(_gain(rows.get(name)) for name in names), count])
        if one["changes"]:
            losses.append([*head, *(_loss(rows.get(name)) for name in names)])
    tables = [table(["condition", "what differs", *names, "n"], gains, left=2)]
    if losses:
        tables.append(table(["minus matched", "what differs", *names], losses, left=2))
    return f"## Another array, room or noise\n\n{_PAIRED}\n" + "\n".join(tables)


def _expect(results: Mapping) -> str:
    """Say of every condition what it costs, from the numbers."""
    trained = [one["system"] for one in results["systems"] if one["trained"]]
    blind = [one["system"] for one in results["systems"] if not one["trained"]]
    lines = []
    for one in results["conditions"]:
        rows = _by_system(one["rows"])
        both = [name for name in (*trained[:1], *blind[:1]) if rows[name]["difference"] is not None]
        said = [_said(name, rows[name]) for name in both]
        if one["changes"] and said:
            lines.append(f"- {described(one['changes'])}: {'; '.join(said)}.\n")
    if not lines:
        return ""
    reading = ""
    if trained and blind:
        reading = f"\n`{blind[0]}` is not trained: what it loses or gains is no mismatch.\n"
    return f"## What to expect where yours differs\n\n{''.join(lines)}{reading}"


def _said(name: str, row: Mapping) -> str:
    low, high = row["difference_ci"]
    amount = with_interval(abs(row["difference"]), sorted((abs(low), abs(high))))
    if low <= 0 <= high:
        change = with_interval(row["difference"], row["difference_ci"])
        return f"`{name}` changes by {change} dB, no difference to tell"
    if low > 0:
        return f"`{name}` gains {amount} dB"
    kept = "" if row["share"] is None else f", {number(row['share'], 0)} % of its improvement is left"
    return f"`{name}` loses {amount} dB{kept}"


def _microphones(results: Mapping) -> str:
    told = (
        f"A network has one input for each microphone: this one takes {results['channels']} channels in the\n"
        "order of its training, and anything else is refused. For another number, train again\n"
        "(`./run.sh --channels N`; the scenes stay the same but for the microphones).\n"
    )
    if not results["microphones"]:
        return f"## Number of microphones\n\n{told}"
    names = list(dict.fromkeys(row["system"] for one in results["microphones"] for row in one["rows"]))
    rows = []
    for one in results["microphones"]:
        found = _by_system(one["rows"])
        cells = [_both(found.get(name)) for name in names]
        rows.append([str(one["channels"]), one["experiment"], *cells])
    header = ["microphones", "experiment", *names]
    reading = (
        "Trained and tested with as many microphones each, on the test set of the results page: SI-SNRi in\n"
        f"dB, and in brackets its paired difference to {results['experiment']}.\n"
    )
    return f"## Number of microphones\n\n{told}\n{reading}\n{table(header, rows, left=2)}"


def described(changes: Mapping) -> str:
    """Return what a condition changes, for reading.

    >>> described({"array": {"kind": "linear", "spacing": 0.03}, "t60": [0.4, 0.7]})
    'array kind linear, array spacing 0.03, t60 0.4 to 0.7'
    """
    if not changes:
        return "as in training"
    said = []
    for key, value in changes.items():
        if isinstance(value, Mapping):
            said += [f"{key} {text}" for text in described(value).split(", ")]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            said.append(f"{key} {' to '.join(map(str, value))}")
        else:
            said.append(f"{key} {value}")
    return ", ".join(said)


def _by_system(rows: Sequence[Mapping]) -> dict[str, Mapping]:
    return {row["system"]: row for row in rows}


def _gain(row: Mapping | None) -> str:
    return NOTHING if row is None else with_interval(row["si_snri"], row["si_snri_ci"])


def _loss(row: Mapping | None) -> str:
    return NOTHING if row is None else with_interval(row["difference"], row["difference_ci"])


def _both(row: Mapping | None) -> str:
    if row is None or row["difference"] is None:
        return _gain(row)
    return f"{_gain(row)} ({_loss(row)})"
