"""The page to listen to: ``report.html`` and the audio and pictures it needs, in one folder.

The folder opens from disk: no server, no network, nothing outside it. It holds what
``results.json`` says, and for some utterances what one hears, sees and reads of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from frontend import atomic
from frontend.errors import UserError
from frontend.listen_examples import Example
from frontend.listen_media import power_db, shared_gain, write_audio, write_spectrogram
from frontend.listen_page import Page, render
from frontend.listen_source import Source
from frontend.systems import System

PAGE, FILES = "report.html", "report_files"


@dataclass(frozen=True)
class Picture:
    """A plot for the page: a PNG file, its heading, and what it shows in words."""

    title: str
    path: Path
    alt: str


def write_listening_page(
    out: Path,
    results: Mapping,
    experiment: Path,
    systems: Sequence[System],
    pictures: Sequence[Picture] = (),
) -> Path:
    """Write ``report.html`` and ``report_files/`` to ``out``, which is replaced as a whole.

    Args:
        out: a directory of its own, such as ``exp/NAME/report``.
        results: what ``results.json`` holds.
        experiment: ``exp/NAME`` with ``scores/``, ``separated/test/`` and, if words were counted, ``wer/``.
        systems: what the systems file lists; others are not played.
        pictures: plots to show.

    Returns:
        the page.

    Raises:
        UserError: ``out`` holds something else; scores, word errors, streams and test set do not fit.
    """
    _refuse_to_replace(out)
    source = Source(experiment, systems)
    with atomic.directory(out) as part:
        files = part / FILES
        files.mkdir()
        for number, picture in enumerate(pictures, 1):
            (files / f"plot{number}.png").write_bytes(_picture(picture.path))
        examples = [
            _write_media(files / f"{number:02d}", *source.example(key, kind))
            for number, (key, kind) in enumerate(source.choose().items(), 1)
        ]
        plots = [(one.title, f"{FILES}/plot{number}.png", one.alt) for number, one in enumerate(pictures, 1)]
        page = Page(results, experiment.name, source.main, source.played, examples, plots, source.has_words)
        atomic.write_text(part / PAGE, render(page))
    return out / PAGE


def _write_media(directory: Path, example: Example, signals: Mapping[str, np.ndarray]) -> Example:
    """Write the clips of an example; return it with gain and place of its files."""
    directory.mkdir()
    gain = shared_gain(signals.values())
    levels = {stem: power_db(signal, example.fs) for stem, signal in signals.items()}
    top = max(level.max() for level in levels.values())
    for stem, signal in signals.items():
        write_audio(directory / f"{stem}.wav", signal, example.fs, gain)
        write_spectrogram(directory / f"{stem}.png", levels[stem], top)
    return replace(example, gain=gain, directory=f"{FILES}/{directory.name}")


def _picture(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such picture for the page (make the report again)") from None


def _refuse_to_replace(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: expected a directory to make, found a file (choose another)")
    for child in sorted(out.iterdir()) if out.is_dir() else ():
        if child.name not in (PAGE, FILES):
            raise UserError(f"{out}: holds {child.name}, which would be lost (choose a directory of its own)")
