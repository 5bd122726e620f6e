"""Numbers as Markdown: one place for digits, units and what does not exist.

The main table as plain text, from the ``results.json`` of a report; imports nothing heavy.

What the page says of words: columns of the main table, sources of errors, agreement with SI-SNRi.

The talkers that each system counts, as a table of the true number against the streams that sound.

The page of results as Markdown, made from what ``results.json`` holds and nothing else.

The report on separated recordings as Markdown: tables, and how to read them.

The page on mismatch as Markdown, made from what ``mismatch.json`` holds and nothing else.

The page of the two claims as Markdown, made from what ``claims.json`` holds and nothing else.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath

from frontend.evaluation.runs import _MEASURES, ERROR_RATES
from frontend.utils.errors import UserError
from frontend.utils.files import read_json

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
    lines = _aligned([_HEADER, *(_terminal_cells(row) for row in results["rows"])])
    lines += ["", f"The whole page: {directory / 'RESULTS.md'}"]
    if results.get("quick"):
        lines.append("This was a quick run: too little data and training, its numbers mean nothing.")
    # A terminal may know no other characters.
    return "\n".join(lines).replace(NOTHING, "-")


def _terminal_cells(row: Mapping) -> list[str]:
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


_READING = (
    "A stream counts as a talker if it is active, as above: nothing tells a system how many there are.\n"
    "Surplus: share of the mixtures with more active streams than talkers; missing: with fewer. `oracle`\n"
    "shows what the measure itself makes of the true images: a talker below its threshold is not counted.\n"
    "SI-SNRi is that of the talkers who are there.\n"
)


def counting_section(entries: Sequence[Mapping]) -> str:
    """Return the section, empty where nothing was counted.

    Args:
        entries: of :func:`frontend.evaluation.results.counted`, also as JSON gives them back.
    """
    if not entries:
        return ""
    found = [{int(k): n for k, n in entry["active"].items()} for entry in entries]
    streams = range(min(map(min, found)), max(map(max, found)) + 1)
    header = ["system", "channels", "talkers", "n", *(f"{k} active" for k in streams)]
    header += ["surplus % [95 %]", "missing % [95 %]", "SI-SNRi dB [95 %]"]
    rows = []
    for entry, active in zip(entries, found, strict=True):
        row = [entry["system"], *(str(entry[key]) for key in ("channels", "talkers", "n"))]
        row += [number(active.get(k, 0), 0) for k in streams]
        row += [with_interval(entry[key], entry[f"{key}_ci"]) for key in ("surplus", "missing", "si_snri")]
        rows.append(row)
    return f"## Talkers counted\n\n{table(header, rows)}\n{_READING}"


# Keys of a network's entry in the results, and the columns that show them.
_NETWORK = {
    "experiment": "experiment",
    "model": "model",
    "network": "network",
    "train_set": "trained on",
    "valid_set": "validated on",
    "init": "started from",
    "precision": "precision",
    "steps": "steps",
    "lr": "learning rate",
    "parameters": "parameters",
}
# Comparisons that stand beside each other, and their columns.
_DIFFERENCES = {
    "si_snri_difference": "SI-SNRi, dB [95 %]",
    "cpwer_difference": "cpWER, points [95 %]",
}
_FENCES = {".yaml": "yaml", ".yml": "yaml", ".sh": "sh", ".json": "json"}


def render_page(results: Mapping, configs: Mapping[str, str]) -> str:
    """Return the page.

    Args:
        results: what ``results.json`` holds.
        configs: path and text of each file to embed.
    """
    pictures = results["pictures"]
    sections = [
        _title(results),
        _provenance(results),
        _systems(results),
        _notes(results),
        _comparisons(results),
        *word_sections(results, pictures.get("words")),
        _over_separation(results),
        counting_section(results.get("talkers_counted", [])),
        _pseudo_targets(results),
        _networks(results),
        _cost(results),
        _stages(results),
        _curves(pictures),
        _configs(configs),
    ]
    return "\n".join(section for section in sections if section)


def _title(results: Mapping) -> str:
    title = f"# Results: {', '.join(results['experiments'])}\n\n"
    title += "Made by `python -m frontend.bin.report`; not edited.\n"
    if results["quick"]:
        title += "\n> **Quick run: too little data and training, its numbers mean nothing.**\n"
    return title


def _provenance(results: Mapping) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    facts = {
        "command": f"`{results['command']}`",
        "date": results["date"],
        "commit": results["commit"] or NOTHING,
        "versions": versions,
        "machine": results["machine"],
        "seed": str(results["seed"]),
        "wall time": duration(sum(results["stages"].values())),
    }
    return table(["", ""], [[key, value.replace("|", "\\|")] for key, value in facts.items()], left=2)


def _systems(results: Mapping) -> str:
    words = word_headings(results["rows"])
    header = ["system", "channels", "labels", "SI-SNRi dB [95 %]", "SDR dB", "STOI", "PESQ"]
    header += [*words.values(), "RTF"]
    rows = [
        [
            *signal_cells(row),
            *word_cells(row, words),
            number(row["rtf"], 3),
        ]
        for row in results["rows"]
    ]
    sets = "".join(
        f"- {one['experiment']}: `{one['data']}`, {one['n']} mixtures of {one['talkers']} talkers, "
        f"{one['channels']} channels, {one['fs']} Hz\n"
        for one in results["test_sets"]
    )
    reading = (
        "Means over the utterances, streams in the order of best SI-SNR, references reverberant images at\n"
        "the reference channel; intervals are bootstrapped over utterances. Labels: share of the training\n"
        "set whose true sources were used. RTF of the separation on one core.\n"
    )
    return f"## Systems\n\n{sets}\n{table(header, rows)}\n{reading}"


def _notes(results: Mapping) -> str:
    lines = []
    if results["not_scored"]:
        missing = (f"{one['system']} ({one['experiment']})" for one in results["not_scored"])
        lines.append(f"Not scored: {', '.join(missing)}.")
    if results["not_counted"]:
        missing = (f"{one['system']} ({one['experiment']})" for one in results["not_counted"])
        lines.append(f"Not recognised: {', '.join(missing)}.")
    for one in results["refused"]:
        lines.append(f"{one['measure'].upper()} gave no score of {_who(one)}: {_named(one['utterances'])}.")
    for one in results["silent"]:
        names = _named(one["utterances"])
        lines.append(f"A stream is silent in {_who(one)}: {names}; its mean in dB would be minus infinity.")
    return "".join(f"- {line}\n" for line in lines)


def _comparisons(results: Mapping) -> str:
    """Differences of both measures beside each other, then all other comparisons."""
    both: dict[tuple, dict[str, Mapping]] = {}
    others = []
    for one in results["comparisons"]:
        if one["what"] in _DIFFERENCES:
            pair = one["system"], one["against"], one["channels"]
            both.setdefault(pair, {})[one["what"]] = one
        else:
            others.append(_other_comparison(one))
    if not both and not others:
        return ""
    rows = [
        [f"{a} − {b}", str(channels), *map(_difference, map(found.get, _DIFFERENCES)), _numbers(found)]
        for (a, b, channels), found in both.items()
    ]
    tables = []
    if rows:
        tables.append(table(["systems", "channels", *_DIFFERENCES.values(), "n"], rows))
    if others:
        tables.append(table(["systems", "channels", "what", "value [95 %]", "n"], others))
    title = (
        "## Comparisons\n\nPaired over the same utterances; fewer word errors are a negative difference.\n\n"
    )
    return title + "\n".join(tables)


def _difference(one: Mapping | None) -> str:
    return NOTHING if one is None else with_interval(one["value"], one["ci"], 2)


def _numbers(found: Mapping[str, Mapping]) -> str:
    return " and ".join(dict.fromkeys(str(one["n"]) for one in found.values()))


def _other_comparison(one: Mapping) -> list[str]:
    measure, kind = one["what"].rsplit("_", 1)
    what = {
        "si_snri": "SI-SNRi, %",
        "surplus_outputs": "one talker: surplus outputs, points",
        "energy_outside_best": "one talker: energy outside the best output, points",
    }[measure]
    compared = f"{one['system']} {'/' if kind == 'percent' else '−'} {one['against']}"
    return [compared, str(one["channels"]), what, with_interval(one["value"], one["ci"]), str(one["n"])]


def _over_separation(results: Mapping) -> str:
    sets = list(dict.fromkeys(one["set"] for one in results["over_separation"]))
    found: dict[tuple, dict[str, Mapping]] = {}
    for one in results["over_separation"]:
        found.setdefault((one["experiment"], one["system"]), {})[one["set"]] = one
    rows = []
    for (_, system), by_set in found.items():
        first = next(iter(by_set.values()))
        row = [system, str(first["channels"]), number(first["outputs"], 0)]
        rows.append(row + [cell for name in sets for cell in _spread(by_set.get(name))])
    thresholds = sorted({one["active_db"] for one in results["test_sets"]})
    threshold = " or ".join(number(value, 0) for value in thresholds)
    reading = (
        f"Active: an output above {threshold} dB relative to the mixture. Surplus: share of the active\n"
        "outputs beyond the number of talkers. Outside: share of a talker's energy outside the output that\n"
        "holds most of it; `oracle` shows the floor that talkers who share a time and frequency leave.\n"
        "A network is measured on its own outputs, before a rule (energy, spatial merge, oracle) makes\n"
        "streams of them and without a beamformer: one line for all its rows of the first table.\n"
    )
    header = ["system", "channels", "outputs"]
    for name in sets:
        header += [f"{name}: active", "surplus % [95 %]", "outside % [95 %]", "n"]
    return f"## Over-separation\n\n{table(header, rows)}\n{reading}"


def _spread(one: Mapping | None) -> list[str]:
    if one is None:
        return [NOTHING] * 4
    measured = [
        with_interval(one[key], one[f"{key}_ci"]) for key in ("surplus_outputs", "energy_outside_best")
    ]
    return [number(one["active_outputs"], 2), *measured, str(one["n"])]


def _pseudo_targets(results: Mapping) -> str:
    if not results["pseudo_targets"]:
        return ""
    rows = []
    for one in results["pseudo_targets"]:
        rule = "+".join(filter(None, (one["rule"], one["refine"])))
        # One line for all mixtures, then one for each number of talkers where that differs.
        parts = {"all": one} | (one["by_talkers"] if len(one["by_talkers"]) > 1 else {})
        for talkers, part in parts.items():
            values = [number(part["si_snr"]), number(part["si_snri"]), str(part["n"])]
            rows.append([one["experiment"], one["set"], rule, talkers, *values])
    header = ["experiment", "set", "rule", "talkers", "SI-SNR dB", "SI-SNRi dB", "n"]
    reading = "Scored against the truth for the reader; nothing was chosen by it.\n"
    return f"## Pseudo-targets\n\n{table(header, rows, left=4)}\n{reading}"


def _networks(results: Mapping) -> str:
    rows = []
    for one in results["networks"]:
        text = {key: NOTHING if value is None else str(value) for key, value in one.items()}
        if one["init"] is not None:
            text["init"] = ", ".join(one["init"]) or "scratch"
        rows.append([text[key] for key in _NETWORK])
    reading = (
        "From the configuration that each training wrote down. Precision `auto`: bfloat16 in training where\n"
        "the processor computes in it (see machine), else float32.\n"
    )
    return f"## Networks\n\n{table(list(_NETWORK.values()), rows, left=7)}\n{reading}" if rows else ""


def _cost(results: Mapping) -> str:
    rows = [
        [one["system"], str(one["channels"]), number(one["rtf"], 3), number(one["peak_memory_mib"], 0)]
        for one in results["cost"]
    ]
    header = ["system", "channels", "RTF", "peak memory, MiB"]
    return f"## Cost of separation on one core\n\n{table(header, rows)}" if rows else ""


def _stages(results: Mapping) -> str:
    rows = [[name, duration(seconds)] for name, seconds in results["stages"].items()]
    return f"## Wall time\n\n{table(['stage', 'time'], rows)}" if rows else ""


def _curves(pictures: Mapping[str, str]) -> str:
    if "curves" not in pictures:
        return ""
    reading = "Of a separator in dB relative to the mixture, of a recogniser the CTC loss an utterance.\n"
    return f"## Learning curves\n\n![loss of every network]({pictures['curves']})\n\n{reading}"


def _configs(configs: Mapping[str, str]) -> str:
    parts = (
        f"<details><summary>{name}</summary>\n\n```{_FENCES.get(PurePath(name).suffix, '')}\n"
        f"{text.rstrip()}\n```\n\n</details>\n"
        for name, text in configs.items()
    )
    return "## Configurations\n\n" + "\n".join(parts) if configs else ""


def _who(one: Mapping) -> str:
    ids = one["utterances"]
    return f"{one['system']} ({one['channels']} channels) in {len(ids)} utterance{'s' * (len(ids) > 1)}"


def _named(ids: list[str], most: int = 10) -> str:
    return ", ".join(ids[:most]) + (f" and {len(ids) - most} more" if len(ids) > most else "")


_RECORDINGS_READING = """\
What stands here is known without any reference. None of it says alone that a separation is good: streams
that are silent, or that share the mixture between them bin by bin, leave no residual either.

- **cpWER**: where transcripts were given, the share of words that are wrong, with the best permutation of
  the streams.
- **residual**: energy of the mixture less the sum of the streams, relative to the mixture. Masks leave
  nothing; what linear filters (AuxIVA) leave is what they cancelled.
- **leakage**: mean over blocks of 8 s of the largest normalised cross-correlation of two streams within 10
  ms; 0 for two talkers, 1 for the same signal twice.
- **one, two ... active**: share of the time with speech in which so many of a system's streams are at most
  20 dB below the mixture (frames of 0.2 s). Streams that all sound all the time are not separated; how much
  they should is the recordings' own overlap.
- **spatial consistency, own / other / random**: the principal direction of the microphones under a stream's
  mask, block by block, compared (squared coherence, mean over frequencies) with that of all other blocks:
  of the same stream, of another stream, and of the same stream where every block's streams are put in a
  random order. Talkers who sit still and keep their streams: own high, other low. Own near random: the
  streams change talkers, or never followed one.
- **changed**: share of the blocks in which all streams sound whose streams fit another order better:
  talkers that have changed streams, for 8 s or for good.
- **MixIT loss**: of the teacher on sums of two held-out chunks each, in dB (0: nothing explained, -3: outputs
  that share the sum evenly, lower is better); what its weights were chosen by. The two are of different
  recordings where there are several: chunks of one have the same talkers in the same places, and are harder
  to tell apart. *Active outputs*: of the teacher on a held-out chunk alone, within 20 dB of it; *surplus*:
  the share of them beyond the number of talkers (over-separation).
"""


def recordings_page(report: Mapping) -> str:
    """Return the report as Markdown."""
    recordings = report["recordings"]
    minutes = sum(recordings.values()) / 60
    facts = (
        f"{len(recordings)} recordings, {minutes:.1f} min, "
        f"{report['channels']} channels at {report['fs']} Hz; "
        f"streams for {report['talkers']} talkers; seed {report['seed']}."
    )
    parts = ["# Recordings without references\n", facts + "\n", _recordings_systems(report), _teacher(report)]
    parts += ["## How to read this\n", _RECORDINGS_READING, _each(report), _made(report["made"])]
    return "\n".join(part for part in parts if part)


def _made(made: Mapping) -> str:
    """Where the figures come from."""
    stages = ", ".join(f"{name} {seconds:.0f}" for name, seconds in made["stages"].items())
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    rows = [
        ["command", f"`{made['command']}`" if made["command"] else "—"],
        ["commit", made["commit"] or "—"],
        ["seconds of the stages", stages or "—"],
        ["date", made["date"]],
        ["versions", versions],
        ["machine", made["machine"]],
    ]
    return "## Where this comes from\n\n" + table(["", ""], rows, left=2)


def _recordings_systems(report: Mapping) -> str:
    count = _most_streams(report)
    header = ["system", "cpWER, %", "residual, dB", "leakage", *_active_header(count)]
    header += ["own", "other", "random", "changed, %", "RTF"]
    rows = []
    for name, row in report["systems"].items():
        words = report["wer"].get(name, {})
        wer = with_interval(words.get("rate"), words.get("ci"))
        rows.append([f"`{name}`", wer, *_recordings_cells(row["all"], count), number(row["rtf"], 3)])
    return "## Systems\n\n" + table(header, rows)


def _most_streams(report: Mapping) -> int:
    """A student may have more streams than there are talkers: all of its activity is shown."""
    found = (len(row["all"]["activity"]["streams"]) for row in report["systems"].values())
    return max(report["talkers"], *found)


def _active_header(count: int) -> list[str]:
    words = dict(enumerate(["no", "one", "two", "three", "four"]))
    return [f"{words.get(k, k)} active, %" for k in range(count + 1)]


def _recordings_cells(row: Mapping, count: int) -> list[str]:
    shares = row["activity"]["number"]
    activity = [*shares, *[None] * (count + 1 - len(shares))]
    spatial = row["spatial"] or dict.fromkeys(("own", "other", "random", "changed"))
    return [
        number(row["residual_db"]) if row["residual_db"] > -99 else "none",
        number(row["leakage"], 2),
        *(number(_percent(share), 0) for share in activity),
        *(number(spatial[key], 2) for key in ("own", "other", "random")),
        number(_percent(spatial["changed"]), 0),
    ]


def _teacher(report: Mapping) -> str:
    rows = [
        [
            name,
            number(row["loss"], 2),
            number(row["active_outputs"], 2),
            number(100 * row["surplus"], 0),
            str(row["n"]),
        ]
        for name, row in report["teacher"].items()
    ]
    header = ["teacher", "MixIT loss, dB", "active outputs", "surplus, %", "chunks"]
    return "## Held-out chunks\n\n" + table(header, rows)


def _each(report: Mapping) -> str:
    count = _most_streams(report)
    header = ["recording", "length", "residual, dB", "leakage", *_active_header(count)]
    header += ["own", "other", "random", "changed, %"]
    parts = []
    for name, row in report["systems"].items():
        rows = [
            [recording, duration(one["seconds"]), *_recordings_cells(one, count)]
            for recording, one in row["recordings"].items()
        ]
        parts.append(f"<details><summary>{name}</summary>\n\n{table(header, rows)}\n</details>\n")
    return "## Recording by recording\n\n" + "\n".join(parts)


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def recordings_summary(report: Mapping) -> str:
    """Return the table of systems for the terminal."""
    columns = ["cpWER, %", "own", "other", "random", "changed, %", "leakage", "RTF"]
    lines = [f"{'system':24}" + "".join(f"{column:>12}" for column in columns)]
    for name, row in report["systems"].items():
        spatial = row["all"]["spatial"] or dict.fromkeys(("own", "other", "random", "changed"))
        cells = [
            number(report["wer"].get(name, {}).get("rate")),
            *(number(spatial[key], 2) for key in ("own", "other", "random")),
            number(_percent(spatial["changed"]), 0),
            number(row["all"]["leakage"], 2),
            number(row["rtf"], 3),
        ]
        lines.append(f"{name:24}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines).replace(NOTHING, "-")


_PAIRED = (
    "SI-SNRi in dB with 95 % intervals; the second table has the paired difference to `matched`: the same\n"
    "talkers say the same, only what the condition names is another. A network is as it was trained.\n"
)


def render_mismatch(results: Mapping) -> str:
    """Return the page.

    Args:
        results: what ``mismatch.json`` holds.
    """
    sections = [_mismatch_title(results), _conditions(results), _expect(results), _microphones(results)]
    return "\n".join(section for section in sections if section)


def _mismatch_title(results: Mapping) -> str:
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


_CLAIMS_MEASURES = {"si_snri": "SI-SNRi", "cpwer": "cpWER", "cpcer": "cpCER"}
_UNITS = {"si_snri": "dB", "cpwer": "points of cpWER", "cpcer": "points of cpCER"}
_SETS = {"2": "two talkers", "1": "a talker alone"}
_NAMES = {"surplus_outputs": "surplus outputs", "energy_outside_best": "energy outside best"}


def render_claims(results: Mapping) -> str:
    """Return the page.

    Args:
        results: what ``claims.json`` holds.
    """
    sections = [
        _claims_title(results),
        _missing(results),
        _in_short(results),
        _claims_over_separation(results),
        _labels(results),
        _shares(results),
        _blind(results),
        _method(results),
    ]
    return "\n".join(section for section in sections if section)


def _claims_title(results: Mapping) -> str:
    experiments = results["experiments"]
    test = results["test_set"]
    lines = ["# The two claims", "", "Made by `python -m frontend.bin.claims`; not edited.", ""]
    lines += [f"- command: `{results['command']}`", f"- date: {results['date']}"]
    lines += [f"- commit of this page: {results['commit'] or NOTHING}", f"- machine: {results['machine']}"]
    lines.append("- versions: " + ", ".join(f"{k} {v}" for k, v in results["versions"].items()))
    said = f", {test['words']} words" if test["words"] else ""
    alone = f"; {test['n_one_talker']} of a talker alone" if test["n_one_talker"] else ""
    lines.append(
        f"- test set: `{test['data']}`, {test['n']} mixtures of {test['talkers']} talkers{said}{alone}; "
        f"{test['channels']} channels, {test['fs']} Hz"
    )
    lines.append(f"- training seeds: {len(experiments)}")
    if len(experiments) == 1:
        lines.append("\n**One seed only: the intervals are over test utterances, not over trainings.**")
    rows = [
        [one["name"], f"`{one['command']}`", _seed(one), one.get("commit", NOTHING)] for one in experiments
    ]
    return "\n".join(lines) + "\n\n" + table(["experiment", "command", "training seed", "commit"], rows, 2)


def _seed(experiment: Mapping) -> str:
    return str(experiment.get("train_seed", experiment["seed"]))


def _missing(results: Mapping) -> str:
    lines = [f"- {line}" for line in results["missing"]]
    lines += [
        f"- a stream of {system} is silent, its SI-SNRi does not exist: {'; '.join(where)}"
        for system, where in results["silent"].items()
    ]
    return "## What is missing\n\n" + "\n".join(lines) + "\n" if lines else ""


def _in_short(results: Mapping) -> str:
    lines = [
        _compared(entry)
        for entry in results["over_separation"]["differences"]
        if entry["against"] == "teacher_energy" or entry["system"] == "teacher_outputs"
    ]
    lines += [
        line
        for row in results["shares_of_full"]
        if row["share"] == results["label_share"] and row["kind"] != "supervised"
        for line in _against_goal(row, results["goal"])
    ]
    lines += [
        _compared(entry) for entry in results["against_blind"] if entry["system"].split("+")[0] == "student"
    ]
    return "## In short\n\n" + "\n".join(f"- {line}" for line in lines) + "\n" if lines else ""


def _compared(entry: Mapping) -> str:
    """Say a difference, and whether its interval tells the two apart."""
    name, _, talkers = entry["measure"].rpartition("_")
    if name in _NAMES:
        unit, what = f"points of {_NAMES[name]} on {_SETS[talkers]}", "more"
    else:
        unit, what = _UNITS[entry["measure"]], "above" if entry["measure"] == "si_snri" else "more"
    ci = entry["ci"]
    apart = "the interval leaves out zero" if ci and (ci[0] > 0 or ci[1] < 0) else "zero is in the interval"
    apart = apart if ci else "no interval"
    if entry["value"] < 0:
        what = {"above": "below", "more": "fewer"}[what]
        entry = {**entry, "value": -entry["value"], "ci": ci and [-ci[1], -ci[0]]}
    value = with_interval(entry["value"], entry["ci"])
    if what in ("above", "below"):
        return f"`{entry['system']}` is {value} {unit} {what} `{entry['against']}`: {apart}."
    return f"`{entry['system']}` has {value} {unit} {what} than `{entry['against']}`: {apart}."


def _short(gap: float) -> str:
    return number(gap) if gap >= 0.05 else "less than 0.1"


def _against_goal(row: Mapping, goal: float) -> list[str]:
    lines = []
    for measure, name in _CLAIMS_MEASURES.items():
        found = row[measure]
        if found is None:
            continue
        verdict = "reached" if found["value"] >= goal else f"missed by {_short(goal - found['value'])} points"
        if found["ci"] is None:
            sure = "no interval"
        elif found["ci"][0] <= goal <= found["ci"][1]:
            sure = "the interval holds the goal"
        else:
            sure = f"the whole interval is {'above' if found['ci'][0] > goal else 'below'} it"
        lines.append(
            f"With {_claims_percent(row['share'])} of the labels `{row['system']}` reaches "
            f"{with_interval(found['value'], found['ci'])} % of the improvement by full supervision in "
            f"{name}: the goal of {goal:g} % is {verdict}, {sure}."
        )
    return lines


def _claims_over_separation(results: Mapping) -> str:
    keys = [f"{measure}_{talkers}" for talkers in _SETS for measure in _NAMES]
    header = ["system", "SI-SNRi, dB [95 %]", "each seed"]
    for talkers in _SETS:
        for name in _NAMES.values():
            header += [f"{name}, {_SETS[talkers]}, % [95 %]", "each seed"]
    found = results["over_separation"]
    rows = [
        [
            f"`{row['system']}`",
            *_claims_cells(row["si_snri"]),
            *(c for key in keys for c in _claims_cells(row.get(key))),
        ]
        for row in found["rows"]
    ]
    text = "## (a) Over-separation: teacher against student\n\n"
    text += (
        "Surplus outputs: the share of active outputs beyond the number of talkers; a network of as many "
        "outputs as talkers has none by construction, and with one output more than talkers half at most "
        "where one talks. Energy outside best: the "
        "share of a talker's energy outside the output that has most of it; true images, the `oracle` row, "
        "have its floor. Both describe what a network puts out, so that a rule, which picks or adds outputs, "
        "has none of its own.\n\n"
    )
    return text + table(header, rows) + "\n" + _differences(found["differences"])


def _differences(entries: Sequence[Mapping]) -> str:
    rows = [
        [
            f"`{entry['system']}` − `{entry['against']}`",
            _measure(entry["measure"]),
            *_claims_cells(entry),
            str(entry["n_seeds"]),
            str(entry["n"]),
        ]
        for entry in entries
    ]
    header = ["difference", "of", "[95 %]", "each seed", "seeds", "utterances"]
    return table(header, rows, 2) if rows else ""


def _measure(key: str) -> str:
    if key in _UNITS:
        return f"{_CLAIMS_MEASURES[key]}, {'dB' if key == 'si_snri' else 'points'}"
    name, _, talkers = key.rpartition("_")
    return f"{_NAMES[name]} on {_SETS[talkers]}, points"


def _labels(results: Mapping) -> str:
    everything = [*results["references"], *results["curve"]]
    measures = _measured(everything)
    header = ["system", "labels"]
    for measure in measures:
        header += [
            f"{_CLAIMS_MEASURES[measure]}, {'dB' if measure == 'si_snri' else '%'} [95 %]",
            "each seed",
        ]
    rows = []
    for row in everything:
        labels = _claims_percent(row["share"]) if row.get("share") else "none"
        seeds = max((row[m]["n_seeds"] for m in measures if row[m]), default=0)
        cells = [cell for measure in measures for cell in _claims_cells(row[measure])]
        rows.append([f"`{row['system']}`", labels, *cells, str(seeds)])
    text = "## (b) Labels\n\n"
    drawn = " and ".join(_CLAIMS_MEASURES[measure] for measure in measures)
    text += f"![{drawn} over the share of labels]({results['picture']})\n\n"
    text += (
        "0 % is the student. Dotted: the best blind row on this test set, a choice in its favour. Each "
        "training seed also draws its own labelled share.\n\n"
    )
    return text + table([*header, "seeds"], rows, 1)


def _measured(rows: Sequence[Mapping]) -> list[str]:
    """Return the measures that some row has."""
    return [measure for measure in _CLAIMS_MEASURES if any(row[measure] for row in rows)]


def _shares(results: Mapping) -> str:
    found = results["shares_of_full"]
    if not found:
        return ""
    measures = _measured(found)
    rows = [
        [
            f"`{row['system']}`",
            _claims_percent(row["share"]),
            *(cell for m in measures for cell in _claims_cells(row[m])),
        ]
        for row in found
    ]
    text = "## Share of the improvement by full supervision\n\n"
    text += (
        "In SI-SNRi: SI-SNRi(x) / SI-SNRi(full). In cpWER: (cpWER(mixture) − cpWER(x)) / (cpWER(mixture) − "
        "cpWER(full)), in cpCER alike. `full` is refined as x is. "
        f"The goal is {results['goal']:g} % or more with "
        f"{_claims_percent(results['label_share'])} of the labels.\n\n"
    )
    header = ["system", "labels"]
    for measure in measures:
        header += [f"in {_CLAIMS_MEASURES[measure]}, % [95 %]", "each seed"]
    return text + table(header, rows)


def _blind(results: Mapping) -> str:
    if not results["against_blind"]:
        return ""
    text = "## Against the best blind method\n\n"
    text += (
        "Paired differences; fewer word errors are negative. The blind row is the best by each measure.\n\n"
    )
    return text + _differences(results["against_blind"])


def _method(results: Mapping) -> str:
    k = len(results["experiments"])
    text = "## How the figures are made\n\n"
    text += (
        "SI-SNRi is averaged over the talkers of an utterance, then over utterances and seeds; cpWER is all "
        "word errors over all words, over seeds too, cpCER the same of characters; ratios are of these "
        "means, not means of ratios. "
    )
    if k == 1:
        text += (
            "Intervals are 95 % percentile bootstrap intervals over test utterances, paired by utterance; "
            "with a single seed the chance of training and of the labelled share is not in them. "
        )
    else:
        text += (
            "Intervals are 95 % intervals over training seeds and test utterances: utterances are resampled, "
            f"once for all seeds because the test set is shared, and the mean over the {k} seeds is drawn "
            f"from Student's t of {k - 1} degrees of freedom, because so few seeds say little of their own "
            "spread; systems are paired by seed and utterance. "
        )
    asr = {one["asr_fingerprint"] for one in results["experiments"] if one.get("asr_fingerprint")}
    if asr and k > 1:
        shared = "One recogniser heard all seeds." if len(asr) == 1 else "Each seed has its own recogniser."
        text += shared
    return text.rstrip() + "\n"


def _claims_percent(share: float) -> str:
    return f"{100 * share:g} %"


def _claims_cells(figure: Mapping | None) -> list[str]:
    """Return a figure with its interval, and each seed's own value."""
    if figure is None:
        return [NOTHING, NOTHING]
    return [with_interval(figure["value"], figure["ci"]), ", ".join(number(v) for v in figure["per_seed"])]


def in_words(found: dict) -> str:
    """Return the lines that say what :func:`compare_runs` found."""
    a, b = (" ".join(found[side]) for side in ("a", "b"))
    lines = []
    for measure, name, unit in _MEASURES:
        if found[measure] is None:
            lines.append(f"{a} - {b}: {name} does not exist for both")
            continue
        one = found[measure]
        rates = " - ".join(f"{one[side]['value']:.1f}" for side in ("a", "b"))
        more = one["difference"]
        line = f"{a} - {b}: {name} {rates} = {with_interval(more['value'], more['ci'], 2)} {unit}"
        line += f" (95 % interval), n = {more['n']} utterances"
        if more["n_seeds"] > 1:
            values = ", ".join(f"{v:.2f}" for v in more["per_seed"] if v is not None)
            line += f", {more['n_seeds']} seeds ({values})"
        if measure in ERROR_RATES and not found["same_recogniser"]:
            line += "; heard by different recognisers"
        lines.append(line)
    return "\n".join(lines)
