"""From a folder of recordings to training chunks: layouts, channel files, speech, division, adaptation."""

import os
import re

import numpy as np
import pytest
import soundfile
from tiny_models import FS, recording, write

import frontend.data.segments as speech_spans
from frontend.data.audio import Recording, audio_info, entry_stamp, read_audio
from frontend.data.chunks import Chunk, chunk_spans, make_chunks, split
from frontend.data.kaldi import read_scp, validate
from frontend.data.recordings import find_recordings, in_channel_order, prepare
from frontend.data.segments import read_spans, spans_by_energy
from frontend.dsp.arrays import read_geometry
from frontend.training.checks import check_start
from frontend.utils.errors import UserError
from frontend.utils.stamps import of_tree


def _talk(seconds: float, channels: int = 2, seed: int = 0, pauses: float = 1.0) -> np.ndarray:
    """Noise that comes and goes: 4 s of it, then a pause with a little."""
    noise = recording(round(seconds * FS), channels, seed)
    time = np.arange(noise.shape[1]) / FS
    return (noise * np.where(time % (4 + pauses) < 4, 1.0, 0.003)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    """A folder of two recordings of two channels."""
    for k, name in enumerate(["a", "sub/b"]):
        write(tmp_path / "in" / f"{name}.wav", _talk(60, seed=k))
    return tmp_path / "in"


def test_a_multi_channel_file_is_named_where_it_lies(command, folder, tmp_path):
    code, out, _ = command("data recordings", "--recordings", folder, "--out", tmp_path / "whole")
    assert code == 0 and "2 recordings, 2.0 min, 2 channels at 8000 Hz" in out
    wav = read_scp(tmp_path / "whole/wav.scp")
    assert wav == {"a": str(folder / "a.wav"), "sub-b": str(folder / "sub/b.wav")}
    assert not (tmp_path / "whole/wav").exists()
    assert (tmp_path / "whole/array").read_text() == "2 none 8000\n"
    assert validate(tmp_path / "whole") == []


@pytest.mark.parametrize("name", ["m_ch{}", "m.CH{}", "m-{}", "m_{}", "m_mic0{}", "m.Array1-0{}"])
def test_channel_files_equal_the_multi_channel_file(tmp_path, name):
    audio = _talk(47.3, channels=3)
    for k in range(3):
        write(tmp_path / "in" / f"{name.format(k + 1)}.wav", audio[k : k + 1])
    [name] = prepare(str(tmp_path / "in"), str(tmp_path / "whole"))
    assert name == re.split("[_.-](?:ch|CH|mic)?0?{}", name)[0]
    merged, fs = read_audio(read_scp(tmp_path / "whole/wav.scp")[name])
    direct, _ = read_audio(write(tmp_path / "direct.wav", audio))
    assert fs == FS and np.array_equal(merged, direct)


def test_merged_files_are_made_once(tmp_path):
    for k in range(2):
        write(tmp_path / "in" / f"m-{k}.wav", _talk(3)[k : k + 1])
    prepare(str(tmp_path / "in"), str(tmp_path / "whole"))
    merged = tmp_path / "whole/wav/m.flac"
    before = merged.stat().st_mtime_ns
    prepare(str(tmp_path / "in"), str(tmp_path / "whole"))
    assert merged.stat().st_mtime_ns == before
    other = _talk(3, seed=5)
    write(tmp_path / "in/m-1.wav", other[1:])
    os.utime(tmp_path / "in/m-1.wav", (0, 0))  # older than what was made of the former one
    prepare(str(tmp_path / "in"), str(tmp_path / "whole"))
    assert np.allclose(read_audio(str(merged))[0][1], other[1], atol=2.0**-15)


def test_a_table_of_recordings(folder, tmp_path):
    (tmp_path / "my.scp").write_text(f"one {folder}/a.wav\ntwo {folder}/sub/b.wav\n")
    assert list(find_recordings(str(tmp_path / "my.scp"))) == ["one", "two"]


def test_a_pattern_of_one_s_own(tmp_path):
    for k in "12":
        write(tmp_path / "in" / f"c{k}_x.wav", _talk(3)[:1])
    with pytest.raises(UserError, match="one channel; expected several"):
        find_recordings(str(tmp_path / "in"))
    # The name's group comes first, so that it must be found behind the number: a lookahead does it.
    for pattern in (r"(?=.*_(.+))c([0-9])_.+", r"c(?P<channel>[0-9])_(?P<name>.+)"):
        found = find_recordings(str(tmp_path / "in"), pattern)
        assert {name: one.channels for name, one in found.items()} == {"x": 2}
    for pattern in ("x", "(x)", "(a)(b)(c)", "(?P<name>x)"):
        with pytest.raises(UserError, match=r"expected a group \(\?P<channel>"):
            find_recordings(str(tmp_path / "in"), pattern)
    with pytest.raises(UserError, match="not a regular expression"):
        find_recordings(str(tmp_path / "in"), "(")


@pytest.mark.parametrize(
    ("names", "recording", "order"),
    [
        (["ES2002a.Array1-{:02d}"], ["ES2002a.Array1"], 1),
        (["S02_U01.CH{}_x"], ["S02_U01_x"], 1),
        (["rec_CH{}_20200101"], ["rec_20200101"], 1),
        (["rec_CH{}_001", "rec_CH{}_002"], ["rec_001", "rec_002"], 1),
        (["ch{}", "day/ch{}"], ["day", "recording"], 0),
        (["CH{}/rec"], ["rec"], 1),
        (["a.channel-{}.far", "b-mic{}"], ["a.far", "b"], 0),
        (["meet_mic{}_far"], ["meet_far"], 1),
        (["dev_mic01-{}", "dev_mic02-{}"], ["dev_mic01", "dev_mic02"], 1),
        (["会 议 ch{}"], ["会_议"], 1),
        (["m_20200101_{}"], ["m_20200101"], 0),
    ],
)
def test_channels_are_found_by_the_names(tmp_path, names, recording, order):
    audio = _talk(3, channels=12)
    for name in names:
        for k in range(12):
            write(tmp_path / "in" / f"{name.format(k + order)}.wav", audio[k : k + 1])
    found = find_recordings(str(tmp_path / "in"))
    assert list(found) == recording
    for one in found.values():
        assert np.array_equal(one.read(), read_audio(write(tmp_path / "all.wav", audio))[0])


@pytest.mark.parametrize(
    ("pattern", "recording"),
    [
        (r"(?P<session>S\d+)_(?P<device>U\d+)\.CH(?P<channel>\d+)_x", ["S02_U01"]),
        (r"S02_(?P<channel>\d)?U(?P<device>\d+)\.CH(?P<rest>\d+)_x", None),
        (r".*CH(?P<channel>\d+).*", ["day-S02_U01.CH_x"]),
        (r"(.*)\.ch(\d+)_x", ["day-S02_U01"]),
    ],
)
def test_a_pattern_has_any_number_of_groups(tmp_path, pattern, recording):
    for k in (1, 2):
        write(tmp_path / "in/day" / f"S02_U01.CH{k}_x.wav", _talk(3, seed=k)[:1])
    if recording is None:
        with pytest.raises(UserError, match="expected a number as channel"):
            find_recordings(str(tmp_path / "in"), pattern)
        return
    found = list(find_recordings(str(tmp_path / "in"), pattern))
    assert found == recording or found == [f"day-{recording[0]}"]


def test_channels_are_in_the_order_of_their_numbers():
    shell = ["a/m-1.wav", "a/m-10.wav", "a/m-2.wav"]
    assert in_channel_order(shell) == ["a/m-1.wav", "a/m-2.wav", "a/m-10.wav"]
    assert in_channel_order(["CH10/x.wav", "CH9/x.wav"]) == ["CH9/x.wav", "CH10/x.wav"]
    assert in_channel_order(["r.CH10_x.wav", "r.CH9_x.wav"]) == ["r.CH9_x.wav", "r.CH10_x.wav"]
    for kept in (["b-2.wav", "a-1.wav"], ["left.wav", "right.wav"], ["m-2.wav", "m-02.wav"], ["x.wav"]):
        assert in_channel_order(kept) == kept


def test_what_was_made_of_recordings_is_not_found_among_them(tmp_path, capsys):
    """``--recordings . --out data``, twice: the joined files in ``data/wav`` are no recordings."""
    for k in (1, 2):
        write(tmp_path / f"a_ch{k}.wav", _talk(3, channels=1, seed=k))
    for _ in range(2):
        assert list(prepare(str(tmp_path), str(tmp_path / "data"))) == ["a"]
    assert "passed over 1 file(s) of sets that this program made" in capsys.readouterr().err


def test_links_are_followed_and_what_is_hidden_is_not(tmp_path, capsys):
    folder, store = tmp_path / "in", tmp_path / "store"
    write(folder / "day1/a.wav", _talk(3))
    write(store / "day2/b.WAV", _talk(3, seed=1))
    write(store / "c.wav", _talk(3, seed=2))
    (folder / "day2").symlink_to(store / "day2")
    (folder / "again").symlink_to(folder / "day1")  # each real directory once
    (folder / "day1/loop").symlink_to(folder)
    (folder / "c.wav").symlink_to(store / "c.wav")
    (folder / "annexed.wav").symlink_to(".git/annex/objects/not_here.wav")
    for hidden in ("._a.wav", "day1/._a.wav", ".Trash-1000/x.wav", ".git/annex/y.wav", "__MACOSX/z.wav"):
        write(folder / hidden, _talk(3, channels=3))
    for other in ("day1/notes.txt", "speech.mp3"):
        (folder / other).write_text("no audio")
    assert list(find_recordings(str(folder))) == ["c", "day1-a", "day2-b"]
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 2
    assert "annexed.wav: passed over, it is a link to nothing" in err[0]
    assert "passed over 1 file(s) of formats that are not read, such as" in err[1] and "speech.mp3" in err[1]
    before = of_tree(folder)
    write(store / "day2/e.wav", _talk(3, seed=3))
    assert of_tree(folder) != before, "a stage sees what is behind a link"
    (store / "day2/e.wav").unlink()
    assert of_tree(folder) == before
    (tmp_path / ".hidden").symlink_to(folder)
    assert len(find_recordings(str(tmp_path / ".hidden"))) == 3, "named by the user"


def test_one_recording_is_a_file(command, tmp_path):
    path = write(tmp_path / "my meeting.WAV", _talk(3))
    assert command("data recordings", "--recordings", path, "--out", tmp_path / "whole")[0] == 0
    assert read_scp(tmp_path / "whole/wav.scp") == {"my_meeting": path}
    mono = write(tmp_path / "mono.wav", _talk(3)[:1])
    code, _, err = command("data recordings", "--recordings", mono, "--out", tmp_path / "whole")
    assert code == 2 and "one channel; expected several" in err


@pytest.mark.parametrize("fs", [None, 4000])
@pytest.mark.parametrize("files", [1, 2])
def test_samples_beyond_full_scale_are_kept(tmp_path, capsys, fs, files):
    audio = 20 * _talk(60)
    channels = [audio] if files == 1 else [audio[:1], audio[1:]]
    for k, part in enumerate(channels, 1):
        write(tmp_path / "in" / f"m{'' if files == 1 else f'_{k}'}.wav", part, subtype="FLOAT")
    for _ in range(2):  # the second time nothing is made
        prepare(str(tmp_path / "in"), str(tmp_path / "whole"), fs)
    entry = read_scp(tmp_path / "whole/wav.scp")["m"]
    found, _ = read_audio(entry)
    if fs is None:
        assert np.array_equal(found, audio)
    else:
        assert np.abs(found).max() > 2
    outs = str(tmp_path / "train"), str(tmp_path / "dev")
    for _ in range(2):
        make_chunks(str(tmp_path / "whole"), outs, min_speech=10)
    chunks = {k: v for out in outs for k, v in read_scp(f"{out}/wav.scp").items()}
    for name, chunk in chunks.items():
        _, start, end = name.rsplit("-", 2)
        assert np.array_equal(read_audio(chunk)[0], found[:, int(start) : int(end)])
    err = capsys.readouterr().err
    assert err.count("a peak of") <= 3, "one line a recording and set"
    assert ("m.flac: a peak of" in err) == (
        files == 2 or fs is not None
    ) and "of 32-bit floats, to the sample" in err


@pytest.mark.parametrize("offset", [(0.1, 0.1), (0.0, 0.2)])
def test_chunks_do_not_depend_on_an_offset(command, tmp_path, offset):
    ids = []
    for name, value in (("plain", (0, 0)), ("offset", offset)):
        audio = _talk(60) / 2 + np.array(value, np.float32)[:, None]
        write(tmp_path / name / "m.wav", audio)
        prepare(str(tmp_path / name), str(tmp_path / f"w_{name}"))
        outs = [tmp_path / f"{name}_{part}" for part in ("train", "dev")]
        assert (
            command("data chunks", "--data", tmp_path / f"w_{name}", "--out", *outs, "--min_speech", 9)[0]
            == 0
        )
        ids.append([list(read_scp(out / "wav.scp")) for out in outs])
    assert ids[0] == ids[1]
    assert validate(tmp_path / "w_offset") == []


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_constant_channels_and_copies_are_named(tmp_path, capsys, value):
    audio = _talk(25, channels=4)
    audio[1], audio[3] = audio[0], -audio[2]
    write(tmp_path / "in/m.wav", audio)
    prepare(str(tmp_path / "in"), str(tmp_path / "whole"))
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 2 and "m.wav: channel 2 is a copy of" in err[0] and "channel 1: it adds" in err[0]
    assert "channel 4 is" in err[1] and "channel 3, with the opposite sign" in err[1]
    audio[2] = value
    write(tmp_path / "in/m.wav", audio)
    with pytest.raises(
        UserError, match=f"m.wav: channel 3 is silent.*{'constant 0.1' if value else ''}, expected speech"
    ):
        prepare(str(tmp_path / "in"), str(tmp_path / "whole"))


def test_files_of_one_array_differ_in_length_by_a_tenth_of_a_second(tmp_path, capsys):
    audio = _talk(3)
    paths = [write(tmp_path / "m-1.wav", audio[:1, :-680]), write(tmp_path / "m-2.wav", audio[1:])]
    assert np.array_equal(
        Recording(paths).read(), read_audio(write(tmp_path / "all.wav", audio[:, :-680]))[0]
    )
    assert "differ in length by up to 85 ms: cut to the shortest, 23320 samples" in capsys.readouterr().err
    paths.append(write(tmp_path / "m-3.wav", np.tile(audio[1:], 2)[:, : 24000 + 200]))
    with pytest.raises(UserError, match="m-1.wav: expected 24200 samples .* to within 100 ms as .*m-3.wav"):
        Recording(paths)


def test_an_entry_of_several_files_is_one_recording(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    audio = _talk(3, channels=3)
    write(tmp_path / "a 1.wav", audio)
    for k in range(3):
        write(tmp_path / f"c{k}.wav", audio[k : k + 1])
    entry = "c0.wav  c1.wav\tc2.wav"
    assert audio_info(entry) == audio_info("a 1.wav") == (3, 24000, FS)
    assert np.array_equal(read_audio(entry)[0], read_audio("a 1.wav")[0])
    assert np.array_equal(read_audio(entry, 100, 50)[0], Recording([entry]).read(100, 50))
    assert entry_stamp(entry) == sum((entry_stamp(f"c{k}.wav") for k in range(3)), ())
    (tmp_path / "table").write_text(f"m {entry}\n")
    prepare("table", "whole")
    assert np.array_equal(read_audio(read_scp("whole/wav.scp")["m"])[0], read_audio("a 1.wav")[0])
    for wrong in ("c0.wav c7.wav", "c8.wav c7.wav", "a 1.wav c7.wav"):
        with pytest.raises(
            UserError, match=f"^{wrong}: no such audio file; read as . files, one a channel, '"
        ):
            audio_info(wrong)


def _mono(folder, **files):
    for name, seconds in files.items():
        write(folder / f"{name}.wav", _talk(seconds)[:1])


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (lambda d: None, "expected a folder of recordings"),
        (lambda d: d.mkdir(), "expected wav or flac files"),
        (lambda d: _mono(d, lecture=3), "one channel; expected several"),
        (lambda d: _mono(d, m_ch1=3), "the only channel of recording 'm'"),
        (lambda d: _mono(d, m_ch1=3, m_ch3=3), "channel 2 is missing"),
        (lambda d: _mono(d, m_ch2=3, m_ch3=3), "channel 1 is missing"),
        (lambda d: _mono(d, m_ch1=3, m_ch01=3), "channel 1 of 'm' is also"),
        (
            lambda d: _mono(d, m_ch1=3, m_ch2=2.8),
            "m_ch2.wav: expected 24000 samples at 8000 Hz to within 100 ms as .*m_ch1.wav of the same",
        ),
        (
            lambda d: (write(d / "a.wav", _talk(3)), write(d / "b.wav", _talk(3, 3))),
            "'b' has 3 channels, 'a' has 2",
        ),
        (
            lambda d: (write(d / "a.wav", _talk(3)), write(d / "b.wav", _talk(3), 16000)),
            "'b' has 16000 Hz, 'a' has 8000",
        ),
        (
            lambda d: (write(d / "m-1.wav", _talk(3)[:1]), write(d / "m-2.wav", _talk(6)[:1], 16000)),
            "of the same recording",
        ),
        (lambda d: (write(d / "m.wav", _talk(3)), write(d / "m.flac", _talk(3))), "same id"),
        (lambda d: (write(d / "m.wav", _talk(3)), _mono(d, m_1=3, m_2=3)), "keep the multi-channel file"),
        (lambda d: write(d / "m.wav", _talk(3) * [[1], [0]]), "m.wav: channel 2 is silent"),
        (lambda d: (d.mkdir(), (d / "m.wav").write_bytes(b"no audio")), "expected wav or flac audio"),
        (lambda d: (write(d / "m.wav", _talk(3)), _cut(d / "m.wav")), "truncated"),
    ],
)
def test_wrong_layouts_are_one_line(command, tmp_path, layout, message):
    layout(tmp_path / "in")
    code, _, err = command("data recordings", "--recordings", tmp_path / "in", "--out", tmp_path / "whole")
    assert code == 2 and re.search(message, err), err
    assert not (tmp_path / "whole/wav.scp").exists()


def _cut(path):
    path.write_bytes(path.read_bytes()[:20000])


def test_a_silent_channel_file_leaves_no_merged_recording(tmp_path):
    write(tmp_path / "in/m-1.wav", _talk(3)[:1])
    write(tmp_path / "in/m-2.wav", 0 * _talk(3)[:1])
    with pytest.raises(UserError, match="m-2.wav: channel 1 is silent"):
        prepare(str(tmp_path / "in"), str(tmp_path / "whole"))
    assert not list((tmp_path / "whole").rglob("*.flac"))


def test_a_higher_rate_is_lowered_and_a_lower_one_refused(tmp_path):
    write(tmp_path / "in/m.wav", _talk(30), 16000)
    prepare(str(tmp_path / "in"), str(tmp_path / "whole"), fs=8000, geometry="linear")
    assert audio_info(read_scp(tmp_path / "whole/wav.scp")["m"]) == (2, 15 * 8000, 8000)
    assert (tmp_path / "whole/array").read_text() == "2 linear 8000\n"
    with pytest.raises(UserError, match="16000 Hz, expected 24000 Hz or more"):
        prepare(str(tmp_path / "in"), str(tmp_path / "other"), fs=24000)


def test_more_than_eight_channels_and_more_than_16_bits(tmp_path):
    audio = recording(5000, 9)
    fine = tmp_path / "fine.wav"
    soundfile.write(fine, audio.T, FS, subtype="PCM_24")
    assert Recording([str(fine)]).is_wide()
    assert not Recording([write(tmp_path / "coarse.wav", audio)]).is_wide()


@pytest.mark.parametrize(
    ("positions", "kind"),
    [
        ([(0.05, 0, 0), (0, 0.05, 0), (-0.05, 0, 0), (0, -0.05, 0)], "circular"),
        (
            [(0.05, 0, 0), (-0.05, 0, 0), (0, 0.05, 0), (0, -0.05, 0)],
            "linear",
        ),  # mirrored, a diagonal is its own
        ([(0.05, 0, 0), (0, 0.05, 0), (-0.05, 0, 0), (0, -0.07, 0)], "none"),
        ([(0, 0, 0), (0.03, 0, 0), (0.06, 0, 0)], "linear"),
        ([(0, 0, 0), (0.03, 0, 0), (0.09, 0, 0)], "none"),
    ],
)
def test_the_symmetry_of_coordinates(tmp_path, positions, kind):
    path = tmp_path / "array.txt"
    path.write_text("# x y z\n" + "".join(f"{x} {y} {z}\n" for x, y, z in positions))
    assert read_geometry(str(path), len(positions)) == kind
    with pytest.raises(UserError, match="for each of the 6 channels"):
        read_geometry(str(path), 6)


def test_unusable_geometry(tmp_path):
    with pytest.raises(UserError, match="expected circular, linear, none or a file"):
        read_geometry("round", 4)
    (tmp_path / "array.txt").write_text("0 0 0\n0 0\n")
    with pytest.raises(UserError, match="array.txt:2: expected 'x y z'"):
        read_geometry(str(tmp_path / "array.txt"), 2)


@pytest.mark.parametrize(
    ("speech", "expected"),
    [
        ([(10, 14)], [(10, 14)]),
        ([(10, 11)], [(9, 12)]),  # widened
        ([(0, 1)], [(0, 3)]),
        ([(99.5, 100)], [(97, 100)]),
        ([(10, 30)], [(10, 10 + 20 / 3), (10 + 20 / 3, 10 + 40 / 3), (10 + 40 / 3, 30)]),
        ([(10, 12), (12.4, 14)], [(10, 14)]),  # a short pause
        ([(10, 14), (14.8, 15.2), (16, 20)], [(10, 14), (16, 20)]),  # no room for the middle one
    ],
)
def test_chunks_of_a_stretch(speech, expected):
    assert np.allclose(chunk_spans(speech, 100.0), expected)


def test_chunks_are_bounded_and_apart():
    for seed in range(200):
        edges = np.sort(np.random.default_rng(seed).uniform(0, 120, 24)).reshape(-1, 2)
        spans = chunk_spans([tuple(e) for e in edges], 120.0)
        assert all(3 - 1e-6 <= b - a <= 8 + 1e-6 for a, b in spans)
        assert all(a >= 0 and b <= 120 + 1e-6 for a, b in spans)
        assert all(first[1] <= second[0] + 1e-6 for first, second in zip(spans, spans[1:], strict=False))


def test_validation_chunks_are_stretches_of_their_own():
    every = [Chunk(f"r{r}", 100 * k, 100 * k + 100) for r in range(3) for k in range(40)]
    train, dev = split(every, 0.1, seed=0)
    place = {chunk: i for i, chunk in enumerate(every)}
    assert len(dev) == 12 and not set(train) & set(dev)
    for chunk in train:
        near = [c for c in dev if c.recording == chunk.recording and abs(place[c] - place[chunk]) == 1]
        assert not near, "a neighbour of a validation chunk is in training"
    runs = np.diff(sorted(place[c] for c in dev))
    assert (runs == 1).sum() == 9 and (runs > 4).sum() == 2, "three runs of four, none side by side"
    assert split(every, 0.1, seed=0) == (train, dev) != split(every, 0.1, seed=1)


@pytest.fixture
def whole(folder, tmp_path):
    prepare(str(folder), str(tmp_path / "whole"))
    return tmp_path / "whole"


def test_chunks_are_cut_where_there_is_sound(command, whole, tmp_path):
    outs = [tmp_path / "train", tmp_path / "dev"]
    code, out, _ = command("data chunks", "--data", whole, "--out", *outs)
    assert code == 0 and "for training" in out
    assert [validate(path) for path in outs] == [[], []]
    entries = {k: v for path in outs for k, v in read_scp(path / "wav.scp").items()}
    for name, entry in entries.items():
        recording_id, start, end = name.rsplit("-", 2)
        source, _ = read_audio(read_scp(whole / "wav.scp")[recording_id], int(start), int(end) - int(start))
        assert np.array_equal(read_audio(entry)[0], source)
        assert int(start) / FS % 5 > 4.5 or int(start) / FS % 5 < 0.1, "speech starts every 5 s"
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.flac")}
    assert before and command("data chunks", "--data", whole, "--out", *outs)[0] == 0
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.flac")} == before


def test_rttm_and_segments_say_where(command, whole, tmp_path):
    turns = [
        ("a", 10.0, 14.0),
        ("a", 13.0, 16.0),
        ("sub-b", 20.0, 50.0),
        ("sub-b", 1.0, 19.0),
        ("a", 17.0, 60.0),
    ]
    rttm, segments = tmp_path / "x.rttm", tmp_path / "segments"
    rttm.write_text("".join(f"SPEAKER {r} 1 {a} {b - a} <NA> <NA> A <NA> <NA>\n" for r, a, b in turns))
    segments.write_text("".join(f"{r}-{k} {r} {a} {b}\n" for k, (r, a, b) in enumerate(turns)))
    ids = []
    for option in (["--rttm", rttm], ["--segments", segments]):
        outs = [tmp_path / f"by{option[0]}/train", tmp_path / f"by{option[0]}/dev"]
        assert command("data chunks", "--data", whole, "--out", *outs, *option)[0] == 0
        ids.append(sorted(k for path in outs for k in read_scp(path / "wav.scp")))
    assert ids[0] == ids[1]
    inside = {"a": [(10, 16), (17, 60)], "sub-b": [(1, 19), (20, 50)]}
    for name in ids[0]:
        recording_id, start, end = name.rsplit("-", 2)
        spans = inside[recording_id]
        assert any(a * FS - 1 <= int(start) and int(end) <= b * FS + 1 for a, b in spans)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("u1 a 1.0\n", "segments:1: expected 'utterance recording start end'"),
        ("u1 a 5.0 2.0\n", "segments:1"),
        ("u1 c 1.0 2.0\n", "no recording 'c'"),
        ("u1 a 1.0 200.0\n", "cut at the end .* expected at most its 60.00 s(.|\n)*found 59.0 s of speech"),
        ("", "found none"),
        ("u1 a 1.0 9.0\n", "found 8.0 s of speech .* expected at least 60 s"),
    ],
)
def test_unusable_segments(command, whole, tmp_path, text, message):
    (tmp_path / "segments").write_text(text)
    outs = [tmp_path / "train", tmp_path / "dev"]
    code, _, err = command(
        "data chunks", "--data", whole, "--out", *outs, "--segments", tmp_path / "segments"
    )
    assert code == 2 and re.search(message, err), err
    assert not (tmp_path / "train").exists()


RTTM = "SPEAKER {} 1 {} {} <NA> <NA> A <NA> <NA>\n"


@pytest.mark.parametrize(
    ("name", "text", "warnings"),
    [
        # Kaldi's -1; more than is there of either; recordings of the rest of a corpus; other types of line
        ("segments", "u1 a 1 -1\nu2 sub-b 1.0 -1\n", []),
        (
            "segments",
            "u1 a 1 61.5\nu2 sub-b 1 60\nu3 zz 0 9\n",
            ["segments:1: ends at 61.50", "segments:3: no"],
        ),
        ("x.rttm", RTTM.format("a", 1, 59.05) + RTTM.format("sub-b", 1, 59), []),
        (
            "x.rttm",
            ";; c\nSPKR-INFO a 1 <NA> <NA> <NA> unknown A <NA>\n\ufeff"
            + RTTM.format("a", 1, 60.5)
            + RTTM.format("zz", 1, 2)
            + RTTM.format("zy", 1, 2)
            + "\r\n"
            + RTTM.format("sub-b", 1, 59).replace(" <NA>\n", "\r\n")
            + RTTM.format("a", 99, 2)
            + RTTM.format("a", 9, 0),
            ["x.rttm:3: ends at 61.50 s", "2 of recordings that are not given", "x.rttm:4: no recording 'zz'"]
            + ["x.rttm:8: 99.00 to 101.00 s", "x.rttm:9: expected start < end"],
        ),
    ],
)
def test_what_fits_of_a_file_of_speech_is_used(tmp_path, capsys, name, text, warnings):
    path, seconds = tmp_path / name, {"a": 60.0, "sub-b": 60.0}
    path.write_text(text)
    kind = "segments" if name == "segments" else "rttm"
    assert read_spans(path, kind, seconds) == {"a": [(1.0, 60.0)], "sub-b": [(1.0, 60.0)]}
    said = capsys.readouterr().err
    assert said.count("\n") == bool(warnings) and all(part in said for part in warnings), said
    if warnings:
        with pytest.raises(UserError, match=re.escape(f"{path}:")):
            read_spans(path, kind, seconds, strict=True)


def test_a_uem_is_no_rttm_and_strict_stops(command, whole, tmp_path):
    (tmp_path / "x.rttm").write_text("a 1 0.0 60.0\n")
    options = ["--data", whole, "--out", tmp_path / "train", tmp_path / "dev", "--rttm", tmp_path / "x.rttm"]
    code, _, err = command("data chunks", *options)
    assert code == 2 and "x.rttm:1: expected 'SPEAKER session 1 start" in err
    (tmp_path / "x.rttm").write_text(RTTM.format("a", 1, 58) + RTTM.format("sub-b", 1, 58) + "a 1 0 60\n")
    code, _, err = command("data chunks", *options, "--strict")
    assert code == 2 and "x.rttm:3: expected 'SPEAKER" in err and not (tmp_path / "train").exists()
    code, out, err = command("data chunks", *options)
    assert code == 0 and err.count("warning: ") == 1 and "x.rttm:3: expected" in err and "for training" in out


def test_speech_by_energy_does_not_depend_on_blocks(whole, monkeypatch):
    entry = read_scp(whole / "wav.scp")["a"]
    expected = spans_by_energy(entry)
    assert len(expected) == 12
    monkeypatch.setattr(speech_spans, "_BLOCK_S", 7.0)
    assert spans_by_energy(entry) == expected


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_mics": 4}, "trained for 2 microphones, expected 4"),
        ({"fs": 16000}, "trained for 8000 Hz, expected 16000"),
        ({"n_outputs": 4}, "trained for 3 outputs, expected 4"),
        ({"blocks": 2}, "separator_conf.blocks is 1, expected 2"),
        ({"n_fft": 256}, "encoder_conf.n_fft is 128, expected 256"),
        ({"n_fft": 256, "more": "optim_conf: 3"}, r"teacher.yaml: optim_conf: settings .* found 3"),
    ],
)
def test_a_model_that_does_not_fit_is_no_start(models, tmp_path, changed, message):
    def start(n_mics=2, fs=FS, n_outputs=3, blocks=1, n_fft=128, more=""):
        stft = f"{{n_fft: {n_fft}, hop_length: {n_fft // 2}}}"
        config = tmp_path / "teacher.yaml"
        config.write_text(
            f"encoder: stft\nencoder_conf: {stft}\ndecoder: stft\ndecoder_conf: {stft}\n"
            f"separator: mask_net\nseparator_conf: {{blocks: {blocks}}}\n{more}\n"
        )
        check_start(str(models / "teacher"), str(config), n_mics, fs, n_outputs)

    start()
    with pytest.raises(UserError, match=message):
        start(**changed)


def test_a_link_to_a_recording_counts_once_under_the_recording_s_own_name(command, folder, tmp_path):
    (folder / "0_latest.wav").symlink_to("a.wav")
    (folder / "sub/z.wav").symlink_to(folder / "a.wav")
    write(tmp_path / "elsewhere.wav", _talk(3))
    for name in ("k1.wav", "k2.wav"):  # not there under its own name: the first of the links
        (folder / name).symlink_to(tmp_path / "elsewhere.wav")
    code, _, err = command("data recordings", "--recordings", folder, "--out", tmp_path / "whole")
    assert code == 0 and sorted(read_scp(tmp_path / "whole/wav.scp")) == ["a", "k1", "sub-b"]
    assert err.count("warning") == 1
    assert (
        f"passed over 3 link(s) to files that are there, such as {folder}/0_latest.wav -> {folder}/a.wav"
        in err
    )


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"(.*)_([12])\.wav", "names come without their ending"),
        (r"_(?P<channel>[12])", "but a part of it, '_1'"),
        (r"(.*)(_[12])", "expected a number as channel, found '_1'"),
        (r"x(.*)_([12])", "expected the whole name"),
    ],
)
def test_a_pattern_that_matches_nothing_is_explained(tmp_path, pattern, why):
    for k in "12":
        write(tmp_path / "in" / f"{'long' * 20}_{k}.wav", _talk(3)[:1])
    with pytest.raises(UserError) as found:
        find_recordings(str(tmp_path / "in"), pattern)
    text = str(found.value)
    assert f"--channel_pattern '{pattern}' does not match '{'long' * 20}_1'" in text and why in text
    assert text.count("long" * 20) == 2  # of the file and of the name


def test_the_first_recording_that_is_joined_is_shown(command, tmp_path):
    for folder in ("CH1", "CH2"):
        write(tmp_path / "in" / folder / "rec.wav", _talk(3, seed=int(folder[-1]))[:1])
    _, out, _ = command("data recordings", "--recordings", tmp_path / "in", "--out", tmp_path / "whole")
    assert "joined: CH1/rec.wav CH2/rec.wav -> rec\n" in out
    for k in "12":
        write(tmp_path / f"two/a_{k}.wav", _talk(3, seed=int(k))[:1])
    _, out, _ = command("data recordings", "--recordings", tmp_path / "two", "--out", tmp_path / "w2")
    assert "joined: a_1.wav a_2.wav -> a\n" in out


def test_recordings_of_a_table_are_named_by_file_and_line(tmp_path):
    write(tmp_path / "a.wav", _talk(3))
    (tmp_path / "t.scp").write_text(f"a {tmp_path}/a.wav\nb {tmp_path}/b.wav\n")
    with pytest.raises(UserError, match=f"^{tmp_path}/t.scp:2: {tmp_path}/b.wav: no such audio file"):
        find_recordings(str(tmp_path / "t.scp"))


def test_rttm_of_recordings_that_differ_in_case_says_which_is_meant(tmp_path):
    (tmp_path / "x.rttm").write_text("SPEAKER ES2002A 1 0.5 1 <NA> <NA> s <NA> <NA>\n")
    with pytest.raises(UserError, match=r"no recording 'ES2002A' \(did you mean 'es2002a'\?\)"):
        read_spans(str(tmp_path / "x.rttm"), "rttm", {"es2002a": 9.0, "es2002b": 9.0})


@pytest.mark.parametrize("name", ["a\nb.wav", "a\rb.wav", "c\nd/a.wav"])
def test_a_path_that_no_table_holds_is_refused(tmp_path, name):
    write(tmp_path / "in" / name, _talk(5))
    with pytest.raises(UserError, match="expected a path in one line"):
        prepare(str(tmp_path / "in"), str(tmp_path / "whole"))
    assert not (tmp_path / "whole").exists()
