"""egs/any_array: speech of several corpora in one set, and mixtures on arrays of every kind."""

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from librispeech_tree import made_up_slice
from recipes import CORPORA, ROOT, copy_recipe, run_script, write_resolved
from scipy.io import wavfile
from speech_sets import voice
from speechocean_tree import write_part

from frontend.data.audio import audio_info
from frontend.data.kaldi import read_scp, validate
from frontend.pipeline.options import Given
from frontend.pipeline.recipes import read_options, stages_of
from frontend.simulation.config import load_config
from frontend.simulation.mixture_sets import make_set
from frontend.simulation.scenes import draw_set, read_scenes
from frontend.utils.errors import UserError

sys.path.insert(0, str(ROOT / "egs/any_array/local"))

import any_speech  # noqa: E402

SETS = ("train", "dev", "test")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> Path:
    """A folder with stand-ins of all corpora, in folders of their names."""
    root = tmp_path_factory.mktemp("corpora")
    made_up_slice(root / "LibriSpeech", seconds=4.0)
    write_part(root / "speechocean762", "train", range(100, 110))
    write_part(root / "speechocean762", "test", range(300, 303))  # talkers of LibriSpeech are 300 to 302 too
    (root / "fsdd/recordings").mkdir(parents=True)
    for speaker in ("george", "lucas"):
        for digit in range(10):
            for index in (0, 5, 10):
                name = f"{digit}_{speaker}_{index}"
                samples = (32000 * voice(name, 0.4)).astype(np.int16)
                wavfile.write(root / f"fsdd/recordings/{name}.wav", 8000, samples)
    return root


def make(monkeypatch, capsys, folder: Path, **options) -> str:
    """Do what data.sh does, in this process; return what it prints."""
    monkeypatch.chdir(folder)
    values = {"out": "speech", "train_utts": 8, "dev_utts": 6, "test_utts": 6, "piece_seconds": 3, **options}
    run_script(monkeypatch, any_speech.main, *(w for k, v in values.items() for w in (f"--{k}", v)))
    return capsys.readouterr().out


def talkers(folder: Path) -> dict[str, set[str]]:
    return {name: set(read_scp(folder / name / "utt2spk").values()) for name in SETS}


def check_apart(found: dict[str, set[str]]) -> None:
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not found[one] & found[other], (one, other)


def test_all_corpora_are_merged_and_no_talker_is_in_two_sets(corpora, tmp_path, monkeypatch, capsys):
    out = make(monkeypatch, capsys, tmp_path, corpora=corpora)
    found = talkers(tmp_path / "speech")
    check_apart(found)
    corpus_of = {name: Counter(who.split("_")[0] for who in found[name]) for name in SETS}
    assert set(corpus_of["train"]) == {"espeak", "librispeech", "speechocean762", "fsdd"}
    assert set(corpus_of["dev"]) == set(corpus_of["test"]) == {"espeak", "librispeech", "speechocean762"}
    # Those that the corpora's own recipes test on, all of them; 300 of two corpora are two talkers.
    assert {w for w in found["test"] if not w.startswith("espeak")} == {
        *(f"librispeech_{n}" for n in range(300, 303)),
        *(f"speechocean762_{n:04d}" for n in range(300, 303)),
    }
    assert "speech/train: 32 utterances" in out and "2 fsdd)" in out
    for name in SETS:
        folder = Path("speech") / name
        assert validate(folder) == [] and (folder / "text").exists() == (name == "test")
        for key, entry in read_scp(folder / "wav.scp").items():
            channels, frames, fs = audio_info(entry)
            assert (channels, fs) == (1, 8000)
            # Strings of digits and espeak's sentences are as long as they are.
            assert frames <= 3 * fs or name == "test" or key.startswith(("fsdd", "espeak")), key


def test_no_test_talker_of_another_recipe_is_in_it(corpora):
    """Voices, readers and speakers as the other recipes of seed 0 divide them."""
    sizes = {"train_utts": 400, "dev_utts": 100, "test_utts": 100, "piece_seconds": 3.0, "dev_share": 0.2}
    given = {name: corpora / folder for name, folder in any_speech.CORPORA.items()}
    options = argparse.Namespace(**sizes, **given, corpora=None, fs=8000, seed=7, nj=1)
    planned = any_speech.plan(options)
    trained = {member.speaker for name in ("train", "dev") for member in planned[name]}
    voices = any_speech.espeak.draw_voices(0, any_speech.espeak.VOICES)
    own = {f"espeak_{voice.speaker}" for voice in voices["test"]}
    own |= {
        f"speechocean762_{u.speaker}" for u in any_speech.speechocean.plan(given["speechocean762"], 0)["test"]
    }
    own |= {f"librispeech_{n}" for n in range(300, 303)}
    assert own and not own & trained
    files = {Path(f).stem for m in planned["train"] if m.corpus == "fsdd" for f in m.utterance.files}
    assert files and {name.split("_")[2] for name in files} == {"10"}  # of 0, 5 and 10


@pytest.mark.parametrize("names", [(), ("librispeech",), ("speechocean762",)])
def test_each_corpus_is_optional(corpora, tmp_path, monkeypatch, capsys, names):
    given = {name: corpora / any_speech.CORPORA[name] for name in names}
    make(monkeypatch, capsys, tmp_path, **given)
    for name, found in talkers(tmp_path / "speech").items():
        assert {who.split("_")[0] for who in found} == {"espeak", *names}, name


def test_at_16_khz_digits_are_left_out_and_the_rest_is_wide(corpora, tmp_path, monkeypatch, capsys):
    out = make(
        monkeypatch, capsys, tmp_path, corpora=corpora, fs=16000, train_utts=4, dev_utts=2, test_utts=2
    )
    assert "fsdd: left out, it has 8000 Hz" in out
    entries = read_scp("speech/train/wav.scp")
    assert {key.split("_")[0] for key in entries} == {"espeak", "librispeech", "speechocean762"}
    assert {audio_info(entry)[2] for entry in entries.values()} == {16000}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corpora": "."}, "expected some of LibriSpeech, speechocean762, fsdd, found none"),
        ({"fsdd": "{corpora}/fsdd", "fs": 16000}, "--fsdd: its recordings have 8000 Hz"),
        (
            {"librispeech": "{corpora}"},
            "holds train-clean-100; found them in a folder",
        ),
        ({"speechocean762": "{corpora}/fsdd"}, "expected train/ and test/"),
        ({"train_utts": 1}, "--train_utts 1: expected at least 2"),
        ({"piece_seconds": 0.5}, "--piece_seconds 0.5: expected 1 or more"),
        ({"dev_share": 1.0}, "--dev_share 1.0: expected more than 0"),
    ],
)
def test_mistakes_are_named(corpora, tmp_path, monkeypatch, capsys, options, message):
    given = {key: str(value).format(corpora=corpora) for key, value in options.items()}
    with pytest.raises(UserError, match=message):
        make(monkeypatch, capsys, tmp_path, **given)


def test_the_recipe_from_corpora_to_mixtures(corpora, tmp_path, monkeypatch, capsys):
    make(monkeypatch, capsys, tmp_path, corpora=corpora)
    path = write_resolved(tmp_path / "scenes.yaml", "any_array", "scenes")
    config = load_config(path, ["talkers.number=[2,3]"])
    for name, bank in (("train", 4), ("dev", None)):
        draw_set(config, f"speech/{name}", f"{name}.jsonl", 12, name, bank=bank)
        scenes = read_scenes(f"{name}.jsonl")
        assert all(max(2, len(scene["talkers"])) <= len(scene["mics"]) <= 8 for scene in scenes)
        arrays = {str(scene["mics"]) for scene in scenes}
        assert 1 < len(arrays) <= (bank or 12)
    counts = make_set("train.jsonl", "speech/train", "made", on_the_fly=True)
    assert 1 < counts["fewest"] < counts["channels"] <= 8 and counts["rooms"] <= 4
    assert validate("made") == [] and not Path("made/text_spk1").exists()


def test_what_the_pipeline_would_run(corpora, tmp_path, command):
    recipe = copy_recipe("any_array", tmp_path / "any_array")
    options = ["--recipe", recipe, "--corpora", corpora, "--size", "tiny", "--talkers", "2-3"]
    code, out, err = command("run", *options, "--with", "on_the_fly,unsupervised", "--dry_run")
    assert code == 0, err
    lines = out.splitlines()
    (data,) = (line for line in lines if "local/data.sh" in line)
    assert f"--corpora {corpora}" in data and "--train_utts 12" in data
    (scenes,) = (line for line in lines if "simulate scenes" in line and "--prefix train" in line)
    assert "--talkers 2-3" in scenes and "--bank" in scenes and "--pairs" not in scenes


def test_a_network_is_made_for_the_most_microphones_and_no_symmetry():
    given = Given(recipe="egs/any_array", size="tiny", talkers="2-3")
    options = read_options(given, listing=True)
    assert (options.facts["mics"], options.facts["symmetry"]) == (8, "none")
    assert stages_of(options)[0].name == "data"


def test_scenes_are_those_that_the_recipe_promises(tmp_path):
    config = load_config(write_resolved(tmp_path / "scenes.yaml", "any_array", "scenes"))
    assert config.array.kind == ("circular", "linear", "random") and config.array.n == (2, 8)
    three = load_config(write_resolved(tmp_path / "three.yaml", "any_array", "scenes", talkers=3))
    assert three.array.n == (3, 8)  # a stream for each of three talkers takes three microphones
    assert config.array.extent == (0.05, 0.5) and config.t60 == (0.1, 0.7)
    assert config.noise.kind == ("white", "babble") and config.noise.snr_db == (5.0, 30.0)


@pytest.mark.skipif(not (CORPORA / "LibriSpeech").is_dir(), reason=f"no LibriSpeech at {CORPORA}")
def test_real_corpora(tmp_path, monkeypatch, capsys):
    make(
        monkeypatch,
        capsys,
        tmp_path,
        corpora=CORPORA,
        train_utts=60,
        dev_utts=20,
        test_utts=20,
        piece_seconds=6,
    )
    found = talkers(tmp_path / "speech")
    check_apart(found)
    assert {who.split("_")[0] for who in found["train"]} == {"espeak", *any_speech.CORPORA}
    listed = (CORPORA / "speechocean762/test/spk2utt").read_text().split("\n")
    tested = {f"speechocean762_{line.split()[0]}" for line in listed if line}
    tested |= {f"librispeech_{path.name}" for path in (CORPORA / "LibriSpeech/test-other").iterdir()}
    assert not tested & (found["train"] | found["dev"])
    assert {who for who in found["test"] if not who.startswith("espeak")} <= tested
