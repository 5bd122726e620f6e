"""Recorded noise, such as wham_noise: folders tr, cv and tt of wav files, or one flat folder."""

import math
from pathlib import Path

from librispeech import SUBSETS

from frontend.utils.errors import UserError
from frontend.utils.rng import generator

_WHAM = {"train": "tr", "labelled": "tr", "dev": "cv", "test": "tt"}
_SHARES = {"dev": 0.1, "test": 0.1}  # of a flat folder; the rest is for training


def plan_noise(directory: Path, seed: int, number: int) -> dict[str, list[Path]]:
    """Return the files of each set; none is used in two of train (with labelled), dev and test.

    Args:
        directory: with ``tr/ cv/ tt/``, or with wav files.
        seed: of the split of a flat folder, and of the choice.
        number: of files a set, 0: all.

    Raises:
        UserError: neither layout is there.
    """
    if not directory.is_dir():
        raise UserError(f"--noise_dir {directory}: no such folder (give the one that holds tr/ cv/ tt/)")
    folders = {name for name in _WHAM.values() if (directory / name).is_dir()}
    flat = _wavs(directory)
    if folders and len(folders) < 3:
        lacking = ", ".join(sorted({*_WHAM.values()} - folders))
        raise UserError(
            f"--noise_dir {directory}: expected tr/ cv/ tt/, found no {lacking} (unpack it again)"
        )
    if not folders and not flat:
        inside = [p for p in sorted(directory.iterdir()) if (p / "tr").is_dir()]
        hint = f"give {inside[0]}" if inside else "check the path"
        raise UserError(f"--noise_dir {directory}: expected tr/ cv/ tt/ or wav files, found neither ({hint})")
    files = {s: _wavs(directory / f) for s, f in _WHAM.items()} if folders else _split(flat, seed)
    for name, found in files.items():
        if not found:
            raise UserError(f"--noise_dir {directory}: no wav file is left for {name} (give more recordings)")
    return {name: sorted(_shuffled(found, seed, "noise")[: number or None]) for name, found in files.items()}


def _shuffled(files: list[Path], seed: int, purpose: str) -> list[Path]:
    return sorted(files, key=lambda p: generator(seed, p.name, purpose).random())


def _wavs(directory: Path) -> list[Path]:
    return sorted(p for p in directory.iterdir() if p.suffix.lower() in (".wav", ".flac"))


def _split(files: list[Path], seed: int) -> dict[str, list[Path]]:
    ranked = _shuffled(files, seed, "noise_split")
    first = math.ceil(_SHARES["dev"] * len(files))
    second = first + math.ceil(_SHARES["test"] * len(files))
    parts = {"dev": ranked[:first], "test": ranked[first:second], "train": ranked[second:]}
    return {name: parts["train" if name == "labelled" else name] for name in SUBSETS}
