"""Utterances and noise of a corpus in Kaldi form. Nothing is copied that can be read where it lies.

Nothing is trimmed or scaled: LibriMix's gains belong to the waveforms as they are stored, and scenes set the
level of every talker anyway. Of what has another rate, resampled copies are made as flac, each whole or
absent: a run that was cut off goes on.
"""

import math
import shutil
from functools import partial
from pathlib import Path

import numpy as np
from librispeech import FS

from frontend.data.audio import audio_info, read_audio
from frontend.data.kaldi import write_scp, write_set
from frontend.data.speech import Spoken
from frontend.data.writers import AudioWriter, existing, is_beyond
from frontend.dsp.activity import sounds
from frontend.dsp.resample import resample
from frontend.simulation.render import active_power
from frontend.utils.errors import UserError
from frontend.utils.parallel import parallel_map
from frontend.utils.stamps import Stamp

_SHORTEST_S = 1.0  # of noise


def write_dry_set(out: Path, utterances: list[Spoken], corpus: Path, fs: int, nj: int) -> float:
    """Write ``out/{wav.scp,text,utt2spk,spk2utt,utt2num_samples,utt2level}``; return seconds of speech.

    There is no ``text`` where nothing has words. At 16 kHz wav.scp names the files of the corpus; below that,
    copies in ``out/flac``. ``utt2level`` is the level of the active frames as stored, in dB re full scale.

    Raises:
        UserError: a recording that is truncated, silent, not mono or not of 16 kHz.
    """
    (out / "wav.scp").unlink(missing_ok=True)
    _keep_copies(out / "flac", corpus, fs)
    made = parallel_map(partial(_dry, out=out / "flac", fs=fs), utterances, nj, str(out))
    found = dict(zip((u.id for u in utterances), made, strict=True))
    tables = {
        "wav.scp": {key: entry for key, (entry, _, _) in found.items()},
        **({"text": {u.id: u.text for u in utterances}} if any(u.text for u in utterances) else {}),
        "utt2num_samples": {key: samples for key, (_, samples, _) in found.items()},
        "utt2level": {key: f"{level:.2f}" for key, (_, _, level) in found.items()},
    }
    write_set(out, tables, {u.id: u.speaker for u in utterances})
    return sum(samples for _, samples, _ in found.values()) / fs


def _dry(utterance: Spoken, out: Path, fs: int) -> tuple[str, int, float]:
    """Make what one utterance needs; return its entry, samples and active level in dB."""
    channels, _, rate = audio_info(utterance.source)
    if (channels, rate) != (1, FS):
        raise UserError(
            f"{utterance.source}: expected 1 channel at {FS} Hz, found {channels} at {rate} Hz "
            "(unpack it again)"
        )
    entry = _at_rate(utterance.source, utterance.id, out, fs)
    signal = read_audio(entry)[0][0].astype(np.float64)
    power = active_power(signal, fs)
    if not power > 0:
        raise UserError(f"{utterance.source}: silent, or damaged (unpack it again)")
    return entry, len(signal), 10 * math.log10(power)


def write_noise(out: Path, files: list[Path], corpus: Path, fs: int, nj: int) -> tuple[int, float]:
    """Write ``out/noise.scp``: mono files of ``fs`` where they lie, of others copies in ``out/noise``.

    Channel 0 is taken of several, as LibriMix does. What is shorter than 1 s or silent is left out.

    Returns:
        number of recordings and their seconds.

    Raises:
        UserError: a rate below ``fs``, unreadable audio, nothing left.
    """
    _keep_copies(out / "noise", corpus, fs)
    made = parallel_map(partial(_noise, out=out / "noise", fs=fs), files, nj, f"{out} noise")
    kept = {f"noise_{path.stem}": item for path, item in zip(files, made, strict=True) if item is not None}
    if not kept:
        raise UserError(f"{corpus}: expected noise of 1 s or more, found none (give other recordings)")
    write_scp(out / "noise.scp", {name: entry for name, (entry, _) in kept.items()})
    return len(kept), sum(seconds for _, seconds in kept.values())


def _noise(path: Path, out: Path, fs: int) -> tuple[str, float] | None:
    _, frames, rate = audio_info(str(path))
    if rate < fs:
        raise UserError(f"{path}: expected noise at {fs} Hz or more, found {rate} Hz (give other recordings)")
    if frames < _SHORTEST_S * rate:
        return None
    entry = _at_rate(str(path), f"noise_{path.stem}", out, fs)
    return (entry, frames / rate) if sounds(read_audio(entry)[0]).any() else None


def _keep_copies(folder: Path, corpus: Path, fs: int) -> None:
    """Keep the copies of an earlier run, but not those of another corpus or rate."""
    stamp = Stamp.of({"fs": fs, "corpus": str(corpus.resolve())}, {})
    if folder.exists() and (why := stamp.why_stale(folder / "stamp.json")):
        print(f"{folder}: made again ({why})")
        shutil.rmtree(folder)
    stamp.write(folder / "stamp.json")


def _at_rate(source: str, name: str, out: Path, fs: int) -> str:
    """Return the entry of channel 0 of a recording at ``fs`` Hz: its own, or a copy ``out/NAME.flac``."""
    channels, _, rate = audio_info(source)
    if (channels, rate) == (1, fs):
        return source
    path = out / f"{name}.flac"
    if not existing(path).is_file():
        samples = read_audio(source, finite=True)[0][0].astype(np.float64)
        signal = resample(samples, rate, fs)
        with AudioWriter(out, "flac", fs) as writer:
            # Resampling may overshoot what was full scale by a little; what was beyond it stays.
            writer.write(name, signal if is_beyond(np.abs(samples).max()) else signal.clip(-1, 1))
    return str(existing(path))
