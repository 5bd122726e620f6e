"""Dry speech, which talkers are made of: speech sets read, levelled, and written from any corpus.

A speech set is a Kaldi directory, one talker an utterance: ``wav.scp text utt2spk spk2utt utt2num_samples``.
A corpus is planned first (text only: who is in which set) and rendered then, in processes, whole or not at
all. Ids begin with the talker's, so that sorting by utterance sorts by talker too, as Kaldi demands.
"""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from frontend import SEGMENT
from frontend.data.audio import audio_info, read_audio
from frontend.data.kaldi import MARK, read_entries, read_scp, read_utterances, scan_table, write_set
from frontend.data.writers import AudioWriter
from frontend.dsp.activity import cut_evenly, levels_db, sounds
from frontend.dsp.resample import resample
from frontend.utils.errors import UserError, few
from frontend.utils.files import LOCK, atomic_directory, check_place
from frontend.utils.parallel import parallel_map, progress
from frontend.utils.rng import generator

_FEWEST = 2  # talkers of a set: a mixture needs two


# --- reading


def read_speech(path: str | Path, fs: int) -> dict[str, tuple[str, float]]:
    """Return the utterances of a speech set: id -> (speaker, seconds).

    Raises:
        UserError: an utterance without a speaker, or as :func:`check_speech`.
    """
    entries, speakers = read_utterances(path), read_scp(Path(path) / "utt2spk")
    for name in sorted(entries.keys() - speakers.keys())[:1]:
        raise UserError(f"{path}/utt2spk: utterance '{name}' of wav.scp is missing; add its speaker")
    named = progress(entries.items(), len(entries), "speech")
    return {name: (speakers[name], check_speech(name, entry, fs) / fs) for name, entry in named}


def read_noises(path: str | Path, fs: int) -> dict[str, float]:
    """Return the recorded noise that lies beside a speech set, ``noise.scp``: id -> seconds.

    Raises:
        UserError: no such table, an id that is an utterance's as well, or as :func:`check_speech`.
    """
    table = Path(path) / "noise.scp"
    if not table.is_file():
        raise UserError(
            f"{table}: noise of kind 'recorded' is asked for, found no table of it "
            "(prepare the data with --noise_dir, or take another kind)"
        )
    entries, speech = read_entries(table), read_utterances(path)
    for both in sorted(entries.keys() & speech.keys())[:1]:
        raise UserError(f"{table}: '{both}' is an utterance of wav.scp as well (take another id)")
    named = progress(entries.items(), len(entries), "noise")
    return {name: check_speech(name, entry, fs) / fs for name, entry in named}


def check_speech(name: str, entry: str, fs: int, samples: int | None = None) -> int:
    """Return the length of a dry utterance in samples; raise UserError unless it is mono and as expected."""
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


def digest(samples: np.ndarray) -> str:
    """Return a digest of ``(C, T)`` float32, the fingerprint of an utterance."""
    return hashlib.blake2b(samples.tobytes(), digest_size=8).hexdigest()


# --- one level, for all that is spoken


def trim(signal: np.ndarray, fs: int) -> np.ndarray:
    """Cut leading and trailing silence of ``(T,)`` down to at most 50 ms."""
    active = np.flatnonzero(_active_frames(signal, fs)[1])
    if not len(active):
        return signal
    frame, margin = fs // 100, int(0.05 * fs)
    return signal[max(0, active[0] * frame - margin) : (active[-1] + 1) * frame + margin]


def normalise(signal: np.ndarray, fs: int) -> np.ndarray:
    """Scale ``(T,)`` to an active level of -26 dB, less if its peak would exceed 0.9.

    The active level is the mean power of the 10 ms frames within 35 dB of the loudest one, so that
    pauses do not count. Silence comes back as it is.
    """
    power, active = _active_frames(signal, fs)
    if not active.any():
        return signal
    gain = math.sqrt(10 ** (-26.0 / 10) / power[active].mean())
    return signal * min(gain, 0.9 / np.abs(signal).max())


def _active_frames(signal: np.ndarray, fs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the power of each 10 ms frame, and whether it is within 35 dB of the loudest.

    An offset of the recorder that would be active by itself is taken off before.
    """
    offset = float(signal.mean()) if len(signal) else 0.0
    if offset**2 > 10 ** (-35.0 / 10) * np.square(signal, dtype=np.float64).max():
        signal = signal - offset
    length = fs // 100
    frames = np.pad(signal, (0, -len(signal) % length)).reshape(-1, length)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    return power, power > power.max() * 10 ** (-35.0 / 10)


# --- writing


class Utterance(Protocol):
    """What :func:`write_sets` writes: an id, who says it, the words, and how it sounds."""

    @property
    def id(self) -> str:
        """Of the utterance, ``SPEAKER-...``."""

    @property
    def speaker(self) -> str:
        """Id of the talker."""

    @property
    def text(self) -> str:
        """What is said."""

    def render(self) -> np.ndarray:
        """Return the speech ``(T,)`` at the rate of the sets."""


@dataclass(frozen=True)
class Spoken:
    """A recorded utterance: its id, ``SPEAKER-...``, talker, words ("": not known), and its mono entry."""

    id: str
    speaker: str
    text: str
    source: str


@dataclass(frozen=True)
class Recorded(Spoken):
    """A recorded utterance as :func:`write_sets` takes it."""

    fs: int

    def render(self) -> np.ndarray:
        """Return the speech ``(T,)`` at ``fs`` Hz, trimmed, at the common level."""
        audio, rate = read_audio(self.source, finite=True)
        if len(audio) != 1:
            raise UserError(f"{self.source}: expected 1 channel, found {len(audio)} (take one of them)")
        if not sounds(audio).any():
            raise UserError(f"{self.source}: nothing but zeros (copy it again, or take it out of the corpus)")
        signal = resample(audio[0].astype(np.float64), rate, self.fs)
        return normalise(trim(signal, self.fs), self.fs)


def write_speech_sets(
    out: str | Path, sets: Mapping[str, Sequence[Spoken]], fs: int, nj: int = 1
) -> dict[str, float]:
    """Write speech sets from recordings: resampled, trimmed to 50 ms of silence, active level -26 dB.

    Arguments and result are those of :func:`write_sets`.

    Raises:
        UserError: an id that occurs twice or does not begin with its talker's, a set without utterances,
            a recording that is missing, damaged, silent, has NaN or several channels.
    """
    seen: set[str] = set()
    for name, utterances in sets.items():
        if not utterances:
            raise UserError(f"set {name}: expected utterances, found none (is the corpus complete?)")
        for utterance in utterances:
            if utterance.id in seen:
                raise UserError(f"{utterance.source}: id {utterance.id} occurs twice (rename one of them)")
            if not utterance.id.startswith(f"{utterance.speaker}-"):  # Kaldi's tools could not read the set
                found = f"id {utterance.id} of talker {utterance.speaker}"
                raise UserError(f"{utterance.source}: expected an id 'TALKER-...', found {found}")
            seen.add(utterance.id)
    return write_sets(out, {k: [Recorded(**vars(u), fs=fs) for u in sets[k]] for k in sets}, fs, nj)


def write_sets(
    out: str | Path, sets: Mapping[str, Sequence[Utterance]], fs: int, nj: int = 1
) -> dict[str, float]:
    """Render speech sets ``OUT/SET/{wav.scp,text,utt2num_samples,utt2spk,spk2utt,wav/}``, all or nothing.

    A set of which nothing has words has no ``text``.

    Args:
        out: directory to make; it is replaced.
        sets: utterances of each set; ids are unique over all sets.
        fs: rate of what they render, in Hz.
        nj: processes.

    Returns:
        seconds of each set.

    Raises:
        UserError: whatever rendering finds wrong.
    """
    out = Path(out)
    with atomic_directory(out) as part:
        # one pool of processes for all sets: each start costs a second of imports
        jobs = [(u, str(part / name / "wav")) for name, utterances in sets.items() for u in utterances]
        samples = dict(parallel_map(partial(_render, fs), jobs, nj, "speech"))
        for name, utterances in sets.items():
            tables: dict[str, Mapping[str, object]] = {
                "wav.scp": {u.id: out / name / "wav" / f"{u.id}.wav" for u in utterances},
                "utt2num_samples": {u.id: samples[u.id] for u in utterances},
            }
            if any(u.text for u in utterances):
                tables["text"] = {u.id: u.text for u in utterances}
            write_set(part / name, tables, {u.id: u.speaker for u in utterances})
    return {name: sum(samples[u.id] for u in utterances) / fs for name, utterances in sets.items()}


def _render(fs: int, job: tuple[Utterance, str]) -> tuple[str, int]:
    """Make and write one utterance in a worker; return its id and length in samples."""
    utterance, directory = job
    signal = utterance.render()
    AudioWriter(directory, "wav", fs).write(utterance.id, signal)
    return utterance.id, len(signal)


_TABLES = {"wav.scp", "segments", "text", "utt2spk", "spk2utt", "utt2num_samples", "feats.scp"}
# What lies beside the tables of sets of 0.2.0; and the names of all that one has which is a part of another.
_BESIDE = {"array", "scenes.jsonl", "meetings.jsonl", "stamp.json"}
_OF_PARTS = re.compile(r"wav\.scp|utt2spk|spk2utt|utt2num_samples|spk\d+\.scp|text_spk\d+")


def check_new_set(out: str | Path, *sources: str | Path) -> None:
    """Raise UserError unless a set may be written to ``out``, of what is read from ``sources``.

    It may to a directory without tables, or with those that this program made: they are listed in
    :data:`MARK`; sets of 0.2.0, which have no such list, are known by what they hold.
    """
    out = Path(out)
    check_place(out, *(path.parent if (path := Path(source)).is_file() else path for source in sources))
    there = _names_in(out)
    if others := sorted(there & _TABLES - _made_here(out, there)):
        wanted = "a new directory or one made by this command"
        raise UserError(f"{out}: expected {wanted}, found another's {few(others)} (choose another --out)")


def check_replaced_set(out: str | Path, *sources: str | Path) -> None:
    """Raise UserError unless a set may replace ``out``: it is new, or has tables made here and no more."""
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: expected a directory to make, found a file (choose another)")
    check_new_set(out, *sources)
    there = _names_in(out)
    made = _made_here(out, there)
    others = there - made - ({MARK, LOCK, *_BESIDE} if made else {LOCK})
    if made and MARK not in there:
        others = {name for name in others if not _OF_PARTS.fullmatch(name)}
    if others:
        raise UserError(f"{out}: holds {few(sorted(others))}, which would be lost (choose another)")


def _names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _made_here(out: Path, there: set[str]) -> set[str]:
    if MARK in there:
        return set((out / MARK).read_text("utf-8").split("\n"))
    if "text" in there:  # a recogniser's: SPEAKER-KIND-ID
        keys = scan_table(out / "text").entries
        made = bool(keys) and all(re.search(r"-(dry|room|sep)\d*-", key) for key in keys)
    else:
        parts = all(_OF_PARTS.fullmatch(name) or name.startswith(".") for name in there)
        made = bool(there & _BESIDE or [*out.glob("wav/*.json")]) or parts
    return _TABLES - {"segments", "feats.scp"} if made and "utt2num_samples" in there else set()


def check_out(out: Path, sets: Sequence[str]) -> None:
    """Refuse to replace anything but speech sets of these names.

    Raises:
        UserError: ``out`` is a file, or holds something else.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: expected a directory to make, found a file (choose another)")
    others = {p.name for p in out.iterdir()} - set(sets) if out.exists() else set()
    if others:
        raise UserError(f"--out {out}: holds {min(others)}, which would be lost (choose another directory)")


# --- planning


def split_speakers(
    speakers: Sequence[str], groups: Mapping[str, str], shares: Mapping[str, float], seed: int
) -> dict[str, set[str]]:
    """Split talkers at random with each group's share (gender, say) about the same in every set.

    ``shares`` are those of the talkers, by set; at least two go into each, the last set has the rest.

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

    A smaller number gives a part of what a larger one gives.
    """
    of_talker: dict[str, list[Spoken]] = {}
    for utterance in sorted(utterances, key=lambda u: generator(seed, u.id, "turn").random()):
        of_talker.setdefault(utterance.speaker, []).append(utterance)
    turns = [(turn, speaker) for speaker, spoken in of_talker.items() for turn in range(len(spoken))]
    chosen = sorted(turns)[:number]
    return sorted((of_talker[speaker][turn] for turn, speaker in chosen), key=lambda u: u.id)


def cut_long(utterances: Sequence[Spoken], longest: float, nj: int = 1) -> list[Spoken]:
    """Cut what is longer than ``longest`` seconds at pauses, into pieces of half of that to all of it.

    A piece has the id ``WHOLE-START-END``, in hundredths of a second, and no words; its audio is not copied.

    Raises:
        UserError: unreadable audio.
    """
    made = parallel_map(partial(_pieces, longest), utterances, nj, "cut")
    return sorted((piece for pieces in made for piece in pieces), key=lambda u: u.id)


def _pieces(longest: float, whole: Spoken) -> list[Spoken]:
    _, frames, fs = audio_info(whole.source)
    if frames <= longest * fs:
        return [whole]
    cuts = cut_evenly(levels_db(read_audio(whole.source, finite=True)[0], fs), fs, frames / fs, longest)
    named = ((f"{whole.id}-{round(100 * a):05d}-{round(100 * b):05d}", a, b) for a, b in cuts)
    return [Spoken(name, whole.speaker, "", f"{SEGMENT}:{a!r}:{b!r}:{whole.source}") for name, a, b in named]
