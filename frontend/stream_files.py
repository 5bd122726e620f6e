"""Streams of a long recording, written as they become final: mono wav files, whole or absent."""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from frontend import atomic
from frontend.audio import to_pcm16

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
            self._parts = [stack.enter_context(atomic.file(path)) for path in self.paths]
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
            with atomic.file(part) as aside, open(aside, "wb") as out:
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
