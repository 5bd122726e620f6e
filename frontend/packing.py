"""Where a trained system lies: a training directory, a packed directory, or a zip of one.

A packed system is ``config.yaml`` (the network's part of the training's
configuration, without paths) and ``model.pth`` (the weights); it loads on any
machine that has this package. Nothing here imports torch: a wrong path or
number of microphones is reported before the long imports.
"""

import contextlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from frontend import atomic
from frontend.errors import UserError

# Of a packed system, and of a training: the averaged model, which is written at its end.
CHECKPOINTS = ("model.pth", "valid.loss.ave.pth")
# A network sees a recording as a whole. Measured on a CPU, for the 4 channels at 8 kHz of egs/mini: MaskNet
# takes 4 MiB per second of it, 9 with the beamformer; the attention of TF-GridNet grows with the square.
MAX_SECONDS = 120.0
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
        n_mics: channels it takes.
        n_outputs: streams it gives.
    """

    path: str
    config: Path
    checkpoint: Path
    fs: int
    n_mics: int
    n_outputs: int

    def check(self, where: str, channels: int, fs: int, resample: bool = False) -> None:
        """Raise UserError, naming ``where``, unless a recording fits this system."""
        if channels != self.n_mics:
            raise UserError(
                f"{where}: {self.path} expects {self.n_mics} channel(s), found {channels} "
                "(give the channels it was trained for, or another model)"
            )
        if fs != self.fs and not resample:
            raise UserError(
                f"{where}: {self.path} expects {self.fs} Hz, found {fs} Hz (allow resampling: --resample)"
            )


def check_length(where: str, seconds: float, max_seconds: float) -> None:
    """Raise UserError, naming ``where``, if a recording is too long to be separated as a whole."""
    if seconds > max_seconds:
        raise UserError(
            f"{where}: expected at most {max_seconds:g} s, found {seconds:.6g} s: separated as a whole, it "
            "takes memory in proportion or more (use `python -m frontend.bin.separate`, which takes any "
            "length, or frontend.continuous.ContinuousSeparator; or raise the limit: --max_seconds)"
        )


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[Trained]:
    """Yield the trained system at ``path``; a zip is unpacked for as long as the context lasts.

    Raises:
        UserError: nothing there, no zip of ours, or a configuration without rate or channels.
    """
    path = Path(path)
    if not path.is_file():
        yield _describe(str(path), path)
        return
    with tempfile.TemporaryDirectory(prefix="frontend-model-") as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                for name in ("config.yaml", "model.pth"):
                    archive.extract(name, folder)
        except (zipfile.BadZipFile, KeyError):
            raise UserError(
                f"{path}: expected a training directory, a packed directory or a zip made by "
                "`python -m frontend.bin.pack`, found another file"
            ) from None
        yield _describe(str(path), Path(folder))


def pack(path: str | Path, out: str | Path) -> Trained:
    """Write what inference needs of a training directory to one directory or, if named ``*.zip``, a zip.

    Args:
        path: a training directory (or anything :func:`opened` takes).
        out: the directory or zip to write; it must not exist.

    Returns:
        The packed system (of a zip: as it was before packing).

    Raises:
        UserError: ``path`` is no trained system, or ``out`` exists.
    """
    out = Path(out)
    if out.exists():
        raise UserError(f"{out}: exists already; remove it or choose another name")
    with opened(path) as trained:
        config = yaml.safe_load(trained.config.read_text(encoding="utf-8"))
        kept = {key: config[key] for key in _KEPT if key in config}
        kept["preprocessor_conf"] = {"fs": trained.fs}
        text = yaml.safe_dump(kept, sort_keys=False)
        if out.suffix == ".zip":
            with atomic.file(out) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("config.yaml", text)
                archive.write(trained.checkpoint, "model.pth")
            return trained
        with atomic.directory(out) as part:
            (part / "config.yaml").write_text(text, encoding="utf-8")
            shutil.copyfile(trained.checkpoint, part / "model.pth")
    return _describe(str(out), out)


def _describe(name: str, folder: Path) -> Trained:
    config = folder / "config.yaml"
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
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
        fs = int(values["preprocessor_conf"]["fs"])
        separator = values["separator_conf"]
        n_mics, n_outputs = int(separator["n_mics"]), int(separator["num_spk"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        raise UserError(
            f"{config}: expected preprocessor_conf.fs, separator_conf.n_mics and separator_conf.num_spk of a "
            "separator trained here, found them missing or not numbers"
        ) from None
    return Trained(name, config, found[0], fs, n_mics, n_outputs)
