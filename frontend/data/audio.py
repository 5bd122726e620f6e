"""Audio in and out: wav and flac files and Kaldi archives of them, arrays of shape (C, T).

An entry of a ``.scp`` file may also name audio that is made when it is read (see :data:`RENDERERS`).

Streams of a long recording, written as they become final: mono wav files, whole or absent.

Long recordings block by block, so that memory does not grow with their length: read, resample, write.

A recording is one file of C channels, or C files of one channel each.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import kaldiio
import numpy as np
import soundfile
from scipy.io import wavfile
from scipy.signal import resample_poly

from frontend.utils.errors import UserError
from frontend.utils.files import atomic_file

AUDIO_FORMATS = ("wav", "flac", "flac.ark")
# Entries ``SCHEME:...`` are not read but made, by a module with audio_file, audio_info, read and stamp.
# Such a module stands above this one, and every process that reads must find it, data workers included:
# hence names that are imported when the first such entry is met, and no registration that could be forgotten.
RENDERERS = {"scene": "frontend.simulation.mixture_sets"}


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
        return made_by.rendered_file(entry)
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
        return made_by.rendered_info(entry)
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
        made, fs = made_by.read_rendered(entry)  # finite: it was checked when it was made
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


_BLOCK = 1 << 20  # samples
_WAV_BYTES = 2**32 - 1  # a wav's sizes have 32 bits; what is larger is written as RF64 (EBU Tech 3306)
_FORMATS = {np.dtype(np.int16): 1, np.dtype(np.float32): 3}


class StreamFiles:
    """Write S streams of known length piece by piece.

    They come under their names together, when the ``with`` block ends without an error.

    Args:
        paths: one wav file a stream.
        frames: samples of each.
        fs: rate in Hz.

    Attributes:
        peak: largest magnitude so far.

    Not by libsndfile: a full disk would be an error of its own, and a float wav would hold the time of day.
    """

    def __init__(self, paths: list[Path], frames: int, fs: int):
        self.paths, self.frames, self.fs = paths, frames, fs
        self.written, self.peak = 0, 0.0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "StreamFiles":
        with self._stack as stack:
            self._parts = [stack.enter_context(atomic_file(path)) for path in self.paths]
            self._files = [stack.enter_context(open(part, "wb")) for part in self._parts]
            for file in self._files:
                file.write(wav_header(self.frames, self.fs, np.float32))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> bool | None:
        return self._stack.__exit__(*exception)

    def write(self, streams: np.ndarray) -> None:
        """Append (S, n) floats, full scale 1.0."""
        for file, stream in zip(self._files, streams, strict=True):
            file.write(np.ascontiguousarray(stream, "<f4").data)
        self.written += streams.shape[1]
        self.peak = max(self.peak, float(np.abs(streams).max(initial=0.0)))

    def finish(self, as_integers: bool) -> None:
        """Complete the files, as 16-bit integers or as 32-bit floats."""
        if self.written != self.frames:
            raise ValueError(f"{self.written} samples written, {self.frames} promised")
        for path, part, file in zip(self.paths, self._parts, self._files, strict=True):
            file.close()
            if not as_integers:
                continue
            with atomic_file(part) as aside, open(aside, "wb") as out:
                out.write(wav_header(self.frames, self.fs, np.int16))
                for block in _floats(part):
                    out.write(to_pcm16(block, str(path)).astype("<i2").data)


def _floats(path: Path) -> Iterator[np.ndarray]:
    """Yield the samples of a float wav of ours in blocks."""
    with open(path, "rb") as file:
        head = file.read(4096)
        file.seek(head.index(b"data") + 8)
        while raw := file.read(4 * _BLOCK):
            yield np.frombuffer(raw, "<f4")


def wav_header(frames: int, fs: int, dtype: type, limit: int = _WAV_BYTES) -> bytes:
    """Return what stands before the samples of a mono wav; of an RF64, where it would exceed ``limit`` bytes.

    Args:
        frames: number of samples.
        fs: rate in Hz.
        dtype: int16 or float32.
        limit: in bytes.
    """
    kind, width = _FORMATS[np.dtype(dtype)], np.dtype(dtype).itemsize
    size = frames * width
    chunks = struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, 1, fs, fs * width, width, 8 * width)
    if kind == 3:
        # All but integers need the extended form and a fact chunk.
        chunks = struct.pack("<4sIHHIIHHH", b"fmt ", 18, kind, 1, fs, fs * width, width, 8 * width, 0)
        chunks += struct.pack("<4sII", b"fact", 4, min(frames, 0xFFFFFFFF))
    total = 4 + len(chunks) + 8 + size
    if 8 + total <= limit:
        return struct.pack("<4sI4s", b"RIFF", total, b"WAVE") + chunks + struct.pack("<4sI", b"data", size)
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, total + 36, size, frames, 0)
    head = struct.pack("<4sI4s", b"RF64", 0xFFFFFFFF, b"WAVE")
    return head + sizes + chunks + struct.pack("<4sI", b"data", 0xFFFFFFFF)


BLOCK_S = 20.0
_FLAC_CHANNELS = 8  # what the format can hold


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


def resampled(blocks: Iterable[np.ndarray], fs: int, new_fs: int) -> Iterator[np.ndarray]:
    """Change the rate of a recording that comes in blocks; all outputs together equal resampling it whole.

    scipy's polyphase filter has finite length: what a block needs of its neighbours is kept, and the
    samples near a cut are taken from where the cut is far (the sums are the same, in float32).

    Args:
        blocks: arrays (C, T) of any length.
        fs, new_fs: in Hz.

    Returns:
        arrays (C, T'), ``ceil(T * new_fs / fs)`` samples in all.
    """
    if fs == new_fs:
        yield from blocks
        return
    up, down = new_fs // math.gcd(fs, new_fs), fs // math.gcd(fs, new_fs)
    # resample_poly's filter reaches 10 * max(up, down) / up input samples to either side; in whole periods.
    context = down * (math.ceil(10 * max(up, down) / up / down) + 1)
    held, before = None, 0  # input from the current output's place on, of which ``before`` samples are past
    for block in blocks:
        held = block if held is None else np.concatenate([held, block], axis=1)
        ready = (held.shape[1] - before - context) // down * down
        if ready > 0:
            out = resample_poly(held, up, down, axis=1)
            yield out[:, before // down * up : (before + ready) // down * up].astype(np.float32)
            keep = min(context, before + ready)
            held, before = held[:, before + ready - keep :], keep
    if held is not None and held.shape[1] > before:
        yield resample_poly(held, up, down, axis=1)[:, before // down * up :].astype(np.float32)


def write_blocks(path: Path, blocks: Iterable[np.ndarray], fs: int, channels: int, wide: bool) -> Path:
    """Write a recording block by block, whole or not at all.

    Args:
        path: without the ending: flac where the format holds so many channels, else wav.
        blocks: arrays (C, T), full scale 1.0.
        fs: in Hz.
        channels: C.
        wide: 24 bits a sample instead of 16.

    Returns:
        the path with its ending.
    """
    bits = 24 if wide else 16
    flac = channels <= _FLAC_CHANNELS
    path = path.with_name(path.name + (".flac" if flac else ".wav"))
    # RF64 is written with room for its size and read everywhere wav is, by libsndfile.
    layout = {"format": "FLAC" if flac else "RF64", "subtype": f"PCM_{bits}"}
    with atomic_file(path) as part, soundfile.SoundFile(part, "w", fs, channels, **layout) as audio:
        for block in blocks:
            audio.write(integers(block, bits).T)
    return path


def integers(block: np.ndarray, bits: int) -> np.ndarray:
    """Floats to int32 whose upper ``bits`` hold the sample: libsndfile writes those, without scaling."""
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


def change_rate(waveform: np.ndarray, fs: int, new_fs: int) -> np.ndarray:
    """Resample (..., T) from ``fs`` to ``new_fs`` Hz with a polyphase filter."""
    if fs == new_fs:
        return waveform
    common = math.gcd(fs, new_fs)
    return resample_poly(waveform, new_fs // common, fs // common, axis=-1).astype(np.float32)
