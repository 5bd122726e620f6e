"""Rules that make pseudo-targets: closed forms, slow versions, known partitions."""

import itertools

import numpy as np
import pytest
import torch

from frontend.dsp.metrics import si_snr
from frontend.separation.pseudo_targets import RULES, partitions, select, spatial_costs, subset_si_snr
from frontend.utils.errors import UserError

N_FFT, HOP = 64, 32
STFT = {"window": N_FFT / 8000}


def _noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def _spatial_scene(n_outputs, n_samples=4000, channels=4, seed=0):
    """Two talkers at different delays per microphone; outputs are parts of them in time slices.

    Returns the outputs (M, T), the mixture (C, T) and for each output whose it is.
    """
    rng = np.random.default_rng(seed)
    talkers = rng.standard_normal((2, n_samples + 64)) * rng.uniform(0.5, 2, (2, 1))
    # Talkers pause at different times, so that bins belong to one of them.
    slots = rng.permutation(np.arange(n_samples + 64) // 250 % 2)
    slots = np.repeat(rng.permutation(2), 250)[np.arange(n_samples + 64) % 500]
    talkers *= np.stack([slots == 0, slots == 1])
    delays = np.array([[0, 1, 3, 2, 5, 4, 1, 2], [0, 4, 1, 6, 2, 1, 5, 3]])[:, :channels]
    images = np.stack(
        [np.stack([talkers[s, 32 - d : 32 - d + n_samples] for d in delays[s]]) for s in range(2)]
    )
    owner = np.array([m % 2 for m in range(n_outputs)])
    piece = rng.integers(n_outputs // 2, size=n_samples // 100 + 1)
    piece = np.repeat(piece, 100)[:n_samples]
    outputs = [images[owner[m], 0] * (piece == m // 2) for m in range(n_outputs)]
    as_tensor = [torch.from_numpy(np.asarray(a, dtype=np.float32)) for a in (outputs, images.sum(0), images)]
    return (*as_tensor, owner)


def test_energy_keeps_the_loudest_in_order():
    outputs = _noise(4, 100) * torch.tensor([1.0, 3.0, 0.1, 2.0])[:, None]
    assert torch.equal(select(outputs, 2, "energy"), outputs[[1, 3]])


def test_residual_is_given_back_in_equal_parts():
    outputs, mixture = _noise(3, 50), _noise(2, 50, seed=1)
    kept = select(outputs, 2, "energy")
    streams = select(outputs, 2, "energy+residual", mixture)
    torch.testing.assert_close(streams.sum(0), mixture[0])
    torch.testing.assert_close(streams[0] - kept[0], streams[1] - kept[1])


def test_all_takes_outputs_as_they_are():
    outputs = _noise(2, 50)
    assert torch.equal(select(outputs, 2, "all"), outputs)
    with pytest.raises(UserError, match="3 outputs for 2 talkers"):
        select(_noise(3, 50), 2, "all")


@pytest.mark.parametrize("n_outputs", [4, 6, 8])
@pytest.mark.parametrize("exponent", [1, 2])
@pytest.mark.parametrize("channels", [2, 4, 8])
def test_spatial_merge_finds_whose_the_outputs_are(n_outputs, exponent, channels):
    outputs, mixture, images, owner = _spatial_scene(n_outputs, channels=channels)
    order = np.random.default_rng(1).permutation(n_outputs)
    streams = select(outputs[order], 2, "spatial_merge", mixture, weight_exponent=exponent, **STFT)
    truth = images[:, 0]
    if streams[0].dot(truth[0]) < streams[0].dot(truth[1]):
        truth = truth.flip(0)
    torch.testing.assert_close(streams, truth)


def _slow_spatial_cost(outputs, mixture, group, exponent, regularisation):
    """As the docstring of spatial_merge has it, bin by bin, in double precision."""
    window = np.sqrt(np.hanning(N_FFT + 1)[:-1])

    def stft(signal):
        padded = np.pad(signal, N_FFT // 2)
        starts = range(0, len(padded) - N_FFT + 1, HOP)
        return np.array([np.fft.rfft(window * padded[s : s + N_FFT]) for s in starts]).T

    x = np.array([stft(channel) for channel in mixture.double().numpy()])
    y = np.array([stft(output) for output in outputs.double().numpy()])
    level = np.sqrt((np.abs(x) ** 2).sum(0).mean())
    cost = weight_of_all = 0.0
    for f, t in itertools.product(*map(range, x.shape[1:])):
        weight_of_all += np.linalg.norm(x[:, f, t] / level) ** exponent
    for f in range(x.shape[1]):
        covariance, weights = np.zeros((len(x), len(x)), complex), 0.0
        for t in range(x.shape[2]):
            if np.argmax(np.abs(y[:, f, t])) in group:
                v = x[:, f, t] / level
                weight, direction = np.linalg.norm(v) ** exponent, v / np.linalg.norm(v)
                covariance += weight * np.outer(direction, direction.conj())
                weights += weight
        if weights:
            covariance = covariance / weights + regularisation * np.eye(len(x))
            cost += weights * np.log(np.linalg.det(covariance).real)
    return cost / weight_of_all


@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_spatial_costs_equal_the_slow_version(exponent):
    outputs, mixture = _noise(3, 500), _noise(3, 500, seed=1)
    cost = spatial_costs(outputs, mixture, exponent, 64, 32, 0.05)
    for mask in range(8):
        group = [m for m in range(3) if mask >> m & 1]
        assert float(cost[mask]) == pytest.approx(
            _slow_spatial_cost(outputs, mixture, group, exponent, 0.05), rel=1e-4, abs=1e-6
        )


def test_spatial_merge_takes_the_cheapest_of_all_partitions():
    outputs, mixture = _noise(5, 800), _noise(2, 800, seed=1)
    cost = spatial_costs(outputs, mixture, 1.0, 64, 32, 0.1).tolist()
    best = min(
        itertools.product(range(3), repeat=5),
        key=lambda a: (
            sum(cost[sum(1 << m for m in range(5) if a[m] == g)] for g in range(3))
            if len(set(a)) == 3
            else np.inf
        ),
    )
    expected = torch.stack([outputs[[m for m in range(5) if best[m] == g]].sum(0) for g in range(3)])
    expected = expected[expected.square().sum(-1).argsort(descending=True)]
    torch.testing.assert_close(select(outputs, 3, "spatial_merge", mixture, **STFT), expected)


@pytest.mark.parametrize(("n", "k", "count"), [(4, 2, 7), (8, 2, 127), (8, 3, 966), (5, 5, 1), (3, 4, 0)])
def test_partitions_are_all_and_each_once(n, k, count):
    """As many as Stirling's numbers of the second kind, and true partitions."""
    found = partitions(n, k)
    assert len(found) == count == len({frozenset(p) for p in found})
    assert all(sum(p) == 2**n - 1 and all(p) and len(p) == k for p in found)


@pytest.mark.parametrize("level", [1e-6, 1.0, 1e4])
def test_spatial_merge_does_not_depend_on_level(level):
    outputs, mixture = _noise(4, 2000), _noise(3, 2000, seed=1)
    streams = select(outputs, 2, "spatial_merge", mixture)
    torch.testing.assert_close(
        select(outputs * level, 2, "spatial_merge", mixture * level),
        streams * level,
        rtol=1e-4,
        atol=1e-5 * level,
    )


@pytest.mark.parametrize("rule", ["energy", "energy+residual", "spatial_merge", "oracle"])
@pytest.mark.parametrize("silent", ["outputs", "one output", "everything", "a channel", "all but a click"])
def test_silence_gives_finite_streams(rule, silent):
    outputs, mixture, references = _noise(4, 2000), _noise(3, 2000, seed=1), _noise(2, 2000, seed=2)
    if silent in ("outputs", "everything"):
        outputs = outputs * 0
    if silent == "everything":
        mixture, references = mixture * 0, references * 0
    if silent == "one output":
        outputs[1] = 0
    if silent == "a channel":
        mixture[1] = 0
    if silent == "all but a click":
        outputs[:, 1:], mixture[:, 1:] = 0, 0
    streams = select(outputs, 2, rule, mixture, references)
    assert streams.shape == (2, 2000) and torch.isfinite(streams).all()
    if rule in ("spatial_merge", "oracle"):
        torch.testing.assert_close(streams.sum(0), outputs.sum(0))


def test_oracle_equals_the_best_of_all_assignments():
    references = _noise(2, 600)
    mix = torch.tensor([[0.7, 0.1], [0.2, 0.9], [0.4, 0.0], [-0.1, 0.3], [0.3, 0.3]])
    outputs = mix @ references + 0.3 * _noise(5, 600, seed=1) + 0.1
    best = -np.inf
    for assignment in itertools.product(range(2), repeat=5):
        if len(set(assignment)) == 2:
            groups = np.stack([outputs.numpy()[np.array(assignment) == s].sum(0) for s in range(2)])
            best = max(best, si_snr(references.numpy(), groups).mean())
    streams = select(outputs, 2, "oracle", references=references)
    torch.testing.assert_close(streams.sum(0), outputs.sum(0))
    assert si_snr(references.numpy(), streams.numpy()).mean() == pytest.approx(best, abs=1e-4)


def test_subset_si_snr_equals_the_metric():
    outputs, references = _noise(3, 300) + 0.5, _noise(2, 300, seed=1) - 0.2
    table = subset_si_snr(outputs, references)
    for mask in range(1, 8):
        group = sum(outputs[m] for m in range(3) if mask >> m & 1)
        expected = si_snr(references.numpy(), group.numpy()[None])
        assert table[mask].tolist() == pytest.approx(expected.tolist(), abs=1e-4)


def test_windows_are_as_long_at_any_rate():
    """In samples they grow with the rate; at 8 kHz they are those that were tuned."""
    outputs, mixture = _noise(4, 9000), _noise(3, 9000, seed=1)
    plain = select(outputs, 2, "spatial_merge", mixture)
    assert torch.equal(plain, select(outputs, 2, "spatial_merge", mixture, fs=16000, window=0.032))
    assert not torch.equal(plain, select(outputs, 2, "spatial_merge", mixture, fs=16000))


def test_oracle_with_fewer_references_than_talkers():
    references = _noise(1, 400)
    outputs = torch.cat([0.6 * references, 0.4 * references, 0.2 * _noise(1, 400, seed=1)])
    streams = select(outputs, 2, "oracle", references=references)
    torch.testing.assert_close(streams, torch.stack([references[0], outputs[2]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o: select(o, 2, "spatial_merge", o[:1]), "two or more microphones, found 1"),
        (lambda o: select(o, 2, "enrgy"), "did you mean 'energy'"),
        (lambda o: select(o, 2, "spatial_merge", o, weight_exponnt=2), "did you mean 'weight_exponent'"),
        (lambda o: select(o, 2, "spatial_merge", o, window=-1), "window: expected seconds above 0, found -1"),
        (lambda o: select(o, 2, "spatial_merge", o, window=float("inf")), "seconds above 0, found inf"),
        (lambda o: select(o, 2, "spatial_merge", o, regularisation=0), "a number above 0, found 0"),
        (lambda o: select(o, 2, "spatial_merge", o, regularisation=True), "a number above 0, found True"),
        (lambda o: select(o, 2, "spatial_merge", o, weight_exponent=float("nan")), "a number, found nan"),
        (lambda o: select(o, 5, "energy"), "5 streams of 4 outputs"),
        (lambda o: select(o, 2, "spatial_merge"), "needs the mixture"),
        (lambda o: select(o, 2, "oracle"), "needs the references"),
        (lambda o: select(o, 2, "energy+residual", o[:, 1:]), "99 and 100 samples"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(UserError, match=message):
        call(_noise(4, 100))


def test_every_rule_is_tested_here():
    assert set(RULES) == {"all", "energy", "energy+residual", "spatial_merge", "oracle"}
