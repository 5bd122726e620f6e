"""Mixtures rendered when they are read: the samples of the files, whatever is read and in what order."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from commands import call, exit_code
from edits import edit
from speech_sets import make_speech, run_command

import frontend.simulation.mixture_sets as mixture_sets
from frontend.data.audio import audio_file, audio_info, entry_stamp, read_audio
from frontend.data.kaldi import read_scp, validate
from frontend.data.mixtures import MixtureSet
from frontend.data.speech import digest, read_speech
from frontend.simulation.config import ArrayConfig, NoiseConfig, SceneConfig, TalkersConfig
from frontend.simulation.mixture_sets import (
    _checked,
    _dry,
    _find,
    _rendered,
    _room,
    make_entry,
    make_set,
    spoken,
)
from frontend.simulation.render import render
from frontend.simulation.rirs import geometry
from frontend.simulation.scenes import read_scenes, sample_scene, write_scenes
from frontend.utils.errors import UserError

NUMBER, ROOMS, MICS = 12, 3, 2
CONFIG = SceneConfig(
    t60=(0.15, 0.18),
    array=ArrayConfig(n=MICS),
    talkers=TalkersConfig(one_talker_share=0.4),
    noise=NoiseConfig(kind="babble", babble_talkers=2),
)
STREAMS = ("wav", "spk1", "spk2", "image1", "image2", "noise")


def scenes_of(speech: Path, out: Path, number: int, bank: int | None, config=CONFIG, seed=2) -> Path:
    known = read_speech(speech, config.fs)
    write_scenes(out, [sample_scene(f"m{k:02d}", config, known, seed, bank=bank) for k in range(number)])
    return out


def files_of(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in files_of(directory))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """The same scenes as the sets ``plain``, of files, and ``fly``, rendered when they are read."""
    path = tmp_path_factory.mktemp("base")
    scenes = scenes_of(make_speech(path / "speech"), path / "scenes.jsonl", NUMBER, ROOMS)
    for out in ("plain", "fly"):
        options = {"on_the_fly": out == "fly", "rir_cache": path / "rirs", "parts": True}
        make_set(scenes, path / "speech", path / out, **options)
    return path


@pytest.fixture
def fresh(tmp_path) -> Path:
    """A set on the fly of its own to break, in ``set``, of ``speech`` and ``scenes.jsonl``."""
    scenes_of(make_speech(tmp_path / "speech", seconds=0.3), tmp_path / "scenes.jsonl", 5, 2)
    make_set(tmp_path / "scenes.jsonl", tmp_path / "speech", tmp_path / "set", on_the_fly=True)
    for cache in (_checked, _rendered, _dry, _room):
        cache.cache_clear()
    return tmp_path


def tables(base: Path, stream: str) -> list[tuple[str, str]]:
    """Return (file, what is rendered) of all mixtures."""
    plain, made = (read_scp(base / name / f"{stream}.scp") for name in ("plain", "fly"))
    assert list(plain) == list(made) and all(entry.startswith("scene:") for entry in made.values())
    return [(plain[name], made[name]) for name in plain]


@pytest.mark.parametrize("stream", STREAMS)
def test_samples_and_headers_are_those_of_the_files(base, stream):
    """The files are 16-bit wav; float32 of 16-bit numbers is exact, so equal means equal bits."""
    for entry, made in tables(base, stream):
        expected, fs = read_audio(entry)
        found, rate = read_audio(made, finite=True)
        assert np.array_equal(found, expected) and found.dtype == expected.dtype and rate == fs
        assert audio_info(made) == audio_info(entry)
        assert audio_file(made) == base / "fly" / "scenes.jsonl"


def test_images_and_noise_sum_to_the_mixture_and_some_talkers_are_silent(base):
    made = {stream: read_scp(base / "fly" / f"{stream}.scp") for stream in STREAMS}
    silent = 0
    for name in made["wav"]:
        whole = {stream: read_audio(table[name])[0] * 32768 for stream, table in made.items()}
        assert np.array_equal(whole["image1"] + whole["image2"] + whole["noise"], whole["wav"])
        assert np.array_equal(whole["spk2"], whole["image2"][:1])
        silent += not whole["spk2"].any()
    assert 0 < silent < NUMBER


def test_a_part_is_a_slice_and_no_reader_can_change_what_the_next_one_gets(base):
    rng = np.random.default_rng(0)
    for stream in ("wav", "spk2"):
        for entry, made in tables(base, stream)[:4]:
            whole = read_audio(entry)[0]
            total = whole.shape[1]
            for start, frames in [(0, 1), (total - 1, 5), *rng.integers(0, total, (4, 2)).tolist(), (7, -1)]:
                part, _ = read_audio(made, start, frames)
                assert np.array_equal(part, read_audio(entry, start, frames)[0])
                part += 1
            assert np.array_equal(read_audio(made)[0], whole)
            for beyond in (total, -1):
                with pytest.raises(UserError, match=f"sample {beyond} asked for, found {total} samples"):
                    read_audio(made, beyond)


def test_headers_are_text(base, monkeypatch):
    monkeypatch.setattr(mixture_sets.render, "render", None)
    _rendered.cache_clear()
    assert len({audio_info(made) for _, made in tables(base, "wav")}) > 1


def test_a_mixture_and_its_images_are_rendered_once(base, monkeypatch):
    calls, real = [], render
    _rendered.cache_clear()
    counted = lambda scene, *more: calls.append(scene["id"]) or real(scene, *more)  # noqa: E731
    monkeypatch.setattr(mixture_sets.render, "render", counted)
    made = MixtureSet(base / "fly")
    for name in made.ids:
        made.mixture(name), made.references(name)
    assert calls == made.ids


def test_the_set_is_a_data_directory_like_the_other(base):
    assert validate(base / "fly") == []
    for name in ("text_spk1", "text_spk2", "utt2num_samples", "utt2spk", "spk2utt"):
        assert (base / "fly" / name).read_text() == (base / "plain" / name).read_text()
    plain, made = MixtureSet(base / "plain"), MixtureSet(base / "fly")
    single = [name for name in plain.ids if len(plain.scene(name)["talkers"]) == 1]
    for name in plain.ids:
        assert plain.scene(name) == {k: v for k, v in made.scene(name).items() if k != "rendered_from"}, (
            single
        )


def test_disk_use(base):
    rooms = size_of(base / "rirs")
    assert not [p for p in files_of(base / "fly") if p.suffix in (".wav", ".npz")]
    assert size_of(base / "fly") < 0.1 * size_of(base / "plain")
    # What one more mixture costs is its text; the rooms cost the same however many they serve.
    assert size_of(base / "fly") / NUMBER < 6000 and len(files_of(base / "rirs")) == ROOMS and rooms < 3e5


def test_bank_has_so_many_rooms_however_many_mixtures(tmp_path):
    speech = make_speech(tmp_path / "speech")
    few, many, other, own = (
        read_scenes(scenes_of(speech, tmp_path / f"{k}.jsonl", number, bank, seed=seed))
        for k, (number, bank, seed) in enumerate([(9, 4, 2), (60, 4, 2), (60, 4, 3), (60, None, 2)])
    )
    rooms = [{json.dumps(geometry(scene)) for scene in scenes} for scenes in (few, many, other, own)]
    assert list(map(len, rooms[1:])) == [4, 4, 60] and rooms[0] <= rooms[1] and not rooms[1] & rooms[2]
    assert few == many[:9]
    double = next(scene for scene in many if len(scene["talkers"]) == 2)
    drawn = [
        [(t["utterance"], t["level_db"]) for t in s["talkers"]]
        for s in many
        if geometry(s) == geometry(double)
    ]
    assert len(drawn) > 5 and len(set(map(str, drawn))) == len(drawn)


def test_bank_changes_the_geometry_alone(tmp_path):
    speech = make_speech(tmp_path / "speech")
    config = replace(CONFIG, talkers=TalkersConfig())
    pair = [read_scenes(scenes_of(speech, tmp_path / f"{bank}", 8, bank, config)) for bank in (None, 2)]
    for own, banked in zip(*pair, strict=True):
        assert {key for key in own if own[key] != banked[key]} == {"room", "t60", "mics", "talkers"}
        for a, b in zip(own["talkers"], banked["talkers"], strict=True):
            assert {key for key in a if a[key] != b[key]} == {"position"}


def test_commands(tmp_path, monkeypatch, capsys):
    speech, scenes, out = make_speech(tmp_path / "speech"), tmp_path / "s.jsonl", tmp_path / "set"
    config = tmp_path / "scenes.yaml"
    config.write_text(yaml.safe_dump({"t60": [0.15, 0.18]}))
    options = {"config": config, "speech": speech, "num": 10, "prefix": "m", "bank": 2, "out": scenes}
    code, text = run_command("simulate scenes", monkeypatch, capsys, **options)
    assert code == 0, text
    for nj, computed in ((2, 2), (1, 0)):
        arguments = ["--on_the_fly", "--scenes", scenes, "--speech", speech, "--out", out, "--nj", nj]
        assert exit_code("simulate render", *arguments) == 0
        text = capsys.readouterr().out
        assert (
            f"10 mixtures, 4 channels, 2 talkers; rendered when they are read, in 2 rooms ({computed}" in text
        )
    assert exit_code("data check", out) == 0
    with pytest.raises(UserError, match="a set on the fly has no audio"):
        call("simulate render", *arguments, "--audio_format", "flac")
    # The set's own scenes make the same set again, of files too.
    before = (out / "scenes.jsonl").read_text()
    make_set(out / "scenes.jsonl", speech, out, on_the_fly=True)
    assert (out / "scenes.jsonl").read_text() == before
    make_set(out / "scenes.jsonl", speech, tmp_path / "plain", rir_cache=out / "rirs")
    name = "m_000003"
    assert np.array_equal(MixtureSet(out).references(name), MixtureSet(tmp_path / "plain").references(name))


def test_cut_off_it_goes_on(tmp_path, monkeypatch):
    speech = make_speech(tmp_path / "speech", seconds=0.2)
    arguments = scenes_of(speech, tmp_path / "s.jsonl", 8, 3), speech, tmp_path / "set"
    monkeypatch.setattr(mixture_sets, "_PIECE", 4)
    real, calls = digest, []

    def breaks(samples):
        calls.append(1)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return real(samples)

    monkeypatch.setattr(mixture_sets, "digest", breaks)
    with pytest.raises(KeyboardInterrupt):
        make_set(*arguments, on_the_fly=True)
    assert not (tmp_path / "set" / "wav.scp").exists()
    make_set(*arguments, on_the_fly=True)
    used = {name for scene in read_scenes(arguments[0]) for name in spoken(scene)}
    assert len(calls) == len(used) + 2 and validate(tmp_path / "set") == []  # 8 were kept


def test_every_line_is_found(tmp_path):
    """Against a dictionary: ids of any kind, and a file that is exchanged."""
    rng = np.random.default_rng(1)
    names = sorted({"".join(rng.choice(list('aä"\\_é9:'), rng.integers(1, 6))) for _ in range(150)})
    path = str(tmp_path / "scenes.jsonl")
    for size in (300, 200):
        lines = {
            n: (json.dumps({"id": n, "x": "y" * int(rng.integers(size))}) + "\n").encode() for n in names
        }
        (tmp_path / "new").write_bytes(b"".join(lines.values()))
        (tmp_path / "new").replace(path)
        assert all(_find(path, name) == lines[name] for name in rng.permutation(names))
    for absent in ("", "zz", names[70] + "!"):
        with pytest.raises(UserError, match="no scene"):
            _find(path, absent)


def first_dry(root: Path) -> Path:
    scene = MixtureSet(root / "set").scene("m00")
    return Path(read_scp(root / "speech" / "wav.scp")[scene["talkers"][0]["utterance"]])


def rewrite_speech(root: Path) -> None:
    samples, fs = soundfile.read(first_dry(root))
    soundfile.write(first_dry(root), samples[::-1], fs)


BREAKS = {
    "edited": (
        lambda r: edit(r / "set" / "scenes.jsonl", '"t60": 0.1', '"t60": 0.2'),
        "m00 was edited after",
    ),
    "no longer JSON": (
        lambda r: edit(r / "set" / "scenes.jsonl", '"t60":', '"t60"'),
        "scene m00: not JSON",
    ),
    "no longer sorted": (lambda r: edit(r / "set" / "scenes.jsonl", '"m00"', '"n00"'), "no scene 'm00'"),
    "of files": (
        lambda r: edit(r / "set" / "scenes.jsonl", '"rendered_from"', '"measured"'),
        "not of a set on the fly",
    ),
    "no scenes": (lambda r: (r / "set" / "scenes.jsonl").unlink(), "scenes.jsonl: no such file of scenes"),
    "no rooms": (lambda r: [p.unlink() for p in (r / "set" / "rirs").rglob("*.npz")], r"\.npz: missing"),
    "no speech": (lambda r: first_dry(r).unlink(), r"\.wav: missing, scene:"),
}


@pytest.mark.parametrize("what", BREAKS)
def test_what_is_missing_or_edited_is_one_clear_line_before_anything_is_rendered(fresh, what):
    change, message = BREAKS[what]
    change(fresh)
    entry = make_entry(fresh / "set" / "scenes.jsonl", "m00", "mix")
    with pytest.raises(UserError, match=message) as error:
        audio_info(entry)
    assert "simulate render --on_the_fly" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError):
        read_audio(entry)


def test_other_speech_is_refused(fresh):
    rewrite_speech(fresh)
    made = MixtureSet(fresh / "set")
    audio_info(made.wav["m00"])
    with pytest.raises(UserError, match="other samples than when the mixtures of it were drawn"):
        made.mixture("m00")
    make_set(fresh / "scenes.jsonl", fresh / "speech", fresh / "set", on_the_fly=True)
    assert MixtureSet(fresh / "set").mixture("m00")[0].any()


def test_mistakes_in_the_making(fresh):
    make = (fresh / "scenes.jsonl", fresh / "speech", fresh / "new")
    samples, fs = soundfile.read(first_dry(fresh))
    soundfile.write(first_dry(fresh), 0 * samples, fs)
    with pytest.raises(UserError, match="is silent; take it out"):
        make_set(*make, on_the_fly=True)
    with pytest.raises(UserError, match="expected scene:SET/scenes.jsonl:ID:STREAM"):
        read_audio("scene:a/scenes.jsonl:m00:spk0")


def test_stamp_follows_the_scene_and_not_the_file(fresh):
    made = MixtureSet(fresh / "set")
    before = {name: entry_stamp(entry) for name, entry in made.wav.items()}
    scenes_of(fresh / "speech", fresh / "scenes.jsonl", 9, 2)
    make_set(fresh / "scenes.jsonl", fresh / "speech", fresh / "set", on_the_fly=True)
    assert {name: entry_stamp(entry) for name, entry in made.wav.items()} == before
    rewrite_speech(fresh)
    make_set(fresh / "scenes.jsonl", fresh / "speech", fresh / "set", on_the_fly=True)
    changed = {name for name, entry in made.wav.items() if entry_stamp(entry) != before[name]}
    name = first_dry(fresh).stem
    assert changed == {n for n in before if name in made_of(fresh, n)} and 0 < len(changed) < len(before)


def made_of(root: Path, name: str) -> str:
    return json.dumps(MixtureSet(root / "set").scene(name)["rendered_from"]["speech"])


def test_reading_files_needs_nothing_of_rendering():
    code = "import sys, frontend.data.mixtures; sys.exit('pyroomacoustics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
