"""Long recordings block by block, so that memory does not grow with their length: read, resample, write.

A recording is one file of C channels, or C files of one channel each.
"""

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from frontend import atomic
from frontend.audio import audio_info, read_audio
from frontend.errors import UserError

BLOCK_S = 20.0
_FLAC_CHANNELS = 8  # what the format can hold


def read_blocks(entries: Sequence[str], frames: int, block: int) -> Iterator[np.ndarray]:
    """Yield a recording as float32 arrays ``(C, block)``, the last one shorter.

    Args:
        entries: one multi-channel file, or one file a channel in the order of the channels.
        frames: samples to read; those of the shortest file.
        block: in samples.

    Raises:
        UserError: unreadable, truncated, NaN; as :func:`frontend.audio.read_audio`.
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
    with atomic.file(path) as part, soundfile.SoundFile(part, "w", fs, channels, **layout) as audio:
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
