"""Learning curves of every network of an experiment, from its TensorBoard event files."""

from pathlib import Path

from frontend import atomic

# One list of (step, value) per part, "train" and "valid".
Curves = dict[str, list[tuple[int, float]]]
_COLUMNS = 3


def learning_curves(experiment: Path, tag: str = "loss") -> dict[str, Curves]:
    """Read ``experiment/NETWORK/tensorboard/{train,valid}``, or those in ``experiment/NETWORK/training``.

    Returns:
        per network the curves of ``tag``; where a resumed run wrote a step twice the later value stands.
        What lies in ``NETWORK.old``, moved aside by run.sh, belongs to another run.
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


def plot_curves(networks: dict[str, Curves], path: Path) -> None:
    """Draw one panel a network, training and validation loss over steps, to a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = -(-len(networks) // _COLUMNS)
    figure, axes = plt.subplots(rows, _COLUMNS, figsize=(4 * _COLUMNS, 2.8 * rows), squeeze=False)
    for axis in axes.flat[len(networks) :]:
        axis.remove()
    for axis, (name, curves) in zip(axes.flat, networks.items(), strict=False):
        for part, points in curves.items():
            axis.plot(*zip(*points, strict=True), label=part, marker="." if part == "valid" else None)
        axis.set(title=name, xlabel="steps", ylabel="loss")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.tight_layout()
    with atomic.file(path) as part:
        # Without the date and version that matplotlib would add: same curves, same bytes.
        figure.savefig(part, format="png", dpi=80, metadata={"Software": None})
    plt.close(figure)
