"""The stages of ESPnet3 for any recipe of this repository."""

import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from espnet3.contract.stages import StageSpec
from espnet3.systems.base.system import BaseSystem
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[3]
_NAMES = ("create_dataset", "train", "infer", "measure", "pack_model")


class SeparationSystem(BaseSystem):
    """Teacher, student and the systems they are compared with, by the commands of the recipe.

    All stages read one configuration (``conf/training.yaml``): a training makes the labels of the next one,
    so there is no model to configure apart. A stage that is complete is skipped, as ``mixit run`` skips it.

    Raises:
        SystemExit: a command failed, with its exit code: 2 for a mistake, of which it has printed a line.
    """

    stages: ClassVar[tuple[StageSpec, ...]] = tuple(
        StageSpec(name=name, config="training", log_dir="exp_dir") for name in _NAMES
    )

    def create_dataset(self) -> None:
        """Speech of the corpus, scenes, simulated mixtures."""
        self._run("data", "simulate")

    def train(self) -> None:
        """All trainings and the labels between them, those of the recogniser too."""
        self._run("teacher", "joint")

    def infer(self) -> None:
        """Streams of every system on the test sets, and their words."""
        self._run("separate", "separate")
        self._run("decode", "decode")

    def measure(self) -> None:
        """Scores, word errors, and the page with the table."""
        self._run("score", "score")
        self._run("wer", "report")

    def pack_model(self) -> None:
        """One trained system as a directory or a zip that loads on another machine."""
        chosen = self.training_config.pack_model
        _mixit("pack", "--model", chosen.model, "--out", chosen.out)

    def _run(self, first: str, last: str) -> None:
        options = OmegaConf.to_container(self.training_config.options or OmegaConf.create(), resolve=True)
        line = ["--recipe", self.training_config.recipe, "--stage", first, "--stop_stage", last]
        for name, value in options.items():
            for one in value if isinstance(value, list) else [value]:
                text = str(one).lower() if isinstance(one, bool) else str(one)
                line += [] if one is None else [f"--{name}", text]
        _mixit("run", *line)


def _mixit(*line: str) -> None:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run([sys.executable, "-m", "frontend", *line], env={**os.environ, "PYTHONPATH": path})
    if done.returncode:
        raise SystemExit(done.returncode)
