"""Long recordings scored by utterance: which stream, swaps made on purpose, the same span alone, mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
from speech_sets import voice
from tiny_models import write

from frontend.data.audio import read_audio
from frontend.data.kaldi import write_scp, write_set
from frontend.data.mixtures import find_streams
from frontend.data.segments import write_references
from frontend.dsp.metrics import explained, si_snr
from frontend.evaluation.intervals import bootstrap_interval
from frontend.evaluation.score import totals

FS, SECONDS = 8000, 20
# (speaker, start, end): overlapping, apart, and one longer than all others
TURNS = [(1, 0.5, 2.5), (2, 1.5, 3.0), (1, 4.0, 6.0), (2, 8.0, 10.0), (1, 9.0, 13.0), (2, 15.0, 16.0)]


def images() -> np.ndarray:
    """Return (2, T): each talker in his turns."""
    out = np.zeros((2, SECONDS * FS))
    for number, (speaker, start, end) in enumerate(TURNS):
        a, b = round(start * FS), round(end * FS)
        out[speaker - 1, a:b] = voice(f"turn{number}", end - start)
    return out


def streams_of(truth: np.ndarray, leak: float = 0.05) -> np.ndarray:
    """Return (2, T): streams that are nearly the images."""
    noise = np.random.default_rng(1).standard_normal(truth.shape)
    return truth + leak * truth[::-1] + 0.001 * noise


@pytest.fixture
def recording(tmp_path) -> Path:
    """A set of one recording, r1, with references; streams in ``streams``."""
    truth = images()
    mixture = np.stack([truth.sum(0), 0.8 * truth[0] - 0.3 * truth[1]])
    data = tmp_path / "data"
    tables = {"wav": mixture, "spk1": truth[:1], "spk2": truth[1:]}
    audio = {name: write(data / f"{name}.wav", x.astype(np.float32)) for name, x in tables.items()}
    write_set(data, {f"{name}.scp": {"r1": entry} for name, entry in audio.items()})
    rows = [
        {"session_id": "r1", "speaker": f"spk{k}", "start_time": a, "end_time": b, "words": "A"}
        for k, a, b in TURNS
    ]
    write_references(data, rows)
    put(tmp_path, streams_of(truth))
    return tmp_path


def put(root: Path, streams: np.ndarray) -> None:
    for k, stream in enumerate(streams, 1):
        write(root / f"streams/r1_spk{k}.wav", stream[None].astype(np.float32))


def options(root: Path) -> list:
    return ["--data", root / "data", "--separated", root / "streams", "--out", root / "out"]


def score(command, root: Path, *more) -> dict:
    """Run the real command; return the sums and the rows."""
    code, out, err = command("score", *options(root), *more)
    assert code == 0, err
    assert "stream swaps inside" in out
    rows = [json.loads(line) for line in (root / "out/streams.jsonl").read_text().splitlines()]
    return json.loads((root / "out/streams.json").read_text()) | {"utterances": rows}


# --- the command


def test_every_utterance_has_the_score_of_its_span(recording, command):
    found = score(command, recording)
    truth, mixture = images(), read_audio(recording / "data/wav.wav")[0][0]
    separated = np.stack([read_audio(recording / f"streams/r1_spk{k}.wav")[0][0] for k in (1, 2)])
    rounded = np.stack([read_audio(recording / f"data/spk{k}.wav")[0][0] for k in (1, 2)])
    assert np.abs(rounded - truth).max() < 1e-4
    assert [(r["talker"] + 1, r["start_time"], r["end_time"]) for r in found["utterances"]] == TURNS
    for row in found["utterances"]:
        piece = slice(round(row["start_time"] * FS), round(row["end_time"] * FS))
        image = rounded[row["talker"], piece]
        assert row["si_snr"] == pytest.approx(si_snr(image, separated[row["talker"], piece]), abs=2e-3)
        assert row["mixture"] is None or row["mixture"] == pytest.approx(
            si_snr(image, mixture[piece]), abs=2e-3
        )
        assert (row["stream"], row["swaps"], row["off_main_stream"]) == (row["talker"], 0, False)
    assert (found["swaps"], found["off_main_stream"], found["clear"]) == (0, 0, len(TURNS))


def test_swapped_streams_are_found(recording, command):
    """From 11 s on (inside the longest turn) the streams are the other way round."""
    truth = images()
    streams = streams_of(truth)
    streams[:, 11 * FS :] = streams[::-1, 11 * FS :]
    put(recording, streams)
    found = score(command, recording)
    assert found["swaps"] == 1 and [r["swaps"] for r in found["utterances"]] == [0, 0, 0, 0, 1, 0]
    assert [r["off_main_stream"] for r in found["utterances"]] == [False] * 4 + [None, True]
    last = found["utterances"][-1]  # compared with the talker's main stream, where the other talks
    assert last["si_snr"] is None or last["si_snr"] < last["best_si_snr"] - 10
    assert found["swappable"] >= 1
    # All the other way round, from the start, is no swap at all.
    put(recording, streams_of(truth)[::-1])
    found = score(command, recording)
    assert (found["swaps"], found["off_main_stream"]) == (0, 0) and found["utterances"][0]["stream"] == 1


def test_the_same_span_separated_alone(recording, command, models):
    """The cut is what it says: long enough, around the utterance, within the recording."""
    from frontend.separation.model import Separator

    found = score(command, recording, "--model", models / "student", "--least_s", "3")
    separator = Separator.from_pretrained(models / "student")
    waveform, _ = read_audio(recording / "data/wav.wav")
    truth = np.stack([read_audio(recording / f"data/spk{k}.wav")[0][0] for k in (1, 2)])
    cuts = [(0.0, 3.0), (0.75, 3.75), (3.5, 6.5), (7.5, 10.5), (9.0, 13.0), (14.0, 17.0)]
    for row, (low, high) in zip(found["utterances"], cuts, strict=True):
        start, stop = row["start_time"], row["end_time"]
        cut = separator(waveform[:, round(low * FS) : round(high * FS)], FS)
        piece = cut[:, round((start - low) * FS) : round((stop - low) * FS)]
        image = truth[row["talker"], round(start * FS) : round(stop * FS)]
        best = np.argmax(explained(image, piece))
        assert row["alone_best_si_snr"] == pytest.approx(si_snr(image, piece[best]), abs=2e-3)
    rows = [row for row in found["utterances"] if row["mixture"] is not None]
    difference = np.array([row["si_snr"] - row["alone_best_si_snr"] for row in rows])
    assert found["difference"]["mean"] == pytest.approx(difference.mean(), abs=2e-3)
    assert found["difference"]["median"] == pytest.approx(np.median(difference), abs=2e-3)
    assert found["difference"]["ci"] == pytest.approx(list(bootstrap_interval(difference)), abs=5e-3)


def test_silent_streams_are_counted_and_in_no_mean():
    row = {
        "si_snr": 5.0,
        "best_si_snr": 6.0,
        "mixture": 1.0,
        "swaps": 0,
        "blocks": 2,
        "off_main_stream": False,
    }
    found = totals(
        [row, {**row, "si_snr": None, "off_main_stream": None}, {**row, "si_snr": 7.0, "swaps": 3}], 0
    )
    assert (found["n"], found["not_finite"], found["swaps"], found["swappable"], found["clear"]) == (
        3,
        1,
        1,
        3,
        2,
    )
    assert found["si_snr"]["mean"] == 6.0 and found["si_snri"]["median"] == 5.0
    assert totals([{**row, "si_snr": None}], 0)["si_snr"] is None


def test_streams_as_tables_or_as_files(recording):
    by_name = find_streams(recording / "streams", ["r1"])
    for k, table in enumerate(by_name, 1):
        write_scp(recording / f"streams/spk{k}.scp", table)
    assert find_streams(recording / "streams") == by_name and len(by_name) == 2


def _break_ref(root):
    (root / "data/ref.rttm").write_text("SPEAKER r1 1 0.5 1.0 <NA> <NA> alice <NA> <NA>\n")


def _other_session(root):
    (root / "data/ref.rttm").write_text("SPEAKER r2 1 0.5 1.0 <NA> <NA> spk1 <NA> <NA>\n")


def _late(root):
    (root / "data/ref.rttm").write_text("SPEAKER r1 1 100 1.0 <NA> <NA> spk1 <NA> <NA>\n")


def _silent(root):
    (root / "data/ref.rttm").write_text("SPEAKER r1 1 18 1.0 <NA> <NA> spk1 <NA> <NA>\n")


def _short(root):
    put(root, images()[:, : 10 * FS])


def _one_short(root):
    write(root / "streams/r1_spk2.wav", images()[1:, : 10 * FS].astype(np.float32))


def _one_stream(root):
    (root / "streams/r1_spk2.wav").unlink()


def _no_streams(root):
    _one_stream(root)
    (root / "streams/r1_spk1.wav").rename(root / "streams/other.wav")


def test_references_of_a_whole_corpus_are_used_as_far_as_they_fit(recording, command):
    ref, line = recording / "data/ref.rttm", "SPEAKER {} 1 {} 1.0 <NA> <NA> spk1 <NA> <NA>\n"
    before = ref.read_text()
    assert command("score", *options(recording))[0] == 0
    rows = (recording / "out/streams.jsonl").read_text()
    ref.write_text(before + line.format("r2", 1) + line.format("r1", 99))
    code, _, err = command("score", *options(recording))
    assert code == 0 and (recording / "out/streams.jsonl").read_text() == rows
    assert err.count("warning: ") == 1 and "1 of recordings that are not given" in err and "99.00 to" in err
    code, _, err = command("score", *options(recording), "--strict")
    assert code == 2 and "no recording 'r2'" in err


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_break_ref, "expected speakers spk1, spk2"),
        (_other_session, "ref.rttm:1: no recording 'r2'"),
        (_late, "100.00 to 101.00 s, but recording 'r1' ends at 20.00 s"),
        (_silent, "spk1 is silent in the image"),
        (_short, "expected 160000 samples"),
        (_one_short, "expected 160000 samples"),
        (_one_stream, "expected at least 2 streams"),
        (_no_streams, "streams: no system in it"),
    ],
)
def test_mistakes_are_one_line(recording, command, spoil, message):
    spoil(recording)
    code, _, err = command("score", *options(recording))
    assert code == 2 and message in err
    assert not (recording / "out").exists()


def test_a_device_that_is_not_there(recording, command):
    code, _, err = command("score", *options(recording), "--device", "gpu")
    assert code == 2 and "expected a device, cpu, cuda or cuda:1, found 'gpu'" in err


def test_a_model_of_other_channels_is_found_before_the_work(recording, command, models):
    mono = read_audio(recording / "data/spk1.wav")[0]
    write(recording / "data/wav.wav", mono)
    code, _, err = command("score", *options(recording), "--model", models / "student")
    assert code == 2 and "expects 2 channel(s), found 1" in err


def test_systems_side_by_side_and_only_what_changed(recording, command):
    """A directory with a directory per system; a second run scores what is new."""
    places = ["--data", recording / "data", "--separated", recording / "all", "--out", recording / "out"]
    (recording / "all").mkdir()
    for name, leak in (("a", 0.05), ("b", 0.5)):
        put(recording, streams_of(images(), leak))
        (recording / "streams").rename(recording / "all" / name)
    code, _, err = command("score", *places)
    assert code == 0, err
    a, b = (json.loads((recording / f"out/{name}.json").read_text()) for name in ("a", "b"))
    assert a["si_snr"]["mean"] > b["si_snr"]["mean"] + 5
    assert "2 systems, 2 of them current" in command("score", *places)[1]
    assert "2 systems, 0 of them current" in command("score", *places, "--seed", "1")[1]
