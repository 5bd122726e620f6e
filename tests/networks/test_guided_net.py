"""The network with the array inside: what it is untrained, whom it serves, and that it learns."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from frontend.dsp.array_streams import ArrayStreams
from frontend.dsp.metrics import si_snr
from frontend.dsp.spatial import istft, stft, stream_masks
from frontend.networks.guided_net import STARTS, TRAINING_STARTS, GuidedNet
from frontend.utils.errors import UserError
from frontend.utils.rng import generator

FS = 8000
SAMPLES = 20000  # in much less AuxIVA has several solutions, between which rounding decides


@pytest.fixture(autouse=True)
def _one_thread():
    """Sums of several threads, or of parts of a batch, are rounded otherwise, and AuxIVA makes more of it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recordings(talkers=2, mics=4, batch=2, samples=SAMPLES):
    """Mixtures (B, T, C) of bursts of noise in rooms, and images at microphone 0, (B, S, T)."""
    rng = generator(0, "guided", "test", talkers, mics)
    level = rng.uniform(0, 1, (batch, talkers, samples // 1000)).repeat(1000, axis=-1) ** 3
    sources = torch.from_numpy(level * rng.standard_normal(level.shape))
    rooms = torch.from_numpy(rng.standard_normal((batch, talkers, mics, 200)))
    rooms = rooms * torch.exp(-torch.arange(200) / 40)
    n = 2 * samples
    images = torch.fft.irfft(torch.fft.rfft(sources, n)[:, :, None] * torch.fft.rfft(rooms, n), n)[
        ..., :samples
    ].float()
    return images.sum(1).transpose(1, 2), images[:, :, 0]


def build(talkers=2, mics=4, trained=True, **settings):
    torch.manual_seed(0)
    network = GuidedNet(1, talkers, mics, **{"channels": 8, "blocks": 2} | settings).eval()
    if trained:  # as far as these tests care
        torch.nn.init.normal_(network.head.weight, std=0.05)
        torch.nn.init.normal_(network.head.bias, std=0.05)
        torch.nn.init.normal_(network.embedding, std=0.5)
    return network


@torch.no_grad()
def outputs(network, mixture, lengths=None):
    lengths = torch.full((len(mixture),), mixture.shape[1]) if lengths is None else lengths
    return torch.stack(network(mixture, lengths)[0], 1)


def masked(streams, reference):
    """(S, T), (T,) to (S, T): the streams' shares of the reference channel, in the network's windows."""
    whole = [torch.nn.functional.pad(x, (0, -x.shape[-1] % 128)) for x in (streams, reference)]
    spectra, x = (stft(one, 256, 128) for one in whole)
    return istft(stream_masks(spectra) * x, 256, 128, streams.shape[-1])


def snr(reference, estimate):
    error = (reference - estimate).square().sum(-1)
    return 10 * torch.log10(reference.square().sum(-1) / error)


@pytest.mark.parametrize("talkers", [2, 3])
def test_untrained_it_is_auxiva_with_masks(talkers):
    mixture, _ = recordings(talkers, samples=20480)  # of whole hops, to which the network pads
    found = outputs(build(talkers, trained=False, rounds=1), mixture)
    array = ArrayStreams(mixture.transpose(1, 2), talkers, 2048, 512)
    for streams, one, made in zip(array.blind(starts=STARTS)[0], mixture, found, strict=True):
        torch.testing.assert_close(made, masked(streams, one[:, 0]), atol=1e-5, rtol=1e-4)


def test_the_last_samples_do_not_depend_on_the_length():
    """A recording that ends within a hop ends as one with silence behind it."""
    network, whole = build(rounds=1), SAMPLES - SAMPLES % 128
    signals = torch.from_numpy(generator(0, "guided", "end").standard_normal((5, whole))).float()
    signals[:, whole - 1 :] = 0

    @torch.no_grad()
    def corrected(length):
        x = signals[:, None, :length]
        return network.correct(x[0], x[1:3].transpose(0, 1), x[3:].transpose(0, 1))

    expected = corrected(whole)[..., : whole - 1]
    torch.testing.assert_close(corrected(whole - 1), expected, atol=1e-4, rtol=1e-4)


def test_a_second_round_starts_from_the_first_s_outputs():
    mixture, _ = recordings(samples=20480)
    first = outputs(build(trained=False, rounds=1), mixture)
    array = ArrayStreams(mixture.transpose(1, 2), 2, 2048, 512)
    again = array.guided(first)[0]
    expected = torch.stack([masked(y, x[:, 0]) for y, x in zip(again, mixture, strict=True)])
    torch.testing.assert_close(
        outputs(build(trained=False, rounds=2), mixture), expected, atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("talkers", [2, 3])
def test_masks_and_residuals_divide_the_reference(talkers):
    """Without the array's own streams in them, the outputs sum to the reference channel."""
    network = build(talkers)
    with torch.no_grad():
        for k in (3, 4):  # their weights, of each frequency of a position
            network.head.weight[k::5] = 0
            network.head.bias[k::5] = 0
    mixture, _ = recordings(talkers)
    torch.testing.assert_close(outputs(network, mixture).sum(1), mixture[..., 0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("talkers", [2, 3])
def test_permuted_streams_are_permuted_outputs(talkers):
    mixture, _ = recordings(talkers)
    array = ArrayStreams(mixture.transpose(1, 2), talkers, 2048, 512)
    demixed = array.blind()[0]
    beams, order, network = array.beamformed(demixed), [*range(1, talkers), 0], build(talkers)
    with torch.no_grad():
        made = network.correct(mixture[..., 0], demixed, beams)
        permuted = network.correct(mixture[..., 0], demixed[:, order], beams[:, order])
    torch.testing.assert_close(permuted, made[:, order], atol=1e-5, rtol=1e-4)
    assert (made - demixed).abs().max() > 0.01


def test_other_microphones_change_nothing_but_the_array_s_own_streams():
    """Permuted, or with silent ones more, the same: the network sees the reference and the streams alone."""
    mixture, _ = recordings(mics=4)
    network = build()
    expected = outputs(network, mixture)
    permuted = outputs(network, mixture[..., [0, 3, 1, 2]])
    silent = outputs(network, torch.cat([mixture, torch.zeros(2, SAMPLES, 3)], -1))
    assert snr(expected, permuted).min() > 30 and snr(expected, silent).min() > 30


@pytest.mark.parametrize(("talkers", "mics"), [(2, 2), (2, 3), (2, 6), (3, 4), (4, 4)])
def test_one_set_of_weights_for_any_array_and_number_of_talkers(talkers, mics):
    weights = build(2, 4).state_dict()
    network = build(talkers, mics)
    network.load_state_dict(weights, strict=True)
    mixture, _ = recordings(talkers, mics)
    assert outputs(network, mixture).shape == (2, talkers, SAMPLES)


def test_one_set_of_weights_for_both_rates():
    """At 16 kHz, what lies below 4 kHz comes out as at 8 kHz."""
    mixture, _ = recordings()
    spectrum = torch.nn.functional.pad(torch.fft.rfft(mixture, dim=1), (0, 0, 0, SAMPLES // 2))
    double_rate = 2 * torch.fft.irfft(spectrum, 2 * SAMPLES, dim=1)
    network = build(rounds=1)
    first = outputs(network, mixture)
    network.fs = 16000
    second = outputs(network, double_rate)[..., ::2]
    swapped = torch.stack([snr(first, second), snr(first, second.flip(1))]).mean(-1).amax(0)
    assert swapped.min() > 10


@pytest.mark.parametrize("gain", [1e-5, 300.0])
def test_scale_equivariance(gain):
    mixture, _ = recordings()
    network = build()
    assert snr(outputs(network, mixture), outputs(network, gain * mixture) / gain).min() > 40


def test_recordings_side_by_side_in_threads_are_the_same():
    mixture, _ = recordings(batch=3)
    network, before = build(), torch.get_num_threads()
    expected = [outputs(network, one[None])[0] for one in mixture]
    try:
        torch.set_num_threads(2)
        found = outputs(network, mixture)
        with ThreadPoolExecutor(1) as pool:  # threads to come have as many, too
            assert torch.get_num_threads() == pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)
    assert snr(torch.stack(expected), found).min() > 40


def test_padding_changes_nothing():
    mixture, _ = recordings()
    lengths = torch.tensor([SAMPLES, SAMPLES - 3000])
    mixture[1, lengths[1] :] = 5.0
    network = build()
    batched, alone = outputs(network, mixture, lengths), outputs(network, mixture[1:, : lengths[1]])
    torch.testing.assert_close(batched[1, :, : lengths[1]], alone[0])
    assert batched[1, :, lengths[1] :].abs().max() == 0


@pytest.mark.parametrize("rounds", [1, 2])
def test_silence_in_silence_out_and_finite_gradients(rounds):
    mixture, _ = recordings()
    mixture[0] = 0
    network = build(rounds=rounds)
    made = torch.stack(network(mixture, torch.full((2,), SAMPLES))[0], 1)
    assert made[0].abs().max() == 0 and made.isfinite().all()
    made.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_fewer_starts_are_tried_in_training(monkeypatch):
    mixture, tried, blind = recordings()[0], [], ArrayStreams.blind
    monkeypatch.setattr(ArrayStreams, "blind", lambda array, starts: tried.append(starts) or blind(array))
    for network in (build().eval(), build().train()):
        network(mixture, torch.full((2,), SAMPLES))
    assert tried == [STARTS, TRAINING_STARTS] and TRAINING_STARTS < STARTS


def test_ref_channel_must_be_there():
    with pytest.raises(UserError, match="channel 2 as the reference, found 2 channels"):
        build(mics=4, ref_channel=2)(torch.zeros(1, 800, 2), torch.tensor([800]))


def test_batches_take_the_rounds_in_turn_in_training():
    mixture, _ = recordings()
    network = build(trained=False, rounds=2).train()
    lengths = torch.full((2,), SAMPLES)
    made = [torch.stack(network(mixture, lengths)[0], 1).detach() for _ in range(3)]
    for step, rounds in enumerate((1, 2, 1)):
        expected = build(trained=False, rounds=rounds).train().separate(mixture.transpose(1, 2), rounds)
        torch.testing.assert_close(made[step], expected)
    network.load_state_dict(network.state_dict())
    assert int(network.batches) == 3


def test_it_learns():
    mixture, images = recordings(batch=4)
    network = build(trained=False, rounds=1).train()
    before = si_snr(images.numpy(), _in_order(outputs(network.eval(), mixture), images).numpy()).mean()
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(25):
        made = torch.stack(network.train()(mixture, torch.full((4,), SAMPLES))[0], 1)
        loss = -snr(images, _in_order(made, images)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = si_snr(images.numpy(), _in_order(outputs(network.eval(), mixture), images).numpy()).mean()
    assert after > before + 1.5


def _in_order(streams, images):
    """(B, 2, T) in the order that fits the images better."""
    swapped = snr(images, streams.flip(1)).mean(-1) > snr(images, streams).mean(-1)
    return torch.where(swapped[:, None, None], streams.flip(1), streams)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"talkers": 1}, "num_spk of 2 or more"),
        ({"rounds": 0}, "rounds of 1 or more"),
        ({"fs": 0}, "fs in Hz"),
        ({"precision": "float16"}, "precision must be one of"),
    ],
)
def test_sizes_that_make_no_sense(settings, message):
    with pytest.raises(UserError, match=message):
        build(**settings)


@pytest.mark.parametrize("shape", [(1, 4000), (1, 4000, 1), (1, 4000, 2)])
def test_too_few_microphones_are_named(shape):
    with pytest.raises(
        UserError, match=f"3 or more microphones for 3 streams, found {shape[2] if len(shape) > 2 else 1}"
    ):
        outputs(build(3), torch.randn(shape))
