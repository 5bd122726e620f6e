"""Small speech sets for tests: bursts of coloured noise with pauses in place of words."""

from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from frontend.datadir import AudioWriter, write_scp, write_spk2utt
from frontend.rng import generator


def voice(name: str, seconds: float, fs: int = 8000) -> np.ndarray:
    """Return ``(T,)``: syllables of 0.15 s with pauses of 0.1 s, of a colour of its own."""
    rng = generator(0, name)
    samples = round(seconds * fs)
    burst = (np.arange(samples) / fs) % 0.25 < 0.15
    coloured = lfilter([1.0], [1.0, -rng.uniform(0.3, 0.9)], rng.standard_normal(samples))
    return 0.1 * burst * coloured / coloured.std()


def make_speech(path: Path, speakers: int = 8, each: int = 2, seconds: float = 1.0, fs: int = 8000) -> Path:
    """Write a speech set of ``speakers`` x ``each`` utterances, of ``seconds`` to twice as long."""
    wav, utt2spk, text = {}, {}, {}
    with AudioWriter(path / "wav", "wav", fs) as writer:
        for speaker in range(speakers):
            for number in range(each):
                name = f"s{speaker:02d}-{number:02d}"
                length = seconds * (1 + generator(1, name).random())
                wav[name] = writer.write(name, voice(name, length, fs))
                utt2spk[name], text[name] = f"s{speaker:02d}", f"words of {name}"
    write_scp(path / "wav.scp", wav)
    write_scp(path / "text", text)
    write_spk2utt(path, utt2spk)
    return path
