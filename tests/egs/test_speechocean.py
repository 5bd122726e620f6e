"""egs/speechocean762_2mix: the corpus's own layout to talker-disjoint speech sets, mistakes in one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from edits import edit
from recipes import CORPORA, ROOT, copy_recipe, run_data_sh, run_script
from speechocean_tree import EACH, write_part

from frontend.data.audio import read_audio
from frontend.data.kaldi import read_scp, validate
from frontend.utils.errors import UserError

RECIPE = ROOT / "egs" / "speechocean762_2mix"
sys.path.insert(0, str(RECIPE / "local"))  # the recipe's modules lie beside its data.sh

import speechocean  # noqa: E402

REAL = CORPORA / "speechocean762"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no speechocean762 at {REAL}")
TRAIN, TEST = 10, 3  # talkers


@pytest.fixture(scope="session")
def standin(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("corpora") / "speechocean762"
    write_part(root, "train", range(1, TRAIN + 1))
    write_part(root, "test", range(9000, 9000 + TEST))
    return root


@pytest.fixture
def corpus(standin, tmp_path) -> Path:
    """A copy to break; the recordings stay where they are."""
    shutil.copytree(standin, tmp_path / "so", copy_function=os.link)
    for path in (tmp_path / "so").glob("t*/*"):  # the links of tables are cut: they are rewritten in place
        text = path.read_bytes()
        path.unlink()
        path.write_bytes(text)
    return tmp_path / "so"


def make_here(monkeypatch, directory: Path, corpus: Path, *options) -> dict[str, dict[str, str]]:
    """Do what data.sh does, in this process; return utterance -> talker of every set."""
    monkeypatch.chdir(directory)
    run_script(monkeypatch, speechocean.main, "--corpus_dir", corpus, "--out", "data/x/speech", *options)
    return {name: read_scp(Path("data/x/speech") / name / "utt2spk") for name in speechocean.SETS}


def make(directory: Path, corpus: Path, *options) -> subprocess.CompletedProcess:
    """Run the recipe's data.sh as run.sh does."""
    words = ["--corpus", "speechocean762", "--corpus_dir", corpus, "--out", "data/x/speech", *options]
    return run_data_sh("speechocean762_2mix", directory, *words)


def talkers(sets: dict[str, dict[str, str]]) -> dict[str, set[str]]:
    found = {name: set(table.values()) for name, table in sets.items()}
    assert sum(map(len, found.values())) == len(set().union(*found.values())), "a talker is in two sets"
    return found


def test_the_command_makes_valid_sets_the_same_for_any_nj(standin, tmp_path, monkeypatch):
    contents = []
    for nj in (1, 2):
        (tmp_path / str(nj)).mkdir()
        done = make(tmp_path / str(nj), standin, "--seed", 3, "--nj", nj, "--fs", 8000)
        assert done.returncode == 0, done.stderr
        place = tmp_path / str(nj)
        files = sorted(p for p in place.rglob("*") if p.is_file())
        contents.append({str(p.relative_to(place)): p.read_bytes().replace(bytes(place), b"") for p in files})
    assert contents[0] == contents[1]
    assert "test: 9 utterances, 3 talkers (1 f, 2 m)" in done.stdout
    monkeypatch.chdir(tmp_path / "1")
    for name in speechocean.SETS:
        assert validate(Path("data/x/speech") / name) == []
        text = read_scp(Path("data/x/speech") / name / "text")
        for key, speaker in read_scp(Path("data/x/speech") / name / "utt2spk").items():
            assert key.startswith(f"{speaker}-0{speaker}") and text[key].startswith(f"TALKER {speaker} ")


@pytest.mark.parametrize("fs", [8000, 16000])
def test_its_own_test_part_is_test_and_dev_is_drawn_from_train(standin, tmp_path, monkeypatch, fs):
    sets = make_here(monkeypatch, tmp_path, standin, "--fs", fs)
    found = talkers(sets)
    assert found["test"] == {"9000", "9001", "9002"} and len(found["dev"]) == 2 and len(found["train"]) == 8
    assert {name: len(table) for name, table in sets.items()} == {"train": 24, "dev": 6, "test": 9}
    entry = read_scp("data/x/speech/test/wav.scp")["9001-090010002"]
    audio, rate = read_audio(entry)
    assert rate == fs and audio.shape[1] / fs == pytest.approx(0.65, abs=0.05)  # 0.5 s of silence are cut


def test_without_a_test_part_its_talkers_are_drawn_too(corpus, tmp_path, monkeypatch, capsys):
    shutil.rmtree(corpus / "test")
    drawn = [talkers(make_here(monkeypatch, tmp_path, corpus, "--seed", seed)) for seed in (0, 0, 1, 2)]
    assert "its talkers are drawn from train/" in capsys.readouterr().out
    assert drawn[0] == drawn[1] and len({frozenset(d["test"]) for d in drawn}) > 1
    for found in drawn:
        assert {name: len(part) for name, part in found.items()} == {"train": 6, "dev": 2, "test": 2}
        assert sum(int(s) % 2 for s in found["train"]) == 3  # as many women as men


def test_fewer_utterances_of_all_talkers(standin, tmp_path, monkeypatch):
    sets = make_here(monkeypatch, tmp_path, standin, "--train_utts", 10, "--dev_utts", 2, "--test_utts", 99)
    assert {name: len(table) for name, table in sets.items()} == {"train": 10, "dev": 2, "test": 9}
    assert len(talkers(sets)["train"]) == 8 and len(talkers(sets)["dev"]) == 2


def test_no_sentence_of_test_is_trained_on(corpus, tmp_path, monkeypatch, capsys):
    for key in ("000010001", "000020001", "000030000"):
        edit(corpus / "train/text", f"TALKER {key[1:5]} SAYS {key[-1]}", "TALKER 9001 SAYS 1")
    sets = make_here(monkeypatch, tmp_path, corpus)
    texts = {name: set(read_scp(f"data/x/speech/{name}/text").values()) for name in sets}
    assert not texts["test"] & (texts["train"] | texts["dev"]) and not texts["dev"] & texts["train"]
    assert sum(map(len, sets.values())) == (TRAIN + TEST) * EACH - 3
    assert "left out, a later set says the same" in capsys.readouterr().out


def first_key(corpus: Path, table: str) -> str:
    return (corpus / table).read_text().split()[0]


def without_line(path: Path, number: int) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: number - 1] + lines[number:]))


WRONG = {
    "expected train/ and test/ .* one level below .give .*so/inner": lambda c: (
        c.rename(c.with_name("x")) and c.mkdir() or c.with_name("x").rename(c / "inner")
    ),
    "no train/ among what was found: WAVE test": lambda c: shutil.rmtree(c / "train"),
    "test/text: expected a table": lambda c: (c / "test/text").unlink(),
    "train/wav.scp: expected a table": lambda c: (c / "train/wav.scp").unlink(),
    "train/spk2gender: expected a table": lambda c: (c / "train/spk2gender").unlink(),
    "train/text: no entries": lambda c: (c / "train/text").write_text(""),
    "train/text:2: empty transcript of 000010001": lambda c: edit(c / "train/text", "TALKER 0001 SAYS 1", ""),
    "train/text: utterance 000010001 of wav.scp is missing": lambda c: without_line(c / "train/text", 2),
    "train/wav.scp: utterance 000010001 of text is missing": lambda c: without_line(c / "train/wav.scp", 2),
    "test/utt2spk: utterance 090000000 of wav.scp is missing": lambda c: without_line(c / "test/utt2spk", 1),
    "train/spk2gender: talker 0001 of utt2spk is missing": lambda c: without_line(c / "train/spk2gender", 1),
    "train/spk2gender: expected f or m": lambda c: edit(c / "train/spk2gender", "\tf", "\twoman"),
    "piped commands are not read": lambda c: edit(c / "train/wav.scp", "000010000.WAV", "000010000.WAV |"),
    "3 of its 9 recordings are not in .*WAVE/SPEAKER9001/090010000.WAV": lambda c: shutil.rmtree(
        c / "WAVE/SPEAKER9001"
    ),
    "30 of its 30 recordings are not in": lambda c: shutil.rmtree(c / "WAVE"),
    "talker 0001 is in train/ too": lambda c: edit(c / "test/utt2spk", "\t9000", "\t0001"),
    "expected 1 channel at 16000 Hz, found 1 at 8000": lambda c: rewrite(c, 8000, 1),
    "expected 1 channel at 16000 Hz, found 2 at 16000": lambda c: rewrite(c, 16000, 2),
    "truncated, its header says": lambda c: rewrite(c, 16000, 1, cut=100),
}


def rewrite(corpus: Path, fs: int, channels: int, cut: int = 0) -> None:
    path = corpus / "WAVE/SPEAKER9002/090020001.WAV"
    path.unlink()  # a link to what the other tests use
    soundfile.write(path, np.full((1600, channels), 0.1), fs, format="WAV")
    path.write_bytes(path.read_bytes()[: -cut or None])


@pytest.mark.parametrize("message", WRONG)
def test_wrong_layouts_are_one_line(corpus, tmp_path, monkeypatch, message):
    WRONG[message](corpus)
    with pytest.raises(UserError, match=message):
        make_here(monkeypatch, tmp_path, corpus)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("below", ["train", "WAVE", "WAVE/SPEAKER0001"])
def test_of_a_folder_too_deep_the_message_names_the_right_one(standin, tmp_path, monkeypatch, below):
    with pytest.raises(UserError, match=rf"give (the folder above, )?{standin.resolve()}\)$"):
        make_here(monkeypatch, tmp_path, standin / below)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--fs", 44100), "--fs 44100: expected 8000 or 16000"),
        (("--corpus", "fsdd"), "--corpus fsdd: expected speechocean762"),
        (("--train_utts", 1), "--train_utts 1: expected at least 2"),
        (("--corpus_dir", "nowhere"), "--corpus_dir nowhere: no such directory"),
    ],
)
def test_options_are_checked(standin, tmp_path, monkeypatch, options, message):
    with pytest.raises(UserError, match=message):
        make_here(monkeypatch, tmp_path, standin, *options)
    assert not (tmp_path / "data").exists()


def test_the_command_says_it_in_one_line(standin, tmp_path):
    done = make(tmp_path, standin / "train")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("speechocean: error: --corpus_dir") and not (tmp_path / "data").exists()


@real
def test_the_real_slice():
    plans = {seed: speechocean.plan(REAL, seed) for seed in (0, 1)}
    for plan in plans.values():
        found = talkers({name: {u.id: u.speaker for u in part} for name, part in plan.items()})
        assert found["test"] == set(read_scp(REAL / "test/spk2gender")) and len(found["test"]) == 12
        assert {name: len(part) for name, part in plan.items()} == {"train": 840, "dev": 120, "test": 240}
        genders = read_scp(REAL / "train/spk2gender")
        assert sum(genders[s] == "f" for s in found["dev"]) in (3, 4)  # of 6; 28 of the 48 are women
    assert {u.id for u in plans[0]["dev"]} != {u.id for u in plans[1]["dev"]}


@real
def test_official_names_and_flac_give_the_same_bits(tmp_path, monkeypatch):
    made = {}
    for kind in ("flac", "WAV"):
        root = tmp_path / kind
        for part, number in (("train", 6), ("test", 2)):
            speakers = sorted(read_scp(REAL / part / "spk2gender"))[:number]
            keys = {k: s for k, s in read_scp(REAL / part / "utt2spk").items() if s in speakers}
            keys = {k: s for s in speakers for k in [k for k in keys if keys[k] == s][:2]}
            (root / part).mkdir(parents=True)
            for name in ("wav.scp", "text", "utt2spk", "spk2gender"):
                table = read_scp(REAL / part / name)
                kept = {
                    k: v.replace(".flac", f".{kind}") for k, v in table.items() if k in {*keys, *speakers}
                }
                (root / part / name).write_text("".join(f"{k}\t{v}\n" for k, v in kept.items()))
            for entry in read_scp(root / part / "wav.scp").values():
                (root / entry).parent.mkdir(parents=True, exist_ok=True)
                audio, fs = soundfile.read(REAL / entry.replace(".WAV", ".flac"), dtype="int16")
                soundfile.write(root / entry, audio, fs, format=kind.upper(), subtype="PCM_16")
        make_here(monkeypatch, root, root)
        made[kind] = {
            str(p.relative_to(root)): p.read_bytes().replace(bytes(root), b"")
            for p in (root / "data").rglob("*")
            if p.is_file()
        }
    assert made["flac"] == made["WAV"] and sum(name.endswith(".wav") for name in made["WAV"]) == 16


def test_data_of_the_recipe_at_16_khz_and_what_would_follow(standin, tmp_path, command, monkeypatch):
    """Through `mixit run`: the data stage, then the commands of all others; espeak-ng voices read along."""
    recipe = copy_recipe("speechocean762_2mix", tmp_path / "ocean")
    options = ["--recipe", recipe, "--size", "tiny", "--fs", 16000, "--with", "unsupervised", "--nj", 1]
    options += ["--corpus_dir", REAL if REAL.is_dir() else standin]
    code, _, err = command("run", *options, "--stop_stage", "data")
    assert code == 0, err
    monkeypatch.chdir(recipe)
    speech = recipe / "data/speechocean762_tiny_16k/speech"
    assert {read_audio(path)[1] for path in read_scp(speech / "train/wav.scp").values()} == {16000}
    code, out, err = command("run", *options, "--dry_run")
    assert code == 0 and "local/data.sh" not in out, err
    aloud = next(line for line in out.splitlines() if "read_aloud.py" in line)
    assert "--num 6 " in aloud and aloud.endswith("--fs 16000")
    assert not any(f"output_dir {name}" in out for name in ("student_ft", "supervised_full"))
    student = yaml.safe_load((recipe / "exp/speechocean762_tiny_16k_unsup/conf/student.yaml").read_text())
    assert student["separator_conf"]["fs"] == 16000 == student["preprocessor_conf"]["fs"]
