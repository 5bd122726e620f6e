"""The page of the two claims as Markdown, made from what ``claims.json`` holds and nothing else."""

from collections.abc import Mapping, Sequence

from frontend.markdown import NOTHING, number, table, with_interval

_MEASURES = {"si_snri": "SI-SNRi", "cpwer": "cpWER", "cpcer": "cpCER"}
_UNITS = {"si_snri": "dB", "cpwer": "points of cpWER", "cpcer": "points of cpCER"}
_SETS = {"2": "two talkers", "1": "a talker alone"}
_NAMES = {"surplus_outputs": "surplus outputs", "energy_outside_best": "energy outside best"}


def render(results: Mapping) -> str:
    """Return the page.

    Args:
        results: what ``claims.json`` holds.
    """
    sections = [
        _title(results),
        _missing(results),
        _in_short(results),
        _over_separation(results),
        _labels(results),
        _shares(results),
        _blind(results),
        _method(results),
    ]
    return "\n".join(section for section in sections if section)


def _title(results: Mapping) -> str:
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
    for measure, name in _MEASURES.items():
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
            f"With {_percent(row['share'])} of the labels `{row['system']}` reaches "
            f"{with_interval(found['value'], found['ci'])} % of the improvement by full supervision in "
            f"{name}: the goal of {goal:g} % is {verdict}, {sure}."
        )
    return lines


def _over_separation(results: Mapping) -> str:
    keys = [f"{measure}_{talkers}" for talkers in _SETS for measure in _NAMES]
    header = ["system", "SI-SNRi, dB [95 %]", "each seed"]
    for talkers in _SETS:
        for name in _NAMES.values():
            header += [f"{name}, {_SETS[talkers]}, % [95 %]", "each seed"]
    found = results["over_separation"]
    rows = [
        [f"`{row['system']}`", *_cells(row["si_snri"]), *(c for key in keys for c in _cells(row.get(key)))]
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
            *_cells(entry),
            str(entry["n_seeds"]),
            str(entry["n"]),
        ]
        for entry in entries
    ]
    header = ["difference", "of", "[95 %]", "each seed", "seeds", "utterances"]
    return table(header, rows, 2) if rows else ""


def _measure(key: str) -> str:
    if key in _UNITS:
        return f"{_MEASURES[key]}, {'dB' if key == 'si_snri' else 'points'}"
    name, _, talkers = key.rpartition("_")
    return f"{_NAMES[name]} on {_SETS[talkers]}, points"


def _labels(results: Mapping) -> str:
    everything = [*results["references"], *results["curve"]]
    measures = _measured(everything)
    header = ["system", "labels"]
    for measure in measures:
        header += [f"{_MEASURES[measure]}, {'dB' if measure == 'si_snri' else '%'} [95 %]", "each seed"]
    rows = []
    for row in everything:
        labels = _percent(row["share"]) if row.get("share") else "none"
        seeds = max((row[m]["n_seeds"] for m in measures if row[m]), default=0)
        cells = [cell for measure in measures for cell in _cells(row[measure])]
        rows.append([f"`{row['system']}`", labels, *cells, str(seeds)])
    text = "## (b) Labels\n\n"
    drawn = " and ".join(_MEASURES[measure] for measure in measures)
    text += f"![{drawn} over the share of labels]({results['picture']})\n\n"
    text += (
        "0 % is the student. Dotted: the best blind row on this test set, a choice in its favour. Each "
        "training seed also draws its own labelled share.\n\n"
    )
    return text + table([*header, "seeds"], rows, 1)


def _measured(rows: Sequence[Mapping]) -> list[str]:
    """Return the measures that some row has."""
    return [measure for measure in _MEASURES if any(row[measure] for row in rows)]


def _shares(results: Mapping) -> str:
    found = results["shares_of_full"]
    if not found:
        return ""
    measures = _measured(found)
    rows = [
        [f"`{row['system']}`", _percent(row["share"]), *(cell for m in measures for cell in _cells(row[m]))]
        for row in found
    ]
    text = "## Share of the improvement by full supervision\n\n"
    text += (
        "In SI-SNRi: SI-SNRi(x) / SI-SNRi(full). In cpWER: (cpWER(mixture) − cpWER(x)) / (cpWER(mixture) − "
        "cpWER(full)), in cpCER alike. `full` is refined as x is. "
        f"The goal is {results['goal']:g} % or more with "
        f"{_percent(results['label_share'])} of the labels.\n\n"
    )
    header = ["system", "labels"]
    for measure in measures:
        header += [f"in {_MEASURES[measure]}, % [95 %]", "each seed"]
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


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _cells(figure: Mapping | None) -> list[str]:
    """Return a figure with its interval, and each seed's own value."""
    if figure is None:
        return [NOTHING, NOTHING]
    return [with_interval(figure["value"], figure["ci"]), ", ".join(number(v) for v in figure["per_seed"])]
