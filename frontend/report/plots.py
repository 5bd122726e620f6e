"""Pictures of a report: learning curves, cpWER against SI-SNRi, figures over labels, spectrograms."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from frontend.report.pages import number
from frontend.utils.files import atomic_file

# One list of (step, value) per part, "train" and "valid".
Curves = dict[str, list[tuple[int, float]]]
RANGE_DB = 63  # of a spectrogram: as many steps of colour, 1 dB each
_COLUMNS = 3
_ROW = 0.22  # inches that a label needs
_KINDS = ("supervised", "fine-tuned", "co-trained", "distilled")
_LABELS = {"si_snri": "SI-SNRi (dB)", "cpwer": "cpWER (%)", "cpcer": "cpCER (%)"}
_OFFSET = 1.06  # points of one share stand beside each other, or their bars would hide one another


def learning_curves(experiment: Path, tag: str = "loss") -> dict[str, Curves]:
    """Read the TensorBoard events of ``experiment/NETWORK`` or of ``experiment/NETWORK/training``.

    Returns:
        per network the curves of ``tag``; where a resumed run wrote a step twice the later value stands.
        ``NETWORK.old``, moved aside by the pipeline, belongs to another run.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, Curves] = {}
    places = [*experiment.glob("*/tensorboard"), *experiment.glob("*/training/tensorboard")]
    for directory in sorted(places):
        name = directory.relative_to(experiment).parts[0]
        if name.endswith(".old"):
            continue
        curves = {}
        for part in ("train", "valid"):
            if not (directory / part).is_dir():
                continue
            events = EventAccumulator(str(directory / part), size_guidance={"scalars": 0}).Reload()
            if tag in events.Tags()["scalars"]:
                by_time = sorted(events.Scalars(tag), key=lambda event: event.wall_time)
                curves[part] = sorted({event.step: event.value for event in by_time}.items())
        if curves:
            found[name] = curves
    return found


def plot_curves(networks: Mapping[str, Curves], path: Path) -> None:
    """Draw one panel a network, training and validation loss over steps, to a PNG file."""
    rows = -(-len(networks) // _COLUMNS)
    figure, axes = _figure(rows, _COLUMNS, figsize=(4 * _COLUMNS, 2.8 * rows), squeeze=False)
    for axis in axes.flat[len(networks) :]:
        axis.remove()
    for axis, (name, curves) in zip(axes.flat, networks.items(), strict=False):
        for part, points in curves.items():
            axis.plot(*zip(*points, strict=True), label=part, marker="." if part == "valid" else None)
        axis.set(title=name, xlabel="steps", ylabel="loss")
        axis.grid(alpha=0.3)
        axis.legend()
    _save(figure, path, dpi=80)


def plot_words(rows: Sequence[Mapping], path: Path) -> bool:
    """Draw cpWER against SI-SNRi of the rows of ``results.json``; return whether there were any values.

    A row is a point; one without SI-SNRi (oracle, dry) is a line.
    """
    points = [row for row in rows if row["si_snri"] is not None and row["cpwer"] is not None]
    if not points:
        return False
    floors = [row for row in rows if row["si_snri"] is None and row["cpwer"] is not None]
    from matplotlib.colors import to_rgb

    figure, axis = _figure(figsize=(8, max(4.5, _ROW * (len(points) + 2))))
    several = len({row["channels"] for row in points}) > 1
    names = {id(row): f"{row['system']} ({row['channels']} ch)" if several else row["system"] for row in rows}
    for k, row in enumerate(floors):
        axis.axhline(row["cpwer"], linestyle=":", color="grey")
        axis.annotate(
            f"{names[id(row)]}, {number(row['cpwer'])} %",
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
            xerr=_bars([(row["si_snri"], row["si_snri_ci"])]),
            yerr=_bars([(row["cpwer"], row["cpwer_ci"])]),
            fmt="o",
            markersize=4,
            color=colour,
            ecolor=(*to_rgb(colour), 0.25),
        )
    axis.set(xlabel="SI-SNRi (dB)", ylabel="cpWER (%)", title="blue: without labels, orange: with labels")
    axis.grid(alpha=0.3)
    axis.set_ylim(bottom=0)
    # The names beside the plot in the order of cpWER, each with a line to its point: none collide.
    ordered = sorted(points, key=lambda row: (row["cpwer"], -row["si_snri"]))
    for k, row in enumerate(ordered):
        axis.annotate(
            names[id(row)],
            (row["si_snri"], row["cpwer"]),
            xytext=(1.03, (k + 0.5) / len(ordered)),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "grey", "linewidth": 0.5, "alpha": 0.6, "shrinkB": 3},
        )
    _save(figure, path)
    return True


def plot_claims(results: Mapping, path: Path) -> None:
    """Draw ``claims.json`` over the share of labels to a PNG: a row a refinement, a column a measure."""
    points = [row for row in results["rows"] if "share" in row]
    steps = [None, *([results["refinement"]] if results["refinement"] else [])]
    measures = [measure for measure in _LABELS if any(row[measure] for row in points)]
    size = (5.2 * len(measures), 3.9 * len(steps))
    figure, axes = _figure(len(steps), len(measures), figsize=size, squeeze=False, sharey="col")
    zero = min((row["share"] for row in points if row["share"]), default=0.01) / 2.5
    for row, refinement in zip(axes, steps, strict=True):
        shown = [point for point in points if point["refinement"] == refinement]
        for axis, measure in zip(row, measures, strict=True):
            _panel(axis, shown, measure, zero)
            best = results["best_blind"][measure]
            for one in (row[measure] for row in results["rows"] if row["system"] == best):
                axis.axhline(one["value"], color="grey", linestyle=":", label=best)
                if one["ci"]:
                    axis.axhspan(*one["ci"], color="grey", alpha=0.15)
            title = f"refined by {refinement}" if refinement else "as separated"
            axis.set(xlabel="share of the labels (%)", ylabel=_LABELS[measure], title=title)
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8)
    _save(figure, path)


def write_spectrogram(path: Path, levels: np.ndarray, top_db: float) -> None:
    """Draw ``(F, L)`` in dB as a PNG, a pixel a bin, from ``top_db`` (bright) to 63 dB below it (dark)."""
    from matplotlib import colormaps
    from PIL import Image

    with np.errstate(invalid="ignore"):  # -inf - -inf where all is silent; fmax makes it 0
        steps = np.fmax(levels - top_db + RANGE_DB, 0).clip(max=RANGE_DB)
    image = Image.fromarray(np.rint(steps[::-1]).astype(np.uint8))
    colours = colormaps["magma"](np.linspace(0, 1, RANGE_DB + 1))[:, :3]
    image.putpalette((255 * colours).round().astype(np.uint8).tobytes())
    encoded = io.BytesIO()
    image.save(encoded, format="PNG", optimize=True)
    with atomic_file(path) as part:
        part.write_bytes(encoded.getvalue())


def _figure(*args, **kwargs):
    """Return figure and axes, drawn without a display."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(*args, **kwargs)


def _save(figure, path: Path, dpi: int = 100) -> None:
    """Write a PNG without the date and version that matplotlib would add: same figures, same bytes."""
    import matplotlib.pyplot as plt

    figure.tight_layout()
    with atomic_file(path) as part:
        figure.savefig(part, format="png", dpi=dpi, metadata={"Software": None})
    plt.close(figure)


def _bars(figures: Sequence[tuple[float, Sequence[float] | None]]) -> list[list[float]]:
    """Return lengths of error bars below and above; rounding may leave a mean outside its interval."""
    bounds = [(value, *(ci or (value, value))) for value, ci in figures]
    below = [max(0.0, value - low) for value, low, _ in bounds]
    return [below, [max(0.0, high - value) for value, _, high in bounds]]


def _panel(axis, points: Sequence[Mapping], measure: str, zero: float) -> None:
    """Draw one curve a kind of training; 0 %, which a log axis has no place for, stands at ``zero``."""
    axis.set_xscale("log")
    student = [point for point in points if point["share"] == 0]
    for k, kind in enumerate(_KINDS):
        own = [point for point in points if point["kind"] == kind and point["share"] > 0]
        # Both semi-supervised curves leave from the student.
        line = [point for point in ([] if kind == "supervised" else student) + own if point[measure]]
        if not line:
            continue
        xs = [100 * (point["share"] or zero) * _OFFSET ** (k - 1) for point in line]
        bars = _bars([(point[measure]["value"], point[measure]["ci"]) for point in line])
        ys = [point[measure]["value"] for point in line]
        axis.errorbar(xs, ys, yerr=bars, marker="o", markersize=4, capsize=2, label=kind)
    shares = sorted({point["share"] for point in points})
    axis.set_xticks([100 * (share or zero) for share in shares], [f"{100 * share:g}" for share in shares])
    axis.minorticks_off()
