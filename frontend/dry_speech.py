"""The dry utterances that talkers are made of: who says them, how long they are."""

import hashlib
from pathlib import Path

import numpy as np

from frontend.datadir import audio_info, read_audio, read_scp
from frontend.errors import UserError
from frontend.parallel import progress


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
            f"(utterance {name}); make the scenes again (frontend.bin.scenes)"
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
