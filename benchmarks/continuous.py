"""Speed and memory of continuous separation: a long generated recording, from file to files.

    python -m benchmarks.continuous [--minutes 10] [--config FILE]

Generates noise in syllables, writes it as a C-channel flac, separates it with an untrained network of the
given configuration (trained ones are as fast), and gives the real-time factor (by the clock, and in
processor time, which other work on the machine changes less) and the peak memory of the process.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
import yaml

from benchmarks.configs import config_file
from frontend.separation.continuous import HOP_S, WINDOW_S
from frontend.separation.files import How, Source, plan, separate_files
from frontend.training.checkpoints import CHECKPOINTS, open_trained
from frontend.training.task import FrontendTask, register
from frontend.utils.errors import run


def make_model(config: Path, folder: Path) -> None:
    """Write a training directory with random weights."""
    register()
    options = FrontendTask.get_default_config()
    options.update(yaml.safe_load(config.read_text()), init=None)
    torch.manual_seed(0)
    model = FrontendTask.build_model(argparse.Namespace(**options))
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(options))
    torch.save(model.state_dict(), folder / CHECKPOINTS[-1])


def make_recording(path: Path, minutes: float, channels: int, fs: int) -> None:
    """Write noise whose level changes every 0.2 s, minute by minute."""
    g = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", fs, channels, subtype="PCM_16") as file:
        left = round(minutes * 60 * fs)
        while left > 0:
            n = min(left, 60 * fs)
            level = np.repeat(g.uniform(0, 0.2, -(-n // (fs // 5))), fs // 5)[:n]
            file.write(level[:, None] * g.standard_normal((n, channels)).clip(-4, 4))
            left -= n


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--config", help="complete configuration of a training (default: the student of egs/mini)"
    )
    parser.add_argument("--refine", help="as of mixit separate")
    parser.add_argument("--window", type=float, default=WINDOW_S)
    parser.add_argument("--hop", type=float, default=HOP_S)
    parser.add_argument("--num_threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.num_threads)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_model(config_file("student", work, args.config), work / "model")
        with open_trained(work / "model") as trained:
            make_recording(work / "long.flac", args.minutes, trained.n_mics, trained.fs)
        how = How(refine=args.refine, window=args.window, hop=args.hop)
        source = Source(str(work / "model"))
        jobs = plan([str(work / "long.flac")], None, source, work / "out", refine=args.refine)
        wall, busy = time.perf_counter(), time.process_time()
        separate_files(jobs, source, how)
        wall, busy = time.perf_counter() - wall, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    seconds = args.minutes * 60
    print(
        f"{args.minutes:g} min, {trained.n_mics} channels at {trained.fs} Hz, {args.num_threads} thread(s), "
        f"refine {args.refine}: real-time factor {wall / seconds:.4f} (clock), {busy / seconds:.4f} "
        f"(processor), peak memory {peak:.2f} GiB"
    )


if __name__ == "__main__":
    run(main)
