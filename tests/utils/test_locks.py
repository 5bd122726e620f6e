"""Two runs at once, what killed ones left, names that are too long, temporary files, outputs nobody reads."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from examples import many
from hypothesis import assume, given
from hypothesis import strategies as st

from frontend.utils import errors, files, locks, parallel
from frontend.utils.errors import UserError
from frontend.utils.files import atomic_directory, atomic_file, scratch, write_text
from frontend.utils.locks import locked, working_in

ROOT = Path(files.__file__).parents[2]


def in_child(work):
    """Start a function in a forked child; its exit code is 0 if it returns true."""
    child = multiprocessing.get_context("fork").Process(target=lambda: os._exit(0 if work() else 1))
    child.start()
    return child


def is_free(directory, **options):
    def work():
        with locked(directory, **options) as mine:
            return mine

    child = in_child(work)
    child.join()
    return child.exitcode == 0


class TestLock:
    def test_one_at_a_time_parts_together_and_nothing_left(self, tmp_path):
        out = tmp_path / "deep" / "out"
        with working_in(out):
            assert not is_free(out) and not is_free(out, shared=True)
        assert not (tmp_path / "deep").exists(), "what was made for the lock goes again"
        with working_in(out, shared=True):
            assert is_free(out, shared=True) and not is_free(out)
            (out / "a").touch()
        assert [path.name for path in out.iterdir()] == ["a"] and is_free(out)

    def test_the_second_is_one_line_that_names_the_directory(self, tmp_path):
        def work():
            with pytest.raises(UserError, match=f"{tmp_path}: .* another run at work .*wait for its end"):
                with working_in(tmp_path, patience_s=0.0):
                    pass
            return True

        with working_in(tmp_path):
            child = in_child(work)
            child.join()
        assert child.exitcode == 0

    def test_it_ends_with_a_kill_and_goes_with_a_replaced_directory(self, tmp_path):
        def work():
            with working_in(tmp_path / "out"):
                with atomic_directory(tmp_path / "out") as part:
                    (part / "begun").touch()
                time.sleep(60)

        child = in_child(work)
        while not (tmp_path / "out" / "begun").exists():
            time.sleep(0.01)
        assert not is_free(tmp_path / "out"), "the new directory is held as the old one was"
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert is_free(tmp_path / "out")

    def test_children_work_where_their_parent_does(self, tmp_path):
        with working_in(tmp_path):
            code = "import sys; from frontend.utils.locks import working_in\n"
            code += "with working_in(sys.argv[1], patience_s=0): pass"
            line = [sys.executable, "-c", code, str(tmp_path)]
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            assert subprocess.run(line, env=environment, capture_output=True).returncode
            assert not subprocess.run(line, env=environment | locks.held()).returncode
            assert not is_free(tmp_path)

    def test_where_nothing_can_be_written_or_locked(self, tmp_path, monkeypatch, capfd):
        def fails(number):
            def flock(*_):
                raise OSError(number, os.strerror(number))

            return flock

        monkeypatch.setattr("fcntl.flock", fails(errno.ENOLCK))
        with locked(tmp_path) as mine:
            assert mine
        assert "cannot be locked" in capfd.readouterr().err
        monkeypatch.setattr("builtins.open", lambda *_, **__: fails(errno.EROFS)())
        with locked(tmp_path) as mine:
            assert mine


def aside(name, pid, kind="part"):
    return f".{name}.{pid}.mixit-{kind}"


def test_what_the_dead_left_goes_and_an_old_one_comes_back(tmp_path):
    out, dead = tmp_path / "out", subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine = {"wav", f"wav/{aside('c.wav', os.getpid())}", "kept.old", ".notes.2023.old", ".draft.99999.part"}
    mine |= {".lock"}
    for name in ("wav", "kept.old"):
        (out / name).mkdir(parents=True)
    for name in (*mine - {"wav", "kept.old"}, aside("a.json", dead.pid), f"wav/{aside('b.wav', dead.pid)}"):
        (out / name).write_text("of somebody")
    (out / aside("set~1", dead.pid, "old")).mkdir()
    for name in ("out", "other"):
        (tmp_path / aside(name, dead.pid)).mkdir()
    with working_in(out, shared=True):
        assert (out / aside("a.json", dead.pid)).exists(), "a part of the work removes nothing"
    with working_in(out):
        pass
    assert {str(path.relative_to(out)) for path in out.rglob("*")} == mine | {"set~1"}
    assert {path.name for path in tmp_path.iterdir()} == {"out", aside("other", dead.pid)}
    assert (out / ".lock").read_text() == "of somebody"
    out.rename(tmp_path / aside("out", dead.pid, "old"))
    files.remove_left_over(out)
    assert (out / "set~1").is_dir()


@pytest.mark.parametrize("name", ["n" * 255, "会" * 85, "a" * 240 + ".flac", "é" * 127])
def test_the_longest_names_are_written(tmp_path, name):
    write_text(tmp_path / name, "a")
    with atomic_directory(tmp_path / "d" / name) as part:
        (part / "x").touch()
    with atomic_file(tmp_path / (name[:-1] + "b")) as first, atomic_file(tmp_path / name) as second:
        assert first != second, "their beginnings are the same"
        first.touch()
        second.write_text("c")
    assert (tmp_path / name).read_text() == "c" and (tmp_path / "d" / name / "x").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_longer_names_are_one_line_before_anything_is_written(tmp_path):
    for name, length in (("n" * 256, 256), ("会" * 86, 258)):
        with pytest.raises(UserError, match=f"expected a name of at most 255 bytes, found {length}"):
            with atomic_file(tmp_path / name):
                pytest.fail("it was begun")
    deep = tmp_path.joinpath(*["d" * 200] * 25)
    with pytest.raises(UserError, match="expected a path of at most 4095 bytes"):
        files.check_name(deep)
    assert not any(tmp_path.iterdir())


@many
@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="/\0"), min_size=1, max_size=300))
def test_any_name_is_written_or_refused(name):
    assume(name not in (".", ".."))
    with tempfile.TemporaryDirectory() as folder:
        _write_or_refuse(Path(folder), name)


def _write_or_refuse(folder, name):
    try:
        write_text(folder / name, name)
    except UserError as error:
        assert len(os.fsencode(name)) > 255 and "at most 255 bytes" in str(error)
        assert not any(folder.iterdir())
    else:
        assert [path.name for path in folder.iterdir()] == [name]


def test_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError) as error, atomic_file(tmp_path / "a.json"):
        raise OSError(errno.ENOSPC, "full")
    assert error.value.filename == str(tmp_path / "a.json")


class TestTemporaryFiles:
    def test_they_lie_where_the_variable_says_and_go(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        with scratch(lambda folder: (folder / "a").touch()) as folder:
            assert folder.parent == tmp_path and (folder / "a").exists()
        assert not any(tmp_path.iterdir())

    def test_a_directory_that_is_none_or_full(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
        with pytest.raises(UserError, match=f"TMPDIR={tmp_path}/none: expected a directory"), scratch():
            pass
        monkeypatch.setenv("TMPDIR", str(tmp_path))

        def fill(folder):
            raise OSError(errno.ENOSPC, "full")

        with pytest.raises(UserError, match=f"{tmp_path}: .*No space left.* variable TMPDIR"), scratch(fill):
            pass

        def elsewhere(*_, **__):
            raise OSError(errno.EROFS, "read-only", str(tmp_path / "x"))

        monkeypatch.setattr("tempfile.mkdtemp", elsewhere)
        with pytest.raises(UserError, match=f"{tmp_path}: .*Read-only.* variable TMPDIR"), scratch():
            pass

    def test_another_full_disk_is_not_theirs(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        with pytest.raises(OSError, match="full"), scratch():
            raise OSError(errno.ENOSPC, "full", "/elsewhere")


PRINTS = (
    "from frontend.utils.errors import run; run(lambda: [print('x' * 100) for _ in range(2000)] and 0, 'me')"
)


@pytest.mark.parametrize(
    "line",
    [
        ["-c", PRINTS],
        ["-m", "frontend", "--help"],
        ["-m", "frontend", "data", "subset", "--help"],
        ["-m", "frontend", "data"],
        ["-m", "frontend", "--version"],
        ["-m", "frontend", "run", "--list"],
    ],
    ids=lambda line: " ".join(line)[:40],
)
def test_output_that_nobody_reads_is_silent(line):
    read, write = os.pipe()
    os.close(read)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *line], stdout=write, stderr=subprocess.PIPE, text=True, env=environment
    )
    os.close(write)
    usage = line[-1] == "data"
    assert (done.stderr == "" or usage) and "Traceback" not in done.stderr
    assert done.returncode in ([2] if usage else [errors.CLOSED, 1])  # click's own --help ends with 1


@pytest.mark.parametrize("closed", ["1", "2", "1,2"])
def test_closed_outputs(closed, tmp_path):
    redirected = " ".join(f"{number}>&-" for number in closed.split(","))
    script = f"{sys.executable} -m frontend data check {tmp_path}/none {redirected}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (
        "" if "2" in closed else f"{tmp_path}/none: expected a data directory, found nothing\n"
    )


def test_a_full_standard_output_is_one_line():
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PRINTS], stdout=full, stderr=subprocess.PIPE, text=True, env=environment
        )
    assert done.returncode == 2 and "No space left on device (make room" in done.stderr
    assert done.stderr.startswith("me: error: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ImportError, SystemError])
def test_an_interrupt_in_the_middle_of_an_import_is_one_line(kind, capfd):
    def work():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise kind("numpy was not imported") from error

    with pytest.raises(SystemExit) as stop:
        errors.run(work, "me")
    assert stop.value.code == 130
    assert capfd.readouterr().err == "me: interrupted; run the same command again\n"


def test_errors_are_signed_with_what_was_typed(monkeypatch, capfd):
    def work():
        raise UserError("wrong")

    for typed, name in ((None, "mixit data check"), ("./run.sh", "./run.sh")):
        if typed:
            monkeypatch.setenv(errors.TYPED, typed)
        with pytest.raises(SystemExit):
            errors.run(work, "mixit data check")
        assert capfd.readouterr().err == f"{name}: error: wrong\n"


def test_progress_of_no_steps_and_of_nothing(monkeypatch, capfd):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setenv(parallel.LEFT_AFTER, "3600")
    for total in (0, 100):
        shown = parallel.Progress(total, "work")
        for steps in (0, 1, 0, 0, 9, 0):
            clock[0] += 20
            shown.step(steps)
        shown.close()
    said = capfd.readouterr().err.splitlines()
    assert said and said[0] == "work: 10/100, about 10 min left, 70 min in the whole run"
