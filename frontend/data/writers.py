"""Audio out: wav and flac files and Kaldi archives of them; whole or absent, and alike in every run.

:class:`AudioWriter` writes recordings that fit in memory and returns the entry of each; :class:`BlockWriter`
writes recordings of any length, or several streams, block by block. Nothing is clipped: where a sample is
beyond the full scale of integers, the file is a wav of 32-bit floats instead, and a line says so.
"""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np
import soundfile
from scipy.io import wavfile

from frontend import AUDIO_FORMATS
from frontend.data.headers import WIDTHS, wav_header
from frontend.utils.errors import UserError, warn
from frontend.utils.files import atomic_file, scratch_file

_BLOCK = 1 << 20  # samples


_FLAC_CHANNELS = 8


def ending_for(channels: int) -> str:
    """Return ``flac``, or ``wav`` for more channels than that can hold."""
    return "flac" if channels <= _FLAC_CHANNELS else "wav"


def check_format(audio_format: str, channels: int, where: str = "audio format") -> None:
    """Raise UserError unless a format is known and holds so many channels; for checks before the work."""
    if audio_format not in AUDIO_FORMATS:
        raise UserError(f"{where} '{audio_format}': expected one of {', '.join(AUDIO_FORMATS)}")
    if audio_format != "wav" and channels > _FLAC_CHANNELS:
        raise UserError(
            f"{where} {audio_format}: flac holds at most {_FLAC_CHANNELS} channels, found {channels} "
            "(take wav)"
        )


def existing(path: Path) -> Path:
    """Return the file that was written under this name; beyond full scale it ends in ``.wav``."""
    floats = path.with_name(f"{path.stem}.wav")
    return floats if path.suffix == ".flac" and not path.is_file() and floats.is_file() else path


class AudioWriter:
    """Write recordings of one rate as files ``directory/ID.wav``, or into one archive; a context manager.

    Args:
        directory: where the audio goes; entries name it as given, so relative stays relative.
        audio_format: ``wav`` or ``flac`` (a file an id, complete or not there), or ``flac.ark``
            (records are appended to ``directory/NAME.ark``; a reader looks only where an entry points,
            so half a record left by a kill does no harm).
        fs: rate in Hz.
        name: of the archive.

    Samples are integers of 16 bits. A recording beyond their full scale becomes a wav of 32-bit floats,
    ``directory/ID.wav``, whatever the format of the others.

    Raises:
        UserError: unknown format.
    """

    def __init__(self, directory: str | Path, audio_format: str, fs: int, name: str = "audio"):
        check_format(audio_format, 1)
        self.directory, self.audio_format = Path(directory), audio_format
        self.fs, self._said = int(fs), False
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
            UserError: not finite, no samples, too many channels for flac, an id that is no file name.
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
        check_format(self.audio_format, data.shape[1], f"{utterance_id}: audio format")
        kind, name = self.audio_format, self.directory / utterance_id
        if is_beyond(peak := float(np.abs(data).max())):
            if not self._said:
                _say_floats(f"{name}.{kind}", peak)
                self._said = True  # once for all that this writer writes
            kind, data = "wav", data.astype(np.float32)
        else:
            data = to_pcm16(data, utterance_id)
        flac = {"format": "FLAC", "subtype": "PCM_16"}
        if kind == "flac.ark":
            assert self._archive is not None
            offset = self._archive.tell() + len(f"{utterance_id} ".encode())
            record = {utterance_id: (data, self.fs)}
            kaldiio.save_ark(self._archive, record, write_function="soundfile", write_kwargs=flac)
            self._archive.flush()
            return f"{self._archive.name}:{offset}"
        path = name.with_name(f"{utterance_id}.{kind}")
        with atomic_file(path) as part:
            if kind == "wav":
                # libsndfile would put the time of day into a float wav: no two runs alike.
                wavfile.write(part, self.fs, data)
            else:
                # Encoded in memory, so that a full disk is an OSError and not one of libsndfile's.
                encoded = io.BytesIO()
                soundfile.write(encoded, data, self.fs, **flac)
                part.write_bytes(encoded.getvalue())
        if kind != self.audio_format:  # of an earlier run
            name.with_name(f"{utterance_id}.{self.audio_format}").unlink(missing_ok=True)
        return str(path)


def is_beyond(peak: float, bits: int = 16) -> bool:
    """Tell whether integers of so many bits would clip a peak: rounded to them it is above full scale 1.0."""
    top = 2.0 ** (bits - 1)
    return bool(np.rint(peak * top) > top)


def _say_floats(name: str, peak: float) -> None:
    warn(
        f"{name}: a peak of {peak:.3g}, integers end at full scale 1.0: written as {Path(name).stem}.wav of "
        "32-bit floats, to the sample"
    )


class BlockWriter:
    """Audio of any length, written block by block: one file of C channels, or S mono files; whole or absent.

    All files come under their names together, when the ``with`` block ends without an error. A wav holds no
    time of day, so that two runs are alike, and becomes an RF64 (EBU Tech 3306) beyond 4 GiB.

    Integers are written as floats first, until the peak is known. Where one of the files has a sample beyond
    full scale, all of them stay wav files of 32-bit floats, under names that end in ``.wav``
    (:func:`existing`).

    Args:
        paths: a path, ``.wav`` or ``.flac``: all rows of the blocks are channels of this file. A sequence of
            S paths, or a function of a stream's number (from 1) where S is not known before: a mono file for
            each row.
        fs: rate in Hz.
        encoding: ``pcm16``, ``pcm24``, or ``float32`` (wav only), which may be changed while it writes.
        fits: no sample can be beyond full scale: integers are written at once, into a file that is smaller.

    Attributes:
        written: samples so far.
        peak: largest magnitude so far.
    """

    def __init__(
        self,
        paths: Path | Sequence[Path] | Callable[[int], Path],
        fs: int,
        encoding: str = "float32",
        fits: bool = False,
    ):
        self._paths, self.fs, self.encoding, self._fits = paths, fs, encoding, fits
        self.written, self.peak = 0, 0.0
        self._files: list[tuple[Path, Any]] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "BlockWriter":
        return self

    def __exit__(self, kind: type | None, *exception) -> bool | None:
        if kind is not None or self._fits:
            return self._stack.__exit__(kind, *exception)
        with contextlib.ExitStack() as stack:
            stack.push(self._stack)
            self._finish()
        return None

    def write(self, block: np.ndarray) -> None:
        """Append ``(C, n)`` or ``(S, n)`` floats; the first block says how many rows there are."""
        if not self._files:
            self._open(len(block))
        rows = [block] if isinstance(self._paths, Path) else [row[None] for row in block]
        for (_, file), row in zip(self._files, rows, strict=True):
            file.write(row)
        self.written += block.shape[1]
        self.peak = max(self.peak, float(np.abs(block).max(initial=0.0)))
        if self._fits and is_beyond(self.peak):
            raise ValueError(f"{self._files[0][0]}: a peak of {self.peak}, integers were said to hold all")

    def make_integers(self) -> None:
        """Let the files be 16-bit ones, as the last act before the ``with`` block ends."""
        self.encoding = "pcm16"

    def _open(self, rows: int) -> None:
        if isinstance(self._paths, Path):
            paths, channels = [self._paths], rows
        elif callable(self._paths):
            paths, channels = [self._paths(k) for k in range(1, rows + 1)], 1
        else:
            paths, channels = list(self._paths), 1
        for path in paths:
            if self._fits:
                part = self._stack.enter_context(atomic_file(path))
                file = _new_file(part, path.suffix, self.fs, channels, self.encoding)
            else:
                part = self._stack.enter_context(scratch_file(path.with_name(f"{path.stem}.f32")))
                file = _WavFile(part, self.fs, channels, "float32")
            self._stack.callback(file.close)
            self._files.append((path, file))

    def _finish(self) -> None:
        """Turn the floats into what they are to be, under names that come with the end of the stack."""
        loud = self.encoding != "float32" and is_beyond(self.peak, 8 * WIDTHS[self.encoding])
        if loud:
            _say_floats(str(self._files[0][0]), self.peak)
        for path, file in self._files:
            file.close()
            floats = path.with_name(f"{path.stem}.wav")
            final = floats if loud else path
            if path != floats:  # of an earlier run
                self._stack.callback((path if loud else floats).unlink, missing_ok=True)
            part = self._stack.enter_context(atomic_file(final))
            if loud or self.encoding == "float32":
                os.replace(file.path, part)
                continue
            with contextlib.closing(
                _new_file(part, path.suffix, self.fs, file.channels, self.encoding)
            ) as out:
                for block in file.blocks():
                    out.write(block)


def _new_file(path: Path, suffix: str, fs: int, channels: int, encoding: str) -> "_WavFile | _FlacFile":
    kind = _WavFile if suffix == ".wav" else _FlacFile
    return kind(path, fs, channels, encoding)


class _FlacFile:
    """A flac of 16 or 24 bits that is written piece by piece."""

    def __init__(self, path: Path, fs: int, channels: int, encoding: str):
        check_format("flac", channels, f"{path}:")
        self.path, self.channels, self._bits = path, channels, 8 * WIDTHS[encoding]
        self._file = soundfile.SoundFile(path, "w", fs, channels, format="FLAC", subtype=f"PCM_{self._bits}")

    def write(self, block: np.ndarray) -> None:
        """Append ``(C, n)`` floats."""
        self._file.write(_integers(block, self._bits).T)

    def close(self) -> None:
        """Complete the file; a second call does nothing."""
        self._file.close()


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
            width = WIDTHS[self.encoding]
            whole = np.ascontiguousarray(_integers(block, 8 * width).T, "<i4").view(np.uint8)
            self.file.write(np.ascontiguousarray(whole.reshape(-1, 4)[:, 4 - width :]).data)
        self.frames += block.shape[1]

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield what was written, ``(C, n)``; of a closed float32 file."""
        with open(self.path, "rb") as file:
            file.seek(len(self._header()))
            while raw := file.read(_BLOCK * 4 * self.channels):
                yield np.frombuffer(raw, "<f4").reshape(-1, self.channels).T


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
