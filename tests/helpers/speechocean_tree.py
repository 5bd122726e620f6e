"""A stand-in for speechocean762: its layout, filled with made-up voices."""

from pathlib import Path

import numpy as np
import soundfile
from speech_sets import voice

from frontend.data.writers import to_pcm16

EACH = 3  # utterances of a talker


def write_part(root: Path, part: str, numbers: range) -> None:
    """Write train/ or test/ as the corpus has it: tables with tabs, official names of the recordings."""
    tables = {"wav.scp": [], "text": [], "utt2spk": [], "spk2gender": []}
    for number in numbers:
        speaker = f"{number:04d}"
        tables["spk2gender"].append(f"{speaker}\t{'f' if number % 2 else 'm'}\n")
        for index in range(EACH):
            key = f"0{speaker}{index:04d}"
            path = Path("WAVE") / f"SPEAKER{speaker}" / f"{key}.WAV"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            speech = np.concatenate([np.zeros(4000), voice(key, 0.6, 16000), np.zeros(4000)])
            soundfile.write(root / path, to_pcm16(speech), 16000, format="WAV")
            tables["wav.scp"].append(f"{key}\t{path}\n")
            tables["text"].append(f"{key}\tTALKER {speaker} SAYS {index}\n")
            tables["utt2spk"].append(f"{key}\t{speaker}\n")
    (root / part).mkdir()
    for name, lines in tables.items():
        (root / part / name).write_text("".join(lines))
