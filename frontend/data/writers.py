"""Audio out: wav and flac files and Kaldi archives of them; whole or absent, and alike in every run.

:class:`AudioWriter` writes recordings that fit in memory and returns the entry of each; :class:`BlockWriter`
writes recordings of any length, or several streams, block by block.
"""

import contextlib
import io
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import kaldiio
import numpy as np
import soundfile
from scipy.io import wavfile

from frontend.utils.errors import UserError
from frontend.utils.files import atomic_file

AUDIO_FORMATS = ("wav", "flac", "flac.ark")
_WAV_BYTES = 2**32 - 1  # a wav's sizes have 32 bits
_WIDTHS = {"pcm16": 2, "pcm24": 3, "float32": 4}
_BLOCK = 1 << 20  # samples


def ending_for(channels: int) -> str:
    """Return ``flac``, or ``wav`` for more channels than that can hold."""
    return "flac" if channels <= 8 else "wav"


class AudioWriter:
    """Write recordings of one rate as files ``directory/ID.wav``, or into one archive; a context manager.

    Args:
        directory: where the audio goes; entries name it as given, so relative stays relative.
        audio_format: ``wav`` or ``flac`` (a file an id, complete or not there), or ``flac.ark``
            (records are appended to ``directory/NAME.ark``; a reader looks only where an entry points,
            so half a record left by a kill does no harm).
        fs: rate in Hz.
        name: of the archive.
        encoding: ``pcm16``, or ``float32`` (wav only; nothing clips).

    Raises:
        UserError: unknown format or encoding.
    """

    def __init__(
        self,
        directory: str | Path,
        audio_format: str,
        fs: int,
        name: str = "audio",
        encoding: str = "pcm16",
    ):
        if audio_format not in AUDIO_FORMATS:
            raise UserError(f"audio format '{audio_format}': expected one of {', '.join(AUDIO_FORMATS)}")
        if encoding != "pcm16" and (encoding, audio_format) != ("float32", "wav"):
            raise UserError(f"encoding '{encoding}' as {audio_format}: expected pcm16, or float32 as wav")
        self.directory, self.audio_format = Path(directory), audio_format
        self.fs, self.encoding = int(fs), encoding
        self.directory.mkdir(parents=True, exist_ok=True)
        archive = self.directory / f"{name}.ark"
        self._archive = open(str(archive), "ab") if audio_format == "flac.ark" else None

    def __enter__(self) -> "AudioWriter":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Close the archive, if there is one."""
        if self._archive:
            self._archive.close()

    def write(self, utterance_id: str, data: np.ndarray) -> str:
        """Write ``(C, T)`` or ``(T,)`` floats and return the entry for a ``.scp`` file.

        Raises:
            UserError: not finite, no samples, beyond full scale in 16 bits, an id that is no file name.
        """
        if "/" in utterance_id or not utterance_id.isprintable() or " " in utterance_id:
            raise UserError(f"id '{utterance_id}': expected no '/', blank or control character")
        data = np.atleast_2d(data).T  # (T, C)
        if data.shape[0] == 0:
            raise UserError(f"{utterance_id}: 0 samples to write")
        if not np.isfinite(data).all():
            raise UserError(
                f"{utterance_id}: NaN or infinity at sample {np.argmin(np.isfinite(data).all(axis=1))}"
            )
        data = data.astype(np.float32) if self.encoding == "float32" else to_pcm16(data, utterance_id)
        flac = {"format": "FLAC", "subtype": "PCM_16"}
        if self._archive:
            offset = self._archive.tell() + len(f"{utterance_id} ".encode())
            record = {utterance_id: (data, self.fs)}
            kaldiio.save_ark(self._archive, record, write_function="soundfile", write_kwargs=flac)
            self._archive.flush()
            return f"{self._archive.name}:{offset}"
        path = self.directory / f"{utterance_id}.{self.audio_format}"
        with atomic_file(path) as part:
            if self.audio_format == "wav":
                # libsndfile would put the time of day into a float wav: no two runs alike.
                wavfile.write(part, self.fs, data)
            else:
                # Encoded in memory, so that a full disk is an OSError and not one of libsndfile's.
                encoded = io.BytesIO()
                soundfile.write(encoded, data, self.fs, **flac)
                part.write_bytes(encoded.getvalue())
        return str(path)


class BlockWriter:
    """Audio of any length, written block by block: one file of C channels, or S mono files; whole or absent.

    All files come under their names together, when the ``with`` block ends without an error. A wav holds no
    time of day, so that two runs are alike, and becomes an RF64 (EBU Tech 3306) beyond 4 GiB.

    Args:
        paths: a path, ``.wav`` or ``.flac``: all rows of the blocks are channels of this file. A sequence of
            S paths, or a function of a stream's number (from 1) where S is not known before: a mono file for
            each row.
        fs: rate in Hz.
        encoding: ``pcm16`` or ``pcm24``, where what passes full scale is clipped, or ``float32`` (wav only).

    Attributes:
        written: samples so far.
        peak: largest magnitude so far.
    """

    def __init__(
        self, paths: Path | Sequence[Path] | Callable[[int], Path], fs: int, encoding: str = "float32"
    ):
        self._paths, self.fs, self.encoding = paths, fs, encoding
        self.written, self.peak = 0, 0.0
        self._files: list[_WavFile | soundfile.SoundFile] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "BlockWriter":
        return self

    def __exit__(self, *exception) -> bool | None:
        return self._stack.__exit__(*exception)

    def write(self, block: np.ndarray) -> None:
        """Append ``(C, n)`` or ``(S, n)`` floats; the first block says how many rows there are."""
        if not self._files:
            self._open(len(block))
        rows = [block] if isinstance(self._paths, Path) else [row[None] for row in block]
        for file, row in zip(self._files, rows, strict=True):
            is_wav = isinstance(file, _WavFile)
            file.write(row if is_wav else _integers(row, 8 * _WIDTHS[self.encoding]).T)
        self.written += block.shape[1]
        self.peak = max(self.peak, float(np.abs(block).max(initial=0.0)))

    def make_integers(self) -> None:
        """Turn float32 wav files into 16-bit ones, as the last act before the ``with`` block ends."""
        for file in self._files:
            file.close()
            with atomic_file(file.path) as aside:
                with contextlib.closing(_WavFile(aside, self.fs, file.channels, "pcm16")) as out:
                    for block in file.blocks():
                        out.write(block)

    def _open(self, rows: int) -> None:
        if isinstance(self._paths, Path):
            paths, channels = [self._paths], rows
        elif callable(self._paths):
            paths, channels = [self._paths(k) for k in range(1, rows + 1)], 1
        else:
            paths, channels = list(self._paths), 1
        for path in paths:
            part = self._stack.enter_context(atomic_file(path))
            if path.suffix == ".wav":
                file = _WavFile(part, self.fs, channels, self.encoding)
            else:
                layout = {"format": "FLAC", "subtype": f"PCM_{8 * _WIDTHS[self.encoding]}"}
                file = soundfile.SoundFile(part, "w", self.fs, channels, **layout)
            self._stack.callback(file.close)
            self._files.append(file)


class _WavFile:
    """A wav that is written piece by piece.

    Not by libsndfile: a full disk would be an error of its own, and a float wav would hold the time of day.
    """

    def __init__(self, path: Path, fs: int, channels: int, encoding: str):
        self.path, self.fs, self.channels, self.encoding = path, fs, channels, encoding
        self.frames = 0
        self.file = open(path, "wb")
        self.file.write(self._header())

    def close(self) -> None:
        """Put the final header before the samples; a second call does nothing."""
        if not self.file.closed:
            with self.file:
                self.file.seek(0)
                self.file.write(self._header())

    def _header(self) -> bytes:
        return wav_header(self.frames, self.fs, self.channels, self.encoding)

    def write(self, block: np.ndarray) -> None:
        """Append ``(C, n)`` floats."""
        if self.encoding == "float32":
            self.file.write(np.ascontiguousarray(block.T, "<f4").data)
        else:  # the upper bytes of each integer
            width = _WIDTHS[self.encoding]
            whole = np.ascontiguousarray(_integers(block, 8 * width).T, "<i4").view(np.uint8)
            self.file.write(np.ascontiguousarray(whole.reshape(-1, 4)[:, 4 - width :]).data)
        self.frames += block.shape[1]

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield what was written, ``(C, n)``; of a closed float32 file."""
        with open(self.path, "rb") as file:
            file.seek(len(self._header()))
            while raw := file.read(_BLOCK * 4 * self.channels):
                yield np.frombuffer(raw, "<f4").reshape(-1, self.channels).T


def wav_header(frames: int, fs: int, channels: int, encoding: str, limit: int = _WAV_BYTES) -> bytes:
    """Return what stands before ``frames`` samples a channel of a wav, of the same length for any number.

    Beyond ``limit`` bytes it is the header of an RF64.
    """
    width, is_float = _WIDTHS[encoding], encoding == "float32"
    frame = channels * width
    layout = (3 if is_float else 1, channels, fs, fs * frame, frame, 8 * width)
    chunks = struct.pack("<4sIHHIIHH", b"fmt ", 18 if is_float else 16, *layout)
    if is_float:  # all but integers need the extended form and a chunk "fact"
        chunks += struct.pack("<H4sII", 0, b"fact", 4, min(frames, 0xFFFFFFFF))
    size = frames * frame
    total = 4 + 36 + len(chunks) + 8 + size
    if 8 + total <= limit:
        names, sizes, wide = (b"RIFF", b"JUNK"), (total, size), (0, 0, 0)
    else:
        names, sizes, wide = (b"RF64", b"ds64"), (0xFFFFFFFF, 0xFFFFFFFF), (total, size, frames)
    head = struct.pack("<4sI4s4sIQQQI", names[0], sizes[0], b"WAVE", names[1], 28, *wide, 0)
    return head + chunks + struct.pack("<4sI", b"data", sizes[1])


def to_pcm16(data: np.ndarray, name: str = "signal") -> np.ndarray:
    """Return floats of full scale 1.0 as int16; whole numbers of 16 bits are read back as they were.

    libsndfile's own conversion scales by 32767 and would miss that grid.

    Raises:
        UserError: the signal exceeds full scale; ``name`` is named.
    """
    grid = np.rint(np.asarray(data, np.float64) * 32768)
    if grid.size and (grid.max() > 32768 or grid.min() < -32768):
        peak = np.abs(grid).max() / 32768
        raise UserError(f"{name}: peak {peak:.3g} exceeds full scale 1.0 (scale it, or write float32)")
    return np.minimum(grid, 32767).astype(np.int16)


def _integers(block: np.ndarray, bits: int) -> np.ndarray:
    """Floats to int32 whose upper ``bits`` hold the sample, as libsndfile writes them without scaling."""
    top = 2.0 ** (bits - 1)
    samples = np.clip(np.rint(block.astype(np.float64) * top), -top, top - 1)
    return (samples.astype(np.int64) << (32 - bits)).astype(np.int32)
