"""The page of results as Markdown, made from what ``results.json`` holds and nothing else."""

from collections.abc import Mapping
from pathlib import PurePath

from frontend.markdown import NOTHING, duration, number, signal_cells, table, with_interval
from frontend.page_counting import counting_section
from frontend.page_words import word_cells, word_headings, word_sections

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


def render(results: Mapping, configs: Mapping[str, str]) -> str:
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
