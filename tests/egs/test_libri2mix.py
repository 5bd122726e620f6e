"""The recipe on LibriSpeech: its layout read or refused, and who is mixed with whom."""

import os
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from librispeech_tree import SUBSETS, made_up_librispeech
from recipes import ROOT
from speech_sets import make_speech, run_command

from frontend.data.audio import read_audio
from frontend.data.kaldi import read_scp, validate
from frontend.data.speech import read_speech
from frontend.simulation.pairs import Pair, read_pairs, usable_pairs, write_pairs
from frontend.simulation.render import active_power
from frontend.simulation.scenes import read_scenes
from frontend.utils.errors import UserError
from frontend.utils.rng import generator

RECIPE = ROOT / "egs" / "mc_libri2mix"
sys.path.insert(0, str(RECIPE / "local"))

import dry_sets  # noqa: E402
import libri_data  # noqa: E402
import librimix_lists  # noqa: E402
import librispeech  # noqa: E402
from librimix_lists import LOUDNESS, draw_pairs  # noqa: E402

SETS = ("train", "labelled", "dev", "test")


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return made_up_librispeech(tmp_path_factory.mktemp("corpus") / "LibriSpeech")


@pytest.fixture
def own_tree(tmp_path) -> Path:
    """A tree that a test may damage."""
    return made_up_librispeech(tmp_path / "LibriSpeech", speakers=2, each=1, seconds=0.5)


def make(monkeypatch, capsys, directory: Path, corpus: Path, **options) -> tuple[int, str]:
    """Do what data.sh does, in this process."""
    directory.mkdir(exist_ok=True)
    monkeypatch.chdir(directory)
    return run_command(libri_data.main, monkeypatch, capsys, corpus_dir=corpus, out="data/speech", **options)


def level(path: str) -> float:
    signal, fs = read_audio(path)
    return 10 * np.log10(active_power(signal[0].astype(np.float64), fs))


# --- the corpus ---


def test_at_16_khz_nothing_is_copied_and_at_8_khz_flac(tree, tmp_path, monkeypatch, capsys):
    for fs in (16000, 8000):
        code, printed = make(monkeypatch, capsys, tmp_path / str(fs), tree, fs=fs, train_utts=5)
        assert code == 0 and "data/speech/train: 5 of 9 utterances, 3 talkers" in printed
        for name, subset in zip(SETS, SUBSETS, strict=True):
            folder = Path("data/speech") / name
            assert validate(folder) == []
            for key, entry in read_scp(folder / "wav.scp").items():
                original = tree / subset / key.split("-")[0] / key.split("-")[1] / f"{key}.flac"
                made = (folder / "flac" / f"{key}.flac").absolute()
                assert Path(entry) == (original if fs == 16000 else made)
                assert soundfile.info(entry).samplerate == fs and soundfile.info(entry).format == "FLAC"
                assert float(read_scp(folder / "utt2level")[key]) == pytest.approx(level(entry), abs=0.01)
                assert read_scp(folder / "text")[key] == f"WORDS OF {key.split('-')[0]} {int(key[-4:])}"
        speakers = [set(read_scp(f"data/speech/{name}/utt2spk").values()) for name in SETS]
        assert sum(map(len, speakers)) == len(set.union(*speakers))
    assert not list((tmp_path / "16000").rglob("*.flac"))


def test_a_run_that_was_cut_off_goes_on_and_gives_the_same(tree, tmp_path, monkeypatch, capsys):
    assert make(monkeypatch, capsys, tmp_path / "a", tree)[0] == 0
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in Path("data").rglob("*") if p.is_file()}
    files = sorted(p for p in before if p.suffix == ".flac")
    files[0].unlink()
    files[1].write_bytes(
        before[files[1]][0][: len(before[files[1]][0]) // 2]
    )  # no run leaves this: found anyway
    assert make(monkeypatch, capsys, tmp_path / "a", tree)[0] == 2
    files[1].unlink()
    assert make(monkeypatch, capsys, tmp_path / "a", tree)[0] == 0
    for path, (content, time) in before.items():
        assert path.read_bytes() == content
        assert path.suffix != ".flac" or path in files[:2] or path.stat().st_mtime_ns == time


def test_seeds_and_processes(tree, tmp_path, monkeypatch, capsys):
    lists = {}
    for run, seed in {"a": 0, "c": 1}.items():
        make(monkeypatch, capsys, tmp_path / run, tree, fs=16000, train_utts=4, seed=seed)
        lists[run] = [Path(f"data/speech/train/{name}").read_text() for name in ("pairs", "text")]
    assert lists["a"] != lists["c"]
    made = []
    for nj in (1, 2):
        place = tmp_path / f"nj{nj}"
        place.mkdir()
        monkeypatch.chdir(place)
        utterances = librispeech.read_subset(tree, SUBSETS[2])
        dry_sets.write_dry_set(Path("dev"), utterances, tree, 8000, nj)
        files = [p for p in sorted(Path("dev").rglob("*")) if p.is_file()]
        made.append({p.name: p.read_bytes().replace(bytes(place), b"") for p in files})
    assert made[0] == made[1] and len(made[0]) > len(utterances)


def damage_nothing(root):
    pass


@pytest.mark.parametrize(
    ("where", "damage", "message"),
    [
        ("..", damage_nothing, "found them in a folder of it (give {root})"),
        ("dev-clean", damage_nothing, "found a folder of dev-clean (give {root})"),
        ("train-clean-360/100", damage_nothing, "found a folder of train-clean-360 (give {root})"),
        ("nowhere", damage_nothing, "found no such folder (check the path)"),
        ("", lambda r: os.rename(r / "dev-clean", r / "x"), "but no dev-clean (openslr.org/12"),
        (
            "",
            lambda r: (os.rename(r / "dev-clean", r / "x"), (r / "dev-clean.tar.gz").touch()),
            "is still packed",
        ),
        (
            "",
            lambda r: (r / "dev-clean/300/307/300-307-0000.flac").unlink(),
            "1 of 2 in dev-clean are missing",
        ),
        (
            "",
            lambda r: (r / "dev-clean/300/307/300-307.trans.txt").unlink(),
            "the transcript of the chapter, found",
        ),
        ("", lambda r: (r / "dev-clean/300/307/300-307.trans.txt").write_text(""), "found an empty file"),
        (
            "",
            lambda r: (r / "dev-clean/300/307/300-307.trans.txt").write_text("300-307-0000\n"),
            "trans.txt:1: expected",
        ),
        (
            "",
            lambda r: (r / "dev-clean/300/307/300-307-0001.flac").touch(),
            "not in the chapter's .trans.txt",
        ),
        (
            "",
            lambda r: cut(r / "dev-clean/300/307/300-307-0000.flac"),
            "300-307-0000.flac: truncated or damaged",
        ),
        (
            "",
            lambda r: soundfile.write(r / "dev-clean/300/307/300-307-0000.flac", np.ones(9), 8000),
            "found 1 at 8000",
        ),
    ],
)
def test_a_wrong_layout_is_one_line(own_tree, tmp_path, monkeypatch, capsys, where, damage, message):
    damage(own_tree)
    code, printed = make(monkeypatch, capsys, tmp_path / "run", own_tree / where, min_seconds=0.1)
    errors = [line for line in printed.splitlines() if "error" in line]
    assert code == 2 and len(errors) == 1 and message.format(root=own_tree) in errors[0], printed


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# --- who is mixed with whom ---


def test_drawn_pairs_have_librimix_statistics():
    speech = {f"s{k % 40:02d}-{k:05d}": (f"s{k % 40:02d}", 2.5 + k % 10) for k in range(4000)}
    pairs = draw_pairs(speech, 1750, "train", 0, longest=11.0)
    usable = {name for name, (_, seconds) in speech.items() if 3 <= seconds <= 11}
    used = [name for pair in pairs for name in pair.utterances]
    assert (
        len(pairs) == 1750
        and set(used) <= usable
        and [p.id for p in pairs[:2]] == ["train_000000", "train_000001"]
    )
    # one pass has len(usable) / 2 = 1600 pairs: everybody once, but for those of one speaker left alone
    first = used[: 2 * 1590]
    assert len(usable) == 3200 and len(set(first)) == len(first)
    assert all(speech[one][0] != speech[two][0] for one, two in (p.utterances for p in pairs))
    assert len({frozenset(p.utterances) for p in pairs}) == len(pairs)
    # the difference of two uniform levels 8 dB wide: triangular, of variance 8^2 / 6
    levels, width = np.array([p.level_db for p in pairs]), LOUDNESS[1] - LOUDNESS[0]
    assert abs(levels).max() <= width and abs(levels.mean()) < 0.3
    assert levels.std() == pytest.approx(width / np.sqrt(6), rel=0.05)
    assert draw_pairs(speech, 100, "train", 0, longest=11.0) == pairs[:100]
    assert draw_pairs(speech, 100, "train", 1, longest=11.0) != pairs[:100]


def test_pairs_end_where_there_are_no_more_and_need_two_speakers():
    speech = {f"{s}{k}": (s, 4.0) for s in "abc" for k in range(2)}
    assert len(draw_pairs(speech, 1000, "x", 0)) == 12  # of 15 pairs, 3 are of one speaker
    with pytest.raises(UserError, match="by 2 speakers or more, found 2 by 1"):
        draw_pairs({"a0": ("a", 4.0), "a1": ("a", 4.0), "b0": ("b", 2.0)}, 5, "x", 0)


def test_scenes_take_the_listed_talkers_and_draw_the_rest_as_always(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    speech = make_speech(Path("speech"))
    known = read_speech(speech, 8000)
    pairs = draw_pairs(known, 6, "m", 0, shortest=0.5)
    write_pairs("pairs", pairs)
    assert read_pairs("pairs") == pairs
    Path("conf.yaml").write_text("talkers: {onset: 0.0}\nmax_seconds: 36.0\n")
    common = {"config": "conf.yaml", "speech": speech}
    assert run_command("simulate scenes", monkeypatch, capsys, **common, pairs="pairs", out="given")[0] == 0
    run_command("simulate scenes", monkeypatch, capsys, **common, num=6, prefix="m", out="drawn")
    for pair, given, drawn in zip(pairs, read_scenes("given"), read_scenes("drawn"), strict=True):
        assert [t["utterance"] for t in given["talkers"]] == list(pair.utterances)
        assert [t["level_db"] for t in given["talkers"]] == [0.0, pair.level_db]
        assert [t["offset"] for t in given["talkers"]] == [0.0, 0.0]
        assert given["samples"] == round(max(known[u][1] for u in pair.utterances) * 8000)
        same = ("room", "t60", "mics", "noise", "level_dbfs")
        assert [given[key] for key in same] == [drawn[key] for key in same]
        assert [t["position"] for t in given["talkers"]] == [t["position"] for t in drawn["talkers"]]
    # what is too long is left out, and reported
    Path("conf.yaml").write_text(f"max_seconds: {min(s for _, s in known.values()) + 0.3}\n")
    code, printed = run_command(
        "simulate scenes", monkeypatch, capsys, **common, pairs="pairs", num=6, out="short"
    )
    kept = {scene["id"] for scene in read_scenes("short")} if code == 0 else set()
    assert "are longer than" in printed and len(kept) < 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found an empty file"),
        ("m a b\n", "pairs:1: expected 'MIXTURE_ID UTTERANCE1 UTTERANCE2 LEVEL_DB', found 'm a b'"),
        ("m a b loud\n", "pairs:1: expected 'MIXTURE_ID"),
        ("m a b 1\nm a c 1\n", "pairs:2: mixture 'm' is listed twice"),
        ("m a a 1\n", "pairs:1: 'a' is mixed with itself"),
        ("m a b 99\n", "pairs:1: expected a level of -60 to 60 dB"),
    ],
)
def test_a_bad_list_is_one_line(tmp_path, text, message):
    (tmp_path / "pairs").write_text(text)
    with pytest.raises(UserError, match=message):
        read_pairs(tmp_path / "pairs")


def test_pairs_that_cannot_be_made():
    speech = {"a": ("s", 1.0), "b": ("s", 1.0), "c": ("t", 9.0)}
    with pytest.raises(UserError, match="list: no mixture of 2 can be made: 1 are longer than 5 s; 1 name"):
        usable_pairs([Pair("m", ("a", "c"), 0.0), Pair("n", ("a", "z"), 0.0)], speech, 5.0, "list")
    with pytest.raises(UserError, match="'m': both utterances are by s"):
        usable_pairs([Pair("m", ("a", "b"), 0.0)], speech, 5.0, "list")


def table(directory: Path, tree: Path, subset: str, rows: int = 4) -> list[tuple]:
    """Write a table as LibriMix has them; return (id, path 1, gain 1, path 2, gain 2)."""
    files = sorted((tree / subset).glob("*/*/*.flac"))
    first = [files[k] for k in range(rows)]
    second = [next(f for f in files[k + 1 :] if f.parent != files[k].parent) for k in range(rows)]
    found = []
    for k, (one, two) in enumerate(zip(first, second, strict=True)):
        gains = generator(0, subset, k).uniform(0.2, 2.0, 2)
        found.append((f"{one.stem}_{two.stem}", one, gains[0], two, gains[1]))
    header = "mixture_ID,source_1_path,source_1_gain,source_2_path,source_2_gain,noise_path,noise_gain\n"
    lines = [
        f"{i},{a.relative_to(tree)},{g},{b.relative_to(tree)},{h},tr/x.wav,1.5\n" for i, a, g, b, h in found
    ]
    directory.mkdir(exist_ok=True)
    (directory / f"libri2mix_{subset}.csv").write_text(header + "".join(lines))
    return found


def test_librimix_tables_become_pairs_of_the_levels_they_mean(tree, tmp_path, monkeypatch, capsys):
    rows = {subset: table(tmp_path / "metadata", tree, subset) for subset in SUBSETS}
    code, printed = make(
        monkeypatch,
        capsys,
        tmp_path / "run",
        tree,
        fs=16000,
        train_utts=4,
        librimix_metadata=tmp_path / "metadata",
    )
    assert code == 0 and "data/speech/dev/pairs: 4 of LibriMix's 4 mixtures" in printed
    for name, subset in zip(SETS, SUBSETS, strict=True):
        pairs = read_pairs(f"data/speech/{name}/pairs")
        assert len(pairs) == 4 if name != "train" else 1 <= len(pairs) < 4
        for pair, (mixture, one, gain_1, two, gain_2) in zip(pairs, rows[subset], strict=False):
            assert (pair.id, pair.utterances) == (mixture, (one.stem, two.stem))
            scaled = [gain * soundfile.read(path)[0] for gain, path in ((gain_1, one), (gain_2, two))]
            powers = [active_power(signal, 16000) for signal in scaled]
            assert pair.level_db == pytest.approx(10 * np.log10(powers[1] / powers[0]), abs=0.06)
    assert len(read_scp("data/speech/train/wav.scp")) <= 4


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.replace("source_2_gain", "gain"), ":1: expected the columns"),
        (lambda t: t.replace("dev-clean/", "dev-other/"), ":2: expected a path dev-clean/SPEAKER"),
        (
            lambda t: t.rstrip()[: t.rindex(",dev-clean") + 1] + "\n",
            ":5: expected 5 columns or more, found fewer",
        ),
        (lambda t: t.splitlines()[0] + "\n", "expected a mixture a line, found none"),
        (
            lambda t: t.replace("300-307-0000", "300-307-0099"),
            "of its utterances are not in dev-clean, such as 300-307",
        ),
        (None, "expected LibriMix's table of dev-clean, found no file"),
    ],
)
def test_a_wrong_table_is_one_line(tree, tmp_path, monkeypatch, capsys, edit, message):
    for subset in SUBSETS:
        table(tmp_path / "metadata", tree, subset)
    path = tmp_path / "metadata" / "libri2mix_dev-clean.csv"
    path.unlink() if edit is None else path.write_text(edit(path.read_text()))
    options = {"fs": 16000, "librimix_metadata": tmp_path / "metadata"}
    code, printed = make(monkeypatch, capsys, tmp_path / "run", tree, **options)
    assert code == 2 and message in printed and not Path("data").exists(), printed


def test_gains_of_a_hand_made_row():
    row = librimix_lists.Listed("m", ("a", "b"), (1.0, 10.0))
    assert librimix_lists.to_pairs([row], {"a": -20.0, "b": -26.0}) == [Pair("m", ("a", "b"), 14.0)]
    assert librimix_lists.to_pairs([row], {"a": -20.0}) == []
    rows = [librimix_lists.Listed(f"{k}", p, (1.0, 1.0)) for k, p in enumerate(pairwise("abcd"))]
    assert librimix_lists.first_utterances(rows, 3) == {*"abc"}
    assert librimix_lists.first_utterances(rows, 0) == {*"abcd"}
