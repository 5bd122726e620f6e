"""Data directories: what is written is read back exactly, and every defect is named with file and line."""

import contextlib
import os
import re
import shutil
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
from commands import exit_code
from edits import edit
from scipy.io import wavfile

from frontend.data import kaldi
from frontend.data.audio import Recording, audio_info, entry_stamp, read_audio
from frontend.data.kaldi import (
    read_entries,
    read_scp,
    read_utterances,
    validate,
    write_scp,
    write_set,
)
from frontend.data.mixtures import MixtureSet, subset
from frontend.data.speech import check_new_set, read_speech
from frontend.data.writers import AudioWriter
from frontend.recognition.training_sets import read_transcripts
from frontend.utils.errors import UserError

FS = 8000
ROOT = Path(__file__).resolve().parents[2]


def grid(channels: int, frames: int, seed: int = 0) -> np.ndarray:
    """Return noise on the 16-bit grid."""
    return np.random.default_rng(seed).integers(-9000, 9000, (channels, frames)) / 32768


@pytest.fixture
def mixtures(here) -> Path:
    """Make a valid set of six two-talker mixtures of 3 channels; the last has one talker."""
    path = Path("data/mix")
    ids = [f"utt{i}" for i in range(6)]
    tables = {"wav.scp": {}, "spk1.scp": {}, "spk2.scp": {}, "utt2num_samples": {}}
    with AudioWriter(path / "wav", "wav", FS) as writer:
        for i, key in enumerate(ids):
            frames = 400 + i
            tables["wav.scp"][key] = writer.write(key, grid(3, frames, i))
            tables["spk1.scp"][key] = writer.write(f"{key}_1", grid(1, frames, i + 10))
            tables["spk2.scp"][key] = writer.write(
                f"{key}_2", np.zeros(frames) if i == 5 else grid(1, frames)
            )
            tables["utt2num_samples"][key] = frames
    tables["text_spk1"] = dict.fromkeys(ids, "ONE TWO")
    tables["text_spk2"] = dict.fromkeys(ids[:5], "THREE") | {ids[5]: ""}
    write_set(path, tables, records=[{"id": k, "mics": [[1, 1, m] for m in range(3)]} for k in ids])
    for name, table in tables.items():
        write_scp(path / name, table)  # paths that start at the working directory, as a user types them
    return path


def test_tables_survive_and_are_sorted(here):
    mapping = {"b": "two words", "a": "x", "B": "café\u00a0crème\u3000x"}
    write_scp("t", mapping)
    assert Path("t").read_text(encoding="utf-8").splitlines()[0].startswith("B ")
    assert read_scp("t") == mapping and list(read_scp("t")) == ["B", "a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a 1\nb 2\na 3\n", r"t:3: id a occurs twice"),
        (b"b 1\na 2\n", r"t:2: id a comes after b"),
        (b"a 1\nb\n", r"t:2: expected 'id value', found 'b' alone"),
        (b"", r"t: no entries"),
        (b"a \xff\n", r"t: not UTF-8 text at byte 2"),
    ],
)
def test_a_broken_table_is_named_with_its_line(here, content, message):
    Path("t").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_scp("t")


@pytest.mark.parametrize("audio_format", ["wav", "flac", "flac.ark"])
def test_audio_is_read_back_bit_for_bit(here, audio_format):
    signals = {"a": grid(4, 1000), "b": grid(4, 50, 1), "c": np.full((4, 3), -1.0)}
    with AudioWriter("x/y", audio_format, FS, name="part") as writer:
        entries = {key: writer.write(key, signal) for key, signal in signals.items()}
    for key, entry in entries.items():
        data, fs = read_audio(entry, finite=True)
        assert fs == FS and data.dtype == np.float32 and entry.startswith("x/y/")
        np.testing.assert_array_equal(data, signals[key])
        assert audio_info(entry) == (4, signals[key].shape[1], FS)
    piece, _ = read_audio(entries["a"], start=900, frames=500)
    np.testing.assert_array_equal(piece, signals["a"][:, 900:])
    piece, _ = read_audio(entries["a"], start=10, frames=20)
    np.testing.assert_array_equal(piece, signals["a"][:, 10:30])


def test_archives_are_kaldiios_and_go_on_after_a_restart(here):
    entries = {}
    for key in ("a", "longer-id"):  # two writers, one archive: as after a kill
        with AudioWriter("x", "flac.ark", FS) as writer:
            entries[key] = writer.write(key, grid(2, 70, len(key)))
    for key, entry in entries.items():
        fs, data = kaldiio.load_mat(entry)
        assert fs == FS
        np.testing.assert_array_equal(data.T, grid(2, 70, len(key)))


def test_bare_wav_in_an_archive(here):
    signal = (grid(1, 90) * 32768).astype(np.int16)[0]
    kaldiio.save_ark("w.ark", {"a": (FS, signal), "b": (FS, signal[:40])}, scp="w.scp")
    for key, length in (("a", 90), ("b", 40)):
        data, fs = read_audio(read_scp("w.scp")[key])
        np.testing.assert_array_equal(data[0] * 32768, signal[:length])
        assert fs == FS


def test_float_wav_keeps_level_and_two_runs_are_alike(here):
    loud = np.random.default_rng(0).normal(0, 3, (2, 100)).astype(np.float32)
    with AudioWriter("x", "wav", FS) as writer:
        entry = writer.write("a", loud)
        first = Path(entry).read_bytes()
        assert writer.write("a", loud) == entry and Path(entry).read_bytes() == first
    np.testing.assert_array_equal(read_audio(entry)[0], loud)
    assert b"PEAK" not in first  # libsndfile's chunk with the time of day


@pytest.mark.parametrize(
    ("key", "data", "message"),
    [
        ("a", np.array([0.0, np.nan]), "a: NaN or infinity at sample 1"),
        ("a", np.zeros((2, 0)), "a: 0 samples"),
        ("a/b", np.zeros(4), "id 'a/b'"),
        ("a b", np.zeros(4), "id 'a b'"),
    ],
)
def test_the_writer_refuses(here, key, data, message):
    with AudioWriter("x", "wav", FS) as writer, pytest.raises(UserError, match=message):
        writer.write(key, data)
    assert list(Path("x").iterdir()) == []


def test_the_writer_wants_a_format_it_has(here):
    with pytest.raises(UserError, match="audio format 'mp3': expected one of wav, flac, flac.ark"):
        AudioWriter("x", "mp3", FS)


def damage(path: Path, how: str) -> str:
    """Make one bad recording and return its entry."""
    entry = str(path.with_suffix(".flac" if how.endswith("flac") else ".wav"))
    good = (grid(1, 4000)[0] * 32768).astype(np.int16)
    if how in ("truncated wav", "truncated flac"):
        soundfile.write(entry, good, FS)
        Path(entry).write_bytes(Path(entry).read_bytes()[:3001])
    elif how == "nan":
        wavfile.write(entry, FS, np.array([0, np.nan, 0], np.float32))
    elif how == "0 samples":
        wavfile.write(entry, FS, good[:0])
    elif how == "text":
        Path(entry).write_text("this is no audio")
    elif how == "directory":
        Path(entry).mkdir()
    elif how == "archive":
        Path("z.ark").write_bytes(b"a AUDIO\x02\xff\xffshort")
        return "z.ark:2"
    return "sox x.wav -t wav - |" if how == "pipe" else entry


DAMAGES = {
    "missing": "no such audio file",
    "truncated wav": "truncated",
    "truncated flac": "truncated or damaged",
    "nan": "NaN or infinity at sample 1",
    "0 samples": "0 samples",
    "text": "expected wav or flac audio",
    "directory": "found a directory",
    "archive": "no complete audio",
    "pipe": "piped commands",
}


@pytest.mark.parametrize("how", DAMAGES)
def test_bad_audio_is_named(here, how):
    entry = damage(Path("bad"), how)
    with pytest.raises(UserError, match=DAMAGES[how]) as error:
        read_audio(entry, finite=True)
    assert entry.split(":")[0] in str(error.value)


def test_a_set_that_is_written_again_has_no_tables_of_more_talkers(mixtures, monkeypatch):
    ids = ["utt00", "utt01"]
    for name in ("spk3.scp", "text_spk3", "image1.scp", "noise.scp", "raw1.scp", "mine"):
        write_scp(mixtures / name, dict.fromkeys(ids, "x"))
    written, real = [], kaldi.write_scp
    monkeypatch.setattr(
        kaldi, "write_scp", lambda path, table: (written.append(path.name), real(path, table))
    )
    tables = {"wav.scp": dict.fromkeys(ids, "a.wav"), "spk1.scp": dict.fromkeys(ids, "b.wav")}
    write_set(mixtures, tables, {"utt00": "s1", "utt01": "s1"}, [{"id": k} for k in reversed(ids)])
    assert written[-1] == "wav.scp" and read_scp(mixtures / "spk2utt") == {"s1": "utt00 utt01"}
    left = {p.name for p in mixtures.iterdir() if p.is_file()}
    assert left == {"wav.scp", "spk1.scp", "utt2spk", "spk2utt", "scenes.jsonl", "mine", ".mixit"}
    assert (mixtures / "scenes.jsonl").read_text().splitlines()[0] == '{"id": "utt00"}'
    write_set(mixtures / "streams", {"spk1.scp": {"a": "b.wav"}})  # of a set: no talkers of its own
    assert [p.name for p in (mixtures / "streams").iterdir()] == ["spk1.scp"]

    def full(path, table):
        raise OSError("no space")

    monkeypatch.setattr(kaldi, "write_scp", full)
    with pytest.raises(OSError, match="no space"):
        write_set(mixtures, tables)
    assert not (mixtures / "wav.scp").exists(), "what is not complete is no set"


@pytest.mark.parametrize("how", DAMAGES)
def test_the_validator_finds_bad_audio(mixtures, how):
    for name, line in (("wav.scp", 3), ("spk2.scp", 3)):
        table = read_scp(mixtures / name)
        write_scp(mixtures / name, table | {"utt2": damage(Path(f"bad-{name}"), how)})
        problems = validate(mixtures)
        assert len(problems) == 1 and problems[0].startswith(f"{mixtures / name}:{line}: ")
        assert DAMAGES[how] in problems[0]
        write_scp(mixtures / name, table)
    assert validate(mixtures) == []


def test_a_wav_written_to_a_pipe_is_no_truncated_one(here):
    wavfile.write("a.wav", FS, (grid(1, 100)[0] * 32768).astype(np.int16))
    raw = bytearray(Path("a.wav").read_bytes())
    raw[4:8] = raw[40:44] = b"\xff" * 4
    Path("a.wav").write_bytes(raw)
    np.testing.assert_array_equal(read_audio("a.wav")[0], grid(1, 100))


def test_mixture_set_reads_what_was_written(mixtures):
    data = MixtureSet(mixtures)
    assert data.ids == [f"utt{i}" for i in range(6)] and data.n_talkers == 2
    mixture, fs = data.mixture("utt3")
    np.testing.assert_array_equal(mixture, grid(3, 403, 3))
    assert fs == FS and data.references("utt3").shape == (2, 403)
    np.testing.assert_array_equal(data.references("utt3")[0], grid(1, 403, 13)[0])
    assert data.texts("utt3") == ["ONE TWO", "THREE"] and data.texts("utt5") == ["ONE TWO", ""]
    assert data.scene("utt3") == {"id": "utt3", "mics": [[1, 1, m] for m in range(3)]}
    with pytest.raises(UserError, match="no utterance 'nobody'"):
        data.mixture("nobody")


def test_mixture_set_refuses_images_of_another_length(mixtures):
    write_scp(
        mixtures / "spk1.scp", read_scp(mixtures / "spk1.scp") | {"utt0": str(mixtures / "wav/utt1_1.wav")}
    )
    with pytest.raises(UserError, match=r"utt1_1.wav: expected 1 channel of 400 samples"):
        MixtureSet(mixtures).references("utt0")


def test_mixture_set_names_the_file_with_nan(mixtures):
    spoilt = np.zeros((402, 3), np.float32)
    spoilt[7, 2] = np.nan
    for name in ("utt2", "utt2_2"):
        wavfile.write(mixtures / "wav" / f"{name}.wav", FS, spoilt[:, 2:] if "_" in name else spoilt)
    with pytest.raises(UserError, match=r"utt2\.wav: NaN or infinity at sample 7"):
        MixtureSet(mixtures).mixture("utt2")
    with pytest.raises(UserError, match=r"utt2_2\.wav: NaN or infinity at sample 7"):
        MixtureSet(mixtures).references("utt2")


def test_subset_names_the_same_audio(mixtures):
    subset(mixtures, "data/part", ["utt4", "utt1"])
    subset(mixtures, "data/bare", ["utt4", "utt1"], labelled=False)
    part, bare = MixtureSet("data/part"), MixtureSet("data/bare")
    assert validate("data/part") == [] == validate("data/bare")
    assert part.ids == bare.ids == ["utt1", "utt4"] and part.n_talkers == 2 and bare.n_talkers == 0
    assert part.scene("utt4") and part.texts("utt4") == ["ONE TWO", "THREE"] and bare.texts("utt4") == []
    assert sorted(p.name for p in Path("data/bare").iterdir()) == [
        ".mixit",
        "spk2utt",
        "utt2num_samples",
        "utt2spk",
        "wav.scp",
    ]
    np.testing.assert_array_equal(part.mixture("utt4")[0], MixtureSet(mixtures).mixture("utt4")[0])


@pytest.mark.parametrize(
    ("destination", "ids"), [("data/mix", ["utt1"]), ("data", ["utt1"]), ("data/x", ["nope"])]
)
def test_subset_deletes_nothing_and_invents_nothing(mixtures, destination, ids):
    before = sorted(Path("data").rglob("*"))
    with pytest.raises(UserError):
        subset(mixtures, destination, ids)
    assert sorted(Path("data").rglob("*")) == before


BREAKS = {
    "missing id": (
        "spk1.scp",
        "utt1 data/mix/wav/utt1_1.wav\n",
        "",
        "spk1.scp: id utt1 of wav.scp:2 is missing",
    ),
    "extra id": ("text_spk2", "utt5", "utt6 X\nutt7", "text_spk2:6: id utt6 is not in wav.scp"),
    "unsorted": ("wav.scp", "utt0 ", "utt9 ", "wav.scp:2: id utt1 comes after utt9"),
    "duplicate": ("utt2spk", "utt3 utt3\n", "utt3 utt3\nutt3 utt3\n", "utt2spk:5: id utt3 occurs twice"),
    "speaker": ("spk2utt", "utt2 utt2", "utt2 utt3", "spk2utt:3: utt3 is not utt2's in utt2spk"),
    "length": (
        "utt2num_samples",
        "utt2 402",
        "utt2 4",
        "wav.scp:3: 402 samples in data/mix/wav/utt2.wav, but '4'",
    ),
    "image length": (
        "spk2.scp",
        "utt3_2.wav",
        "utt2_2.wav",
        "spk2.scp:4: data/mix/wav/utt2_2.wav: expected 1 channel of 403",
    ),
    "image channels": (
        "spk2.scp",
        "utt3_2.wav",
        "utt3.wav",
        "spk2.scp:4: data/mix/wav/utt3.wav: expected 1 channel of 403",
    ),
    "channels": (
        "wav.scp",
        "utt3.wav",
        "utt3_1.wav",
        "wav.scp:4: 1 channels in data/mix/wav/utt3_1.wav, its scene has 3 (make it again)",
    ),
    "scene id": ("scenes.jsonl", '"utt5"', '"utt4"', "scenes.jsonl:6: id utt4 occurs twice"),
    "scene": ("scenes.jsonl", '{"id": "utt4"', '{"id" "utt4"', "scenes.jsonl:5: not JSON"),
    "mics": (
        "scenes.jsonl",
        '"utt3", "mics": [',
        '"utt3", "mics": 3, "x": [',
        "scenes.jsonl:4: expected a list as 'mics', found 3 (make the file again)",
    ),
    "talkers": (
        "scenes.jsonl",
        '"utt3"',
        '"utt3", "talkers": {}',
        "scenes.jsonl:4: expected a list as 'talkers', found {} (make the file again)",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_the_validator_names_file_and_line(mixtures, name):
    file, old, new, message = BREAKS[name]
    edit(mixtures / file, old, new)
    assert any(f"{mixtures}/{message}" in problem for problem in validate(mixtures)), validate(mixtures)


@pytest.mark.parametrize(
    ("talkers", "key", "wanted"),
    [("", "", "talkers"), (', "talkers": [{}]', "speaker", "talkers, each with its 'speaker'")],
)
def test_what_a_scene_must_say_of_its_talkers(mixtures, talkers, key, wanted):
    edit(mixtures / "scenes.jsonl", '"utt3"', f'"utt3"{talkers}')
    with pytest.raises(UserError, match=f"scenes.jsonl: utt3: expected {wanted}, found none"):
        MixtureSet(mixtures).talkers("utt3", key)


def test_the_validator_reads_a_recording_once_and_piece_by_piece(mixtures, monkeypatch):
    """All of it, although the first piece shows that every channel lives."""
    audio, asked, read = grid(3, 25 * FS).astype(np.float32), [], Recording.read
    audio[1, 24 * FS] = np.nan
    wavfile.write(mixtures / "wav/utt2.wav", FS, audio.T)
    monkeypatch.setattr(Recording, "read", lambda self, *a: asked.append((self.name, *a)) or read(self, *a))
    found = [problem for problem in validate(mixtures) if "wav.scp:3" in problem]
    assert len(found) == 1 and f"utt2.wav: NaN or infinity at sample {24 * FS} of channel 2" in found[0]
    assert [a for name, *a in asked if name.endswith("utt2.wav")] == [
        [k * 10 * FS, 10 * FS] for k in range(3)
    ]


def test_the_validator_compares_sample_rates(mixtures):
    path = mixtures / "wav" / "utt4.wav"
    wavfile.write(path, 16000, wavfile.read(path)[1])
    first, *images = validate(mixtures)
    assert first.startswith(f"{mixtures}/wav.scp:5: sample rate 16000") and "but 8000 in" in first
    assert [p.split(":")[0] for p in images] == [f"{mixtures}/spk1.scp", f"{mixtures}/spk2.scp"]


def test_a_gap_in_the_talkers_is_an_error(mixtures):
    (mixtures / "spk1.scp").unlink()
    assert validate(mixtures) == [f"{mixtures}: spk2.scp without spk1.scp (number the talkers 1, 2, ...)"]
    with pytest.raises(UserError, match="spk2.scp without spk1.scp"):
        MixtureSet(mixtures)


def test_validate_command(mixtures, capsys):
    assert not exit_code("data check", mixtures)
    assert capsys.readouterr().out == f"{mixtures}: valid, 6 utterances\n"
    Path("empty").mkdir()
    assert exit_code("data check", mixtures, "empty", "nothing") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and errors[0].startswith("empty: empty directory")
    write_scp(mixtures / "wav.scp", {f"utt{i:02d}": "nowhere.wav" for i in range(30)})
    assert exit_code("data check", mixtures) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 21 and errors[-1].endswith("more problems")


def test_subset_command_larger_shares_contain_smaller_ones(mixtures):
    chosen = {}
    for seed in (0, 1, 2, 3):
        for number in (2, 4, 6):
            out = f"out{number}"
            settings = ("--data", mixtures, "--out", out, "--num", number, "--seed", seed, "--unlabelled")
            assert not exit_code("data subset", *settings)
            chosen[seed, number] = set(read_scp(f"{out}/wav.scp"))
            assert len(chosen[seed, number]) == number
        assert chosen[seed, 2] < chosen[seed, 4] < chosen[seed, 6]
    assert len({frozenset(chosen[seed, 2]) for seed in range(4)}) > 1
    assert not exit_code("data subset", "--data", mixtures, "--out", "s", "--share", "0.5")
    assert len(MixtureSet("s").ids) == 3 and MixtureSet("s").n_talkers == 2
    for share, fewest, expected in ((0.01, 1, 1), (0.01, 2, 2), (0.5, 2, 3), (0.5, 9, 6)):
        options = ("--data", mixtures, "--out", "s", "--share", share, "--fewest", fewest)
        assert not exit_code("data subset", *options) and len(MixtureSet("s").ids) == expected


@pytest.mark.parametrize("size", [("--num", "7"), ("--num", "0"), ("--share", "1.5")])
def test_subset_command_one_line_for_a_mistake(mixtures, size, command):
    code, _, err = command("data subset", "--data", mixtures, "--out", "out", *size)
    assert code == 2 and err.startswith("mixit data subset: error: ") and err.count("\n") == 1
    assert size[1] in err and not Path("out").exists()


# --- directories as Kaldi's users have them


@pytest.fixture
def cut(here) -> Path:
    """A directory whose wav.scp names two recordings, beside it, and whose segments name the utterances."""
    path = Path("kaldi/train")
    for k, name in enumerate(("rec1", "rec2")):
        wavfile_of(path / f"audio/{name}.wav", grid(1, 2 * FS, k))
    (path / "wav.scp").write_text("rec1 audio/rec1.wav\nrec2 audio/rec2.wav\n")
    (path / "segments").write_text("s1-a rec1 0.0 0.75\ns1-b rec1 0.75 -1\ns2-c rec2 1.5 2.3\n")
    (path / "utt2spk").write_text("s1-a s1\ns1-b s1\ns2-c s2\n")
    (path / "spk2utt").write_text("s1 s1-a s1-b\ns2 s2-c\n")
    (path / "text").write_text("s1-a HELLO WORLD\ns1-b GOOD MORNING\ns2-c YES\n")
    return path


def wavfile_of(path: Path, signal: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal.T, FS, subtype="PCM_16")


def test_segments_of_a_directory_are_its_utterances(cut, capsys):
    assert validate(cut) == []
    mixtures = MixtureSet(cut)
    assert mixtures.ids == ["s1-a", "s1-b", "s2-c"]
    for key, record, first, last in (
        ("s1-a", 0, 0, 6000),
        ("s1-b", 0, 6000, 16000),
        ("s2-c", 1, 12000, 16000),
    ):
        audio, fs = mixtures.mixture(key)
        assert fs == FS and np.array_equal(audio, grid(1, 2 * FS, record)[:, first:last].astype(np.float32))
        assert audio_info(mixtures.wav[key]) == (1, last - first, FS)
        piece, _ = read_audio(mixtures.wav[key], 10, 20)
        assert np.array_equal(piece, audio[:, 10:30])
    warned = capsys.readouterr().err
    assert warned.count("warning: ") == 1 and "1 cut at the end" in warned and "segments:3" in warned
    assert {k: s for k, (s, _) in read_speech(cut, FS).items()} == {"s1-a": "s1", "s1-b": "s1", "s2-c": "s2"}
    assert read_transcripts(cut / "text", mixtures.wav)["s2-c"] == "YES"
    assert len({entry_stamp(entry) for entry in mixtures.wav.values()}) == 3


def test_a_subset_of_segments_is_found_from_everywhere(cut, tmp_path, monkeypatch):
    subset(cut, "part", ["s1-b", "s2-c"])
    expected = read_audio(read_utterances(cut)["s1-b"])[0]
    monkeypatch.chdir("/")
    part = tmp_path / "part"
    assert np.array_equal(read_audio(read_utterances(part)["s1-b"])[0], expected)
    assert validate(part) == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("s2-d rec2 1.0 2.6", "4: 1.00 to 2.60 s, but recording 'rec2' ends at 2.00 s"),
        ("s2-d rec2 9 10", "4: 9.00 to 10.00 s"),
        ("s2-d rec9 0 1", "4: no recording 'rec9'"),
        ("s2-d rec2 1 1", "4: expected start < end"),
        ("s2-d rec2 1", "4: expected 'utterance recording start end'"),
        ("s2-d rec2 1 2 0", "4: expected 'utterance recording start end'"),
        ("s2-d rec2 one 2", "4: expected a time in seconds, found 'one'"),
        ("s1-a rec2 0 1", "4: utterance s1-a occurs twice"),
    ],
)
def test_segments_that_cannot_be_used_are_left_out_and_named(cut, capsys, line, problem):
    edit(cut / "segments", "s2-c rec2 1.5 2.3\n", f"s2-c rec2 1.5 2.05\n{line}\n")
    found = read_utterances(cut)
    assert list(found) == ["s1-a", "s1-b", "s2-c"] and found.left_out <= {"s2-d"}
    warned = capsys.readouterr().err
    assert warned.count("warning: ") == 1 and f"segments:{problem}" in warned
    assert any(f"segments:{problem}" in one for one in validate(cut))


def test_texts_of_segments_that_are_left_out_are_passed_over(cut):
    edit(cut / "segments", "s2-c rec2 1.5 2.3", "s2-c rec2 1.5 2.6")
    found = read_utterances(cut)
    assert list(found) == ["s1-a", "s1-b"] and found.left_out == {"s2-c"}
    assert list(read_transcripts(cut / "text", found)) == ["s1-a", "s1-b"]
    found.left_out = frozenset()
    with pytest.raises(UserError, match="id s2-c is not in segments"):
        read_transcripts(cut / "text", found)


def test_a_segment_without_recording_is_a_problem_and_not_a_traceback(cut):
    (cut / "audio/rec2.wav").unlink()
    assert any("rec2.wav: no such audio file" in one and "wav.scp:2" in one for one in validate(cut))
    with pytest.raises(UserError, match="rec2.wav: no such audio file"):
        read_utterances(cut)
    (cut / "segments").write_text("\n")
    assert any(
        "expected segments 'utterance recording start end', found none" in one for one in validate(cut)
    )


def test_paths_start_at_the_working_directory_or_beside_the_table(here, monkeypatch):
    for name in ("x.wav", "t/y.wav", "t/two words.wav", "t/c1.wav", "t/c 2.wav"):
        wavfile_of(Path(name), grid(1, 50))
    table = {"a": "x.wav", "b": "y.wav", "c": "two words.wav", "d": "c1.wav x.wav"}
    write_scp("t/wav.scp", table)
    found = read_entries("t/wav.scp")
    assert found == {"a": "x.wav", "b": "t/y.wav", "c": "t/two words.wav", "d": "t/c1.wav x.wav"}
    write_set("made", {"wav.scp": found})
    monkeypatch.chdir("/")
    assert [audio_info(entry)[0] for entry in read_entries(here / "made/wav.scp").values()] == [1, 1, 1, 2]
    write_scp(here / "t/wav.scp", {"a": "x.wav"})
    with pytest.raises(UserError, match="start at the working directory, or beside their table"):
        audio_info(read_entries(here / "t/wav.scp")["a"])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("~/x.wav", "~ is a letter of the name here"),
        ('"x.wav"', '" is a letter of the name here'),
        ("x.ark:123[0:99]", "ranges are not read"),
        ("sph2pipe -f wav x.sph |", "piped commands are not read"),
    ],
)
def test_what_a_shell_or_kaldi_would_read_is_named(here, entry, message):
    write_scp("wav.scp", {"a": entry})
    with pytest.raises(UserError, match=re.escape(message)) as stop:
        audio_info(read_entries("wav.scp")["a"])
    assert "\n" not in str(stop.value)


def test_advice_destroys_nothing(mixtures):
    edit(mixtures / "text_spk2", "utt5", "utt5\nutt6 X")
    problems = "\n".join(validate(mixtures))
    assert "id utt6 is not in wav.scp (correct the id, or add it to wav.scp)" in problems
    with pytest.raises(UserError, match="id utt6 is not in wav.scp .correct the id, or add it"):
        MixtureSet(mixtures).texts("utt0")
    Path("t").write_text("b 1\na 2\n")
    with pytest.raises(UserError, match="LC_ALL=C sort -o t t"):  # sort t > t would empty it
        read_scp("t")


def _tables(folder, names, ids=("a",)):
    Path(folder).mkdir(parents=True)
    for name in names.split():
        text = "".join(f"{key} x\n" for key in ids)
        (Path(folder) / name).parent.mkdir(exist_ok=True)
        (Path(folder) / name).write_text(text)


@pytest.mark.parametrize(
    "names",
    ["wav.scp text utt2spk spk2utt", "wav.scp segments", "utt2spk", "wav.scp text utt2num_samples array"],
)
def test_a_directory_of_somebody_else_is_not_written_over(here, mixtures, names):
    _tables("mine", names)
    before = {path: path.read_text() for path in Path("mine").iterdir()}
    with pytest.raises(UserError, match="mine: expected a new directory or one made by this command"):
        check_new_set("mine", mixtures)
    with pytest.raises(UserError, match="made by this command"):
        subset(mixtures, "mine", ["utt1"])
    assert {path: path.read_text() for path in Path("mine").iterdir()} == before


@pytest.mark.parametrize("name", ["thesis.tex", ".git", "photos/a.png", "spk3.scp", "text_spk3"])
def test_a_set_takes_no_place_of_other_files(here, mixtures, name):
    """Neither of a directory without tables, nor of a set to which something was added."""
    _tables("notes", name)
    subset(mixtures, "part", ["utt1"])
    _tables("part/beside", name)
    shutil.move("part/beside/" + name.split("/")[0], "part")
    shutil.rmtree("part/beside")
    for place in ("notes", "part"):
        with pytest.raises(UserError, match=rf"{place}: holds {name.split('/')[0]}, which would be lost"):
            subset(mixtures, place, ["utt1"])
        assert Path(place, name).exists()


def test_sets_made_here_may_be_made_again(here, mixtures):
    for names, ids in (  # of 0.2.0: a mixture set, recordings, chunks, a subset, a recogniser's
        ("wav.scp utt2spk spk2utt utt2num_samples scenes.jsonl", ["a"]),
        ("wav.scp utt2spk spk2utt utt2num_samples array", ["a"]),
        ("wav.scp utt2spk spk2utt utt2num_samples wav/m1.json", ["a"]),
        ("wav.scp utt2spk spk2utt utt2num_samples spk1.scp text_spk1", ["a"]),
        ("wav.scp utt2spk spk2utt utt2num_samples text", ["s-dry-a", "s-dry2-a", "s-room1-a", "s-sep-a"]),
        ("notes", ["a"]),
    ):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree("old")
        _tables("old", names, ids)
        check_new_set("old", mixtures)
    check_new_set(mixtures)
    subset(mixtures, "part", ["utt1"])
    subset(mixtures, "part", ["utt1", "utt2"])
    (mixtures / "segments").write_text("of the user\n")  # beside what was made here
    with pytest.raises(UserError, match="found another's segments"):
        check_new_set(mixtures)


def test_the_source_is_no_place_for_a_set(here, mixtures):
    os.symlink(mixtures.absolute(), "link")
    for source in (mixtures, "link", mixtures / "wav.scp"):
        with pytest.raises(UserError, match="is the source itself"):
            check_new_set(mixtures, source)
