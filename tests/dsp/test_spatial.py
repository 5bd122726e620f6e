"""Spatial cues against closed forms, slow second versions, and plane waves."""

import math

import pytest
import torch

from frontend.dsp.spatial import (
    array_symmetries,
    istft,
    phase_difference_features,
    spatial_covariance,
    stft,
    stream_masks,
)

FS = 8000


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


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
