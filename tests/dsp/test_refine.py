"""Refinements of streams by the array: what they keep, what they gain, what they refuse."""

import numpy as np
import pytest
import torch

from frontend.dsp.array_streams import ArrayStreams
from frontend.dsp.blind import separate_blind
from frontend.dsp.metrics import si_snr
from frontend.dsp.refine import guided_iva, mask_mixture, refine
from frontend.dsp.spatial import istft, stft, stream_masks
from frontend.utils.errors import UserError
from frontend.utils.rng import generator

FS = 8000


def _noise(*shape, seed=0) -> torch.Tensor:
    return torch.from_numpy(generator(seed, "refine", "test").standard_normal(shape)).float()


def _bursts(talkers: int, seconds: float = 4.0) -> torch.Tensor:
    """Noise that comes and goes, like talkers who do not know of each other: (S, T)."""
    rng = generator(3, "refine", "bursts")
    blocks = int(seconds / 0.25)
    envelope = rng.uniform(0, 1, (talkers, blocks)) ** 3
    samples = np.repeat(envelope, FS // 4, axis=1)
    return torch.from_numpy(samples * rng.standard_normal(samples.shape)).float()


def _recording(sources: torch.Tensor, mics: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Convolve (S, T) with short random impulse responses: mixture (C, T), images at channel 0 (S, T)."""
    rng = generator(4, "refine", "rooms")
    decay = np.exp(-np.arange(200) / 40)
    images = np.stack(
        [
            [np.convolve(source, decay * rng.standard_normal(200))[: len(source)] for _ in range(mics)]
            for source in sources.numpy()
        ]
    )
    return torch.from_numpy(images.sum(0)).float(), torch.from_numpy(images[:, 0]).float()


def _rough(images: torch.Tensor) -> torch.Tensor:
    """Streams as a poor network makes them: a third of the other talker in each."""
    return images + 0.33 * images.flip(0)


def _gain(images: torch.Tensor, streams: torch.Tensor) -> float:
    return float(np.mean(si_snr(images.numpy(), streams.numpy())))


@pytest.mark.parametrize("steps, at_least", [("mvdr", 2.0), ("iva", 5.0)])
def test_poor_streams_become_better(steps, at_least):
    mixture, images = _recording(_bursts(2))
    rough = _rough(images)
    assert _gain(images, refine(rough, mixture, FS, steps)) > _gain(images, rough) + at_least


@pytest.mark.parametrize("talkers", [2, 3])
def test_iva_keeps_the_order_of_the_streams(talkers):
    """AuxIVA's own order is by loudness or chance; ours is the network's, whatever it is."""
    mixture, images = _recording(_bursts(talkers))
    orders = [list(range(talkers)), list(reversed(range(talkers)))]
    found = [guided_iva(images[order], mixture, FS) for order in orders]
    for order, streams in zip(orders, found, strict=True):
        closeness = np.abs(np.corrcoef(torch.cat([images[order], streams]).numpy())[:talkers, talkers:])
        assert closeness.argmax(1).tolist() == list(range(talkers))
    torch.testing.assert_close(found[0].flip(0), found[1], atol=0.02 * float(mixture.abs().max()), rtol=0.05)


def test_iva_from_the_identity_is_the_library_s():
    """With two microphones and their own signals as streams, the start is the identity: plain AuxIVA."""
    mixture, _ = _recording(_bursts(2), mics=2)
    expected = separate_blind("auxiva", mixture.numpy(), FS, 2, iterations=15)
    found = guided_iva(mixture, mixture, FS).numpy()
    found = found[np.argsort(-(found**2).sum(-1))]
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("gain", [1e-4, 1.0, 300.0])
def test_iva_follows_the_level(gain):
    mixture, images = _recording(_bursts(2))
    plain, scaled = (guided_iva(g * _rough(images), g * mixture, FS) for g in (1.0, gain))
    torch.testing.assert_close(scaled, gain * plain, rtol=1e-3, atol=1e-4 * gain)


def test_silent_streams_stay_silent():
    mixture, images = _recording(_bursts(2))
    three = torch.cat([images[:1], torch.zeros_like(images[:1]), images[1:]])
    refined = guided_iva(three, mixture, FS)
    assert refined[1].abs().max() == 0 and torch.isfinite(refined).all()
    torch.testing.assert_close(refined[[0, 2]], guided_iva(images, mixture, FS))
    alone = torch.stack([images[0], torch.zeros_like(images[0])])
    assert torch.equal(guided_iva(alone, mixture, FS), alone), "one talker: nothing to separate"
    assert guided_iva(torch.zeros(2, 4000), torch.zeros(4, 4000), FS).abs().max() == 0
    assert torch.isfinite(guided_iva(images[:, :900], mixture[:, :900], FS)).all(), "shorter than a window"


def test_a_dead_microphone_does_no_harm():
    mixture, images = _recording(_bursts(2))
    mixture[2] = 0
    assert _gain(images, refine(_rough(images), mixture, FS, "iva")) > _gain(images, _rough(images)) + 5


def test_masks_divide_the_mixture():
    """They sum to the mixture, give a talker the bins where it dominates, and ignore the streams' level."""
    t = torch.arange(8000) / 8000
    low, high = torch.sin(2 * torch.pi * 500 * t), torch.sin(2 * torch.pi * 2500 * t)
    mixture = (low + high).repeat(3, 1)
    # What a beamformer may leave of two tones: too weak, filtered, with a trace of the other.
    streams = mask_mixture(torch.stack([0.2 * low + 0.01 * high, 0.3 * high]), mixture, 8000)
    torch.testing.assert_close(streams.sum(0), mixture[0], atol=1e-5, rtol=0)
    assert si_snr(low.numpy(), streams[0].numpy()) > 25
    torch.testing.assert_close(streams[1, 1000:-1000], high[1000:-1000], atol=0.02, rtol=0)
    silent = mask_mixture(torch.zeros(2, 8000), mixture, 8000)
    assert silent.abs().max() == 0


def test_windows_are_as_long_at_any_rate():
    """In samples they grow with the rate; at 8 kHz they are those that were tuned."""
    outputs, mixture = _noise(4, 9000), _noise(3, 9000, seed=1)
    for fs, n_fft in ((8000, 2048), (16000, 4096)):
        expected = ArrayStreams(mixture[None], 4, n_fft, n_fft // 4).beamformed(outputs[None])[0]
        assert torch.equal(refine(outputs, mixture, fs, "mvdr"), expected)
    for fs, n_fft in ((8000, 256), (16000, 512)):
        spectra, x = stft(outputs, n_fft, n_fft // 4), stft(mixture[0], n_fft, n_fft // 4)
        expected = istft(stream_masks(spectra) * x, n_fft, n_fft // 4, 9000)
        assert torch.equal(refine(outputs, mixture, fs, "mask"), expected)


def test_steps_follow_one_another():
    outputs, mixture = _noise(2, 9000), _noise(3, 9000, seed=1)
    first = refine(outputs, mixture, FS, "mvdr")
    assert torch.equal(refine(outputs, mixture, FS, "mvdr+mask"), mask_mixture(first, mixture, FS))


@pytest.mark.parametrize(
    "streams, mics, steps, message",
    [
        (2, 1, "mvdr", "2 or more microphones"),
        (1, 4, "mask", "two or more streams"),
        (3, 2, "iva+mask", "3 or more microphones"),
        (2, 4, "mvdr+mas", "did you mean .mask"),
        (2, 4, "", "out of mvdr, iva, mask"),
    ],
)
def test_what_cannot_be_refined_is_refused(streams, mics, steps, message):
    with pytest.raises(UserError, match=message):
        refine(_noise(streams, 4000), _noise(mics, 4000), FS, steps)


@pytest.mark.parametrize("samples", [1, 100, 800, 2000])
@pytest.mark.parametrize("kind", ["noise", "same", "burst"])
def test_what_is_too_short_stays_finite(samples, kind):
    """By both blind methods and all refinements; what is in a few windows alone too."""
    mixture = 0.1 * np.random.default_rng(samples).standard_normal((3, samples))
    mixture[:] = mixture[0] if kind == "same" else mixture
    mixture[:, samples // 4 :] *= kind != "burst"
    for method in ("auxiva", "ilrma"):
        streams = separate_blind(method, mixture, 8000, 3)
        assert streams.shape == (3, samples) and np.isfinite(streams).all()
    for steps in ("mvdr", "iva+mask"):
        streams = refine(torch.from_numpy(mixture[:, ::-1].copy()), torch.from_numpy(mixture), 8000, steps)
        assert streams.shape == (3, samples) and torch.isfinite(streams).all()
