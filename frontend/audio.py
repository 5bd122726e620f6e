"""Audio in and out: wav and flac files and Kaldi archives of them, arrays of shape (C, T).

An entry of a ``.scp`` file may also name audio that is made when it is read (see :data:`RENDERERS`).
"""

import importlib
import io
import struct
from pathlib import Path
from types import ModuleType

import kaldiio
import numpy as np
import soundfile
from scipy.io import wavfile

from frontend import atomic
from frontend.errors import UserError

AUDIO_FORMATS = ("wav", "flac", "flac.ark")
# Entries ``SCHEME:...`` are not read but made, by a module with audio_file, audio_info, read and stamp.
# Such a module stands above this one, and every process that reads must find it, data workers included:
# hence names that are imported when the first such entry is met, and no registration that could be forgotten.
RENDERERS = {"scene": "frontend.virtual"}


def renderer(entry: str) -> ModuleType | None:
    """Return the module that makes the audio of an entry, None where a file holds it."""
    scheme, colon, _ = entry.partition(":")
    name = RENDERERS.get(scheme) if colon else None
    return importlib.import_module(name) if name else None


def _split_archive(entry: str) -> tuple[str, int | None]:
    path, colon, offset = entry.rpartition(":")
    return (path, int(offset)) if colon and offset.isdecimal() else (entry, None)


def audio_file(entry: str) -> Path:
    """Return the file, or archive, that an entry of a ``.scp`` file names; the scenes of a rendered one."""
    made_by = renderer(entry)
    if made_by:
        return made_by.audio_file(entry)
    return Path(_split_archive(entry)[0])


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
    made_by = renderer(entry)
    if made_by:
        return made_by.audio_info(entry)
    with _open(entry) as audio:
        return audio.channels, _checked_frames(entry, audio), audio.samplerate


def read_audio(
    entry: str | Path, start: int = 0, frames: int = -1, finite: bool = False
) -> tuple[np.ndarray, int]:
    """Read a recording or a piece of it.

    Args:
        entry: a wav or flac file, ``archive.ark:offset``, or what is made when read (:data:`RENDERERS`);
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
    made_by = renderer(entry)
    if made_by:
        made, fs = made_by.read(entry)  # finite: it was checked when it was made
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
        with atomic.file(path) as part:
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
