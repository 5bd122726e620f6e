"""The speech sets of egs/mini: same seed, same bits; talkers kept apart; mistakes in one line."""

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from recipes import CORPORA, ROOT, run_data_sh, run_script
from scipy.io import wavfile

from frontend.data import speech
from frontend.data.audio import read_audio
from frontend.data.kaldi import read_scp, validate
from frontend.utils.errors import UserError

LOCAL = ROOT / "egs" / "mini" / "local"
sys.path.insert(0, str(LOCAL))  # the recipe's modules lie beside its data.sh

import data  # noqa: E402
import digits  # noqa: E402
import espeak  # noqa: E402
import sentences  # noqa: E402

FSDD = CORPORA / "fsdd"
SIZES = {"train": 6, "dev": 4, "test": 4}


def command_line(*arguments) -> list[str]:
    sizes = [word for name, n in SIZES.items() for word in (f"--{name}_utts", n)]
    return [str(word) for word in ("--out", "data/x/speech", *sizes, *arguments)]


def make_here(monkeypatch, directory: Path, *arguments) -> None:
    """Do what data.sh does, in this process: each start of Python costs a second."""
    monkeypatch.chdir(directory)
    run_script(monkeypatch, data.main, *command_line(*arguments))


def make(directory: Path, *arguments) -> subprocess.CompletedProcess:
    """Run the recipe's data.sh in ``directory``."""
    return run_data_sh("mini", directory, *command_line(*arguments))


def contents(directory: Path) -> dict[str, bytes]:
    files, place = (p for p in directory.rglob("*") if p.is_file()), bytes(directory)
    return {str(p.relative_to(directory)): p.read_bytes().replace(place, b"") for p in files}


def check_sets(directory: Path, monkeypatch, lowest_s: float, highest_s: float) -> dict[str, set[str]]:
    """Check every set of ``directory`` and return its talkers."""
    monkeypatch.chdir(directory)
    talkers = {}
    for name, number in SIZES.items():
        path = Path("data/x/speech") / name
        assert validate(path) == []
        talkers[name] = set(read_scp(path / "utt2spk").values())
        entries = read_scp(path / "wav.scp")
        assert len(entries) == number
        for entry in entries.values():
            audio, fs = read_audio(entry)
            assert fs == 8000 and len(audio) == 1 and lowest_s < audio.shape[1] / fs < highest_s
            assert 0.03 < np.abs(audio).max() <= 0.9 and np.sqrt(np.mean(audio**2)) < 0.06
    return talkers


def test_espeak_sets_are_valid_disjoint_and_the_same_for_any_nj(tmp_path, monkeypatch):
    for nj in (1, 2):
        (tmp_path / str(nj)).mkdir()
        done = make(tmp_path / str(nj), "--nj", nj, "--seed", 3)
        assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    talkers = check_sets(tmp_path / "1", monkeypatch, 0.6, 6.0)
    assert not talkers["train"] & talkers["dev"] and not talkers["train"] & talkers["test"]
    assert not talkers["dev"] & talkers["test"] and len(talkers["train"]) == SIZES["train"]


def test_an_utterance_does_not_depend_on_what_was_spoken_before():
    utterances = [u for part in espeak.plan(0, SIZES).values() for u in part]
    breathy = [dataclasses.replace(utterances[0].voice, variant=v) for v in ("Alicia", "f2", "victor")]
    utterances += [dataclasses.replace(utterances[0], voice=v) for v in breathy]
    forward = [u.render() for u in utterances]
    time.sleep(1.1)  # espeak-ng seeds its noise with the time of day in seconds
    backward = [u.render() for u in reversed(utterances)][::-1]
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len({x.tobytes() for x in forward}) == len(utterances)


def test_every_voice_speaks():
    signals = set()
    for variant in espeak.FEMALE + espeak.MALE:
        signal, fs = espeak.synthesise("one two three", "gmw/en-US", variant)
        signals.add(signal.tobytes())
        assert 0.5 < len(signal) / fs < 2.5 and 0.02 < np.abs(signal).max() < 0.99, variant
    for language in espeak.ACCENTS.values():
        assert len(espeak.synthesise("one", language, "m3")[0]) > 1000
    assert len(signals) == len(espeak.FEMALE + espeak.MALE) >= 40
    with pytest.raises(UserError, match="no variant 'nobody'"):
        espeak.synthesise("one", "gmw/en-US", "nobody")
    with pytest.raises(UserError, match="no voice 'gmw/nothing.f2'"):
        espeak.synthesise("one", "gmw/nothing", "f2")


def test_a_data_path_too_long_for_espeaks_buffer(tmp_path, monkeypatch):
    espeakng_loader = pytest.importorskip("espeakng_loader")
    expected = espeak.synthesise("one", "gmw/en-US", "f2")[0]
    far = tmp_path / ("x" * 90) / ("y" * 90)
    far.mkdir(parents=True)
    (far / "espeak-ng-data").symlink_to(espeakng_loader.get_data_path())
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(far / "espeak-ng-data"))
    np.testing.assert_array_equal(espeak.synthesise("one", "gmw/en-US", "f2")[0], expected)


@pytest.mark.parametrize("seed", range(5))
def test_voices_are_balanced_and_no_variant_is_in_two_sets(seed):
    drawn = espeak.draw_voices(seed, espeak.VOICES)
    variants = {name: {v.variant for v in talkers} for name, talkers in drawn.items()}
    everyone = [v.speaker for talkers in drawn.values() for v in talkers]
    assert len(set(everyone)) == len(everyone) >= 40
    assert not variants["train"] & variants["dev"] | variants["test"] & (variants["train"] | variants["dev"])
    for name, talkers in drawn.items():
        assert sum(v.gender == "f" for v in talkers) == len(talkers) / 2 == espeak.VOICES[name] / 2
    assert drawn == espeak.draw_voices(seed, espeak.VOICES)
    assert drawn != espeak.draw_voices(seed + 1, espeak.VOICES)


def test_sentences_are_words_of_a_small_vocabulary():
    rng = np.random.default_rng(0)
    texts = [sentences.sentence(rng) for _ in range(2000)]
    words = {word for text in texts for word in text.split()}
    assert len(words) < 80 and all(word.isalpha() and word.isupper() for word in words)
    strings = [t.split() for t in texts if set(t.split()) <= set(sentences.DIGITS)]
    assert {len(s) for s in strings} == {3, 4, 5, 6} and 0.4 < len(strings) / len(texts) < 0.6


def test_trim_and_level():
    tone = 0.01 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    trimmed = speech.trim(np.concatenate([np.zeros(4000), tone, np.zeros(4000)]), 8000)
    assert abs(len(trimmed) - 8000 - 2 * 400) <= 80
    np.testing.assert_allclose(trimmed[400:8400], tone, atol=1e-12)
    # pauses do not count, though they are not quite silent: the level of the tone itself is -26 dB
    with_pause = speech.normalise(np.concatenate([tone, tone / 100, tone / 100, tone]), 8000)
    level = 10 * np.log10(np.mean(with_pause[:8000] ** 2))
    assert level == pytest.approx(-26.0, abs=0.01)
    click = np.zeros(8000)
    click[100] = 0.5
    assert np.abs(speech.normalise(click, 8000)).max() <= 0.9
    assert not speech.normalise(np.zeros(800), 8000).any() and len(speech.trim(np.zeros(800), 8000)) == 800


@pytest.mark.skipif(not FSDD.is_dir(), reason=f"no FSDD at {FSDD}")
def test_fsdd_follows_the_official_split(tmp_path, monkeypatch):
    make_here(monkeypatch, tmp_path, "--corpus", "fsdd", "--corpus_dir", FSDD.resolve())
    talkers = check_sets(tmp_path, monkeypatch, 1.0, 6.0)
    assert len(talkers["train"]) == 6
    plan = digits.plan_fsdd(FSDD, 0, {"train": 300, "dev": 60, "test": 60})
    used = {k: {int(f.rsplit("_")[-1][:-4]) for u in part for f in u.files} for k, part in plan.items()}
    assert used == {"test": set(range(5)), "dev": set(range(5, 10)), "train": set(range(10, 50))}
    for utterance in plan["train"]:
        names = [Path(f).name.split("_") for f in utterance.files]
        assert {speaker for _, speaker, _ in names} == {utterance.speaker}
        assert [sentences.DIGITS[int(digit)] for digit, _, _ in names] == utterance.text.split()


@pytest.fixture(scope="module")
def audiomnist(tmp_path_factory) -> Path:
    """Make a stand-in tree: 12 talkers, a third of them women; a digit is a tone of its own, at 48 kHz."""
    root = tmp_path_factory.mktemp("audiomnist")
    meta = {}
    for number in range(1, 13):
        name = f"{number:02d}"
        meta[name] = {"gender": "female" if number % 3 == 0 else "male"}
        (root / "data" / name).mkdir(parents=True)
        for digit in range(10):
            tone = 3000 * np.sin(2 * np.pi * 300 * (digit + 1) * np.arange(24000) / 48000)
            wavfile.write(root / "data" / name / f"{digit}_{name}_0.wav", 48000, tone.astype(np.int16))
    (root / "data" / "audioMNIST_meta.txt").write_text(json.dumps(meta))
    return root


def test_audiomnist_talkers_are_apart_and_digits_in_order(audiomnist, tmp_path, monkeypatch):
    make_here(monkeypatch, tmp_path, "--corpus", "audiomnist", "--corpus_dir", audiomnist)
    talkers = check_sets(tmp_path, monkeypatch, 1.5, 5.0)
    assert not talkers["train"] & talkers["test"] and not talkers["dev"] & (
        talkers["train"] | talkers["test"]
    )
    text = read_scp("data/x/speech/train/text")
    for key, entry in read_scp("data/x/speech/train/wav.scp").items():
        signal = read_audio(entry)[0][0]
        # each tone (0.5 s at 48 kHz) has come down to 8 kHz at its own frequency, in the order of the text
        detected, position = [], 0
        while position < len(signal) - 3000:
            if np.abs(signal[position : position + 40]).max() > 0.02:
                spectrum = np.abs(np.fft.rfft(signal[position + 400 : position + 2000]))
                detected.append(round(np.argmax(spectrum) * 8000 / 1600 / 300) - 1)
                position += 4200  # into the pause, of 400 samples or more
            else:
                position += 40
        assert [sentences.DIGITS[d] for d in detected] == text[key].split()


def test_audiomnist_genders_are_spread_over_the_sets():
    genders = {f"{n:02d}": "f" if n % 3 == 0 else "m" for n in range(1, 61)}
    for seed in range(5):
        parts = speech.split_speakers(sorted(genders), genders, digits.SHARES, seed)
        assert sorted(s for part in parts.values() for s in part) == sorted(genders)
        assert [len(parts[k]) for k in ("train", "dev", "test")] == [39, 9, 12]
        for part in parts.values():
            assert sum(genders[s] == "f" for s in part) / len(part) == pytest.approx(1 / 3, abs=0.08)


def test_mistakes_are_named(audiomnist, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "part" / "recordings").mkdir(parents=True)
    for digit in range(9):
        for index in range(12):
            for speaker in ("ann", "bob"):
                name = f"{digit}_{speaker}_{index}.wav"
                wavfile.write(tmp_path / "part" / "recordings" / name, 8000, np.ones(800, np.int16))
    fsdd = ("--corpus", "fsdd", "--corpus_dir")
    for arguments, message in [
        ((*fsdd, "nowhere"), "no such directory"),
        ((*fsdd, "empty"), "expected recordings/"),
        ((*fsdd, audiomnist), "expected recordings/"),
        ((*fsdd, "part"), "no recording of 9 by ann for train"),
        (("--corpus", "audiomnist"), "expected --corpus_dir"),
        (("--corpus_dir", "empty"), "espeak makes its own"),
        (("--test_utts", 0), "--test_utts 0: expected at least 1"),
    ]:
        with pytest.raises(UserError, match=message):
            make_here(monkeypatch, tmp_path, *arguments)
    assert not (tmp_path / "data").exists()


def test_only_speech_sets_are_replaced(tmp_path, monkeypatch):
    for _ in range(2):  # a second run replaces the first
        make_here(monkeypatch, tmp_path)
    (tmp_path / "data" / "x" / "speech" / "thesis").mkdir()
    before = contents(tmp_path)
    with pytest.raises(UserError, match="holds thesis, which would be lost"):
        make_here(monkeypatch, tmp_path)
    assert contents(tmp_path) == before


def test_a_broken_recording_leaves_nothing_half_made(tmp_path):
    root = tmp_path / "corpus" / "recordings"
    root.mkdir(parents=True)
    for digit in range(10):
        for index in range(12):
            for speaker in ("ann", "bob"):
                wavfile.write(root / f"{digit}_{speaker}_{index}.wav", 8000, np.full(800, 999, np.int16))
    for index in range(10, 12):  # of the training part
        for path in root.glob(f"*_ann_{index}.wav"):
            wavfile.write(path, 8000, np.array([0, np.nan], np.float32))
    done = make(tmp_path, "--corpus", "fsdd", "--corpus_dir", "corpus", "--nj", 2)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "NaN" in done.stderr, done.stderr
    assert list((tmp_path / "data" / "x").iterdir()) == []
