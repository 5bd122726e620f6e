"""The command `score` on a small set whose scores are known."""

import json
import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import call, exit_code
from tiny_models import write

from frontend.data.kaldi import write_scp
from frontend.data.mixtures import MixtureSet, find_systems
from frontend.evaluation.score import channels
from frontend.utils.errors import UserError

FS, LENGTH = 8000, 8000
IDS = [f"u{k}" for k in range(3)]


def voices(seed):
    """Two orthogonal zero-mean noises of equal energy: SI-SNR of a mixture of them is known."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(np.column_stack([np.ones(LENGTH), rng.standard_normal((LENGTH, 2))]))[0]
    return 0.05 * np.sqrt(LENGTH) * basis[:, 1:].T


def write_floats(path, signal, fs=FS):
    """Write ``(C, T)`` or ``(T,)`` as a wav of floats, as systems write their streams; return the entry."""
    return write(Path(path), np.atleast_2d(signal), fs, "FLOAT")


def write_set(directory, tables):
    """Write ``{scp name: {id: array}}``."""
    for name, signals in tables.items():
        entries = {k: write_floats(directory / name / f"{k}.wav", v) for k, v in signals.items()}
        write_scp(directory / f"{name}.scp", entries)


def write_data(directory, mixture, *speakers):
    write_set(directory, {"wav": mixture, **{f"spk{k}": s for k, s in enumerate(speakers, 1)}})
    for name in ("utt2spk", "spk2utt"):
        write_scp(directory / name, {k: k for k in mixture})
    write_scp(directory / "utt2num_samples", {k: v.shape[-1] for k, v in mixture.items()})


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A two-talker set of 2-channel mixtures, a one-talker set, and four systems."""
    monkeypatch.chdir(tmp_path)
    s = {k: voices(i) for i, k in enumerate(IDS)}
    first, second = ({k: v[i] for k, v in s.items()} for i in (0, 1))
    two = {k: np.stack([v[0] + v[1], v[1] - v[0]]) for k, v in s.items()}
    one = {k: np.stack([v[0], v[0]]) for k, v in s.items()}
    silence = {k: 0 * v[0] for k, v in s.items()}
    write_data(tmp_path / "test", two, first, second)
    write_data(tmp_path / "test_1spk", one, first, silence)
    separated = tmp_path / "separated"
    for name, table in (("test", two), ("test_1spk", one)):
        for number in (1, 2):
            entries = {k: f"{name}/wav/{k}.wav" for k in table}
            write_scp(separated / name / "mixture" / f"spk{number}.scp", entries)
    # 20 dB of leakage, streams in the wrong order
    leaky = {k: (v[1] + 0.1 * v[0], v[0] + 0.1 * v[1]) for k, v in s.items()}
    streams = {f"spk{i + 1}": {k: v[i] for k, v in leaky.items()} for i in (0, 1)}
    write_set(separated / "test" / "student", streams)
    (separated / "test" / "student" / "info.json").write_text('{"rtf": 0.05, "n_outputs": 2}')
    write_set(separated / "test_1spk" / "student", {"spk1": first, "spk2": silence})
    raw = {f"raw{i + 1}": {k: x for k, (x, _) in leaky.items()} for i in range(4)}
    write_set(separated / "test" / "teacher_energy", streams | raw)
    thirds = {f"raw{i + 1}": {k: 0.5 * x for k, x in first.items()} for i in range(4)}
    write_set(separated / "test_1spk" / "teacher_energy", {"spk1": first, "spk2": first} | thirds)
    for number, table in ((1, first), (2, second)):
        entries = {k: f"test/spk{number}/{k}.wav" for k in table}
        write_scp(separated / "test" / "oracle" / f"spk{number}.scp", entries)
    return tmp_path


BOTH = ["--single_data", "test_1spk", "--single_separated", "separated/test_1spk"]


def score(*options, expect=0, capsys=None):
    """Run the real command; return the line it wrote on an error."""
    base = ["--data", "test", "--separated", "separated/test", "--out", "scores"]
    assert exit_code("score", *base, *options) == expect
    return capsys.readouterr().err if capsys else ""


def rows(path):
    return [json.loads(line) for line in open(path)]


def test_known_scores(recipe):
    score(*BOTH)
    assert [r["id"] for r in rows("scores/student.jsonl")] == IDS
    for row in rows("scores/student.jsonl"):
        assert row["permutation"] == [1, 0]
        assert row["si_snr"] == pytest.approx([20, 20], abs=1e-3) == row["si_snri"]
        assert min(row["sdr"]) >= 20 and min(row["stoi"]) > 0.9 and len(row["pesq"]) == 2
        assert (row["active_outputs"], row["surplus_outputs"], row["silent"]) == (2, 0, [])
    about = json.loads(open("scores/student.json").read())
    assert (about["channels"], about["fs"], about["talkers"]) == (2, FS, 2)
    assert about["info"] == {"rtf": 0.05, "n_outputs": 2}
    for row in rows("scores/mixture.jsonl"):
        assert row["si_snr"] == pytest.approx([0, 0], abs=1e-3) and row["si_snri"] == [0, 0]
        assert row["energy_outside_best"] == pytest.approx([0.5, 0.5])
    for row in rows("scores/oracle.jsonl"):
        assert row["si_snr"] == row["si_snri"] == row["sdr"] == [None, None]
        assert row["stoi"] == pytest.approx([1, 1])


def test_over_separation_is_seen_in_the_raw_outputs(recipe):
    score(*BOTH, "--measures", "")
    teacher, student = (rows(f"scores/one_talker/{name}.jsonl") for name in ("teacher_energy", "student"))
    assert [(r["talkers"], r["active_outputs"], r["surplus_outputs"]) for r in teacher] == [(1, 4, 0.75)] * 3
    assert [r["energy_outside_best"] for r in teacher] == [[0.75]] * 3
    assert [(r["active_outputs"], r["surplus_outputs"]) for r in student] == [(1, 0)] * 3
    assert [r["energy_outside_best"] for r in student] == [[0]] * 3
    # four equal raw outputs on the two-talker set, though the two streams are well separated
    assert rows("scores/teacher_energy.jsonl")[0]["surplus_outputs"] == 0.5
    assert "pesq" not in rows("scores/student.jsonl")[0]


def test_rows_are_made_in_other_processes(recipe, monkeypatch):
    """What is handed to them and what comes back can be pickled, and is the same."""
    numbers = []

    def elsewhere(function, items, nj, what):
        numbers.append(nj)
        function = pickle.loads(pickle.dumps(function))
        yield from (pickle.loads(pickle.dumps(function(pickle.loads(pickle.dumps(one))))) for one in items)

    score("--measures", "")
    alone = {p.name: p.read_bytes() for p in (recipe / "scores").iterdir()}
    os.rename("scores", "alone")
    monkeypatch.setattr("frontend.evaluation.measured.parallel_map", elsewhere)
    score("--measures", "", "--nj", "2")
    assert numbers == [2] and {p.name: p.read_bytes() for p in (recipe / "scores").iterdir()} == alone


def test_only_what_changed_is_scored_again(recipe, capsys):
    def scored(*options):
        capsys.readouterr()
        score("--measures", "", *options)
        lines = capsys.readouterr().out.splitlines()
        return [line.split(":")[0] for line in lines if "utterances" in line]

    everything = ["mixture", "oracle", "student", "teacher_energy"]
    assert scored() == everything
    assert scored() == []
    assert scored("--active_db", "-30") == everything
    assert scored("--active_db", "-30") == []
    stream = recipe / "separated/test/student/spk2/u1.wav"
    write_floats(stream, np.ones(LENGTH))
    os.utime(stream, ns=(1, 1))  # a clock too coarse must not hide the change in this test
    assert scored("--active_db", "-30") == ["student"]
    (recipe / "scores/oracle.jsonl").unlink()
    assert scored("--active_db", "-30") == ["oracle"]


def test_a_silent_stream_is_named_not_scored_as_a_number(recipe):
    write_floats("separated/test/student/spk2/u1.wav", np.zeros(LENGTH))
    score()
    row = rows("scores/student.jsonl")[1]
    assert (row["silent"], row["si_snr"][0], row["pesq"][0]) == ([0], None, None)
    assert row["si_snr"][1] == pytest.approx(20, abs=1e-3)


def damage_missing(root):
    (root / "separated/test/student/spk2/u1.wav").unlink()
    return "spk2/u1.wav: no such audio file"


def damage_short(root):
    write_floats("separated/test/student/spk2/u1.wav", np.ones(LENGTH - 1))
    return f"u1.wav: expected {LENGTH} samples at {FS} Hz.*found {LENGTH - 1}"


def damage_rate(root):
    write_floats("separated/test/student/spk2/u1.wav", np.ones(LENGTH), 16000)
    return "at 8000 Hz.*at 16000 Hz"


def damage_scp(root):
    scp = root / "separated/test/student/spk2.scp"
    scp.write_text("".join(line for line in open(scp) if not line.startswith("u1")))
    return "spk2.scp: has no stream of utterance u1"


def damage_unknown(root):
    with open(root / "separated/test/student/spk2.scp", "a") as scp:
        scp.write("v9 nowhere.wav\n")
    return "spk2.scp: has a stream of unknown utterance v9"


def damage_one_stream(root):
    (root / "separated/test/student/spk2.scp").unlink()
    return r"student: expected at least 2 streams.*found 1"


def damage_stereo(root):
    write_floats("separated/test/student/spk2/u1.wav", np.ones((2, LENGTH)))
    return "u1.wav: expected a mono stream, found 2 channels"


def damage_empty(root):
    (root / "separated/test/empty").mkdir()
    return r"empty: expected streams spk1.scp ... or files ID_spk1.wav"


@pytest.mark.parametrize("damage", [v for k, v in globals().items() if k.startswith("damage_")])
def test_bad_streams_are_one_line_before_anything_is_scored(recipe, capsys, damage):
    expected = damage(recipe)
    error = score(expect=2, capsys=capsys)
    assert error.count("\n") == 1 and error.startswith("mixit score: error: ")
    assert re.search(expected, error), error
    assert not (recipe / "scores").exists()


@pytest.fixture
def mine(recipe):
    """The student's streams as `mixit separate` names them, in mine/student."""
    for number in (1, 2):
        for key in IDS:
            path = recipe / f"mine/student/{key}_spk{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((recipe / f"separated/test/student/spk{number}/{key}.wav").read_bytes())
    return recipe / "mine/student"


@pytest.mark.parametrize("where", ["mine/student", "mine", "separated/test/student", "mine/student/."])
def test_streams_of_one_s_own_are_scored(mine, command, where):
    test = ["--data", "test", "--measures", ""]
    assert command("score", *test, "--separated", "separated/test", "--out", "all")[0] == 0
    assert command("score", *test, "--separated", where, "--out", "own")[0] == 0
    assert rows("own/student.jsonl") == rows("all/student.jsonl")


def test_other_recordings_in_a_folder_of_streams_are_named(mine, command):
    for number in (1, 2, 3):
        for name in ("other", "another"):
            (mine / f"{name}_spk{number}.wav").write_bytes((mine / "u0_spk1.wav").read_bytes())
    (mine / "._u0_spk1.wav").write_text("no audio")
    code, _, err = command("score", "--data", "test", "--separated", mine, "--out", "own", "--measures", "")
    assert code == 0 and len(rows("own/student.jsonl")) == len(IDS)
    assert err.count("warning") == 1 and "streams of 2 other utterances are not used, such as another" in err


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda mine: (mine / "u1_spk2.wav").unlink(), "student: spk2 has no stream of utterance u1"),
        (
            lambda mine: (mine / "u1_spk1.wav").rename(mine / "U1_spk1.wav"),
            "utterance u1 of test (did you mean 'U1'?)",
        ),
        (lambda mine: (mine / "u1_spk1.flac").write_text(""), "u1_spk1.wav: the same stream as"),
        (
            lambda mine: [p.unlink() for p in mine.glob("*spk2.wav")],
            "at least 2 streams, as test has talkers",
        ),
        (
            lambda mine: [p.unlink() for p in mine.iterdir()],
            "no system in it: expected streams spk1.scp ... or",
        ),
    ],
)
def test_streams_of_one_s_own_that_do_not_fit(mine, command, spoil, message):
    spoil(mine)
    code, _, err = command("score", "--data", "test", "--separated", mine, "--out", "own", "--measures", "")
    assert code == 2 and message in err and not (mine / "../../own").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--separated", "nowhere"], "nowhere: expected a directory"),
        (["--separated", "test/wav"], "no system in it"),
        (["--measures", "peqs"], "did you mean 'pesq'"),
        (["--single_data", "test_1spk"], "belong together"),
        (["--nj", "0"], "--nj: expected at least 1, found 0"),
    ],
)
def test_bad_options(recipe, capsys, options, expected):
    error = score(*options, expect=2, capsys=capsys)
    assert expected in error and error.count("\n") == 1


def test_an_unlabelled_set_cannot_be_scored(recipe, capsys):
    for scp in (recipe / "test").glob("spk?.scp"):
        scp.unlink()
    assert "unlabelled" in score(expect=2, capsys=capsys)


def test_nan_in_a_stream_stops_the_run(recipe):
    import soundfile

    soundfile.write("separated/test/student/spk2/u1.wav", np.full(LENGTH, np.nan), FS, subtype="FLOAT")
    with pytest.raises(UserError, match="u1.wav: NaN"):
        call("score", "--data", "test", "--separated", "separated/test", "--out", "o")
    assert not (recipe / "o/student.jsonl").exists()


def test_a_silent_reference_is_named_unless_the_set_says_so(recipe, command):
    """A set without scenes and texts does not say whether somebody is missing."""
    data = recipe / "test_1spk"
    for path in (data / "wav").glob("*.wav"):
        audio, fs = soundfile.read(path)
        soundfile.write(path, audio * [1, 0.5], fs, subtype="FLOAT")
    score = ["--data", data, "--separated", "separated/test_1spk", "--measures", "", "--out"]
    code, _, err = command("score", *score, "s1")
    named = f"{len(IDS)} utterances with a silent reference, the first: "
    assert code == 0 and err.count(named) == 1
    code, out, err = command("data check", data)
    assert code == 0 and "valid" in out and f"{named}{data}/spk2.scp:1" in err
    (data / "scenes.jsonl").write_text(
        "".join(json.dumps({"id": key, "talkers": [{}]}) + "\n" for key in sorted(IDS))
    )
    for command_line in (["score", *score, "s2"], ["data check", data]):
        code, _, err = command(*command_line)
        assert code == 0 and "silent reference" not in err
    (data / "scenes.jsonl").unlink()
    for number, words in ((1, " WORDS"), (2, "")):
        text = "".join(f"{key}{words}\n" for key in sorted(IDS))
        (data / f"text_spk{number}").write_text(text)
    code, _, err = command("data check", data)
    assert code == 0 and "silent reference" not in err


def test_streams_beside_systems_are_not_left_out(recipe, command):
    for table in Path("separated/test/student").glob("*.scp"):
        (Path("separated/test") / table.name).write_text(table.read_text())
    code, _, err = command("score", "--data", "test", "--separated", "separated/test", "--out", "both")
    assert code == 2 and "streams of its own and those of " in err and "student" in err


def test_one_system_of_many_is_found_by_its_own_directory(recipe):
    """Its files may lie in a folder of it, named as `ID_spk1.wav`: no system beside the tables."""
    one = Path("separated/test/student")
    for number in (1, 2):
        table = {}
        for key in IDS:
            table[key] = one / f"wav/{key}_spk{number}.wav"
            table[key].parent.mkdir(exist_ok=True)
            shutil.copy(one / f"spk{number}/{key}.wav", table[key])
        write_scp(one / f"spk{number}.scp", {key: path.absolute() for key, path in table.items()})
    assert find_systems(one, "separate") == [one]


def test_channels_of_a_set_of_several_arrays(tmp_path):
    mixture = {name: np.stack([voices(0)[0]] * mics) for name, mics in (("a", 2), ("b", 4), ("c", 3))}
    write_data(tmp_path / "several", mixture)
    write_data(tmp_path / "one", {"b": mixture["b"]})
    assert channels(MixtureSet(tmp_path / "several")) == "2-4" and channels(MixtureSet(tmp_path / "one")) == 4
