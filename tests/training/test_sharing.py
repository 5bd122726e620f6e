"""Trainings that several processes share, as they would several GPUs or nodes: ESPnet's DDP, here by gloo."""

import os
import re
import signal
import subprocess
import sys

import kills
import pytest
import torch
from recipes import ROOT
from sharing import assert_near, free_ports, together
from trainings import GUIDED, STUDENT, TEACHER, command_line, make_set

from frontend.pipeline.commands import environment
from frontend.training.run import train_separator
from frontend.training.sharing import processes, rank
from frontend.training.task import KeyedIterFactory
from frontend.utils.errors import UserError


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    return {"train_set": make_set(root / "train", 9, 1), "valid_set": make_set(root / "valid", 5, 2)}


@pytest.fixture
def argv(tmp_path, sets):
    """Return a function that makes the arguments of a training on batches of four."""

    def make(settings, output, **changed):
        settings = settings | {"batch_size": 4, "num_iters_per_epoch": 2} | changed
        return command_line(tmp_path, output, settings, **sets)

    return make


# Of a gradient that is next to nothing Adam makes whole steps, to either side.
SGD = {"optim": "sgd", "optim_conf": {"lr": 0.1}}


@pytest.mark.parametrize("settings", [TEACHER, GUIDED | SGD], ids=["teacher", "guided"])
def test_two_processes_are_one_with_the_whole_batch(argv, tmp_path, settings):
    """The last batch of the validation is of one utterance, which would leave one of them without any."""
    assert kills.in_child(train_separator, argv(settings, "one")) == 0
    found = together(argv(settings, "two"))
    assert [code for code, _ in found] == [0, 0], found
    assert f"{tmp_path / 'two'}: training" in found[0][1] and found[1][1] == ""
    assert_near(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two/train.log").read_text().count("1epoch results") == 1


def test_a_checkpoint_is_one_of_any_number_of_processes(argv, tmp_path):
    """Three epochs: alone; two together and one alone; one alone, and two together after a kill."""
    settings = STUDENT | {"scheduler": None, "scheduler_conf": {}}  # which knows the last epoch
    assert kills.in_child(train_separator, argv(settings, "alone", max_epoch=3)) == 0
    assert [code for code, _ in together(argv(settings, "mixed", max_epoch=2))] == [0, 0]
    assert kills.in_child(train_separator, argv(settings, "mixed", max_epoch=3)) == 0
    assert_near(tmp_path / "alone", tmp_path / "mixed")
    killed = argv(settings, "killed", max_epoch=3)
    assert kills.in_child(train_separator, killed, lambda: kills.kill_at_step(4)) == -signal.SIGKILL
    assert [code for code, _ in together(killed)] == [0, 0]
    assert_near(tmp_path / "alone", tmp_path / "killed")


def test_a_mistake_is_said_once(argv, tmp_path):
    """By the first process, which then waits for one that comes late."""
    found = together(argv(STUDENT, "x", batch_size=1), late_s=8)
    assert [code for code, _ in found] == [2, 2] and found[1][1] == ""
    assert re.search(r"batch_size: expected at least 2, .* found 1 .raise it", found[0][1]), found
    assert found[0][1].count("\n") == 1 and not (tmp_path / "x").exists()


def test_one_that_fails_ends_all(argv, sets, tmp_path):
    """The second process has other settings, as on a node with other files."""
    good, bad = argv(STUDENT, "x"), argv(STUDENT, "y", max_epoch=0)
    bad[bad.index("--output_dir") + 1] = str(tmp_path / "x")
    more = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_ports()}
    line = [sys.executable, "-m", "frontend", "train", "separator"]
    how = {"cwd": ROOT, "text": True, "stderr": subprocess.PIPE}
    running = [
        subprocess.Popen([*line, *given], env={**os.environ, **more, "RANK": str(k)}, **how)
        for k, given in enumerate((good, bad))
    ]
    said = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [2, 2]
    assert "max_epoch: expected at least 1, found 0" in said[1]
    assert "another process of this training failed before it began" in said[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"WORLD_SIZE": "2"}, "expected MASTER_ADDR in the environment, too"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE: expected a number in the environment, found 'two'"),
    ],
)
def test_an_environment_that_makes_no_sense_is_one_line(argv, given, message):
    line = [sys.executable, "-m", "frontend", "train", "separator", *argv(STUDENT, "x"), "--check"]
    found = subprocess.run(line, env={**os.environ, **given}, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 2 and message in found.stderr and found.stderr.count("\n") == 1


def test_a_number_alone_makes_no_second_process(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert rank() == 0 and processes(4) == 4
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert rank() == 1 and processes(4) == 8
    monkeypatch.delenv("LOCAL_RANK")
    assert processes(4) == 32
    assert not {"RANK", "WORLD_SIZE"} & environment().keys()  # what a run starts is alone


@pytest.mark.parametrize("number", [1, 2])
def test_gpus_are_as_good_as_processors(argv, tmp_path, number):
    """With two, ESPnet starts a process for each."""
    if torch.cuda.device_count() < number:
        pytest.skip(f"{number} GPUs wanted, {torch.cuda.device_count()} found")
    assert kills.in_child(train_separator, argv(TEACHER, "cpu")) == 0
    [(code, err)] = together([*argv(TEACHER, "gpu"), "--ngpu", str(number)], processes=1)
    assert code == 0, err
    assert kills.losses(tmp_path / "gpu") == pytest.approx(kills.losses(tmp_path / "cpu"), rel=1e-2)


def test_a_process_that_espnet_starts_knows_our_classes(argv, tmp_path):
    """As for several GPUs: a fresh process that gets the options alone, and speaks in the log."""
    code = """
import multiprocessing, sys
from frontend.training import run
from frontend.training.task import FrontendTask

def main(args):
    args.version, args.distributed, args.dist_rank, args.dist_world_size = "", True, 0, 1
    args.dist_master_addr, args.dist_master_port = "localhost", int(sys.argv.pop())
    args.dist_backend, args.local_rank = "gloo", 0
    process = multiprocessing.get_context("spawn").Process(target=FrontendTask.main_worker, args=(args,))
    process.start()
    process.join()
    assert process.exitcode == 0

if __name__ == "__main__":
    FrontendTask.main = main
    run.train_separator(sys.argv[1:-1])
"""
    (tmp_path / "main.py").write_text(code)
    line = [sys.executable, tmp_path / "main.py", *argv(TEACHER, "x"), free_ports()]
    found = subprocess.run(line, capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 0 and "INFO" not in found.stderr, found.stderr
    assert "2epoch results" in (tmp_path / "x/train.log").read_text()


@pytest.mark.parametrize("world", [1, 2, 3])
def test_parts_of_batches_are_disjoint(world):
    """All of them together are the batches of one process; in a validation, none is without an utterance."""
    ids = [f"u{i}" for i in range(13)]
    for train, steps in ((True, 3), (False, None)):
        alone = KeyedIterFactory(None, ids, 4, steps, 0, train).batches(2)
        parts = [KeyedIterFactory(None, ids, 4, steps, 0, train, (k, world)).batches(2) for k in range(world)]
        assert len({len(part) for part in parts}) == 1 and all(all(part) for part in parts)
        joined = [sorted(u for one in batch for u in one) for batch in zip(*parts, strict=True)]
        if train or world == 1:
            assert joined == [sorted(batch) for batch in alone]
        assert sorted(u for batch in joined for u in batch) == sorted(u for batch in alone for u in batch)


def test_fewer_utterances_than_processes_are_refused():
    with pytest.raises(UserError, match="2 utterances for 3 processes .*: expected one for each"):
        KeyedIterFactory(None, ["a", "b"], 4, None, 0, False, (0, 3)).batches(1)
