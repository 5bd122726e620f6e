"""What is reported without references, and the separation of whole recordings by a table of systems."""

import json

import numpy as np
import pytest
from tiny_models import FS, recording, write

import frontend.separation.sets as separate_long
from frontend.data.audio import read_audio
from frontend.data.kaldi import read_scp, write_scp
from frontend.data.mixtures import find_streams
from frontend.report.pages import recordings_page


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
    text = recordings_page(
        {
            "recordings": {"a": 60.0},
            "channels": 4,
            "fs": FS,
            "talkers": talkers,
            "seed": 0,
            "made": made,
            "systems": {
                name: {"rtf": 0.1, "all": row, "recordings": {"a": row}} for name, row in rows.items()
            },
            "wer": {},
            "teacher": {},
        }
    )
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    header = next(line for line in lines if line[0] == "system")
    active = [column for column in header if column.endswith("active, %")]
    assert len(active) == max(talkers, streams) + 1 == len(set(active))
    assert active[:3] == ["no active, %", "one active, %", "two active, %"]
    for name, n in (("auxiva", 2), ("student", streams)):
        row = dict(zip(header, next(line for line in lines if line[0] == f"`{name}`"), strict=True))
        shown = [row[column] for column in active]
        assert shown == [f"{100 / (n + 1):.0f}"] * (n + 1) + ["—"] * (len(active) - n - 1)


@pytest.fixture
def whole(tmp_path):
    """Two whole recordings of two channels, chunks of them, and a table of systems."""
    entries = {
        name: write(tmp_path / f"{name}.wav", recording((20 + k) * FS, seed=k)) for k, name in enumerate("ab")
    }
    write_scp(tmp_path / "wav.scp", entries)
    chunks = {f"c{k}": write(tmp_path / f"c{k}.wav", recording(3 * FS, seed=9 + k)) for k in range(3)}
    (tmp_path / "dev").mkdir()
    write_scp(tmp_path / "dev/wav.scp", chunks)
    (tmp_path / "systems.yaml").write_text(
        "mixture: {}\nauxiva: {blind: auxiva, iterations: 3}\n"
        "teacher_energy: {model: teacher, rule: energy}\nstudent+mask: {model: student, refine: mask}\n"
        "start: {model: start, optional: true}\n"
    )
    return tmp_path


def _separate(command, whole, models, *more):
    return command(
        "separate", "--systems", whole / "systems.yaml", "--exp", models, "--scp",
        whole / "wav.scp", "--out", whole / "out", *more,
    )  # fmt: skip


def test_from_recordings_to_the_report(command, whole, models):
    code, out, err = _separate(command, whole, models)
    assert code == 0, err
    wav = read_scp(whole / "wav.scp")
    for name in ("mixture", "auxiva", "teacher_energy", "student+mask"):
        tables = find_streams(whole / "out" / name, wav)
        assert len(tables) == 2
        for recording_id, entry in wav.items():
            mixture, _ = read_audio(entry)
            streams = np.concatenate([read_audio(table[recording_id])[0] for table in tables])
            assert streams.shape[1] == mixture.shape[1] and streams.any(axis=1).all()
            if name == "mixture":
                assert np.array_equal(streams, np.repeat(mixture[:1], 2, axis=0))
            if name == "student+mask":  # masks share the mixture among them
                assert np.abs(streams.sum(0) - mixture[0]).max() < 1e-3
    before = {p: p.stat().st_mtime_ns for p in (whole / "out").rglob("*.flac")}
    (whole / "out/auxiva/wav/a_spk2.flac").unlink()
    assert _separate(command, whole, models)[0] == 0, "what is missing is made again, and nothing else"
    after = {p: p.stat().st_mtime_ns for p in (whole / "out").rglob("*.flac")}
    again = {p.name for p in after if after[p] != before[p]}
    assert again == {"a_spk1.flac", "a_spk2.flac"} and set(after) == set(before)

    (whole / "wer").mkdir()
    pooled = {"cpwer": 43.2, "cpwer_ci": [40.0, 46.0]}
    (whole / "wer/auxiva.json").write_text(json.dumps(pooled))
    code, out, err = command(
        "report --recordings", "--data", whole, "--separated", whole / "out", "--systems", whole / "systems.yaml",
        "--dev", whole / "dev", "--teacher", models / "teacher", "--wer", whole / "wer",
        "--out", whole / "report",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads((whole / "report/report.json").read_text())
    assert list(report["systems"]) == ["mixture", "auxiva", "teacher_energy", "student+mask"]
    assert report["systems"]["mixture"]["all"]["leakage"] == pytest.approx(1, abs=1e-3)
    assert report["systems"]["student+mask"]["all"]["residual_db"] < -40
    assert set(report["systems"]["auxiva"]["recordings"]) == {"a", "b"}
    recordings_page = (whole / "report/REPORT.md").read_text()
    assert (
        "43.2 [40.0, 46.0]" in recordings_page
        and "MixIT loss" in recordings_page
        and str(whole) not in recordings_page
    )
    assert "auxiva" in out


@pytest.mark.parametrize(
    ("systems", "message"),
    [
        ("oracle: {}\n", "there are no true images"),
        ("x: {model: nobody}\n", "expected a training directory"),
        ("x: {blind: auxiva, windoww: 1}\n", "no setting 'windoww'"),
    ],
)
def test_systems_that_cannot_be(command, whole, models, systems, message):
    (whole / "systems.yaml").write_text(systems)
    code, _, err = _separate(command, whole, models)
    assert code == 2 and message in err
    assert not (whole / "out").exists()


def test_other_recordings_than_the_model_s(command, whole, models):
    write(whole / "b.wav", recording(4000, 3))
    code, _, err = _separate(command, whole, models)
    assert code == 2 and "expects 2 channel(s), found 3" in err
    assert not (whole / "out").exists()


def test_resumed_streams_are_the_same(command, whole, models):
    """Killed after one recording: the second run makes the other, and a changed model all."""
    (whole / "systems.yaml").write_text("student: {model: student}\n")
    assert _separate(command, whole, models)[0] == 0
    folder = whole / "out/student/wav"
    kept = (folder / "a_spk1.flac").read_bytes(), (folder / "b_spk1.flac").read_bytes()
    (folder / "b.json").unlink()
    times = (folder / "a_spk1.flac").stat().st_mtime_ns
    assert _separate(command, whole, models)[0] == 0
    assert (folder / "a_spk1.flac").stat().st_mtime_ns == times
    assert kept == ((folder / "a_spk1.flac").read_bytes(), (folder / "b_spk1.flac").read_bytes())
    assert _separate(command, whole, models, "--hop", "3")[0] == 0
    assert (folder / "a_spk1.flac").stat().st_mtime_ns != times


def test_a_row_may_have_windows_of_its_own(command, whole, models):
    plain = "auxiva: {blind: auxiva, iterations: 3}\n"
    (whole / "systems.yaml").write_text(plain + "own: {blind: auxiva, iterations: 3, block: 8}\n")
    assert _separate(command, whole, models)[0] == 0
    (whole / "systems.yaml").write_text(plain)
    (whole / "out").rename(whole / "first")
    assert _separate(command, whole, models, "--window", "8", "--hop", "4")[0] == 0
    name = "wav/a_spk1.flac"
    own, eight, twelve = (
        (whole / folder / name).read_bytes() for folder in ("first/own", "out/auxiva", "first/auxiva")
    )
    assert own == eight != twelve

    (whole / "out").rename(whole / "second")
    (whole / "first").rename(whole / "out")
    before = {path: path.stat().st_mtime_ns for path in (whole / "out").rglob("*.flac")}
    row = "own: {blind: auxiva, iterations: 3, block: 8, block_hop: "
    for hop, again in ((4, set()), (2, {"own"})):
        (whole / "systems.yaml").write_text(f"{plain}{row}{hop}}}\n")
        assert _separate(command, whole, models)[0] == 0
        made = {p.parts[-3] for p, time in before.items() if p.stat().st_mtime_ns != time}
        assert made == again, "another hop, and nothing else, makes another set of streams"
    (whole / "systems.yaml").write_text("student: {model: student, block: 121}\n")
    assert _separate(command, whole, models)[0] == 0, "no recording is so long"
    write(whole / "a.wav", recording(121 * FS))
    code, _, err = _separate(command, whole, models)
    assert code == 2 and "'student': expected windows of at most 120 s" in err


def test_streams_are_made_again_for_what_they_depend_on(command, whole, models, monkeypatch):
    """Another recording, other code; one recording more leaves the others as they are."""
    (whole / "systems.yaml").write_text("mixture: {}\n")

    def made() -> set[str]:
        before = {p.name: p.stat().st_mtime_ns for p in (whole / "out").rglob("*_spk1.flac")}
        assert _separate(command, whole, models)[0] == 0
        after = {p.name: p.stat().st_mtime_ns for p in (whole / "out").rglob("*_spk1.flac")}
        return {name[0] for name in after if after[name] != before.get(name)}

    assert made() == {"a", "b"} and made() == set()
    write(whole / "b.wav", recording(20 * FS, seed=5))
    assert made() == {"b"}
    write_scp(
        whole / "wav.scp", {**read_scp(whole / "wav.scp"), "c": write(whole / "c.wav", recording(3 * FS))}
    )
    assert made() == {"c"}
    monkeypatch.setattr(separate_long, "_VERSION", -1)
    assert made() == {"a", "b", "c"}
    assert _separate(command, whole, models, "--n_talkers", "3")[0] == 0
    assert len(find_streams(whole / "out/mixture")) == 3
