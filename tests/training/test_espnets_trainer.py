"""ESPnet's trainer without ours: each defect that FrontendTrainer and repair_checkpoint step around."""

import datetime

import kills
import numpy as np
import pytest
import torch
from defects import defect
from trainings import STUDENT, TWO_MICS, command_line

from frontend.training import run, task
from frontend.training.checkpoints import CHECKPOINT
from frontend.utils.espnet import Trainer

SETTINGS = STUDENT | TWO_MICS | {"num_iters_per_epoch": 1, "max_epoch": 3, "keep_nbest_models": 3}
SETTINGS |= {"scheduler": None, "scheduler_conf": {}}


def plainly():
    """Let ESPnet train alone."""
    task.FrontendTask.trainer = Trainer
    run._repair = lambda *_: None


@pytest.fixture
def argv(data, tmp_path):
    """Return a function that makes the arguments of a training."""

    def make(**changed):
        return command_line(tmp_path, "x", SETTINGS | changed, train_set=data, valid_set=data)

    return make


def in_child(argv, sabotage):
    """Train in a forked child and return its exit code."""
    return kills.in_child(run.train_separator, argv, sabotage)


@pytest.mark.parametrize("file", [3, 4])  # checkpoint and model of the second epoch
@defect("training/checkpoints.py: repair_checkpoint")
def test_a_training_that_was_killed_while_it_saved_goes_on(argv, file):
    def sabotage():
        plainly()
        kills.kill_at_save(file)

    assert in_child(argv(), sabotage) < 0
    assert in_child(argv(), plainly) == 0


@defect("training/task.py: FrontendTrainer")
def test_a_training_without_a_finite_gradient_fails(argv):
    assert in_child(argv(optim_conf={"lr": 1.0e30}), plainly) != 0


@defect("training/checkpoints.py: had_enough", gone=202611)
def test_a_training_that_had_enough_stays_as_it_is(argv, tmp_path):
    still = {"optim_conf": {"lr": 0.0}, "patience": 0}
    epochs = []
    for _ in range(2):
        assert in_child(argv(**still), plainly) == 0
        states = torch.load(tmp_path / "x" / CHECKPOINT, weights_only=False)
        epochs.append(states["reporter"]["epoch"])
        (tmp_path / "x" / run.DONE).unlink()
    assert epochs == [2, 2]


def test_a_training_begun_with_an_older_espnet_goes_on(argv, tmp_path):
    """Those of 202511 hold times and NumPy's numbers, which 202611 refuses to read unless it is told to."""
    assert in_child(argv(max_epoch=1), lambda: None) == 0
    states = torch.load(tmp_path / "x" / CHECKPOINT, weights_only=False)
    for phase in states["reporter"]["stats"][1].values():
        phase["time"] = datetime.timedelta(seconds=1)
        phase.update({key: np.float64(phase[key]) for key in ("loss",) if key in phase})
    torch.save(states, tmp_path / "x" / CHECKPOINT)
    assert in_child(argv(), lambda: None) == 0
    assert (tmp_path / "x/3epoch.pth").exists()
