"""The label curve as a picture: SI-SNRi and error rates by share of labels, with and without refinement."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from frontend import atomic
from frontend.claims_systems import KINDS

_LABELS = {"si_snri": "SI-SNRi (dB)", "cpwer": "cpWER (%)", "cpcer": "cpCER (%)"}
_OFFSET = 1.06  # points of one share stand beside each other, or their bars would hide one another


def plot_claims(results: Mapping, path: Path) -> None:
    """Draw a row of panels per refinement and a column per measure to a PNG file.

    Args:
        results: what ``claims.json`` holds.
        path: the picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in results["curve"] if row["refinement"] is None or results["refinement"]]
    steps = [None, *([results["refinement"]] if results["refinement"] else [])]
    measures = [m for m in _LABELS if any(row[m] for row in rows)]
    size = (5.2 * len(measures), 3.9 * len(steps))
    figure, axes = plt.subplots(len(steps), len(measures), figsize=size, squeeze=False, sharey="col")
    zero = min((row["share"] for row in rows if row["share"]), default=0.01) / 2.5
    for row, refinement in zip(axes, steps, strict=True):
        shown = [point for point in rows if point["refinement"] == refinement]
        for axis, measure in zip(row, measures, strict=True):
            _panel(axis, shown, measure, zero)
            _band(axis, results, measure, refinement)
            said = f"refined by {refinement}" if refinement else "as separated"
            axis.set(xlabel="share of the labels (%)", ylabel=_LABELS[measure], title=said)
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8)
    figure.tight_layout()
    with atomic.file(path) as part:
        # Without the date and version that matplotlib would add: same figures, same bytes.
        figure.savefig(part, format="png", dpi=100, metadata={"Software": None})
    plt.close(figure)


def _panel(axis, points: Sequence[Mapping], measure: str, zero: float) -> None:
    """One curve a kind of training; 0 %, which a log axis has no place for, stands at ``zero``."""
    axis.set_xscale("log")
    student = [point for point in points if point["share"] == 0]
    for k, kind in enumerate(KINDS):
        own = [point for point in points if point["kind"] == kind and point["share"] > 0]
        # Both semi-supervised curves leave from the student.
        line = [point for point in ([] if kind == "supervised" else student) + own if point[measure]]
        if not line:
            continue
        xs = [100 * (point["share"] or zero) * _OFFSET ** (k - 1) for point in line]
        ys = [point[measure]["value"] for point in line]
        axis.errorbar(xs, ys, yerr=_bars(line, measure), marker="o", markersize=4, capsize=2, label=kind)
    shares = sorted({point["share"] for point in points})
    axis.set_xticks([100 * (share or zero) for share in shares], [f"{100 * share:g}" for share in shares])
    axis.minorticks_off()


def _band(axis, results: Mapping, measure: str, refinement: str | None) -> None:
    """Draw the best blind row as a line, its interval as a band."""
    name = results["best_blind"]["refined" if refinement else "plain"][measure]
    figure = next((row[measure] for row in results["references"] if row["system"] == name), None)
    if figure is None:
        return
    axis.axhline(figure["value"], color="grey", linestyle=":", label=name)
    if figure["ci"]:
        axis.axhspan(*figure["ci"], color="grey", alpha=0.15)


def _bars(points: Sequence[Mapping], measure: str) -> list[list[float]]:
    """Lengths of the error bars, none where there is no interval."""
    values = [point[measure]["value"] for point in points]
    bounds = [point[measure]["ci"] or [point[measure]["value"]] * 2 for point in points]
    pairs = list(zip(values, bounds, strict=True))
    return [[max(0.0, v - low) for v, (low, _) in pairs], [max(0.0, high - v) for v, (_, high) in pairs]]
