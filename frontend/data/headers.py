"""Headers of audio files: that of a wav of ours, and those of others whose sizes are not right.

A program that writes to a pipe does not know how long a file becomes: it writes 0, or a number near 2 or
4 GiB. Sizes of 32 bits begin again at 0 beyond 4 GiB. libsndfile then reads a part, or nothing.
:func:`mended` gives it a file with a header that is right, or refuses with both lengths in the message.
"""

import io
import re
import struct
from typing import Any, BinaryIO, NamedTuple

from frontend.utils.errors import UserError, warn

_WAV_BYTES = 2**32 - 1  # a wav's sizes have 32 bits
WIDTHS = {"pcm16": 2, "pcm24": 3, "float32": 4}  # bytes of a sample


def wav_header(frames: int, fs: int, channels: int, encoding: str, limit: int = _WAV_BYTES) -> bytes:
    """Return what stands before ``frames`` samples a channel of a wav, of the same length for any number.

    Beyond ``limit`` bytes it is the header of an RF64.
    """
    width, is_float = WIDTHS[encoding], encoding == "float32"
    frame = channels * width
    layout = (3 if is_float else 1, channels, fs, fs * frame, frame, 8 * width)
    chunks = struct.pack("<4sIHHIIHH", b"fmt ", 18 if is_float else 16, *layout)
    if is_float:  # all but integers need the extended form and a chunk "fact"
        chunks += struct.pack("<H4sII", 0, b"fact", 4, min(frames, 0xFFFFFFFF))
    return _head(chunks, frames * frame, frames, limit)


def _head(chunks: bytes, size: int, frames: int, limit: int = _WAV_BYTES) -> bytes:
    """Return the header of a wav with ``size`` bytes of samples; ``chunks`` say what they are."""
    total = 4 + 36 + len(chunks) + 8 + size
    if 8 + total <= limit:
        names, sizes, wide = (b"RIFF", b"JUNK"), (total, size), (0, 0, 0)
    else:
        names, sizes, wide = (b"RF64", b"ds64"), (0xFFFFFFFF, 0xFFFFFFFF), (total, size, frames)
    head = struct.pack("<4sI4s4sIQQQI", names[0], sizes[0], b"WAVE", names[1], 28, *wide, 0)
    return head + chunks + struct.pack("<4sI", b"data", sizes[1])


# --- headers of others


_FAR = 1 << 32
_FAR_64 = 1 << 62  # a size of 64 bits from here on says that it is unknown
_MOST_CHUNKS = 1000
# Sizes that programs write who do not know them: near 2 and 4 GiB, from 8 KiB below.
_UNKNOWN = (range((1 << 31) - 8192, (1 << 31) + 4096), range(_FAR - 8192, _FAR))


def mended(file: BinaryIO, name: str) -> BinaryIO | None:
    """Return a file whose header says how long it is; None if that of ``file`` does, or is none we know.

    Args:
        file: open for reading; it is read on by what is returned.
        name: for the messages.

    Raises:
        UserError: it is shorter than its header says, or longer in a way that nothing explains.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(42)
    kind, form = head[:4], head[8:12]
    if kind == b"fLaC" and len(head) == 42 and not (head[21] & 15 or any(head[22:26])):
        raise UserError(
            f"{name}: a flac that was written to a pipe, its header does not say how long it is (write it "
            "again to a file: sox IN.flac OUT.flac)"
        )
    if kind in (b"RIFF", b"RF64", b"BW64") and form == b"WAVE":
        return _mended_wav(file, size, name)
    if kind == b"riff" and len(head) >= 24:
        return _mended_w64(file, size, name)
    promised = 0
    if kind == b"RIFX" or (kind == b"FORM" and form in (b"AIFF", b"AIFC")):
        promised = 8 + struct.unpack(">I", head[4:8])[0]
    elif kind == b"NIST":
        promised = _sphere_bytes(file)
    elif kind == b".snd" and len(head) >= 12 and head[8:12] != b"\xff\xff\xff\xff":
        promised = sum(struct.unpack(">II", head[4:12]))
    if not _is_unknown(promised - 8):
        _check_size(promised, size, name)
    return None


def _is_unknown(size: int) -> bool:
    return any(size in sizes for sizes in _UNKNOWN)


def _check_size(promised: int, size: int, name: str) -> None:
    """Compare the length of a file with that by its header; the last byte may be a padding left out."""
    if promised > size + 1:
        raise UserError(_cut_off(name, promised, size, "bytes"))
    if promised == size + 1:
        warn(f"{name}: its header says {promised} bytes, found {size}: the last sample may be missing")


def _sphere_bytes(file: BinaryIO) -> int:
    """Return the length of a NIST SPHERE file by its header; 0 where that does not say it."""
    file.seek(0)
    head = file.read(1024)
    fields = [rb"\n\s*(\d+)\n"] + [
        name + rb" -i (\d+)" for name in (b"sample_count", b"channel_count", b"sample_n_bytes")
    ]
    found = [re.search(field, head) for field in fields]
    if not all(found) or b"pcm" not in head:
        return 0
    size, samples, channels, width = (int(match[1]) for match in found if match)
    return size + samples * channels * width


_W64 = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # behind the name of a chunk


def _mended_w64(file: BinaryIO, size: int, name: str) -> BinaryIO | None:
    """Mend a Sony Wave64: its sizes have 64 bits, and those of chunks count their 24 bytes of header."""
    file.seek(16)
    whole, at, layout, length = struct.unpack("<Q", file.read(8))[0], 40, b"", 0
    for _ in range(_MOST_CHUNKS):
        file.seek(min(at, size))
        head = file.read(24)
        if len(head) < 24 or at > size:
            return None
        chunk, length = head[:4] * (head[4:16] == _W64), struct.unpack("<Q", head[16:])[0]
        at += 24
        if chunk == b"data":
            break
        layout = file.read(min(max(0, length - 24), 1024)) if chunk == b"fmt " else layout
        at += max(0, length - 24) + -length % 8
    frame = struct.unpack("<H", layout[12:14])[0] if len(layout) >= 16 else 0
    if chunk != b"data" or not frame:
        return None
    promised, there = max(0, length - 24), size - at
    is_unknown = promised == 0 or length >= _FAR_64
    if not is_unknown and promised // frame > there // frame:
        raise UserError(_cut_off(name, promised // frame, there // frame, "samples"))
    if not is_unknown and 0 < whole < _FAR_64:
        _check_size(min(whole, at + promised), size, name)
        return None
    return _as_wav(file, at, there if is_unknown else promised, layout)


def _as_wav(file: BinaryIO, at: int, found: int, layout: bytes) -> BinaryIO:
    """Return a file of the bytes of samples from ``at`` on behind the header of a wav."""
    frame = struct.unpack("<H", layout[12:14])[0]
    found -= found % frame
    chunks = struct.pack("<4sI", b"fmt ", len(layout)) + layout + b"\0" * (len(layout) % 2)
    return io.BufferedReader(_Window(_head(chunks, found, found // frame), file, at, found))


class _Samples(NamedTuple):
    """Where the samples of a wav are, and what its header says of them; all numbers in bytes.

    Attributes:
        at: where they begin.
        size: of the whole file.
        promised: length of the samples by the header.
        frame: length of a sample of all channels.
        is_wide: the header has sizes of 64 bits.
        whole: length of the file by its own size of 32 bits; 0 where that says nothing.
    """

    at: int
    size: int
    promised: int
    frame: int
    is_wide: bool
    whole: int


def _mended_wav(file: BinaryIO, size: int, name: str) -> BinaryIO | None:
    file.seek(0)
    kind, riff = struct.unpack("<4sI", file.read(8))
    at, wide, layout = 12, None, b""
    for _ in range(_MOST_CHUNKS):
        chunk, length = _chunk(file, at)
        at += 8
        if chunk in (b"", b"data"):
            break
        body = file.read(min(length, 1024))
        if chunk == b"ds64" and len(body) >= 16:
            wide = struct.unpack("<Q", body[8:16])[0]
        elif chunk == b"fmt ":
            layout = body
        at += length + length % 2
    frame = struct.unpack("<H", layout[12:14])[0] if len(layout) >= 16 else 0
    if chunk != b"data" or not frame or at > size:
        return None  # no wav that could be mended: libsndfile says why
    promised, is_wide = length, False
    if kind != b"RIFF" and wide is not None and length == 0xFFFFFFFF:
        promised, is_wide = wide, True
    whole = 8 + riff if kind == b"RIFF" and not _is_unknown(riff) else 0
    found = _found_bytes(file, _Samples(at, size, promised, frame, is_wide, whole), name)
    if found == promised and kind != b"BW64":
        return None
    return _as_wav(file, at, found, layout)


def _found_bytes(file: BinaryIO, samples: _Samples, name: str) -> int:
    """Return how many bytes of samples there are."""
    at, size, promised, frame, is_wide, _ = samples
    there = size - at
    unknown = promised >= _FAR_64 if is_wide else _is_unknown(promised)
    if promised > there:
        lengths = promised // frame, there // frame
        if unknown or (not is_wide and (lengths[0] == lengths[1] or _is_size_wrong(samples))):
            return there
        if not is_wide and _counts_header(samples):
            warn(
                f"{name}: its header says {lengths[0]} samples, found {lengths[1]}, as many bytes less as a "
                "header has: read to its end"
            )
            return there
        raise UserError(_cut_off(name, *lengths, "samples"))
    if _are_chunks(file, samples, promised):
        return promised
    if promised == 0 or unknown:
        return there
    lengths = promised // frame, there // frame
    if not is_wide:  # 32 bits begin again at 0
        for found in range(promised + _FAR, there + 1, _FAR):
            if _are_chunks(file, samples, found):
                return found
        if there >= _FAR:
            raise UserError(
                f"{name}: its header says {lengths[0]} samples, found bytes for {lengths[1]} (beyond 4 GiB a "
                "header of 32 bits is not enough: write it again as RF64, W64 or flac)"
            )
    warn(
        f"{name}: its header says {lengths[0]} samples, found bytes for {lengths[1]}: what is behind those "
        "of the header is not read (if it is sound, write the file again)"
    )
    return promised


def _is_size_wrong(samples: _Samples) -> bool:
    """Tell of samples that are fewer than promised whether the file is as long as its own size says."""
    is_cut_off = samples.whole >= samples.at + samples.promised
    return not is_cut_off and abs(samples.whole - samples.size) <= 1


def _counts_header(samples: _Samples) -> bool:
    """Tell of samples that are fewer than promised whether the size may count the header as well.

    Where the file's own size promises as much, the file was cut off, unless just a part of a header lacks.
    """
    more, end = samples.at + samples.promised - samples.size, samples.at + samples.promised
    if samples.whole >= end:
        return samples.whole == end and more in (8, 16, samples.at - 8, samples.at)
    return more <= samples.at


def _cut_off(name: str, promised: int, found: int, unit: str) -> str:
    return f"{name}: truncated, its header says {promised} {unit}, found {found} (copy or make it again)"


def _chunk(file: BinaryIO, at: int) -> tuple[bytes, int]:
    """Return the name and length of the chunk at a place; b"" if there is none."""
    file.seek(at)
    head = file.read(8)
    if len(head) < 8 or not all(32 <= byte < 127 for byte in head[:4]):
        return b"", 0
    return head[:4], int.from_bytes(head[4:], "little")


def _are_chunks(file: BinaryIO, samples: _Samples, length: int) -> bool:
    """Tell whether chunks and nothing else follow ``length`` bytes of samples, or nothing; a byte may pad."""
    end, size = samples.at + length, samples.size
    padding = length % 2 and length % samples.frame == 0
    for begin in {end, end + padding}:
        for _ in range(_MOST_CHUNKS):
            if begin == size or begin == size + 1 > end + 1:  # the last one without its padding
                return True
            chunk, body = _chunk(file, begin)
            if not chunk or chunk == b"RIFF" or begin + 8 + body > size:
                break
            begin += 8 + body + body % 2
    return False


def archive_record(path: str, offset: int) -> io.BytesIO | None:
    """Return the audio file at ``offset`` of a kaldiio archive, or None if it is no audio or cut off."""
    with open(path, "rb") as archive:
        total = archive.seek(0, io.SEEK_END)
        if offset > total:
            return None
        archive.seek(offset)
        magic = archive.read(5)
        if magic == b"AUDIO":  # then: number of length bytes, length (little-endian), a whole audio file
            size = int.from_bytes(archive.read(int.from_bytes(archive.read(1), "little")), "little")
        elif magic[:4] == b"RIFF":  # a bare wav, as Kaldi's wav-copy writes it
            size = 8 + int.from_bytes(magic[4:] + archive.read(3), "little")
            archive.seek(offset)
        else:
            return None
        record = archive.read(size) if size <= total - offset else b""
    return io.BytesIO(record) if len(record) == size > 0 else None


# What a file is by its first bytes, for the message that it is not read.
_OTHERS = {
    b"ID3": "MP3",
    b"#!AMR": "AMR",
    b"\x1aE\xdf\xa3": "Matroska or WebM",
    b"0&\xb2u": "WMA",
    b"wvpk": "WavPack",
}


def what_else(path: str, error: Exception) -> str:
    """Return what a file that is not read is, for a message, and what to do."""
    with open(path, "rb") as file:
        head = file.read(16)
    found = "MP4 or M4A" if head[4:8] == b"ftyp" else ""
    if found := found or next((what for magic, what in _OTHERS.items() if head.startswith(magic)), ""):
        return f"found {found} (convert it: ffmpeg -i IN OUT.wav)"
    reason = str(getattr(error, "error_string", "a file without a header")).rstrip(".")
    return f"{reason} (a damaged header? copy it again, or convert it: sox IN OUT.wav)"


class _Window(io.RawIOBase):
    """A file read as another one: a header, and behind it so many bytes of the file from ``start`` on."""

    def __init__(self, header: bytes, file: BinaryIO, start: int, length: int):
        self._header, self._file, self._start = header, file, start
        self._size, self._at = len(header) + length, 0

    def seekable(self) -> bool:  # noqa: D102
        return True

    def readable(self) -> bool:  # noqa: D102
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:  # noqa: D102
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:  # noqa: D102
        wanted = max(0, min(len(buffer), self._size - self._at))
        found = self._header[self._at : self._at + wanted]
        if len(found) < wanted:
            self._file.seek(self._start + max(0, self._at - len(self._header)))
            found += self._file.read(wanted - len(found))
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def close(self) -> None:  # noqa: D102
        self._file.close()
        super().close()
