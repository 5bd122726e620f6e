"""Measures without references: closed forms, a slow version, blocks; the teacher's loss."""

import numpy as np
import pytest
import torch
from tiny_models import FS, recording, write

from frontend.data.kaldi import write_scp
from frontend.evaluation import without_references
from frontend.evaluation.without_references import (
    block_covariances,
    coherences,
    consistency,
    measure,
    parameters,
    validate_teacher,
)
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

    both = np.array(_measured(tmp_path, np.stack([a + b + noise] * 2), a, b)["overlap"])
    assert len(both) == 60 and both[t[::FS] % 12 < 2].min() >= 4 and both[t[::FS] % 12 >= 3].max() == 0


def test_activity_does_not_drift_at_odd_rates(tmp_path):
    """At 11025 Hz neither 20 ms nor 0.2 s nor 8 s are whole samples; after 5 minutes it would show."""
    fs, seconds = 11025, 300
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
    monkeypatch.setattr(without_references, "BLOCK_S", 5.0)
    after = _measured(tmp_path, mixture, *streams)
    assert after["residual_db"] == pytest.approx(before["residual_db"])
    assert after["activity"]["number"] == pytest.approx(before["activity"]["number"], abs=1e-9)


def test_short_recordings_have_directions_by_shorter_blocks(tmp_path):
    images, mixture = _talkers(seconds=6)
    streams = np.stack([i[0] for i in images])
    true = _measured(tmp_path, mixture, *streams)["spatial"]
    assert (true["block_s"], true["blocks"], true["changed"]) == (1.5, 4, 0)
    assert true["own"] > 0.9 and true["other"] < true["random"] < true["own"] - 0.1
    second = slice(round(1.5 * FS), 3 * FS)
    streams[:, second] = streams[::-1, second]
    assert _measured(tmp_path, mixture, *streams)["spatial"]["changed"] == 0.25
    halves = _measured(tmp_path, mixture, *[0.5 * mixture[0]] * 2)["spatial"]
    assert abs(halves["own"] - halves["random"]) < 1e-3 > abs(halves["own"] - halves["other"])


@pytest.mark.parametrize(("seconds", "block_s"), [(3.99, None), (4, 1), (9, 2), (17, 4), (31.9, 4), (32, 8)])
def test_blocks_are_as_long_as_four_of_them_allow(tmp_path, seconds, block_s):
    mixture = _talkers(seconds=32)[1][:, : round(seconds * FS)]
    found = _measured(tmp_path, mixture, mixture[0], mixture[1])["spatial"]
    assert (found and found["block_s"]) == block_s and (found is None or found["blocks"] >= 4)


def test_too_little_speech_has_no_activity(tmp_path):
    t = np.arange(3 * FS) / FS
    x = (0.1 * np.random.default_rng(0).standard_normal(3 * FS)).astype(np.float32)
    for spoken, there in ((1.0, False), (2.2, True)):
        a = np.where(t < spoken, x, 1e-4 * x)
        found = _measured(tmp_path, np.stack([a, a]), a, 0 * a)["activity"]
        assert [share is not None for share in found["number"] + found["streams"]] == [there] * 5
        assert found["speech_s"] == pytest.approx(spoken + 0.15, abs=0.25)


def test_streams_must_fit(tmp_path):
    _, mixture = _talkers(seconds=12)
    with pytest.raises(UserError, match="s0.wav: expected 1 channel of 96000 samples"):
        _measured(tmp_path, mixture, mixture[0, :-1])


@pytest.fixture
def chunks(tmp_path) -> str:
    """An unlabelled set of three chunks of two channels."""
    entries = {f"c{k}": write(tmp_path / f"c{k}.wav", recording(3 * FS, seed=9 + k)) for k in range(3)}
    write_scp(tmp_path / "dev/wav.scp", entries)
    return str(tmp_path / "dev")


def test_the_teacher_s_loss_is_its_training_s(models, chunks, monkeypatch):
    """Outputs that are the two chunks have the lowest loss, those of an untrained network have not."""
    from frontend.separation.model import Separator
    from frontend.training.examples import MixtureOfMixtures

    plain = validate_teacher(str(models / "teacher"), chunks, 2)
    assert plain["n"] == 3 and -30 < plain["loss"] < 3
    seen = []
    make = MixtureOfMixtures.__call__
    monkeypatch.setattr(
        MixtureOfMixtures, "__call__", lambda self, u, d: seen.append(make(self, u, d)) or seen[-1]
    )

    def true_outputs(self, waveform):
        truth = [torch.from_numpy(seen[-1][f"speech_ref{k}"]) for k in (1, 2)]
        if waveform.shape[1] != len(truth[0]):  # a chunk alone
            return torch.cat([waveform[:1], 0 * waveform[:1], 0 * waveform[:1]])
        return torch.stack([truth[0], truth[1], 0 * truth[0]])

    monkeypatch.setattr(Separator, "outputs", true_outputs)
    best = validate_teacher(str(models / "teacher"), chunks, 2)
    assert best["loss"] == pytest.approx(-30, abs=0.1)
    assert best["active_outputs"] == 1 and best["surplus"] == 0


def test_what_a_network_counts_is_no_parameter(tmp_path):
    assert parameters(tmp_path) is None
    state = {"weight": torch.zeros(2, 3), "batches": torch.zeros((), dtype=torch.long)}
    torch.save(state, tmp_path / "valid.loss.ave.pth")
    assert parameters(tmp_path) == 6
