"""Whole recordings separated by every system of a table: windows, resuming, what is stale."""

from pathlib import Path

import numpy as np
import pytest
from tiny_models import FS, OUTPUTS, recording, write

from frontend.data.audio import read_audio
from frontend.data.kaldi import read_scp, write_scp
from frontend.data.mixtures import find_streams
from frontend.separation import loop
from frontend.separation.continuous import ContinuousSeparator
from frontend.separation.loop import Result
from frontend.separation.model import Separator
from frontend.separation.sets import separate
from frontend.separation.systems import System, load_systems
from frontend.utils.errors import UserError


@pytest.fixture
def whole(tmp_path):
    """Two whole recordings of two channels, as `data recordings` leaves them, and a table of systems."""
    lengths = {"a": 5 * FS, "b": 6 * FS}
    entries = {
        n: write(tmp_path / f"{n}.wav", recording(t, seed=k)) for k, (n, t) in enumerate(lengths.items())
    }
    write_scp(tmp_path / "wav.scp", entries)
    (tmp_path / "array").write_text("2 none 8000\n")
    return tmp_path


def _separate(whole, models, systems, window_s=3.0, hop_s=1.5, **options):
    (whole / "systems.yaml").write_text(systems)
    separate(
        load_systems(whole / "systems.yaml"),
        models,
        whole,
        whole / "out",
        window_s=window_s,
        hop_s=hop_s,
        **options,
    )


def _times(whole) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (whole / "out").rglob("*.flac")}


def test_windows_are_separated_and_joined(whole, models):
    systems = "mixture: {}\nstudent: {model: student}\nteacher_energy: {model: teacher, rule: energy}\n"
    _separate(whole, models, systems + "teacher: {model: teacher}\n", nj=2)
    found = {
        name: find_streams(whole / "out" / name)
        for name in ("mixture", "student", "teacher_energy", "teacher")
    }
    assert {name: len(tables) for name, tables in found.items()} == {
        "mixture": 2,
        "student": 2,
        "teacher_energy": 2,
        "teacher": OUTPUTS,
    }
    assert found["mixture"][0] == found["mixture"][1], "one file a recording"
    separator = ContinuousSeparator(Separator.from_pretrained(models / "student"), 3.0, 1.5)
    for name, entry in read_scp(whole / "wav.scp").items():
        reference = read_audio(found["mixture"][0][name])[0]
        np.testing.assert_allclose(reference, read_audio(entry)[0][:1], atol=1e-6)
        streams = np.concatenate([read_audio(table[name])[0] for table in found["student"]])
        np.testing.assert_allclose(streams, separator(read_audio(entry)[0], FS).clip(-1, 1), atol=1e-6)
    assert not list((whole / "out/teacher_energy").glob("raw*")), "outputs are kept of test sets alone"


@pytest.mark.parametrize(
    ("systems", "message"),
    [
        ("oracle: {}\n", "needs the talkers' images"),
        ("x: {model: nobody}\n", "expected a training directory"),
        ("x: {blind: auxiva, windoww: 1}\n", "no setting 'windoww'"),
        ("student: {model: student, block: 121}\n", "expected windows of at most 120 s"),
    ],
)
def test_systems_that_cannot_be(command, whole, models, systems, message):
    write(whole / "a.wav", recording(122 * FS))
    (whole / "systems.yaml").write_text(systems)
    arguments = ["--systems", whole / "systems.yaml", "--exp", models, "--scp", whole / "wav.scp"]
    code, _, err = command("separate", *arguments, "--out", whole / "out")
    assert code == 2 and message in err
    assert not (whole / "out").exists()


def test_other_recordings_than_the_model_s(command, whole, models):
    (whole / "systems.yaml").write_text("student: {model: student}\n")
    arguments = [
        "--systems",
        whole / "systems.yaml",
        "--exp",
        models,
        "--data",
        whole,
        "--out",
        whole / "out",
    ]
    write(whole / "b.wav", recording(4000, 3))
    code, _, err = command("separate", *arguments)
    assert code == 2 and "b.wav: expected 2 channel(s)" in err and "found 3" in err
    write(whole / "a.wav", recording(4000, 3))
    code, _, err = command("separate", *arguments)
    assert code == 2 and "expects 2 channel(s), found 3" in err and not (whole / "out").exists()


def test_a_recording_that_is_gone_or_changed_is_made_again(whole, models, monkeypatch):
    def made(**options) -> set[str]:
        before = _times(whole) if (whole / "out").exists() else {}
        _separate(whole, models, "student: {model: student}\n", **options)
        return {path.name[0] for path, time in _times(whole).items() if before.get(path) != time}

    assert made() == {"a", "b"} and made() == set()
    kept = (whole / "out/student/wav/b_spk1.flac").read_bytes()
    (whole / "out/student/wav/b_spk2.flac").unlink()
    assert made() == {"b"} and (whole / "out/student/wav/b_spk1.flac").read_bytes() == kept
    write(whole / "b.wav", recording(5 * FS, seed=5))
    assert made() == {"b"}
    write_scp(
        whole / "wav.scp", read_scp(whole / "wav.scp") | {"c": write(whole / "c.wav", recording(2 * FS))}
    )
    assert made() == {"c"}
    assert made(hop_s=1.0) == {"a", "b", "c"}
    monkeypatch.setattr(loop.continuous, "VERSION", -1)
    assert made(hop_s=1.0) == {"a", "b", "c"}


def test_a_reference_row_that_was_cut_off_is_made_again(whole, models, monkeypatch):
    """It has no item that is due: the mixture is written when the rest is."""
    finish = Result.finish

    def kill(self):
        raise KeyboardInterrupt

    for _ in range(2):  # of nothing, and of what was made from other windows
        monkeypatch.setattr(Result, "finish", kill)
        with pytest.raises(KeyboardInterrupt):
            _separate(whole, models, "mixture: {}", window_s=4.0 + _)
        assert not (whole / "out/mixture/stamp.json").exists()
        monkeypatch.setattr(Result, "finish", finish)
        _separate(whole, models, "mixture: {}")
        assert (whole / "out/mixture/stamp.json").exists() and (whole / "out/mixture/spk1.scp").exists()


def test_a_row_may_have_windows_of_its_own(whole, models):
    plain = "auxiva: {blind: auxiva, iterations: 3}\n"
    _separate(whole, models, plain + "own: {blind: auxiva, iterations: 3, block: 2}\n")
    name = "wav/a_spk1.flac"
    own, three = ((whole / "out" / system / name).read_bytes() for system in ("own", "auxiva"))
    before = _times(whole)
    row = "own: {blind: auxiva, iterations: 3, block: 2, block_hop: "
    for hop, again in ((1, set()), (0.5, {"own"})):
        _separate(whole, models, f"{plain}{row}{hop}}}\n")
        made = {path.parts[-3] for path, time in before.items() if path.stat().st_mtime_ns != time}
        assert made == again, "another hop, and nothing else, makes another set of streams"
    _separate(whole, models, plain, window_s=2.0, hop_s=1.0)
    assert own == (whole / "out/auxiva" / name).read_bytes() != three


def test_streams_beyond_full_scale_are_floats_to_the_sample(tmp_path, capsys):
    audio = recording(3 * FS, 2, seed=3)
    loud = 5 * audio / np.abs(audio).max()
    (tmp_path / "wav.scp").write_text(
        f"fine {write(tmp_path / 'a.wav', audio)}\nloud {write(tmp_path / 'b.wav', loud, subtype='FLOAT')}\n"
    )
    systems = [System("mixture"), System("auxiva", blind="auxiva", settings={"iterations": 2})]
    for _ in range(2):  # the second time nothing is made
        separate(systems, tmp_path, tmp_path / "wav.scp", tmp_path / "out")
    for name in ("mixture", "auxiva"):
        made = {path.name for path in (tmp_path / "out" / name / "wav").iterdir()}
        assert made == {
            f"{name}.{k}"
            for k, names in (("flac", _STREAMS["fine"][name]), ("wav", _STREAMS["loud"][name]))
            for name in names
        }
        tables = [read_scp(tmp_path / f"out/{name}/spk{k}.scp") for k in (1, 2)]
        assert all(Path(entry).is_file() for table in tables for entry in table.values())
    row = read_scp(tmp_path / "out/mixture/spk1.scp")
    assert np.array_equal(read_audio(row["loud"])[0], loud[:1])
    assert np.array_equal(read_audio(row["fine"])[0], read_audio(str(tmp_path / "a.wav"))[0][:1])
    err = capsys.readouterr().err
    assert "mixture/wav/loud_spk1.flac: a peak of 5, integers end at full scale" in err
    quiet = tmp_path / "b.wav"
    write(quiet, audio)
    separate(systems, tmp_path, tmp_path / "wav.scp", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.wav")), "made again, and the former one is gone"


_STREAMS = {
    name: {"mixture": [f"{name}_spk1"], "auxiva": [f"{name}_spk1", f"{name}_spk2"]}
    for name in ("fine", "loud")
}


def test_dead_channels_of_whole_recordings(models, tmp_path, capsys):
    audio = recording(3 * FS, 3, seed=3)
    dead = audio.copy()
    dead[0] = 0.05
    for name, samples in (("live", audio[1:]), ("dead", dead)):
        (tmp_path / f"{name}.scp").write_text(f"m {write(tmp_path / f'{name}.wav', samples)}\n")
    systems = [System("mixture"), System("auxiva", blind="auxiva", settings={"iterations": 2})]
    for name in ("live", "dead"):
        separate(systems, tmp_path, tmp_path / f"{name}.scp", tmp_path / name)
    for system, streams in (("mixture", 1), ("auxiva", 2)):
        for k in range(1, streams + 1):
            a, b = (
                read_audio(tmp_path / f"{name}/{system}/wav/m_spk{k}.flac")[0] for name in ("live", "dead")
            )
            assert np.array_equal(a, b), "the dead channel is left out"
    err = capsys.readouterr().err
    assert "dead.wav: channel 1 is dead" in err and "dead.wav: channel 2 is the reference in place of" in err
    (tmp_path / "dead.scp").write_text(f"m {write(tmp_path / 'dead.wav', dead[:2])}\n")
    with pytest.raises(UserError, match="dead.wav: channel 1 is dead.* such as channel 2"):
        separate([System("student", model="student")], models, tmp_path / "dead.scp", tmp_path / "out")
    assert not (tmp_path / "out").exists()
