"""Mixtures a second and core: first render, and render again from cached impulse responses.

The default is the case of egs/mini: 2 talkers, 4 microphones, 4 s, T60 0.15 to 0.4 s, 8 kHz. Reading
the speech and writing the set are included; imports are not. CPU time is what a core needs, wall
time what passed (on a busy machine more).
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from frontend.data.kaldi import write_set
from frontend.data.speech import read_speech
from frontend.data.writers import AudioWriter
from frontend.simulation.config import SceneConfig, load_config
from frontend.simulation.mixture_sets import make_set
from frontend.simulation.scenes import sample_scene, write_scenes
from frontend.utils.errors import run
from frontend.utils.rng import generator


def _make_speech(path: Path, fs: int, seconds: float) -> None:
    """Write 20 utterances of noise by 10 talkers; what is said costs nothing here."""
    wav, utt2spk = {}, {}
    with AudioWriter(path / "wav", "wav", fs) as writer:
        for k in range(20):
            noise = generator(0, k).standard_normal(round(seconds * fs))
            wav[f"u{k:02d}"] = writer.write(f"u{k:02d}", 0.1 * np.clip(noise, -5, 5))
            utt2spk[f"u{k:02d}"] = f"s{k % 10}"
    write_set(path, {"wav.scp": wav}, utt2spk)


def main() -> int | None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", help="YAML file of scenes (default: two talkers, four microphones)")
    parser.add_argument("--num", type=int, default=60, help="mixtures (default: %(default)s)")
    parser.add_argument("--audio_format", default="wav", help="default: %(default)s")
    args = parser.parse_args()
    config = load_config(args.config) if args.config else SceneConfig()
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        _make_speech(work / "speech", config.fs, config.max_seconds)
        speech = read_speech(work / "speech", config.fs)
        scenes = [sample_scene(f"m{k:05d}", config, speech, 0) for k in range(args.num)]
        write_scenes(work / "scenes.jsonl", scenes)
        for what in ("first render", "render again"):
            wall, cpu = time.perf_counter(), time.process_time()
            out = work / what.replace(" ", "_")
            make_set(work / "scenes.jsonl", work / "speech", out, 1, args.audio_format, work / "rirs")
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            print(f"{what}: {args.num / cpu:.1f} mixtures/s of CPU time, {args.num / wall:.1f} of wall time")
        size = sum(path.stat().st_size for path in (work / "rirs").rglob("*.npz")) / args.num
        print(f"cached impulse responses: {size / 1024:.0f} KiB a mixture")


if __name__ == "__main__":
    run(main)
