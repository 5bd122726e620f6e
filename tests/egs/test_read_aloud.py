"""local/read_aloud.py: espeak-ng voices read the training texts to the recogniser."""

import sys
from pathlib import Path

import numpy as np
import pytest
from recipes import ROOT, run_script

from frontend.data.audio import read_audio
from frontend.data.kaldi import read_scp, validate
from frontend.utils.errors import UserError

sys.path.insert(0, str(ROOT / "egs/speechocean762_2mix/local"))

import read_aloud  # noqa: E402

SENTENCES = ["THE CAT'S SEEN", "WE GO HOME NOW", "GO"]


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("read_aloud") / "text"
    path.write_text("".join(f"u{i} {sentence}\n" for i, sentence in enumerate(SENTENCES)))
    return path


@pytest.fixture
def make(monkeypatch, capsys):
    """Return a function that runs the script in this process and returns what it printed."""

    def run(text: Path, out: Path, *options: str) -> str:
        run_script(monkeypatch, read_aloud.main, "--text", text, "--out", out, *options)
        return capsys.readouterr().out

    return run


def test_sentences_and_words_of_the_text_alone(text, tmp_path, make):
    assert "16 utterances of espeak-ng voices" in make(text, tmp_path / "out", "--num", "16")
    out = tmp_path / "out/train"
    assert validate(out) == []
    texts, speakers = (read_scp(out / name) for name in ("text", "utt2spk"))
    in_order = sorted(texts, key=lambda key: key.rpartition("-")[2])
    assert [texts[key] for key in in_order[::2]] == [SENTENCES[i % 3] for i in range(8)]
    known = {word for sentence in SENTENCES for word in sentence.split()}
    shuffled = [texts[key].split() for key in in_order[1::2]]
    assert all(set(words) <= known and 4 <= len(words) <= 7 for words in shuffled)
    assert len({tuple(words) for words in shuffled}) > 4
    assert len(set(speakers.values())) == 16 and all(s.startswith("espeak_") for s in speakers.values())


def test_the_same_seed_speaks_the_same_at_any_nj_and_rate(text, tmp_path, make):
    for name, options in {
        "a": ["--nj", "1"],
        "b": ["--nj", "2"],
        "other": ["--seed", "1"],
        "16k": ["--fs", "16000"],
    }.items():
        make(text, tmp_path / name, "--num", "4", *options)
    bits = {
        name: [path.read_bytes() for path in sorted((tmp_path / name / "train/wav").iterdir())]
        for name in ("a", "b", "other")
    }
    assert bits["a"] == bits["b"] != bits["other"]
    for key, path in read_scp(tmp_path / "a/train/wav.scp").items():
        low, fs = read_audio(path)
        high, twice = read_audio(read_scp(tmp_path / "16k/train/wav.scp")[key])
        assert (fs, twice) == (8000, 16000)
        # Of the same speech, as long to within the frames by which silence is measured.
        assert abs(high.shape[-1] / twice - low.shape[-1] / fs) < 0.1
        assert np.abs(low).max() > 0.01


@pytest.mark.parametrize(
    ("lines", "number", "message"),
    [
        ("u0 ONE\n", "1", "--num 1: expected at least 2"),
        ("u0\n", "4", "text:1"),
        (None, "4", "text: "),
    ],
)
def test_wrong_input_is_one_line(tmp_path, make, lines, number, message):
    if lines is not None:
        (tmp_path / "text").write_text(lines)
    with pytest.raises(UserError, match=message):
        make(tmp_path / "text", tmp_path / "out", "--num", number)
    assert not (tmp_path / "out").exists()
