"""Dry speech, which talkers are made of: speech sets read, levelled, and written from any corpus.

A speech set is a Kaldi directory, one talker an utterance: ``wav.scp text utt2spk spk2utt utt2num_samples``.
A corpus is planned first (text only: who is in which set) and rendered then, in processes, complete or not at
all. Ids begin with the talker's, so that sorting by utterance sorts by talker too, as Kaldi demands.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from frontend.data.audio import audio_info, read_audio
from frontend.data.kaldi import read_scp, write_set
from frontend.data.writers import AudioWriter
from frontend.dsp.resample import resample
from frontend.utils.errors import UserError
from frontend.utils.files import atomic_directory
from frontend.utils.parallel import parallel_map, progress
from frontend.utils.rng import generator

ACTIVE_LEVEL_DB = -26.0  # re full scale
_ACTIVE_BELOW_PEAK_DB = 35.0
_MARGIN_S = 0.05
_HIGHEST_PEAK = 0.9
_FEWEST = 2  # talkers of a set: a mixture needs two


# --- reading


def read_speech(path: str | Path, fs: int) -> dict[str, tuple[str, float]]:
    """Return the utterances of a speech set: id -> (speaker, seconds).

    Raises:
        UserError: an utterance of another rate than ``fs``, of several channels, unreadable, or
            without a speaker.
    """
    entries, speakers = read_scp(Path(path) / "wav.scp"), read_scp(Path(path) / "utt2spk")
    speech = {}
    for name, entry in progress(entries.items(), len(entries), "speech"):
        if name not in speakers:
            raise UserError(f"{path}/utt2spk: utterance '{name}' of wav.scp is missing; add its speaker")
        speech[name] = speakers[name], check_speech(name, entry, fs) / fs
    return speech


def read_noises(path: str | Path, fs: int) -> dict[str, float]:
    """Return the recorded noise that lies beside a speech set, ``noise.scp``: id -> seconds.

    Raises:
        UserError: no such table, a recording of another rate than ``fs`` or of several channels, an id
            that is an utterance's as well.
    """
    table = Path(path) / "noise.scp"
    if not table.is_file():
        raise UserError(
            f"{table}: noise of kind 'recorded' is asked for, found no table of it "
            "(prepare the data with --noise_dir, or take another kind)"
        )
    entries, speech = read_scp(table), read_scp(Path(path) / "wav.scp")
    for both in sorted(entries.keys() & speech.keys())[:1]:
        raise UserError(f"{table}: '{both}' is an utterance of wav.scp as well (take another id)")
    named = progress(entries.items(), len(entries), "noise")
    return {name: check_speech(name, entry, fs) / fs for name, entry in named}


def check_speech(name: str, entry: str, fs: int, samples: int | None = None) -> int:
    """Check rate, channels and length of a dry utterance; return its number of samples.

    Raises:
        UserError: naming the file.
    """
    channels, frames, rate = audio_info(entry)
    if rate != fs:
        raise UserError(
            f"{entry}: expected {fs} Hz as in the scenes, found {rate} Hz (utterance {name}); resample it"
        )
    if channels != 1:
        raise UserError(f"{entry}: expected dry speech of one channel, found {channels} (utterance {name})")
    if samples is not None and frames != samples:
        raise UserError(
            f"{entry}: expected {samples} samples as when the scenes were made, found {frames} "
            f"(utterance {name}); make the scenes again (mixit simulate scenes)"
        )
    return frames


def fingerprint(entry: str) -> str:
    """Return a digest of the samples of an utterance, whatever file they are in.

    Raises:
        UserError: unreadable audio, NaN.
    """
    return digest(read_audio(entry, finite=True)[0])


def digest(samples: np.ndarray) -> str:
    """Return a digest of ``(C, T)`` float32, the fingerprint of an utterance."""
    return hashlib.blake2b(samples.tobytes(), digest_size=8).hexdigest()


# --- one level, for all that is spoken


def trim(signal: np.ndarray, fs: int) -> np.ndarray:
    """Cut leading and trailing silence of ``(T,)`` down to at most 50 ms."""
    active = np.flatnonzero(_active_frames(signal, fs)[1])
    if not len(active):
        return signal
    frame, margin = fs // 100, int(_MARGIN_S * fs)
    return signal[max(0, active[0] * frame - margin) : (active[-1] + 1) * frame + margin]


def normalise(signal: np.ndarray, fs: int) -> np.ndarray:
    """Scale ``(T,)`` to an active level of -26 dB, less if its peak would exceed 0.9.

    The active level is the mean power of the 10 ms frames within 35 dB of the loudest one, so that
    pauses do not count. Silence comes back as it is.
    """
    power, active = _active_frames(signal, fs)
    if not active.any():
        return signal
    gain = math.sqrt(10 ** (ACTIVE_LEVEL_DB / 10) / power[active].mean())
    return signal * min(gain, _HIGHEST_PEAK / np.abs(signal).max())


def _active_frames(signal: np.ndarray, fs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the power of each 10 ms frame, and whether it is within 35 dB of the loudest."""
    length = fs // 100
    frames = np.pad(signal, (0, -len(signal) % length)).reshape(-1, length)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    return power, power > power.max() * 10 ** (-_ACTIVE_BELOW_PEAK_DB / 10)


# --- writing


class Utterance(Protocol):
    """What :func:`write_sets` writes: an id, who says it, the words, and how it sounds."""

    @property
    def id(self) -> str: ...

    @property
    def speaker(self) -> str: ...

    @property
    def text(self) -> str: ...

    def render(self) -> np.ndarray:
        """Return the speech ``(T,)`` at the rate of the sets."""


@dataclass(frozen=True)
class Spoken:
    """One utterance of a corpus.

    Attributes:
        id: of the utterance, ``SPEAKER-...``.
        speaker: id of the talker.
        text: what is said.
        source: path of a mono audio file, relative to the working directory or absolute.
    """

    id: str
    speaker: str
    text: str
    source: str


def write_sets(
    out: str | Path,
    sets: Mapping[str, Sequence[Utterance]],
    fs: int,
    nj: int = 1,
    audio_format: str = "wav",
) -> dict[str, float]:
    """Render speech sets ``OUT/SET/{wav.scp,text,utt2num_samples,utt2spk,spk2utt,wav/}``, all or nothing.

    Args:
        out: directory to make; it is replaced.
        sets: utterances of each set; ids are unique over all sets.
        fs: rate of what they render, in Hz.
        nj: processes.
        audio_format: ``wav`` or ``flac``.

    Returns:
        seconds of each set.

    Raises:
        UserError: whatever rendering finds wrong.
    """
    out = Path(out)
    with atomic_directory(out) as part:
        # one pool of processes for all sets: each start costs a second of imports
        jobs = [(u, str(part / name / audio_format)) for name, utterances in sets.items() for u in utterances]
        samples = dict(parallel_map(partial(_render, fs, audio_format), jobs, nj, "speech"))
        for name, utterances in sets.items():
            files = {u.id: out / name / audio_format / f"{u.id}.{audio_format}" for u in utterances}
            _write_tables(part / name, utterances, files, samples)
    return _seconds(sets, samples, fs)


def write_speech_sets(
    out: str | Path,
    sets: Mapping[str, Sequence[Spoken]],
    fs: int,
    nj: int = 1,
    trimmed: bool = True,
    audio_format: str = "wav",
) -> dict[str, float]:
    """Write speech sets from recordings: resampled, trimmed to 50 ms of silence, active level -26 dB.

    Args:
        out: directory to make; it is replaced.
        sets: utterances of each set.
        fs: rate to write, in Hz.
        nj: processes.
        trimmed: False keeps silence and level as they were recorded; nothing is copied then of sets
            whose recordings all have the rate ``fs``: ``wav.scp`` names the recordings.
        audio_format: ``wav`` or ``flac``, of what is written.

    Returns:
        seconds of each set.

    Raises:
        UserError: an id that occurs twice or does not begin with its talker's, a set without utterances,
            a recording that is missing, damaged, silent, has NaN or several channels.
    """
    _check_ids(sets)
    out = Path(out)
    if not trimmed:
        infos = {u.id: audio_info(u.source) for utterances in sets.values() for u in utterances}
        if {(channels, rate) for channels, _, rate in infos.values()} == {(1, fs)}:
            samples = {key: frames for key, (_, frames, _) in infos.items()}
            with atomic_directory(out) as part:
                for name, utterances in sets.items():
                    _write_tables(part / name, utterances, {u.id: u.source for u in utterances}, samples)
            return _seconds(sets, samples, fs)
    recorded = {
        name: [_Recorded(u.id, u.speaker, u.text, u.source, fs, trimmed) for u in utterances]
        for name, utterances in sets.items()
    }
    return write_sets(out, recorded, fs, nj, audio_format)


def check_out(out: Path, sets: Sequence[str]) -> None:
    """Refuse to replace anything but speech sets of these names.

    Raises:
        UserError: ``out`` is a file, or a directory that holds something else.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: expected a directory to make, found a file (choose another)")
    others = {p.name for p in out.iterdir()} - set(sets) if out.exists() else set()
    if others:
        raise UserError(f"--out {out}: holds {min(others)}, which would be lost (choose another directory)")


@dataclass(frozen=True)
class _Recorded(Spoken):
    """One utterance that renders itself."""

    fs: int
    trimmed: bool

    def render(self) -> np.ndarray:
        """Return ``(T,)`` at ``fs``; trimmed also means brought to the common level."""
        audio, rate = read_audio(self.source, finite=True)
        if len(audio) != 1:
            raise UserError(f"{self.source}: expected 1 channel, found {len(audio)} (take one of them)")
        if not audio.any():
            raise UserError(f"{self.source}: nothing but zeros (copy it again, or take it out of the corpus)")
        signal = resample(audio[0].astype(np.float64), rate, self.fs)
        if self.trimmed:
            return normalise(trim(signal, self.fs), self.fs)
        return np.clip(signal, -1.0, 1.0)  # the filter of resampling can overshoot a full-scale recording


def _render(fs: int, audio_format: str, job: tuple[Utterance, str]) -> tuple[str, int]:
    """Make and write one utterance in a worker; return its id and length in samples."""
    utterance, directory = job
    signal = utterance.render()
    with AudioWriter(directory, audio_format, fs) as writer:
        writer.write(utterance.id, signal)
    return utterance.id, len(signal)


def _check_ids(sets: Mapping[str, Sequence[Spoken]]) -> None:
    """Find what would make tables that Kaldi's tools do not read."""
    seen: set[str] = set()
    for name, utterances in sets.items():
        if not utterances:
            raise UserError(f"set {name}: expected utterances, found none (is the corpus complete?)")
        for utterance in utterances:
            if utterance.id in seen:
                raise UserError(f"{utterance.source}: id {utterance.id} occurs twice (rename one of them)")
            if not utterance.id.startswith(f"{utterance.speaker}-"):
                found = f"id {utterance.id} of talker {utterance.speaker}"
                raise UserError(f"{utterance.source}: expected an id 'TALKER-...', found {found}")
            seen.add(utterance.id)


def _write_tables(
    directory: Path,
    utterances: Sequence[Spoken | Utterance],
    files: Mapping[str, object],
    samples: Mapping[str, int],
) -> None:
    tables = {
        "wav.scp": files,
        "text": {u.id: u.text for u in utterances},
        "utt2num_samples": {u.id: samples[u.id] for u in utterances},
    }
    write_set(directory, tables, {u.id: u.speaker for u in utterances})


def _seconds(
    sets: Mapping[str, Sequence[Spoken | Utterance]], samples: Mapping[str, int], fs: int
) -> dict[str, float]:
    return {name: sum(samples[u.id] for u in utterances) / fs for name, utterances in sets.items()}


# --- planning


def split_speakers(
    speakers: Sequence[str], groups: Mapping[str, str], shares: Mapping[str, float], seed: int
) -> dict[str, set[str]]:
    """Split talkers at random with each group's share (gender, say) about the same in every set.

    Args:
        speakers: ids of the talkers, in any order.
        groups: the group of each talker.
        shares: of the talkers, by set; at least two talkers go into each, the last set has the rest.
        seed: of the split.

    Returns:
        the talkers of each set, disjoint, all of them.

    Raises:
        UserError: fewer than two talkers for a set.
    """
    ranked: list[tuple[float, str]] = []
    for group in sorted({groups[s] for s in speakers}):
        members = sorted(s for s in speakers if groups[s] == group)
        members.sort(key=lambda s: generator(seed, s, "split").random())
        ranked += [((rank + 0.5) / len(members), s) for rank, s in enumerate(members)]
    order = [speaker for _, speaker in sorted(ranked)]
    if len(order) < _FEWEST * len(shares):
        raise UserError(
            f"expected {_FEWEST * len(shares)} talkers or more to split into {' '.join(shares)}, "
            f"found {len(order)}: {' '.join(sorted(order))}"
        )
    parts, taken, names = {}, 0, list(shares)
    for later, name in zip(range(len(names) - 1, -1, -1), names, strict=True):
        size = max(_FEWEST, round(shares[name] * len(order))) if later else len(order) - taken
        size = min(size, len(order) - taken - _FEWEST * later)
        parts[name] = set(order[taken : taken + size])
        taken += size
    return parts


def evenly_by_talker(utterances: Sequence[Spoken], number: int, seed: int) -> list[Spoken]:
    """Take at most ``number`` utterances: the talkers take turns, each with its own in random order.

    Args:
        utterances: to choose from.
        number: how many at most; a smaller number gives a part of what a larger one gives.
        seed: of the choice.
    """
    of_talker: dict[str, list[Spoken]] = {}
    for utterance in sorted(utterances, key=lambda u: generator(seed, u.id, "turn").random()):
        of_talker.setdefault(utterance.speaker, []).append(utterance)
    turns = [(turn, speaker) for speaker, spoken in of_talker.items() for turn in range(len(spoken))]
    chosen = sorted(turns)[:number]
    return sorted((of_talker[speaker][turn] for turn, speaker in chosen), key=lambda u: u.id)
