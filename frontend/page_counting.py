"""The talkers that each system counts, as a table of the true number against the streams that sound."""

from collections.abc import Mapping, Sequence

from frontend.markdown import number, table, with_interval

_READING = (
    "A stream counts as a talker if it is active, as above: nothing tells a system how many there are.\n"
    "Surplus: share of the mixtures with more active streams than talkers; missing: with fewer. `oracle`\n"
    "shows what the measure itself makes of the true images: a talker below its threshold is not counted.\n"
    "SI-SNRi is that of the talkers who are there.\n"
)


def counting_section(entries: Sequence[Mapping]) -> str:
    """Return the section, empty where nothing was counted.

    Args:
        entries: of :func:`frontend.counting.counted`, also as JSON gives them back.
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
