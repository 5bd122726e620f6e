"""What a GPU is worth here: the tests that need one, steps a second of each network, and a short training.

    python -m benchmarks.gpu [--minutes 8]

Trains each network on noise, on the processor and on the GPU, in float32 and in mixed precision. Then runs
egs/mini in the size `gpu` without labels, and prints the scores.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import yaml

from benchmarks.train_step import make_data, measure
from frontend.pipeline.config import ROOT
from frontend.pipeline.options import Given
from frontend.pipeline.recipes import read_options
from frontend.utils.errors import UserError, run

# Network, its configuration, and the recipe's --network.
_NETWORKS = (
    ("guided_net", "student", None),
    ("mask_net", "teacher", None),
    ("spatialnet", "teacher", "spatialnet"),
)
_TESTS = ("tests/networks/test_separators.py", "tests/training/test_sharing.py")


def _steps(work: Path, device: int, steps: int) -> None:
    """Print the steps a second of each network on the processor (0) or a GPU (1)."""
    where = torch.cuda.get_device_name() if device else f"{torch.get_num_threads()} threads"
    for name, conf, network in _NETWORKS if device else _NETWORKS[:2]:
        more = {"network": network} if network else {}
        content = read_options(Given(size="full", more=more)).content(conf)
        for precision in ("float32", "bfloat16"):
            has_own = "precision" in content["separator_conf"]
            if has_own:
                content["separator_conf"]["precision"] = precision
            config = work / f"{name}.yaml"
            config.write_text(yaml.safe_dump(content, sort_keys=False))
            amp = precision == "bfloat16" and not has_own  # ESPnet's, for what has no precision of its own
            options = ["--use_amp", str(amp).lower(), "--ngpu", str(device)]
            out = work / f"{name}_{precision}_{device}"
            taken = measure(config, work / "data", out, steps if device else steps // 5, options)
            print(f"{name}, {precision}, {where}: {1 / taken['train_time']:.2f} steps/s", flush=True)


def _train(line: list, minutes: float) -> None:
    """Run the recipe up to the student, and end it where it takes longer."""
    begun = time.monotonic()
    process = subprocess.Popen([*line, "--stop_stage", "controls"], start_new_session=True)
    try:
        code = process.wait(60 * minutes)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
        raise UserError(f"the student was not trained after {minutes:g} min: give more --minutes") from None
    if code:
        raise SystemExit(code)
    print(f"trained in {time.monotonic() - begun:.0f} s", flush=True)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="of the training (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=100, help="of each network on the GPU")
    parser.add_argument("--size", default="gpu", help="of egs/mini (default: %(default)s)")
    args = parser.parse_args()
    ngpu = min(torch.cuda.device_count(), 1)
    if not ngpu:
        print("no GPU: on the processor alone", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "pytest", "-q", *_TESTS, "-k", "gpu"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder) / "data", 8000, 4)
        for device in range(ngpu + 1):
            _steps(Path(folder), device, args.steps)
    line = [ROOT / "run.sh", "--size", args.size, "--ngpu", str(ngpu), "--with", "unsupervised,on_the_fly"]
    _train(line, args.minutes)
    subprocess.run([*line, "--stage", "separate", "--stop_stage", "score"], check=True)


if __name__ == "__main__":
    run(main)
