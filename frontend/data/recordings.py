"""A user's folder of multi-channel recordings: found, checked, and made a data directory.

A recording is a wav or flac file with several channels, named and not copied, or one file a channel, merged
block by block. The files of a recording differ only in the number at the end of their names, before the
ending: ``NAME_ch1``, ``NAME.CH1``, ``NAME-1``, ``NAME_1``, ``NAME_mic01``, ``NAME.Array1-01`` ...; the
numbers start at 0 or 1. Another rule is a regular expression with two groups, the name and the channel.
"""

import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from frontend.data.audio import Recording, audio_info, stamp_of_entries
from frontend.data.kaldi import read_scp, write_set
from frontend.data.writers import BlockWriter, ending_for
from frontend.dsp.resample import resample_blocks
from frontend.utils.errors import UserError
from frontend.utils.files import read_lines, write_text
from frontend.utils.parallel import parallel_map
from frontend.utils.stamps import Stamp

VERSION = 1  # of the merged files: raised when the same recordings give other samples
CHANNEL_PATTERN = r"(.+?)[._-]+(?:ch|channel|mic)?[._-]?([0-9]+)"
GEOMETRIES = ("circular", "linear", "none")
_TOLERANCE = 0.02  # of the array's largest distance: people measure with a ruler
_SLACK_S = 0.01  # by which the files of a recording may differ in length: recorders stop one after the other
_BLOCK_S = 20.0  # of a recording, read at once
_SILENT_DBFS = -80.0
_CLIPPED_SHARE = 0.001


# --- the array


def read_geometry(geometry: str, n_mics: int) -> str:
    """Return the largest symmetry of :func:`frontend.dsp.spatial.array_symmetries` that an array has.

    Args:
        geometry: one of these words (microphones in order around a circle, or along a row), or a file
            with a line ``x y z`` in metres for each channel, in the order of the channels.
        n_mics: channels of the recordings.

    Raises:
        UserError: no such word or file, no coordinates in it, or those of another number of microphones.
    """
    if geometry in GEOMETRIES:
        return geometry
    if not Path(geometry).is_file():
        wanted = f"{', '.join(GEOMETRIES)} or a file of coordinates"
        raise UserError(f"--geometry {geometry}: expected {wanted}, found no such file")
    positions = np.array(read_coordinates(geometry))
    if len(positions) != n_mics:
        raise UserError(
            f"{geometry}: expected a line 'x y z' for each of the {n_mics} channels, found {len(positions)}"
        )
    from frontend.dsp.spatial import array_symmetries  # torch, for who needs it

    # A symmetry keeps all distances: the reordered array is the same array, turned or mirrored.
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    tolerance = _TOLERANCE * distances.max()
    for kind in ("circular", "linear"):
        orders = [np.array(order) for order in array_symmetries(kind, n_mics)]
        if all(np.abs(distances[np.ix_(o, o)] - distances).max() <= tolerance for o in orders):
            return kind
    return "none"


def read_coordinates(path: str | Path) -> list[tuple[float, float, float]]:
    """Return the points of a file with a line ``x y z`` in metres each; ``#`` starts a remark.

    Raises:
        UserError: no such file, another kind of line, no point at all.
    """
    points = []
    for number, line in read_lines(path):
        words = line.split("#")[0].replace(",", " ").split()
        if not words:
            continue
        try:
            x, y, z = map(float, words)
        except ValueError:
            x = y = z = np.nan
        if not np.isfinite((x, y, z)).all():
            raise UserError(f"{path}:{number}: expected 'x y z' in metres, found '{line}'")
        points.append((x, y, z))
    if not points:
        raise UserError(f"{path}: expected one 'x y z' a line, found none")
    return points


# --- from a folder to a data directory


def find_recordings(source: str, pattern: str | None = None) -> dict[str, Recording]:
    """Find all recordings and check that they fit together, reading no audio but the headers.

    Args:
        source: a folder (searched with all below it), or a table ``id file`` (Kaldi's wav.scp).
        pattern: regular expression with the groups name and channel, for files of one channel.

    Returns:
        the recordings by id, sorted, all with the same number of channels (2 or more) and the same rate.

    Raises:
        UserError: none there, unreadable, a channel missing, different lengths, rates or channels.
    """
    files = _listed(source)
    groups = {name: [entry] for name, entry in files.items() if audio_info(entry)[0] > 1}
    single = {name: entry for name, entry in files.items() if name not in groups}
    for name, entries in _grouped(single, pattern).items():
        if name in groups:
            both = f"{entries[0]}: recording '{name}' is also {groups[name][0]}"
            raise UserError(f"{both} (keep the multi-channel file, or its channels)")
        groups[name] = entries
    recordings = {name: Recording(groups[name], _SLACK_S) for name in sorted(groups)}
    first_name, first = next(iter(recordings.items()))
    for name, one in recordings.items():
        for found, expected, unit, advice in (
            (one.channels, first.channels, "channels", "one array for all (put others into another folder)"),
            (one.fs, first.fs, "Hz", "one rate for all (resample one of them, or use another folder)"),
        ):
            if found != expected:
                raise UserError(
                    f"{one.name}: recording '{name}' has {found} {unit}, '{first_name}' has {expected} "
                    f"({first.name}); expected {advice}"
                )
    return recordings


def prepare(
    source: str,
    out: str,
    fs: int | None = None,
    geometry: str = "none",
    pattern: str | None = None,
    nj: int = 1,
) -> dict[str, Recording]:
    """Make the data directory ``out`` of all recordings of ``source``, and return these.

    ``wav.scp`` names multi-channel files where they lie; channel files, and all where the rate is lowered,
    become one file a recording in ``out/wav``, with a stamp beside it (a run that was cut off goes on at the
    next recording). Every sample is read once, which finds damaged files and dead channels. ``out/array``
    holds the number of microphones, the symmetry of the array and the rate: ``4 circular 8000``.

    ``source`` and ``pattern`` are those of :func:`find_recordings`, ``geometry`` of :func:`read_geometry`. A
    rate above ``fs`` Hz is lowered.

    Raises:
        UserError: as these; a rate below ``fs``; a silent channel; samples beyond full scale.
    """
    recordings = find_recordings(source, pattern)
    found = next(iter(recordings.values()))
    fs = fs or found.fs
    if found.fs < fs:
        raise UserError(
            f"{found.name}: {found.fs} Hz, expected {fs} Hz or more (what is above {found.fs // 2} Hz cannot "
            "be made up: use a model and --fs of that rate)"
        )
    symmetry = read_geometry(geometry, found.channels)
    lowered = f", lowered to {fs} Hz" if fs != found.fs else ""
    minutes = sum(one.seconds for one in recordings.values()) / 60
    facts = f"{len(recordings)} recordings, {minutes:.1f} min, {found.channels} channels at {found.fs} Hz"
    print(f"{source}: {facts}{lowered}", flush=True)
    Path(out).mkdir(parents=True, exist_ok=True)
    work = partial(_prepared, out=Path(out), fs=fs)
    made = list(parallel_map(work, list(recordings.items()), nj, "recordings"))
    wav = dict(zip(recordings, (entry for entry, _ in made), strict=True))
    write_set(out, {"wav.scp": wav, "utt2num_samples": {name: audio_info(e)[1] for name, e in wav.items()}})
    for warning in filter(None, (warning for _, warning in made)):
        print(f"warning: {warning}", flush=True)
    write_text(Path(out) / "array", f"{found.channels} {symmetry} {fs}\n")
    return recordings


def _listed(source: str) -> dict[str, str]:
    path = Path(source)
    if path.is_file():
        return read_scp(path)
    if not path.is_dir():
        wanted = "a folder of recordings or a table 'id file'"
        raise UserError(f"--recordings {source}: expected {wanted}, found nothing")
    names: dict[str, str] = {}
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() not in (".wav", ".flac") or file.name.startswith("."):
            continue
        name = "-".join(re.sub(r"\s+", "_", part) for part in file.relative_to(path).with_suffix("").parts)
        if name in names:
            raise UserError(f"{file}: would have the same id as {names[name]} (rename one of them)")
        names[name] = str(file)
    if not names:
        raise UserError(f"--recordings {source}: expected wav or flac files in it or below it, found none")
    return names


def _grouped(files: dict[str, str], pattern: str | None) -> dict[str, list[str]]:
    """Put the mono files of each recording in the order of their channels."""
    try:
        compiled = re.compile(pattern or CHANNEL_PATTERN, re.IGNORECASE)
    except re.error as error:
        raise UserError(f"--channel_pattern '{pattern}': not a regular expression: {error}") from None
    if compiled.groups != 2:
        raise UserError(f"--channel_pattern '{pattern}': expected two groups, (name) and (channel)")
    groups: dict[str, dict[int, str]] = {}
    for name, entry in files.items():
        match = compiled.fullmatch(name)
        if not match or not match[2].isdecimal():
            raise UserError(
                f"{entry}: one channel; expected several, or a file a channel named such as {name}_ch1, "
                f"{name}_ch2 (one microphone cannot be used here; other names: --channel_pattern)"
            )
        other = groups.setdefault(match[1], {}).setdefault(int(match[2]), entry)
        if other != entry:
            raise UserError(f"{entry}: channel {match[2]} of '{match[1]}' is also {other}")
    for name, channels in groups.items():
        numbers = sorted(channels)
        first = channels[numbers[0]]
        gaps = set(range(min(1, numbers[0]), numbers[-1])) - set(numbers)
        if gaps:
            raise UserError(
                f"{first}: recording '{name}' has channels {numbers}, channel {min(gaps)} is missing "
                "(expected one file a channel, numbered from 0 or 1)"
            )
        if len(numbers) == 1:
            raise UserError(f"{first}: the only channel of recording '{name}'; expected two or more")
    return {name: [channels[k] for k in sorted(channels)] for name, channels in groups.items()}


def _prepared(named: tuple[str, Recording], out: Path, fs: int) -> tuple[str, str]:
    """Check all samples of a recording and return the entry that names it, and a warning or ''."""
    name, recording = named
    level = _Level(recording)
    if len(recording.entries) == 1 and fs == recording.fs:
        for _ in level.measured():
            pass
        return recording.name, level.warning()
    path = out / "wav" / f"{name}.{ending_for(recording.channels)}"
    stamp = Stamp.of({"fs": fs}, {"files": stamp_of_entries(recording.entries)}, [sys.modules[__name__]])
    if path.is_file() and not stamp.why_stale(path.with_suffix(".json")):
        return str(path), ""
    with BlockWriter(path, fs, "pcm24" if recording.is_wide() else "pcm16") as file:
        for block in resample_blocks(level.measured(), recording.fs, fs):
            file.write(block)
        warning = level.warning()  # or an error: nothing is written then
    stamp.write(path.with_suffix(".json"))
    return str(path), warning


class _Level:
    """The level of each channel of a recording."""

    def __init__(self, recording: Recording):
        self.recording = recording
        self.energy, self.peak, self.clipped = np.zeros((3, recording.channels))

    def measured(self) -> Iterator[np.ndarray]:
        """Yield the recording block by block, each after it was measured."""
        for block in self.recording.blocks(round(_BLOCK_S * self.recording.fs)):
            magnitude = np.abs(block)
            self.energy += (block.astype(np.float64) ** 2).sum(1)
            self.peak = np.maximum(self.peak, magnitude.max(1))
            self.clipped += (magnitude >= 0.9999).sum(1)
            yield block

    def warning(self) -> str:
        """Return a warning or ''.

        Raises:
            UserError: a channel that is silent, or beyond full scale.
        """
        entries, frames = self.recording.entries, self.recording.frames
        for channel in range(self.recording.channels):
            where = f"{entries[channel if len(entries) > 1 else 0]}: channel {channel + 1}"
            level = 10 * np.log10(self.energy[channel] / frames + 1e-30)
            if level < _SILENT_DBFS:
                found = "silent" if self.peak[channel] == 0 else f"at {level:.0f} dB of full scale"
                raise UserError(
                    f"{where} is {found}, expected speech above {_SILENT_DBFS:.0f} dB (was the microphone "
                    "connected? leave the channel out of all recordings)"
                )
            if self.peak[channel] > 1.0:
                raise UserError(
                    f"{where} has a peak of {self.peak[channel]:.3g}, expected at most full scale 1.0 (scale "
                    "all channels by the same factor)"
                )
        share = self.clipped.max() / frames
        if share > _CLIPPED_SHARE:
            return f"{entries[0]}: {100 * share:.1f} % of the samples are at full scale: clipped?"
        return ""
