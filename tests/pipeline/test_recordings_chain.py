"""egs/recordings end to end on a minute of sound: from files to the report; repeated, adapted, misused."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from golden import meeting
from opened import opened
from recipes import ROOT
from tiny_recognisers import make_recogniser

from frontend.data.audio import audio_info, read_audio
from frontend.data.kaldi import read_scp, write_scp
from frontend.data.mixtures import find_streams
from frontend.data.segments import write_references

STAGES = "data chunks teacher pseudo student separate recognise report".split()
FS, MICS = 8000, 4


def _options(folder: Path, *more: object) -> list[object]:
    options = ["--recipe", "egs/recordings", "--size", "tiny", "--nj", "1", "--out_dir", folder]
    return [*options, "--recordings", folder / "in", *more]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A multi-channel recording of 45 s, and one of 30 s with a file a channel; the truth beside them."""
    out = tmp_path_factory.mktemp("field")
    (out / "in").mkdir()
    soundfile.write(out / "in/first.wav", meeting(45, 0).T, FS)
    for k, channel in enumerate(meeting(30, 1), 1):
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
    """The whole recipe has run, through its run.sh; which of the recordings and of the truth it opened."""
    command = [ROOT / "egs/recordings/run.sh", *map(str, _options(folder)[2:])]
    with opened([path for path in folder.rglob("*") if path.is_file()]) as files:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    assert "recognise: off, a recogniser runs it (--asr_whisper MODEL" in ran.stdout
    return folder, files


@pytest.fixture(scope="module")
def done(watched) -> Path:
    return watched[0]


@pytest.mark.chain
def test_streams_and_report(done):
    exp, data = done / "exp/in_tiny", done / "data/in_tiny"
    wav = read_scp(data / "whole/wav.scp")
    assert list(wav) == ["first", "second"]
    systems = ["mixture", "auxiva", "auxiva+mask", "teacher_spatial_merge", "student", "student+gate"]
    systems += ["student+iva+mask"]
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
    page += (exp / "report/report.html").read_text()
    assert str(done) not in page and str(ROOT) not in page


@pytest.mark.chain
def test_no_truth_is_looked_at(watched):
    """As a simulator leaves it: spk1.scp, the images it names and ref.* beside the recordings."""
    folder, files = watched
    if files is None:
        pytest.skip("needs inotify, to see what is opened")
    assert (folder / "ref.rttm").is_file() and (folder / "wav/first_spk1.wav").is_file()
    assert {path.relative_to(folder).as_posix() for path in files} == {
        "in/first.wav",
        *(f"in/second_ch{k}.wav" for k in range(1, MICS + 1)),
    }


@pytest.mark.chain
def test_a_second_run_does_nothing_and_other_options_train_again(done, command):
    code, out, _ = command("run", *_options(done))
    assert code == 0 and out.count("complete, nothing to do") == len(STAGES) - 1
    for option, value, name in (
        ("seed", 1, "seed"),
        ("fs", 4000, "fs"),
        ("geometry", "circular", "geometry"),
    ):
        code, out, _ = command("run", *_options(done), f"--{option}", value, "--list")
        changed = {line.split()[1]: name in line.partition("[")[2] for line in out.splitlines()[:-1]}
        assert code == 0 and (changed["data"] or changed["teacher"]), out


@pytest.mark.chain
def test_an_adapted_model_starts_from_another(done, command):
    start = done / "exp/in_tiny"
    adapted = _options(done, "--init_model", start, "--tag", "adapted")
    code, out, err = command("run", *adapted, "--stop_stage", "chunks")
    assert code == 0, err
    code, out, _ = command("run", *adapted, "--dry_run")
    train = [line for line in out.splitlines() if " train separator --config" in line]
    assert [line.rpartition("--init_param ")[2] for line in train] == [
        str(start / part / "valid.loss.ave.pth") for part in ("teacher", "student")
    ]
    assert (
        "teacher_adapt.yaml" in train[0]
        and f"/bin/ln -sfn {start}/student {done}/exp/adapted_tiny/start" in out
    )
    other = _options(done, "--init_model", start, "--tag", "x", "--fs", "4000", "--stop_stage", "chunks")
    code, _, err = command("run", *other)
    assert code == 2 and "trained for 8000 Hz, expected 4000" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--geometry", "round"], "--geometry round: expected circular, linear, none"),
        (["--fs", "16000"], "8000 Hz, expected 16000 Hz or more"),
    ],
)
def test_what_only_the_recordings_tell_is_one_line(folder, tmp_path, command, options, message):
    code, _, err = command("run", *_options(folder), *options, "--out_dir", tmp_path, "--stop_stage", "data")
    assert code == 2 and message in err


def test_transcripts_of_other_recordings_are_found_before_the_training(folder, tmp_path, command):
    asr = make_recogniser(tmp_path / "asr")
    (tmp_path / "ref.stm").write_text("frist 1 a 0 1 one\nsecnd 1 a 0 1 one\n")
    options = [
        *_options(folder),
        "--out_dir",
        tmp_path,
        "--transcripts",
        tmp_path / "ref.stm",
        "--asr_exp",
        asr,
    ]
    for again in (False, True):
        code, out, err = command("run", *options, "--stop_stage", "chunks")
        assert code == 2 and "has no recording 'frist'" in err, err
        assert ("stage 1 data: complete" in out) is again and "chunks of" not in out


def test_another_model_of_the_recogniser_recognises_again(folder, tmp_path):
    """The stage reads the files of the recogniser, but for those of single epochs."""
    asr = tmp_path / "asr"
    asr.mkdir()
    for name in ("config.yaml", "valid.acc.ave.pth", "3epoch.pth", "checkpoint.pth", "train.log"):
        (asr / name).write_text(name)
    from frontend.pipeline.options import Given
    from frontend.pipeline.recipes import read_options, stages_of

    more = {"recordings": str(folder / "in"), "transcripts": str(asr / "train.log"), "out_dir": str(tmp_path)}
    o = read_options(Given("egs/recordings", size="tiny", asr_exp=str(asr), more=more))
    o.asr_exp = str(asr)
    stage = next(s for s in stages_of(o) if s.name == "recognise")
    assert [path.name for path in stage.reads if path.parent == asr] == [
        "train.log",
        "config.yaml",
        "valid.acc.ave.pth",
    ]
