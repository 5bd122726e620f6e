"""Two commands at once in one directory, names that are too long, numbers that mean nothing."""

import pytest
from commands import exit_code
from tiny_models import recording, write

from frontend.separation.continuous import check_window
from frontend.utils import locks
from frontend.utils.errors import UserError
from frontend.utils.locks import locked

REFUSED = {
    "train separator": "--output_dir {out}",
    "train recogniser": "--output_dir {out}",
    "train joint": "--output_dir {out}",
    "label": "--model m --data d --out {out}",
    "decode": "--asr a --data d --separated s --out {out}",
    "score": "--data d --separated s --out {out}",
    "wer": "--data d --decoded s --out {out}",
    "data subset": "--data d --out {out}",
    "data recordings": "--recordings d --out {out}",
    "data chunks": "--data d --out {out} other",
    "data recogniser": "--speech d --out {out}",
    "simulate render": "--scenes s --speech d --out {out}",
}
WAITING = {
    "separate": "--model m x.wav --out {out}",
    "report": "--exp e --systems s --out {out}",
    "compare": "--exp e --out {out}",
}
READING = {
    "wer --check": "--transcripts t --scp s --out {out}",
    "wer --compare a b": "--out {out}",
    "report --show": "{out}",
    "train separator --check": "--config c --output_dir {out}",
}


@pytest.fixture
def busy(tmp_path, monkeypatch):
    """A directory in which another run works; nobody waits for a killed one."""
    whole = locks._flocked

    def at_once(path, patience_s, shared):
        if patience_s is None:
            raise UserError("it waits")
        return whole(path, 0.0, shared)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locks, "_flocked", at_once)
    with locked(tmp_path / "busy"):
        yield tmp_path / "busy"


@pytest.mark.parametrize("name", REFUSED)
def test_the_second_run_is_refused_in_one_line(busy, command, name):
    code, out, err = command(name, *REFUSED[name].format(out=busy).split())
    assert (code, out) == (2, "") and f"{busy}: expected a directory of this run alone" in err
    assert [path.name for path in busy.parent.iterdir()] == ["busy"], "the lock of the other set is gone too"


@pytest.mark.parametrize("name", WAITING)
def test_the_second_run_waits(busy, capfd, name):
    assert exit_code(name, *WAITING[name].format(out=busy).split()) == 2
    err = capfd.readouterr().err.splitlines()
    assert err[0] == f"{busy}: waiting for another run, which works in it" and "it waits" in err[1]


@pytest.mark.parametrize("line", READING)
def test_who_only_reads_is_let_in(busy, command, line):
    _, _, err = command(line, *READING[line].format(out=busy).split())
    assert "this run alone" not in err


def test_parts_of_the_same_work_run_together(tmp_path, command):
    with locked(tmp_path / "out", shared=True):
        line = f"--model m --data d --out {tmp_path}/out --shard 1/2"
        _, _, err = command("label", *line.split())
        assert "this run alone" not in err


def test_names_that_are_too_long_are_found_before_work(models, tmp_path, command):
    long = write(tmp_path / f"{'会' * 83}.wav", recording())
    code, _, err = command("separate", "--model", models / "student", long, "-o", tmp_path / "out")
    assert code == 2 and "at most 255 bytes, found 258 (rename the recording" in err
    fits = write(tmp_path / f"{'会' * 82}.wav", recording())
    assert command("separate", "--model", models / "student", fits, "-o", tmp_path / "out")[0] == 0
    assert len(list((tmp_path / "out").iterdir())) == 2
    deep = tmp_path / "deep" / ("d" * 150) / ("e" * 100)
    write(deep / "a.wav", recording())
    code, _, err = command("data recordings", "--recordings", tmp_path / "deep", "--out", tmp_path / "whole")
    assert code == 2 and "at most 255 bytes" in err and "shorter ids" in err
    assert not (tmp_path / "whole").exists()


NONSENSE = [
    *(
        (f"separate x.wav --model m -o o --{name} {value}", name)
        for name in ("window", "hop", "max_seconds")
        for value in ("0", "-1", "nan", "inf", "-inf")
    ),
    ("separate x.wav --model m -o o --window 0.001", "at least 0.5 s"),
    ("separate x.wav --model m -o o --window 2 --hop 0.01", "0.1 s or more"),
    *((f"wer --ref r --decoded d --out o --collar {value}", "collar") for value in ("-1", "nan", "inf")),
    *((f"score --data d --separated s --out o --least_s {value}", "least_s") for value in ("-1", "nan")),
    *(
        (f"data chunks --data d --out a b --min_speech {value}", "min_speech")
        for value in ("-1", "nan", "inf")
    ),
    *(
        (f"data chunks --data d --out a b --dev_share {value}", "dev_share")
        for value in ("0", "-1", "nan", "1")
    ),
    *((f"data subset --data d --out o --share {value}", "share") for value in ("nan", "inf")),
    *(
        (f"label --model m --data d --out o --rule all --n_talkers {value}", "n_talkers")
        for value in ("0", "-1")
    ),
    ("report --recordings --talkers 0", "talkers"),
]


@pytest.mark.parametrize(("line", "message"), NONSENSE)
def test_numbers_that_mean_nothing_are_one_line(line, message, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "x.wav", recording())
    (tmp_path / "d").mkdir()
    (tmp_path / "d/wav.scp").write_text("x x.wav\n")
    code, _, err = command(line)
    assert code == 2 and message in err
    assert {path.name for path in tmp_path.iterdir()} == {"x.wav", "d"}


def test_windows_of_a_table_that_mean_nothing():
    for window, hop in ((0.001, 0.0005), (0.4, 0.2), (1.0, 0.05), (float("nan"), 1.0), (1.0, float("nan"))):
        with pytest.raises(UserError, match="expected"):
            check_window(window, hop)
    check_window(0.5, 0.1)
