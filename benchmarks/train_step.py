"""How much of a training step is spent outside the network's forward and backward.

    python -m benchmarks.train_step [--config FILE] [--num_threads 2]

Trains on noise made for it, through the real command, and reads the times that ESPnet
measured. Goal: under 15 % outside.
"""

import argparse
import contextlib
import io
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import yaml

from benchmarks.configs import config_file
from frontend.data.kaldi import write_scp
from frontend.data.writers import AudioWriter
from frontend.training.run import train_separator

_UTTERANCES, _SECONDS = 64, 4


def make_data(directory: Path, fs: int, mics: int) -> None:
    """Write a mixture set of noise with two references."""
    rng = np.random.default_rng(0)
    writer = AudioWriter(directory / "wav", "wav", fs)
    tables: dict[str, dict] = {name: {} for name in ("wav.scp", "spk1.scp", "spk2.scp")}
    for i in range(_UTTERANCES):
        audio = 0.05 * rng.standard_normal((mics, _SECONDS * fs))
        tables["wav.scp"][f"u{i:03}"] = writer.write(f"u{i:03}", audio)
        for k in (1, 2):
            tables[f"spk{k}.scp"][f"u{i:03}"] = writer.write(f"u{i:03}-{k}", audio[0] / 2)
    for name, table in tables.items():
        write_scp(directory / name, table)
    write_scp(directory / "utt2num_samples", dict.fromkeys(tables["wav.scp"], _SECONDS * fs))


@contextlib.contextmanager
def separator_time(cls: type):
    """Count the seconds spent in the separator's forward while training."""
    forward, spent = cls.forward, []

    def timed(self, *args, **kwargs):
        start = time.perf_counter()
        result = forward(self, *args, **kwargs)
        if self.training:
            spent.append(time.perf_counter() - start)
        return result

    cls.forward = timed
    try:
        yield spent
    finally:
        cls.forward = forward


def measure(config: Path, data: Path, out: Path, steps: int, more: list[str]) -> dict[str, float]:
    """Return seconds per step by part, of the second epoch."""
    from frontend.training.task import register
    from frontend.utils.espnet import enh

    register()
    name = yaml.safe_load(config.read_text())["separator"]
    argv = ["--config", str(config), "--train_set", str(data), "--valid_set", str(data)]
    argv += [
        "--output_dir",
        str(out),
        "--max_epoch",
        "2",
        "--num_iters_per_epoch",
        str(steps),
        "--log_level",
        "ERROR",
        *more,
    ]
    with separator_time(enh.separator_choices.classes[name]) as spent:
        with contextlib.redirect_stderr(io.StringIO()):
            train_separator(argv)
    stats = torch.load(out / "checkpoint.pth", weights_only=False)["reporter"]["stats"][2]["train"]
    keys = ("iter_time", "forward_time", "backward_time", "optim_step_time", "train_time")
    return {k: stats[k] for k in keys} | {"separator": sum(spent[steps:]) / steps}


def show(name: str, t: dict[str, float]) -> None:
    """Print one line of shares."""
    outside = 1 - (t["forward_time"] + t["backward_time"]) / t["train_time"]
    around = (t["forward_time"] - t["separator"]) / t["train_time"]
    print(
        f"{name}: {1e3 * t['train_time']:6.1f} ms/step = data {1e3 * t['iter_time']:.1f} + forward "
        f"{1e3 * t['forward_time']:.1f} + backward {1e3 * t['backward_time']:.1f} + optimiser "
        f"{1e3 * t['optim_step_time']:.1f} + other; outside forward and backward {100 * outside:.1f} %, "
        f"STFT and loss within the forward another {100 * around:.1f} %"
    )


def main() -> None:
    """Measure with 0 and 1 data workers."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--config", help="complete, of a training (default: the teacher of egs/mini)")
    parser.add_argument("--num_threads", type=int, default=2)
    parser.add_argument("--ngpu", type=int, default=0)
    parser.add_argument("--steps", type=int, default=50)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        config = config_file("teacher", root, args.config)
        settings = yaml.safe_load(config.read_text())
        data = Path(root) / "data"
        make_data(data, settings["preprocessor_conf"]["fs"], settings["separator_conf"].get("n_mics", 1))
        for workers in ("0", "1"):
            more = [
                "--num_workers",
                workers,
                "--num_threads",
                str(args.num_threads),
                "--ngpu",
                str(args.ngpu),
            ]
            show(f"{workers} workers", measure(config, data, Path(root) / workers, args.steps, more))


if __name__ == "__main__":
    main()
