"""The dry utterances that talkers are made of: who says them, how long they are."""

import hashlib
from pathlib import Path

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
    return hashlib.blake2b(read_audio(entry, finite=True)[0].tobytes(), digest_size=8).hexdigest()
