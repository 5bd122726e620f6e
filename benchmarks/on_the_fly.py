"""What it costs to render mixtures while training instead of reading them from files.

    python -m benchmarks.on_the_fly [--scenes FILE] [--config FILE]

First, one process reads crops of mixtures and both images, in random order, as a training does; CPU time.
Then trainings with 0 and more workers, of files and of scenes, through the real command. The speech is
noise: 200 utterances of one length, so that all mixtures are about as long.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from benchmarks.configs import config_file
from benchmarks.train_step import measure
from frontend.data.audio import read_audio
from frontend.data.kaldi import write_set
from frontend.data.mixtures import MixtureSet
from frontend.data.speech import read_speech
from frontend.data.writers import AudioWriter
from frontend.simulation.config import SceneConfig, load_config
from frontend.simulation.mixture_sets import make_set
from frontend.simulation.scenes import sample_scene, write_scenes
from frontend.utils.errors import run
from frontend.utils.rng import generator

_UTTERANCES, _SPEAKERS = 200, 20


def _make_sets(work: Path, scenes: str | None, number: int, bank: int, seconds: float | None) -> None:
    """Write the same mixtures as ``files`` and as ``scenes``."""
    config = load_config(scenes) if scenes else SceneConfig()
    samples = round((seconds or config.max_seconds) * config.fs)
    wav, utt2spk = {}, {}
    with AudioWriter(work / "speech" / "wav", "wav", config.fs) as writer:
        for k in range(_UTTERANCES):
            noise = generator(0, k).standard_normal(samples)
            wav[f"u{k:03d}"] = writer.write(f"u{k:03d}", 0.1 * np.clip(noise, -5, 5))
            utt2spk[f"u{k:03d}"] = f"s{k % _SPEAKERS}"
    write_set(work / "speech", {"wav.scp": wav}, utt2spk)
    speech = read_speech(work / "speech", config.fs)
    names = [f"m{k:05d}" for k in range(number)]
    write_scenes(work / "list", [sample_scene(name, config, speech, 0, bank=bank) for name in names])
    for on_the_fly, out in ((True, "scenes"), (False, "files")):
        make_set(work / "list", work / "speech", work / out, on_the_fly=on_the_fly, rir_cache=work / "rirs")
        size = sum(path.stat().st_size for path in (work / out).rglob("*") if path.is_file())
        print(f"{out}: {size / 1e6:.2f} MB on disk")


def _read(data: Path, crop: float) -> tuple[float, int]:
    """Return CPU seconds of reading a crop of each mixture and its images, and the number of mixtures."""
    mixtures = MixtureSet(data)
    order = [mixtures.ids[k] for k in generator(0, "order").permutation(len(mixtures.ids))]
    fs = read_audio(mixtures.wav[order[-1]])[1]  # also imports
    start = time.process_time()
    for name in order:
        for table in (mixtures.wav, *mixtures.speakers):
            read_audio(table[name], 0, round(crop * fs))
    return time.process_time() - start, len(order)


def main() -> int | None:
    """Run the benchmark."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw, allow_abbrev=False)
    parser.add_argument("--scenes", help="YAML file of scenes (default: two talkers, four microphones)")
    parser.add_argument("--config", help="complete, of a training (default: the student of egs/mini)")
    parser.add_argument("--seconds", type=float, help="of an utterance (default: the scenes' max_seconds)")
    parser.add_argument("--num", type=int, default=200, help="mixtures (default: %(default)s)")
    parser.add_argument("--bank", type=int, default=50, help="rooms (default: %(default)s)")
    parser.add_argument(
        "--workers", default="0,1,2", help="data workers to train with (default: %(default)s)"
    )
    parser.add_argument(
        "--steps", type=int, default=50, help="of an epoch, 0: only read (default: %(default)s)"
    )
    parser.add_argument("--num_threads", type=int, default=1)
    parser.add_argument("--ngpu", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        config = config_file("student", work, args.config)
        settings = yaml.safe_load(config.read_text())
        crop = settings["preprocessor_conf"]["crop"]
        _make_sets(work, args.scenes, args.num, args.bank, args.seconds)
        # Of an example, the remix of so many images, each is read from another mixture.
        a_step = settings["batch_size"] * settings["separator_conf"]["num_spk"]
        for name in ("files", "scenes"):
            seconds, number = _read(work / name, crop)
            rendered = number / seconds
            print(f"{name}: a core reads {rendered:.0f} mixtures/s, {1e3 * seconds / number:.2f} ms each")
        for workers in args.workers.split(",") if args.steps else ():
            more = [
                "--num_workers",
                workers,
                "--num_threads",
                str(args.num_threads),
                "--ngpu",
                str(args.ngpu),
            ]
            for name in ("files", "scenes"):
                spent = measure(config, work / name, work / f"{name}{workers}", args.steps, more)
                step, wait = 1e3 * spent["train_time"], 1e3 * spent["iter_time"]
                print(
                    f"{workers} workers, {name}: {step:.1f} ms/step, of it waiting for data {wait:.1f} ms = "
                    f"{100 * wait / step:.1f} %; it wants {1e3 * a_step / (step - wait):.0f} mixtures/s, a "
                    f"core renders {rendered:.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    run(main)
