"""Stages that run at the same time: which may, what is shown, what a failure or an interrupt leaves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from recipes import ROOT
from test_engine import Toy
from test_options import options

from frontend.pipeline.recipes import stages_of
from frontend.pipeline.stage import Stage, is_below

WAIT = "import pathlib, sys, time\ndef wait(name):\n    end = time.monotonic() + 60\n"
WAIT += "    while not pathlib.Path(name).exists():\n        assert time.monotonic() < end, name\n"
WAIT += "        time.sleep(0.01)\n"


class Four(Toy):
    """``first``, then ``second``, which reads it; beside both ``other``; ``last`` after all."""

    def __init__(self):
        super().__init__()
        self.at_once = 2
        self.scripts = {"first": "", "second": "", "other": "", "last": ""}

    def stages(self, _=None) -> list[Stage]:
        for name, body in self.scripts.items():
            body += f"\nprint('{name} says'); pathlib.Path('{name}_made').write_text('x')\n"
            if not (path := Path(f"{name}.py")).exists() or path.read_text() != WAIT + body:
                path.write_text(WAIT + body)  # once: it is read meanwhile

        def stage(name: str, *reads: str, **more) -> Stage:
            made = [Path(f"{name}_made")]
            return Stage(name, f"makes {name}", [*map(Path, reads)], made, [[f"./{name}.py"]], **more)

        first, second = stage("first", "conf"), stage("second", "first_made", beside=True)
        return [first, second, stage("other", "conf", beside=True), stage("last", "conf")]


@pytest.fixture
def four(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("conf").write_text("a")
    return Four()


def test_what_needs_nothing_of_the_others_runs_beside_them(four, capfd):
    four.scripts["first"] = "wait('begun'); time.sleep(1)"
    four.scripts["other"] = "open('begun', 'w'); print('warning: x', file=sys.stderr); wait('second_made')"
    four.scripts["last"] = (
        "assert pathlib.Path('other_made').exists() and pathlib.Path('second_made').exists()"
    )
    begun = time.time()
    four.run("1", "4")
    spent = time.time() - begun
    out, err = capfd.readouterr()
    lines = [line.partition(" (")[0].partition(" ")[2] if ":" in line else line for line in out.splitlines()]
    assert lines[:3] == ["stage 1 first: makes first", "stage 3 other: makes other", "first says"]
    assert "beside first: see exp/log/other.log" in out and "beside other: see exp/log/second.log" in out
    assert lines.index("stage 1 first: done") < lines.index("stage 2 second: makes second")
    assert err == "warning: x\n" and "other says" in Path("exp/log/other.log").read_text()
    assert "second says" in lines and lines[-1] == "last says"
    seconds = four.facts()["stages"]
    assert sum(seconds.values()) == pytest.approx(spent, abs=0.5), "a second of two stages counts once"


def test_one_at_a_time_they_run_in_their_order(four, capfd):
    four.at_once = 1
    four.run("1", "4")
    said = [line for line in capfd.readouterr().out.splitlines() if line.endswith("says")]
    assert said == ["first says", "second says", "other says", "last says"]


def test_a_failure_ends_what_runs_beside_it_and_both_go_on(four, capfd):
    four.scripts["other"] = "open('begun', 'w'); wait('go')"
    four.scripts["first"] = "wait('begun'); pathlib.Path('go').exists() or sys.exit(3)"
    begun = time.time()
    with pytest.raises(SystemExit) as end:
        four.run("1", "4")
    assert end.value.code == 3 and time.time() - begun < 30
    failed = "stage {0}: failed; its output is in exp/log/{0}.log\n"
    assert capfd.readouterr().err == failed.format("first")
    first, _, other, _ = four.stages()
    assert [four.engine().state(stage) for stage in (first, other)] == ["was cut off"] * 2
    Path("go").touch()
    four.run("1", "4")
    assert [four.engine().state(stage) for stage in four.stages()] == [""] * 4
    # What is stale with both: nothing is made of either, and what there was is there again.
    Path("conf").write_text("b")
    four.scripts |= {"first": "wait('ready'); sys.exit(2)", "other": "open('ready', 'w'); wait('never')"}
    with pytest.raises(SystemExit):
        four.run("1", "4")
    Path("conf").write_text("a")
    assert [four.engine().state(stage) for stage in four.stages()] == [""] * 4


def test_what_was_cut_off_comes_first(four, capfd):
    """Jobs of Slurm may be at work for it; the places are taken by others otherwise."""
    four.at_once = 1
    four.scripts["other"] = "pathlib.Path('go').exists() or sys.exit(3)"
    with pytest.raises(SystemExit):
        four.run("3", "3")
    Path("go").touch()
    capfd.readouterr()
    four.run("1", "4")
    said = [line for line in capfd.readouterr().out.splitlines() if line.endswith("says")]
    assert said == ["other says", "first says", "second says", "last says"]


def test_what_ended_well_beside_a_failure_is_complete(four):
    four.scripts["first"] = "wait('other_made'); time.sleep(0.5); sys.exit(2)"
    with pytest.raises(SystemExit):
        four.run("1", "4")
    assert four.engine().state(four.stages()[2]) == ""


def test_an_interrupt_ends_all_and_is_said_once(four):
    said = "import signal; from frontend.utils.errors import run\n"
    said += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    for name in ("first", "other"):
        four.scripts[name] = f"{said}run(lambda: (open('begun_{name}', 'w'), time.sleep(60)), 'x')"
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "sys.path[:0] = sys.argv[1:]; from test_beside import *; from frontend.utils.errors import run\n"
    code += f"four = Four(); four.scripts = {four.scripts}; run(lambda: four.run('1', '4'), 'me')"
    line = [sys.executable, "-c", code, str(Path(__file__).parent), *sys.path]
    run = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (Path("begun_first").exists() and Path("begun_other").exists()):
        assert run.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)
    os.killpg(run.pid, signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130 and err.count("\n") == 1 and "stage first: interrupted" in err, err


RECIPES = [("mini", ""), ("mini", "--with curve,joint,retrain,controls"), ("mini", "--channels 1")]
RECIPES += [("mini", "--with unsupervised,on_the_fly"), ("any_array", "--with unsupervised")]
RECIPES += [("mini", "--train_seed 1 --with curve"), ("mini", "--asr_exp {asr} --talkers 2-3")]
RECIPES += [("speechocean762_2mix", ""), ("mc_libri2mix", "--librispeech {asr}")]


@pytest.mark.parametrize(("name", "text"), RECIPES)
def test_a_stage_beside_others_waits_for_all_that_its_commands_read(name, text, tmp_path):
    """Every path in the commands that a stage before makes is one of a stage that is waited for."""
    given = options(ROOT / "egs" / name, text.format(asr=tmp_path), listing=True)
    stages = [stage for stage in stages_of(given) if not stage.skip]
    waits: dict[str, set[str]] = {}  # also for what those wait for
    asked = 0
    for place, stage in enumerate(stages):
        direct = [one.name for one in stages[:place] if stage.follows(one)]
        waits[stage.name] = {*direct}.union(*(waits[one] for one in direct))
        words = {Path(w) for command in stage.commands for word in command for w in word.split("=")}
        for before in stages[:place] if stage.beside else ():
            if any(is_below(path, before.makes) for path in words):
                assert before.name in waits[stage.name], (stage.name, before.name)
                asked += 1
            assert not any(is_below(path, before.makes) for path in stage.makes)
    assert asked > 0


def test_how_many_stages_and_threads(tmp_path):
    """Two trainings on two processors; a GPU has one; a job of Slurm has processors of its own."""
    found = {}
    for text in ("--nj 1", "--nj 2", "--nj 16", "--nj 16 --ngpu 1", "--nj 3 --launcher slurm"):
        o = options(ROOT / "egs/mini", text)
        found[text] = o.at_once, o.threads
    assert [*found.values()] == [(1, 1), (2, 1), (4, 4), (1, 16), (4, 3)]
    (tmp_path / "rec").mkdir()
    recordings = options(ROOT / "egs/recordings", f"--recordings {tmp_path}/rec --nj 8 --at_once 2")
    assert (recordings.at_once, recordings.threads) == (1, 8)
    o = options(ROOT / "egs/mini", "--nj 8 --at_once 2")
    teacher = next(stage for stage in stages_of(o) if stage.name == "teacher")
    assert teacher.commands[0][-2:] == ["--num_threads", "4"]
