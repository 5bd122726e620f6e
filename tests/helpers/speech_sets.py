"""Small speech sets and scenes for tests, and how to run a command in place.

Bursts of coloured noise with pauses stand for words.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import exit_code
from scipy.signal import lfilter

from frontend.data.kaldi import write_set
from frontend.data.speech import read_speech
from frontend.data.writers import AudioWriter
from frontend.simulation.config import SceneConfig
from frontend.simulation.scenes import sample_scene, write_scenes
from frontend.utils.errors import run
from frontend.utils.rng import generator


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
    write_set(path, {"wav.scp": wav, "text": text}, utt2spk)
    return path


def make_scenes(path: Path, speech: Path, config: SceneConfig, number: int) -> Path:
    """Write a file of scenes ``m00``, ``m01``, ... of a speech set."""
    known = read_speech(speech, config.fs)
    write_scenes(path, [sample_scene(f"m{k:02d}", config, known, 2) for k in range(number)])
    return path


def run_command(main: Callable | str, monkeypatch, capsys, **options: object) -> tuple[int, str]:
    """Run a command, or a script's ``main``, as the shell would; return its exit code and what it printed."""
    pairs = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    if isinstance(main, str):
        code = exit_code(main, *pairs)
    else:
        monkeypatch.setattr(sys, "argv", ["command", *pairs])
        with pytest.raises(SystemExit) as stop:
            run(main)
        code = int(stop.value.code)
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def audio_bytes(directory: Path) -> dict[str, bytes]:
    """Return the content of all audio files."""
    files = [p for p in directory.rglob("*") if p.suffix in (".wav", ".flac", ".ark") and p.is_file()]
    return {str(p.relative_to(directory)): p.read_bytes() for p in files if not p.name.startswith(".")}
