"""What a browser plays and shows of a signal: 16-bit wav files and spectrograms.

All signals of one utterance share one gain and one scale of colours, so that loud stays louder than soft.
"""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.signal import stft

from frontend import atomic
from frontend.datadir import AudioWriter

WINDOW_S = 0.032
RANGE_DB = 63  # as many steps of colour, 1 dB each
_MOST_COLUMNS = 480
_FULL_SCALE = 32767 / 32768  # the loudest sample that 16 bits hold on both sides


def shared_gain(signals: Iterable[np.ndarray]) -> float:
    """Return the factor at which none of the signals clips in 16 bits; 1 where none would.

    Streams are kept as floats and may exceed full scale; a player cannot.
    """
    peak = max(float(np.abs(signal).max()) for signal in signals)
    return min(1.0, _FULL_SCALE / peak) if peak > 0 else 1.0


def write_audio(path: Path, signal: np.ndarray, fs: int, gain: float) -> None:
    """Write ``(T,)`` times ``gain`` to ``path``, a ``.wav`` of 16 bits."""
    with AudioWriter(path.parent, "wav", fs) as writer:
        writer.write(path.stem, np.asarray(signal, np.float64) * gain)


def power_db(signal: np.ndarray, fs: int) -> np.ndarray:
    """Return the spectrogram of ``(T,)`` in dB, ``(F, L)``, low frequencies first; -inf in silence.

    Windows of 32 ms (Hann), a new one every 8 ms; the power of neighbours is averaged where there would be
    more than 480 columns.
    """
    window = round(WINDOW_S * fs)
    padded = np.pad(np.asarray(signal, np.float64), (0, max(0, window - len(signal))))
    power = np.abs(stft(padded, fs, "hann", window, window - window // 4)[2]) ** 2
    starts = np.arange(0, power.shape[1], -(-power.shape[1] // _MOST_COLUMNS))
    widths = np.diff(starts, append=power.shape[1])
    with np.errstate(divide="ignore"):
        return 10 * np.log10(np.add.reduceat(power, starts, axis=1) / widths)


def write_spectrogram(path: Path, levels: np.ndarray, top_db: float) -> None:
    """Draw ``(F, L)`` in dB as a PNG, a pixel a bin, from ``top_db`` (bright) to 63 dB below it (dark)."""
    with np.errstate(invalid="ignore"):  # -inf - -inf where all is silent; fmax makes it 0
        steps = np.fmax(levels - top_db + RANGE_DB, 0).clip(max=RANGE_DB)
    image = Image.fromarray(np.rint(steps[::-1]).astype(np.uint8))
    image.putpalette(_palette())
    encoded = io.BytesIO()
    image.save(encoded, format="PNG", optimize=True)
    with atomic.file(path) as part:
        part.write_bytes(encoded.getvalue())


def _palette() -> bytes:
    from matplotlib import colormaps

    return (
        (colormaps["magma"](np.linspace(0, 1, RANGE_DB + 1))[:, :3] * 255).round().astype(np.uint8).tobytes()
    )
