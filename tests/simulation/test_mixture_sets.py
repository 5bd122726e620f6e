"""Whole sets through the real command: same bits whatever happens, resumed, mistakes named."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile
from speech_sets import audio_bytes, make_scenes, make_speech, run_command, voice

import frontend.simulation.mixture_sets as mixture_sets
import frontend.simulation.rirs as rirs
from frontend.data.audio import read_audio
from frontend.data.kaldi import MARK, read_scp, validate, write_scp
from frontend.data.mixtures import MixtureSet
from frontend.data.speech import read_speech
from frontend.data.writers import AudioWriter
from frontend.simulation.config import NoiseConfig, SceneConfig, TalkersConfig
from frontend.simulation.mixture_sets import make_set
from frontend.simulation.render import render
from frontend.simulation.rirs import compute_rirs
from frontend.simulation.scenes import read_scenes, write_scenes
from frontend.utils.errors import UserError

NUMBER = 14
CONFIG = SceneConfig(t60=(0.15, 0.18), talkers=TalkersConfig(one_talker_share=0.3))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """Return a directory with ``speech``, ``scenes.jsonl`` and the set ``plain`` rendered from them."""
    path = tmp_path_factory.mktemp("base")
    scenes = make_scenes(path / "scenes.jsonl", make_speech(path / "speech"), CONFIG, NUMBER)
    make_set(scenes, path / "speech", path / "plain", parts=True)
    return path


def samples(directory: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return all audio of a set as integers."""
    tables = {p.stem: read_scp(p) for p in sorted(directory.glob("*.scp"))}
    return {t: {i: wavfile.read(e)[1] for i, e in table.items()} for t, table in tables.items()}


def tables(directory: Path) -> dict[str, str]:
    """Return the text of all tables, free of the directory's own name."""
    files = [p for p in directory.iterdir() if p.is_file()]
    return {p.name: p.read_text().replace(str(directory), "OUT") for p in files}


def render_base(monkeypatch, capsys, base: Path, out: Path, **options: object) -> tuple[int, str]:
    inputs = {"scenes": base / "scenes.jsonl", "speech": base / "speech", "out": out}
    return run_command(
        "simulate render",
        monkeypatch,
        capsys,
        **{**inputs, "rir_cache": base / "plain" / "rirs", **options},
    )


def test_written_mixture_is_exactly_the_sum_of_its_parts(base):
    audio = samples(base / "plain")
    assert sorted(audio) == ["image1", "image2", "noise", "spk1", "spk2", "wav"]
    for name, mixture in audio["wav"].items():
        parts = [audio[table][name].astype(int) for table in ("image1", "image2", "noise")]
        assert np.array_equal(sum(parts), mixture) and mixture.shape[1] == 4
        for k in ("1", "2"):
            assert np.array_equal(audio[f"spk{k}"][name], audio[f"image{k}"][name][:, 0])


def test_set_is_a_valid_data_directory_with_texts_and_measured_rooms(base):
    assert validate(base / "plain") == []
    found = MixtureSet(base / "plain")
    texts = read_scp(base / "speech" / "text")
    singles = 0
    for scene in read_scenes(base / "scenes.jsonl"):
        name, talkers = scene["id"], scene["talkers"]
        singles += len(talkers) == 1
        spoken_texts = [texts[t["utterance"]] for t in talkers]
        assert found.texts(name) == spoken_texts + [""] * (2 - len(talkers))
        assert found.references(name).any(axis=1).tolist() == [True, len(talkers) == 2]
        measured = found.scene(name).pop("measured")
        assert found.scene(name)["talkers"] == talkers
        assert 0.08 < measured["t60"] < 0.3 and len(measured["drr_db"]) == len(talkers)
    assert 0 < singles < NUMBER
    lengths = {k: str(v["samples"]) for k, v in ((s["id"], s) for s in read_scenes(base / "scenes.jsonl"))}
    assert read_scp(base / "plain" / "utt2num_samples") == lengths


def test_same_bits_for_any_nj_and_order(base, tmp_path, monkeypatch, capsys):
    lines = (base / "scenes.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "shuffled.jsonl").write_text("".join(lines[::-1]))
    # Without the cache: the impulse responses must be the same in other processes, too.
    options = {"scenes": tmp_path / "shuffled.jsonl", "nj": 2, "rir_cache": tmp_path / "rirs"}
    code, text = render_base(monkeypatch, capsys, base, tmp_path / "out", **options)
    assert code == 0 and f"{NUMBER} rendered now, 0 were there" in text
    expected = {k: v for k, v in audio_bytes(base / "plain").items() if "image" not in k and "noise" not in k}
    assert audio_bytes(tmp_path / "out") == expected
    kept = {k: v for k, v in tables(base / "plain").items() if "image" not in k and "noise" not in k}
    assert {**tables(tmp_path / "out"), MARK: kept[MARK]} == kept


@pytest.mark.parametrize("audio_format", ["wav", "flac.ark"])
def test_parts_of_the_work_make_the_same_set(base, tmp_path, monkeypatch, audio_format):
    monkeypatch.setattr(mixture_sets, "_ARCHIVE", 3)
    inputs, counts = (base / "scenes.jsonl", base / "speech"), []
    options = {"rir_cache": base / "plain" / "rirs", "audio_format": audio_format}
    for k in (2, 1):
        counts.append(make_set(*inputs, tmp_path / "out", shard=(k, 2), **options)["rendered"])
        assert not (tmp_path / "out" / "wav.scp").exists()
    assert sum(counts) == NUMBER and min(counts) > 4
    assert make_set(*inputs, tmp_path / "out", **options)["rendered"] == 0
    make_set(*inputs, tmp_path / "whole", **options)
    assert audio_bytes(tmp_path / "out") == audio_bytes(tmp_path / "whole")
    assert tables(tmp_path / "out") == tables(tmp_path / "whole")


def test_killed_and_started_again_gives_the_same_bits(base, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    arguments = ["--scenes", base / "scenes.jsonl", "--speech", base / "speech", "--out", out]
    process = subprocess.Popen([sys.executable, "-m", "frontend", "simulate", "render", *map(str, arguments)])
    deadline = time.monotonic() + 60
    while len(list(out.glob("wav/done/*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = len(list(out.glob("wav/done/*.json")))
    assert 2 <= done < NUMBER and not (out / "wav.scp").exists()
    code, text = render_base(monkeypatch, capsys, base, out)
    assert code == 0 and f"{NUMBER - done} rendered now, {done} were there" in text
    expected = {k: v for k, v in audio_bytes(base / "plain").items() if "image" not in k and "noise" not in k}
    assert audio_bytes(out) == expected
    assert validate(out) == []


@pytest.mark.parametrize("audio_format", ["flac", "flac.ark"])
def test_other_formats_hold_the_same_samples_also_after_a_break(base, tmp_path, monkeypatch, audio_format):
    monkeypatch.setattr(mixture_sets, "_ARCHIVE", 3)
    inputs = base / "scenes.jsonl", base / "speech"
    options = {"audio_format": audio_format, "rir_cache": base / "plain" / "rirs"}
    make_set(*inputs, tmp_path / "whole", **options)
    real, calls = render, []

    def breaks(*arguments):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(mixture_sets.render, "render", breaks)
    with pytest.raises(KeyboardInterrupt):
        make_set(*inputs, tmp_path / "broken", **options)
    counts = make_set(*inputs, tmp_path / "broken", **options)
    assert 0 < counts["rendered"] < NUMBER
    assert audio_bytes(tmp_path / "broken") == audio_bytes(tmp_path / "whole")
    plain, found = MixtureSet(base / "plain"), MixtureSet(tmp_path / "broken")
    for name in plain.ids:
        assert np.array_equal(plain.mixture(name)[0], found.mixture(name)[0])
        assert np.array_equal(plain.references(name), found.references(name))


def test_render_again_with_other_speech_levels_noise_computes_no_impulse_response(
    base, tmp_path, monkeypatch
):
    calls, real = [], compute_rirs
    monkeypatch.setattr(rirs, "compute_rirs", lambda scene: calls.append(1) or real(scene))
    cache, scenes = base / "plain" / "rirs", read_scenes(base / "scenes.jsonl")
    speech = read_speech(base / "speech", 8000)
    for scene in scenes:
        scene["noise"], scene["samples"] = {"kind": "none"}, 20000
        for talker in scene["talkers"]:
            other = next(
                u for u, (s, _) in speech.items() if s == talker["speaker"] and u != talker["utterance"]
            )
            length = round(speech[other][1] * 8000)
            talker.update(utterance=other, samples=length, level_db=1.5, offset=0.1)
    write_scenes(tmp_path / "other.jsonl", scenes)
    make_set(tmp_path / "other.jsonl", base / "speech", tmp_path / "out", rir_cache=cache)
    assert calls == []
    scenes[0]["talkers"][0]["position"][2] += 0.001
    write_scenes(tmp_path / "other.jsonl", scenes)
    counts = make_set(tmp_path / "other.jsonl", base / "speech", tmp_path / "out", rir_cache=cache)
    assert len(calls) == counts["rendered"] == 1


def test_only_what_is_missing_or_changed_is_rendered_again(base, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    render_base(monkeypatch, capsys, base, out)
    assert "0 rendered now" in render_base(monkeypatch, capsys, base, out)[1]
    # The set's own scenes, which hold what was measured, are the same scenes.
    assert "0 rendered now" in render_base(monkeypatch, capsys, base, out, scenes=out / "scenes.jsonl")[1]
    (out / "wav" / "spk2" / "m03.wav").unlink()
    assert "1 rendered now" in render_base(monkeypatch, capsys, base, out)[1]
    scenes = read_scenes(base / "scenes.jsonl")
    scenes[5]["level_dbfs"] = -40.0
    changed = tmp_path / "one.jsonl"
    write_scenes(changed, scenes)
    assert "1 rendered now" in render_base(monkeypatch, capsys, base, out, scenes=changed)[1]
    solo = [scene for scene in scenes if len(scene["talkers"]) == 1]
    write_scenes(changed, solo)
    assert "1 talkers; 0" not in render_base(monkeypatch, capsys, base, out, scenes=changed)[1]
    assert not (out / "spk2.scp").exists() and not (out / "text_spk2").exists()
    assert validate(out) == [] and MixtureSet(out).ids == [scene["id"] for scene in solo]


def test_changed_speech_is_rendered_again_and_nothing_else(base, tmp_path, monkeypatch, capsys):
    """Other samples of the same length under the same name: only the scenes with them are made anew."""
    config = replace(CONFIG, noise=NoiseConfig(kind="babble", babble_talkers=3))
    speech, out = make_speech(tmp_path / "speech"), tmp_path / "out"
    scenes = make_scenes(tmp_path / "scenes.jsonl", speech, config, NUMBER)
    options = {"scenes": scenes, "speech": speech}
    assert render_base(monkeypatch, capsys, base, out, **options)[0] == 0
    before = audio_bytes(out)
    used = [
        {t["utterance"] for t in scene["talkers"]} | set(scene["noise"]["utterances"])
        for scene in read_scenes(scenes)
    ]
    name = min(set.union(*used))
    wav = speech / "wav" / f"{name}.wav"
    wavfile.write(wav, 8000, wavfile.read(wav)[1][::-1])
    code, text = render_base(monkeypatch, capsys, base, out, **options)
    number = sum(name in names for names in used)
    assert 0 < number < NUMBER and f"{number} rendered now" in text
    changed = {path for path, audio in audio_bytes(out).items() if audio != before[path]}
    assert {Path(path).stem for path in changed} == {f"m{k:02d}" for k in range(NUMBER) if name in used[k]}
    make_set(scenes, speech, tmp_path / "afresh", rir_cache=base / "plain" / "rirs")
    assert audio_bytes(tmp_path / "afresh") == audio_bytes(out)
    # The same sound in another file is the same speech.
    moved = dict(read_scp(speech / "wav.scp"))
    moved[name] = str(wav.rename(tmp_path / "elsewhere.wav"))
    write_scp(speech / "wav.scp", moved)
    assert "0 rendered now" in render_base(monkeypatch, capsys, base, out, **options)[1]


def test_a_set_of_one_channel_is_microphone_0(base, tmp_path, monkeypatch, capsys):
    scenes = read_scenes(base / "scenes.jsonl")
    write_scenes(tmp_path / "one.jsonl", [{**scene, "mics": scene["mics"][:1]} for scene in scenes])
    options = {"scenes": tmp_path / "one.jsonl", "rir_cache": tmp_path / "rirs"}
    assert render_base(monkeypatch, capsys, base, tmp_path / "out", **options)[0] == 0
    many, one = samples(base / "plain"), samples(tmp_path / "out")
    for name, mixture in one["wav"].items():
        assert mixture.ndim == 1 and np.array_equal(mixture, many["wav"][name][:, 0])
        assert all(np.array_equal(one[k][name], many[k][name]) for k in ("spk1", "spk2"))


def test_mistakes_are_named_in_one_line_and_leave_no_set(base, tmp_path, monkeypatch, capsys):
    speech, out = make_speech(tmp_path / "speech"), tmp_path / "out"
    used = [t["utterance"] for s in read_scenes(base / "scenes.jsonl") for t in s["talkers"]]
    name, wav = used[-1], speech / "wav" / f"{used[-1]}.wav"
    good = wav.read_bytes()

    def fails(expected: str, **options: object) -> None:
        inputs = {"speech": speech, **options}
        code, text = render_base(monkeypatch, capsys, base, inputs.pop("out", out), **inputs)
        assert code == 2 and expected in text and text.count("\n") == 1, text
        assert not (out / "wav.scp").exists()

    wavfile.write(wav, 16000, voice(name, 1.0, 16000).astype(np.float32))
    fails(f"{wav}: expected 8000 Hz as in the scenes, found 16000 Hz")
    wavfile.write(wav, 8000, voice(name, 0.5).astype(np.float32))
    fails("samples as when the scenes were made, found 4000")
    wavfile.write(wav, 8000, np.zeros((9000, 2), np.int16))
    fails("expected dry speech of one channel, found 2")
    wav.write_bytes(good[:-1000])
    fails(f"{wav}: truncated")
    spoilt = wavfile.read(base / "speech" / "wav" / wav.name)[1].astype(np.float32) / 32768
    spoilt[77] = np.nan
    wavfile.write(wav, 8000, spoilt)
    fails(f"{wav}: NaN or infinity at sample 77")
    wavfile.write(wav, 8000, np.zeros(len(spoilt), np.int16))
    fails(f"{name} is silent")
    wav.unlink()
    fails(f"{wav}: no such audio file")
    wav.write_bytes(good)
    fails("wav.scp: expected a table", speech=tmp_path / "nowhere")
    fails(
        "expected a file of scenes (mixit simulate scenes makes it), found no such file",
        scenes=tmp_path / "nowhere.jsonl",
    )
    fails("--nj: expected at least 1, found 0", nj=0)
    fails("Not a directory", out=wav / "deeper")
    for table, message in (
        ("text", "add what is said"),
        ("wav.scp", "is missing,"),
        ("utt2spk", "is by nobody"),
    ):
        entries = read_scp(speech / table)
        changed = (
            {**entries, name: "nobody"}
            if table == "utt2spk"
            else {k: entries[k] for k in entries if k != name}
        )
        write_scp(speech / table, changed)
        fails(message)
        write_scp(speech / table, entries)
    (speech / "wav.scp").write_text("")
    fails("no entries")


def test_impossible_scenes_are_named_with_file_and_line(base, tmp_path, monkeypatch, capsys):
    scenes = read_scenes(base / "scenes.jsonl")

    def fails(expected: str) -> None:
        path = tmp_path / "bad.jsonl"
        path.write_text("".join(json.dumps(scene) + "\n" for scene in scenes))
        code, text = render_base(monkeypatch, capsys, base, tmp_path / "out", scenes=path)
        assert code == 2 and expected in text and text.count("\n") == 1, text
        assert not (tmp_path / "out").exists()

    x, scenes[2]["talkers"][0]["position"][0] = scenes[2]["talkers"][0]["position"][0], 40.0
    fails("bad.jsonl:3: talker 1 is outside the room: x = 40.0 m")
    scenes[2]["talkers"][0]["position"][0] = 0.0
    fails("bad.jsonl:3: talker 1 stands in a wall: x = 0.0 m")
    scenes[2]["talkers"][0]["position"][0] = x
    scenes[4]["fs"] = 4000
    fails("scene m04 has 4000 Hz, m00 has 8000 Hz; expected one rate in a set")


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(base, tmp_path, monkeypatch, capsys):
    real, writes = AudioWriter.write, []

    def full(self, *arguments):
        writes.append(1)
        if len(writes) > 10:
            raise OSError(errno.ENOSPC, "No space left on device", "somewhere")
        return real(self, *arguments)

    monkeypatch.setattr(AudioWriter, "write", full)
    code, text = render_base(monkeypatch, capsys, base, tmp_path / "out")
    assert code == 2 and "No space left on device" in text and text.count("\n") == 1
    assert not (tmp_path / "out" / "wav.scp").exists()
    monkeypatch.setattr(AudioWriter, "write", real)
    code, text = render_base(monkeypatch, capsys, base, tmp_path / "out")
    assert code == 0 and f"{NUMBER - 3} rendered now, 3 were there" in text
    # A complete set whose scenes have changed is no set until it is complete again.
    make_scenes(tmp_path / "other.jsonl", base / "speech", replace(CONFIG, level_dbfs=(-40.0, -40.0)), NUMBER)
    monkeypatch.setattr(AudioWriter, "write", full)
    options = {"scenes": tmp_path / "other.jsonl"}
    assert render_base(monkeypatch, capsys, base, tmp_path / "out", **options)[0] == 2
    assert not (tmp_path / "out" / "wav.scp").exists()


def test_babble_and_anechoic_sets_are_valid(base, tmp_path):
    config = SceneConfig(t60=(0.0, 0.0), noise=NoiseConfig(kind="babble", babble_talkers=3))
    scenes = make_scenes(tmp_path / "scenes.jsonl", base / "speech", config, 2)
    make_set(scenes, base / "speech", tmp_path / "out")
    assert validate(tmp_path / "out") == []
    assert MixtureSet(tmp_path / "out").scene("m00")["measured"] == {"t60": 0.0, "drr_db": [None, None]}


@pytest.mark.parametrize("audio_format", ["flac", "flac.ark"])
def test_more_than_eight_channels_as_flac_are_refused_before_any_work(base, tmp_path, audio_format):
    scenes = [{**scene, "mics": 3 * scene["mics"]} for scene in read_scenes(base / "scenes.jsonl")]
    write_scenes(tmp_path / "scenes.jsonl", scenes)
    message = f"--audio_format {audio_format}: flac holds at most 8 channels, found 12 .take wav"
    with pytest.raises(UserError, match=message):
        make_set(tmp_path / "scenes.jsonl", base / "speech", tmp_path / "out", audio_format=audio_format)
    assert not (tmp_path / "out").exists()


def test_speech_beyond_full_scale_and_constant_speech(tmp_path):
    speech = make_speech(tmp_path / "speech")
    table = read_scp(speech / "wav.scp")
    for entry in table.values():
        fs, voice = wavfile.read(entry)
        wavfile.write(entry, fs, (5 * voice / np.abs(voice).max()).astype(np.float32))
    scenes = make_scenes(tmp_path / "scenes.jsonl", speech, CONFIG, 3)
    make_set(scenes, speech, tmp_path / "set")
    for table_path in (tmp_path / "set").glob("*.scp"):
        for entry in read_scp(table_path).values():
            assert np.abs(read_audio(entry)[0]).max() <= 0.9001
    used = read_scenes(scenes)[0]["talkers"][0]["utterance"]
    _, voice = wavfile.read(table[used])
    wavfile.write(table[used], 8000, np.full_like(voice, 0.25))
    with pytest.raises(UserError, match=f"utterance {used} is silent"):
        make_set(scenes, speech, tmp_path / "other")
