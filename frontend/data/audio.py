"""Audio in and out: wav and flac files and Kaldi archives of them, arrays ``(C, T)`` of full scale 1.0.

An entry of a ``.scp`` file names a file, a place in an archive (``FILE.ark:OFFSET``), or audio that is made
when it is read (``scene:...``, see :func:`frontend.data.register_reader`).

A long recording is read by :func:`read_blocks` and written by :class:`BlockWriter`, so that memory does not
grow with its length. It is one file of C channels, or C files of one channel each.
"""

from __future__ import annotations

import contextlib
import io
import json
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import kaldiio
import numpy as np
import soundfile
from scipy.io import wavfile

from frontend.data import reader_of
from frontend.utils.errors import UserError
from frontend.utils.files import atomic_file
from frontend.utils.stamps import of_text

AUDIO_FORMATS = ("wav", "flac", "flac.ark")


class Reader(NamedTuple):
    """How the audio of a scheme of entries is made; each function takes the whole entry.

    Attributes:
        file: the file that the audio is described in.
        info: (channels, frames, fs in Hz), without making the audio.
        read: ``(C, T)`` float32 without NaN, not to be written to, and the rate in Hz.
        stamp: what changes if and only if the audio does.
    """

    file: Callable[[str], Path]
    info: Callable[[str], tuple[int, int, int]]
    read: Callable[[str], tuple[np.ndarray, int]]
    stamp: Callable[[str], tuple]


def _split_archive(entry: str) -> tuple[str, int | None]:
    path, colon, offset = entry.rpartition(":")
    return (path, int(offset)) if colon and offset.isdecimal() else (entry, None)


def audio_file(entry: str) -> Path:
    """Return the file, or archive, that an entry of a ``.scp`` file names; the scenes of a rendered one."""
    reader = reader_of(entry)
    if reader:
        return reader.file(entry)
    return Path(_split_archive(entry)[0])


def entry_stamp(entry: str) -> tuple:
    """Return what changes when the audio of an entry does: size and time of change of its file or archive.

    For audio that is made when it is read it is what its reader says: a digest of the scene and its speech.

    Raises:
        UserError: there is no such file.
    """
    reader = reader_of(entry)
    if reader:
        return reader.stamp(entry)
    path = audio_file(entry)
    try:
        found = path.stat()
    except FileNotFoundError:
        raise UserError(f"{path}: no such audio file (run the stage that makes it again)") from None
    return found.st_size, found.st_mtime_ns


def stamp_of_entries(entries: Iterable[str]) -> str:
    """Return a digest of several entries, of their names and :func:`entry_stamp`, for a ``Stamp``'s inputs.

    Raises:
        UserError: one of the files is not there.
    """
    return of_text(json.dumps([(entry, *entry_stamp(entry)) for entry in entries]))


def _archive_record(path: str, offset: int) -> io.BytesIO | None:
    """Return the audio file at ``offset`` of a kaldiio archive, or None if it is no audio or cut off."""
    with open(path, "rb") as archive:
        archive.seek(offset)
        magic = archive.read(5)
        if magic == b"AUDIO":  # then: number of length bytes, length (little-endian), a whole audio file
            size = int.from_bytes(archive.read(int.from_bytes(archive.read(1), "little")), "little")
        elif magic[:4] == b"RIFF":  # a bare wav, as Kaldi's wav-copy writes it
            size = 8 + int.from_bytes(magic[4:] + archive.read(3), "little")
            archive.seek(offset)
        else:
            return None
        record = archive.read(size)
    return io.BytesIO(record) if len(record) == size > 0 else None


def _is_cut_off(path: str) -> bool:
    """Tell whether a wav is shorter than its header says; libsndfile would return what is left of it."""
    with open(path, "rb") as file:
        head = file.read(28)
        size = file.seek(0, io.SEEK_END)
    if len(head) == 28 and head[:4] == b"RF64" and head[12:16] == b"ds64":  # a wav beyond 4 GiB
        return size + 1 < struct.unpack("<Q", head[20:])[0] + 8
    if len(head) < 8 or head[:4] != b"RIFF":
        return False
    promised = struct.unpack("<I", head[4:8])[0]
    unknown = promised in (0, 0xFFFFFFFF) or promised > 0xFFFFFF00  # written to a pipe
    return not unknown and size + 1 < promised + 8  # some writers leave the padding byte out


def _open(entry: str) -> soundfile.SoundFile:
    path, offset = _split_archive(entry)
    if entry.endswith("|"):
        raise UserError(f"{entry}: piped commands are not read (write their output to files first)")
    try:
        if offset is not None:
            record = _archive_record(path, offset)
            if record is None:
                raise UserError(f"{entry}: no complete audio there in the archive (write the archive again)")
            return soundfile.SoundFile(record)
        if _is_cut_off(path):
            raise UserError(f"{entry}: truncated, shorter than its header says (copy or make it again)")
        return soundfile.SoundFile(path)
    except FileNotFoundError:
        hint = "" if Path(path).is_absolute() else "; relative paths start at the working directory"
        raise UserError(f"{path}: no such audio file (check the path{hint})") from None
    except IsADirectoryError:
        raise UserError(f"{path}: expected an audio file, found a directory (check the path)") from None
    except soundfile.LibsndfileError as error:
        raise UserError(f"{entry}: expected wav or flac audio: {error.error_string}") from None


def _checked_frames(entry: str, audio: soundfile.SoundFile) -> int:
    if audio.frames == 0:
        raise UserError(f"{entry}: 0 samples (remove the entry or make the file again)")
    return audio.frames


def audio_info(entry: str) -> tuple[int, int, int]:
    """Return (channels, frames, fs in Hz) of ``entry`` without decoding it.

    Raises:
        UserError: as :func:`read_audio`.
    """
    reader = reader_of(entry)
    if reader:
        return reader.info(entry)
    with _open(entry) as audio:
        return audio.channels, _checked_frames(entry, audio), audio.samplerate


def read_audio(
    entry: str | Path, start: int = 0, frames: int = -1, finite: bool = False
) -> tuple[np.ndarray, int]:
    """Read a recording or a piece of it.

    Args:
        entry: a wav or flac file, ``archive.ark:offset``, or what is made when read (:func:`frontend.data.register_reader`);
            paths are relative to the working directory.
        start: first sample.
        frames: number of samples, -1 = to the end; fewer come back only at the end of the recording.
        finite: check for NaN and infinity.

    Returns:
        array ``(C, T)`` float32, full scale 1.0 (16-bit sample / 32768), and the rate in Hz.

    Raises:
        UserError: missing, unreadable, truncated or empty file, ``start`` beyond its end, NaN.
    """
    entry = str(entry)
    reader = reader_of(entry)
    if reader:
        made, fs = reader.read(entry)  # finite: it was checked when it was made
        return made[:, start : start + _wanted(entry, start, frames, made.shape[1])].copy(), fs
    with _open(entry) as audio:
        total, fs = _checked_frames(entry, audio), audio.samplerate
        wanted = _wanted(entry, start, frames, total)
        try:
            audio.seek(start)
            data = audio.read(wanted, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            data = np.zeros((0, audio.channels), np.float32)
    if len(data) < wanted:
        raise UserError(f"{entry}: truncated or damaged, {wanted} samples expected (copy or make it again)")
    if finite and not np.isfinite(data).all():
        raise UserError(f"{entry}: NaN or infinity at sample {start + _first_bad(data)} (make it again)")
    return np.ascontiguousarray(data.T), fs


def _wanted(entry: str, start: int, frames: int, total: int) -> int:
    """Return how many samples there are of ``frames`` from ``start`` on."""
    if not 0 <= start < total:
        raise UserError(f"{entry}: sample {start} asked for, found {total} samples")
    return total - start if frames < 0 else min(frames, total - start)


def _first_bad(data: np.ndarray) -> int:
    return int(np.flatnonzero(~np.isfinite(data).all(axis=1))[0])


def to_pcm16(data: np.ndarray, name: str = "signal") -> np.ndarray:
    """Return full-scale-1.0 floats as int16 on the grid that :func:`read_audio` gives back exactly.

    libsndfile's own conversion scales by 32767 and would miss that grid.

    Raises:
        UserError: the signal exceeds full scale; ``name`` is named.
    """
    grid = np.rint(np.asarray(data, np.float64) * 32768)
    if grid.size and (grid.max() > 32768 or grid.min() < -32768):
        peak = np.abs(grid).max() / 32768
        raise UserError(f"{name}: peak {peak:.3g} exceeds full scale 1.0 (scale it, or write float32)")
    return np.minimum(grid, 32767).astype(np.int16)


class AudioWriter:
    """Write recordings of one rate as files ``directory/ID.wav``, or into one archive.

    Args:
        directory: where the audio goes; entries name it as given, so relative stays relative.
        audio_format: ``wav`` or ``flac`` (a file an id, complete or not there), or ``flac.ark``
            (records are appended to ``directory/NAME.ark``; a reader looks only where an entry points,
            so half a record left by a kill does no harm).
        fs: rate in Hz.
        name: of the archive.
        encoding: ``pcm16``, or ``float32`` (wav only; nothing clips).

    Use it as a context manager.

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
        self._archive_path = self.directory / f"{name}.ark"
        self._archive = open(self._archive_path, "ab") if audio_format == "flac.ark" else None

    def __enter__(self) -> "AudioWriter":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Close the archive, if there is one."""
        if self._archive is not None:
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
            raise UserError(f"{utterance_id}: NaN or infinity at sample {_first_bad(data)}")
        data = data.astype(np.float32) if self.encoding == "float32" else to_pcm16(data, utterance_id)
        if self._archive is not None:
            return self._append(utterance_id, data)
        path = self.directory / f"{utterance_id}.{self.audio_format}"
        with atomic_file(path) as part:
            if self.audio_format == "wav":
                # libsndfile would put the time of day into a float wav: no two runs alike.
                wavfile.write(part, self.fs, data)
            else:
                # Encoded in memory, so that a full disk is an OSError and not one of libsndfile's.
                encoded = io.BytesIO()
                soundfile.write(encoded, data, self.fs, format="FLAC", subtype="PCM_16")
                part.write_bytes(encoded.getvalue())
        return str(path)

    def _append(self, utterance_id: str, data: np.ndarray) -> str:
        offset = self._archive.tell() + len(f"{utterance_id} ".encode())
        kaldiio.save_ark(
            self._archive,
            {utterance_id: (data, self.fs)},
            write_function="soundfile",
            write_kwargs={"format": "flac", "subtype": "PCM_16"},
        )
        self._archive.flush()
        return f"{self._archive_path}:{offset}"


_WAV_BYTES = 2**32 - 1  # a wav's sizes have 32 bits
_WIDTHS = {"pcm16": 2, "pcm24": 3, "float32": 4}


class BlockWriter:
    """Audio of any length, written block by block: one file of C channels, or S mono files; whole or absent.

    All files come under their names together, when the ``with`` block ends without an error. A wav holds no
    time of day, so that two runs are alike, and becomes an RF64 (EBU Tech 3306) beyond 4 GiB.

    Args:
        paths: a path: all rows of the blocks are channels of this file. A sequence of S paths, or a function
            of the number (from 1) of a stream where S is not known before: a mono file for each row.
            They end in ``.wav`` or ``.flac``.
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
            if isinstance(file, _WavFile):
                file.append(row)
            else:
                file.write(_integers(row, 8 * _WIDTHS[self.encoding]).T)
        self.written += block.shape[1]
        self.peak = max(self.peak, float(np.abs(block).max(initial=0.0)))

    def make_integers(self) -> None:
        """Turn float32 wav files into 16-bit ones, as the last act before the ``with`` block ends."""
        for file in self._files:
            file.close()
            with atomic_file(file.path) as aside, _WavFile(aside, self.fs, file.channels, "pcm16") as out:
                for block in file.blocks():
                    out.append(block)

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
            self._files.append(self._stack.enter_context(file))


class _WavFile:
    """A wav that is written piece by piece.

    Not by libsndfile: a full disk would be an error of its own, and a float wav would hold the time of day.
    """

    def __init__(self, path: Path, fs: int, channels: int, encoding: str):
        self.path, self.fs, self.channels, self.encoding = path, fs, channels, encoding
        self.frames = 0
        self.file = open(path, "wb")
        self.file.write(self._header())

    def __enter__(self) -> "_WavFile":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Put the final header before the samples; a second call does nothing."""
        if not self.file.closed:
            with self.file:
                self.file.seek(0)
                self.file.write(self._header())

    def _header(self) -> bytes:
        return wav_header(self.frames, self.fs, self.channels, self.encoding)

    def append(self, block: np.ndarray) -> None:
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
    """Return what stands before the samples of a wav, of the same length whatever ``frames`` is.

    Args:
        frames: number of samples a channel.
        fs: rate in Hz.
        channels: number of channels.
        encoding: ``pcm16``, ``pcm24`` or ``float32``.
        limit: size in bytes beyond which it is the header of an RF64.
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


_BLOCK = 1 << 20  # samples
BLOCK_S = 20.0
FLAC_CHANNELS = 8  # what the format can hold


def read_blocks(entries: Sequence[str], frames: int, block: int) -> Iterator[np.ndarray]:
    """Yield a recording as float32 arrays ``(C, block)``, the last one shorter.

    Args:
        entries: one multi-channel file, or one file a channel in the order of the channels.
        frames: samples to read; those of the shortest file.
        block: in samples.

    Raises:
        UserError: unreadable, truncated, NaN; as :func:`frontend.data.audio.read_audio`.
    """
    for start in range(0, frames, block):
        size = min(block, frames - start)
        yield np.concatenate([read_audio(entry, start, size, finite=True)[0] for entry in entries])


def _integers(block: np.ndarray, bits: int) -> np.ndarray:
    """Floats to int32 whose upper ``bits`` hold the sample, as libsndfile writes them without scaling."""
    top = 2.0 ** (bits - 1)
    samples = np.clip(np.rint(block.astype(np.float64) * top), -top, top - 1)
    return (samples.astype(np.int64) << (32 - bits)).astype(np.int32)


def is_wide(entries: Iterable[str]) -> bool:
    """Tell whether any of these files holds more than 16 bits a sample."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(soundfile.SoundFile(entry)) for entry in entries]
        return any(file.subtype not in ("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW") for file in files)


def span(entries: Sequence[str]) -> tuple[int, int, int]:
    """Return channels, frames (of the shortest file) and rate of a recording.

    Raises:
        UserError: unreadable, or files of different rates.
    """
    found = [audio_info(entry) for entry in entries]
    for entry, (_, _, fs) in zip(entries, found, strict=True):
        if fs != found[0][2]:
            raise UserError(
                f"{entry}: expected {found[0][2]} Hz as {entries[0]}, of the same recording, found {fs} Hz"
            )
    return sum(channels for channels, _, _ in found), min(frames for _, frames, _ in found), found[0][2]
