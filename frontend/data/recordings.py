"""A user's folder of multi-channel recordings: found, checked, and made a data directory.

A recording is a wav or flac file with several channels, named and not copied, or one file a channel, merged
block by block. The files of a recording differ only in the number of the channel: ``NAME_ch1``,
``NAME.CH1``, ``NAME-1``, ``NAME_1``, ``NAME_mic01``, ``NAME.Array1-01`` ..., or in the middle of the name,
``NAME.CH1_MORE``; the numbers start at 0 or 1. Another rule is a regular expression (:func:`_own_rule`).

In a folder everything below it is searched, links too, each real directory once. Hidden files and folders and
what file systems put aside are passed over.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from frontend.data.audio import Recording, audio_info, stamp_of_entries
from frontend.data.kaldi import MARK, read_entries, write_set
from frontend.data.writers import BlockWriter, ending_for, existing
from frontend.dsp.arrays import read_geometry
from frontend.dsp.resample import resample_blocks
from frontend.utils.errors import UserError, warn
from frontend.utils.files import check_name, check_utf8, write_text
from frontend.utils.parallel import parallel_map
from frontend.utils.stamps import Stamp, each_once, files_below

VERSION = 1  # of the merged files: raised when the same recordings give other samples
_BLOCK_S = 20.0  # of a recording, read at once
_SILENT_DBFS = -80.0
_CLIPPED_SHARE = 0.001
_ENDINGS = (".wav", ".flac", ".w64", ".rf64")
_OTHER_ENDINGS = tuple(".aac .aif .aiff .amr .m4a .mp3 .mp4 .oga .ogg .opus .sph .wma".split())
_PUT_ASIDE = ("__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information")


# --- from a folder to a data directory


def find_recordings(source: str, pattern: str | None = None) -> dict[str, Recording]:
    """Find all recordings and check that they fit together, reading no audio but the headers.

    Args:
        source: a folder (searched with all below it), a table ``id file`` (Kaldi's wav.scp), or a recording.
        pattern: of :func:`_own_rule`, for files of one channel.

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
    recordings = {name: Recording(groups[name]) for name in sorted(groups)}
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

    ``source`` and ``pattern`` are those of :func:`find_recordings`, ``geometry`` of
    :func:`frontend.dsp.arrays.read_geometry`. A rate above ``fs`` Hz is lowered.

    Raises:
        UserError: as these; a rate below ``fs``; a silent channel.
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
    if joined := next((name for name, one in recordings.items() if len(one.entries) > 1), None):
        files = recordings[joined].entries
        below = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files])
        print(f"joined: {' '.join(os.path.relpath(file, below) for file in files)} -> {joined}", flush=True)
    for name in recordings:  # files are named after them, here or in what follows
        check_name(Path(out) / "wav" / f"{name}_spk1.flac", "give a table 'id file' with shorter ids")
        for path in map(os.path.abspath, (out, *recordings[name].entries)):
            if "\n" in path or "\r" in path:
                raise UserError(f"{path!r}: expected a path in one line, as a table has it (rename it)")
    Path(out).mkdir(parents=True, exist_ok=True)
    work = partial(_prepared, out=Path(out), fs=fs)
    made = list(parallel_map(work, list(recordings.items()), nj, "recordings"))
    wav = dict(zip(recordings, (entry for entry, _ in made), strict=True))
    write_set(out, {"wav.scp": wav, "utt2num_samples": {name: audio_info(e)[1] for name, e in wav.items()}})
    for warning in (warning for _, warnings in made for warning in warnings):
        warn(warning)
    write_text(Path(out) / "array", f"{found.channels} {symmetry} {fs}\n")
    return recordings


def _listed(source: str) -> dict[str, str]:
    path = Path(source)
    if path.is_file():
        if _is_audio(path):
            return {_id(path.stem): source}
        (table := read_entries(path)).recordings()  # or an error that names the line
        return table
    if not path.is_dir():
        wanted = "a folder of recordings, a recording or a table 'id file'"
        raise UserError(f"--recordings {source}: expected {wanted}, found nothing")
    names: dict[str, str] = {}
    others = []
    for file in _files_below(path):
        if file.suffix.lower() in _OTHER_ENDINGS:
            others.append(file)
            continue
        name = _id("-".join(file.relative_to(path).with_suffix("").parts))
        if name in names:
            raise UserError(f"{file}: would have the same id as {names[name]} (rename one of them)")
        names[name] = str(file)
    if others:
        warn(f"{source}: passed over {len(others)} file(s) of formats that are not read, such as {others[0]}")
    if not names:
        raise UserError(f"--recordings {source}: expected wav or flac files in it or below it, found none")
    return dict(sorted(names.items()))


def _id(name: str) -> str:
    check_utf8(name)
    return re.sub(r"\s+", "_", name)


def _is_audio(path: Path) -> bool:
    if path.suffix.lower() in (*_ENDINGS, *_OTHER_ENDINGS):
        return True
    with open(path, "rb") as file:
        return file.read(4) in (b"RIFF", b"RF64", b"fLaC", b"riff", b"FORM")


def _files_below(folder: Path) -> list[Path]:
    """Return the audio files in a folder and below it, each real one once; what is left out is warned of."""
    found, made = [], []
    for file in files_below(folder, _PUT_ASIDE, unreadable=warn):
        if file.suffix.lower() not in (*_ENDINGS, *_OTHER_ENDINGS):
            continue
        if any((folder / part / MARK).is_file() for part in [*file.relative_to(folder).parents][:-1]):
            made.append(file)
        elif os.path.isfile(file):
            found.append(file)
        else:
            warn(f"{file}: passed over, it is {'a link to nothing' if file.is_symlink() else 'no file'}")
    if made:
        warn(f"{folder}: passed over {len(made)} file(s) of sets that this program made, such as {made[0]}")
    found, twice = each_once(found)
    for link, file in [*twice.items()][:1]:
        warn(f"{folder}: passed over {len(twice)} link(s) to files that are there, such as {link} -> {file}")
    return found


# --- files of one channel


Rule = Callable[[str], tuple[str, int] | None]  # an id -> name of the recording and number of the channel


def _marked(words: str) -> Rule:
    """Return the rule that a word and a number in the name are the channel, else a number at its end."""
    marker = re.compile(rf"(?:^|(?<=[._-]))(?:{words})[._-]?([0-9]{{1,3}})(?=[._-]|$)", re.IGNORECASE)

    def rule(name: str) -> tuple[str, int] | None:
        found = list(marker.finditer(name))
        if not found:
            return _at_end(name)
        before, after = name[: found[-1].start()].rstrip("._-"), name[found[-1].end() :]
        return (before + after if before else after.lstrip("._-")) or "recording", int(found[-1][1])

    return rule


_END = re.compile(r"(.+?)[._-]+(?:ch|channel|mic)?[._-]?([0-9]{1,3})", re.IGNORECASE)


def _at_end(name: str) -> tuple[str, int] | None:
    found = _END.fullmatch(name)
    return found and (found[1], int(found[2]))


_RULES: tuple[Rule, ...] = (_marked("ch|chan|channel"), _at_end, _marked("mic|microphone"))


def _own_rule(pattern: str) -> Rule:
    """Return the rule of a regular expression that a user gave.

    Of named groups, ``channel`` is the number, and the others, joined by ``_``, are the name of the
    recording; without others the name is all but the number. Without names there are two groups, name and
    channel. It must match the whole name of the file, with its folders, or without them: then they begin the
    name of the recording.

    Raises:
        UserError: no regular expression, or one with other groups.
    """
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise UserError(f"--channel_pattern '{pattern}': not a regular expression: {error}") from None
    named = compiled.groupindex
    if ("channel" in named) == (not named) or (not named and compiled.groups != 2):
        raise UserError(
            f"--channel_pattern '{pattern}': expected a group (?P<channel>[0-9]+), others make the name; or "
            "two groups, (name) and (channel)"
        )
    number = named.get("channel", 2)
    others = [k for k in range(1, compiled.groups + 1) if k != number]

    def rule(name: str) -> tuple[str, int] | None:
        folders, _, last = name.rpartition("-")
        for before, text in (("", name), (f"{folders}-", last)):
            found = compiled.fullmatch(text)
            if found and (found[number] or "").isdecimal():
                rest = [found[k] for k in others if found[k]] or [
                    text[: found.start(number)].rstrip("._-") + text[found.end(number) :]
                ]
                return before + "_".join(rest), int(found[number])
        return None

    return rule


class _NoMatch(UserError):
    """A file whose name a rule does not explain."""


def _grouped(files: dict[str, str], pattern: str | None) -> dict[str, list[str]]:
    """Put the mono files of each recording in the order of their channels, by the first rule that fits."""
    problems: list[UserError] = []
    for rule in (_own_rule(pattern),) if pattern else _RULES:
        try:
            return _grouped_by(files, rule, pattern)
        except UserError as problem:
            problems.append(problem)
    raise next((problem for problem in problems if not isinstance(problem, _NoMatch)), problems[0])


_ONE_CHANNEL = (
    "one channel; expected several, or a file a channel named such as NAME_ch1, NAME_ch2 (one microphone "
    "cannot be used here; other names: --channel_pattern)"
)


def _why_not(pattern: str, name: str) -> str:
    """Return that a user's pattern does not match the name of a file, and why that may be."""
    found = f"--channel_pattern '{pattern}' does not match '{name}'"
    compiled, texts = re.compile(pattern, re.IGNORECASE), (name, name.rpartition("-")[2])
    if any(compiled.fullmatch(text + ending) for text in texts for ending in _ENDINGS):
        return f"{found}: names come without their ending (leave it out of the pattern)"
    if match := next(filter(None, map(compiled.fullmatch, texts)), None):
        channel = match[compiled.groupindex.get("channel", 2)]
        return f"{found}: expected a number as channel, found '{channel}' (rename the files)"
    if match := compiled.search(name):
        return f"{found} but a part of it, '{match[0]}' (.* where anything may stand)"
    return f"{found}: expected the whole name, with its folders or without (correct the pattern)"


def _grouped_by(files: dict[str, str], rule: Rule, pattern: str | None = None) -> dict[str, list[str]]:
    groups: dict[str, dict[int, str]] = {}
    for name, entry in files.items():
        found = rule(name)
        if not found:
            raise _NoMatch(f"{entry}: {_why_not(pattern, name) if pattern else _ONE_CHANNEL}")
        other = groups.setdefault(found[0], {}).setdefault(found[1], entry)
        if other != entry:
            raise UserError(f"{entry}: channel {found[1]} of '{found[0]}' is also {other}")
    for name, channels in groups.items():
        numbers = sorted(channels)
        first = channels[numbers[0]]
        missing = next((k for k in range(min(1, numbers[0]), numbers[-1]) if k not in channels), None)
        if missing is not None:
            raise UserError(
                f"{first}: recording '{name}' has channels {numbers}, channel {missing} is missing "
                "(expected one file a channel, numbered from 0 or 1)"
            )
        if len(numbers) == 1:
            raise UserError(f"{first}: the only channel of recording '{name}'; expected two or more")
    return {name: [channels[k] for k in sorted(channels)] for name, channels in groups.items()}


def in_channel_order(entries: Sequence[str]) -> list[str]:
    """Return the files of one recording in the order of the numbers in their names: ...-1 ...-2 ... ...-10.

    They stay as they are where the names do not differ in one number alone.
    """
    names = ["-".join(Path(entry).with_suffix("").parts) for entry in entries]
    for rule in _RULES:
        found = [rule(name) for name in names]
        numbered = [one for one in found if one]
        if len({name for name, _ in numbered}) == 1 and len(set(numbered)) == len(entries):
            order = sorted(range(len(entries)), key=lambda k: numbered[k][1])
            return [entries[k] for k in order]
    return list(entries)


# --- all samples read once


def _prepared(named: tuple[str, Recording], out: Path, fs: int) -> tuple[str, list[str]]:
    """Check all samples of a recording and return the entry that names it, and warnings."""
    name, recording = named
    level = _Level(recording)
    if len(recording.entries) == 1 and fs == recording.fs:
        for _ in level.measured():
            pass
        return recording.name, level.warnings()
    path = out / "wav" / f"{name}.{ending_for(recording.channels)}"
    stamp = Stamp.of({"fs": fs}, {"files": stamp_of_entries(recording.entries)}, [sys.modules[__name__]])
    if existing(path).is_file() and not stamp.why_stale(path.with_suffix(".json")):
        return str(existing(path)), []
    encoding = "pcm24" if recording.is_wide() else "pcm16"
    with BlockWriter(path, fs, encoding, fits=fs == recording.fs and not recording.is_float()) as file:
        for block in resample_blocks(level.measured(), recording.fs, fs):
            file.write(block)
        warnings = level.warnings()  # or an error: nothing is written then
    stamp.write(path.with_suffix(".json"))
    return str(existing(path)), warnings


class _Level:
    """The level of each channel of a recording, without its offset."""

    def __init__(self, recording: Recording):
        self.recording = recording
        self.energy, self.total, self.peak, self.clipped = np.zeros((4, recording.channels))

    def measured(self) -> Iterator[np.ndarray]:
        """Yield the recording block by block, each after it was measured."""
        for block in self.recording.blocks(round(_BLOCK_S * self.recording.fs)):
            magnitude = np.abs(block)
            self.energy += (block.astype(np.float64) ** 2).sum(1)
            self.total += block.sum(1, dtype=np.float64)
            self.peak = np.maximum(self.peak, magnitude.max(1))
            self.clipped += (magnitude >= 0.9999).sum(1)
            yield block

    def warnings(self) -> list[str]:
        """Return what is to be said about the recording.

        Raises:
            UserError: a channel is silent.
        """
        recording, frames, faults = self.recording, self.recording.frames, self.recording.faults()
        for channel in range(recording.channels):
            offset = self.total[channel] / frames
            power = max(0.0, self.energy[channel] / frames - offset**2)
            level = -np.inf if channel in faults.dead else 10 * np.log10(power + 1e-30)
            if level < _SILENT_DBFS:
                found = "silent" if channel in faults.dead else f"at {level:.0f} dB of full scale"
                if abs(offset) > 1e-4:
                    found += f" but for a constant {offset:.3g}"
                raise UserError(
                    f"{recording.where(channel)} is {found}, expected speech above {_SILENT_DBFS:.0f} dB "
                    "(was the microphone connected? leave the channel out of all recordings)"
                )
        share = self.clipped.max() / frames
        is_clipped = share > _CLIPPED_SHARE and self.peak.max() <= 1.0
        clipped = f"{recording.name}: {100 * share:.1f} % of the samples are at full scale: clipped?"
        return faults.warnings(recording.where) + ([clipped] if is_clipped else [])
