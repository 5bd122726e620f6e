"""egs/recordings with a trained model (--model), which trains nothing; a recogniser without transcripts."""

import json
import shutil
from pathlib import Path

import pytest
import soundfile
from golden import meeting
from recipes import ROOT
from test_options import options
from tiny_models import make_any_array, make_model

from frontend.cli.run import _check
from frontend.pipeline import recordings as room
from frontend.pipeline.engine import Engine
from frontend.pipeline.recipes import stages_of
from frontend.utils.errors import UserError

RECIPE, FS = ROOT / "egs/recordings", 8000
LEARNING = ["chunks", "teacher", "pseudo", "student"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_any_array(tmp_path_factory.mktemp("any") / "student")


@pytest.fixture
def rec(tmp_path):
    """A folder with a recording of 6 s, of 4 channels."""
    (tmp_path / "rec").mkdir()
    soundfile.write(tmp_path / "rec/one.wav", meeting(6, 0).T, FS)
    return tmp_path / "rec"


def given(rec: Path, model: object, more: str = ""):
    text = f"--recordings {rec} --model {model} --size tiny --out_dir {rec.parent} {more}"
    return options(RECIPE, text.strip())


def stage(o, name):
    return next(one for one in stages_of(o) if one.name == name)


def test_nothing_is_learned_and_the_student_is_that_model(rec, model, monkeypatch):
    box = shutil.copytree(model, rec.parent / "any_array")
    monkeypatch.setattr(room, "PRETRAINED", box)
    for name, path in ((model, model), ("any_array", box)):
        o = given(rec, name)
        off = {one.name: one.skip for one in stages_of(o) if one.skip}
        assert list(off) == [*LEARNING, "recognise"] and {off[n] for n in LEARNING} == {
            "--model is the student"
        }
        rows = o.content("systems")["models"]
        assert rows == {"student": {"model": str(path), "refine": ["none", "gate", "iva+mask"]}}
        assert "teacher" not in o.content("systems")
        assert [p.name for p in stage(o, "separate").reads] == ["whole", "config.yaml", "valid.loss.ave.pth"]
        words = " ".join(stage(o, "report").commands[0])
        assert "--listen" in words and "--dev" not in words and "--teacher" not in words


def test_fewer_microphones_than_talkers_leave_out_what_needs_them(rec, tmp_path):
    packed = make_model(tmp_path / "three", 3, n_mics=2)
    (tmp_path / "data/rec_tiny/whole").mkdir(parents=True)
    (tmp_path / "data/rec_tiny/whole/array").write_text("2 none 8000\n")
    o = given(rec, packed, "--talkers 3")
    stages_of(o)
    found = o.content("systems")
    assert found["models"] == {"student": {"model": str(packed), "refine": ["none", "gate"]}}
    assert "blind" not in found


def test_what_does_not_fit_is_one_line_before_any_work(rec, model, tmp_path):
    two = make_model(tmp_path / "two", 2, n_mics=2)
    (tmp_path / "empty").mkdir()
    for name, more, message in (
        (two, "--fs 16000", "--fs 16000: "),
        (
            two,
            "--fs 16000",
            "two expects 8000 Hz; recordings of a higher rate are lowered to it (give --fs 8000)",
        ),
        (model, "--fs 44100", "expects 8000 or 16000 Hz"),
        (two, "--talkers 3", "two: expected 2, as it was trained for, found 3 (--talkers)"),
        (tmp_path / "empty", "", "empty: expected a training directory with config.yaml, found none"),
        (tmp_path / "nowhere", "", "nowhere: no such file or directory"),
        (model, f"--init_model {tmp_path} --geometry linear", "leave --init_model, --geometry out"),
        (model, f"--transcripts {rec}/one.wav", "--transcripts: expected a recogniser beside them"),
    ):
        with pytest.raises(UserError) as error:
            _check(given(rec, name, more))
        assert message in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"one\.wav: .*two expects 2 channel\(s\), found 4"):
        _check(given(rec, two))
    soundfile.write(rec / "one.wav", meeting(6, 0).T[:, [0, 1, 2, 3] * 3], FS)
    with pytest.raises(UserError, match=r"one\.wav: .*takes 2 to 8 microphones, found 12"):
        _check(given(rec, model))


def test_a_recogniser_alone_writes_words(rec, model, tmp_path):
    o = given(rec, model, "--asr_whisper base.en")
    recognise, report = stage(o, "recognise"), stage(o, "report")
    assert not recognise.skip and [line[0] for line in recognise.commands] == ["decode"]
    assert recognise.makes == [o.exp / "words"] and o.exp / "words" in report.reads
    assert f"--words {o.exp}/words" in " ".join(report.commands[0]) and "--wer" not in report.commands[0]
    (tmp_path / "ref.stm").touch()
    o = given(rec, model, f"--asr_whisper base.en --transcripts {tmp_path}/ref.stm")
    assert [line[0] for line in stage(o, "recognise").commands] == ["decode", "wer"]
    assert [line[0] for line in stage(o, "separate").commands] == ["wer", "separate"]  # before the work
    assert "--wer" in stage(o, "report").commands[0]


@pytest.mark.chain
def test_from_six_seconds_to_the_pages(rec, model, tmp_path, command):
    """All that a model makes of one short recording; with another one, or other weights, that is stale."""
    mine = shutil.copytree(model, tmp_path / "mine")
    line = [
        "run",
        "--recipe",
        RECIPE,
        "--size",
        "tiny",
        "--nj",
        1,
        "--out_dir",
        tmp_path,
        "--recordings",
        rec,
    ]
    code, out, err = command(*line, "--model", mine)
    assert code == 0 and "student: off, --model is the student" in out, err
    exp = tmp_path / "exp/rec_tiny"
    report = json.loads((exp / "report.json").read_text())
    assert list(report["systems"]) == [
        *("mixture", "auxiva", "auxiva+mask", "student", "student+gate", "student+iva+mask")
    ]
    spatial = report["systems"]["student"]["recordings"]["one"]["spatial"]
    assert spatial["block_s"] == 1.5 and report["short"]["blocks"] == {"one": 1.5} and report["teacher"] == {}
    page = (exp / "report/report.html").read_text()
    assert page.count("<audio") == 9 and str(tmp_path) not in page + (exp / "REPORT.md").read_text()
    assert command(*line, "--model", mine)[1].count("complete, nothing to do") == 3
    with open(mine / "valid.loss.ave.pth", "ab") as file:
        file.write(b"x")
    for other, what in (
        (mine, "valid.loss.ave.pth changed"),
        (model, "setting systems.models.student.model"),
    ):
        listed = command(*line, "--model", other, "--list")[1].splitlines()
        assert what in next(one for one in listed if " separate " in one), listed


def test_stages_are_listed_without_recordings(model, capsys, tmp_path):
    o = options(RECIPE, f"--model {model} --out_dir {tmp_path}", listing=True)
    Engine(o, stages_of, None, None).list()
    assert capsys.readouterr().out.count("off, --model is the student") == 4


def test_out_dir_is_seen_from_where_the_command_is_typed(rec, model, monkeypatch):
    monkeypatch.chdir(rec.parent)
    o = options(RECIPE, f"--recordings rec --model {model} --out_dir mine")
    assert (o.data, o.exp) == (rec.parent / "mine/data/rec", rec.parent / "mine/exp/rec")
