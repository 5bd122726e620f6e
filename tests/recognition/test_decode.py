"""Decoding a test set through the real command: every audio once, kills, changes, mistakes."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from commands import exit_code
from tiny_models import write
from tiny_recognisers import make_recogniser, make_spoken, tones

from frontend.data.audio import read_audio
from frontend.data.kaldi import read_scp, write_scp
from frontend.recognition.batches import Cache, key_of
from frontend.recognition.model import ASR_MODEL
from frontend.recognition.text import read_hypotheses, read_info, segments
from frontend.utils.errors import UserError

# One audio is recognised once: 6 streams of the model, 6 images in either order, 5 dry utterances, and 2
# mixtures on both streams: that of one talker, without noise, is her image.
ALL = 19
SYSTEMS = "mixture: {}\nmodel: {model: student}\nswapped: {model: swapped}\noracle: {}\n"


@pytest.fixture(scope="module")
def asr(tmp_path_factory):
    return make_recogniser(tmp_path_factory.mktemp("exp") / "asr")


@pytest.fixture
def spoken(tmp_path, asr):
    make_spoken(tmp_path)
    shutil.copytree(asr, tmp_path / "exp/asr")
    (tmp_path / "decode.yaml").write_text("beam_size: 4\n")
    (tmp_path / "systems.yaml").write_text(SYSTEMS)
    return tmp_path


def options(root, **changed):
    given = {
        "asr": "exp/asr",
        "config": "decode.yaml",
        "data": "data",
        "separated": "separated",
        "speech": "speech",
        "systems": "systems.yaml",
        "exp": "exp",
        "out": "decoded",
    }
    pairs = ((f"--{k}", root / v) for k, v in given.items() if k not in changed)
    return [*(p for pair in pairs for p in pair), *(p for k, v in changed.items() for p in (f"--{k}", v))]


@pytest.fixture
def counted(monkeypatch):
    """Count the streams that are recognised in this process."""
    from frontend.recognition.model import Recogniser

    seen, call = [], Recogniser.__call__

    def counting(self, streams, fs):
        seen.extend(streams)
        return call(self, streams, fs)

    monkeypatch.setattr(Recogniser, "__call__", counting)
    return seen


def texts_of(root, out="decoded"):
    return {p.name: read_hypotheses(p) for p in sorted((root / out).iterdir()) if p.is_dir()}


def test_what_is_written(spoken, command, counted):
    code, out, _ = command("decode", *options(spoken))
    assert code == 0 and "5 systems, 0 of them recognised before" in out
    texts = texts_of(spoken)
    assert list(texts) == ["dry", "mixture", "model", "oracle", "swapped"]
    # Of c, talker 2 is not there: silence in the images, nothing at all in the dry speech.
    assert texts["oracle"]["c"][1] == texts["dry"]["c"][1] == ""
    assert all(words for name in ("dry", "oracle") for words in texts[name]["a"])
    assert len(counted) == ALL
    assert all(first == second for first, second in texts["mixture"].values())
    assert texts["swapped"] == {key: row[::-1] for key, row in texts["oracle"].items()}

    from frontend.recognition.model import Recogniser

    recogniser = Recogniser.from_pretrained(spoken / "exp/asr", {"beam_size": 4})
    for system, key, k in (("model", "b", 1), ("oracle", "a", 0), ("mixture", "c", 0)):
        entry = read_scp(spoken / f"separated/{system}/spk{k + 1}.scp")[key]
        assert recogniser(read_audio(entry)[0][:1], 8000) == [texts[system][key][k]]
    dry = read_audio(read_scp(spoken / "speech/wav.scp")["s1-b"])[0]
    assert recogniser(dry, 8000) == [texts["dry"]["b"][1]]


def test_seglst_and_info(spoken, command):
    assert command("decode", *options(spoken), "--nj", 2)[0] == 0
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
    info = read_info(decoded / "model")
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


LENGTHS = {"a": 6000, "b": 6400, "c": 6800}


def test_meeteval_reads_it(spoken, command):
    command("decode", *options(spoken))
    errors_of = {}
    for system in ("oracle", "swapped"):
        files = ["-r", spoken / "decoded/ref.seglst.json", "-h", spoken / f"decoded/{system}/hyp.seglst.json"]
        made = spoken / f"{system}.json"
        subprocess.run(
            [sys.executable, "-m", "meeteval.wer", "cpwer", *files, "--average-out", made]
            + ["--per-reco-out", spoken / "per_reco.json"],
            check=True,
            capture_output=True,
        )
        errors_of[system] = json.loads(made.read_text())
    assert errors_of["oracle"]["length"] == 10
    assert errors_of["oracle"]["errors"] == errors_of["swapped"]["errors"]


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
    assert command("decode", *options(spoken))[0] == 0
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
    command("decode", *options(spoken))
    first, seen = texts_of(spoken), len(counted)
    code, out, _ = command("decode", *options(spoken))
    assert code == 0 and "5 of them recognised before" in out and len(counted) == seen
    for directory in (spoken / "decoded").iterdir():
        if directory.is_dir():
            shutil.rmtree(directory)
    code, out, _ = command("decode", *options(spoken))
    assert "0 of them recognised before" in out and "all streams known" in out
    assert len(counted) == seen and texts_of(spoken) == first
    info = read_info(spoken / "decoded/model")
    assert info["rtf"] is None and info["cached"] == 6


def test_what_two_mixtures_share_is_recognised_once(spoken, command, counted):
    table = read_scp(spoken / "speech/wav.scp")
    write_scp(spoken / "speech/wav.scp", table | {"s0-b": table["s0-a"]})
    assert command("decode", *options(spoken))[0] == 0
    texts = texts_of(spoken)["dry"]
    assert texts["b"][0] == texts["a"][0] and len(counted) == ALL - 1


def test_a_second_run_does_not_import_espnet(spoken, command):
    command("decode", *options(spoken))
    shutil.rmtree(spoken / "decoded/model")
    code = "import sys\nfrom frontend.cli import main\ntry: main()\nfinally: print('espnet2' in sys.modules)"
    arguments = [sys.executable, "-c", code, "decode", *options(spoken)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n") and (spoken / "decoded/model/info.json").is_file()


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
    ("change", "again"), [(_other_options, ALL), (_other_model, ALL), (_other_config, ALL), (_other_audio, 1)]
)
def test_what_has_changed_is_recognised_again(spoken, command, counted, change, again):
    command("decode", *options(spoken))
    counted.clear()
    change(spoken)
    assert command("decode", *options(spoken))[0] == 0
    assert len(counted) == again


def test_processes_and_choice_change_nothing(spoken, command):
    assert command("decode", *options(spoken))[0] == 0
    assert command("decode", *options(spoken, out=spoken / "forked"), "--nj", 2)[0] == 0
    assert texts_of(spoken) == texts_of(spoken, "forked")
    assert command("decode", *options(spoken, out=spoken / "some"), "--only", "dry,model")[0] == 0
    some = texts_of(spoken, "some")
    assert list(some) == ["dry", "model"]
    assert some == {name: texts_of(spoken)[name] for name in some}


def test_a_system_s_own_recogniser(spoken, command):
    make_recogniser(spoken / "exp/joint/asr", seed=3)
    (spoken / "systems.yaml").write_text(SYSTEMS.replace("student}", "student, asr: joint/asr}"))
    assert command("decode", *options(spoken))[0] == 0
    assert command("decode", *options(spoken, out=spoken / "by_it", asr=spoken / "exp/joint/asr"))[0] == 0
    ours, by_it = texts_of(spoken), texts_of(spoken, "by_it")
    assert ours["model"] == by_it["model"] and ours["oracle"] != by_it["oracle"]
    assert read_info(spoken / "decoded/model")["asr"].endswith("joint/asr")


@pytest.mark.parametrize("at", [1, 3])
def test_a_kill_loses_nothing(spoken, command, counted, at):
    from frontend.recognition.model import Recogniser

    def killed_run():
        call, calls = Recogniser.__call__, []

        def killed(self, streams, fs):
            calls.append(fs)
            if len(calls) == at + 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(self, streams, fs)

        Recogniser.__call__ = killed
        exit_code("decode", *options(spoken))

    child = multiprocessing.get_context("fork").Process(target=killed_run)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    known = len((spoken / "decoded/cache.jsonl").read_text().splitlines())
    assert known > 0 and not list((spoken / "decoded").glob("*/"))
    assert command("decode", *options(spoken))[0] == 0
    assert len(counted) == ALL - known
    assert command("decode", *options(spoken, out=spoken / "whole"))[0] == 0
    assert texts_of(spoken) == texts_of(spoken, "whole")


def test_a_cut_line_of_the_cache_is_recognised_again(spoken, command, counted):
    command("decode", *options(spoken))
    first, file = texts_of(spoken), spoken / "decoded/cache.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    shutil.rmtree(spoken / "decoded/model")
    shutil.rmtree(spoken / "decoded/dry")
    shutil.rmtree(spoken / "decoded/oracle")
    counted.clear()
    assert command("decode", *options(spoken))[0] == 0
    assert len(counted) == 1 and texts_of(spoken) == first
    assert len(Cache(file)._texts) == ALL == len(file.read_text().splitlines()) - 1


def test_keys_tell_what_matters():
    audio = tones(100)[0]
    others = [key_of(audio, 8000, "b"), key_of(audio, 16000, "a"), key_of(audio[:-1], 8000, "a")]
    assert key_of(audio, 8000, "a") == key_of(audio.copy(), 8000, "a") not in others


def test_words_that_no_token_makes(spoken, command):
    table = read_scp(spoken / "data/text_spk1") | {"a": "ONE FOO FOO", "b": "BAR, one."}
    write_scp(spoken / "data/text_spk1", table)
    code, _, err = command("decode", *options(spoken))
    assert code == 2 and "3 words unknown" in err and "FOO (2), BAR (1)" in err and "--allow_unknown" in err
    assert not (spoken / "decoded").exists()
    code, _, err = command("decode", *options(spoken), "--allow_unknown")
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
    path = root / "exp/asr" / ASR_MODEL
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "data/text_spk2").unlink(), "text_spk2: expected what talker 2 says"),
        (_edit("data/text_spk2", b=None), "text_spk2: id b of wav.scp is missing"),
        (_edit("data/text_spk2", b=""), "spk2/b.wav is not silent"),
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
    code, _, err = command("decode", *options(spoken))
    assert code == 2 and message in err
    assert not list((spoken / "decoded").glob("*/"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "modle"], "no streams of a system 'modle' (did you mean 'model'?)"),
        (["--ngpu", 2], "expected 0 or 1, found 2"),
        (["--nj", 0], "at least 1"),
    ],
)
def test_mistakes_on_the_command_line(spoken, command, arguments, message):
    code, _, err = command("decode", *options(spoken), *arguments)
    assert code == 2 and message in err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(spoken, command):
    code, _, err = command("decode", *options(spoken), "--ngpu", 1)
    assert code == 2 and "device 'cuda' asked for, found 0" in err


def test_hypotheses_that_disagree(tmp_path):
    with pytest.raises(UserError, match="decode first"):
        read_hypotheses(tmp_path)
    write_scp(tmp_path / "text_spk1", {"a": "X", "b": ""})
    assert read_hypotheses(tmp_path) == {"a": ["X"], "b": [""]}
    write_scp(tmp_path / "text_spk2", {"a": "X"})
    with pytest.raises(UserError, match="text_spk2: utterance b"):
        read_hypotheses(tmp_path)
