"""What the page says of words: columns of the main table, sources of errors, agreement with SI-SNRi."""

from collections.abc import Mapping, Sequence

from frontend.markdown import NOTHING, number, table, with_interval

# Key of a row, its heading; a column in which no row has a value is left out, but cpWER stands always.
_COLUMNS = {
    "cpwer": "cpWER % [95 %] (ins/del/sub)",
    "cpcer": "cpCER % [95 %]",
    "orcwer": "ORC-WER % [95 %]",
    "cpwer_separated": "cpWER %, recogniser trained on streams [95 %]",
}
_KINDS = ("insertions", "deletions", "substitutions")


def word_headings(rows: Sequence[Mapping]) -> dict[str, str]:
    """Return key and heading of the columns that the rows have."""
    return {
        key: heading
        for key, heading in _COLUMNS.items()
        if key == "cpwer" or any(row[key] is not None for row in rows)
    }


def word_cells(row: Mapping, headings: Mapping[str, str]) -> list[str]:
    """Return a row's cells for :func:`word_headings`."""
    cells = [with_interval(row[key], row[f"{key}_ci"]) for key in headings]
    if row["cpwer"] is not None:
        cells[0] += f" ({'/'.join(number(row[kind]) for kind in _KINDS)})"
    return cells


def word_sections(results: Mapping, plot: str | None) -> list[str]:
    """Return the sections on words; none where no word was counted."""
    if not results["recognisers"]:
        return []
    return [_words(results), _sources(results), _agreement(results, plot), _utterances(results)]


def _words(results: Mapping) -> str:
    lines = []
    for one in results["recognisers"]:
        others = "".join(f"; {name} by `{asr}`" for name, asr in one["others"].items())
        said = f"{one['words']} words of `{one['data']}`, recognised by `{one['asr']}`{others}"
        lines.append(f"- {one['experiment']}: {said}\n")
    rules = dict.fromkeys(rule for one in results["recognisers"] for rule in one["normaliser"])
    reading = (
        "cpWER: each talker has one stream, chosen so that the errors are fewest; words of a talker without\n"
        "a stream are deletions, words of a surplus stream insertions. cpCER: the same of characters but\n"
        "blanks. ORC-WER, where streams and talkers differ in number: each talker may choose any stream.\n"
        "All as meeteval counts them; insertions, deletions and substitutions in percent of the words said.\n"
        "Both texts are normalised:\n\n"
    )
    # A tag in angle brackets is a rule's example, not HTML.
    reading += "".join(f"- {rule.replace('<', '&lt;')}\n" for rule in rules)
    return f"## Words\n\n{''.join(lines)}\n{reading}"


def _sources(results: Mapping) -> str:
    parts = {
        "recogniser": "recogniser: dry speech",
        "rooms": "rooms: beyond dry speech",
        "separation": "separation: beyond the images",
    }
    rows = [
        [
            one["system"],
            parts[one["what"]],
            str(one["channels"]),
            with_interval(one["value"], one["ci"]),
            with_interval(one["share"], one["share_ci"]),
        ]
        for one in results["error_sources"]
    ]
    if not rows:
        return ""
    reading = (
        "What the recogniser gets wrong on clean dry speech is its own floor; what it gets wrong beyond\n"
        "that on the true images is the rooms'; what it gets wrong beyond the images in a system's streams\n"
        "is the separation's. Paired over the same utterances, for systems heard by one recogniser. A share\n"
        "has no interval where few utterances have errors.\n"
    )
    header = ["system", "what", "channels", "points of cpWER [95 %]", "share of its errors, % [95 %]"]
    return f"## Where the errors come from\n\n{table(header, rows, left=2)}\n{reading}"


def _agreement(results: Mapping, plot: str | None) -> str:
    parts = [f"![cpWER against SI-SNRi]({plot})\n"] if plot else []
    if results["order"]:
        parts.append(_orders(results["order"]))
        parts += [_contradictions(one) for one in results["order"]]
    return "## SI-SNRi against cpWER\n\n" + "\n".join(parts) if parts else ""


def _orders(orders: Sequence[Mapping]) -> str:
    rows = [
        [
            str(one["channels"]),
            str(len(one["systems"])),
            number(one["kendall"], 2),
            number(one["spearman"], 2),
            str(one["pairs"]),
            str(one["reversed"]),
            str(len(one["contradictions"])),
        ]
        for one in orders
    ]
    header = [
        "channels",
        "systems",
        "Kendall's tau",
        "Spearman's rho",
        "pairs",
        "ordered differently",
        "contradict",
    ]
    reading = (
        "Rank correlation of the systems by SI-SNRi and by cpWER, 1 if the order is the same; of those that\n"
        "have both, one stream a talker and the common recogniser. A pair contradicts where one is better\n"
        "in SI-SNRi, the other in cpWER, and both paired 95 % intervals leave out zero; of many pairs\n"
        "some may do so by chance.\n"
    )
    return f"{table(header, rows, left=0)}\n{reading}"


def _contradictions(one: Mapping) -> str:
    if not one["contradictions"]:
        return f"No pair of systems contradicts with {one['channels']} channels.\n"
    rows = [
        [
            pair["better_si_snri"],
            pair["better_cpwer"],
            str(one["channels"]),
            with_interval(pair["si_snri_difference"], pair["si_snri_ci"], 2),
            with_interval(pair["cpwer_difference"], pair["cpwer_ci"], 2),
        ]
        for pair in one["contradictions"]
    ]
    header = ["better in SI-SNRi", "better in cpWER", "channels", "by dB [95 %]", "by points [95 %]"]
    return table(header, rows, left=2)


def _utterances(results: Mapping) -> str:
    parts = []
    for one in results["disagreements"]:
        if not one["utterances"]:
            continue
        texts = ["reference", "hypothesis"][: 1 + ("hypotheses" in one["utterances"][0])]
        header = ["utterance", *texts, "SI-SNRi dB", "rank by SI-SNRi", "errors / words", "rank by words"]
        lines = table(header, map(_utterance, one["utterances"]), left=1 + len(texts))
        parts.append(f"{one['system']}, {one['channels']} channels:\n\n{lines}")
    if not parts:
        return ""
    reading = (
        "Rank 1 is the best of the test set; in these the two ranks are farthest apart. A slash separates\n"
        "the talkers; hypotheses are in the talkers' order, streams of no talker follow in brackets.\n"
    )
    return "## Utterances where they disagree most\n\n" + reading + "\n" + "\n".join(parts)


def _utterance(row: Mapping) -> list[str]:
    cells = [row["id"], _texts(row["references"])]
    if "hypotheses" in row:
        chosen = ["" if k is None else row["hypotheses"][k] for k in row["assignment"]]
        surplus = [text for k, text in enumerate(row["hypotheses"]) if k not in row["assignment"] and text]
        cells.append(_texts(chosen) + (f" ({_texts(surplus)})" if surplus else ""))
    gain, by_gain, by_words = (number(row[key]) for key in ("si_snri", "si_snri_rank", "words_rank"))
    return [*cells, gain, by_gain, f"{row['errors']} / {row['words']}", by_words]


def _texts(texts: Sequence[str]) -> str:
    """Texts of several talkers; none of their characters may end a cell or become Markdown."""
    return " / ".join(f"`{text}`".replace("|", "\\|") if text else NOTHING for text in texts)
