"""Streams of an array: AuxIVA against pyroomacoustics, starts, batches; beamformers against plane waves."""

import math

import numpy as np
import pytest
import torch
from pyroomacoustics.bss import auxiva as peer
from pyroomacoustics.bss.common import projection_back

from frontend.dsp import iva
from frontend.dsp.array_streams import ArrayStreams, principal, unitary_matrices

FS, C_SOUND, RADIUS = 8000, 343.0, 0.05


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def plane_wave(signal, azimuth, n_mics=4):
    """Return the image (C, T) of ``signal`` (T,) on a circular array, delayed exactly by FFT."""
    angles = 2 * math.pi * torch.arange(n_mics) / n_mics
    advance = RADIUS * torch.cos(angles - math.radians(azimuth)) / C_SOUND
    frequencies = torch.fft.rfftfreq(signal.shape[-1], 1 / FS)
    turn = torch.exp(2j * math.pi * frequencies * (advance - advance[0])[:, None])
    return torch.fft.irfft(torch.fft.rfft(signal) * turn, n=signal.shape[-1])


def snr(reference, estimate):
    error = (reference - estimate).square().sum(-1)
    return 10 * torch.log10(reference.square().sum(-1) / error)


def two_talkers(seconds=3.0):
    """Return images (2, C, T) of two bursts-and-pauses sources, which overlap for most of the time."""
    samples = int(seconds * FS)
    time = torch.arange(samples) / FS
    gates = torch.stack(
        [(torch.sin(2 * math.pi * 1.3 * time) > -0.5), torch.sin(2 * math.pi * 1.7 * time) > -0.5]
    )
    sources = torch.randn(2, samples) * gates
    return torch.stack([plane_wave(sources[0], 20), plane_wave(sources[1], 130)])


def beamformed(mixture, streams, ref_channel=0):
    """(C, T), (S, T) to (S, T) with windows of 2048 samples."""
    return ArrayStreams(mixture[None], len(streams), 2048, 512, ref_channel).beamformed(streams[None])[0]


def sources(n, frames=80, freqs=17, batch=1, seed=0):
    """Complex (B, n, F, L): convolutive mixtures of sources that come and go."""
    rng = np.random.default_rng(seed)
    level = rng.gamma(0.3, 1.0, (batch, n, 1, frames))
    draw = rng.standard_normal((2, batch, n, freqs, frames))
    mixing = rng.standard_normal((2, batch, freqs, n, n))
    s = torch.from_numpy(level * (draw[0] + 1j * draw[1]))
    return torch.einsum("bfcs,bsfl->bcfl", torch.from_numpy(mixing[0] + 1j * mixing[1]), s)


def to_reference(y, x):
    """Scale (frames, F, S) to its part in channel 0 of (frames, F, C)."""
    return y * np.conj(projection_back(y, x[:, :, 0]))


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("prior", iva.PRIORS)
def test_auxiva_is_that_of_pyroomacoustics(n, prior):
    x = sources(n)
    w, _ = iva.auxiva(x, torch.eye(n, dtype=x.dtype)[None, None, None], 10, prior)
    found = torch.einsum("fsc,cfl->lfs", w[0, 0], x[0]).numpy()
    theirs = x[0].permute(2, 1, 0).numpy()
    expected = to_reference(peer(theirs, n_iter=10, model=prior, proj_back=False), theirs)
    np.testing.assert_allclose(to_reference(found, theirs), expected, atol=1e-4 * np.abs(expected).max())


def test_a_batch_and_several_starts_are_the_single_ones():
    x, starts = sources(2, batch=3), unitary_matrices(2, 4)[None, :, None]
    w, cost = iva.auxiva(x, starts, 10)
    assert w.shape == (3, 4, 17, 2, 2) and cost.shape == (3, 4)
    one, one_cost = iva.auxiva(x[1:2], starts[:, 2:3], 10)
    torch.testing.assert_close(w[1, 2], one[0, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(cost[1, 2], one_cost[0, 0])


@pytest.mark.parametrize("n", [2, 3])
def test_the_cost_is_the_negative_log_likelihood_and_falls(n):
    x = sources(n)
    start = torch.eye(n, dtype=x.dtype)[None, None, None]
    costs = [float(iva.auxiva(x, start, steps)[1]) for steps in (0, 1, 3, 10, 30)]
    assert costs == sorted(costs, reverse=True) and costs[0] - costs[-1] > 0.1
    w = iva.auxiva(x, start, 3)[0][0, 0]
    y = torch.einsum("fsc,cfl->sfl", w, x[0])
    slow = sum(float((y[s].abs() ** 2).mean(0).log().mean()) for s in range(n))
    slow -= 2 * float(torch.linalg.det(w).abs().log().mean())
    assert costs[2] == pytest.approx(slow)


@pytest.mark.parametrize("seed", range(4))
def test_single_precision_separates_four_talkers_with_pauses_and_no_noise(seed):
    """A frame in which a source pauses weighs as much as 10^8 others."""
    g, n, freqs, frames = torch.Generator().manual_seed(seed), 4, 30, 200
    parts = torch.randn(2, n, freqs, frames, generator=g)
    s = torch.complex(*parts) * 10.0 ** -(4 * torch.rand(n, 1, frames, generator=g).round())
    mixing = torch.complex(*torch.randn(2, freqs, n, n, generator=g))
    images = mixing.permute(1, 2, 0)[..., None] * s  # (C, S, F, L)
    w, _ = iva.auxiva(images.sum(1)[None], unitary_matrices(n, 1)[None, :, None], 30)
    if w.isfinite().all():  # else it is tried again in double precision
        power = torch.einsum("fij,jsfl->isfl", w[0, 0], images).abs().square().sum((2, 3))
        assert (power.amax(1) > 0.99 * power.sum(1)).all()


@pytest.mark.parametrize("n", [2, 3])
def test_outer_products_give_covariances_and_powers(n):
    x = sources(n, frames=11)
    w = torch.randn(1, 2, 17, n, n, dtype=torch.complex128)
    products = iva.outer_products(x)
    basis = iva._basis(n, x.dtype, x.device)
    covariance = torch.einsum("bfnl,nij->bfij", products.to(x.dtype), basis)
    torch.testing.assert_close(covariance, torch.einsum("bifl,bjfl->bfij", x, x.conj()))
    power = iva.frame_power(products.flatten(1, 2), w)
    torch.testing.assert_close(power, torch.einsum("bnfsc,bcfl->bnsfl", w, x).abs().square().sum(3))


def test_components_are_uncorrelated_and_of_power_one():
    x = sources(4, batch=2)
    components = principal(x, 3)
    covariance = torch.einsum("bifl,bjfl->bfij", components, components.conj()) / x.shape[-1]
    torch.testing.assert_close(covariance, torch.eye(3, dtype=x.dtype).expand(2, 17, 3, 3))
    # The strongest component of the mixture is the first.
    first = torch.linalg.eigh(torch.einsum("bifl,bjfl->bfij", x, x.conj()))[1][..., -1]
    strongest = torch.einsum("bfc,bcfl->bfl", first.conj(), x)
    cosine = (strongest * components[:, 0].conj()).sum(-1).abs()
    torch.testing.assert_close(cosine, strongest.norm(dim=-1) * components[:, 0].norm(dim=-1))


def test_more_starts_are_never_less_likely():
    array = ArrayStreams(two_talkers(2.0).sum(0)[None], 2, 1024, 256)
    costs = []
    for count in (1, 2, 4):
        starts = unitary_matrices(2, count)[None, :, None].to(array.components)
        costs.append(float(iva.auxiva(array.components, starts)[1].min()))
    assert costs == sorted(costs, reverse=True)
    assert torch.equal(unitary_matrices(2, 4)[0], torch.eye(2, dtype=torch.complex128))


def test_the_likeliest_of_several_starts_goes_on(monkeypatch):
    calls, auxiva = [], iva.auxiva

    def spy(x, start, iterations, prior):
        w, _ = auxiva(x, start, iterations, prior)
        calls.append((start, iterations, w))
        return w, torch.tensor([[3.0, float("nan"), 1.0, 2.0]])[:, : start.shape[1]]

    monkeypatch.setattr(iva, "auxiva", spy)
    ArrayStreams(two_talkers(2.0).sum(0)[None], 2, 1024, 256).blind(30, starts=4)
    (first, tried, w), (second, rest, _) = calls
    assert (first.shape[1], tried, rest) == (4, 10, 20)
    torch.testing.assert_close(second, w[:, 2:3])


def test_a_batch_of_recordings_is_the_recordings_one_by_one():
    mixtures = torch.stack([two_talkers(2.0).sum(0), two_talkers(2.0).flip(0)[:, [1, 0, 2, 3]].sum(0)])
    both, found = ArrayStreams(mixtures, 2, 1024, 256).blind()
    assert found.all()
    for one, mixture in zip(both, mixtures, strict=True):
        alone = ArrayStreams(mixture[None], 2, 1024, 256).blind()[0][0]
        assert snr(alone, one).min() > 40


def test_silent_channels_have_no_influence():
    images = two_talkers(2.0)
    mixture = images.sum(0)
    wider = torch.cat([mixture, torch.zeros(3, mixture.shape[1])])
    arrays = [ArrayStreams(one[None], 2, 1024, 256) for one in (mixture, wider)]
    ways = (
        lambda array: array.blind()[0],
        lambda array: array.guided(images[None, :, 0])[0],
        lambda array: array.beamformed(images[None, :, 0]),
    )
    for make in ways:
        first, second = map(make, arrays)
        assert snr(first, second).min() > 30


def test_where_there_is_too_little_sound_only_that_recording_is_left():
    mixtures = torch.stack([two_talkers(1.0).sum(0), torch.zeros(4, FS)])
    mixtures[1, :, :3] = 1.0
    streams, found = ArrayStreams(mixtures, 2, 2048, 512).blind()
    assert found[0] and streams.isfinite().all()
    if not found[1]:
        torch.testing.assert_close(streams[1], torch.stack([mixtures[1, 0], mixtures[1, 0] * 0]))


def test_mvdr_separates_two_plane_waves():
    images = two_talkers()
    mixture, references = images.sum(0), images[:, 0]
    refined = beamformed(mixture, references)
    before, after = snr(references, mixture[0]), snr(references, refined)
    # 4 microphones against one interferer; limited by frequencies whose wavelength dwarfs the array.
    assert (after - before).min() > 8


def test_mvdr_is_distortionless_towards_its_talker_and_nulls_the_other():
    """Linear filters: learn them from disjoint talkers, then see what each does to each image."""
    torch.manual_seed(1)
    samples = FS * 2
    sources = torch.randn(2, samples)
    sources[0, samples // 2 :] = 0
    sources[1, : samples // 2] = 0
    images = torch.stack([plane_wave(sources[0], 20), plane_wave(sources[1], 130)])
    floor = 1e-3 * torch.randn(4, samples)
    refined = beamformed(images.sum(0) + floor, images[:, 0])
    first, second = slice(800, samples // 2 - 800), slice(samples // 2 + 800, -800)
    assert (
        snr(images[0, 0, first], refined[0, first]) > 25
    )  # its own talker: the image at the reference channel
    leak = refined[0, second].square().mean() / images[1, 0, second].square().mean()
    assert 10 * torch.log10(leak) < -15  # the other: gone


@pytest.mark.parametrize("gain", [1e-5, 1e4])
def test_mvdr_follows_the_mixture_in_level_and_the_streams_only_in_share(gain):
    images = two_talkers(1.0).double()
    expected = beamformed(images.sum(0), images[:, 0])
    assert snr(expected, beamformed(gain * images.sum(0), gain * images[:, 0]) / gain).min() > 60
    assert snr(expected, beamformed(images.sum(0), gain * images[:, 0])).min() > 60


def test_mvdr_does_not_mind_the_order():
    images = two_talkers(1.0)
    streams, order = images[:, 0], [2, 0, 3, 1]
    refined = beamformed(images.sum(0), streams)
    torch.testing.assert_close(beamformed(images.sum(0), streams.flip(0)).flip(0), refined)
    permuted = beamformed(images.sum(0)[order], streams, ref_channel=order.index(0))
    assert snr(refined, permuted).min() > 40  # each channel has dither of its own


def test_mvdr_answers_silence_with_silence():
    images = two_talkers(1.0)
    assert beamformed(images.sum(0) * 0, images[:, 0]).abs().max() == 0
    assert beamformed(images.sum(0), images[:, 0] * 0).abs().max() == 0
    streams = torch.stack([images[0, 0], images[0, 0] * 0])
    refined = beamformed(images[0], streams)
    assert refined[1].abs().max() == 0
    assert snr(streams[0], refined[0]) > 20  # nothing to suppress: left alone


def test_mvdr_of_a_recording_shorter_than_its_window():
    images = two_talkers(0.02)
    refined = beamformed(images.sum(0), images[:, 0])
    assert refined.shape == (2, 160) and refined.isfinite().all()
