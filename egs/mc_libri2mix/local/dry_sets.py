"""Utterances to speech sets in Kaldi form. Nothing is copied that can be read where it lies.

Nothing is trimmed or scaled: LibriMix's gains belong to the waveforms as they are stored, and scenes set
the level of every talker anyway.
"""

import math
from functools import partial
from pathlib import Path

import numpy as np
from librispeech import FS

from frontend.data import kaldi
from frontend.data.audio import AudioWriter, audio_info, read_audio
from frontend.data.speech import Spoken
from frontend.dsp.resample import resample
from frontend.simulation.render import active_power
from frontend.utils.errors import UserError
from frontend.utils.parallel import parallel_map


def write_set(out: Path, utterances: list[Spoken], fs: int, nj: int) -> float:
    """Write ``out/{wav.scp,text,utt2spk,spk2utt,utt2num_samples,utt2level}``; return seconds of speech.

    At 16 kHz wav.scp names the files of the corpus; below that, resampled copies ``out/flac/ID.flac``.
    Each copy is whole or absent, and those that are there are kept: a run that was cut off goes on.
    wav.scp comes last: without it, this is no set. ``utt2level`` is the level of the active frames
    as stored, in dB re full scale.

    Raises:
        UserError: a recording that is truncated, silent, not mono or not of 16 kHz.
    """
    (out / "wav.scp").unlink(missing_ok=True)
    make = partial(_dry, out=str(out / "flac"), fs=fs)
    made = list(parallel_map(make, utterances, nj, str(out)))
    ids = [u.id for u in utterances]
    tables = {
        "wav.scp": {i: entry for i, (entry, _, _) in zip(ids, made, strict=True)},
        "text": {u.id: u.text for u in utterances},
        "utt2num_samples": {i: samples for i, (_, samples, _) in zip(ids, made, strict=True)},
        "utt2level": {i: f"{level:.2f}" for i, (_, _, level) in zip(ids, made, strict=True)},
    }
    kaldi.write_set(out, tables, {u.id: u.speaker for u in utterances})
    return sum(samples for _, samples, _ in made) / fs


def _dry(utterance: Spoken, out: str, fs: int) -> tuple[str, int, float]:
    """Make what one utterance needs; return its entry, samples and active level in dB."""
    channels, frames, rate = audio_info(utterance.source)
    if (channels, rate) != (1, FS):
        raise UserError(
            f"{utterance.source}: expected 1 channel at {FS} Hz, found {channels} at {rate} Hz "
            "(unpack it again)"
        )
    entry = utterance.source if fs == FS else f"{out}/{utterance.id}.flac"
    if fs != FS and not (
        Path(entry).is_file() and audio_info(entry)[1:] == (math.ceil(frames * fs / FS), fs)
    ):
        signal = read_audio(utterance.source)[0][0].astype(np.float64)
        with AudioWriter(out, "flac", fs) as writer:
            # Resampling may overshoot what was full scale by a little.
            writer.write(utterance.id, np.clip(resample(signal, FS, fs), -1, 1))
    power = active_power(read_audio(entry)[0][0].astype(np.float64), fs)
    if not power > 0:
        raise UserError(f"{utterance.source}: silent, or damaged (unpack it again)")
    return entry, audio_info(entry)[1], 10 * math.log10(power)
