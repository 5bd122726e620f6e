"""A user's folder of multi-channel recordings: which files are a recording, and do all fit together.

A recording is a wav or flac file with several channels, named and not copied, or one file a channel,
merged block by block. The files of a recording differ only in the number at the end of their names, before
the ending: ``NAME_ch1``, ``NAME.CH1``, ``NAME-1``, ``NAME_1``, ``NAME_mic01``, ``NAME.Array1-01`` ...; the
numbers start at 0 or 1. Another rule is a regular expression with two groups, the name and the channel.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from frontend.audio import audio_info
from frontend.errors import UserError
from frontend.tables import read_scp
from frontend.wave_blocks import span

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
