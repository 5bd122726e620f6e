"""What the driver of egs/recordings holds to be the same run, with steps that do nothing."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Instead of Python: bookkeeping as it is, and steps that leave the files which the next ones look for.
STEPS = f"""\
#!/usr/bin/env bash
case $1 in
  *stage.py) exec {sys.executable} "$@" ;;
  *recogniser_of.py) cat "$3"/* | cksum; exit ;;
esac
geometry=$(sed -n 's/.*--geometry \\([^ ]*\\).*/\\1/p' <<<"$*") writes=
for word in "$@"; do
  case $word in
    --out | --output_dir) writes=true; continue ;;
    --*) writes= ;;
  esac
  [ -n "$writes" ] || continue
  mkdir -p "$word/system"
  echo weights >"$word/valid.loss.ave.pth"
  echo "4 $geometry 0" >"$word/array"
done
"""


def _script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


class Driver:
    """A copy of the recipe and of what it shares, and recordings, a table of them and a recogniser."""

    def __init__(self, place: Path):
        self.place = place
        shutil.copytree(ROOT / "egs/recordings/conf", place / "egs/recordings/conf")
        for name in (
            "egs/recordings/local/recordings.sh",
            *(f"local/{n}" for n in ("common.sh", "stage.py", "stage_files.py")),
        ):
            _script(place / name, (ROOT / name).read_text())
        _script(place / "local/install.sh", f"#!/bin/sh\necho {place}/bin\n")
        _script(place / "bin/python3", STEPS)
        for name in ("v1.0/kitchen/a.wav", "v1.0/wav.table.scp", "words.stm", "asr/model.pth"):
            _script(place / name, "")

    def run(self, *options: str, recordings: str = "v1.0/kitchen") -> str:
        script = self.place / "egs/recordings/local/recordings.sh"
        command = [script, "--recordings", recordings, "--size", "tiny", "--nj", "1", *options]
        done = subprocess.run(command, cwd=self.place, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def driver(tmp_path):
    return Driver(tmp_path)


def test_what_the_trainings_are_made_with_trains_again(driver):
    driver.run("--stop_stage", "student")
    options = ["--stop_stage", "student"]
    assert driver.run(*options).count("complete, nothing to do") == 5
    for option, value, name in (
        ("seed", "1", "seed"),
        ("fs", "16000", "fs"),
        ("geometry", "circular", "symmetry"),
    ):
        options += [f"--{option}", value]
        said = driver.run(*options)
        for stage in ("teacher", "student"):
            changes = said.partition(f"stage {stage}: ")[2].partition(" changed since it ran")[0]
            assert name in changes.split(", "), said


def test_another_model_of_the_recogniser_recognises_again(driver):
    options = ["--transcripts", "words.stm", "--asr_exp", "asr"]
    driver.run(*options, "--stop_stage", "recognise")
    again = [*options, "--stage", "recognise", "--stop_stage", "recognise"]
    assert "complete, nothing to do" in driver.run(*again)
    (driver.place / "asr/model.pth").write_text("trained again")
    assert "stage recognise: recogniser changed" in driver.run(*again)


@pytest.mark.parametrize(
    ("recordings", "tag"),
    [("v1.0/kitchen", "kitchen_tiny"), ("v1.0", "v1_0_tiny"), ("v1.0/wav.table.scp", "wav_table_tiny")],
)
def test_results_are_named_after_the_folder_or_the_table(driver, recordings, tag):
    driver.run("--stop_stage", "data", recordings=recordings)
    assert [p.name for p in (driver.place / "egs/recordings/exp").iterdir()] == [tag]
