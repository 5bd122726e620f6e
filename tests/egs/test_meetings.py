"""Meetings of egs/mini: turns as asked, audio that adds up, references at their times, any blocks alike."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from speech_sets import make_speech, run_command

from frontend.data.audio import read_audio
from frontend.data.kaldi import read_scp, validate
from frontend.data.mixtures import MixtureSet
from frontend.data.segments import read_segments
from frontend.data.speech import read_speech
from frontend.simulation.config import NoiseConfig, TalkersConfig
from frontend.simulation.rirs import rirs_of
from frontend.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "egs/mini/local"))

import meetings  # noqa: E402
from meetings import MeetingConfig, TurnsConfig, load_meeting_config, overlap_share  # noqa: E402

FS = 8000
CONFIG = MeetingConfig(
    t60=0.15, turns=TurnsConfig(stretch=(5.0, 8.0), silence=(2.0, 3.0)), noise=NoiseConfig("none")
)
YAML = "t60: 0.15\nturns: {stretch: [5, 8], silence: [2, 3]}\nnoise: {kind: white, snr_db: 20}\n"


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> Path:
    return make_speech(tmp_path_factory.mktemp("speech"), speakers=10, each=4)


@pytest.fixture(scope="module")
def made(speech, tmp_path_factory) -> Path:
    """Two recordings of 0.5 minutes with white noise."""
    out = tmp_path_factory.mktemp("made")
    (out / "conf.yaml").write_text(YAML)
    options = {"config": out / "conf.yaml", "speech": speech, "num": 2, "minutes": 0.5, "out": out / "set"}
    line = [str(part) for key, value in options.items() for part in (f"--{key}", value)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["meetings", *line])
        meetings.main()
    return out / "set"


def meeting_of(speech, config=CONFIG, minutes=0.5, name="m", seed=0) -> dict:
    return meetings.sample_meeting(name, minutes, config, read_speech(speech, FS), seed)


def loader(speech):
    entries = read_scp(speech / "wav.scp")
    return lambda name: read_audio(entries[name])[0][0]


def talking(meeting) -> np.ndarray:
    """Return (S, milliseconds): who talks when."""
    grid = np.zeros((len(meeting["talkers"]), meeting["samples"] * 1000 // FS), int)
    for turn in meeting["turns"]:
        start = round(turn["offset"] * 1000)
        grid[turn["talker"], start : start + round(turn["samples"] * 1000 / FS)] += 1
    return grid


# --- turns


@pytest.mark.parametrize(("asked", "talkers"), [(0.0, 2), (0.2, 2), (0.4, 2), (0.4, 4)])
def test_overlap_is_what_was_asked(speech, asked, talkers):
    turns = dataclasses.replace(CONFIG.turns, overlap=asked)
    config = dataclasses.replace(CONFIG, turns=turns, talkers=TalkersConfig(number=talkers, min_angle=10.0))
    meeting = meeting_of(speech, config, minutes=6)
    grid = talking(meeting)
    assert grid.max() == 1, "nobody talks over himself"
    at_once = grid.sum(0)
    assert at_once.max() <= 2
    measured = (at_once > 1).sum() / (at_once > 0).sum()
    assert measured == pytest.approx(overlap_share(meeting), abs=0.002)
    assert measured == pytest.approx(asked, abs=0.03)
    assert set(range(talkers)) == {turn["talker"] for turn in meeting["turns"]}


def test_utterances_come_once_before_any_comes_again(speech):
    meeting = meeting_of(speech, minutes=3)
    for k in range(2):
        spoken_turns = [turn["utterance"] for turn in meeting["turns"] if turn["talker"] == k]
        assert len(set(spoken_turns[:3])) == 3 and len(spoken_turns) > 4


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("turns: {overlap: 0.9}", "overlap: expected 0 to 0.5, found 0.9"),
        ("turns: {solo: 2}", "solo: expected 0 to 1"),
        ("turns: {pause: [-1, 1]}", "turns: expected no negative time"),
        ("turns: {overlapp: 0.1}", "unknown key 'overlapp' (did you mean 'overlap'?)"),
        ("talkers: {number: 1}", "talkers: expected two or more"),
        ("talkers: {one_talker_share: 0.1}", "leave one_talker_share out"),
    ],
)
def test_impossible_configurations_are_one_line(tmp_path, yaml, message):
    (tmp_path / "c.yaml").write_text(yaml)
    with pytest.raises(UserError) as stop:
        load_meeting_config(tmp_path / "c.yaml")
    assert message in str(stop.value)


def test_the_recipes_configuration_loads():
    assert load_meeting_config(ROOT / "egs/mini/conf/meetings.yaml").turns == TurnsConfig()


# --- audio


def whole(meeting, load, rirs) -> np.ndarray:
    """Return the images (S, C, T): every turn convolved by the book and added in place, at once."""
    images = np.zeros((len(meeting["talkers"]), len(meeting["mics"]), meeting["samples"] + FS))
    for turn in meeting["turns"]:
        dry, start = load(turn["utterance"]).astype(np.float64), round(turn["offset"] * FS)
        reverberant = np.stack([np.convolve(dry, h.astype(np.float64)) for h in rirs.filters[turn["talker"]]])
        frames = np.pad(reverberant[0], (0, -reverberant.shape[1] % 160)).reshape(-1, 160)
        power = (frames**2).mean(1)
        reverberant /= np.sqrt(power[power >= power.max() * 1e-4].mean())
        reverberant *= 10 ** (meeting["talkers"][turn["talker"]]["level_db"] / 20)
        images[turn["talker"], :, start : start + reverberant.shape[1]] += reverberant
    return images[..., : meeting["samples"]]


def test_blocks_are_the_whole_rendering(speech):
    meeting, load = meeting_of(speech), loader(speech)
    rirs = rirs_of(meeting)
    images = whole(meeting, load, rirs)
    for block_s in (0.37, 5.0, 100.0):
        made = [
            np.concatenate(x, axis=-1)
            for x in zip(*meetings._blocks(meeting, load, rirs, block_s), strict=True)
        ]
        assert np.abs(made[0] - images[:, 0]).max() < 1e-9
        assert np.abs(made[1] - images.sum(0)).max() < 1e-9
        spoken = np.repeat(talking(meeting).any(0), FS // 1000)
        assert np.mean(made[3] != spoken) < 2e-3, "ends of turns lie between milliseconds"


@pytest.mark.parametrize("kind", ["white", "babble"])
def test_any_block_length_gives_the_same_samples(speech, kind):
    config = dataclasses.replace(CONFIG, noise=NoiseConfig(kind, (10.0, 10.0), babble_talkers=3))
    meeting, load = meeting_of(speech, config), loader(speech)
    rirs = rirs_of(meeting)
    runs = [list(meetings.render_meeting(meeting, load, rirs, block_s)) for block_s in (1.3, 30.0)]
    short, long = [[np.concatenate(x, axis=-1) for x in zip(*run, strict=True)] for run in runs]
    assert np.array_equal(short[0], long[0]) and np.array_equal(short[1], long[1])
    noise = np.concatenate([b[2] for b in meetings._blocks(meeting, load, rirs, 7.0)], axis=-1)
    power = (noise[:, : 28 * FS].reshape(len(noise), 4, -1) ** 2).mean(-1)
    level = {"white": 0.25, "babble": 2.0}[kind]  # dB: the fades between pieces keep it
    assert np.abs(10 * np.log10(power) + 10).max() < level
    faded = np.stack([noise[:, k * FS : k * FS + FS // 2] for k in (10, 20)])
    assert abs(10 * np.log10((faded**2).mean()) + 10) < level


def test_mixture_is_images_and_noise(made):
    """Whole numbers at the reference channel; what is left is noise at the level that was asked."""
    found = MixtureSet(made)
    for name in found.ids:
        mixture, _ = found.mixture(name)
        images = found.references(name)
        noise = mixture[0].astype(np.float64) - images.sum(0)
        meeting = next(
            m for m in map(json.loads, (made / "meetings.jsonl").read_text().splitlines()) if m["id"] == name
        )
        spoken = np.repeat(talking(meeting).any(0), FS // 1000)
        assert 20 * np.log10(np.sqrt(np.mean(mixture[0, spoken] ** 2))) == pytest.approx(-28, abs=0.1)
        assert abs(np.corrcoef(noise, images.sum(0))[0, 1]) < 0.02
        level = 10 * np.log10((noise.reshape(-1, FS // 2) ** 2).mean(1))
        assert np.ptp(level) < 1.0, "the noise has one level"
    assert mixture.shape == (4, 30 * FS)


# --- the set


def test_set_is_valid_and_its_references_fit(made, speech):
    assert validate(made) == []
    texts, meetings = read_scp(speech / "text"), (made / "meetings.jsonl").read_text().splitlines()
    rows = read_segments(made / "ref.seglst.json")
    assert read_segments(made / "ref.stm") == rows
    assert [{**r, "words": ""} for r in rows] == [
        {**r, "end_time": pytest.approx(r["end_time"], abs=2e-4)} for r in read_segments(made / "ref.rttm")
    ]
    found = MixtureSet(made)
    for meeting in map(json.loads, meetings):
        here = [row for row in rows if row["session_id"] == meeting["id"]]
        assert sorted(r["words"] for r in here) == sorted(texts[t["utterance"]] for t in meeting["turns"])
        images = found.references(meeting["id"])
        for k, image in enumerate(images):
            spoken_turns = [r for r in here if r["speaker"] == f"spk{k + 1}"]
            assert found.texts(meeting["id"])[k] == " ".join(r["words"] for r in spoken_turns)
            # The talker's image is active in its turns (and their reverberation) and nowhere else.
            mask = np.zeros(len(image), bool)
            for row in spoken_turns:
                piece = slice(round(row["start_time"] * FS), round((row["end_time"] + 0.4) * FS))
                mask[piece] = True
                assert np.any(image[piece])
            assert not np.any(image[~mask])


def test_the_same_bits_whatever_the_processes_and_resumed(made, speech, tmp_path, monkeypatch, capsys):
    (tmp_path / "conf.yaml").write_text(YAML)
    options = {"config": tmp_path / "conf.yaml", "speech": speech, "minutes": 0.5, "out": tmp_path / "set"}
    code, out = run_command(meetings.main, monkeypatch, capsys, num=2, nj=2, **options)
    assert code == 0 and "2 recording(s)" in out and "% asked" in out
    for table in ("wav.scp", "spk1.scp", "spk2.scp"):
        for name, entry in read_scp(tmp_path / "set" / table).items():
            assert Path(entry).read_bytes() == Path(read_scp(made / table)[name]).read_bytes()
    entry = Path(read_scp(tmp_path / "set/spk1.scp")["meeting_0001"])
    entry.unlink()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "set/flac/mix").iterdir()}
    assert run_command(meetings.main, monkeypatch, capsys, num=2, **options)[0] == 0
    assert entry.is_file()
    changed = {p.stem for p, at in before.items() if p.stat().st_mtime_ns != at}
    assert changed == {"meeting_0001"}, "only what was missing is rendered again"


def test_mistakes_are_one_line(speech, tmp_path, monkeypatch, capsys):
    (tmp_path / "conf.yaml").write_text("fs: 16000\n")
    (tmp_path / "long.yaml").write_text("max_seconds: 0.5\n")
    options = {"speech": speech, "out": tmp_path / "set"}
    for config, more, message in (
        ("conf.yaml", {}, "expected 16000 Hz"),
        ("long.yaml", {}, "different speakers needed"),
        ("none.yaml", {}, "found no such file"),
        ("conf.yaml", {"num": 0}, "--num: expected at least 1"),
        ("conf.yaml", {"minutes": 0}, "--minutes"),
        ("conf.yaml", {"prefix": "a/b"}, "--prefix"),
    ):
        code, out = run_command(
            meetings.main, monkeypatch, capsys, config=tmp_path / config, **options, **more
        )
        assert code == 2 and message in out and "Traceback" not in out
        assert not (tmp_path / "set" / "wav.scp").exists()


def test_files_are_plain_audio(made):
    with soundfile.SoundFile(read_scp(made / "wav.scp")["meeting_0000"]) as file:
        assert (file.channels, file.samplerate, file.subtype) == (4, FS, "PCM_16")
