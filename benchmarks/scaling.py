"""What an hour of mixtures costs at each stage, in processor seconds and bytes, and whether that is linear.

    ./run.sh && python -m benchmarks.scaling [--exp egs/mini/exp/espeak]

The commands of the stages, in one process each, on N, 2 N and 4 N new mixtures, with the models of an
experiment. A stage costs a start and so much a mixture: of both the least squares are printed, and how far
the cost of 4 N is from what N and 2 N let expect. Then the trainings' steps, on noise.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.train_step import make_data, measure
from frontend.data.kaldi import read_scp
from frontend.utils.errors import UserError, run
from frontend.utils.files import read_settings

_FACTORS = (1, 2, 4)


def _spent(words: list, log: Path) -> float:
    """Run a command and return its processor seconds, its children's among them."""
    with open(log, "ab") as out:
        line = [sys.executable, "-m", "frontend", *map(str, words)]
        process = subprocess.Popen(line, stdout=out, stderr=out, env={**os.environ, "OMP_NUM_THREADS": "1"})
        _, code, usage = os.wait4(process.pid, 0)
    if code:
        raise UserError(f"{words[0]} failed: {log.read_text()[-500:]}")
    return usage.ru_utime + usage.ru_stime


def _size(*folders: Path) -> int:
    return sum(path.stat().st_size for one in folders for path in one.rglob("*") if path.is_file())


def _stages(number: int, exp: Path, speech: Path, work: Path) -> tuple[dict, float]:
    """Return processor seconds and bytes of each stage on so many mixtures, and the hours of these."""
    conf, log, found = exp / "conf", work / "log", {}

    def add(stage: str, out: Path, *commands: list) -> None:
        found[stage] = (sum(_spent(words, log) for words in commands), _size(out))
        print(f"{number} mixtures, {stage}: {found[stage][0]:.1f} s", flush=True)

    scenes, data, separated = work / "scenes.jsonl", work / "set", work / "separated"
    draw = ["simulate", "scenes", "--config", conf / "scenes.yaml", "--speech", speech, "--num", number]
    draw += ["--prefix", f"x{number}", "--seed", number, "--out", scenes]
    render = ["simulate", "render", "--scenes", scenes, "--speech", speech, "--out", data, "--nj", 1]
    add("simulate", data, draw, render)
    bare, one = work / "bare", ["--nj", 1]
    _spent(["data", "subset", "--data", data, "--out", bare, "--share", 1, "--unlabelled"], log)
    label = ["label", "--config", conf / "pseudo.yaml", "--model", exp / "teacher", "--data", bare]
    add("label", work / "labels", [*label, "--out", work / "labels", *one])
    systems = ["--systems", conf / "systems.yaml", "--exp", exp, "--only", "student", "--data", data]
    add("separate", separated, ["separate", *systems, "--n_talkers", 2, "--out", separated, *one])
    scores = ["score", "--data", data, "--separated", separated, "--out", work / "scores", *one]
    add("score", work / "scores", scores)
    decode = ["decode", "--config", conf / "decode.yaml", *systems, "--separated", separated]
    decode += ["--speech", speech, "--asr", exp / "asr", "--out", work / "decoded", *one]
    add("decode", work / "decoded", decode)
    fs = read_settings(conf / "scenes.yaml", "scenes")["fs"]
    return found, sum(map(int, read_scp(data / "utt2num_samples").values())) / fs / 3600


def main() -> None:
    """Run it."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--exp", type=Path, default=Path("egs/mini/exp/espeak"))
    parser.add_argument("--speech", type=Path, default=Path("egs/mini/data/espeak/speech/train"))
    parser.add_argument("--num", type=int, default=50, help="mixtures of the smallest set")
    parser.add_argument("--steps", type=int, default=20, help="of each training")
    args = parser.parse_args()
    exp, speech = args.exp.resolve(), args.speech.resolve()
    place = args.exp.resolve().parents[1]  # the tables' paths are seen from the recipe
    made = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(place)
        for factor in _FACTORS:
            work = Path(folder) / str(factor)
            work.mkdir()
            made[factor] = _stages(factor * args.num, exp, speech, work)
        _show(made)
        for name, network in (("teacher", "mask_net"), ("student", "guided_net")):
            config = exp / "conf" / f"{name}.yaml"
            settings = read_settings(config, "configuration")
            data = Path(folder) / name / "data"
            reading = settings["preprocessor_conf"]
            make_data(data, reading["fs"], settings["separator_conf"]["n_mics"])
            spent = measure(config, data, data.parent / "out", args.steps, ["--num_threads", "1"])
            step, steps = spent["train_time"], 3600 / reading["crop"] / settings["batch_size"]
            print(f"{name} ({network}): {step:.2f} s a step, {step * steps:.0f} s a pass over an hour")


def _show(made: dict) -> None:
    """Print each stage's start, and its cost an hour of mixtures."""
    hours = np.array([made[factor][1] for factor in _FACTORS])
    for stage in made[1][0]:
        seconds, sizes = np.array([made[factor][0][stage] for factor in _FACTORS]).T
        slope, start = np.polyfit(hours, seconds, 1)
        first = (seconds[1] - seconds[0]) / (hours[1] - hours[0])
        expected = seconds[1] + first * (hours[2] - hours[1])
        away = 100 * (seconds[2] / expected - 1)
        print(
            f"{stage}: {slope:.0f} s and {sizes[2] / hours[2] / 1e6:.0f} MB an hour of mixtures, {start:.1f} "
            f"s to start; four times as many took {away:+.1f} % more than one and two let expect"
        )
    print(json.dumps({factor: {"hours": made[factor][1], **made[factor][0]} for factor in _FACTORS}))


if __name__ == "__main__":
    run(main)
