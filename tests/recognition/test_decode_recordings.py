"""Words of long recordings: where speech is found, what is recognised there."""

import json
from pathlib import Path

import numpy as np
import pytest
from speech_sets import voice
from tiny_models import write
from tiny_recognisers import tones

from frontend.data.audio import read_audio
from frontend.data.kaldi import write_scp
from frontend.data.segments import in_rttm, in_seglst, in_stm, read_segments
from frontend.dsp.activity import Rule, levels_db, segments_of_levels
from frontend.recognition.model import Recogniser
from frontend.recognition.pieces import stream_segments
from frontend.utils.errors import UserError

FS = 8000


def bursts(seconds: float, spans, level=0.1, floor=1e-3, seed=0) -> np.ndarray:
    """Return (T,): noise at ``floor``, and at ``level`` in the spans."""
    rng = np.random.default_rng(seed)
    signal = floor * rng.standard_normal(round(seconds * FS))
    for start, end in spans:
        part = slice(round(start * FS), round(end * FS))
        signal[part] = level * rng.standard_normal(len(signal[part]))
    return signal


# --- where somebody talks


def speech_segments(signal, fs, rule=None):
    return segments_of_levels(levels_db(signal, fs), fs, len(signal) / fs, rule)


def test_levels_have_closed_forms():
    signal = np.concatenate([np.full(160, 0.1), np.zeros(160), np.full(40, 1.0)]) * (-1) ** np.arange(360)
    assert levels_db(signal, FS) == pytest.approx([-20, -np.inf, 0])
    both = np.stack([signal, 0 * signal])
    assert levels_db(both, FS)[0] == pytest.approx(-20 - 10 * np.log10(2))
    assert len(levels_db(np.zeros((1, 0)), FS)) == 0
    pieces = [levels_db(signal[a:b], FS) for a, b in ((0, 160), (160, 360))]
    assert np.array_equal(np.concatenate(pieces), levels_db(signal, FS))


def test_bursts_are_found_with_pads_and_bridges():
    rule = Rule(pad=0.1, min_pause=0.3, min_speech=0.1)
    spans = [(2.0, 3.0), (3.2, 4.0), (6.0, 6.06), (8.0, 9.0), (9.4, 10.0)]
    found = speech_segments(bursts(12, spans), FS, rule)
    # bridged, too short to be speech, and a pause just long enough to stay one
    assert found == pytest.approx(np.array([(1.9, 4.1), (7.9, 9.1), (9.3, 10.1)]), abs=0.021)
    assert speech_segments(bursts(12, spans, floor=0.0), FS, rule) == pytest.approx(
        np.array(found), abs=0.021
    )


@pytest.mark.parametrize("signal", [np.zeros(FS), np.sin(np.arange(4 * FS)), bursts(4, []), np.zeros(0)])
def test_nobody_talks_at_a_constant_level(signal):
    assert speech_segments(signal, FS) == []


def test_level_does_not_matter_and_quiet_leaks_are_left_out():
    signal = bursts(20, [(2, 4), (10, 12)])
    found = speech_segments(signal, FS)
    assert len(found) == 2 and speech_segments(0.001 * signal, FS) == found
    signal[6 * FS : 7 * FS] = bursts(1, [(0, 1)], level=0.1 * 10 ** (-40 / 20), seed=1)
    assert speech_segments(signal, FS, Rule(margin_db=3.0)) == pytest.approx(np.array(found), abs=0.021)


def test_long_segments_are_cut_in_their_quietest_places():
    signal = bursts(48, [(1, 39)])
    for at in (6.0, 11.0, 20.5):
        part = slice(round(at * FS), round((at + 0.2) * FS))
        signal[part] *= 0.1  # not quiet enough, or too short, to be a pause
    found = speech_segments(signal, FS, Rule(max_seconds=15.0))
    assert max(end - start for start, end in found) <= 15.0
    assert [found[0][0], found[-1][1]] == pytest.approx([0.85, 39.15], abs=0.021)
    assert [end for _, end in found] == [start for start, _ in found[1:]] + [found[-1][1]]
    assert found[0][1] == pytest.approx(11.1, abs=0.05) and found[1][1] == pytest.approx(20.6, abs=0.05)


def test_odd_rates_do_not_drift():
    """At 11025 Hz a frame of 20 ms is no whole number of samples."""
    fs = 11025
    signal = np.full(300 * fs, 1e-6)
    signal[290 * fs : 295 * fs] = 0.1 * np.random.default_rng(0).standard_normal(5 * fs)
    signal += 1e-4 * np.random.default_rng(1).standard_normal(len(signal))
    ((start, end),) = speech_segments(signal, fs, Rule(pad=0.0))
    assert (start, end) == pytest.approx((290, 295), abs=0.03)
    levels = levels_db(signal, fs)
    assert segments_of_levels(levels, fs, 300.0, Rule(pad=0.0), np.zeros(len(levels), bool)) == []
    with pytest.raises(UserError, match="max_seconds"):
        Rule(max_seconds=0.0)


def test_what_leaks_of_the_other_stream_is_no_speech(tmp_path):
    spans = [[(1, 2), (4, 6)], [(2.5, 3.5), (5, 7)]]
    clean = [bursts(9, s, seed=k) for k, s in enumerate(spans)]
    streams = [clean[0] + 0.1 * clean[1], clean[1] + 0.1 * clean[0]]
    entries = [write(tmp_path / f"{k}.wav", s[None].astype(np.float32)) for k, s in enumerate(streams)]
    found = stream_segments(entries, Rule(), leak_db=10.0)
    for segments, expected in zip(found, spans, strict=True):
        assert segments == pytest.approx(np.array([(a - 0.15, b + 0.15) for a, b in expected]), abs=0.03)
    unfiltered = stream_segments(entries, Rule(), leak_db=60.0)[0]
    assert any(start < 3.0 < end for start, end in unfiltered), "without the rule leakage counts as speech"


# --- files


ROWS = [
    {"session_id": "r1", "speaker": "a", "start_time": 0.5, "end_time": 1.25, "words": "ONE TWO"},
    {"session_id": "r1", "speaker": "b", "start_time": 1.0, "end_time": 2.0, "words": "THREE"},
    {"session_id": "r2", "speaker": "a", "start_time": 0.0, "end_time": 3.0, "words": ""},
]


def test_segment_files_come_back_as_they_were(tmp_path):
    for name, form in (("x.json", in_seglst), ("x.stm", in_stm), ("x.rttm", in_rttm)):
        (tmp_path / name).write_text(form(ROWS))
        expected = ROWS if name != "x.rttm" else [{**row, "words": ""} for row in ROWS]
        assert read_segments(tmp_path / name) == expected
    (tmp_path / "y.stm").write_text(";; remark\nr1 1 a 0.5 1.25 <o,f0,male> one\tTWO \n\n")
    assert read_segments(tmp_path / "y.stm") == [{**ROWS[0], "words": "one\tTWO"}]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.stm", "", "found none (empty file?)"),
        ("x.json", " \n", "found none (empty file?)"),
        ("x.json", "[]", "found none (empty file?)"),
        ("x.json", "{}", "a list of segments, found dict"),
        ("x.json", "[{]", "not JSON"),
        ("x.json", '[{"session_id": "a"}]', "segment 1: expected the keys"),
        ("x.stm", "r1 1 a 0.5", "x.stm:1: expected 'session channel"),
        ("x.stm", "r1 1 a zero 1 WORD", "expected a time in seconds, found 'zero'"),
        ("x.stm", "r1 1 a 2 1 WORD", "expected 0 <= start <= end"),
        ("x.rttm", "SPEAKER r1 1 0.5", "x.rttm:1: expected 'SPEAKER session"),
        ("x.txt", "r1", "expected SegLST (.json), STM (.stm) or RTTM"),
    ],
)
def test_broken_files_are_one_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as stop:
        read_segments(tmp_path / name)
    assert message in str(stop.value) and str(tmp_path / name) in str(stop.value)


# --- recognition


@pytest.fixture
def recordings(tmp_path, monkeypatch) -> Path:
    """Two recordings as two systems separated them into two streams; in the second nobody talks."""
    monkeypatch.chdir(tmp_path)
    tables: dict[str, dict[str, str]] = {"spk1": {}, "spk2": {}}
    for k, spans in ((1, [(1.0, 2.0), (4.0, 5.0)]), (2, [(6.0, 7.5)])):
        signal = 1e-4 * np.random.default_rng(k).standard_normal(9 * FS)
        for start, end in spans:
            signal[round(start * FS) : round(end * FS)] += tones(
                round((end - start) * FS), 1, seed=int(start)
            )[0]
        tables[f"spk{k}"]["r1"] = write(Path(f"streams/r1_spk{k}.wav"), signal[None].astype(np.float32))
        tables[f"spk{k}"]["r2"] = write(Path(f"streams/r2_spk{k}.wav"), np.zeros((1, 2 * FS), np.float32))
    for system, names in (("model", ("spk1", "spk2")), ("swapped", ("spk2", "spk1"))):
        for k, name in enumerate(names, 1):
            write_scp(Path(f"separated/{system}/spk{k}.scp"), tables[name])
    write_scp(Path("data/wav.scp"), {"r1": "r1.wav", "r2": "r2.wav"})
    Path("data/array").write_text("2 none 8000\n")
    return tmp_path


def test_segments_are_recognised_where_they_are(recordings, recognisers, command):
    options = ["--asr", recognisers / "asr", "--data", "data", "--separated", "separated", "--out", "out"]
    code, printed, err = command("decode", *options)
    assert code == 0 and "2 systems, 0 of them recognised before" in printed, err
    rows = read_segments("out/model/hyp.seglst.json")
    recogniser = Recogniser.from_pretrained(recognisers / "asr")
    silent = [row for row in rows if row["session_id"] == "r2"]
    assert [(r["speaker"], r["end_time"], r["words"]) for r in silent] == [("spk1", 2.0, "")]
    spoken = [row for row in rows if row["session_id"] == "r1"]
    entries = [f"streams/r1_spk{k}.wav" for k in (1, 2)]
    cut = [[round(a) for a, _ in found] for found in stream_segments(entries, Rule(), 10.0)]
    assert cut == [[1, 4], [6]]
    # Where the recogniser finds no word there is no row.
    assert 1 <= len(spoken) <= 3
    assert {(r["speaker"], round(r["start_time"])) for r in spoken} <= {("spk1", 1), ("spk1", 4), ("spk2", 6)}
    for row in spoken:
        audio, _ = read_audio(f"streams/r1_{row['speaker']}.wav")
        piece = audio[:, round(row["start_time"] * FS) : round(row["end_time"] * FS)]
        assert piece.shape[1] % (0.2 * FS) == 0, "lengths are whole steps, so that batches are large"
        assert row["words"] == recogniser(piece, FS)[0] != ""
    other = {"spk1": "spk2", "spk2": "spk1"}
    swapped = [r for r in read_segments("out/swapped/hyp.seglst.json") if r["session_id"] == "r1"]
    assert [{**r, "speaker": other[r["speaker"]]} for r in swapped] == spoken
    info = json.loads(Path("out/model/info.json").read_text())
    assert (info["cached"], info["n"], info["streams"], info["leak_db"]) == (0, 2, 2, 10.0)
    assert len(Path("out/cache.jsonl").read_text().splitlines()) == 3
    # A second run knows all of it: the recogniser is not even loaded.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recogniser, "__init__", None)
        assert "2 of them recognised before" in command("decode", *options)[1]
        assert "setting activity changed" in command("decode", *options, "--min_pause", 0.19)[1]
    assert read_segments("out/model/hyp.seglst.json") == rows


def test_mistakes_of_recognition_are_one_line(recordings, recognisers, command):
    asr = recognisers / "asr"
    options = {"--asr": asr, "--data": "data", "--separated": "separated", "--out": "out"}
    Path("empty/model").mkdir(parents=True)
    fast = {
        k: write(Path(f"fast/{k}.wav"), voice("a", 1.0)[None].astype(np.float32), 16000) for k in ("r1", "r2")
    }
    write_scp(Path("fast/model/spk1.scp"), fast)
    for key, value, message in (
        ("--separated", "none", "expected a directory with a directory per system"),
        ("--separated", "empty", "found neither"),
        ("--separated", "fast", "expects 8000 Hz, found 16000 Hz"),
        ("--only", "swaped", "no system 'swaped' (did you mean 'swapped'?)"),
        ("--asr", "none", "expected a trained recogniser"),
        ("--leak_db", -1, "--leak_db: expected at least 0"),
        ("--max_seconds", 0.5, "max_seconds of at least 1"),
        ("--config", "none.yaml", "found no such file"),
    ):
        arguments = [x for pair in {**options, key: value}.items() for x in pair]
        code, _, err = command("decode", *arguments)
        assert code == 2 and message in err, err
    assert not Path("out").exists()
