"""Spatial cues against closed forms, slow second versions, and plane waves."""

import math

import pytest
import torch

from frontend.dsp.spatial import (
    array_symmetries,
    istft,
    mvdr_souden,
    phase_difference_features,
    spatial_covariance,
    stft,
    stream_masks,
)

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


@pytest.mark.parametrize("length", [100, 2000, 2001])
def test_stft_inverts_and_keeps_energy(length):
    x = torch.randn(2, 3, length, dtype=torch.float64)
    spectrum = stft(x, 256, 64)
    assert spectrum.shape == (2, 3, 129, length // 64 + 1)
    torch.testing.assert_close(istft(spectrum, 256, 64, length), x)


def test_stft_of_a_tone_peaks_in_its_bin():
    tone = torch.cos(2 * math.pi * 1000 * torch.arange(FS) / FS)
    assert stft(tone, 256, 128).abs().mean(-1).argmax() == 1000 * 256 / FS


def test_phase_difference_of_a_plane_wave_is_its_delay():
    frequencies = torch.arange(5) * 100.0
    delay = torch.tensor([0.0, 1e-4, -2e-4])
    wave = torch.randn(7, 1, 5, dtype=torch.complex64) * torch.exp(
        -2j * math.pi * frequencies * delay[:, None]
    )
    cosine, sine = phase_difference_features(wave)
    expected = (-2 * math.pi * frequencies * delay[1:, None]).expand(7, 2, 5)
    torch.testing.assert_close(cosine, expected.cos(), atol=1e-5, rtol=0)
    torch.testing.assert_close(sine, expected.sin(), atol=1e-5, rtol=0)
    cosine, sine = phase_difference_features(wave, ref_channel=1)
    torch.testing.assert_close(sine[:, 0], -expected.sin()[:, 0], atol=1e-5, rtol=0)


def test_phase_difference_ignores_level_and_survives_silence():
    spectrum = torch.randn(4, 9, dtype=torch.complex64)
    quiet = phase_difference_features(spectrum * 1e-8)
    for a, b in zip(phase_difference_features(spectrum), quiet, strict=True):
        torch.testing.assert_close(a, b)
    spectrum[2] = 0
    cosine, sine = phase_difference_features(spectrum)
    assert cosine[1].abs().max() == sine[1].abs().max() == 0
    assert phase_difference_features(spectrum[:1])[0].shape == (0, 9)


def test_spatial_covariance_is_the_sum_of_outer_products():
    x, weight = torch.randn(2, 3, 4, 6, dtype=torch.complex128), torch.rand(2, 4, 6, dtype=torch.float64)
    slow = torch.zeros(2, 4, 3, 3, dtype=torch.complex128)
    for b in range(2):
        for f in range(4):
            for t in range(6):
                slow[b, f] += weight[b, f, t] * torch.outer(x[b, :, f, t], x[b, :, f, t].conj())
    torch.testing.assert_close(spatial_covariance(x, weight), slow)
    rest = spatial_covariance(x, 1 - weight)
    torch.testing.assert_close(slow + rest, spatial_covariance(x))


def test_masks_are_shares():
    streams = torch.tensor([3.0, 1.0, 0.0]).view(3, 1, 1) * torch.randn(1, 4, 5, dtype=torch.complex64)
    expected = torch.tensor([0.9, 0.1, 0.0]).view(3, 1, 1).expand(3, 4, 5)
    for level in (1.0, 1e-20):
        torch.testing.assert_close(stream_masks(streams * level), expected)
    assert stream_masks(streams * 0).abs().max() == 0


def test_mvdr_separates_two_plane_waves():
    images = two_talkers()
    mixture, references = images.sum(0), images[:, 0]
    refined = mvdr_souden(mixture, references)
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
    refined = mvdr_souden(images.sum(0) + floor, images[:, 0], loading=1e-6)
    first, second = slice(800, samples // 2 - 800), slice(samples // 2 + 800, -800)
    assert (
        snr(images[0, 0, first], refined[0, first]) > 25
    )  # its own talker: the image at the reference channel
    leak = refined[0, second].square().mean() / images[1, 0, second].square().mean()
    assert 10 * torch.log10(leak) < -15  # the other: gone


@pytest.mark.parametrize("gain", [1e-5, 1e4])
def test_mvdr_follows_the_mixture_in_level_and_the_streams_only_in_share(gain):
    images = two_talkers(1.0).double()
    expected = mvdr_souden(images.sum(0), images[:, 0])
    torch.testing.assert_close(mvdr_souden(gain * images.sum(0), gain * images[:, 0]) / gain, expected)
    torch.testing.assert_close(mvdr_souden(images.sum(0), gain * images[:, 0]), expected)


def test_mvdr_does_not_mind_the_order():
    images = two_talkers(1.0)
    streams, order = images[:, 0], [2, 0, 3, 1]
    refined = mvdr_souden(images.sum(0), streams)
    torch.testing.assert_close(mvdr_souden(images.sum(0), streams.flip(0)).flip(0), refined)
    permuted = mvdr_souden(images.sum(0)[order], streams, ref_channel=order.index(0))
    torch.testing.assert_close(permuted, refined, atol=1e-5, rtol=1e-4)


def test_mvdr_answers_silence_with_silence():
    images = two_talkers(1.0)
    assert mvdr_souden(images.sum(0) * 0, images[:, 0]).abs().max() == 0
    assert mvdr_souden(images.sum(0), images[:, 0] * 0).abs().max() == 0
    streams = torch.stack([images[0, 0], images[0, 0] * 0])
    refined = mvdr_souden(images[0], streams)
    assert refined[1].abs().max() == 0
    assert snr(streams[0], refined[0]) > 20  # nothing to suppress: left alone


def test_mvdr_of_a_recording_shorter_than_its_window():
    images = two_talkers(0.02)
    refined = mvdr_souden(images.sum(0), images[:, 0])
    assert refined.shape == (2, 160) and refined.isfinite().all()


@pytest.mark.parametrize(
    "mixture,streams", [((1, 99), (2, 99)), ((4, 99), (1, 99)), ((4, 99), (2, 98)), ((99,), (2, 99))]
)
def test_mvdr_refuses_what_it_cannot_do(mixture, streams):
    with pytest.raises(ValueError):
        mvdr_souden(torch.randn(mixture), torch.randn(streams))


@pytest.mark.parametrize("n_mics", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("kind", ["none", "linear", "circular"])
def test_symmetries_keep_every_distance(kind, n_mics):
    index = torch.arange(n_mics)
    places = (
        torch.polar(torch.ones(n_mics), 2 * math.pi * index / n_mics) if kind == "circular" else index + 0j
    )
    distance = (places[:, None] - places).abs()
    orders = array_symmetries(kind, n_mics)
    assert orders[0] == tuple(range(n_mics))
    assert len(set(orders)) == len(orders)
    for order in orders:
        torch.testing.assert_close(distance[list(order)][:, list(order)], distance)


def test_symmetries_are_all_there_are():
    assert [len(array_symmetries("circular", n)) for n in (1, 2, 3, 4, 6)] == [1, 2, 6, 8, 12]
    assert [len(array_symmetries("linear", n)) for n in (1, 2, 3)] == [1, 2, 2]
    with pytest.raises(ValueError, match="none, circular or linear"):
        array_symmetries("square", 4)
