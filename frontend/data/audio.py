"""Audio in: wav and flac files and Kaldi archives of them, as arrays ``(C, T)`` of full scale 1.0.

An entry of a ``.scp`` file names a file, a place in an archive (``FILE.ark:OFFSET``), or audio that is made
when it is read (``scene:...``, see :class:`Reader`). Audio is written by :mod:`frontend.data.writers`.

Refused here, in one line that names the entry: a missing, truncated, damaged or empty file; NaN and infinity
where the caller asks for ``finite``; another length, rate or number of channels than that of the mixture
(:func:`read_image`, :func:`check_alike`). Silent dry speech is refused in
:mod:`frontend.simulation.mixture_sets`; whole sets are checked by :func:`frontend.data.kaldi.validate`.
"""

import importlib
import io
import json
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from frontend import AUDIO_READERS
from frontend.utils.errors import UserError
from frontend.utils.stamps import of_text


class Reader(NamedTuple):
    """How the audio of a scheme of entries is made (``frontend.AUDIO_READERS``), from the whole entry.

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


def _reader_of(entry: str) -> Reader | None:
    """Return the reader of an entry, None where a file holds its audio."""
    scheme, colon, _ = entry.partition(":")
    if not colon or scheme not in AUDIO_READERS:
        return None
    module, name = AUDIO_READERS[scheme].split(":")
    return getattr(importlib.import_module(module), name)


def audio_file(entry: str) -> Path:
    """Return the file, or archive, that an entry of a ``.scp`` file names; the scenes of a rendered one."""
    reader = _reader_of(entry)
    return reader.file(entry) if reader else Path(_split_archive(entry)[0])


def audio_info(entry: str) -> tuple[int, int, int]:
    """Return (channels, frames, fs in Hz) of ``entry`` without decoding it; raise as :func:`read_audio`."""
    reader = _reader_of(entry)
    if reader:
        return reader.info(entry)
    with _open(entry) as audio:
        return audio.channels, audio.frames, audio.samplerate


def read_audio(
    entry: str | Path, start: int = 0, frames: int = -1, finite: bool = False
) -> tuple[np.ndarray, int]:
    """Read a recording or a piece of it.

    Args:
        entry: paths are relative to the working directory.
        start: first sample.
        frames: number of samples, -1 = to the end; fewer come back only at the end of the recording.
        finite: check for NaN and infinity.

    Returns:
        ``(C, T)`` float32, full scale 1.0 (16-bit sample / 32768), and the rate in Hz.

    Raises:
        UserError: missing, unreadable, truncated or empty file, ``start`` beyond its end, NaN.
    """
    entry = str(entry)
    reader = _reader_of(entry)
    if reader:
        made, fs = reader.read(entry)  # finite: it was checked when it was made
        return made[:, start : start + _wanted(entry, start, frames, made.shape[1])].copy(), fs
    with _open(entry) as audio:
        wanted, fs = _wanted(entry, start, frames, audio.frames), audio.samplerate
        try:
            audio.seek(start)
            data = audio.read(wanted, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            data = np.zeros((0, audio.channels), np.float32)
    if len(data) < wanted:
        raise UserError(f"{entry}: truncated or damaged, {wanted} samples expected (copy or make it again)")
    if finite and not np.isfinite(data).all():
        bad = start + int(np.argmin(np.isfinite(data).all(axis=1)))
        raise UserError(f"{entry}: NaN or infinity at sample {bad} (make it again)")
    return np.ascontiguousarray(data.T), fs


def read_image(entry: str, frames: int, fs: int) -> np.ndarray:
    """Read a talker's image ``(T,)`` at the reference channel of a mixture of that length and rate.

    Raises:
        UserError: as :func:`read_audio`; several channels, another length or rate.
    """
    image, rate = read_audio(entry, finite=True)
    if (*image.shape, rate) != (1, frames, fs):
        wanted = f"expected 1 channel of {frames} samples at {fs} Hz, as the mixture"
        raise UserError(f"{entry}: {wanted}, found {image.shape[0]} of {image.shape[1]} at {rate} Hz")
    return image[0]


def check_alike(
    entry: str, frames: int, fs: int, other: str, what_to_do: str, slack_s: float = 0.0
) -> tuple[int, int, int]:
    """Return :func:`audio_info` of ``entry``; raise UserError unless it is as long and fast as ``other``.

    It may be shorter or longer by ``slack_s`` seconds. ``other`` and ``what_to_do`` go into the message.
    """
    channels, found, rate = audio_info(entry)
    if rate != fs or abs(found - frames) > slack_s * fs:
        within = f" to within {1000 * slack_s:g} ms" if slack_s else ""
        raise UserError(
            f"{entry}: expected {frames} samples at {fs} Hz{within} as {other}, found {found} at {rate} Hz "
            f"({what_to_do})"
        )
    return channels, found, rate


class Recording:
    """A recording of any length: one file of C channels, or C files of one channel each; read piece by piece.

    Args:
        entries: the file, or the files in the order of the channels.
        slack_s: by so many seconds the files may differ in length; the shortest counts.

    Attributes:
        name: the first file.
        channels, frames, seconds, fs: what it has; fs in Hz.

    Raises:
        UserError: unreadable or empty files, or files that differ in rate or length.
    """

    def __init__(self, entries: Sequence[str], slack_s: float = 0.0):
        self.entries, self.name = tuple(entries), entries[0]
        _, first, self.fs = audio_info(self.name)
        same, advice = f"{self.name} of the same recording", "cut or resample the files to match"
        found = [check_alike(entry, first, self.fs, same, advice, slack_s) for entry in entries]
        self.channels = sum(channels for channels, _, _ in found)
        self.frames = min(frames for _, frames, _ in found)
        self.seconds = self.frames / self.fs

    def read(self, start: int = 0, frames: int = -1) -> np.ndarray:
        """Return samples ``(C, T)`` from ``start`` on, -1 = to the end; raise as :func:`read_audio`."""
        frames = _wanted(self.name, start, frames, self.frames)
        return np.concatenate([read_audio(entry, start, frames, finite=True)[0] for entry in self.entries])

    def blocks(self, samples: int) -> Iterator[np.ndarray]:
        """Yield it as arrays ``(C, samples)``, the last one shorter; raise as :meth:`read`."""
        for start in range(0, self.frames, samples):
            yield self.read(start, samples)

    def check_end(self) -> None:
        """Raise UserError if the last samples are not there, before the work on those before them."""
        self.read(self.frames - 1, 1)

    def is_wide(self) -> bool:
        """Tell whether a file holds more than 16 bits a sample."""
        narrow = ("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW")
        return any(soundfile.info(entry).subtype not in narrow for entry in self.entries)


def entry_stamp(entry: str) -> tuple:
    """Return what changes when the audio of an entry does: size and time of its file, or what a reader says.

    Raises:
        UserError: there is no such file.
    """
    reader = _reader_of(entry)
    if reader:
        return reader.stamp(entry)
    path = audio_file(entry)
    try:
        found = path.stat()
    except FileNotFoundError:
        raise UserError(f"{path}: no such audio file (run the stage that makes it again)") from None
    return found.st_size, found.st_mtime_ns


def stamp_of_entries(entries: Iterable[str]) -> str:
    """Return a digest of several entries, names and :func:`entry_stamp`, for a ``Stamp``'s inputs."""
    return of_text(json.dumps([(entry, *entry_stamp(entry)) for entry in entries]))


def _split_archive(entry: str) -> tuple[str, int | None]:
    path, colon, offset = entry.rpartition(":")
    return (path, int(offset)) if colon and offset.isdecimal() else (entry, None)


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
            audio = soundfile.SoundFile(record)
        elif _is_cut_off(path):
            raise UserError(f"{entry}: truncated, shorter than its header says (copy or make it again)")
        else:
            audio = soundfile.SoundFile(path)
    except FileNotFoundError:
        hint = "" if Path(path).is_absolute() else "; relative paths start at the working directory"
        raise UserError(f"{path}: no such audio file (check the path{hint})") from None
    except IsADirectoryError:
        raise UserError(f"{path}: expected an audio file, found a directory (check the path)") from None
    except soundfile.LibsndfileError as error:
        raise UserError(f"{entry}: expected wav or flac audio: {error.error_string}") from None
    if audio.frames == 0:
        audio.close()
        raise UserError(f"{entry}: 0 samples (remove the entry or make the file again)")
    return audio


def _wanted(entry: str, start: int, frames: int, total: int) -> int:
    """Return how many samples there are of ``frames`` from ``start`` on."""
    if not 0 <= start < total:
        raise UserError(f"{entry}: sample {start} asked for, found {total} samples")
    return total - start if frames < 0 else min(frames, total - start)
