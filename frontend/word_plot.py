"""cpWER against SI-SNRi, one labelled point a system: a picture of how far the two agree."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from frontend import atomic
from frontend.markdown import number

_ROW = 0.22  # inches that a label needs


def plot_words(rows: Sequence[Mapping], path: Path) -> bool:
    """Draw the rows that have both figures to a PNG file; those without SI-SNRi (oracle, dry) are lines.

    Args:
        rows: of ``results.json``.
        path: the picture.

    Returns:
        whether there was anything to draw.
    """
    points = [row for row in rows if row["si_snri"] is not None and row["cpwer"] is not None]
    if not points:
        return False
    floors = [row for row in rows if row["si_snri"] is None and row["cpwer"] is not None]
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    height = max(4.5, _ROW * (len(points) + 2))
    figure, axis = plt.subplots(figsize=(8, height))
    several = len({row["channels"] for row in points}) > 1
    for k, row in enumerate(floors):
        axis.axhline(row["cpwer"], linestyle=":", color="grey")
        axis.annotate(
            f"{_name(row, several)}, {number(row['cpwer'])} %",
            (0.01 + 0.3 * (k % 3), row["cpwer"]),  # beside each other, for they lie close together
            xycoords=("axes fraction", "data"),
            va="bottom",
            fontsize=8,
            color="grey",
        )
    for row in points:
        colour = "C1" if "label_share" in row else "C0"
        axis.errorbar(
            row["si_snri"],
            row["cpwer"],
            xerr=_bars(row, "si_snri"),
            yerr=_bars(row, "cpwer"),
            fmt="o",
            markersize=4,
            color=colour,
            ecolor=(*matplotlib.colors.to_rgb(colour), 0.25),
        )
    axis.set(xlabel="SI-SNRi (dB)", ylabel="cpWER (%)", title="blue: without labels, orange: with labels")
    axis.grid(alpha=0.3)
    axis.set_ylim(bottom=0)
    _label(axis, points, several)
    figure.tight_layout()
    with atomic.file(path) as part:
        # Without the date and version that matplotlib would add: same figures, same bytes.
        figure.savefig(part, format="png", dpi=100, metadata={"Software": None})
    plt.close(figure)
    return True


def _label(axis, points: Sequence[Mapping], several: bool) -> None:
    """Write the names beside the plot in the order of cpWER, each with a line to its point: none collide."""
    ordered = sorted(points, key=lambda row: (row["cpwer"], -row["si_snri"]))
    for k, row in enumerate(ordered):
        axis.annotate(
            _name(row, several),
            (row["si_snri"], row["cpwer"]),
            xytext=(1.03, (k + 0.5) / len(ordered)),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "grey", "linewidth": 0.5, "alpha": 0.6, "shrinkB": 3},
        )


def _name(row: Mapping, several: bool) -> str:
    return f"{row['system']} ({row['channels']} ch)" if several else row["system"]


def _bars(row: Mapping, key: str) -> list[list[float]]:
    """Lengths of the error bars; an interval may leave out its mean by what rounding left."""
    low, high = row[f"{key}_ci"]
    return [[max(0.0, row[key] - low)], [max(0.0, high - row[key])]]
