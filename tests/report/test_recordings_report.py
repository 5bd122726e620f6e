"""The report on recordings without references, from streams made by hand."""

import json

import pytest
from tiny_models import FS, recording, write

from frontend.data.kaldi import write_scp
from frontend.report.pages import recordings_table, render

TEACHER = {"loss": -4.5, "active_outputs": 2.25, "surplus": 0.125, "n": 3}


@pytest.mark.parametrize(("talkers", "streams"), [(2, 2), (2, 6), (6, 6), (7, 5)])
def test_the_page_shows_the_activity_of_any_number_of_streams(talkers, streams):
    shares = {n: [round(1 / (n + 1), 5)] * (n + 1) for n in (2, streams)}
    rows = {
        name: {
            "residual_db": -10.0,
            "leakage": 0.1,
            "seconds": 60.0,
            "activity": {"speech_s": 50.0, "streams": [0.5] * n, "number": shares[n]},
            "spatial": None,
        }
        for name, n in (("auxiva", 2), ("student", streams))
    }
    made = dict.fromkeys(("command", "commit", "date", "machine"), "x") | {"stages": {}, "versions": {}}
    about = {"recordings": {"a": 60.0}, "channels": 4, "fs": FS, "talkers": talkers, "seed": 0, "made": made}
    systems = {name: {"rtf": 0.1, "all": row, "recordings": {"a": row}} for name, row in rows.items()}
    report = {**about, "systems": systems, "wer": {}, "teacher": {}}
    text = render("report.md.j2", results=report)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    header = next(line for line in lines if line[0] == "system")
    active = [column for column in header if column.endswith("active, %")]
    assert len(active) == max(talkers, streams) + 1 == len(set(active))
    assert active[:3] == ["no active, %", "one active, %", "two active, %"]
    for name, n in (("auxiva", 2), ("student", streams)):
        row = dict(zip(header, next(line for line in lines if line[0] == f"`{name}`"), strict=True))
        shown = [row[column] for column in active]
        assert shown == [f"{100 / (n + 1):.0f}"] * (n + 1) + ["—"] * (len(active) - n - 1)
    table = [line.split() for line in recordings_table(report).splitlines()]
    assert table[1] == "auxiva - - - - - 0.10 0.100".split()


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """Two recordings of two channels, two streams a system, and a teacher whose loss is known."""
    monkeypatch.setattr("frontend.report.collect.validate_teacher", lambda *given: TEACHER)
    wav = {}
    for k, name in enumerate("ab"):
        wav[name] = write(tmp_path / f"{name}.wav", recording((20 + k) * FS, seed=k))
    write_scp(tmp_path / "wav.scp", wav)
    for system, share in (("mixture", 1.0), ("student+mask", 0.5)):
        folder = tmp_path / "out" / system
        for stream in (1, 2):
            entries = {}
            for k, name in enumerate("ab"):
                signal = share * recording((20 + k) * FS, seed=k)[:1]
                entries[name] = write(folder / f"wav/{name}_spk{stream}.wav", signal, subtype="FLOAT")
            write_scp(folder / f"spk{stream}.scp", entries)
        (folder / "info.json").write_text('{"rtf": 0.0125}')
    (tmp_path / "systems.yaml").write_text(
        "mixture: {}\nauxiva: {blind: auxiva}\nstudent+mask: {model: student, refine: mask}\n"
    )
    return tmp_path


def make(command, whole, *more):
    return command(
        "report --recordings", "--data", whole, "--separated", whole / "out", "--systems",
        whole / "systems.yaml", "--dev", whole, "--teacher", "teacher", "--out", whole / "report", *more,
    )  # fmt: skip


def test_from_streams_to_the_report(command, whole):
    (whole / "wer").mkdir()
    (whole / "wer/mixture.json").write_text('{"cpwer": 43.2, "cpwer_ci": [40.0, 46.0]}')
    code, out, err = make(command, whole, "--wer", whole / "wer", "--start", "old")
    assert code == 0, err
    report = json.loads((whole / "report/report.json").read_text())
    assert list(report["systems"]) == ["mixture", "student+mask"]
    for row in report["systems"].values():
        assert row["all"]["leakage"] == pytest.approx(1, abs=1e-3) and row["rtf"] == 0.0125
        assert set(row["recordings"]) == {"a", "b"}
    assert report["systems"]["mixture"]["all"]["residual_db"] == pytest.approx(0, abs=1e-3)
    assert report["systems"]["student+mask"]["all"]["residual_db"] < -40
    page = (whole / "report/REPORT.md").read_text()
    assert page == render("report.md.j2", results=report) and str(whole) not in page
    assert "| `mixture` | 43.2 [40.0, 46.0] | 0.0 | 1.00 |" in page
    for teacher in ("start", "teacher"):
        assert f"| {teacher} | -4.50 | 2.25 | 12 | 3 |" in page
    assert "2 recordings, 0.7 min, 2 channels at 8000 Hz; streams for 2 talkers; seed 0." in page
    assert "| a | 20.0 s |" in page and "student+mask" in out


def test_transcripts_of_some_recordings_are_said(command, whole):
    (whole / "wer").mkdir()
    (whole / "wer/mixture.json").write_text('{"cpwer": 43.2, "cpwer_ci": null, "n": 1}')
    code, _, err = make(command, whole, "--wer", whole / "wer")
    assert code == 0, err
    assert "| `mixture` | 43.2 of 1 recordings |" in (whole / "report/REPORT.md").read_text()


def test_no_streams_no_report(command, whole):
    (whole / "systems.yaml").write_text("ilrma: {blind: ilrma}\n")
    code, _, err = make(command, whole)
    assert code == 2 and "expected the streams of systems of" in err
    assert not (whole / "report").exists()
