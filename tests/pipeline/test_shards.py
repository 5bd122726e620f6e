"""Work in parts, as an array of jobs does it: two parts, then the tables; the same as in one piece."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from golden import digest
from recipes import ROOT
from speech_sets import make_scenes, make_speech
from tiny_recognisers import make_spoken

from frontend.simulation.config import SceneConfig

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
CLOCK = ("info.json", ".items.jsonl", "cache.jsonl")  # and the order in which words were found


def result(folder: Path) -> dict[str, str]:
    """Digests of what was made, without what the clock says."""
    return {name: value for name, value in digest(folder.resolve()).items() if not name.endswith(CLOCK)}


def both_ways(command, name: str, out: str, *options: object) -> str:
    """Make ``out`` in one piece and in two parts, which begin together; compare. Return what was printed."""
    words = [*map(str, options)]
    code, _, err = command(name, *words)
    assert code == 0, err
    whole = result(Path(out))
    assert whole
    shutil.rmtree(out)
    line = [sys.executable, "-m", "frontend", *name.split(), *words, "--shard"]
    parts = [subprocess.Popen([*line, f"{k}/2"], env=ENVIRONMENT) for k in (1, 2)]
    assert [part.wait() for part in parts] == [0, 0]
    assert not (Path(out) / "wav.scp").exists()
    code, printed, err = command(name, *words)
    assert code == 0, err
    assert result(Path(out)) == whole
    return printed


@pytest.mark.parametrize("how", [("--audio_format", "flac"), ("--on_the_fly",)])
def test_rendering(here, command, how):
    speech = make_speech(here / "speech", speakers=4, seconds=0.3)
    make_scenes(Path("scenes.jsonl"), speech, SceneConfig(), 3)
    printed = both_ways(
        command,
        "simulate render",
        "set",
        "--scenes",
        "scenes.jsonl",
        "--speech",
        "speech",
        "--out",
        "set",
        *how,
    )
    assert "0 rendered now" in printed or "(0 computed now)" in printed


def test_labels(here, command, data, models):
    options = ["--model", models / "teacher", "--data", "data", "--out", "targets", "--rule", "energy"]
    both_ways(command, "label", "targets", *options, "--reference", "data")


def test_streams_and_scores(here, command, data, models):
    rows = "mixture: {}\noracle: {}\nauxiva: {blind: auxiva, iterations: 2}\n"
    rows += "teacher: {model: teacher, rule: energy}\n"
    Path("systems.yaml").write_text(rows + "student: {model: student}\n")
    both_ways(
        command,
        "separate",
        "out",
        "--systems",
        "systems.yaml",
        "--exp",
        models,
        "--data",
        "data",
        "--out",
        "out",
    )
    printed = both_ways(
        command,
        "score",
        "scores",
        "--data",
        "data",
        "--separated",
        "out",
        "--out",
        "scores",
        "--measures",
        "sdr",
    )
    assert "5 systems, 5 of them current" in printed


def test_words(here, command, recognisers):
    names = {
        "data": "data",
        "separated": "separated",
        "speech": "speech",
        "systems": "systems.yaml",
        "exp": "exp",
    }
    options = [word for name, value in names.items() for word in (f"--{name}", value)]
    make_spoken(Path())
    Path("systems.yaml").write_text(
        "mixture: {}\nmodel: {model: student}\nswapped: {model: swapped}\noracle: {}\n"
    )
    Path("decode.yaml").write_text("beam_size: 2\n")
    options += ["--config", "decode.yaml", "--asr", recognisers / "asr", "--out", "decoded"]
    printed = both_ways(command, "decode", "decoded", *options)
    assert "5 systems, 5 of them recognised before" in printed


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3"])
def test_a_part_is_one_of_several(command, text):
    code, _, err = command("score", "--data", "d", "--separated", "s", "--out", "o", "--shard", text)
    assert code == 2 and f"--shard: expected I/N, such as 1/8, found {text}" in err
