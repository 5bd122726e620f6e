"""A folder of multi-channel recordings as a Kaldi data directory, every sample checked once."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from frontend import atomic
from frontend.audio import audio_info
from frontend.errors import UserError
from frontend.geometry import read_geometry
from frontend.parallel import parallel_map
from frontend.recordings import Recording, find_recordings
from frontend.tables import write_scp
from frontend.wave_blocks import BLOCK_S, is_wide, read_blocks, resampled, write_blocks

_SILENT_DBFS = -80.0
_CLIPPED_SHARE = 0.001


def prepare(
    source: str,
    out: str,
    fs: int | None = None,
    geometry: str = "none",
    pattern: str | None = None,
    nj: int = 1,
) -> list[Recording]:
    """Make the data directory ``out`` of all recordings of ``source``.

    ``wav.scp`` names multi-channel files where they lie; channel files, and all where the rate is lowered,
    become one file a recording in ``out/wav`` (whole or absent: a run that was cut off goes on). Every
    sample is read once, which finds damaged files and dead channels. ``out/array`` holds
    the number of microphones, the symmetry of the array and the rate: ``4 circular 8000``.

    Args:
        source, pattern: as :func:`frontend.recordings.find_recordings` takes them.
        out: the directory to make.
        fs: rate wanted in Hz; a higher one is lowered.
        geometry: as :func:`frontend.geometry.read_geometry` takes it.
        nj: number of processes.

    Raises:
        UserError: as :func:`frontend.recordings.find_recordings`; a rate below ``fs``; a silent channel;
            samples beyond full scale.
    """
    recordings = find_recordings(source, pattern)
    found = recordings[0]
    fs = fs or found.fs
    if found.fs < fs:
        raise UserError(
            f"{found.entries[0]}: {found.fs} Hz, expected {fs} Hz or more (what is above {found.fs // 2} Hz "
            "cannot be made up: "
            "use a model and --fs of that rate)"
        )
    symmetry = read_geometry(geometry, found.channels)
    lowered = f", lowered to {fs} Hz" if fs != found.fs else ""
    minutes = sum(one.seconds for one in recordings) / 60
    what = f"{len(recordings)} recordings, {minutes:.1f} min, {found.channels} channels"
    print(f"{source}: {what} at {found.fs} Hz{lowered}", flush=True)
    Path(out).mkdir(parents=True, exist_ok=True)
    work = partial(_prepared, out=Path(out), fs=fs)
    ready = dict(
        zip((r.id for r in recordings), parallel_map(work, recordings, nj, "recordings"), strict=True)
    )
    _write_tables(Path(out), {name: entry for name, (entry, _) in ready.items()})
    for warning in filter(None, (warning for _, warning in ready.values())):
        print(f"warning: {warning}", flush=True)
    atomic.write_text(Path(out) / "array", f"{found.channels} {symmetry} {fs}\n")
    return recordings


def _prepared(recording: Recording, out: Path, fs: int) -> tuple[str, str]:
    """Check all samples of a recording and return the entry that names it, and a warning or ''."""
    level = _Level(recording)
    blocks = map(level.add, read_blocks(recording.entries, recording.frames, round(BLOCK_S * recording.fs)))
    if len(recording.entries) == 1 and fs == recording.fs:
        for _ in blocks:
            pass
        return recording.entries[0], level.verdict()
    merged = _already_merged(recording, out, fs)
    if merged:
        return str(merged), ""
    wide = is_wide(recording.entries)
    checked = _then(resampled(blocks, recording.fs, fs), level.verdict)
    path = write_blocks(out / "wav" / recording.id, checked, fs, recording.channels, wide)
    return str(path), level.verdict()


def _then(blocks: Iterable[np.ndarray], finish: Callable[[], object]) -> Iterator[np.ndarray]:
    """Yield the blocks and call ``finish`` at their end, where the writer can still be stopped."""
    yield from blocks
    finish()


def _already_merged(recording: Recording, out: Path, fs: int) -> Path | None:
    expected = (recording.channels, -(-recording.frames * fs // recording.fs), fs)
    for path in (out / "wav" / f"{recording.id}{ending}" for ending in (".flac", ".wav")):
        newest = max(Path(entry).stat().st_mtime for entry in recording.entries)
        if path.is_file() and path.stat().st_mtime > newest and audio_info(str(path)) == expected:
            return path
    return None


class _Level:
    """What the level of each channel of a recording is, block by block."""

    def __init__(self, recording: Recording):
        self.recording = recording
        self.energy, self.peak = np.zeros(recording.channels), np.zeros(recording.channels)
        self.clipped = np.zeros(recording.channels)

    def add(self, block: np.ndarray) -> np.ndarray:
        magnitude = np.abs(block)
        self.energy += (block.astype(np.float64) ** 2).sum(1)
        self.peak = np.maximum(self.peak, magnitude.max(1))
        self.clipped += (magnitude >= 0.9999).sum(1)
        return block

    def verdict(self) -> str:
        """Return a warning or ''.

        Raises:
            UserError: a channel that is silent, or beyond full scale.
        """
        for channel in range(self.recording.channels):
            entries = self.recording.entries
            where = entries[channel if len(entries) > 1 else 0]
            level = 10 * np.log10(self.energy[channel] / self.recording.frames + 1e-30)
            if level < _SILENT_DBFS:
                found = "silent" if self.peak[channel] == 0 else f"at {level:.0f} dB of full scale"
                raise UserError(
                    f"{where}: channel {channel + 1} is {found}, expected speech above {_SILENT_DBFS:.0f} dB "
                    "(was the microphone connected? leave the channel out of all recordings)"
                )
            if self.peak[channel] > 1.0:
                raise UserError(
                    f"{where}: channel {channel + 1} has a peak of {self.peak[channel]:.3g}, expected at "
                    "most full scale 1.0 "
                    "(scale all channels by the same factor)"
                )
        share = self.clipped.max() / self.recording.frames
        if share > _CLIPPED_SHARE:
            return (
                f"{self.recording.entries[0]}: {100 * share:.1f} % of the samples are at full scale: clipped?"
            )
        return ""


def _write_tables(out: Path, entries: dict[str, str]) -> None:
    utt2spk = {name: name for name in entries}
    write_scp(out / "utt2spk", utt2spk)
    write_scp(out / "spk2utt", utt2spk)
    write_scp(out / "utt2num_samples", {name: audio_info(entry)[1] for name, entry in entries.items()})
    write_scp(out / "wav.scp", entries)  # last: with it the set is complete
