"""The recipe as an ESPnet3 system: all its stages, by run.py."""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from recipes import copy_recipe

from frontend.separation.model import Separator

RUN = Path(__file__).resolve().parents[2] / "egs/mini/espnet3/run.py"
has_espnet3 = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("espnet3", "lightning"))),
    reason="ESPnet3 needs Python 3.12 or newer (ESPnet 202611, extra espnet3)",
)


def run(folder, *stages, **options):
    """Run stages of ESPnet3 on a copy of egs/mini."""
    recipe = folder / "mini"
    config = {
        "exp_dir": str(folder / "logs"),
        "recipe": str(recipe),
        "options": {"size": "tiny", "nj": 1} | options,
        "pack_model": {"model": str(recipe / "exp/espeak_tiny/student"), "out": str(folder / "packed.zip")},
    }
    (folder / "training.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, RUN, "--training_config", folder / "training.yaml", "--stages", *stages]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@has_espnet3
def test_a_mistake_is_one_line(tmp_path):
    copy_recipe("mini", tmp_path / "mini")
    done = run(tmp_path, "create_dataset", size="huge", channels=None, allow_unknown=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "unknown size 'huge'" in done.stderr.splitlines()[-1]
    command = [sys.executable, RUN, "--stages", "train"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("run.py: error: config not provided")


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="ESPnet for this Python has ESPnet3")
def test_what_is_missing_is_one_line(tmp_path):
    done = run(tmp_path, "train")
    assert done.returncode == 2
    assert (
        done.stderr.startswith("run.py: error: 'espnet3' is not installed") and done.stderr.count("\n") == 1
    )


@pytest.mark.chain
@has_espnet3
def test_from_nothing_to_a_packed_model(tmp_path):
    experiment = copy_recipe("mini", tmp_path / "mini") / "exp/espeak_tiny"
    done = run(tmp_path, "create_dataset", "train")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (experiment / "student/valid.loss.ave.pth").is_file() and not (experiment / "scores").exists()
    done = run(tmp_path, "infer", "measure", "pack_model")
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((experiment / "results.json").read_text())
    rows = {row["system"]: row for row in results["rows"]}
    assert {"mixture", "auxiva+mask", "student", "supervised_full"} <= set(rows)
    assert math.isfinite(rows["student"]["si_snri"]) and math.isfinite(rows["student"]["cpwer"])
    streams = Separator.from_pretrained(tmp_path / "packed.zip")(np.ones((4, 8000)), 8000)
    assert streams.shape == (2, 8000)
    # What is complete is not done again.
    before = (experiment / "student/valid.loss.ave.pth").stat().st_mtime_ns
    assert run(tmp_path, "train").returncode == 0
    assert (experiment / "student/valid.loss.ave.pth").stat().st_mtime_ns == before
