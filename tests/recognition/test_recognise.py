"""The recogniser: streams in, words out; and the command that has the whole stack in it."""

import errno
import inspect
import json
import shutil
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny_models import FS, MICS, write
from tiny_recognisers import TOKENS, WORDS, former_names, make_recogniser, tones

from frontend.data.audio import read_audio
from frontend.data.kaldi import write_scp
from frontend.dsp.resample import resample as change_rate
from frontend.recognition.files import in_format
from frontend.recognition.model import (
    MODEL,
    OPTIONS,
    check_options,
    complete_options,
    find_in_zoo,
    find_recogniser,
)
from frontend.recognition.pieces import Cutting, cut
from frontend.recognition.text import unknown_words
from frontend.separation.files import Separating
from frontend.utils.errors import UserError


@pytest.fixture(scope="module")
def exp(tmp_path_factory, recognisers, models):
    """The models in one directory: ``asr``, ``hybrid``, and a separator of two talkers, ``student``."""
    folder = tmp_path_factory.mktemp("exp")
    for path in (recognisers / "asr", recognisers / "hybrid", models / "student"):
        (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def recogniser(exp):
    from frontend.recognition.model import Recogniser

    return Recogniser.from_pretrained(exp / "asr", {"beam_size": 4})


def test_a_batch_is_what_its_streams_are_one_by_one(recogniser, exp):
    from frontend.recognition.model import MAX_BATCH, Recogniser

    streams = np.concatenate([tones(4000, 1, seed) for seed in range(MAX_BATCH + 3)])
    hybrid = Recogniser.from_pretrained(exp / "hybrid", {"beam_size": 2, "maxlenratio": -4.0})
    for one, number, different in ((recogniser, MAX_BATCH + 3, 5), (hybrid, 4, 1)):
        texts = one(streams[:number], FS)
        assert texts == [one(stream[None], FS)[0] for stream in streams[:number]]
        assert len(set(texts)) > different and {w for t in texts for w in t.split()} <= {*WORDS, "<unk>"}


def test_it_is_espnet_s_own_answer(recogniser, exp):
    from espnet2.bin.asr_inference import Speech2Text

    plain = Speech2Text(exp / "asr/config.yaml", exp / "asr" / MODEL, beam_size=4, ctc_weight=1.0)
    for stream in np.concatenate([tones(7000, 1, seed) for seed in range(3)]):
        assert recogniser(stream, FS) == [plain(stream)[0][0]]


def test_silence_and_snippets_say_nothing_and_never_fail(recogniser):
    streams = np.stack([np.zeros(6000), tones(6000)[0], np.full(6000, 1e-12), np.full(6000, 0.5)])
    texts = recogniser(streams, FS)
    assert texts[0] == "" and texts[1] == recogniser(streams[1], FS)[0] != ""
    for length in (0, 1, 63, 64, 65, 100, 383, 384, 385, 448, 449, 500):
        [text] = recogniser(tones(length), FS)
        assert text == "" or length >= 384  # seven frames


def test_rates_and_nan(recogniser):
    with pytest.raises(UserError, match="expects 8000 Hz, found 16000"):
        recogniser(tones(6000), 16000)
    with pytest.raises(UserError, match="NaN"):
        recogniser(np.full((1, 6000), np.nan), FS)


def test_options_are_those_of_espnet():
    from frontend.utils.espnet import Speech2Text

    found = inspect.signature(Speech2Text.__init__).parameters
    assert OPTIONS.keys() <= found.keys()
    for name, kind in OPTIONS.items():
        annotation = found[name].annotation
        kinds = {
            typing.get_origin(a) or a
            for a in (typing.get_args(annotation) if None in _args(annotation) else [annotation])
        }
        assert kind in kinds, name


def _args(annotation):
    return [None if a is type(None) else a for a in typing.get_args(annotation)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_sise": 3}, "unknown decode option 'beam_sise' (did you mean 'beam_size'?)"),
        ({"beam_size": "3"}, "beam_size: expected int, found '3'"),
        ({"beam_size": True}, "expected int"),
        ({"beam_size": 0}, "at least 1"),
        ({"ctc_weight": 1.5}, "0 to 1"),
        ({"dtype": "float23"}, "expected float32 or"),
        ({"lm_file": "/nowhere/lm.pth"}, "no such file /nowhere/lm.pth"),
        ({"streaming": True}, "unknown decode option"),
    ],
)
def test_mistakes_in_options(options, message):
    with pytest.raises(UserError) as error:
        check_options(options, "decode.yaml")
    assert message in str(error.value) and str(error.value).startswith("decode.yaml: ")


def test_ctc_alone_gets_all_the_weight(exp):
    asr, hybrid = find_recogniser(exp / "asr"), find_recogniser(exp / "hybrid")
    assert complete_options({"beam_size": 2, "penalty": 1}, asr) == {
        "beam_size": 2,
        "penalty": 1.0,
        "ctc_weight": 1.0,
    }
    assert complete_options({"ctc_weight": 0.3, "beam_size": 2}, hybrid) == {
        "ctc_weight": 0.3,
        "beam_size": 2,
    }
    with pytest.raises(UserError, match="no decoder beside its CTC, found 0.3"):
        complete_options({"ctc_weight": 0.3}, asr)


def test_a_beam_is_no_wider_than_the_vocabulary(exp):
    from frontend.recognition.model import Recogniser

    for name in ("asr", "hybrid"):
        recogniser = Recogniser.from_pretrained(exp / name)
        assert recogniser.options["beam_size"] == len(TOKENS) < 20
        assert len(recogniser(tones(6000), FS)) == 1


def test_unknown_words_are_counted_as_they_are_scored(exp, tmp_path):
    files = find_recogniser(exp / "asr")
    assert unknown_words(["one, TWO", "Three!"], files) == ""
    assert unknown_words(["ONE FOO", "FOO BAR"], files).startswith("3 words unknown")
    assert unknown_words(["ONE FOO", "FOO BAR"], files).endswith("FOO (2), BAR (1)")
    pieces = ["<blank>", "<unk>", "\u2581DON", "'", "t", "<sos/eos>"]
    config = yaml.safe_load((exp / "asr/config.yaml").read_text()) | {
        "token_type": "bpe",
        "token_list": pieces,
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / MODEL).touch()
    assert unknown_words(["don't", "not"], find_recogniser(tmp_path)) == ""
    assert unknown_words(["done"], find_recogniser(tmp_path)).startswith("1 character unknown")


def _config(change):
    def edit(folder):
        config = yaml.safe_load((folder / "config.yaml").read_text())
        (folder / "config.yaml").write_text(yaml.safe_dump(config | change))

    return edit


def _other_weights(folder):
    torch.save({"a": torch.zeros(1)}, folder / MODEL)


def _former_and_smaller(folder):
    torch.save(former_names(torch.load(folder / MODEL)), folder / MODEL)
    _config({"encoder_conf": {"output_size": 16, "attention_heads": 2, "linear_units": 8, "num_blocks": 1}})(
        folder
    )


def _cut(folder):
    (folder / MODEL).write_bytes((folder / MODEL).read_bytes()[:-200])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "config.yaml").unlink(), "trained recogniser with config.yaml, found none"),
        (lambda d: (d / "config.yaml").write_text("a: ["), "not YAML"),
        (_config({"token_list": None}), "config.yaml of a recogniser"),
        (_config({"frontend_conf": {"fs": "much"}}), "expected a rate in Hz, found 'much'"),
        (_config({"input_size": 40}), "trained on features"),
        (_config({"normalize_conf": {"stats_file": "exp/gone.npz"}}), "stats_file exp/gone.npz is not there"),
        (_config({"encoder": "conformist"}), "ESPnet cannot build"),
        (_config({"token_list": TOKENS[:-2] + TOKENS[-1:]}), "ctc.ctc_lo.weight is (9, 8) instead of (8, 8)"),
        (lambda d: (d / MODEL).unlink(), "expected one averaged model"),
        (_cut, "damaged"),
        (_other_weights, "weights do not fit"),
        (_former_and_smaller, "weights do not fit"),
    ],
)
def test_damaged_recognisers(exp, tmp_path, damage, message):
    from frontend.recognition.model import Recogniser

    shutil.copytree(exp / "asr", tmp_path / "asr")
    damage(tmp_path / "asr")
    with pytest.raises(UserError) as error:
        Recogniser.from_pretrained(tmp_path / "asr")
    assert message in str(error.value)


def test_a_recogniser_of_an_earlier_espnet_finds_the_same_words(exp, recogniser, tmp_path):
    from frontend.recognition.model import Recogniser

    shutil.copytree(exp / "asr", tmp_path / "asr")
    torch.save(former_names(torch.load(exp / "asr" / MODEL)), tmp_path / "asr" / MODEL)
    _config({"init": "chainer"})(tmp_path / "asr")  # 202611 does not know it
    earlier, stream = Recogniser(find_recogniser(tmp_path / "asr"), {"beam_size": 4}), tones(6000, 1, 9)
    assert earlier(stream, FS) == recogniser(stream, FS)


def test_where_recognisers_are_found(exp, tmp_path):
    shutil.copytree(exp / "asr", tmp_path / "asr")
    (tmp_path / "asr" / MODEL).rename(tmp_path / "asr/valid.acc.ave_10best.pth")
    by_directory = find_recogniser(tmp_path / "asr")
    assert by_directory.checkpoint.name == "valid.acc.ave_10best.pth" and by_directory.tokens == tuple(WORDS)
    assert find_recogniser(by_directory.checkpoint).fingerprint == by_directory.fingerprint
    assert by_directory.fingerprint == find_recogniser(exp / "asr").fingerprint
    _config({"model_conf": {"ctc_weight": 0.9}})(tmp_path / "asr")
    assert find_recogniser(tmp_path / "asr").fingerprint != by_directory.fingerprint


def test_a_model_of_the_zoo(exp, recogniser, tmp_path):
    """A packed model stands in for a downloaded one; everything else is the package's real code."""
    pytest.importorskip("espnet_model_zoo", reason="espnet_model_zoo is not installed (extra: zoo)")
    from espnet2.bin.pack import main as pack

    from frontend.recognition.model import Recogniser

    packed = tmp_path / "packed.zip"
    named = [
        "--asr_train_config",
        str(exp / "asr/config.yaml"),
        "--asr_model_file",
        str(exp / "asr" / MODEL),
    ]
    pack(["asr", *named, "--outpath", str(packed)])
    for _ in range(2):  # downloaded, then found
        from_zoo = Recogniser(find_in_zoo(str(packed), tmp_path / "cache"), {"beam_size": 4})
        stream = tones(6000, 1, 9)
        assert (
            from_zoo(stream, FS) == recogniser(stream, FS)
            and from_zoo.files.tokens == recogniser.files.tokens
        )
    (tmp_path / "no.zip").write_bytes(b"no zip")
    with pytest.raises(UserError, match="--asr_model .*no.zip: espnet_model_zoo cannot provide it"):
        find_in_zoo(str(tmp_path / "no.zip"), tmp_path / "cache")


def test_the_zoo_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "espnet_model_zoo.downloader", None)
    monkeypatch.setitem(sys.modules, "espnet_model_zoo", None)
    with pytest.raises(UserError, match="pip install espnet_model_zoo"):
        find_in_zoo("somebody/some_model")


# --- mixit recognise


def bursts(spans, seconds=6.0, channels=MICS) -> np.ndarray:
    """Return (C, T): faint noise, and tones in the spans."""
    signal = 1e-4 * np.random.default_rng(0).standard_normal((channels, round(seconds * FS)))
    for start, end in spans:
        part = slice(round(start * FS), round(end * FS))
        signal[:, part] += tones(part.stop - part.start, channels, seed=part.start)
    return signal.astype(np.float32)


@pytest.fixture
def talk(tmp_path):
    return write(tmp_path / "our talk.wav", bursts([(1.0, 2.0), (4.0, 5.5)]))


def options(exp, *more):
    return ["--separator", exp / "student", "--asr", exp / "asr", *more]


def words_of(exp, folder, name) -> list[dict]:
    """What `decode` would find in the streams of a folder."""
    from frontend.recognition.model import Recogniser

    recogniser, cutting = Recogniser.from_pretrained(exp / "asr"), Cutting()
    rows = []
    for k, pieces in enumerate(cut([str(folder / f"{name}_spk{k}.wav") for k in (1, 2)], cutting), 1):
        for piece in pieces:
            audio, fs = piece.read()
            times = round(piece.start / FS, 4), round((piece.start + len(audio)) / FS, 4)
            if words := recogniser(audio, fs)[0]:
                row = {"session_id": name, "speaker": f"spk{k}", "start_time": times[0]}
                rows.append(row | {"end_time": times[1], "words": words})
    return sorted(rows, key=lambda row: (row["start_time"], row["speaker"]))


def test_words_and_their_times_in_three_formats(exp, talk, tmp_path, command):
    arguments = [talk, *options(exp)]
    code, text, _ = command("recognise", *arguments, "--save_streams", tmp_path / "streams")
    rows = words_of(exp, tmp_path / "streams", "our talk")
    assert code == 0 and {4} <= {round(row["start_time"]) for row in rows} <= {1, 4}
    assert text.splitlines() == [
        f"{r['start_time']:.2f}-{r['end_time']:.2f} {r['speaker']}: {r['words']}" for r in rows
    ]
    code, out, _ = command("recognise", *arguments, "--format", "json", "-o", tmp_path / "out.json")
    assert (code, out) == (0, "") and json.loads((tmp_path / "out.json").read_text()) == rows
    code, out, _ = command("recognise", *arguments, "--format", "stm")
    times = [f"{r['start_time']:.4f} {r['end_time']:.4f}" for r in rows]
    assert out.splitlines() == [
        f"our_talk 1 {r['speaker']} {t} {r['words']}" for r, t in zip(rows, times, strict=True)
    ]
    assert command("recognise", *arguments, "--refine", "mvdr")[1] != text


def test_long_recordings_are_separated_in_windows(exp, talk, tmp_path, command, monkeypatch):
    """With one separator and one recogniser for all of them; nothing but what is asked for is left."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    other = write(tmp_path / "other.wav", bursts([(0.5, 3.5)], 4.0))
    write_scp(tmp_path / "wav.scp", {"one": talk, "two": other})
    windows = ["--max_seconds", 3, "--window", 2]
    code, out, err = command("recognise", "--scp", tmp_path / "wav.scp", *options(exp, *windows))
    assert code == 0 and "our talk.wav: 6.0 s: separated continuously" in err
    assert "separated" not in out and not list((tmp_path / "temporary").iterdir())
    model = ["--model", exp / "student", "--scp", tmp_path / "wav.scp", "-o", tmp_path / "streams"]
    assert command("separate", *model, *windows)[0] == 0
    rows = [row for name in ("one", "two") for row in words_of(exp, tmp_path / "streams", name)]
    assert out.splitlines() == [in_format([row], "text", named=True) for row in rows] != []


def test_channels_in_files_of_their_own(exp, talk, tmp_path, command):
    whole = command("recognise", talk, *options(exp))[1]
    audio, fs = read_audio(talk)
    files = [write(tmp_path / f"ch{k}.wav", row[None], fs) for k, row in enumerate(audio)]
    code, out, _ = command("recognise", *files, *options(exp, "--join", "table"))
    assert (code, out) == (0, whole)


@pytest.mark.parametrize("samples", [1, 10, 100, 800])
@pytest.mark.parametrize("source", ["--separator", "--blind"])
def test_what_holds_no_words_is_one_segment_without(exp, tmp_path, command, samples, source):
    path = write(tmp_path / "x.wav", 0.001 * np.random.default_rng(0).standard_normal((MICS, samples)))
    arguments = [source, exp / "student" if source == "--separator" else "auxiva", "--asr", exp / "asr"]
    code, out, _ = command("recognise", path, *arguments, "--format", "json")
    [row] = json.loads(out)
    assert code == 0 and (row["session_id"], row["words"]) == ("x", "")
    assert (row["start_time"], row["end_time"]) == (0.0, round(samples / FS, 4))


def test_another_rate_is_resampled_where_that_is_allowed(exp, talk, tmp_path, command):
    fast = write(tmp_path / "fast.wav", change_rate(read_audio(talk)[0], FS, 2 * FS), 2 * FS)
    code, _, err = command("recognise", fast, *options(exp))
    assert code == 2 and "16000 Hz (allow resampling" in err
    code, out, _ = command("recognise", fast, *options(exp, "--resample", "--format", "json"))
    assert code == 0 and {4} <= {round(row["start_time"]) for row in json.loads(out)} <= {1, 4}
    make_recogniser(tmp_path / "asr16", fs=16000)
    other = [talk, "--separator", exp / "student", "--asr", tmp_path / "asr16"]
    code, _, err = command("recognise", *other, "--save_streams", tmp_path / "none")
    assert code == 2 and "asr16 expects 16000 Hz, found 8000 Hz" in err and "--resample" in err
    assert not (tmp_path / "none").exists()
    code, out, _ = command("recognise", *other, "--resample", "--format", "json")
    assert code == 0 and {4} <= {round(row["start_time"]) for row in json.loads(out)} <= {1, 4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--asr", "nowhere"], "nowhere: expected a trained recogniser"),
        (["--separator", "nowhere"], "nowhere: expected a training directory"),
        (["--max_seconds", "0"], "more than 0"),
        (["--leak_db", "-1"], "--leak_db: expected"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--device", "meta"], "expected a device, cpu, cuda or cuda:1, found 'meta'"),
        (["--config", "nowhere.yaml"], "configuration of the decoding, found no such file"),
        (["--blind", "ilrma"], "--separator and --blind exclude each other"),
        (["--n_talkers", "3"], "expected 2, as it was trained for, found 3"),
        (["--scp", "wav.scp"], "either as files or as --scp"),
        (["--asr_model", "tag"], "--asr and --asr_model exclude each other"),
    ],
)
def test_mistakes_on_the_command_line(exp, talk, command, change, message):
    arguments = {"--separator": exp / "student", "--asr": exp / "asr", change[0]: change[1]}
    pairs = [part for pair in arguments.items() for part in pair]
    code, out, err = command("recognise", talk, *pairs)
    assert (code, out) == (2, "") and message in err


def test_a_transcript_never_replaces_an_input(exp, talk, tmp_path, command):
    (tmp_path / "d").mkdir()
    for table in ("d/wav.scp", "list"):
        (tmp_path / table).write_text(f"a {talk}\n")
    (tmp_path / "link.txt").symlink_to(talk)
    scp, talk, asr = tmp_path / "d/wav.scp", Path(talk), Path(exp / "asr")
    for inputs, out in (
        ([talk], talk),
        ([talk], tmp_path / "link.txt"),
        (["--scp", tmp_path / "list"], tmp_path / "list"),
        (["--scp", tmp_path / "list"], talk),
        (["--scp", tmp_path / "d"], scp),
        (["--join", "J", talk, talk], talk),
        ([talk], asr / "config.yaml"),
    ):
        before = out.read_bytes()
        code, _, err = command("recognise", *inputs, *options(exp), "-o", out)
        assert code == 2 and "would" in err and "replace" in err and str(out) in err, err
        assert out.read_bytes() == before


def test_the_ending_tells_the_form(exp, talk, tmp_path, command):
    for name, begins in (("x.json", "["), ("x.STM", "our_talk 1 spk"), ("x.txt", "")):
        assert command("recognise", talk, *options(exp), "-o", tmp_path / name)[0] == 0
        assert (tmp_path / name).read_text().startswith(begins)
    assert " spk" in (tmp_path / "x.txt").read_text().split(":")[0]
    for name, form in (("y.stm", "json"), ("y.json", "text")):
        code, _, err = command("recognise", talk, *options(exp), "-o", tmp_path / name, "--format", form)
        assert code == 2 and f"found --format {form}" in err and not (tmp_path / name).exists()


def test_recordings_that_do_not_fit(exp, tmp_path, command):
    mono = write(tmp_path / "mono.wav", tones(6000))
    code, _, err = command("recognise", mono, *options(exp))
    assert code == 2 and f"expects {MICS} channel(s), found 1" in err
    code, _, err = command("recognise", mono, "--blind", "auxiva", "--asr", exp / "asr")
    assert code == 2 and "auxiva needs a microphone for each talker" in err
    code, _, err = command("recognise", tmp_path / "none.wav", *options(exp))
    assert code == 2 and "none.wav: no such audio file" in err


def test_dead_and_silent_recordings(exp, talk, tmp_path, command):
    audio, _ = read_audio(talk)
    dead = write(tmp_path / "dead.wav", np.stack([0 * audio[0], audio[0]]))
    code, _, err = command("recognise", dead, *options(exp))
    assert code == 2 and "channel 1 is dead" in err and "the network's reference" in err
    for name, level in (("silent", 0.0), ("constant", 0.1)):
        path = write(tmp_path / f"{name}.wav", np.full((MICS, 8000), level, np.float32))
        code, out, _ = command("recognise", path, *options(exp))
        assert (code, out) == (0, "0.00-1.00 spk1:\n")


def test_where_there_is_no_room_for_the_streams(exp, talk, tmp_path, command, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("frontend.data.writers._WavFile.write", full)
    code, _, err = command("recognise", talk, *options(exp))
    assert code == 2 and f"{tmp_path}: expected room for temporary files" in err and "TMPDIR" in err
    code, _, err = command("recognise", talk, *options(exp, "--save_streams", tmp_path / "streams"))
    assert code == 2 and "No space left on device" in err and "TMPDIR" not in err


def test_one_run_at_a_time_keeps_its_streams_in_a_directory(exp, talk, tmp_path, command):
    """The next one waits; nothing but the streams is left in it."""
    for _ in range(2):
        assert command("recognise", talk, *options(exp, "--save_streams", tmp_path / "kept"))[0] == 0
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert names == ["our talk_spk1.wav", "our talk_spk2.wav"]


def test_a_recording_that_fails_in_the_middle(exp, talk, tmp_path, command):
    """The words of those before it are not lost."""
    bad = np.tile(read_audio(talk)[0], 12)
    bad[0, 50 * FS] = np.nan
    path = write(tmp_path / "bad.wav", bad, subtype="FLOAT")
    code, whole, _ = command("recognise", talk, *options(exp, "--format", "json"))
    code, _, err = command("recognise", talk, path, *options(exp, "--format", "json", "-o", tmp_path / "o"))
    assert code == 2 and "bad.wav: NaN" in err and "the recordings before it are in" in err
    assert (tmp_path / "o").read_text() == whole
    code, _, err = command("recognise", talk, *options(exp, "-o", tmp_path))
    assert code == 2 and "expected a file for the transcript, found a directory" in err
    code, out, err = command("recognise", talk, path, *options(exp, "--format", "json"))
    assert code == 2 and out == whole and "the recordings before it are in the output" in err


def test_words_that_are_there_outlast_an_interrupt(exp, talk, tmp_path, command, monkeypatch):
    other = shutil.copy(talk, tmp_path / "b.wav")
    whole = command("recognise", talk, *options(exp, "--format", "json"))[1]
    separate = Separating.__call__

    def stopped(self, job):
        if job.name == "b":
            raise KeyboardInterrupt
        separate(self, job)

    monkeypatch.setattr(Separating, "__call__", stopped)
    code, _, err = command("recognise", talk, other, *options(exp, "-o", tmp_path / "o.json"))
    assert code == 130 and f"the recordings before it are in {tmp_path / 'o.json'}" in err
    assert (tmp_path / "o.json").read_text() == whole


def test_what_cannot_be_written_is_said_before_the_work(exp, talk, tmp_path, command, monkeypatch):
    monkeypatch.setattr(Separating, "__call__", lambda *_: pytest.fail("separated"))
    monkeypatch.setattr("os.access", lambda path, _: path != tmp_path.resolve())
    code, _, err = command("recognise", talk, *options(exp, "-o", tmp_path / "x.stm"))
    assert code == 2 and f"{tmp_path / 'x.stm'}: Permission denied" in err


def test_names_in_lines(exp, talk, tmp_path, command):
    """Two recordings have not one name in STM, and a line of text stays one."""
    other = shutil.copy(talk, tmp_path / "our_talk.wav")
    code, out, err = command("recognise", talk, other, *options(exp, "--format", "stm"))
    assert (code, out) == (2, "") and "'our talk' and 'our_talk' would both become 'our_talk' in STM" in err
    other = shutil.copy(talk, tmp_path / "our\nown.wav")
    code, out, _ = command("recognise", talk, other, *options(exp))
    names = {line.split(":")[0] for line in out.splitlines()}
    assert code == 0 and names == {"our talk", "our own"}
