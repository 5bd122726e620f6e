"""What is reported without references, and the separation of whole recordings by a table of systems."""

import json

import numpy as np
import pytest
import torch
from tiny_models import FS, recording, write

import frontend.evaluation.without_references as field_measures
import frontend.separation.sets as separate_long
from frontend.data.audio import read_audio
from frontend.data.kaldi import read_scp, write_scp
from frontend.data.mixtures import find_streams
from frontend.evaluation.without_references import (
    block_covariances,
    coherences,
    consistency,
    measure,
    validate_teacher,
)
from frontend.report.pages import recordings_page
from frontend.utils.errors import UserError

BLOCK = 4 * FS


def _talkers(seconds=48, delays=((0, 1, 3, 4), (0, -2, -3, 1)), seed=0):
    """Two noises that come and go, each with its own delays at four microphones, and their sum."""
    rng = np.random.default_rng(seed)
    images = []
    for which, each in enumerate(delays):
        dry = 0.1 * rng.standard_normal(seconds * FS)
        # Like speech: bins are mostly one talker's.
        dry *= (np.arange(len(dry)) // (FS // 8)) % 2 == which
        images.append(np.stack([np.roll(dry, delay) for delay in each]).astype(np.float32))
    return images, sum(images)


def _covariances(mixture, streams):
    pieces = range(0, mixture.shape[1], BLOCK)
    return np.stack(
        [block_covariances(mixture[:, k : k + BLOCK], streams[:, k : k + BLOCK], FS) for k in pieces]
    )


def test_true_talkers_keep_their_place():
    images, mixture = _talkers()
    found = consistency(_covariances(mixture, np.stack([i[0] for i in images])))
    assert found["own"] > 0.95 and found["other"] < 0.6
    assert found["changed"] == 0 and found["blocks"] == 12
    assert found["other"] < found["random"] < found["own"] - 0.1


def test_swapped_blocks_are_counted():
    images, mixture = _talkers()
    streams = np.stack([i[0] for i in images])
    for k in (2, 7, 9):
        streams[:, k * BLOCK : (k + 1) * BLOCK] = streams[::-1, k * BLOCK : (k + 1) * BLOCK]
    found = consistency(_covariances(mixture, streams))
    assert found["changed"] == pytest.approx(3 / 12)
    assert found["own"] < 0.95


def test_streams_that_follow_nobody_are_as_random():
    images, mixture = _talkers()
    halves = np.stack([0.5 * mixture[0], 0.5 * mixture[0]])
    found = consistency(_covariances(mixture, halves))
    assert abs(found["own"] - found["other"]) < 1e-3 and abs(found["own"] - found["random"]) < 1e-3


def test_coherence_is_what_two_loops_say():
    """The slow version: eigenvector by eigenvector, a block left out at a time."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 2, 5, 3, 6)) + 1j * rng.standard_normal((4, 2, 5, 3, 6))
    cov = x @ x.conj().swapaxes(-1, -2)  # four blocks, as different as can be
    found, active = coherences(cov)
    assert active.all()
    for b in range(len(cov)):
        for s in range(2):
            for r in range(2):
                rest = sum(cov[k, r] for k in range(len(cov)) if k != b)
                value = weight = 0.0
                for f in range(cov.shape[2]):
                    v = np.linalg.svd(cov[b, s, f])[0][:, 0]
                    u = np.linalg.svd(rest[f])[0][:, 0]
                    value += np.trace(cov[b, s, f]).real * abs(np.vdot(v, u)) ** 2
                    weight += np.trace(cov[b, s, f]).real
                assert found[b, s, r] == pytest.approx(value / weight)


def test_a_silent_stream_has_no_place():
    images, mixture = _talkers(seconds=12)
    streams = np.stack([mixture[0], 0 * mixture[0]])
    covariances = _covariances(mixture, streams)
    assert not coherences(covariances)[1][:, 1].any()
    assert consistency(covariances)["changed"] is None
    assert consistency(covariances[:1])["own"] is None


def _measured(tmp_path, mixture, *streams):
    entries = [write(tmp_path / f"s{k}.wav", s[None], subtype="FLOAT") for k, s in enumerate(streams)]
    return measure("m", write(tmp_path / "m.wav", mixture, subtype="FLOAT"), entries)


def test_residual_and_leakage(tmp_path):
    images, mixture = _talkers(seconds=20)
    a, b = images[0][0], images[1][0]
    true = _measured(tmp_path, mixture, a, b)
    assert true["residual_db"] < -90 and true["leakage"] < 0.1
    half = _measured(tmp_path, mixture, a, 0 * b)
    energy = (b.astype(float) ** 2).sum() / (mixture[0].astype(float) ** 2).sum()
    assert half["residual_db"] == pytest.approx(10 * np.log10(energy), abs=1e-3)
    assert half["leakage"] is None, "a silent stream is like nothing"
    late = _measured(tmp_path, mixture, a, np.roll(a, 40))  # 5 ms
    assert late["leakage"] == pytest.approx(1, abs=0.01)


def test_leakage_is_the_mixed_in_share(tmp_path):
    """a + g b against b: correlation g / sqrt(1 + g^2) of independent noises of equal power."""
    rng = np.random.default_rng(0)
    a, b = (0.1 * rng.standard_normal((2, 24 * FS))).astype(np.float32)
    mixture = np.stack([a + b, a + b])
    found = _measured(tmp_path, mixture, a + 0.5 * b, b)
    assert found["leakage"] == pytest.approx(0.5 / np.sqrt(1.25), abs=0.02)


def test_activity_says_who_sounds_when(tmp_path):
    rng = np.random.default_rng(0)
    x = (0.1 * rng.standard_normal((2, 60 * FS))).astype(np.float32)
    t = np.arange(60 * FS) / FS
    # In 12 s: 2 s both, 4 s the first, 2 s the second, 4 s of silence.
    a = x[0] * ((t % 12) < 6)
    b = x[1] * (((t % 12) < 2) | (((t % 12) >= 6) & ((t % 12) < 8)))
    noise = (1e-4 * rng.standard_normal(len(t))).astype(np.float32)
    found = _measured(tmp_path, np.stack([a + b + noise] * 2), a, b)["activity"]
    assert found["speech_s"] == pytest.approx(40, abs=3)
    assert found["number"] == pytest.approx([0, 0.75, 0.25], abs=0.06)
    assert found["streams"] == pytest.approx([0.75, 0.5], abs=0.06)


def test_activity_does_not_drift_at_odd_rates(tmp_path):
    """At 11025 Hz neither 20 ms nor 0.2 s nor 8 s are whole samples; after 10 minutes it would show."""
    fs, seconds = 11025, 600
    rng = np.random.default_rng(0)
    x = (0.1 * rng.standard_normal(seconds * fs)).astype(np.float32)
    t = np.arange(len(x)) / fs
    a, b = x * (t % 20 < 5), x * ((t % 20 >= 5) & (t % 20 < 10))  # in turns, then a pause of 10 s
    noise = (1e-4 * rng.standard_normal(len(x))).astype(np.float32)
    streams = [
        write(tmp_path / f"{k}.wav", s[None], fs, "FLOAT") for k, s in enumerate([a, b, a + b + noise])
    ]
    found = measure("m", streams[2], streams[:2])["activity"]
    # Speech is widened by 0.15 s on either side, in which neither sounds.
    assert found["speech_s"] == pytest.approx(10.3 / 20 * seconds, rel=0.02)
    assert found["streams"] == pytest.approx([5 / 10.3, 5 / 10.3], abs=0.02)
    assert found["number"] == pytest.approx([0.3 / 10.3, 10 / 10.3, 0], abs=0.02)


def test_blocks_do_not_change_what_is_measured(tmp_path, monkeypatch):
    images, mixture = _talkers(seconds=24)
    streams = [i[0] for i in images]
    before = _measured(tmp_path, mixture, *streams)
    monkeypatch.setattr(field_measures, "BLOCK_S", 5.0)
    after = _measured(tmp_path, mixture, *streams)
    assert after["residual_db"] == pytest.approx(before["residual_db"])
    assert after["activity"]["number"] == pytest.approx(before["activity"]["number"], abs=1e-9)


def test_streams_must_fit(tmp_path):
    _, mixture = _talkers(seconds=12)
    with pytest.raises(UserError, match="s0.wav: expected 1 channel of 96000 samples"):
        _measured(tmp_path, mixture, mixture[0, :-1])


@pytest.mark.parametrize(("talkers", "streams"), [(2, 2), (2, 6), (6, 6), (7, 5)])
def test_the_page_shows_the_activity_of_any_number_of_streams(talkers, streams):
    shares = {n: [round(1 / (n + 1), 5)] * (n + 1) for n in (2, streams)}
    rows = {
        name: {
            "residual_db": -10.0,
            "leakage": 0.1,
            "seconds": 60.0,
            "activity": {"speech_s": 50.0, "streams": [0.5] * n, "number": shares[n]},
            "spatial": None,
        }
        for name, n in (("auxiva", 2), ("student", streams))
    }
    made = dict.fromkeys(("command", "commit", "date", "machine"), "x") | {"stages": {}, "versions": {}}
    text = recordings_page(
        {
            "recordings": {"a": 60.0},
            "channels": 4,
            "fs": FS,
            "talkers": talkers,
            "seed": 0,
            "made": made,
            "systems": {
                name: {"rtf": 0.1, "all": row, "recordings": {"a": row}} for name, row in rows.items()
            },
            "wer": {},
            "teacher": {},
        }
    )
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    header = next(line for line in lines if line[0] == "system")
    active = [column for column in header if column.endswith("active, %")]
    assert len(active) == max(talkers, streams) + 1 == len(set(active))
    assert active[:3] == ["no active, %", "one active, %", "two active, %"]
    for name, n in (("auxiva", 2), ("student", streams)):
        row = dict(zip(header, next(line for line in lines if line[0] == f"`{name}`"), strict=True))
        shown = [row[column] for column in active]
        assert shown == [f"{100 / (n + 1):.0f}"] * (n + 1) + ["—"] * (len(active) - n - 1)


@pytest.fixture
def whole(tmp_path):
    """Two whole recordings of two channels, chunks of them, and a table of systems."""
    entries = {
        name: write(tmp_path / f"{name}.wav", recording((20 + k) * FS, seed=k)) for k, name in enumerate("ab")
    }
    write_scp(tmp_path / "wav.scp", entries)
    chunks = {f"c{k}": write(tmp_path / f"c{k}.wav", recording(3 * FS, seed=9 + k)) for k in range(3)}
    (tmp_path / "dev").mkdir()
    write_scp(tmp_path / "dev/wav.scp", chunks)
    (tmp_path / "systems.yaml").write_text(
        "mixture: {}\nauxiva: {blind: auxiva, iterations: 3}\n"
        "teacher_energy: {model: teacher, rule: energy}\nstudent+mask: {model: student, refine: mask}\n"
        "start: {model: start, optional: true}\n"
    )
    return tmp_path


def _separate(command, whole, models, *more):
    return command(
        "separate", "--systems", whole / "systems.yaml", "--exp", models, "--scp",
        whole / "wav.scp", "--out", whole / "out", *more,
    )  # fmt: skip


def test_from_recordings_to_the_report(command, whole, models):
    code, out, err = _separate(command, whole, models)
    assert code == 0, err
    wav = read_scp(whole / "wav.scp")
    for name in ("mixture", "auxiva", "teacher_energy", "student+mask"):
        tables = find_streams(whole / "out" / name, wav)
        assert len(tables) == 2
        for recording_id, entry in wav.items():
            mixture, _ = read_audio(entry)
            streams = np.concatenate([read_audio(table[recording_id])[0] for table in tables])
            assert streams.shape[1] == mixture.shape[1] and streams.any(axis=1).all()
            if name == "mixture":
                assert np.array_equal(streams, np.repeat(mixture[:1], 2, axis=0))
            if name == "student+mask":  # masks share the mixture among them
                assert np.abs(streams.sum(0) - mixture[0]).max() < 1e-3
    before = {p: p.stat().st_mtime_ns for p in (whole / "out").rglob("*.flac")}
    (whole / "out/auxiva/wav/a_spk2.flac").unlink()
    assert _separate(command, whole, models)[0] == 0, "what is missing is made again, and nothing else"
    after = {p: p.stat().st_mtime_ns for p in (whole / "out").rglob("*.flac")}
    again = {p.name for p in after if after[p] != before[p]}
    assert again == {"a_spk1.flac", "a_spk2.flac"} and set(after) == set(before)

    (whole / "wer").mkdir()
    pooled = {"cpwer": 43.2, "cpwer_ci": [40.0, 46.0]}
    (whole / "wer/auxiva.json").write_text(json.dumps(pooled))
    code, out, err = command(
        "report --recordings", "--data", whole, "--separated", whole / "out", "--systems", whole / "systems.yaml",
        "--dev", whole / "dev", "--teacher", models / "teacher", "--wer", whole / "wer",
        "--out", whole / "report",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads((whole / "report/report.json").read_text())
    assert list(report["systems"]) == ["mixture", "auxiva", "teacher_energy", "student+mask"]
    assert report["systems"]["mixture"]["all"]["leakage"] == pytest.approx(1, abs=1e-3)
    assert report["systems"]["student+mask"]["all"]["residual_db"] < -40
    assert set(report["systems"]["auxiva"]["recordings"]) == {"a", "b"}
    recordings_page = (whole / "report/REPORT.md").read_text()
    assert (
        "43.2 [40.0, 46.0]" in recordings_page
        and "MixIT loss" in recordings_page
        and str(whole) not in recordings_page
    )
    assert "auxiva" in out


@pytest.mark.parametrize(
    ("systems", "message"),
    [
        ("oracle: {}\n", "there are no true images"),
        ("x: {model: nobody}\n", "expected a training directory"),
        ("x: {blind: auxiva, windoww: 1}\n", "no setting 'windoww'"),
    ],
)
def test_systems_that_cannot_be(command, whole, models, systems, message):
    (whole / "systems.yaml").write_text(systems)
    code, _, err = _separate(command, whole, models)
    assert code == 2 and message in err
    assert not (whole / "out").exists()


def test_other_recordings_than_the_model_s(command, whole, models):
    write(whole / "b.wav", recording(4000, 3))
    code, _, err = _separate(command, whole, models)
    assert code == 2 and "expects 2 channel(s), found 3" in err
    assert not (whole / "out").exists()


def test_the_teacher_s_loss_is_its_training_s(models, whole, monkeypatch):
    """A network that is told the two chunks has the loss's floor, an untrained one has not."""
    from frontend.separation.model import Separator
    from frontend.training.examples import MixtureOfMixtures

    plain = validate_teacher(str(models / "teacher"), str(whole / "dev"), 2)
    assert plain["n"] == 3 and -30 < plain["loss"] < 3
    seen = []
    make = MixtureOfMixtures.__call__
    monkeypatch.setattr(
        MixtureOfMixtures, "__call__", lambda self, u, d: seen.append(make(self, u, d)) or seen[-1]
    )

    def told(self, waveform):
        truth = [torch.from_numpy(seen[-1][f"speech_ref{k}"]) for k in (1, 2)]
        if waveform.shape[1] != len(truth[0]):  # a chunk alone
            return torch.cat([waveform[:1], 0 * waveform[:1], 0 * waveform[:1]])
        return torch.stack([truth[0], truth[1], 0 * truth[0]])

    monkeypatch.setattr(Separator, "outputs", told)
    best = validate_teacher(str(models / "teacher"), str(whole / "dev"), 2)
    assert best["loss"] == pytest.approx(-30, abs=0.1)
    assert best["active_outputs"] == 1 and best["surplus"] == 0


def test_resumed_streams_are_the_same(command, whole, models):
    """Killed after one recording: the second run makes the other, and a changed model all."""
    (whole / "systems.yaml").write_text("student: {model: student}\n")
    assert _separate(command, whole, models)[0] == 0
    folder = whole / "out/student/wav"
    kept = (folder / "a_spk1.flac").read_bytes(), (folder / "b_spk1.flac").read_bytes()
    (folder / "b.json").unlink()
    times = (folder / "a_spk1.flac").stat().st_mtime_ns
    assert _separate(command, whole, models)[0] == 0
    assert (folder / "a_spk1.flac").stat().st_mtime_ns == times
    assert kept == ((folder / "a_spk1.flac").read_bytes(), (folder / "b_spk1.flac").read_bytes())
    assert _separate(command, whole, models, "--hop", "3")[0] == 0
    assert (folder / "a_spk1.flac").stat().st_mtime_ns != times


def test_a_row_may_have_windows_of_its_own(command, whole, models):
    plain = "auxiva: {blind: auxiva, iterations: 3}\n"
    (whole / "systems.yaml").write_text(plain + "own: {blind: auxiva, iterations: 3, block: 8}\n")
    assert _separate(command, whole, models)[0] == 0
    (whole / "systems.yaml").write_text(plain)
    (whole / "out").rename(whole / "first")
    assert _separate(command, whole, models, "--window", "8", "--hop", "4")[0] == 0
    name = "wav/a_spk1.flac"
    own, eight, twelve = (
        (whole / folder / name).read_bytes() for folder in ("first/own", "out/auxiva", "first/auxiva")
    )
    assert own == eight != twelve

    (whole / "out").rename(whole / "second")
    (whole / "first").rename(whole / "out")
    before = {path: path.stat().st_mtime_ns for path in (whole / "out").rglob("*.flac")}
    row = "own: {blind: auxiva, iterations: 3, block: 8, block_hop: "
    for hop, again in ((4, set()), (2, {"own"})):
        (whole / "systems.yaml").write_text(f"{plain}{row}{hop}}}\n")
        assert _separate(command, whole, models)[0] == 0
        made = {p.parts[-3] for p, time in before.items() if p.stat().st_mtime_ns != time}
        assert made == again, "another hop, and nothing else, makes another set of streams"
    (whole / "systems.yaml").write_text("student: {model: student, block: 121}\n")
    assert _separate(command, whole, models)[0] == 0, "no recording is so long"
    write(whole / "a.wav", recording(121 * FS))
    code, _, err = _separate(command, whole, models)
    assert code == 2 and "'student': expected windows of at most 120 s" in err


def test_streams_are_made_again_for_what_they_depend_on(command, whole, models, monkeypatch):
    """Another recording, other code; one recording more leaves the others as they are."""
    (whole / "systems.yaml").write_text("mixture: {}\n")

    def made() -> set[str]:
        before = {p.name: p.stat().st_mtime_ns for p in (whole / "out").rglob("*_spk1.flac")}
        assert _separate(command, whole, models)[0] == 0
        after = {p.name: p.stat().st_mtime_ns for p in (whole / "out").rglob("*_spk1.flac")}
        return {name[0] for name in after if after[name] != before.get(name)}

    assert made() == {"a", "b"} and made() == set()
    write(whole / "b.wav", recording(20 * FS, seed=5))
    assert made() == {"b"}
    write_scp(
        whole / "wav.scp", {**read_scp(whole / "wav.scp"), "c": write(whole / "c.wav", recording(3 * FS))}
    )
    assert made() == {"c"}
    monkeypatch.setattr(separate_long, "_VERSION", -1)
    assert made() == {"a", "b", "c"}
    assert _separate(command, whole, models, "--n_talkers", "3")[0] == 0
    assert len(find_streams(whole / "out/mixture")) == 3
