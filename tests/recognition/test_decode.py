"""Decoding a test set through the real command: every audio once, kills, changes, mistakes."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import meeteval
import numpy as np
import pytest
import torch
import yaml
from commands import exit_code
from tiny_models import write
from tiny_recognisers import make_recogniser, make_spoken, tones

from frontend.data.audio import read_audio
from frontend.data.kaldi import read_scp, write_scp
from frontend.recognition.decode import STAMP
from frontend.recognition.model import MODEL, Recogniser
from frontend.recognition.pieces import Cache, key_of
from frontend.recognition.text import read_hypotheses, segments
from frontend.utils.errors import UserError
from frontend.utils.files import read_json

# One audio is recognised once: 6 streams of the model, 6 images in either order, 5 dry utterances, and 2
# mixtures on both streams: that of one talker, without noise, is her image.
ALL = 19
SYSTEMS = "mixture: {}\nmodel: {model: student}\nswapped: {model: swapped}\noracle: {}\n"
LENGTHS = {"a": 6000, "b": 6400, "c": 6800}
OPTIONS = {
    "asr": "exp/asr",
    "config": "decode.yaml",
    "data": "data",
    "separated": "separated",
    "speech": "speech",
    "systems": "systems.yaml",
    "exp": "exp",
    "out": "decoded",
}


def options(**changed):
    return [part for name, value in (OPTIONS | changed).items() for part in (f"--{name}", value)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, recognisers):
    """A test set, decoded once; all paths are relative to it."""
    root, before = tmp_path_factory.mktemp("spoken"), os.getcwd()
    os.chdir(root)
    make_spoken(Path())
    shutil.copytree(recognisers / "asr", "exp/asr")
    Path("decode.yaml").write_text("beam_size: 4\n")
    Path("systems.yaml").write_text(SYSTEMS)
    assert exit_code("decode", *options()) == 0
    os.chdir(before)
    return root


@pytest.fixture
def spoken(tmp_path, monkeypatch, whole):
    """A copy of the decoded set, as the working directory."""
    shutil.copytree(whole, tmp_path / "set")
    for table in (tmp_path / "set").rglob("*.scp"):  # sets have absolute paths
        table.write_text(table.read_text().replace(f"{whole}/", ""))
    monkeypatch.chdir(tmp_path / "set")
    return Path()


@pytest.fixture
def counted(monkeypatch):
    """Count the streams that are recognised in this process."""
    seen, call = [], Recogniser.__call__

    def counting(self, streams, fs):
        seen.extend(streams)
        return call(self, streams, fs)

    monkeypatch.setattr(Recogniser, "__call__", counting)
    return seen


def texts_of(root, out="decoded"):
    return {p.name: read_hypotheses(p) for p in sorted((root / out).iterdir()) if p.is_dir()}


def test_what_is_written(spoken):
    texts = texts_of(spoken)
    assert list(texts) == ["dry", "mixture", "model", "oracle", "swapped"]
    assert len(Path("decoded/cache.jsonl").read_text().splitlines()) == ALL
    # Of c, talker 2 is not there: silence in the images, nothing at all in the dry speech.
    assert texts["oracle"]["c"][1] == texts["dry"]["c"][1] == ""
    assert all(words for name in ("dry", "oracle") for words in texts[name]["a"])
    assert all(first == second for first, second in texts["mixture"].values())
    assert texts["swapped"] == {key: row[::-1] for key, row in texts["oracle"].items()}
    recogniser = Recogniser.from_pretrained("exp/asr", {"beam_size": 4})
    for system, key, k in (("model", "b", 1), ("oracle", "a", 0), ("mixture", "c", 0)):
        entry = read_scp(f"separated/{system}/spk{k + 1}.scp")[key]
        assert recogniser(read_audio(entry)[0][:1], 8000) == [texts[system][key][k]]
    dry = read_audio(read_scp("speech/wav.scp")["s1-b"])[0]
    assert recogniser(dry, 8000) == [texts["dry"]["b"][1]]


def test_seglst_and_info(spoken):
    decoded = spoken / "decoded"
    rows = json.loads((decoded / "model/hyp.seglst.json").read_text())
    assert rows == segments(
        read_hypotheses(decoded / "model"), {k: [n / 8000] * 2 for k, n in LENGTHS.items()}
    )
    assert [(r["session_id"], r["speaker"], r["end_time"]) for r in rows[:3]] == [
        ("a", "spk1", 0.75),
        ("a", "spk2", 0.75),
        ("b", "spk1", 0.8),
    ]
    references = json.loads((decoded / "ref.seglst.json").read_text())
    assert [(r["session_id"], r["speaker"]) for r in references] == [
        (s, f"spk{k}") for s, k in ("a1", "a2", "b1", "b2", "c1")
    ]
    assert references[0]["words"] == "ONE TWO"
    info = read_json(decoded / "model/info.json")
    assert {k: info[k] for k in ("system", "fs", "streams", "n", "cached", "config")} == {
        "system": "model",
        "fs": 8000,
        "streams": 2,
        "n": 3,
        "cached": 0,
        "config": {"beam_size": 4, "ctc_weight": 1.0},
    }
    assert info["rtf"] > 0 and info["seconds"] == 2 * sum(LENGTHS.values()) / 8000
    assert (decoded / "oracle/text_spk2").read_text().splitlines()[2] == "c"
    # meeteval reads it, and takes the talkers in any order.
    reference = meeteval.io.load(decoded / "ref.seglst.json")
    errors = {}
    for system in ("oracle", "swapped"):
        rates = meeteval.wer.cpwer(reference, meeteval.io.load(decoded / f"{system}/hyp.seglst.json"))
        errors[system] = [(key, rate.errors, rate.length) for key, rate in rates.items()]
    assert errors["oracle"] == errors["swapped"] and sum(length for *_, length in errors["oracle"]) == 10


def _copy(root, system, k, entries):
    """Make a stream of a system from the first channel of other audio, in files of its own, as floats."""
    table = {}
    for key, entry in entries.items():
        audio, fs = read_audio(entry)
        table[key] = write(root / f"separated/{system}/wav{k}/{key}.wav", audio[:1], fs, "FLOAT")
        assert Path(table[key]).read_bytes() != Path(entry).read_bytes()
    write_scp(root / f"separated/{system}/spk{k}.scp", table)


def test_no_separator_is_the_mixture_and_a_perfect_one_the_oracle(spoken, command):
    """From audio to counts: whichever files hold it, and whichever talker comes first."""
    data = spoken / "data"
    mixture, *images = (read_scp(data / f"{name}.scp") for name in ("wav", "spk1", "spk2"))
    for k in (1, 2):
        _copy(spoken, "no_separator", k, mixture)
        turned = {key: images[(k - 1 + n) % 2][key] for n, key in enumerate(sorted(mixture))}
        _copy(spoken, "perfect", k, turned)
    (spoken / "systems.yaml").write_text(SYSTEMS + "no_separator: {model: none}\nperfect: {model: none}\n")
    assert command("decode", *options())[0] == 0
    directories = ("--data", data, "--decoded", spoken / "decoded", "--out", spoken / "wer")
    assert command("wer", *directories)[0] == 0
    names = ("no_separator", "perfect", "mixture", "oracle")
    found = {name: json.loads((spoken / f"wer/{name}.json").read_text()) for name in names}
    sums = ("errors", "insertions", "deletions", "substitutions", "cpwer", "cpwer_ci")
    for same, row in (("no_separator", "mixture"), ("perfect", "oracle")):
        assert [found[same][key] for key in sums] == [found[row][key] for key in sums]
        errors_of = [
            [json.loads(line)["errors"] for line in (spoken / f"wer/{name}.jsonl").read_text().splitlines()]
            for name in (same, row)
        ]
        assert errors_of[0] == errors_of[1] and found[row]["errors"] > 0
    assert found["mixture"]["errors"] != found["oracle"]["errors"]
    texts = texts_of(spoken)
    assert texts["perfect"]["b"] == texts["oracle"]["b"][::-1] != texts["oracle"]["b"]
    assert texts["perfect"]["a"] == texts["oracle"]["a"]


def test_a_second_run_recognises_nothing(spoken, command, counted):
    first = texts_of(spoken)
    code, out, _ = command("decode", *options())
    assert code == 0 and "5 of them recognised before" in out
    for directory in Path("decoded").iterdir():
        if directory.is_dir():
            shutil.rmtree(directory)
    code, out, _ = command("decode", *options())
    assert "0 of them recognised before" in out and "all streams known" in out
    assert counted == [] and texts_of(spoken) == first
    info = read_json(Path("decoded/model/info.json"))
    assert info["rtf"] is None and info["cached"] == 6


def test_what_two_mixtures_share_is_recognised_once(spoken, command, counted):
    table = read_scp("speech/wav.scp")
    write_scp("speech/wav.scp", table | {"s0-b": table["s0-a"]})
    assert command("decode", *options(out="shared"), "--only", "dry")[0] == 0
    texts = texts_of(spoken, "shared")["dry"]
    assert texts["b"][0] == texts["a"][0] and len(counted) == 4


def test_a_second_run_does_not_import_espnet(spoken):
    shutil.rmtree("decoded/model")
    code = "import sys\nfrom frontend.cli import main\n"
    code += "try: main(['decode', *sys.argv[1:]])\nfinally: print('espnet2' in sys.modules)"
    arguments = [sys.executable, "-c", code, *options()]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n") and Path("decoded/model/info.json").is_file()


def _other_options(root):
    (root / "decode.yaml").write_text("beam_size: 5\n")


def _other_model(root):
    shutil.rmtree(root / "exp/asr")
    make_recogniser(root / "exp/asr", seed=3)


def _other_config(root):
    with open(root / "exp/asr/config.yaml", "a") as file:
        file.write("max_epoch: 5\n")


def _other_audio(root):
    write(root / "separated/model/wav1/b.wav", tones(6400, 1, 77))


@pytest.mark.parametrize(
    ("change", "again", "why"),
    [
        (_other_options, ALL, "setting beam_size changed"),
        (_other_model, ALL, "input recogniser changed"),
        (_other_config, ALL, "input recogniser changed"),
        (_other_audio, 1, "input streams changed"),
    ],
)
def test_what_has_changed_is_recognised_again(spoken, command, counted, change, again, why):
    change(spoken)
    code, out, _ = command("decode", *options())
    assert code == 0 and len(counted) == again
    assert f"decoded/model: recognised again, {why} since it was made" in out


def test_processes_and_choice_change_nothing(spoken, command):
    assert command("decode", *options(out="some"), "--only", "dry,model", "--nj", 2)[0] == 0
    some = texts_of(spoken, "some")
    assert list(some) == ["dry", "model"]
    assert some == {name: texts_of(spoken)[name] for name in some}
    assert command("decode", *options(), "--nj", 2)[1].count("recognised again") == 0


def test_a_system_s_own_recogniser(spoken, command):
    make_recogniser(spoken / "exp/joint/asr", seed=3)
    Path("systems.yaml").write_text(SYSTEMS.replace("student}", "student, asr: joint/asr}"))
    before = texts_of(spoken)
    assert command("decode", *options())[0] == 0
    assert command("decode", *options(out="by_it", asr="exp/joint/asr"), "--only", "model")[0] == 0
    ours, by_it = texts_of(spoken), texts_of(spoken, "by_it")
    assert ours["model"] == by_it["model"] != before["model"] and ours["oracle"] == before["oracle"]
    assert read_json(Path("decoded/model/info.json"))["asr"].endswith("joint/asr")


def test_a_kill_loses_nothing(spoken, command, counted):
    before = texts_of(spoken)

    def killed_run():
        call, calls = Recogniser.__call__, []

        def killed(self, streams, fs):
            calls.append(fs)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(self, streams, fs)

        Recogniser.__call__ = killed
        exit_code("decode", *options(out="killed"))

    child = multiprocessing.get_context("fork").Process(target=killed_run)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    known = len(Path("killed/cache.jsonl").read_text().splitlines())
    assert known > 0 and not list(Path("killed").glob("*/"))
    assert command("decode", *options(out="killed"))[0] == 0
    assert len(counted) == ALL - known and texts_of(spoken, "killed") == before


def test_a_cut_line_of_the_cache_is_recognised_again(spoken, command, counted):
    first, file = texts_of(spoken), Path("decoded/cache.jsonl")
    file.write_bytes(file.read_bytes()[:-20])
    for path in Path("decoded").glob(f"*/{STAMP}"):
        path.unlink()
    assert command("decode", *options())[0] == 0
    assert len(counted) == 1 and texts_of(spoken) == first
    assert len(Cache(file)._texts) == ALL == len(file.read_text().splitlines()) - 1


def test_keys_tell_what_matters():
    audio = tones(100)[0]
    others = [key_of(audio, 8000, "b"), key_of(audio, 16000, "a"), key_of(audio[:-1], 8000, "a")]
    assert key_of(audio, 8000, "a") == key_of(audio.copy(), 8000, "a") not in others


def test_words_that_no_token_makes(spoken, command):
    table = read_scp("data/text_spk1") | {"a": "ONE FOO FOO", "b": "BAR, one."}
    write_scp("data/text_spk1", table)
    code, _, err = command("decode", *options(out="new"))
    assert code == 2 and "3 words unknown" in err and "FOO (2), BAR (1)" in err and "--allow_unknown" in err
    assert not Path("new").exists()
    code, _, err = command("decode", *options(), "--allow_unknown")
    assert code == 0 and "FOO (2), BAR (1)" in err


def _edit(path, **changed):
    """Change lines of a table; None takes one out."""

    def edit(root):
        table = read_scp(root / path, allow_empty=True) | changed
        write_scp(root / path, {k: v for k, v in table.items() if v is not None})

    return edit


def _rate(root):
    config = yaml.safe_load((root / "exp/asr/config.yaml").read_text())
    config["frontend_conf"]["fs"] = "16k"
    (root / "exp/asr/config.yaml").write_text(yaml.safe_dump(config))


def _stream_rate(root):
    write(root / "separated/model/wav1/a.wav", tones(6000), 16000)


def _not_a_number(root):
    write(root / "separated/model/wav1/a.wav", np.full((1, 6000), np.nan, "f4"), subtype="FLOAT")


def _silent_talker(root):
    write(root / "data/audio/spk2/b.wav", np.zeros((1, 6400)))
    _edit("data/text_spk2", b="")(root)


def _cut_model(root):
    path = root / "exp/asr" / MODEL
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda root: (root / "data/text_spk2").unlink(),
            "expected one of each for a talker, found 2 tables spkN.scp and 1 text_spkN",
        ),
        (_edit("data/text_spk2", b=None), "text_spk2: id b of wav.scp:2 is missing"),
        (_edit("data/text_spk2", b=""), "text_spk2: b has no words, but its scene has a talker"),
        (_edit("data/text_spk2", b="..."), "text_spk2: b has no words, but"),
        (_silent_talker, "text_spk2: b has no words, but its scene has a talker"),
        (_edit("separated/model/spk2.scp", b=None), "spk2.scp: has no stream of utterance b"),
        (lambda root: (root / "separated/model/wav2/b.wav").unlink(), "wav2/b.wav: no such audio file"),
        (lambda root: (root / "separated/model/spk2.scp").unlink(), "expected at least 2 streams"),
        (_stream_rate, "expected 6000 samples at 8000 Hz"),
        (_not_a_number, "wav1/a.wav: NaN or infinity"),
        (_rate, "expects 16000 Hz, found 8000 Hz"),
        (_edit("speech/wav.scp", **{"s1-b": None}), "no utterance 's1-b', which talker 2 of b says"),
        (_cut_model, "damaged"),
        (lambda root: (root / "decode.yaml").write_text("beam: 3\n"), "unknown decode option 'beam'"),
        (
            lambda root: (root / "systems.yaml").write_text("model: {model: a, asr: gone}"),
            "exp/gone: expected",
        ),
        (lambda root: (root / "systems.yaml").write_text("oracle: {asr: asr}"), "not processed"),
        (lambda root: (root / "systems.yaml").write_text("a: {blind: ilrma, asr: asr}"), "beside a 'model'"),
        (lambda root: shutil.rmtree(root / "separated"), "expected a directory with a directory per system"),
    ],
)
def test_mistakes(spoken, command, damage, message):
    damage(spoken)
    code, _, err = command("decode", *options(out="new"))
    assert code == 2 and message in err
    assert not list(Path("new").glob("*/"))


def test_words_take_no_place_of_a_network(spoken, command):
    shutil.copytree("exp/asr", "new/model")
    code, _, err = command("decode", *options(out="new"))
    assert code == 2 and "new/model: expected words of a system, found" in err
    assert {p.name for p in Path("new/model").iterdir()} == {p.name for p in Path("exp/asr").iterdir()}


def test_streams_of_one_s_own_need_no_table_of_systems(spoken, command):
    for k in (1, 2):
        for key in "abc":
            path = spoken / f"mine/own/{key}_spk{k}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(f"separated/model/wav{k}/{key}.wav", path)
    asr = ["--asr", "exp/asr", "--config", "decode.yaml", "--data", "data"]
    for separated, out in (("mine", "from_all"), ("mine/own", "from_one")):
        code, printed, _ = command("decode", *asr, "--separated", separated, "--out", out)
        assert code == 0 and "1 systems, 0 of them recognised before" in printed
        assert read_hypotheses(f"{out}/own") == read_hypotheses("decoded/model")
    for decoded in ("from_one", "from_one/own"):
        assert command("wer", "--data", "data", "--decoded", decoded, "--out", decoded + "_wer")[0] == 0
    found = [Path(f"from_one{part}_wer/own.jsonl").read_text() for part in ("", "/own")]
    assert found[0] == found[1]
    code, _, err = command("wer", "--data", "data", "--decoded", "mine/own", "--out", "w")
    assert code == 2 and "found streams without words (recognise them first: mixit decode" in err
    code, _, err = command("decode", *asr, "--separated", "mine", "--out", "o", "--exp", "exp")
    assert code == 2 and "--systems and --exp belong together" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "modle"], "no system 'modle' (did you mean 'model'?)"),
        (["--ngpu", 2], "expected 0 or 1, found 2"),
        (["--nj", 0], "at least 1"),
    ],
)
def test_mistakes_on_the_command_line(spoken, command, arguments, message):
    code, _, err = command("decode", *options(out="new"), *arguments)
    assert code == 2 and message in err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(spoken, command):
    code, _, err = command("decode", *options(out="new"), "--ngpu", 1)
    assert code == 2 and "device 'cuda' asked for, found 0" in err


def test_hypotheses_that_disagree(tmp_path):
    with pytest.raises(UserError, match="decode first"):
        read_hypotheses(tmp_path)
    write_scp(tmp_path / "text_spk1", {"a": "X", "b": ""})
    assert read_hypotheses(tmp_path) == {"a": ["X"], "b": [""]}
    write_scp(tmp_path / "text_spk2", {"a": "X"})
    with pytest.raises(UserError, match="text_spk2: utterance b"):
        read_hypotheses(tmp_path)
