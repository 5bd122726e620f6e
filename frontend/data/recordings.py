"""What the shape of a microphone array allows in training: its symmetries, by a word or coordinates.

A user's folder of multi-channel recordings: which files are a recording, and do all fit together.

A recording is a wav or flac file with several channels, named and not copied, or one file a channel,
merged block by block. The files of a recording differ only in the number at the end of their names, before
the ending: ``NAME_ch1``, ``NAME.CH1``, ``NAME-1``, ``NAME_1``, ``NAME_mic01``, ``NAME.Array1-01`` ...; the
numbers start at 0 or 1. Another rule is a regular expression with two groups, the name and the channel.

A folder of multi-channel recordings as a Kaldi data directory, every sample checked once.

Long recordings to training chunks: two unlabelled mixture sets, for training and for validation.

Chunks last 3 to 8 s and lie where somebody talks. Those for validation are stretches of time of their
own: runs of neighbouring chunks, drawn at random, no two runs side by side; a training chunk
next to such a run is left out, so that no word is in both. Nothing is known of who talks.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from frontend.data.audio import (
    BLOCK_S,
    FLAC_CHANNELS,
    AudioWriter,
    BlockWriter,
    audio_info,
    is_wide,
    read_audio,
    read_blocks,
    span,
)
from frontend.data.kaldi import read_scp, write_set
from frontend.data.segments import Span, read_spans, spans_by_energy, union
from frontend.dsp.resample import resample_blocks
from frontend.dsp.spatial import array_symmetries
from frontend.utils.errors import UserError
from frontend.utils.files import write_text
from frontend.utils.parallel import parallel_map
from frontend.utils.rng import generator

KINDS = ("circular", "linear", "none")
# Of the array's largest distance: people measure with a ruler.
_TOLERANCE = 0.02


def read_geometry(geometry: str, n_mics: int) -> str:
    """Return the symmetry that training may use, ``circular``, ``linear`` or ``none``.

    Args:
        geometry: one of these words (microphones in order around a circle, or along a row), or a file
            with a line ``x y z`` in metres for each channel, in the order of the channels.
        n_mics: channels of the recordings.

    Raises:
        UserError: no such word or file, no coordinates in it, or those of another number of microphones.
    """
    if geometry in KINDS:
        return geometry
    if not Path(geometry).is_file():
        raise UserError(
            f"--geometry {geometry}: expected {', '.join(KINDS)} or a file of coordinates, found no such file"
        )
    positions = _read_coordinates(geometry)
    if len(positions) != n_mics:
        raise UserError(
            f"{geometry}: expected a line 'x y z' for each of the {n_mics} channels, found {len(positions)}"
        )
    return symmetry_of(positions)


def _read_coordinates(path: str) -> np.ndarray:
    rows = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        if len(row) != 3 or not np.isfinite(row).all():
            raise UserError(f"{path}:{number}: expected 'x y z' in metres, found '{line.strip()}'")
        rows.append(row)
    return np.array(rows).reshape(-1, 3)


def symmetry_of(positions: np.ndarray) -> str:
    """Return the largest symmetry of :func:`frontend.dsp.spatial.array_symmetries` that an array has.

    An order of the channels is a symmetry where all distances between microphones stay what they
    were: the reordered array is then the same array, turned or mirrored.

    Args:
        positions: (C, 3) in metres, in the order of the channels.
    """
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    for kind in ("circular", "linear"):
        orders = [np.array(order) for order in array_symmetries(kind, len(positions))]
        if all(
            np.abs(distances[np.ix_(o, o)] - distances).max() <= _TOLERANCE * distances.max() for o in orders
        ):
            return kind
    return "none"


CHANNEL_PATTERN = r"(.+?)[._-]+(?:ch|channel|mic)?[._-]?([0-9]+)"
_ENDINGS = (".wav", ".flac")
_SLACK_S = 0.01  # by which the files of a recording may differ in length: recorders stop one after the other


@dataclass(frozen=True)
class Recording:
    """A recording as it was found: its id, its file or files in the order of channels, and their format."""

    id: str
    entries: tuple[str, ...]
    channels: int
    frames: int
    fs: int

    @property
    def seconds(self) -> float:
        return self.frames / self.fs


def find_recordings(source: str, pattern: str | None = None) -> list[Recording]:
    """Find all recordings and check that they fit together, reading no audio but the headers.

    Args:
        source: a folder (searched with all below it), or a table ``id file`` (Kaldi's wav.scp).
        pattern: regular expression with the groups name and channel, for files of one channel.

    Returns:
        the recordings sorted by id, all with the same number of channels (2 or more) and the same rate.

    Raises:
        UserError: none there, unreadable, a channel missing, different lengths, rates or channels.
    """
    files = _listed(source)
    several = {name: entry for name, entry in files.items() if audio_info(entry)[0] > 1}
    groups = {name: (entry,) for name, entry in several.items()}
    single = {name: entry for name, entry in files.items() if name not in several}
    for name, entries in _grouped(single, _compiled(pattern)).items():
        if name in groups:
            raise UserError(
                f"{entries[0]}: recording '{name}' is also {groups[name][0]} (keep the multi-channel file, "
                "or its channels)"
            )
        groups[name] = entries
    recordings = [_described(name, groups[name]) for name in sorted(groups)]
    _check_alike(recordings)
    return recordings


def _listed(source: str) -> dict[str, str]:
    """Return name -> file of everything that is audio."""
    path = Path(source)
    if path.is_file():
        return read_scp(path)
    if not path.is_dir():
        raise UserError(
            f"--recordings {source}: expected a folder of recordings or a table 'id file', found nothing"
        )
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in _ENDINGS and not p.name.startswith("."))
    if not found:
        raise UserError(f"--recordings {source}: expected wav or flac files in it or below it, found none")
    names: dict[str, str] = {}
    for file in found:
        name = "-".join(re.sub(r"\s+", "_", part) for part in file.relative_to(path).with_suffix("").parts)
        if name in names:
            raise UserError(f"{file}: would have the same id as {names[name]} (rename one of them)")
        names[name] = str(file)
    return names


def _compiled(pattern: str | None) -> re.Pattern:
    try:
        compiled = re.compile(pattern or CHANNEL_PATTERN, re.IGNORECASE)
    except re.error as error:
        raise UserError(f"--channel_pattern '{pattern}': not a regular expression: {error}") from None
    if compiled.groups != 2:
        raise UserError(f"--channel_pattern '{pattern}': expected two groups, (name) and (channel)")
    return compiled


def _grouped(files: dict[str, str], pattern: re.Pattern) -> dict[str, tuple[str, ...]]:
    """Put the mono files of each recording in the order of their channels."""
    groups: dict[str, dict[int, str]] = {}
    for name, entry in files.items():
        match = pattern.fullmatch(name)
        if not match or not match[2].isdecimal():
            raise UserError(
                f"{entry}: one channel; expected several, or a file a channel named such as {name}_ch1, "
                f"{name}_ch2 "
                "(one microphone cannot be used here; other names: --channel_pattern)"
            )
        channels = groups.setdefault(match[1], {})
        if int(match[2]) in channels:
            raise UserError(f"{entry}: channel {match[2]} of '{match[1]}' is also {channels[int(match[2])]}")
        channels[int(match[2])] = entry
    for name, channels in groups.items():
        numbers = sorted(channels)
        expected = list(range(numbers[0], numbers[0] + len(numbers)))
        if numbers[0] > 1 or numbers != expected:
            missing = 1 if numbers[0] > 1 else min(set(expected) - set(numbers))
            raise UserError(
                f"{channels[numbers[0]]}: recording '{name}' has channels {numbers}, channel {missing} is "
                "missing "
                "(expected one file a channel, numbered from 0 or 1)"
            )
        if len(numbers) == 1:
            raise UserError(
                f"{channels[numbers[0]]}: the only channel of recording '{name}'; expected two or more"
            )
    return {name: tuple(channels[k] for k in sorted(channels)) for name, channels in groups.items()}


def _described(name: str, entries: tuple[str, ...]) -> Recording:
    channels, frames, fs = span(entries)
    lengths = {entry: audio_info(entry)[1] / fs for entry in entries}
    shortest, longest = min(lengths, key=lengths.get), max(lengths, key=lengths.get)
    if lengths[longest] - lengths[shortest] > _SLACK_S:
        raise UserError(
            f"{shortest} lasts {lengths[shortest]:.3f} s, {longest} of the same recording "
            f"{lengths[longest]:.3f} s: expected "
            f"equal lengths to within {1000 * _SLACK_S:.0f} ms (were they started together? cut them alike)"
        )
    return Recording(name, entries, channels, frames, fs)


def _check_alike(recordings: list[Recording]) -> None:
    first = recordings[0]
    for one in recordings[1:]:
        if one.channels != first.channels:
            raise UserError(
                f"{one.entries[0]}: recording '{one.id}' has {one.channels} channels, '{first.id}' has "
                f"{first.channels} "
                f"({first.entries[0]}); expected one array for all (put others into another folder)"
            )
        if one.fs != first.fs:
            raise UserError(
                f"{one.entries[0]}: recording '{one.id}' has {one.fs} Hz, '{first.id}' {first.fs} Hz "
                f"({first.entries[0]}); "
                "expected one rate for all (resample one of them, or use another folder)"
            )


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
        source, pattern: as :func:`frontend.data.recordings.find_recordings` takes them.
        out: the directory to make.
        fs: rate wanted in Hz; a higher one is lowered.
        geometry: as :func:`frontend.data.recordings.read_geometry` takes it.
        nj: number of processes.

    Raises:
        UserError: as :func:`frontend.data.recordings.find_recordings`; a rate below ``fs``; a silent channel;
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
    wav = {name: entry for name, (entry, _) in ready.items()}
    samples = {name: audio_info(entry)[1] for name, entry in wav.items()}
    write_set(out, {"wav.scp": wav, "utt2num_samples": samples})
    for warning in filter(None, (warning for _, warning in ready.values())):
        print(f"warning: {warning}", flush=True)
    write_text(Path(out) / "array", f"{found.channels} {symmetry} {fs}\n")
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
    checked = _then(resample_blocks(blocks, recording.fs, fs), level.verdict)
    ending = "flac" if recording.channels <= FLAC_CHANNELS else "wav"
    path = out / "wav" / f"{recording.id}.{ending}"
    with BlockWriter(path, fs, "pcm24" if wide else "pcm16") as file:
        for block in checked:
            file.write(block)
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


MIN_S, MAX_S = 3.0, 8.0
MIN_SPEECH_S = 60.0  # in all; less teaches nothing, and the sums of mixtures need variety
DEV_SHARE = 0.1
_RUN = 4  # chunks for validation that follow each other
_MIN_DEV = 2  # a mixture of mixtures takes two
_ID = re.compile(r"(.+)-([0-9]{10,})-([0-9]{10,})")


@dataclass(frozen=True)
class Chunk:
    """A piece of a recording, in samples; its id says where it lies."""

    recording: str
    start: int
    end: int

    @property
    def id(self) -> str:
        return f"{self.recording}-{self.start:010d}-{self.end:010d}"

    @classmethod
    def of(cls, utterance: str) -> "Chunk | None":
        """Return the chunk with this id; None if it is no chunk's.

        >>> Chunk.of("m-1-0000000000-0000024000"), Chunk.of("train_000001")
        (Chunk(recording='m-1', start=0, end=24000), None)
        """
        found = _ID.fullmatch(utterance)
        return found and cls(found[1], int(found[2]), int(found[3]))


def chunk_spans(spans: list[Span], seconds: float, min_s: float = MIN_S, max_s: float = MAX_S) -> list[Span]:
    """Turn stretches of speech into chunks.

    Neighbours with less than half a second between them become one stretch; a stretch is divided
    evenly into as few chunks as ``max_s`` allows; a short one is widened on both sides to ``min_s``,
    as far as its neighbours and the ends of the recording leave room.

    Args:
        spans: ``[(start, end)]`` in seconds, sorted, none overlapping.
        seconds: length of the recording.
        min_s, max_s: of a chunk; ``max_s`` at least twice ``min_s``, so that halves are long enough.

    Returns:
        ``[(start, end)]`` in order, apart or touching, all of ``min_s`` to ``max_s``.
    """
    stretches = union(spans, gap=0.5)
    chunks: list[Span] = []
    for index, (start, end) in enumerate(stretches):
        floor = chunks[-1][1] if chunks else 0.0
        ceiling = stretches[index + 1][0] if index + 1 < len(stretches) else seconds
        missing = min_s - (end - start)
        if missing > 0:
            start = max(floor, min(start - missing / 2, ceiling - min_s))
            end = min(ceiling, max(end, start + min_s))
            if end - start < min_s - 1e-6:
                continue  # squeezed between others
        start = max(start, floor)
        pieces = max(1, -int(-(end - start) // max_s))
        edges = [start + (end - start) * k / pieces for k in range(pieces + 1)]
        chunks += list(zip(edges[:-1], edges[1:], strict=True))
    return chunks


def split(chunks: list[Chunk], share: float, seed: int) -> tuple[list[Chunk], list[Chunk]]:
    """Divide chunks into training and validation.

    Args:
        chunks: sorted by recording and time.
        share: of the chunks, for validation; at least two are.
        seed: of the draw.

    Returns:
        training chunks, validation chunks; a training chunk beside a validation run is in neither.
    """
    wanted = max(_MIN_DEV, round(share * len(chunks)))
    run = min(_RUN, wanted)
    runs = [range(start, min(start + run, len(chunks))) for start in range(0, len(chunks), run)]
    order = sorted(range(len(runs)), key=lambda k: generator(seed, chunks[runs[k][0]].id, "dev").random())
    chosen: set[int] = set()
    held: list[int] = []
    for k in order:
        if len(held) >= wanted:
            break
        if not {k - 1, k + 1} & chosen:
            chosen.add(k)
            held += runs[k]
    dev = set(held[:wanted])
    beside = {i + step for i in dev for step in (-1, 1) if _same(chunks, i, i + step)} - dev
    return (
        [chunk for i, chunk in enumerate(chunks) if i not in dev | beside],
        [chunk for i, chunk in enumerate(chunks) if i in dev],
    )


def _same(chunks: list[Chunk], i: int, j: int) -> bool:
    return 0 <= j < len(chunks) and chunks[i].recording == chunks[j].recording


def make_chunks(
    data: str,
    outs: tuple[str, str],
    given: tuple[str, str] | None = None,
    min_speech: float = MIN_SPEECH_S,
    share: float = DEV_SHARE,
    seed: int = 0,
    nj: int = 1,
) -> None:
    """Write the chunks of all recordings of ``data`` as two unlabelled mixture sets.

    A chunk that is there is not written again: a run that was cut off goes on.

    Args:
        data: the whole recordings, made by :mod:`frontend.data.recordings`.
        outs: the sets to make, for training and for validation.
        given: ``("rttm", FILE)`` or ``("segments", FILE)`` instead of deciding by energy.
        min_speech: least total length of the chunks, in seconds.
        share: of the chunks, for validation.
        seed: of the division.
        nj: number of processes.

    Raises:
        UserError: too little speech, an unusable RTTM or segments file, unreadable audio.
    """
    wav = read_scp(Path(data) / "wav.scp")
    info = {name: audio_info(entry) for name, entry in wav.items()}
    seconds = {name: frames / fs for name, (_, frames, fs) in info.items()}
    if given:
        spans = read_spans(given[1], given[0], seconds)
    else:
        spans = dict(zip(wav, parallel_map(spans_by_energy, list(wav.values()), nj, "speech"), strict=True))
    chunks = [
        Chunk(name, round(start * info[name][2]), round(end * info[name][2]))
        for name in wav
        for start, end in chunk_spans(spans[name], seconds[name])
    ]
    total = sum((c.end - c.start) / info[c.recording][2] for c in chunks)
    if total < min_speech:
        raise UserError(
            f"{data}: found {total:.1f} s of speech in {len(wav)} recording(s) of "
            f"{sum(seconds.values()):.1f} s, expected at "
            f"least {min_speech:g} s (give more recordings, or say where the speech is: --rttm or --segments)"
        )
    parts = split(chunks, share, seed)
    if min(map(len, parts)) < 2:
        raise UserError(
            f"{data}: found speech for {len(chunks)} chunks of {MIN_S:g} to {MAX_S:g} s, too few to divide "
            "into training "
            "and validation (give more recordings)"
        )
    for out, part, what in zip(outs, parts, ("training", "validation"), strict=True):
        _write(out, part, wav, nj)
        length = sum((c.end - c.start) / info[c.recording][2] for c in part)
        print(f"{out}: {len(part)} chunks for {what}, {length / 60:.1f} min", flush=True)


def _write(out: str, chunks: list[Chunk], wav: dict[str, str], nj: int) -> None:
    directory = Path(out)
    (directory / "wav.scp").unlink(missing_ok=True)  # no set until it is complete again
    work = partial(_write_chunk, directory=directory / "wav", wav=wav)
    entries = list(parallel_map(work, chunks, nj, f"chunks {directory.name}"))
    wav = {chunk.id: entry for chunk, entry in zip(chunks, entries, strict=True)}
    samples = {chunk.id: chunk.end - chunk.start for chunk in chunks}
    write_set(directory, {"wav.scp": wav, "utt2num_samples": samples})


def _write_chunk(chunk: Chunk, directory: Path, wav: dict[str, str]) -> str:
    source = wav[chunk.recording]
    channels, _, fs = audio_info(source)
    ending = "flac" if channels <= FLAC_CHANNELS else "wav"
    path = directory / f"{chunk.id}.{ending}"
    if path.is_file() and path.stat().st_mtime > Path(source).stat().st_mtime:
        return str(path)
    audio, _ = read_audio(source, chunk.start, chunk.end - chunk.start, finite=True)
    return AudioWriter(directory, ending, fs).write(chunk.id, audio)
