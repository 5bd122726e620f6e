"""Bookkeeping of the stages: what is complete, stale, cut off, put back."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "local"))

import stage_files  # noqa: E402


class Toy:
    """One stage: reads conf, writes the directory model and the file page."""

    def __init__(self, place: Path):
        self.place, self.flags = place, []
        self.conf("a")

    def conf(self, text: str) -> None:
        (self.place / "conf").write_text(text)

    def call(self, *arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, ROOT / "local/stage.py", *arguments, "--exp", "exp"]
        return subprocess.run(command, cwd=self.place, capture_output=True, text=True)

    def begin(self, *more: str) -> subprocess.CompletedProcess:
        return self.call("begin", "s", "--in", "conf", "--out", "model", *more)

    def make(self, text: str) -> None:
        (self.place / "model").mkdir(exist_ok=True)
        (self.place / "model/weights").write_text(text)

    def run(self, text: str, *more: str) -> None:
        assert self.begin(*more).returncode == 0
        self.make(text)
        assert self.call("end", "s").returncode == 0

    def model(self, suffix: str = "") -> str | None:
        file = self.place / f"model{suffix}/weights"
        return file.read_text() if file.exists() else None

    def facts(self) -> dict:
        return json.loads((self.place / "exp/stages.json").read_text())

    def record(self, state: str, **change) -> dict:
        file = self.place / f"exp/stages/s.{state}.json"
        content = {**json.loads(file.read_text()), **change}
        file.write_text(json.dumps(content))
        return content


@pytest.fixture
def toy(tmp_path):
    return Toy(tmp_path)


def test_complete_is_skipped_and_touching_is_no_change(toy):
    toy.run("of a")
    os.utime(toy.place / "conf", (1, 1))
    assert toy.begin().returncode == 10
    assert toy.model() == "of a"


def test_stale_output_is_moved_aside_and_a_typo_undone_costs_nothing(toy):
    toy.run("of a")
    toy.conf("typo")
    begun = toy.begin()
    assert begun.returncode == 0 and "conf changed" in begun.stdout and "moved to *.old" in begun.stdout
    assert toy.model() is None and toy.model(".old") == "of a"
    toy.make("half of typo")
    toy.conf("a")
    begun = toy.begin()
    assert begun.returncode == 10 and "back in place" in begun.stdout
    assert toy.model() == "of a" and toy.model(".old") == "half of typo"
    assert toy.begin().returncode == 10
    # The unfinished output is gone on with as well, should its inputs return.
    toy.conf("typo")
    begun = toy.begin()
    assert begun.returncode == 0 and toy.model() == "half of typo" and toy.model(".old") == "of a"


def test_two_complete_outputs_change_places(toy):
    toy.run("of a")
    toy.record("done", seconds=50.0)
    toy.conf("b")
    toy.run("of b")
    for conf, other in ("ab", "ba", "ab"):
        toy.conf(conf)
        assert toy.begin().returncode == 10
        assert (toy.model(), toy.model(".old")) == (f"of {conf}", f"of {other}")
    assert toy.facts()["stages"]["s"] == 50.0


def test_killed_in_the_middle_of_changing_places(toy):
    """Files of the same size, as two trainings of one network leave: only half of them is back in place."""
    more, second = ("--out", "model", "second"), toy.place / "second"
    for conf in "ab":
        toy.conf(conf)
        assert toy.begin(*more).returncode == 0
        toy.make(f"of {conf}")
        second.write_text(f"of {conf}")
        toy.call("end", "s")
    for source, target in (("model", "x"), ("model.old", "model"), ("x", "model.old")):
        os.rename(toy.place / source, toy.place / target)
    toy.conf("a")
    assert toy.begin(*more).returncode == 10
    assert (toy.model(), second.read_text()) == ("of a", "of a")
    assert toy.model(".old") == (toy.place / "second.old").read_text() == "of b"


def test_damaged_old_output_is_not_put_back(toy):
    toy.run("of a")
    toy.conf("b")
    toy.run("of b")
    (toy.place / "model.old/weights").write_text("of a, but longer")
    toy.conf("a")
    assert toy.begin().returncode == 0
    assert toy.model() is None and toy.model(".old") == "of b"


def test_an_unfinished_output_never_replaces_a_complete_old_one(toy):
    toy.run("of a")
    for conf in ("typo", "another"):
        toy.conf(conf)
        assert toy.begin().returncode == 0
        toy.make("half")
    assert toy.model(".old") == "of a"
    toy.conf("a")
    assert toy.begin().returncode == 10 and toy.model() == "of a"


def test_killed_while_moving_aside_nothing_is_lost(toy):
    """Killed after the move and before the new start was recorded."""
    toy.run("of a")
    toy.conf("b")
    toy.begin()
    os.rename(toy.place / "exp/stages/s.started.json", toy.place / "gone")
    shutil.copy(toy.place / "exp/stages/s.old.json", toy.place / "exp/stages/s.done.json")
    assert toy.begin().returncode == 0 and toy.model(".old") == "of a"
    toy.conf("a")
    assert toy.begin().returncode == 10 and toy.model() == "of a"


def test_cut_off_goes_on_and_counts_both_attempts(toy):
    toy.begin()
    toy.make("half")
    now = toy.record("started")["time"]
    toy.record("started", time=now - 1000)
    os.utime(toy.place / "model/weights", (now - 900, now - 900))
    os.utime(toy.place / "model", (now - 950, now - 950))
    begun = toy.begin()
    assert begun.returncode == 0 and "was cut off; going on" in begun.stdout and toy.model() == "half"
    toy.record("started", time=toy.record("started")["time"] - 10)
    toy.call("end", "s")
    assert toy.facts()["stages"]["s"] == pytest.approx(110, abs=3)
    assert toy.facts()["attempts"]["s"] == 2
    toy.conf("b")  # from the start: counted anew
    toy.run("of b")
    assert toy.facts()["stages"]["s"] < 5 and toy.facts()["attempts"]["s"] == 1


def test_mending_a_complete_stage_does_not_shorten_it(toy):
    toy.run("of a")
    toy.record("done", seconds=70.0)
    (toy.place / "model/weights").write_text("damaged")
    begun = toy.begin()
    assert begun.returncode == 0 and "changed or removed" in begun.stdout
    toy.call("end", "s")
    assert toy.facts()["stages"]["s"] == 70.0


def test_left_over_parts_of_the_dead_go_and_of_the_living_stay(toy):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    toy.begin()
    toy.make("half")
    parts = {}
    for pid in (dead.pid, os.getpid()):
        parts[pid] = [toy.place / f".model.{pid}.part", toy.place / f"model/.x.wav.{pid}.part"]
        parts[pid][0].mkdir()
        parts[pid][1].write_text("")
    toy.begin()
    assert not any(p.exists() for p in parts[dead.pid])
    assert all(p.exists() for p in parts[os.getpid()])


def test_keep_leaves_stale_output_in_place(toy):
    toy.run("of a", "--keep")
    toy.conf("b")
    begun = toy.begin("--keep")
    assert begun.returncode == 0 and "conf changed" in begun.stdout
    assert toy.model() == "of a" and toy.model(".old") is None


def test_overwritten_output_is_checked_but_never_moved(toy):
    page = toy.place / "page"
    page.write_text("of a")
    toy.run("of a", "--overwrite", "page")
    assert toy.begin("--overwrite", "page").returncode == 10
    toy.conf("b")
    toy.run("of b", "--overwrite", "page")
    assert page.read_text() == "of a" and not (toy.place / "page.old").exists()
    toy.conf("a")  # the model of a cannot be put back beside the page of b
    assert toy.begin("--overwrite", "page").returncode == 0
    toy.call("end", "s")
    page.unlink()
    assert toy.begin("--overwrite", "page").returncode == 0


def test_setup_keeps_the_longest(toy):
    toy.call("note", "--param", "setup=40", "command=x")
    toy.call("note", "--param", "setup=1", "command=y")
    assert toy.facts() == {"command": "y", "stages": {"setup": 40.0}}


def test_bookkeeping_errors_are_one_line(toy):
    def expect(done, message):
        assert done.returncode == 2 and message in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr

    expect(toy.call("begin", "s", "--in", "nothing"), "run the stages before this one first")
    toy.run("of a")
    (toy.place / "exp/stages/s.done.json").write_text("{")
    expect(toy.begin(), "s.done.json: not as stage.py wrote it; remove it")
    shutil.rmtree(toy.place / "exp")
    (toy.place / "exp").write_text("a file")
    expect(toy.begin(), "exp")


def test_what_experiments_share_has_one_record(toy):
    """The second finds it made, and is told how long that took."""
    other = [sys.executable, ROOT / "local/stage.py", "begin", "s", "--exp", "other", "--record", "shared"]
    other += ["--in", "conf", "--out", "model"]
    assert toy.begin("--record", "shared").returncode == 0
    toy.make("of a")
    assert toy.call("end", "s", "--record", "shared").returncode == 0
    assert subprocess.run(other, cwd=toy.place).returncode == 10
    facts = json.loads((toy.place / "other/stages.json").read_text())
    assert facts == toy.facts() and facts["attempts"] == {"s": 1}
    assert {path.name for path in (toy.place / "shared").iterdir()} == {"s.done.json"}
    toy.conf("b")
    assert subprocess.run(other, cwd=toy.place).returncode == 0
    assert toy.model(".old") == "of a"


def test_every_stage_tells_its_commit(toy):
    """The page names the code that measured, not the one that made the page."""
    toy.run("one")
    head = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    assert toy.facts()["commits"]["s"].removesuffix("+changes") == head
    assert toy.facts()["attempts"] == {"s": 1}


LARGE = stage_files._HASH_AT_MOST + 1


def _large(file: Path, first: bytes) -> Path:
    """A file of more bytes than are hashed inside a directory, nearly all of them holes; of a fixed time."""
    with open(file, "wb") as opened:
        opened.write(first)
        opened.truncate(LARGE)
    os.utime(file, (1, 1))
    return file


def test_large_networks_of_the_same_size_differ(tmp_path):
    """A model trained again is as large as before."""
    model = tmp_path / "valid.loss.ave.pth"
    before, again, other = (stage_files.fingerprint(_large(model, first)) for first in (b"a", b"a", b"b"))
    assert before == again != other


def test_archives_beside_a_corpus_are_never_read(tmp_path, monkeypatch):
    """Unpacked corpora lie beside archives of 23 GB; these are told apart by name, size and time."""
    archive = _large(tmp_path / "train-clean-360.tar.gz", b"a")
    (tmp_path / "README").write_text("small")
    opened = []
    monkeypatch.setattr(
        stage_files, "_add_content", lambda digest, file: (opened.append(file.name), digest.update(b"x"))
    )
    before = stage_files.fingerprint(tmp_path)
    assert opened == ["README"] and stage_files.fingerprint(tmp_path) == before
    os.utime(archive, (2, 2))
    assert stage_files.fingerprint(tmp_path) != before
    by_size = stage_files.fingerprint(tmp_path, by_size=True)
    os.utime(archive, (3, 3))
    assert stage_files.fingerprint(tmp_path, by_size=True) == by_size


def test_content_is_read_in_blocks(tmp_path, monkeypatch):
    (tmp_path / "text").write_bytes(bytes(range(256)) * 10)
    whole = [stage_files.fingerprint(path) for path in (tmp_path, tmp_path / "text")]
    monkeypatch.setattr(stage_files, "_BLOCK", 100)
    assert [stage_files.fingerprint(path) for path in (tmp_path, tmp_path / "text")] == whole
    # As every record on disk has it: name, size, content.
    known = hashlib.sha256(b"text\x002560\0" + bytes(range(256)) * 10).hexdigest()
    assert whole[0] == known
