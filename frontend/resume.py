"""Repair a training directory after a kill at any moment.

ESPnet writes ``checkpoint.pth`` and ``{epoch}epoch.pth`` in place, one after the
other, then the links. A kill in between leaves a truncated checkpoint, which it cannot
resume from, or a checkpoint whose epoch has no model, which it averages over at the end.
"""

import logging
import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch

from frontend import atomic

CHECKPOINT = "checkpoint.pth"
PREVIOUS = "checkpoint.prev.pth"


def keep_previous(directory: str | Path) -> None:
    """Copy the checkpoint of the last epoch aside; called at the start of every epoch."""
    checkpoint = Path(directory) / CHECKPOINT
    if checkpoint.exists():
        # A copy, not a link: ESPnet overwrites the file in place.
        with atomic.file(checkpoint.with_name(PREVIOUS)) as part:
            shutil.copyfile(checkpoint, part)


def is_sound(path: Path) -> bool:
    """Say whether ``path`` is a file that torch.save wrote to its end."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (FileNotFoundError, zipfile.BadZipFile):
        return False


def repair(directory: str | Path, criteria: Sequence = (("valid", "loss", "min"),)) -> dict | None:
    """Bring ``directory`` to the state after its last complete epoch.

    Args:
        directory: of the training.
        criteria: (phase, value, min or max) of the models that are kept: ``best_model_criterion``.

    Returns:
        the checkpoint to go on from, or None where training starts anew.
    """
    directory = Path(directory)
    checkpoint, previous = directory / CHECKPOINT, directory / PREVIOUS
    if not checkpoint.exists():
        return None
    if not is_sound(checkpoint):
        if not is_sound(previous):
            logging.warning("%s was cut off in its first epoch; starting anew", checkpoint)
            checkpoint.unlink()
            return None
        logging.warning("%s was cut off; going on from the epoch before", checkpoint)
        with atomic.file(checkpoint) as part:
            shutil.copyfile(previous, part)
    states = torch.load(checkpoint, map_location="cpu", weights_only=False)
    _restore_models(directory, states, criteria)
    return states


def _restore_models(directory: Path, states: dict, criteria: Sequence) -> None:
    """Make the models and links of the epochs agree with the checkpoint."""
    epoch = states["reporter"]["epoch"]
    for path in directory.glob("*epoch.pth"):
        number = path.name.removesuffix("epoch.pth")
        if number.isdigit() and int(number) > epoch:
            path.unlink()
    model = directory / f"{epoch}epoch.pth"
    if not is_sound(model):
        with atomic.file(model) as part:
            torch.save(states["model"], part)
    _link(directory / "latest.pth", model.name)
    for phase, key, mode in criteria:
        best = _best_epoch(states, phase, key, mode)
        if best is not None:
            _link(directory / f"{phase}.{key}.best.pth", f"{best}epoch.pth")


def _best_epoch(states: dict, phase: str, key: str, mode: str) -> int | None:
    """Return the epoch of the best value, the first of equal ones; None where it was not measured."""
    sign = 1 if mode == "min" else -1
    values = {e: sign * s[phase][key] for e, s in states["reporter"]["stats"].items() if key in s[phase]}
    return min(values, key=lambda e: (values[e], e), default=None)


def had_enough(states: dict, patience: int, criterion: Sequence[str]) -> bool:
    """Say whether a training stopped early with these states; ESPnet would go on with it."""
    best = _best_epoch(states, *criterion)
    return best is not None and states["reporter"]["epoch"] - best > patience


def _link(link: Path, target: str) -> None:
    if not link.is_symlink() or os.readlink(link) != target:
        link.unlink(missing_ok=True)
        link.symlink_to(target)
