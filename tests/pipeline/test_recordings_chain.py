"""egs/recordings end to end on a minute of sound: from files to the report; repeated, adapted, misused."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from opened import opened
from tiny_recognisers import make_recogniser

from frontend.data.audio import audio_info, read_audio
from frontend.data.kaldi import read_scp, write_scp
from frontend.data.mixtures import find_streams
from frontend.data.segments import write_references

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "egs/recordings/run.sh"
STAGES = "data chunks teacher pseudo student separate recognise report".split()
FS, MICS = 8000, 4
pytestmark = pytest.mark.chain


def _run(folder: Path, *options: str) -> subprocess.CompletedProcess:
    command = [str(RUN), "--size", "tiny", "--nj", "1", *options]
    if "--out_dir" not in options:
        command += ["--out_dir", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def _meeting(seconds: int, seed: int) -> np.ndarray:
    """Two noises of speech's rhythm that arrive with delays of their own, and a little noise: (C, T)."""
    rng = np.random.default_rng(seed)
    found = 1e-4 * rng.standard_normal((MICS, seconds * FS))
    for delays in ((0, 1, 2, 1), (0, -1, 0, 2)):
        dry = rng.standard_normal(seconds * FS)
        syllables = np.repeat(rng.random(seconds * 5) ** 2, FS // 5)
        turns = np.repeat(rng.random(seconds // 5 + 1) < 0.6, 5 * FS)[: len(dry)]
        dry = 0.1 * dry * syllables * turns
        found += np.stack([np.roll(dry, delay) for delay in delays])
    return found.clip(-0.99, 0.99)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A multi-channel recording of 45 s, and one of 30 s with a file a channel; the truth beside them."""
    out = tmp_path_factory.mktemp("field")
    (out / "in").mkdir()
    soundfile.write(out / "in/first.wav", _meeting(45, 0).T, FS)
    for k, channel in enumerate(_meeting(30, 1), 1):
        soundfile.write(out / f"in/second_ch{k}.wav", channel, FS)
    (out / "wav").mkdir()
    for name, path in (("first", out / "in/first.wav"), ("second", out / "in/second_ch1.wav")):
        for k in (1, 2):
            shutil.copy(path, out / f"wav/{name}_spk{k}.wav")
    for k in (1, 2):
        table = {name: str(out / f"wav/{name}_spk{k}.wav") for name in ("first", "second")}
        write_scp(out / f"spk{k}.scp", table)
    turns = [("first", "a", 1.0, 9.0, "one"), ("second", "b", 2.0, 8.0, "two")]
    keys = ("session_id", "speaker", "start_time", "end_time", "words")
    write_references(out, [dict(zip(keys, turn, strict=True)) for turn in turns])
    return out


@pytest.fixture(scope="module")
def watched(folder) -> tuple[Path, set[Path] | None]:
    """The whole recipe has run; which of the recordings and of the truth it opened."""
    with opened([path for path in folder.rglob("*") if path.is_file()]) as files:
        ran = _run(folder, "--recordings", str(folder / "in"))
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    assert "recognise: off, --transcripts and --asr_exp run it" in ran.stdout
    return folder, files


@pytest.fixture(scope="module")
def done(watched) -> Path:
    return watched[0]


def test_streams_and_report(done):
    exp, data = done / "exp/in_tiny", done / "data/in_tiny"
    wav = read_scp(data / "whole/wav.scp")
    assert list(wav) == ["first", "second"]
    systems = ["mixture", "auxiva", "auxiva+mask", "teacher_spatial_merge", "student", "student+iva+mask"]
    for name in systems:
        for recording_id, entry in wav.items():
            for table in find_streams(exp / "separated" / name, wav):
                assert audio_info(table[recording_id]) == (1, *audio_info(entry)[1:])
    mixture, _ = read_audio(wav["first"])
    streams = [read_audio(t["first"])[0][0] for t in find_streams(exp / "separated/student", wav)]
    assert np.abs(sum(streams) - mixture[0]).max() < 0.01, "masks share the reference channel"
    report = json.loads((exp / "report.json").read_text())
    assert list(report["systems"]) == systems
    assert report["recordings"] == {"first": 45.0, "second": 30.0}
    assert np.isfinite(report["teacher"]["teacher"]["loss"]) and report["teacher"]["teacher"]["n"] >= 2
    page = (exp / "REPORT.md").read_text()
    assert all(f"`{name}`" in page for name in systems)
    assert str(done) not in page and str(ROOT) not in page


def test_no_truth_is_looked_at(watched):
    """As mixit simulate meetings leaves it: spk1.scp, the images it names and ref.* beside the recordings."""
    folder, files = watched
    if files is None:
        pytest.skip("needs inotify, to see what is opened")
    assert (folder / "ref.rttm").is_file() and (folder / "wav/first_spk1.wav").is_file()
    assert {path.relative_to(folder).as_posix() for path in files} == {
        "in/first.wav",
        *(f"in/second_ch{k}.wav" for k in range(1, MICS + 1)),
    }


def test_a_second_run_does_nothing_and_an_adapted_one_starts_from_it(done):
    again = _run(done, "--recordings", str(done / "in"))
    assert again.returncode == 0 and again.stdout.count("complete, nothing to do") == len(STAGES) - 1
    start = done / "exp/in_tiny"
    options = ["--recordings", str(done / "in"), "--init_model", str(start), "--tag", "adapted"]
    adapted = _run(done, *options, "--stop_stage", "student")
    assert adapted.returncode == 0, adapted.stdout[-3000:] + adapted.stderr[-3000:]
    assert (done / "exp/adapted_tiny/start").resolve() == start / "student"
    for network in ("teacher", "student"):  # two small steps away from where it started
        before, after = (
            torch.load(exp / network / "valid.loss.ave.pth") for exp in (start, done / "exp/adapted_tiny")
        )
        moved = max(float((after[key].float() - before[key].float()).abs().max()) for key in before)
        assert 0 < moved < 0.01
    other = _run(
        done, "--recordings", str(done / "in"), "--init_model", str(start), "--tag", "x", "--fs", "4000"
    )
    assert other.returncode == 2 and "trained for 8000 Hz, expected 4000" in other.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--recordings is missing"),
        (["--recordings", "nowhere"], "--recordings nowhere: expected a file or directory"),
        (["--recording", "x"], "unknown option --recording (did you mean recordings?)"),
        (["--recordings", "{in}", "--size", "huge"], "unknown size 'huge'"),
        (["--recordings", "{in}", "--talkers", "1"], "--talkers 1: expected 2 to 4"),
        (["--recordings", "{in}", "--transcripts", "{in}"], "--transcripts and --asr_exp belong together"),
        (["--recordings", "{in}", "--init_model", "{in}"], "expected a trained teacher in it"),
        (
            ["--recordings", "{in}", "--geometry", "round"],
            "--geometry round: expected circular, linear, none",
        ),
        (["--recordings", "{in}", "--fs", "16000"], "8000 Hz, expected 16000 Hz or more"),
        (["--recordings", "{in}", "--rttm", "{in}", "--segments", "{in}"], "give one of them"),
        (["--recordings", "{in}", "--stage", "report", "--stop_stage", "data"], "comes after"),
    ],
)
def test_misuse_is_one_line(folder, tmp_path, options, message):
    ran = _run(tmp_path, *[option.replace("{in}", str(folder / "in")) for option in options])
    assert ran.returncode == 2 and message in ran.stderr, ran.stderr
    assert "Traceback" not in ran.stderr and len(ran.stderr.strip().splitlines()) == 1


def test_transcripts_of_other_recordings_are_found_before_the_training(folder, tmp_path):
    asr = make_recogniser(tmp_path / "asr")
    (tmp_path / "ref.stm").write_text("first 1 a 0 1 one\nsecnd 1 a 0 1 one\n")
    options = ["--recordings", str(folder / "in"), "--transcripts", str(tmp_path / "ref.stm")]
    for again in (False, True):
        ran = _run(tmp_path, *options, "--asr_exp", str(asr), "--stop_stage", "chunks")
        assert ran.returncode == 2 and "has no recording 'secnd'" in ran.stderr, ran.stderr
        assert ("stage 1 data: complete" in ran.stdout) is again and "chunks" not in ran.stdout
        assert len(ran.stderr.strip().splitlines()) == 1


def test_list_and_help():
    listed = subprocess.run([RUN, "--list"], capture_output=True, text=True, env=os.environ)
    assert [line.split()[1] for line in listed.stdout.splitlines()] == STAGES
    text = subprocess.run([RUN, "--help"], capture_output=True, text=True).stdout
    assert re.search(r"--recordings +the folder", text) and "--init_model" in text
