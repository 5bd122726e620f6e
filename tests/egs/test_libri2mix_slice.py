"""The recipe on a part of LibriSpeech: few subsets, no transcripts in training, talkers apart."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from commands import exit_code
from librispeech_tree import made_up_slice, write_utterance
from recipes import CORPORA, FACTS, ROOT, copy_recipe, run_script
from speech_sets import voice

from frontend.data.audio import audio_info, read_audio
from frontend.data.kaldi import read_scp, validate
from frontend.data.speech import Spoken, cut_long
from frontend.dsp.activity import levels_db
from frontend.pipeline.config import Configuration, read_size
from frontend.simulation.config import load_config
from frontend.simulation.mixture_sets import make_set
from frontend.simulation.scenes import draw_set, read_scenes, write_scenes

sys.path.insert(0, str(ROOT / "egs/mc_libri2mix/local"))

import libri_data  # noqa: E402

REAL = CORPORA / "LibriSpeech"
SETS = ("train", "dev", "test")
PIECE = re.compile(r"(.+)-([0-9]{5})-([0-9]{5})")
# A size of few mixtures, with the speech of the size `slice`.
FEW = ["--size", "slice", "--set", "size.mixtures={train: 6, dev: 3, test: 3, single: 2}"]


@pytest.fixture
def recipe(tmp_path) -> Path:
    return copy_recipe("mc_libri2mix", tmp_path / "mc_libri2mix")


def talkers(folder: Path) -> dict[str, set[str]]:
    return {name: set(read_scp(folder / name / "utt2spk").values()) for name in SETS}


def test_pieces_are_the_whole_cut_where_it_is_quiet(tmp_path):
    """Words of 1.1 to 2.9 s with pauses of 0.3 s between them: no cut in a word where a pause is in reach."""
    rng, fs = np.random.default_rng(0), 16000
    parts, pauses = [], []
    for _ in range(14):
        parts += [rng.standard_normal(int(rng.uniform(1.1, 2.9) * fs)) * 0.1]
        pauses.append(sum(map(len, parts)) / fs + np.array([0.0, 0.3]))
        parts += [rng.standard_normal(int(0.3 * fs)) * 1e-4]
    signal = np.concatenate(parts)
    path = tmp_path / "whole.flac"
    soundfile.write(path, signal, fs)
    whole = Spoken("s-1", "s", "SAID", str(path))
    pieces = cut_long([whole], 6.0)
    samples = [audio_info(piece.source)[1] for piece in pieces]
    assert sum(samples) == len(signal) and max(samples) <= 6 * fs and min(samples) >= 3 * fs - fs // 50
    np.testing.assert_array_equal(
        np.concatenate([read_audio(piece.source)[0][0] for piece in pieces]), read_audio(path)[0][0]
    )
    for piece in pieces[1:]:
        start = int(PIECE.fullmatch(piece.id)[2]) / 100
        assert any(a <= start <= b for a, b in pauses), piece.id
    assert {(p.speaker, p.text) for p in pieces} == {("s", "")}
    assert all(PIECE.fullmatch(piece.id)[1] == "s-1" for piece in pieces)
    assert cut_long([whole], 6.0, nj=2) == pieces
    assert cut_long([whole], 60.0) == [whole]  # with its words


def check_speech(speech: Path, fs: int) -> dict[str, set[str]]:
    """Check the three sets of :func:`made_up_slice`; return their talkers."""
    assert sorted(path.name for path in speech.iterdir()) == ["dev", "test", "train"]
    who = talkers(speech)
    assert len(who["train"]) == 6 and len(who["dev"]) == 2 and len(who["test"]) == 3
    assert not who["train"] & who["dev"] and len({int(name) % 2 for name in who["dev"]}) == 2  # F and M
    for name in SETS:
        assert validate(speech / name) == [] and not (speech / name / "pairs").exists()
        assert (speech / name / "text").exists() == (name == "test")
        for key, entry in read_scp(speech / name / "wav.scp").items():
            _, frames, rate = audio_info(entry)
            assert rate == fs and (frames <= 8 * fs or name == "test")
            assert bool(PIECE.fullmatch(key)) == (name != "test" and not key.startswith("100-"))
    return who


SLICE = {"train_subset": "train-clean-100", "labelled_subset": "none", "dev_subset": "train-clean-100"}
SLICE |= {"test_subset": "test-other", "out": "speech"}


def make(monkeypatch, capsys, corpus: Path, **options) -> str:
    """Do what data.sh does, in this process and directory."""
    pairs = [w for k, v in {**SLICE, "corpus_dir": corpus, **options}.items() for w in (f"--{k}", v)]
    run_script(monkeypatch, libri_data.main, "--drawn", *pairs)
    return capsys.readouterr().out


def slice_scenes(folder: Path, fs: int) -> Path:
    """Write the scene configuration of the size and return its file."""
    place = ROOT / "egs/mc_libri2mix"
    content = Configuration(place, read_size(place, "slice"), FACTS | {"fs": fs}).get("scenes")
    (folder / "scenes.yaml").write_text(yaml.safe_dump(content))
    return folder / "scenes.yaml"


def test_from_a_part_of_librispeech_to_mixtures(tmp_path, monkeypatch, capsys):
    tree = made_up_slice(tmp_path / "LibriSpeech")
    monkeypatch.chdir(tmp_path)
    out = make(monkeypatch, capsys, tree)
    assert "train-clean-100: no transcripts" in out and "8 utterances cut into 15 pieces" in out
    who = check_speech(tmp_path / "speech", 8000)
    for name in SETS:
        draw_set(load_config(slice_scenes(tmp_path, 8000)), f"speech/{name}", f"{name}.jsonl", 30, name)
        scenes = read_scenes(f"{name}.jsonl")
        assert {t["speaker"] for s in scenes for t in s["talkers"]} <= who[name]
        # As the other recipes draw them, not as LibriMix does: within 2.5 dB, not all from the start.
        drawn = [t for s in scenes for t in s["talkers"]]
        assert max(abs(t["level_db"]) for t in drawn) <= 2.5 and any(t["offset"] > 0 for t in drawn)
        assert {len(s["talkers"]) for s in scenes} == {1, 2}
    for name in ("dev", "test"):
        write_scenes(f"{name}3.jsonl", read_scenes(f"{name}.jsonl")[:3])
        make_set(f"{name}3.jsonl", f"speech/{name}", name, n_talkers=2)
        assert validate(name) == [] and (tmp_path / name / "text_spk2").exists() == (name == "test")


def test_what_the_pipeline_would_run(recipe, tmp_path, command):
    tree = made_up_slice(tmp_path / "LibriSpeech", talkers=4, seconds=2.5)
    code, out, err = command("run", "--recipe", recipe, "--librispeech", tree, *FEW, "--dry_run")
    assert code == 0, err
    (data,) = (line for line in out.splitlines() if "local/data.sh" in line)
    assert "--train_subset train-clean-100" in data and data.endswith("--drawn") or " --drawn " in data
    scenes = [line for line in out.splitlines() if "simulate scenes" in line and "/scenes/" in line]
    assert len(scenes) == 4 and not any("--pairs" in line or "labelled" in line for line in scenes)
    full = ["--size", "full", "--librispeech", tree]
    code, out, err = command("run", "--recipe", recipe, *full, "--dry_run")
    scenes = [line for line in out.splitlines() if "simulate scenes" in line and "/scenes/" in line]
    assert code == 0 and sum("--pairs" in line for line in scenes) == 4 and len(scenes) == 5


def test_at_16_khz_pieces_are_places_and_what_has_a_transcript_is_never_cut(tmp_path, monkeypatch, capsys):
    tree = made_up_slice(tmp_path / "LibriSpeech")
    write_utterance(tree, "test-other", 300, 9, 3, voice("long", 20.0, 16000), "A LONG SENTENCE")
    monkeypatch.chdir(tmp_path)
    make(monkeypatch, capsys, tree, fs=16000)
    check_speech(tmp_path / "speech", 16000)
    assert not list((tmp_path / "speech").rglob("*.flac"))
    assert int(read_scp("speech/test/utt2num_samples")["300-9-0003"]) == 20 * 16000
    options = [
        "--config",
        slice_scenes(tmp_path, 16000),
        "--speech",
        "speech/test",
        "--num",
        3,
        "--prefix",
        "t",
    ]
    code = exit_code("simulate scenes", *options, "--prefix", "t", "--out", "scenes.jsonl")
    assert code == 0 and "3 scenes from 9 utterances; 1 are too long" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("size", "damage", "message"),
    [
        (["size.speech.dev_subset=dev-clean"], None, "found train-clean-100, test-other, but no dev-clean"),
        (["size.speech.test_subset=train-clean-100"], None, "expected another one than that of train"),
        (["size.speech.labelled_subset=test-other"], None, "expected another one than that of labelled"),
        (["size.speech.test_subset=test-otter"], None, "invalid choice: 'test-otter'"),
        (
            [],
            lambda tree: (tree / "test-other/300/9/300-9.trans.txt").unlink(),
            "the transcript of the chapter",
        ),
        (
            [],
            lambda tree: [p.unlink() for p in tree.glob("train*/*/*/*.flac")],
            "expected recordings SPEAKER",
        ),
    ],
)
def test_mistakes_are_one_line(recipe, tmp_path, command, size, damage, message):
    tree = made_up_slice(tmp_path / "LibriSpeech", talkers=4, seconds=2.5)
    if damage:
        damage(tree)
    more = [word for text in size for word in ("--set", text)]
    options = ["--recipe", recipe, "--librispeech", tree, *FEW, *more]
    code, _, err = command("run", *options, "--stop_stage", "data")
    lines = [line for line in err.splitlines() if "error" in line]
    assert code == 2 and len(lines) == 1 and message in lines[0] and "Traceback" not in err, err


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no LibriSpeech at {REAL}")
def test_the_real_slice(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make(monkeypatch, capsys, REAL, fs=16000)
    speech = tmp_path / "speech"
    who = talkers(speech)
    assert len(who["train"] | who["dev"]) == 251 and len(who["test"]) == 10
    assert not who["train"] & who["dev"] and not (who["train"] | who["dev"]) & who["test"]
    assert 30 <= len(who["dev"]) <= 45
    seconds = {name: np.array([int(n) for n in read_scp(speech / name / "utt2num_samples").values()]) / 16000
               for name in SETS}  # fmt: skip
    # All 52 minutes are there, and 90 of the 100 test utterances are short enough for a mixture.
    assert seconds["train"].sum() + seconds["dev"].sum() == pytest.approx(52.35 * 60, abs=5)
    assert max(seconds["train"].max(), seconds["dev"].max()) <= 8 and (seconds["test"] <= 15).sum() == 90
    quiet = []
    for key, entry in list(read_scp(speech / "dev/wav.scp").items()):
        if (match := PIECE.fullmatch(key)) and int(match[2]):
            levels = levels_db(read_audio(entry)[0], 16000)
            quiet.append(np.percentile(levels, 95) - levels[:3].mean())
    assert len(quiet) > 30 and np.median(quiet) > 25  # dB that the cuts lie below loud speech
