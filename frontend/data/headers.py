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
    promised = 0
    if kind == b"riff" and len(head) >= 24:  # Sony Wave64
        promised = struct.unpack("<Q", head[16:24])[0]
    elif kind == b"RIFX" or (kind == b"FORM" and form in (b"AIFF", b"AIFC")):
        promised = 8 + struct.unpack(">I", head[4:8])[0]
    elif kind == b"NIST":
        promised = _sphere_bytes(file)
    elif kind == b".snd" and len(head) >= 12 and head[8:12] != b"\xff\xff\xff\xff":
        promised = sum(struct.unpack(">II", head[4:12]))
    if promised > size + 1 and not any(promised - 8 in sizes for sizes in _UNKNOWN):
        raise UserError(_cut_off(name, promised, size, "bytes"))
    return None


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


class _Samples(NamedTuple):
    """Where the samples of a wav are, and what its header says of them; all numbers in bytes.

    Attributes:
        at: where they begin.
        size: of the whole file.
        promised: length of the samples by the header.
        frame: length of a sample of all channels.
        is_wide: the header has sizes of 64 bits.
        is_whole: its size of the whole file, of 32 bits, is right.
    """

    at: int
    size: int
    promised: int
    frame: int
    is_wide: bool
    is_whole: bool


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
    is_whole = kind == b"RIFF" and abs(8 + riff - size) <= 1
    found = _found_bytes(file, _Samples(at, size, promised, frame, is_wide, is_whole), name)
    if found == promised and kind != b"BW64":
        return None
    found -= found % frame
    chunks = struct.pack("<4sI", b"fmt ", len(layout)) + layout + b"\0" * (len(layout) % 2)
    return io.BufferedReader(_Window(_head(chunks, found, found // frame), file, at, found))


def _found_bytes(file: BinaryIO, samples: _Samples, name: str) -> int:
    """Return how many bytes of samples there are."""
    at, size, promised, frame, is_wide, is_whole = samples
    there = size - at
    unknown = promised >= 1 << 62 if is_wide else any(promised in sizes for sizes in _UNKNOWN)
    if promised > there:
        if unknown or is_whole:
            return there
        lengths = promised // frame, there // frame
        if not is_wide and promised - there <= at:  # a size that counts the header as well
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
