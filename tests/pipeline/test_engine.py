"""Bookkeeping of the stages: what is complete, stale, cut off; locks; what is printed instead of run."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from frontend.pipeline import engine, stage
from frontend.pipeline.engine import Engine
from frontend.pipeline.launch import Local, shown
from frontend.pipeline.stage import Record, Stage, number_of
from frontend.utils.errors import UserError
from frontend.utils.locks import locked
from frontend.utils.stamps import Stamp


class Toy:
    """A run of one or two stages: ``first`` reads conf and makes model; ``second`` reads that."""

    def __init__(self, exp: Path = Path("exp")):
        self.exp, self.planned, self.place, self.size_name = exp, set(), Path.cwd(), "tiny"
        self.checked, self.conf_written, self.at_once = 0, 0, 1
        self.change = {}

    def write(self) -> None:
        self.conf_written += 1

    def check(self, _=None) -> None:
        self.checked += 1

    def stages(self, _=None) -> list[Stage]:
        code = "import pathlib, sys; p = pathlib.Path('model'); p.mkdir(exist_ok=True); "
        code += "(p / 'weights').write_text('of ' + pathlib.Path('conf').read_text()); print('made')"
        Path("first.py").write_text(code)
        Path("second.py").write_text("open('page', 'w').write(open('model/weights').read())")
        first = Stage("first", "makes it", [Path("conf")], [Path("model")], [["./first.py"]])
        second = Stage(
            "second", "shows it", [Path("model/weights")], [Path("page")], [["./second.py"]], keeps=True
        )
        for name, value in self.change.items():
            setattr(first, name, value)
        return [first, second]

    def engine(self) -> Engine:
        return Engine(self, self.stages, Local(self.exp), self.check)

    def run(self, first: str = "first", last: str = "first") -> None:
        self.engine().run(first, last)

    def record(self, **change) -> Record:
        """The record of the first stage, changed."""
        path = self.engine().record_path(self.stages()[0])
        record = Record.read(path)
        for name, value in change.items():
            setattr(record, name, value)
        record.write(path)
        return record

    def facts(self) -> dict:
        return json.loads((self.exp / "stages.json").read_text())


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("conf").write_text("a")
    return Toy()


def model(suffix: str = "") -> str | None:
    file = Path(f"model{suffix}/weights")
    return file.read_text() if file.exists() else None


def test_complete_is_skipped_and_touching_is_no_change(toy, capsys):
    toy.run()
    os.utime("conf", (1, 1))
    toy.run()
    assert capsys.readouterr().out.count("complete, nothing to do") == 1 and model() == "of a"
    assert toy.checked == 1, "what takes long is checked only where there is something to do"


def test_commands_and_their_output_are_in_the_log(toy, capfd):
    toy.run("1", "2")
    assert capfd.readouterr().out.splitlines()[1] == "made"
    assert (toy.exp / "log/first.log").read_text() == "$ python ./first.py\nmade\n"
    assert shown(["label", "--out", "a b"]) == "python -m frontend label --out 'a b'"


def test_stale_output_is_moved_aside_once(toy, capsys):
    toy.run()
    Path("conf").write_text("b")
    toy.run()
    out = capsys.readouterr().out
    assert "stage first: input conf changed since it was made; its output is stale, moved to *.old" in out
    assert (model(), model(".old")) == ("of b", "of a")
    Path("conf").write_text("c")
    toy.run()
    assert (model(), model(".old")) == ("of c", "of b")


def test_a_refused_command_displaces_nothing(toy, capsys):
    """A wrong option ends with 2 before anything is made: what was moved aside for it comes back."""
    toy.run()
    before = toy.engine().record_path(toy.stages()[0]).read_text()
    Path("refuse.py").write_text("import sys; sys.exit('no such geometry' and 2)")
    toy.change = {"commands": [["./refuse.py"]], "settings": {"geometry": "cube"}}
    with pytest.raises(SystemExit) as end:
        toy.run()
    assert end.value.code == 2 and (model(), model(".old")) == ("of a", None)
    assert toy.engine().record_path(toy.stages()[0]).read_text() == before
    toy.change = {}
    capsys.readouterr()
    toy.run()
    assert "complete, nothing to do" in capsys.readouterr().out


def test_settings_that_changed_are_named(toy):
    toy.change = {"settings": {"student.max_epoch": 3}}
    toy.run()
    toy.change = {"settings": {"student.max_epoch": 4}}
    assert toy.engine().state(toy.stages()[0]) == "setting student.max_epoch changed since it was made"


def test_the_version_of_the_code_belongs_to_what_a_stage_is_made_from(toy, monkeypatch):
    toy.change = {"commands": [["./first.py"], ["label", "--out", "x"]]}
    before = toy.engine().stamp(toy.stages()[0])
    assert {*before.code} == {*stage.CODE["label"]}
    monkeypatch.setattr(engine, "versions", lambda commands: before.code | {"dsp/refine": 99})
    assert (
        toy.engine().stamp(toy.stages()[0]).changed_since(before)
        == "code dsp/refine changed since it was made"
    )


def test_every_version_belongs_to_a_command():
    package = Path(stage.__file__).parents[1]
    found = {
        str(path.relative_to(package).with_suffix(""))
        for path in package.rglob("*.py")
        if re.search(r"^VERSION = \d+", path.read_text(), re.M)
    }
    assert found == {module for modules in stage.CODE.values() for module in modules}
    assert all(stage.versions([[name]]) for name in stage.CODE)


def test_an_unfinished_output_never_replaces_a_complete_old_one(toy):
    toy.run()
    for conf in ("typo", "another"):
        Path("conf").write_text(conf)
        toy.run()
        toy.record(seconds=None)  # as if it were cut off
    assert model(".old") == "of a"


def test_killed_between_moving_aside_and_starting(toy):
    toy.run()
    os.rename("model", "model.old")
    Path("conf").write_text("b")
    toy.run()
    assert (model(), model(".old")) == ("of b", "of a")


def test_cut_off_goes_on_and_counts_both_attempts(toy, capsys):
    toy.run()
    began = time.time() - 1000
    toy.record(seconds=None, began=began)
    for path in ("model/weights", "model"):
        os.utime(path, (began + 100, began + 100))
    toy.run()
    assert "was cut off; going on from what is there" in capsys.readouterr().out
    assert toy.facts()["stages"]["first"] == pytest.approx(100, abs=5)
    assert toy.facts()["attempts"]["first"] == 2
    Path("conf").write_text("b")  # from the start: counted anew
    toy.run()
    assert toy.facts()["stages"]["first"] < 5 and toy.facts()["attempts"]["first"] == 1


def test_mending_a_complete_stage_does_not_shorten_it(toy, capsys):
    toy.run()
    toy.record(seconds=70.0)
    Path("model/weights").write_text("damaged")
    toy.run()
    assert "its output was changed or removed since; running it again" in capsys.readouterr().out
    assert model() == "of a" and toy.facts()["stages"]["first"] == 70.0


def test_left_over_parts_of_the_dead_go_and_of_the_living_stay(toy):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    toy.run()
    toy.record(seconds=None)
    parts = {}
    for pid in (dead.pid, os.getpid()):
        names = (f".model.{pid}.mixit-part", f"model/.x.wav.{pid}.mixit-part", f".model.{pid}.mixit-old")
        parts[pid] = [Path(name) for name in names]
        parts[pid][0].mkdir()
        parts[pid][2].mkdir()
        parts[pid][1].write_text("")
    toy.run()
    assert not any(p.exists() for p in parts[dead.pid]) and all(p.exists() for p in parts[os.getpid()])


def test_keep_leaves_stale_output_in_place(toy, capsys):
    toy.change = {"keeps": True}
    toy.run()
    Path("conf").write_text("b")
    toy.run()
    assert "its output stays in place; what is stale in it is made again" in capsys.readouterr().out
    assert model() == "of b" and model(".old") is None


def test_a_stage_that_is_off_says_why(toy, capsys):
    toy.change = {"skip": "--with it runs it"}
    toy.run()
    assert "stage 1 first: off, --with it runs it" in capsys.readouterr().out and model() is None


def test_a_missing_input_ends_the_run(toy):
    with pytest.raises(
        UserError, match="stage second: model/weights: missing; run the stages before this one first"
    ):
        toy.run("second", "second")


def test_a_command_that_fails_ends_the_run_with_its_code(toy, capfd):
    toy.stages()
    for code, printed in ((2, ""), (3, "stage first: failed; its output is in exp/log/first.log\n")):
        toy.change = {"commands": [["./fail.py"], ["./first.py"]]}
        Path("fail.py").write_text(f"raise SystemExit({code})")
        with pytest.raises(SystemExit) as stop:
            toy.run()
        assert stop.value.code == code and capfd.readouterr().err == printed and model() is None
    Path("fail.py").write_text("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(UserError, match="a command was killed by signal 9; out of memory"):
        toy.run()
    assert toy.engine().state(toy.stages()[0]) == "was cut off"


def test_setup_keeps_the_longest(toy):
    run = toy.engine()
    run.note(setup="40", command="x")
    run.note(setup="1", command="y")
    assert toy.facts() == {"command": "y", "stages": {"setup": 40.0}}


def test_a_broken_record_is_one_line(toy):
    toy.run()
    toy.engine().record_path(toy.stages()[0]).write_text("{")
    with pytest.raises(
        UserError, match="exp/stages/first.json: expected the record of a stage .delete the file"
    ):
        toy.run()


def test_unknown_stages_are_refused(toy):
    for name, message in (
        ("frist", "did you mean 'first'"),
        ("0", "unknown stage '0'"),
        ("3", "unknown stage '3'"),
    ):
        with pytest.raises(UserError, match=message):
            number_of(name, toy.stages())
    with pytest.raises(UserError, match="--stage second comes after --stop_stage first"):
        toy.engine().places("second", "first")


def test_every_stage_tells_its_commit(toy):
    """The page names the code that measured, not the one that made the page."""
    toy.run()
    root = Path(__file__).resolve().parents[2]
    head = subprocess.run(
        ["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    assert toy.facts()["commits"]["first"].removesuffix("+changes") == head
    assert toy.facts()["attempts"] == {"first": 1}


def test_what_experiments_share_has_one_record(toy, capsys):
    """The second finds it complete, and has its seconds in its own record."""
    toy.change = {"shared": Path("shared/stages")}
    toy.run()
    other = Toy(Path("other"))
    other.change = toy.change
    other.run()
    assert "complete, nothing to do" in capsys.readouterr().out and other.facts() == toy.facts()
    assert [path.name for path in Path("shared/stages").iterdir()] == ["first.json"]


def test_one_makes_what_is_shared_and_the_other_waits(toy, capsys):
    toy.change = {"shared": Path("shared/stages")}
    other = threading.Thread(target=toy.run)
    with locked(Path("shared"), 0) as mine:
        assert mine
        other.start()
        while "waiting for another run, which makes what is shared in shared" not in capsys.readouterr().out:
            assert other.is_alive()  # else it did not wait
            time.sleep(0.01)
        assert model() is None
    other.join()
    assert model() == "of a"


def test_two_runs_in_one_experiment_and_what_a_killed_one_left(toy, monkeypatch):
    """A child that outlives its run holds the experiment until it ends."""
    monkeypatch.setattr("frontend.pipeline.engine._PATIENCE_S", 0.3)
    Path("wait.py").write_text("import time; open('begun', 'w'); time.sleep(60)")
    code = "import sys; sys.path[:0] = sys.argv[1:]; from test_engine import *; toy = Toy(); "
    code += "toy.change = {'commands': [['./wait.py']]}; engine = toy.engine()\n"
    code += "with engine.lock(): engine.run('1', '1')"
    paths = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[2])]
    run = subprocess.Popen([sys.executable, "-c", code, *paths], start_new_session=True)
    try:
        while not Path("begun").exists():
            assert run.poll() is None
            time.sleep(0.02)
        for killed in (False, True):
            if killed:
                run.kill()
                run.wait()
            with pytest.raises(UserError, match="exp is in use by another run"), toy.engine().lock():
                pass
    finally:
        os.killpg(run.pid, signal.SIGKILL)
    monkeypatch.setattr("frontend.pipeline.engine._PATIENCE_S", 10)
    with toy.engine().lock():
        toy.run()
    assert model() == "of a"


def test_list_says_what_each_stage_is(toy, capsys):
    toy.engine().list()
    assert capsys.readouterr().out.count("[not run yet]") == 2
    toy.run("1", "2")
    toy.record(seconds=12.3)
    Path("page").unlink()
    capsys.readouterr()
    toy.engine().list()
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "  1  first      makes it [complete, 12 s]"
    assert "second     shows it [its output was changed or removed since" in out[1] and "free disk" in out[2]
    toy.record(seconds=None)
    toy.engine().list()
    assert "[was cut off]" in capsys.readouterr().out


def test_dry_run_prints_what_would_run_and_what_follows_from_it(toy, capsys):
    toy.run("1", "2")
    capsys.readouterr()
    toy.engine().dry_run("1", "2")
    assert capsys.readouterr().out == f"cd {Path.cwd()}\n"
    Path("conf").write_text("b")
    toy.engine().dry_run("1", "2")
    out = capsys.readouterr().out.splitlines()
    assert out[1:] == ["# first: makes it", "python ./first.py", "# second: shows it", "python ./second.py"]
    assert model() == "of a" and toy.checked == 1


def test_adopt_writes_records_of_what_is_complete(toy, capsys):
    toy.run()
    path = toy.engine().record_path(toy.stages()[0])
    path.unlink()
    toy.engine().adopt("1", "2")
    assert "stage 1 first: adopted" in capsys.readouterr().out
    assert toy.engine().state(toy.stages()[0]) == "" and toy.engine().state(toy.stages()[1]) == "not run yet"
    assert Record.read(path).seconds == toy.facts()["stages"]["first"]


def test_adopt_leaves_alone_what_was_cut_off(toy, capsys):
    toy.run()
    path = toy.engine().record_path(toy.stages()[0])
    dataclasses.replace(Record.read(path), seconds=None).write(path)
    toy.engine().adopt("1", "1")
    assert "was cut off, not adopted" in capsys.readouterr().out and Record.read(path).seconds is None


def test_a_record_survives_a_way_through_its_file(tmp_path):
    record = Record(
        Stamp.of({"a": (1, 2)}, {"x": "digest"}), 3.5, 2, 1.0, 2.0, 9.0, {"out": "digest"}, "commit"
    )
    record.write(tmp_path / "r.json")
    assert Record.read(tmp_path / "r.json") == record


def test_how_long_it_will_take(toy, capfd):
    """By the seconds of earlier runs, or a guess that says so."""
    toy.run("1", "second")
    assert "to the end of the run, a guess from other runs)" in capfd.readouterr().out
    toy.engine().note(stages={"first": 700.0, "second": 500.0})
    Path("conf").write_text("b")
    toy.run("1", "second")
    said = capfd.readouterr().out
    assert "(about 12 min; 20 min to the end of the run)" in said and "(about 8 min)" in said


@pytest.mark.parametrize("slower", [1.0, 2.5])
def test_the_guess_follows_the_machine_and_does_not_jump(slower):
    """Each stage takes so many times the guess; what is left changes by no more than a half of itself."""
    names, known, told = "data simulate teacher student distill asr separate".split(), {}, []
    for place, name in enumerate(names):
        found, is_guess = stage.expected_seconds(names[place:], known, "quick")
        assert is_guess
        told.append(sum(found.values()))
        known[name] = slower * stage.QUICK[name]
    truth = [slower * sum(stage.QUICK[name] for name in names[place:]) for place in range(len(names))]
    assert all(new < 1.5 * old for old, new in zip(told[:-1], told[1:], strict=True))
    errors = [abs(said / true - 1) for said, true in zip(told, truth, strict=True)]
    assert errors[-1] < 0.1 and errors == sorted(errors, reverse=True)
    assert slower != 1.0 or max(errors) < 1e-9


def test_seconds_of_other_experiments_of_the_same_size(tmp_path):
    for name, size, seconds in (("a", "cpu", 5.0), ("b", "tiny", 7.0), ("mine", "tiny", 9.0)):
        (tmp_path / name).mkdir()
        facts = {"command": f"./run.sh --size {size}", "stages": {"data": seconds}}
        (tmp_path / name / "stages.json").write_text(json.dumps(facts))
    assert stage.earlier_seconds(tmp_path / "mine") == {"data": 9.0}
    (tmp_path / "mine" / "stages.json").write_text(json.dumps({"command": "x --size tiny"}))
    assert stage.earlier_seconds(tmp_path / "mine") == {"data": 7.0}


@pytest.mark.parametrize("how", ["nobody reads", "interrupt"])
def test_the_end_of_the_reader_or_an_interrupt_ends_the_command_and_is_said_once(toy, how):
    loud = "import signal, sys, time; from frontend.utils.errors import run; open('begun', 'w')\n"
    loud += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    loud += "def work():\n    while True:\n        print('x' * 1000, flush=True)\n        time.sleep(0.01)\n"
    Path("loud.py").write_text(loud + "run(work, 'loud')")
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "sys.path[:0] = sys.argv[1:]; from test_engine import *; from frontend.utils.errors import run\n"
    code += "toy = Toy(); toy.change = {'commands': [['./loud.py']]}\n"
    code += "run(lambda: toy.engine().run('1', '1'), 'me')"
    paths = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[2])]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *paths],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not Path("begun").exists():
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)
    if how == "interrupt":
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130 and err.count("\n") == 1 and "stage first: interrupted" in err, err
    else:
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(60) == 141 and err == ""
