"""Audio written block by block, and audio that is made when it is read."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.io import wavfile

from frontend.data.audio import audio_file, audio_info, entry_stamp, read_audio, stamp_of_entries
from frontend.data.headers import wav_header
from frontend.data.writers import BlockWriter, existing
from frontend.utils.errors import UserError
from frontend.utils.parallel import parallel_map

FS = 8000
SUBTYPES = {"pcm16": "PCM_16", "pcm24": "PCM_24", "float32": "FLOAT"}
ROOT = Path(__file__).resolve().parents[2]


def on_grid(rows: int, samples: int = 5000) -> np.ndarray:
    """Return noise in whole 16-bit numbers."""
    noise = 0.1 * np.random.default_rng(0).standard_normal((rows, samples))
    return (np.rint(noise * 32768) / 32768).astype(np.float32)


@pytest.mark.parametrize("ending", ["wav", "flac"])
@pytest.mark.parametrize("encoding", ["pcm16", "pcm24", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_blocks_are_read_back_to_the_bit(tmp_path, ending, encoding, channels):
    if (ending, encoding) == ("flac", "float32"):
        return
    audio, path = on_grid(channels), tmp_path / f"a.{ending}"
    with BlockWriter(path, FS, encoding) as file:
        for k in range(0, 5000, 1024):
            file.write(audio[:, k : k + 1024])
        assert not path.exists()
    assert soundfile.info(path).subtype == SUBTYPES[encoding]
    assert audio_info(str(path)) == (channels, 5000, FS)
    assert np.array_equal(read_audio(path)[0], audio)
    assert (file.written, file.peak) == (5000, np.abs(audio).max())
    if ending == "wav" and encoding != "pcm24":  # Kaldi's readers, too, know a chunk JUNK
        samples = wavfile.read(path)[1].reshape(5000, -1).T
        assert np.array_equal(samples / (32768 if encoding == "pcm16" else 1), audio)


@pytest.mark.parametrize("named", [list, lambda paths: lambda k: paths[k - 1]])
def test_several_streams_come_together_as_floats_or_integers(tmp_path, named):
    paths = [tmp_path / "a.wav", tmp_path / "b.wav"]
    audio = on_grid(2)
    for as_integers in (False, True):
        with BlockWriter(named(paths), FS) as files:
            for k in range(0, 5000, 1024):
                files.write(audio[:, k : k + 1024])
            if as_integers:
                files.make_integers()
        for path, stream in zip(paths, audio, strict=True):
            assert soundfile.info(path).subtype == ("PCM_16" if as_integers else "FLOAT")
            assert np.array_equal(read_audio(path)[0][0], stream)
    assert sorted(tmp_path.iterdir()) == paths


def test_what_was_interrupted_is_absent(tmp_path):
    with contextlib.suppress(KeyboardInterrupt), BlockWriter([tmp_path / "c.wav"], FS) as files:
        files.write(on_grid(1, 50))
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["wav", "flac"])
@pytest.mark.parametrize("encoding", ["pcm16", "pcm24"])
def test_what_is_beyond_full_scale_is_a_wav_of_floats_to_the_sample(tmp_path, capsys, ending, encoding):
    samples = np.random.default_rng(0).uniform(-2, 2, (1, 5000)).astype(np.float32)
    fine = tmp_path / f"d.{ending}"
    for audio in (0.1 * samples, samples, 0.1 * samples):  # one takes the place of the other
        with BlockWriter(fine, FS, encoding) as file:
            for k in range(0, 5000, 1000):
                file.write(audio[:, k : k + 1000])
        [path] = tmp_path.iterdir()
        assert path == existing(fine)
        loud = audio is samples
        assert (soundfile.info(path).subtype == "FLOAT") == loud and path.suffix == (
            ".wav" if loud else f".{ending}"
        )
        assert np.abs(read_audio(path)[0] - audio).max() <= (0 if loud else 2.0**-16)
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"d.{ending}: a peak of 2, integers end at" in err


def test_two_runs_are_alike(tmp_path):
    contents = []
    for _ in range(2):
        with BlockWriter(tmp_path / "a.wav", FS) as file:
            file.write(on_grid(1))
        contents.append((tmp_path / "a.wav").read_bytes())
        time.sleep(1.01)  # libsndfile would note the second
    assert contents[0] == contents[1]


def test_beyond_4_gib_it_is_rf64(tmp_path):
    for encoding, dtype in (("pcm16", np.int16), ("float32", np.float32)):
        samples = (0.1 * np.random.default_rng(0).standard_normal((999, 2))).astype(dtype)
        path = tmp_path / f"{encoding}.wav"
        path.write_bytes(wav_header(999, FS, 2, encoding, limit=500) + samples.tobytes())
        assert int.from_bytes(path.read_bytes()[20:28], "little") == path.stat().st_size - 8
        info = soundfile.info(path)
        assert (info.format, info.subtype, info.frames) == ("RF64", SUBTYPES[encoding], 999)
        np.testing.assert_array_equal(soundfile.read(path, dtype=samples.dtype)[0], samples)
        assert audio_info(str(path)) == (2, 999, FS)
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(UserError, match="truncated"):
            audio_info(str(path))
    huge = wav_header(2**31, FS, 1, "pcm16")
    assert huge[:4] == b"RF64" and int.from_bytes(huge[28:36], "little") == 2**32
    assert len(huge) == len(wav_header(0, FS, 1, "pcm16"))


def test_a_stamp_changes_with_the_file_and_not_with_the_place_in_it(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, on_grid(1)[0], FS)
    before = stamp_of_entries([str(path)])
    assert stamp_of_entries([str(path)]) == before != stamp_of_entries([str(path)] * 2)
    assert entry_stamp(f"{path}:5") == entry_stamp(str(path)) and audio_file(f"{path}:5") == path
    os.utime(path, (0, 0))
    assert stamp_of_entries([str(path)]) != before
    with pytest.raises(UserError, match=r"^\S+b\.wav: no such audio file"):
        stamp_of_entries([str(tmp_path / "b.wav")])


def test_every_process_finds_the_reader_of_scenes(tmp_path):
    """This module never names the simulation: a worker that is spawned, or a program, need not either."""
    entry = f"scene:{tmp_path}/scenes.jsonl:m1:mix"
    with pytest.raises(UserError, match="no such file of scenes"):
        list(parallel_map(audio_info, [entry] * 2, 2, "test"))
    code = f"from frontend.data.audio import audio_file; print(audio_file({entry!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == f"{tmp_path}/scenes.jsonl", done.stderr
