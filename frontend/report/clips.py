"""What the pages to listen to have in common: one folder with ``report.html``, the audio and the pictures.

The folder opens from disk, without a server or a network.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from frontend.data.writers import AudioWriter
from frontend.evaluation.without_references import spectrogram_db
from frontend.report.pages import render
from frontend.report.plots import RANGE_DB, write_spectrogram
from frontend.utils.errors import UserError
from frontend.utils.files import atomic_directory, write_text

PAGE, FILES = "report.html", "report_files"
MOST = 8  # utterances, or recordings
MOST_BYTES = 24_000_000  # of audio; with its spectrograms the folder stays below 40 MB
_FULL_SCALE = 32767 / 32768  # the largest sample that 16 bits hold on both sides


@contextlib.contextmanager
def new_page(out: Path) -> Iterator[Path]:
    """Yield a directory with an empty ``report_files/`` that takes the place of ``out`` in the end.

    Raises:
        UserError: ``out`` is a file, or holds something else than such a page.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: expected a directory to make, found a file (choose another)")
    for child in sorted(out.iterdir()) if out.is_dir() else ():
        if child.name not in (PAGE, FILES):
            raise UserError(f"{out}: holds {child.name}, which would be lost (choose a directory of its own)")
    with atomic_directory(out) as part:
        (part / FILES).mkdir()
        yield part


def write_html(part: Path, template: str, **values: object) -> None:
    """Write the page of :func:`new_page` by a template."""
    write_text(part / PAGE, render(template, range_db=RANGE_DB, **values))


def clip(stem: str, title: str, texts: list[dict], **more: object) -> dict:
    """Return what a page shows of one signal.

    Args:
        stem: of its files.
        title: its caption.
        texts: words below it, ``{title, pairs}`` each; a pair is (mark, said, recognised).
        more: ``si_snri`` in dB, ``silent``.
    """
    return {"stem": stem, "title": title, "texts": texts, "si_snri": None, "silent": False, **more}


def write_clips(part: Path, number: int, signals: Mapping[str, np.ndarray], fs: int) -> dict:
    """Write 16-bit audio and spectrograms of an example, all at one gain and one scale of colours.

    Streams are kept as floats and may exceed full scale; a player cannot. The gain is 1 where nothing clips.

    Args:
        part: of :func:`new_page`.
        number: of the example; its files lie in ``report_files/NN``.
        signals: stem -> (T,), all of one length.
        fs: in Hz.

    Returns:
        what the page says of the example: ``gain``, ``turned_down`` in dB, ``directory``, ``khz`` at the top
        of the pictures.
    """
    directory = f"{FILES}/{number:02d}"
    peak = max(float(np.abs(signal).max()) for signal in signals.values())
    gain = min(1.0, _FULL_SCALE / peak) if peak > 0 else 1.0
    levels = {name: spectrogram_db(signal, fs) for name, signal in signals.items()}
    top = max(level.max() for level in levels.values())
    with AudioWriter(part / directory, "wav", fs) as writer:
        for name, signal in signals.items():
            writer.write(name, np.asarray(signal, np.float64) * gain)
            write_spectrogram(part / directory / f"{name}.png", levels[name], top)
    khz = f"{fs / 2000:.1f}".removesuffix(".0")
    return {"gain": gain, "turned_down": -20 * np.log10(gain), "directory": directory, "khz": khz}
