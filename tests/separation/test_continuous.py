"""Recordings of any length: fake separators whose streams are known, and the command with a real network."""

import math

import numpy as np
import pytest
import soundfile
from tiny_models import FS, recording, write

from frontend.data.audio import Recording, read_audio
from frontend.dsp.resample import resample as change_rate
from frontend.separation.continuous import ContinuousSeparator, window_starts
from frontend.separation.model import Separator
from frontend.utils.errors import UserError


def permuting(seed=0):
    """A separator that gives back the channels, in another order each time but the first."""
    g, calls = np.random.default_rng(seed), []

    def separator(waveform, fs, resample):
        calls.append(waveform.shape[1])
        order = g.permutation(len(waveform)) if len(calls) > 1 else np.arange(len(waveform))
        return change_rate(change_rate(waveform[order], fs, FS), FS, fs)[:, : waveform.shape[1]]

    separator.calls = calls
    return separator


@pytest.mark.parametrize("frames", [1, 9, 10, 11, 14, 15, 16, 99, 100])
@pytest.mark.parametrize("hop", [1, 4, 5, 9])
def test_windows_cover_everything_and_overlap(frames, hop):
    starts = window_starts(frames, 10, hop)
    assert starts[0] == 0 and starts[-1] + 10 == max(frames, 10)
    steps = np.diff(starts)
    assert (steps > 0).all() and (steps <= hop).all() and (steps[:-1] == hop).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("frames", [8001, 20000, 24000, 31999])
def test_known_streams_are_recovered_to_the_sample(channels, frames):
    waveform = recording(frames, channels, seed=channels)
    run = ContinuousSeparator(permuting(), window_s=1.0, hop_s=0.5)
    np.testing.assert_array_equal(run(waveform, FS), waveform)


@pytest.mark.parametrize("frames", [1, 7999, 8000])
def test_what_is_not_longer_than_a_window_is_separated_as_it_is(models, frames):
    separator, waveform = Separator.from_pretrained(models / "student"), recording(frames)
    found = ContinuousSeparator(separator, window_s=1.0, hop_s=0.5)(waveform, FS)
    np.testing.assert_array_equal(found, separator(waveform, FS))


def test_a_reversed_view_is_its_copy(models):
    """torch takes none with strides below 0."""
    separator, waveform = Separator.from_pretrained(models / "student"), recording(9000)[::-1, ::-1]
    for run in (separator, ContinuousSeparator(separator, 1.0, 0.5)):
        np.testing.assert_array_equal(run(waveform, FS), run(waveform.copy(), FS))
    run = ContinuousSeparator(permuting(), 1.0, 0.5)
    np.testing.assert_array_equal(run(waveform, FS), waveform)


def test_no_more_than_a_window_is_ever_held():
    frames, asked, pieces = 600 * 80, [], []
    separator = permuting()

    def read(start, n):
        asked.append((start, n))
        return np.random.default_rng(start // 480).standard_normal((2, n)).astype(np.float32)

    run = ContinuousSeparator(separator, window_s=12.0, hop_s=6.0)
    for piece in run.pieces(read, frames, 80):
        pieces.append(piece.shape[1])
        assert sum(pieces) <= asked[-1][0] + asked[-1][1] <= frames
    assert sum(pieces) == frames and max(pieces) <= 960 == max(n for _, n in asked)
    # Given out as soon as it is final: never more than a window behind.
    assert len(pieces) == len(asked) == 99


def test_refinement_sees_every_window():
    waveform, seen = recording(20000, 2), []

    def double(streams, mixture, fs):
        seen.append((tuple(streams.shape), tuple(mixture.shape), fs))
        return 2 * streams

    found = ContinuousSeparator(permuting(), 1.0, 0.5, double)(waveform, FS)
    np.testing.assert_array_equal(found, 2 * waveform)
    assert seen == [((2, 8000), (2, 8000), FS)] * 4


@pytest.mark.parametrize(("fs", "atol"), [(16000, 1e-5), (44100, 1e-3)])
def test_resampling_window_by_window_is_resampling_whole(fs, atol):
    """At 44.1 kHz windows do not start on the network's grid: equal where the filter passes everything."""
    t = np.arange(int(4.4 * fs)) / fs
    tones = np.stack([np.sin(2 * np.pi * 440 * t), np.sin(2 * np.pi * 1200 * t + 1)]).astype(np.float32)
    waveform = tones * np.stack([1 + np.sin(7 * t), 1 + np.cos(5 * t)]).astype(np.float32)
    whole = permuting()(waveform, fs, True)
    found = ContinuousSeparator(permuting(), 1.0, 0.5)(waveform, fs, resample=True)
    np.testing.assert_allclose(found, whole, atol=atol)


@pytest.mark.parametrize(("window", "hop"), [(1, 1), (1, 2), (1, 0), (math.nan, 1), (1, math.nan), (-1, -2)])
def test_windows_that_do_not_overlap(window, hop):
    with pytest.raises(UserError, match="expected a hop"):
        ContinuousSeparator(permuting(), window, hop)


def test_pythons_own_limit_names_the_way_out(models):
    with pytest.raises(UserError, match="ContinuousSeparator"):
        Separator.from_pretrained(models / "student")(np.zeros((2, 964000)), FS)
    with pytest.raises(UserError, match="found none"):
        ContinuousSeparator(permuting())(np.zeros((2, 0)), FS)


# --- files


# --- the command


def long_recording(seconds=150, seed=3):
    """Pauses, loud and quiet parts, and a length that is no number of windows."""
    waveform = recording(seconds * FS + 777, seed=seed)
    level = np.repeat(np.random.default_rng(seed).choice([0.02, 0.3, 1.0], seconds + 1), FS)[
        : waveform.shape[1]
    ]
    return waveform * level.astype(np.float32)


def test_long_files_are_separated_in_windows_by_themselves(models, tmp_path, command):
    path = write(tmp_path / "long.wav", long_recording())
    short = write(tmp_path / "short.wav", recording())
    out = tmp_path / "out"
    code, printed, _ = command("separate", "--model", models / "student", short, path, "-o", out)
    assert code == 0 and "long.wav: 150.1 s: separated continuously, in windows of 12 s every 6 s" in printed
    assert "long.wav: 150.1 s in" in printed and "real-time factor" in printed and "peak memory" in printed
    assert "short.wav" not in printed and "2 recording(s), 150.8 s" in printed
    streams = np.concatenate([read_audio(out / f"long_spk{k}.wav")[0] for k in (1, 2)])
    waveform = read_audio(path)[0]
    assert streams.shape == waveform.shape and soundfile.info(out / "long_spk1.wav").subtype == "PCM_16"
    # Each window's streams sum to the reference channel: so do the joined ones, but for two roundings.
    np.testing.assert_allclose(streams.sum(0), waveform[0], atol=1.5 / 32768)
    separator = Separator.from_pretrained(models / "student")
    expected = ContinuousSeparator(separator)(waveform, FS)
    np.testing.assert_allclose(streams, expected, atol=0.6 / 32768)
    # The first window is what it is alone, up to where the next one comes in.
    np.testing.assert_array_equal(expected[:, : 7 * FS], separator(waveform[:, : 12 * FS], FS)[:, : 7 * FS])


def test_windows_on_demand_and_other_rates(models, tmp_path, command):
    path = write(tmp_path / "x.wav", recording(16000 * 5, level=0.3), 16000, "FLOAT")
    arguments = ["--model", models / "student", path, "-o", tmp_path, "--resample"]
    code, printed, _ = command("separate", *arguments, "--window", 2)
    assert code == 0 and "windows of 2 s every 1 s" in printed
    info = soundfile.info(tmp_path / "x_spk2.wav")
    assert (info.frames, info.samplerate, info.subtype) == (80000, 16000, "FLOAT")
    code, printed, _ = command("separate", *arguments, "--max_seconds", "4", "--refine", "mvdr")
    assert code == 0 and "continuously" not in printed  # it fits into one window of 12 s
    for wrong in (["--window", "2", "--hop", "2"], ["--hop", "12"], ["--window", "nan"]):
        code, _, err = command("separate", *arguments, *wrong)
        assert code == 2 and ("expected a hop" in err or "--window: expected more than 0" in err)


def test_a_window_need_not_be_whole_samples(models, tmp_path, command):
    """1.00007 s are 8001 samples: more than 1.00007 s."""
    path = write(tmp_path / "x.wav", recording(2 * FS))
    windows = ["--window", 1.00007, "--max_seconds", 1]
    assert command("separate", "--model", models / "student", path, "-o", tmp_path, *windows)[0] == 0
    separator = Separator.from_pretrained(models / "student", max_seconds=1.00007)
    with pytest.raises(UserError, match="expected at most 1.00007 s, found 1.00025 s"):
        separator(recording(8002), FS)


def test_one_file_a_channel(models, tmp_path, command):
    waveform = long_recording(8)
    both = write(tmp_path / "both.wav", waveform)
    channels = [write(tmp_path / f"c{k}.wav", waveform[k : k + 1]) for k in (0, 1)]
    arguments = ["--model", models / "student", "--window", "3", "-o", tmp_path / "out"]
    assert command("separate", *arguments, both)[0] == 0
    assert command("separate", *arguments, *channels, "--join", "joined")[0] == 0
    for k in (1, 2):
        a, b = (tmp_path / "out" / f"{name}_spk{k}.wav" for name in ("both", "joined"))
        assert a.read_bytes() == b.read_bytes()
    shorter = write(tmp_path / "shorter.wav", waveform[1:, :-680])  # by 85 ms
    code, _, err = command("separate", *arguments, channels[0], shorter, "--join", "x")
    assert code == 0 and "differ in length by up to 85 ms: cut to the shortest, 64097 samples" in err
    assert soundfile.info(tmp_path / "out/x_spk1.wav").frames == 64097
    shorter = write(tmp_path / "shorter.wav", waveform[1:, :-801])
    code, _, err = command("separate", *arguments, channels[0], shorter, "--join", "x")
    assert code == 2 and "shorter.wav: expected 64777 samples at 8000 Hz to within 100 ms" in err
    code, _, err = command("separate", *arguments, channels[0], "--join", "x")
    assert code == 2 and "expects 2 channel(s), found 1" in err
    code, _, err = command("separate", *arguments, "--scp", "x.scp", "--join", "x")
    assert code == 2 and "--join" in err


def test_wrong_recordings_leave_nothing(models, tmp_path, command):
    arguments = ["--model", models / "student", "--window", "3", "-o", tmp_path / "out"]
    waveform = long_recording(20)
    whole = write(tmp_path / "whole.wav", waveform)
    cut = tmp_path / "cut.wav"
    cut.write_bytes((tmp_path / "whole.wav").read_bytes()[:-4000])
    soundfile.write(tmp_path / "whole.flac", waveform.T, FS)
    half = tmp_path / "half.flac"
    half.write_bytes((tmp_path / "whole.flac").read_bytes()[:100000])
    three = write(tmp_path / "three.wav", recording(30000, channels=3))
    (tmp_path / "text.wav").write_text("no audio")
    wrong = {
        "cut.wav": "truncated",
        "half.flac": "truncated",
        "three.wav": "found 3",
        "text.wav": "expected wav",
    }
    for name, message in wrong.items():
        code, _, err = command("separate", *arguments, whole, tmp_path / name)
        assert code == 2 and message in err and name in err
        assert not (tmp_path / "out").exists(), f"{name} was found only after work had begun"
    bad = waveform.copy()
    bad[1, 15 * FS] = np.nan
    path = write(tmp_path / "nan.wav", bad, subtype="FLOAT")
    code, _, err = command("separate", *arguments, path)
    assert code == 2 and f"NaN or infinity at sample {15 * FS}" in err and not list(tmp_path.glob("out/*"))
    assert three and Recording([whole]).seconds == pytest.approx(20 + 777 / FS)
    with pytest.raises(UserError, match="truncated"):
        Recording([str(half)]).check_end()


def test_an_interrupt_leaves_nothing_half_written(models, tmp_path, command, monkeypatch):
    path, calls = write(tmp_path / "x.wav", long_recording(20)), []
    original = Separator.__call__

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(Separator, "__call__", interrupted)
    code, _, err = command(
        "separate", "--model", models / "student", path, "-o", tmp_path / "out", "--window", 3
    )
    assert code == 130 and "interrupted" in err and not list(tmp_path.glob("out/*"))
