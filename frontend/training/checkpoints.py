"""Trained systems on disk: where their files lie, loading, packing, and repair after a kill.

A trained system is a training directory (``config.yaml``, :data:`MODEL`), a packed directory (``config.yaml``
with the network's part of the settings, without paths, and ``model.pth``), or a zip of one. A packed system
loads on any machine that has this package. Torch is imported where weights are read: a wrong path or number
of microphones is reported before.

ESPnet 202511 writes ``checkpoint.pth`` and ``{epoch}epoch.pth`` in place, one after the other, then the links
(https://github.com/espnet/espnet/issues/5407). A kill in between leaves a truncated checkpoint, from which it
cannot go on, or a checkpoint whose epoch has no model, which it averages over at the end.
:func:`keep_previous_checkpoint` and :func:`repair_checkpoint` step around that.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import pickle
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from frontend import MODEL, MOST_MICS, PRETRAINED
from frontend.utils.errors import UserError
from frontend.utils.files import atomic_directory, atomic_file, read_settings, scratch

if TYPE_CHECKING:
    import torch

CHECKPOINTS = ("model.pth", MODEL)  # of a packed system, and of a training
CHECKPOINT, PREVIOUS = "checkpoint.pth", "checkpoint.prev.pth"
# Networks that take recordings of any number of microphones from that of the streams to MOST_MICS, or to that
# of their training if it is more, and all of _RATES up to the rate of their training.
ANY_ARRAY = frozenset({"guided_net"})
_RATES = (8000, 16000)
_NETWORK_KEYS = ("encoder", "separator", "decoder", "mask_module")
_KEPT = [f"{key}{conf}" for key in _NETWORK_KEYS for conf in ("", "_conf")]
_KEPT += ["model_conf", "criterions", "init", "preprocessor"]


@dataclass(frozen=True)
class Trained:
    """A trained system on disk.

    Attributes:
        path: as the user gave it.
        config, checkpoint: the files to load.
        fs: rate in Hz that it was trained at.
        n_mics: channels of its training.
        n_outputs: streams it gives.
        any_array: it takes other numbers of channels, see :data:`ANY_ARRAY`.
    """

    path: str
    config: Path
    checkpoint: Path
    fs: int
    n_mics: int
    n_outputs: int
    any_array: bool = False

    @property
    def rates(self) -> tuple[int, ...]:
        """The rates in Hz that it takes without resampling, highest last."""
        lower = [rate for rate in _RATES if rate < self.fs] if self.any_array else []
        return (*lower, self.fs)

    def of_talkers(self, n_talkers: int | None) -> Trained:
        """Return the system that makes so many streams; None: as many as it was trained for.

        Raises:
            UserError: it always makes another number of streams.
        """
        if n_talkers in (None, self.n_outputs):
            return self
        if not self.any_array or n_talkers < 2:
            wanted = "2 talkers or more" if self.any_array else f"{self.n_outputs}, as it was trained for"
            raise UserError(f"{self.path}: expected {wanted}, found {n_talkers} (--talkers)")
        return replace(self, n_outputs=n_talkers)

    def check(self, where: str, channels: int, fs: int, resample: bool = False) -> None:
        """Raise UserError, naming ``where``, unless a recording fits this system."""
        if self.any_array and channels < self.n_outputs:
            raise UserError(
                f"{where}: {self.path} makes {self.n_outputs} streams, which takes as many microphones or "
                f"more, found {channels} (give all channels of the array, or a model for one microphone)"
            )
        most = max(MOST_MICS, self.n_mics)
        if self.any_array and channels > most:
            raise UserError(
                f"{where}: {self.path} takes 2 to {most} microphones, found {channels} (give some of the "
                "channels)"
            )
        if channels != self.n_mics and not self.any_array:
            raise UserError(
                f"{where}: {self.path} expects {self.n_mics} channel(s), found {channels} "
                "(give the channels it was trained for, or another model)"
            )
        if fs not in self.rates and not resample:
            wanted = " or ".join(map(str, self.rates))
            raise UserError(
                f"{where}: {self.path} expects {wanted} Hz, found {fs} Hz (allow resampling: --resample)"
            )


def check_length(where: str, samples: int, fs: int, max_seconds: float) -> None:
    """Raise UserError, naming ``where``, if a recording is too long to be separated as a whole.

    The limit is rounded to samples, as windows are.
    """
    if samples > max_seconds * fs + 0.5:
        raise UserError(
            f"{where}: expected at most {max_seconds:g} s, found {samples / fs:.6g} s: separated as a whole, "
            "it takes memory in proportion or more (use `mixit separate`, which takes any length, or "
            "frontend.separation.continuous.ContinuousSeparator; or raise the limit: --max_seconds)"
        )


def weights_of(path: str | Path) -> list[Path]:
    """Return the files that a trained system is loaded from, as far as they are there; nothing is checked."""
    path = Path(path)
    if path.is_file():
        return [path]
    return [path / name for name in ("config.yaml", *CHECKPOINTS) if (path / name).is_file()]


@contextlib.contextmanager
def open_trained(path: str | Path) -> Iterator[Trained]:
    """Yield the trained system at ``path``; a zip is unpacked for as long as the context lasts.

    Raises:
        UserError: nothing there, no zip of ours, or a configuration without rate or channels.
    """
    path = Path(path)
    if not path.is_file():
        yield _describe(str(path), path)
        return

    def unpack(folder: Path) -> None:
        try:
            with zipfile.ZipFile(path) as archive:
                for name in ("config.yaml", "model.pth"):
                    archive.extract(name, folder)
        except (zipfile.BadZipFile, KeyError):
            raise UserError(
                f"{path}: expected a training directory, a packed directory or a zip made by "
                "`mixit pack`, found another file"
            ) from None

    with scratch(unpack) as folder:
        yield _describe(str(path), folder)


def pack(path: str | Path, out: str | Path) -> Trained:
    """Write what inference needs of the trained system ``path`` to a directory or, if named ``*.zip``, a zip.

    Returns:
        the packed system (of a zip: as it was before packing).

    Raises:
        UserError: ``path`` is no trained system, or ``out`` exists.
    """
    out = Path(out)
    if out.exists():
        raise UserError(f"{out}: exists already (choose another name)")
    with open_trained(path) as trained:
        config = read_settings(trained.config, "config.yaml of a training")
        kept = {key: config[key] for key in _KEPT if key in config}
        kept["preprocessor_conf"] = {"fs": trained.fs}
        text = yaml.safe_dump(kept, sort_keys=False)
        if out.suffix == ".zip":
            with atomic_file(out) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("config.yaml", text)
                archive.write(trained.checkpoint, "model.pth")
            return trained
        with atomic_directory(out) as part:
            (part / "config.yaml").write_text(text, encoding="utf-8")
            shutil.copyfile(trained.checkpoint, part / "model.pth")
    return _describe(str(out), out)


def _describe(name: str, folder: Path) -> Trained:
    config = folder / "config.yaml"
    if folder == PRETRAINED and not config.is_file():
        raise UserError(
            f"expected the model that comes with the package, found none in {PRETRAINED} (install the "
            "package again, or give --model)"
        )
    if not folder.is_dir() or not config.is_file():
        raise UserError(
            f"{name}: expected a training directory with config.yaml, found none (train it first?)"
        )
    found = [folder / c for c in CHECKPOINTS if (folder / c).exists()]
    if not found:
        raise UserError(
            f"{name}: expected weights ({' or '.join(CHECKPOINTS)}), found none (is its training done?)"
        )
    try:
        values = read_settings(config, "config.yaml of a training")
        fs = int(values["preprocessor_conf"]["fs"])
        separator = values["separator_conf"]
        n_mics, n_outputs = int(separator["n_mics"]), int(separator["num_spk"])
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{config}: expected preprocessor_conf.fs, separator_conf.n_mics and separator_conf.num_spk of a "
            "separator trained here, found them missing or not numbers"
        ) from None
    any_array = values.get("separator") in ANY_ARRAY
    return Trained(name, config, found[0], fs, n_mics, n_outputs, any_array)


def keep_previous_checkpoint(directory: str | Path) -> None:
    """Copy the checkpoint of the last epoch aside; called at the start of every epoch."""
    checkpoint = Path(directory) / CHECKPOINT
    if checkpoint.exists():
        # A copy, not a link: ESPnet overwrites the file in place.
        with atomic_file(checkpoint.with_name(PREVIOUS)) as part:
            shutil.copyfile(checkpoint, part)


def is_sound_checkpoint(path: Path) -> bool:
    """Say whether ``path`` is a file that torch.save wrote to its end."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (FileNotFoundError, zipfile.BadZipFile):
        return False


def repair_checkpoint(directory: str | Path, criteria: Sequence = (("valid", "loss", "min"),)) -> dict | None:
    """Bring ``directory`` to the state after its last complete epoch.

    Returns:
        the checkpoint to go on from, or None where training starts anew. ``criteria`` are ESPnet's
        ``best_model_criterion``: (phase, value, min or max) of the models that are kept.
    """
    directory = Path(directory)
    checkpoint, previous = directory / CHECKPOINT, directory / PREVIOUS
    if not checkpoint.exists():
        return None
    if not is_sound_checkpoint(checkpoint):
        if not is_sound_checkpoint(previous):
            logging.warning("%s was cut off in its first epoch; starting anew", checkpoint)
            checkpoint.unlink()
            return None
        logging.warning("%s was cut off; going on from the epoch before", checkpoint)
        with atomic_file(checkpoint) as part:
            shutil.copyfile(previous, part)
    import torch

    states = torch.load(checkpoint, map_location="cpu", weights_only=False)
    _restore_models(directory, states, criteria)
    return states


def _restore_models(directory: Path, states: dict, criteria: Sequence) -> None:
    """Make the models and links of the epochs agree with the checkpoint."""
    import torch

    epoch = states["reporter"]["epoch"]
    for path in directory.glob("*epoch.pth"):
        number = path.name.removesuffix("epoch.pth")
        if number.isdigit() and int(number) > epoch:
            path.unlink()
    model = directory / f"{epoch}epoch.pth"
    if not is_sound_checkpoint(model):
        with atomic_file(model) as part:
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


def load_model(config: str | Path, checkpoint: str | Path, device: str = "cpu") -> torch.nn.Module:
    """Build the network of a training's ``config.yaml`` and load its weights, strictly; in evaluation mode.

    ESPnet's ``build_model_from_file`` loads with ``strict=False`` and so takes any file.

    Raises:
        UserError: no such file, not a training's configuration or weights, or weights of another network.
    """
    from frontend.training.task import FrontendTask, register  # ESPnet: seconds

    register()
    settings = read_settings(config, "config.yaml of a training")
    needed = [f"{x}{y}" for x in ("encoder", "separator", "decoder") for y in ("", "_conf")]
    missing = [k for k in (*needed, "model_conf", "criterions", "init") if k not in settings]
    if missing:
        raise UserError(f"{config}: not the config.yaml of a training: no {', '.join(missing)}")
    settings["init"] = None  # all weights are loaded, and 202611 does not know all that this could be
    model = FrontendTask.build_model(argparse.Namespace(**settings))
    state = read_state(checkpoint, device)
    load_state(model, state, str(checkpoint), f"the network of {config}")
    return model.to(device).eval()


def read_state(path: str | Path, device: str = "cpu") -> dict[str, torch.Tensor]:
    """Return the weights stored in ``path`` by name; raise a UserError if there are none or damaged ones."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; weights of a training (.pth) expected")
    if not is_sound_checkpoint(Path(path)):
        raise UserError(f"{path}: damaged, or not weights saved by PyTorch (train or copy it again)")
    import torch

    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError):
        state = None  # some other zip archive, or more than tensors
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UserError(f"{path}: weights by name expected, found something else (give a {MODEL})")
    return state


def load_state(model: torch.nn.Module, state: Mapping, where: str, what: str, as_named: bool = False) -> None:
    """Load weights, all of them.

    Args:
        model: the network.
        state: weights by name.
        where: their file.
        what: the network in words.
        as_named: refuse former names. ESPnet 202611 renamed some weights of conformers, and takes them under
            either name. But its ``--init_param`` leaves those of former names as they were drawn, and its
            average of epochs fails on two names.

    Raises:
        UserError: the first weights that are missing, unexpected or of another shape.
    """
    expected = model.state_dict()
    problems = [f"missing {k}" for k in expected if k not in state]
    problems += [f"unexpected {k}" for k in state if k not in expected]
    problems += [
        f"{k} is {tuple(state[k].shape)} instead of {tuple(expected[k].shape)}"
        for k in expected
        if k in state and state[k].shape != expected[k].shape
    ]
    try:
        is_whole = not any(model.load_state_dict(state, strict=False))
    except RuntimeError:  # a shape
        is_whole = False
    if is_whole and not (problems and as_named):
        return
    said = "; ".join(problems[:3]) + (f" and {len(problems) - 3} more" if len(problems) > 3 else "")
    if is_whole:
        raise UserError(
            f"{where}: weights are named as in an earlier ESPnet, and no training can go on from them: "
            f"{said} (train them again, or install that ESPnet)"
        )
    raise UserError(f"{where}: weights do not fit {what}: {said}")
