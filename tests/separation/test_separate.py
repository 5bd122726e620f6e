"""Inference, packing, and the command that separates recordings, with a tiny untrained network."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_models import FS, MICS, OUTPUTS, make_model, recording, write

from frontend.data.audio import audio_info, read_audio
from frontend.data.kaldi import validate, write_scp
from frontend.dsp.blind import separate_blind
from frontend.separation.model import Separator
from frontend.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("level", [1e-4, 1.0])
def test_outputs_have_length_and_level_of_therecording(models, level):
    separator = Separator.from_pretrained(models / "teacher")
    waveform = level * recording()
    streams = separator(waveform, FS)
    assert streams.shape == (OUTPUTS, 6000) and streams.dtype == np.float32
    np.testing.assert_allclose(streams.sum(0), waveform[0], atol=1e-4 * level)
    np.testing.assert_array_equal(streams, separator(waveform, FS))


@pytest.mark.parametrize("n_samples", [1, 10, 127, 128, 129, 1000])
def test_any_length(models, n_samples):
    streams = Separator.from_pretrained(models / "student")(recording(n_samples), FS)
    assert streams.shape == (2, n_samples) and np.isfinite(streams).all()


@pytest.mark.parametrize("samples", [6400, 6432, 6462, 6463])
def test_no_click_where_a_recording_is_cut_off_within_a_hop(models, samples):
    streams = Separator.from_pretrained(models / "teacher")(recording(samples), FS)
    assert np.abs(streams[:, -16:]).max() < 2 * np.abs(streams[:, :-16]).max()


def test_silence_stays_silent(models):
    assert not Separator.from_pretrained(models / "student")(np.zeros((MICS, 3000)), FS).any()


def test_resampling_keeps_rate_length_and_level(models):
    separator = Separator.from_pretrained(models / "student")
    t = np.arange(22050) / 44100
    waveform = np.stack([np.sin(2 * np.pi * 440 * t), np.sin(2 * np.pi * 440 * t + 1)])
    streams = separator(waveform, 44100, resample=True)
    assert streams.shape == (2, 22050)
    middle = slice(2000, -2000)
    np.testing.assert_allclose(streams.sum(0)[middle], waveform[0, middle], atol=0.02)


def test_one_microphone(tmp_path):
    separator = Separator.from_pretrained(make_model(tmp_path / "one", 2, n_mics=1))
    waveform = recording(channels=1)
    np.testing.assert_array_equal(separator(waveform[0], FS), separator(waveform, FS))


@pytest.mark.parametrize(
    ("waveform", "fs", "message"),
    [
        (recording(channels=3), FS, "2 channel.*found 3"),
        (recording(), 16000, "8000 Hz, found 16000"),
        (np.zeros((MICS, 0)), FS, "found none"),
        (np.full((MICS, 100), np.nan), FS, "NaN"),
    ],
)
def test_wrong_recordings(models, waveform, fs, message):
    with pytest.raises(UserError, match=message):
        Separator.from_pretrained(models / "student")(waveform, fs)


def test_wrong_models(models, tmp_path):
    with pytest.raises(UserError, match="config.yaml"):
        Separator.from_pretrained(tmp_path)
    other = shutil.copytree(models / "student", tmp_path / "other")
    shutil.copy(models / "teacher" / "valid.loss.ave.pth", other)
    with pytest.raises(UserError, match="do not fit"):
        Separator.from_pretrained(other)
    # The best epoch so far of a training that goes on is no trained system.
    (other / "valid.loss.ave.pth").rename(other / "valid.loss.best.pth")
    with pytest.raises(UserError, match="is its training done"):
        Separator.from_pretrained(other)
    (tmp_path / "x.zip").write_text("no zip")
    with pytest.raises(UserError, match="another file"):
        Separator.from_pretrained(tmp_path / "x.zip")
    with pytest.raises(UserError, match="device"):
        Separator.from_pretrained(models / "student", "cuda:99")


@pytest.mark.parametrize("name", ["packed", "packed.zip"])
def test_a_packed_system_is_the_same_elsewhere(models, tmp_path, command, name):
    training = shutil.copytree(models / "student", tmp_path / "training")
    assert command("pack", "--model", training, "--out", tmp_path / name)[0] == 0
    expected = Separator.from_pretrained(training)(recording(), FS)
    shutil.rmtree(training)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = shutil.move(tmp_path / name, elsewhere)
    np.testing.assert_array_equal(Separator.from_pretrained(moved)(recording(), FS), expected)
    if name == "packed":
        assert "somewhere" not in (Path(moved) / "config.yaml").read_text()
        assert command("pack", "--model", moved, "--out", moved)[0] == 2


# --- mixit separate


def test_files_are_separated_as_python_does(models, tmp_path, command):
    waveform = recording(level=0.05)
    path = write(tmp_path / "my talk.wav", waveform)
    code, out, _ = command("separate", "--model", models / "student", path, "-o", tmp_path / "out")
    assert code == 0 and "real-time factor" in out
    files = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert files == ["my talk_spk1.wav", "my talk_spk2.wav"]
    expected = Separator.from_pretrained(models / "student")(read_audio(path)[0], FS)
    for name, stream in zip(files, expected, strict=True):
        found, fs = read_audio(tmp_path / "out" / name)
        assert fs == FS and soundfile.info(tmp_path / "out" / name).subtype == "PCM_16"
        np.testing.assert_allclose(found[0], stream, atol=0.6 / 32768)


def test_what_would_clip_is_written_as_float(models, tmp_path, command):
    waveform = np.sign(recording()) * 0.999
    path = write(tmp_path / "loud.wav", waveform)
    assert command("separate", "--model", models / "teacher", path, "-o", tmp_path)[0] == 0
    streams = [read_audio(tmp_path / f"loud_spk{k}.wav")[0] for k in (1, 2, 3)]
    assert soundfile.info(tmp_path / "loud_spk1.wav").subtype == "FLOAT"
    assert max(np.abs(s).max() for s in streams) > 1
    np.testing.assert_allclose(sum(streams), read_audio(path)[0][:1], atol=1e-3)


def test_a_table_other_rates_and_a_beamformer(models, tmp_path, command):
    table = {u: write(tmp_path / f"{u}.flac", recording(16000, seed=k), 16000) for k, u in enumerate("xy")}
    write_scp(tmp_path / "wav.scp", table)
    arguments = ["--model", models / "student", "--scp", tmp_path / "wav.scp", "-o", tmp_path / "out"]
    code, _, err = command("separate", *arguments)
    assert code == 2 and "--resample" in err and not (tmp_path / "out").exists()
    assert command("separate", *arguments, "--resample", "--refine", "mvdr")[0] == 0
    assert audio_info(str(tmp_path / "out" / "y_spk2.wav")) == (1, 16000, 16000)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["one/x.wav", "two/x.wav"], "both"),
        (["one/x.wav", "one/x.flac"], "both"),
        (["out/x.wav", "out/x_spk1.wav"], "input"),
        (["one/x.wav", "one/missing.wav"], "no such"),
        (["one/x.wav", "three.wav"], "found 3"),
        ([], "--scp"),
    ],
)
def test_mistakes_are_found_before_work_starts(models, tmp_path, command, names, message):
    for name in names:
        if "missing" not in name:
            write(tmp_path / name, recording(channels=3 if "three" in name else 2))
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    paths = [tmp_path / name for name in names]
    code, _, err = command("separate", "--model", models / "student", *paths, "-o", tmp_path / "out")
    assert code == 2 and message in err
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}


def test_python_refuses_what_is_too_long_to_separate_as_a_whole(models, tmp_path, command):
    path = write(tmp_path / "x.wav", recording())
    code, _, err = command(
        "separate", "--model", models / "student", path, "-o", tmp_path, "--max_seconds", "0"
    )
    assert code == 2 and "more than 0" in err
    with pytest.raises(UserError, match="at most 120 s, found 120.5 s"):
        Separator.from_pretrained(models / "student")(np.zeros((MICS, 964000)), FS)
    separator = Separator.from_pretrained(models / "student", max_seconds=0.5)
    assert separator(recording(4000), FS).shape == (2, 4000)
    with pytest.raises(UserError, match="at most 0.5 s"):
        separator(recording(4100), FS)


def test_dead_channels_and_copies(models, tmp_path, command):
    """The reference must live; what else is dead, or there twice, is named."""
    arguments = ["--model", models / "student", "-o", tmp_path / "out"]
    for value in (0.0, 0.3):
        audio = recording()
        audio[0] = value
        code, _, err = command("separate", *arguments, write(tmp_path / "a.wav", audio))
        assert code == 2 and "a.wav: channel 1 is dead" in err and "such as channel 2" in err
        assert len(err.splitlines()) == 1 and not (tmp_path / "out").exists()
    audio[0], audio[1] = recording()[0], value
    code, _, err = command("separate", *arguments, write(tmp_path / "b.wav", audio))
    assert code == 0 and err.startswith("warning: ") and "b.wav: channel 2 is dead" in err
    audio[1] = audio[0]
    code, _, err = command("separate", *arguments, write(tmp_path / "c.wav", audio))
    assert code == 0 and "c.wav: channel 2 is a copy of" in err
    assert command("separate", *arguments, write(tmp_path / "silence.wav", 0 * audio))[0] == 0
    assert not read_audio(tmp_path / "out/silence_spk1.wav")[0].any()


def test_nan_and_a_file_in_the_way(models, tmp_path, command):
    bad = recording()
    bad[1, 5] = np.nan
    path = write(tmp_path / "nan.wav", bad, subtype="FLOAT")
    code, _, err = command("separate", "--model", models / "student", path, "-o", tmp_path / "out")
    assert code == 2 and "nan.wav: NaN or infinity at sample 5 of channel 2" in err
    assert not (tmp_path / "out").exists()
    path = write(tmp_path / "good.wav", recording())
    code, _, err = command("separate", "--model", models / "student", path, "-o", tmp_path / "nan.wav")
    assert code == 2 and "directory" in err


def test_streams_of_an_earlier_run_with_more_talkers_are_refused(tmp_path, command):
    """Scores would count them. No others: neither of another length or number, nor a channel of an input."""
    three = [write(tmp_path / f"{name}.wav", recording(4000, 3)) for name in "ab"]
    channels = [write(tmp_path / f"c_spk{k}.wav", recording(4000, 1, seed=k)) for k in (3, 4)]
    write(tmp_path / "b_spk3.wav", recording(3999, 1))
    write(tmp_path / "a_spk4.wav", recording(4000, 1))
    blind = ["separate", "--blind", "auxiva", "-o", tmp_path]
    assert command(*blind, *three)[0] == command(*blind, "--join", "c", *channels)[0] == 0
    assert command(*blind, "--n_talkers", 3, three[1])[0] == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    code, _, err = command(*blind, *three)
    assert code == 2 and "b_spk3.wav: expected 2 streams of" in err and "choose another DIR" in err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


# --- without a model


@pytest.mark.parametrize("method", ["auxiva", "ilrma"])
def test_blind_methods_need_no_model(tmp_path, command, method):
    waveform = np.stack([recording(8000, 3, seed=k)[k] for k in range(3)])
    waveform = (np.array([[1, 0.5, 0.3], [0.4, 1, 0.2], [0.1, 0.3, 1]]) @ waveform).astype(np.float32)
    path = write(tmp_path / "three.wav", waveform)
    arguments = ["separate", "--blind", method, "--n_talkers", 3, path]
    code, out, _ = command(*arguments, "-o", tmp_path / "out")
    assert code == 0 and "real-time factor" in out
    expected = separate_blind(method, read_audio(path)[0], FS, 3)
    for k, stream in enumerate(expected, 1):
        found, fs = read_audio(tmp_path / f"out/three_spk{k}.wav")
        assert fs == FS and soundfile.info(tmp_path / f"out/three_spk{k}.wav").subtype == "PCM_16"
        np.testing.assert_allclose(found[0], stream, atol=0.6 / 32768)
    assert command(*arguments, "-o", tmp_path / "masked", "--refine", "mask")[0] == 0
    assert (tmp_path / "masked/three_spk1.wav").read_bytes() != (tmp_path / "out/three_spk1.wav").read_bytes()


def test_blind_separation_of_tables_channel_files_and_windows(tmp_path, command):
    files = [write(tmp_path / f"c{k}.wav", recording(40000, 1, seed=k)) for k in range(2)]
    both = write(tmp_path / "both.wav", np.concatenate([read_audio(file)[0] for file in files]))
    write_scp(tmp_path / "wav.scp", {"a": both})
    blind, windows = ["separate", "--blind", "auxiva", "-o"], ["--max_seconds", 4, "--window", 3]
    assert command(*blind, tmp_path / "joined", *files, "--join", "a")[0] == 0
    assert command(*blind, tmp_path / "table", "--scp", tmp_path / "wav.scp")[0] == 0
    code, printed, _ = command(*blind, tmp_path / "long", "--scp", tmp_path / "wav.scp", *windows)
    assert code == 0 and "continuously, in windows of 3 s" in printed
    streams = {name: (tmp_path / name / "a_spk2.wav").read_bytes() for name in ("joined", "table", "long")}
    assert streams["joined"] == streams["table"] != streams["long"]


@pytest.mark.parametrize("samples", [1, 10, 800])
def test_blind_separation_of_very_short_recordings(tmp_path, command, samples):
    path = write(tmp_path / "x.wav", recording(samples))
    assert command("separate", "--blind", "ilrma", path, "-o", tmp_path)[0] == 0
    assert audio_info(str(tmp_path / "x_spk2.wav")) == (1, samples, FS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--blind", "auxiva", "--model", "m"], "--model and --blind exclude each other"),
        (["--blind", "fastica"], "'fastica' is not one of 'auxiva', 'ilrma'"),
        (["--blind", "auxiva", "--n_talkers", 3], "needs a microphone for each talker, expected 3"),
        (["--blind", "auxiva", "--n_talkers", 0], "expected at least 1, found 0"),
        (["--blind", "auxiva", "--exp", "exp"], "--exp is not expected with --blind"),
        (["--exp", "exp"], "--exp is not expected without --model"),
        (["--blind", "auxiva", "--device", "cuda"], "expected the device cpu, where auxiva computes"),
        (["--device", "mps"], "expected a device, cpu, cuda or cuda:1, found 'mps'"),
    ],
)
def test_mistakes_of_blind_separation(tmp_path, command, arguments, message):
    path = write(tmp_path / "x.wav", recording())
    code, _, err = command("separate", *arguments, path, "-o", tmp_path / "out")
    assert code == 2 and message in err and not (tmp_path / "out").exists()


def test_blind_methods_leave_dead_channels_out(tmp_path, command):
    """The first live one is the reference; a network cannot do without its own."""
    live = recording(8000, 3)
    dead = np.insert(live, [0, 2], 0.0, axis=0)  # the first and the fourth of five
    path, clean = write(tmp_path / "dead.wav", dead), write(tmp_path / "live.wav", live)
    blind = ["separate", "--blind", "auxiva", "-o", tmp_path / "out"]
    code, _, err = command(*blind, path, "--refine", "mask")
    assert code == 0 and "channel 2 is the reference in place of a dead one" in err
    assert "channels 1, 4" in err or ("channel 1" in err and "channel 4" in err)
    assert command(*blind, clean, "--refine", "mask")[0] == 0
    for k in (1, 2):
        streams = [(tmp_path / f"out/{name}_spk{k}.wav").read_bytes() for name in ("dead", "live")]
        assert streams[0] == streams[1]
    code, _, err = command(*blind, path, "--n_talkers", 4)
    assert code == 2 and "expected 4 channels or more, found 3, and 2 dead" in err
    silent = write(tmp_path / "silent.wav", np.zeros((2, 4000)))
    assert command(*blind, silent)[0] == 0 and not read_audio(tmp_path / "out/silent_spk1.wav")[0].any()


def test_a_data_directory_is_separated_by_its_segments(models, tmp_path, command):
    path = write(tmp_path / "whole.wav", recording(16000))
    write_scp(tmp_path / "data/wav.scp", {"r": path})
    (tmp_path / "data/segments").write_text("a r 0.5 1.0\nb r 1.0 -1\n")
    for source in (["--model", models / "student"], ["--blind", "auxiva"]):
        assert command("separate", *source, "--scp", tmp_path / "data", "-o", tmp_path / "out")[0] == 0
        found = [audio_info(str(tmp_path / f"out/{name}_spk2.wav")) for name in "ab"]
        assert found == [(1, 4000, FS), (1, 8000, FS)]


@pytest.mark.parametrize("source", [("--model", "teacher"), ("--blind", "auxiva"), ("--blind", "ilrma")])
def test_a_constant_recording_gives_silence(models, tmp_path, command, source):
    kind, name = source
    file = write(tmp_path / "c.wav", np.full((2, 12000), 0.3, np.float32))
    chosen = models / name if kind == "--model" else name
    assert command("separate", kind, chosen, "--window", 1, file, "-o", tmp_path / "out")[0] == 0
    for k in (1, 2):
        assert not read_audio(tmp_path / f"out/c_spk{k}.wav")[0].any()


LOUD = {
    "all of it": (0, 8000, 1e31, ["--model", "teacher"]),
    "the first window": (0, 1000, 1e31, ["--model", "student", "--window", "0.5"]),
    "the last window": (7000, 8000, 1e31, ["--model", "student", "--window", "0.5"]),
    "the last window, of finite streams": (7000, 8000, 1e31, ["--blind", "auxiva", "--window", "0.5"]),
}


@pytest.mark.parametrize("case", LOUD)
def test_samples_out_of_all_bounds_are_named(models, tmp_path, command, monkeypatch, case):
    """Not the network's fault."""
    monkeypatch.chdir(models)
    start, end, factor, arguments = LOUD[case]
    audio = recording(8000)
    audio[:, start:end] *= factor
    file = write(tmp_path / "loud.wav", audio, subtype="FLOAT")
    code, _, err = command("separate", *arguments, file, "-o", tmp_path / "out")
    # By the processor, AuxIVA says first whether it found streams in a window of such samples.
    (error,) = [line for line in err.splitlines() if not line.startswith("warning: auxiva: ")]
    assert code == 2 and not list(tmp_path.glob("out/*"))
    assert f"{file}: samples of up to" in error and "(scale the recording)" in error


@pytest.mark.parametrize("source", [("--model", "teacher"), ("--blind", "auxiva")])
def test_a_wrong_count_of_a_data_directory_is_found(models, data, command, tmp_path, source):
    kind, name = source
    write_scp(data / "utt2num_samples", {"a": 4000, "b": 7, "c": 4200})
    chosen = models / name if kind == "--model" else name
    code, _, err = command("separate", kind, chosen, "--scp", data, "-o", tmp_path / "out")
    [problem] = [text for text in validate(data) if "utt2num_samples" in text]
    assert code == 2 and problem in err and not (tmp_path / "out").exists()


def test_recordings_of_a_table_may_differ_in_rate_and_are_named_by_line(tmp_path, command):
    (tmp_path / "d").mkdir()
    files = [write(tmp_path / f"{fs}.wav", recording(4000), fs) for fs in (8000, 16000)]
    (tmp_path / "d/wav.scp").write_text(f"a {files[0]}\nb {files[1]}\n")
    out = ("-o", tmp_path / "out")
    assert command("separate", "--blind", "auxiva", "--scp", tmp_path / "d", *out)[0] == 0
    (tmp_path / "d/wav.scp").write_text(f"a {files[0]}\nb {tmp_path}/none.wav\n")
    for scp in (tmp_path / "d", tmp_path / "d/wav.scp"):
        code, _, err = command("separate", "--blind", "auxiva", "--scp", scp, *out)
        assert code == 2 and f"error: {tmp_path}/d/wav.scp:2: {tmp_path}/none.wav: no such audio file" in err


def test_a_name_that_is_not_utf_8(tmp_path, command):
    code, _, err = command("separate", "--blind", "auxiva", "a\udcff.wav", "-o", tmp_path / "out")
    assert code == 2 and r"'a\xff.wav': expected a name in UTF-8 (rename the file)" in err


def test_a_directory_in_the_place_of_a_stream_is_refused_before_the_work(models, tmp_path, command):
    path = write(tmp_path / "a.wav", recording(4000))
    (tmp_path / "out/a_spk2.wav").mkdir(parents=True)
    code, _, err = command("separate", "--model", models / "student", path, "-o", tmp_path / "out")
    assert code == 2 and "a_spk2.wav: expected a place for a stream" in err
    assert not (tmp_path / "out/a_spk1.wav").exists()
