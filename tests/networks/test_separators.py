"""The networks: their checks of inputs and shapes of outputs, and that they learn."""

import pytest
import torch

from frontend.dsp.array_streams import ArrayStreams
from frontend.networks.base import MaskedGroupNorm, mixture_consistency
from frontend.networks.conv_tasnet import MCConvTasNet
from frontend.networks.mask_net import MaskNet
from frontend.networks.spatialnet import SpatialNet
from frontend.networks.stack import _Slope
from frontend.networks.tfgridnet import TFGridNet
from frontend.utils.errors import UserError


class RecurrentMaskNet(MaskNet):
    """MaskNet with the layers for one microphone."""


class GuidedSpatialNet(SpatialNet):
    """SpatialNet that sees AuxIVA's streams too."""


F, L = 33, 24  # n_fft 64
T = 400
SMALL = {
    MaskNet: {"channels": 12, "blocks": 3, "mask_init": 1.0, "freq_embedding": True},
    RecurrentMaskNet: {
        "channels": 12, "blocks": 2, "mask_init": 1.0, "recurrent_units": 6, "recurrent_channels": 3,
    },
    MCConvTasNet: {
        "filters": 24, "spatial_filters": 8, "bottleneck": 12, "hidden": 16, "skip": 12, "blocks": 3,
        "repeats": 2, "mask_init": 1.0,
    },
    TFGridNet: {
        "n_layers": 2, "lstm_hidden_units": 8, "attn_n_head": 2, "attn_approx_qk_dim": 64, "emb_dim": 8,
        "output_init": 1.0,
    },
    SpatialNet: {
        "blocks": 2, "hidden": 12, "inner": 16, "squeezed": 3, "heads": 2, "groups": 2, "output_init": 1.0,
    },
    GuidedSpatialNet: {
        "streams": 2, "blocks": 2, "hidden": 12, "inner": 16, "squeezed": 3, "heads": 2, "groups": 2,
        "output_init": 1.0,
    },
}  # fmt: skip
NETWORKS = pytest.mark.parametrize("kind", SMALL, ids=lambda kind: kind.__name__)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def build(kind, num_spk=3, n_mics=4, **settings):
    merged = {**SMALL[kind], **settings}
    if "streams" in merged:
        merged["streams"] = min(merged["streams"], n_mics)
    return kind(F, num_spk, n_mics, **merged)


def signal(kind, batch=2, n_mics=4, length=None):
    """Return an input for ``kind``, and its lengths."""
    length = length or (T if kind is MCConvTasNet else L)
    shape = (batch, length, n_mics) if kind is MCConvTasNet else (batch, length, n_mics, F)
    dtype = torch.float32 if kind is MCConvTasNet else torch.complex64
    return torch.randn(shape, dtype=dtype), torch.full((batch,), length)


def stack(outputs):
    return torch.stack(outputs, dim=1)


@NETWORKS
def test_outputs_have_the_shape_of_one_channel_and_sum_to_the_reference(kind):
    x, ilens = signal(kind)
    outputs, olens, others = build(kind, ref_channel=2)(x, ilens)
    assert len(outputs) == 3 and not others and olens.equal(ilens)
    assert all(o.shape == x[:, :, 0].shape and o.dtype == x.dtype for o in outputs)
    torch.testing.assert_close(stack(outputs).sum(1), x[:, :, 2], atol=1e-5, rtol=1e-5)


@NETWORKS
def test_without_consistency_the_outputs_are_free(kind):
    x, ilens = signal(kind)
    outputs = stack(build(kind, mixture_consistency=False)(x, ilens)[0])
    assert (outputs.sum(1) - x[:, :, 0]).abs().mean() > 0.05


@NETWORKS
@pytest.mark.parametrize("gain", [1e-5, 300.0])
def test_scale_equivariance(kind, gain):
    x, ilens = signal(kind)
    network = build(kind)
    expected, scaled = stack(network(x, ilens)[0]), stack(network(x * gain, ilens)[0]) / gain
    torch.testing.assert_close(scaled, expected, atol=1e-4, rtol=1e-3)


@NETWORKS
def test_a_rescaled_item_does_not_touch_its_neighbour(kind):
    x, ilens = signal(kind)
    network = build(kind)
    louder = x * torch.tensor([1.0, 1000.0]).view(2, *[1] * (x.dim() - 1))
    torch.testing.assert_close(network(louder, ilens)[0][0][0], network(x, ilens)[0][0][0])


@NETWORKS
@pytest.mark.parametrize("silent", ["everything", "an item", "a channel", "the reference"])
def test_silence_in_silence_out_and_finite_gradients(kind, silent):
    x, ilens = signal(kind)
    where = {
        "everything": (slice(None),),
        "an item": (0,),
        "a channel": (slice(None), slice(None), 3),
        "the reference": (slice(None), slice(None), 0),
    }[silent]
    x[where] = 0
    x.requires_grad_()
    network = build(kind)
    outputs = stack(network(x, ilens)[0])
    if silent != "a channel":
        muted = outputs[0] if silent == "an item" else outputs
        assert muted.abs().max() == 0
    assert outputs.isfinite().all()
    (outputs.abs().square().sum() + outputs.real.sum()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert x.grad.isfinite().all()


@NETWORKS
@pytest.mark.parametrize("n_mics", [1, 4])
def test_padding_changes_nothing(kind, n_mics):
    x, ilens = signal(kind, n_mics=n_mics)
    padding = 57 if kind is MCConvTasNet else 7  # several frames
    ilens = torch.tensor([x.shape[1], x.shape[1] - padding])
    x[1, ilens[1] :] = 5.0  # even what is not silent there
    network = build(kind, n_mics=n_mics)
    batched = stack(network(x, ilens)[0])[1]
    alone = stack(network(x[1:, : ilens[1]], ilens[1:])[0])[0]
    torch.testing.assert_close(batched[:, : ilens[1]], alone, atol=1e-5, rtol=1e-4)
    assert batched[:, ilens[1] :].abs().max() == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@NETWORKS
def test_a_gpu_gives_what_the_processor_gives(kind):
    x, ilens = signal(kind)
    network = build(kind)
    expected = stack(network(x, ilens)[0])
    found = stack(network.cuda()(x.cuda(), ilens.cuda())[0])
    torch.testing.assert_close(found.cpu(), expected, atol=1e-3, rtol=1e-2)


@NETWORKS
def test_one_microphone_with_and_without_channel_axis(kind):
    x, ilens = signal(kind, n_mics=1)
    network = build(kind, num_spk=2, n_mics=1)
    with_axis = stack(network(x, ilens)[0])
    assert with_axis.equal(stack(network(x[:, :, 0], ilens)[0]))
    torch.testing.assert_close(with_axis.sum(1), x[:, :, 0], atol=1e-5, rtol=1e-5)


@NETWORKS
@pytest.mark.parametrize("built,given", [(4, 3), (4, 1), (1, 2)])
def test_wrong_number_of_microphones_names_both(kind, built, given):
    x, ilens = signal(kind, n_mics=given)
    x = x[:, :, 0] if given == 1 else x
    with pytest.raises(UserError, match=rf"expected {built} channel.*found {given}"):
        build(kind, n_mics=built)(x, ilens)


@NETWORKS
def test_senseless_sizes_are_refused(kind):
    for settings, match in [
        ({"num_spk": 0}, "num_spk must be at least 1, found 0"),
        ({"n_mics": 0}, "n_mics must be at least 1, found 0"),
        ({"ref_channel": 4}, r"0\.\.3 \(n_mics is 4\), found 4"),
        ({"ref_channel": -1}, "found -1"),
    ]:
        with pytest.raises(UserError, match=match):
            build(kind, **settings)


def test_senseless_settings_of_one_network_are_refused():
    with pytest.raises(UserError, match="'bfloat61'.*did you mean 'bfloat16'"):
        build(MaskNet, precision="bfloat61")
    with pytest.raises(UserError, match="must divide channels"):
        build(MaskNet, groups=5)
    with pytest.raises(UserError, match="kernel must be even"):
        build(MCConvTasNet, kernel=15)
    with pytest.raises(UserError, match="must divide emb_dim"):
        build(TFGridNet, attn_n_head=3)
    for settings, match in [
        ({"heads": 5}, r"heads \(5\) must divide hidden \(12\)"),
        ({"groups": 3}, r"groups \(3\) must divide hidden \(12\) and inner \(16\)"),
        ({"time_kernel": 4}, "time_kernel must be odd, found 4"),
    ]:
        with pytest.raises(UserError, match=match):
            build(SpatialNet, **settings)
    for kind in (MaskNet, SpatialNet):
        with pytest.raises(UserError, match="expected 65 frequencies .*, found 33"):
            kind(65, 2, 4)(*signal(kind))


@NETWORKS
def test_gradient_reaches_every_parameter(kind):
    x, ilens = signal(kind)
    network = build(kind)
    outputs = stack(network(x, ilens)[0])
    # Every output weighs differently, or consistency would cancel the gradients.
    (outputs.abs().square() * torch.rand(outputs.shape)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    "kind,settings",
    [
        (MaskNet, {}),
        (MaskNet, {"precision": "bfloat16"}),
        (RecurrentMaskNet, {"precision": "bfloat16"}),
        (MCConvTasNet, {}),
        (TFGridNet, {}),
        (SpatialNet, {}),
    ],
)
def test_overfits_one_batch(kind, settings):
    x, ilens = signal(kind)
    network = build(kind, num_spk=2, **settings)
    # What a mask can do: a smooth share of the reference for each output.
    share = torch.rand(x[:, :, 0].shape)
    target = stack([x[:, :, 0] * share, x[:, :, 0] * (1 - share)])
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        loss = (stack(network(x, ilens)[0]) - target).abs().square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


@NETWORKS
def test_initial_outputs_are_near_equal_shares(kind):
    """Where it does not start so, MixIT's empty assignment can win and has no gradient."""
    # These have no masks: their shares come from consistency alone.
    if kind in (TFGridNet, SpatialNet, GuidedSpatialNet):
        settings = {"output_init": 0.02}
    else:
        settings = {"mask_init": 0.02, "mixture_consistency": False}
    x, ilens = signal(kind)
    outputs = stack(build(kind, **settings)(x, ilens)[0])
    share = outputs.mean(1, keepdim=True)
    assert (outputs - share).abs().square().mean() < 0.05 * share.abs().square().mean()
    if kind is not MCConvTasNet:  # its decoder is random and does not yet undo its encoder
        share = x[:, :, 0].unsqueeze(1) / 3
        assert (outputs - share).abs().square().mean() < 0.05 * share.abs().square().mean()


@NETWORKS
def test_state_survives_a_strict_round_trip(kind, tmp_path):
    x, ilens = signal(kind)
    network, other = build(kind), build(kind)
    torch.save(network.state_dict(), tmp_path / "state.pth")
    other.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True), strict=True)
    assert stack(network(x, ilens)[0]).equal(stack(other(x, ilens)[0]))


@pytest.mark.parametrize("kind", [MaskNet, TFGridNet, SpatialNet])
def test_between_espnets_encoder_and_decoder_the_streams_sum_to_the_recording(kind):
    from espnet2.enh.decoder.stft_decoder import STFTDecoder
    from espnet2.enh.encoder.stft_encoder import STFTEncoder

    waveform, ilens = torch.randn(2, T, 4), torch.tensor([T, T - 50])
    waveform[1, T - 50 :] = 0
    spectrum, flens = STFTEncoder(64, hop_length=32)(waveform, ilens)
    outputs, flens, _ = build(kind, ref_channel=1)(spectrum, flens)
    decoder = STFTDecoder(64, hop_length=32)
    total = sum(decoder(output, ilens)[0] for output in outputs)
    torch.testing.assert_close(total[0], waveform[0, :, 1], atol=1e-4, rtol=0)
    inside = T - 50 - 32  # ESPnet's last frame of a padded item does not reach its end
    torch.testing.assert_close(total[1, :inside], waveform[1, :inside, 1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [MaskNet, RecurrentMaskNet])
@pytest.mark.parametrize("padding", [0, 7])
def test_bfloat16_is_close_to_float32(kind, padding):
    x, ilens = signal(kind)
    ilens[1] -= padding
    network = build(kind)
    exact = stack(network(x, ilens)[0])
    network.precision = "bfloat16"
    rough = stack(network(x, ilens)[0])
    assert rough.dtype == exact.dtype
    assert 0 < (rough - exact).abs().square().mean() < 1e-3 * exact.abs().square().mean()


def test_mask_net_sees_where_a_source_is():
    """Only the phase between microphones changes; so must the masks (the spatial cue gets in)."""
    x, ilens = signal(MaskNet)
    turned = x.clone()
    turned[:, :, 1] *= 1j
    network = build(MaskNet)
    assert (network(x, ilens)[0][0] - network(turned, ilens)[0][0]).abs().mean() > 1e-3


def test_spatialnet_has_the_size_of_the_paper():
    """1.2 million at 8 kHz and 1.6 at 16 kHz (frames of 32 ms) for six microphones and two talkers."""
    for n_freqs, expected in [(129, 1.2e6), (257, 1.6e6)]:
        size = sum(p.numel() for p in SpatialNet(n_freqs, 2, 6).parameters())
        assert size == pytest.approx(expected, abs=0.05e6)


def test_spatialnet_treats_all_frequencies_alike_but_for_the_full_band_layer():
    """Without it, and without neighbours, turned frequencies come out turned: one set of weights for all."""
    network = build(SpatialNet, freq_kernel=1)
    with torch.no_grad():
        network.full_weight.zero_()
        network.full_bias.fill_(0.3)
    x, ilens = signal(SpatialNet)
    turned = stack(network(x.roll(5, dims=-1), ilens)[0])
    torch.testing.assert_close(turned, stack(network(x, ilens)[0]).roll(5, dims=-1))
    with torch.no_grad():
        network.full_weight.normal_()
    turned = stack(network(x.roll(5, dims=-1), ilens)[0])
    assert (turned - stack(network(x, ilens)[0]).roll(5, dims=-1)).abs().mean() > 1e-3


class _Nothing(torch.nn.Module):
    def forward(self, x, mask=None):
        return x


@pytest.mark.parametrize("kind,hears", [(MaskNet, False), (RecurrentMaskNet, True)])
def test_recurrent_layers_see_the_whole_recording(kind, hears):
    """Two frames change places at one end: does the other hear it (without norms, which hear all)?"""
    x, ilens = signal(kind, batch=1, length=16)  # the convolutions see four frames around
    network = build(kind, blocks=2)
    for module in list(network.modules()):
        if hasattr(module, "norm"):
            module.norm = _Nothing()
    for first, last in [(slice(0, 2), -1), (slice(14, 16), 0)]:
        changed = x.clone()
        changed[:, first] = x[:, first].flip(1)
        difference = stack(network(changed, ilens)[0]) - stack(network(x, ilens)[0])
        assert bool(difference[:, :, last].abs().max() > 0) is hears


def test_our_prelu_is_prelu():
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    slope = torch.tensor([0.25], dtype=torch.float64, requires_grad=True)
    assert _Slope.apply(x, slope).equal(torch.nn.functional.prelu(x, slope))
    assert torch.autograd.gradcheck(_Slope.apply, (x, slope))


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("shape", [(2, 6, 10), (2, 6, 10, 5)])
def test_masked_norm_is_group_norm_of_what_is_left(groups, shape):
    x, mask = torch.randn(shape), torch.arange(10) < torch.tensor([10, 7])[:, None]
    norm = MaskedGroupNorm(groups, 6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    masked = norm(x, mask)
    torch.testing.assert_close(masked[0], norm(x)[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(masked[1:, :, :7], norm(x[1:, :, :7]), atol=1e-5, rtol=1e-4)
    assert masked[1, :, 7:].abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_consistent_estimates_sum_to_the_mixture(dtype):
    mixture, estimates = torch.randn(2, 30, dtype=dtype), torch.randn(2, 3, 30, dtype=dtype)
    consistent = mixture_consistency(mixture, estimates)
    torch.testing.assert_close(consistent.sum(1), mixture)
    # A projection: what is consistent already stays as it is.
    torch.testing.assert_close(mixture_consistency(mixture, consistent), consistent)


def test_consistent_estimates_are_the_nearest():
    mixture, estimates = torch.tensor([[6.0, 0.0]]), torch.tensor([[[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]]])
    consistent = mixture_consistency(mixture, estimates)
    assert consistent[0, :, 0].tolist() == [2.0, 3.0, 1.0]  # 3 missing, 1 to each


def test_spatialnet_sees_what_auxiva_and_beamformers_make_of_the_array():
    """Its further channels are the STFT of the streams that GuidedNet starts from."""
    torch.manual_seed(1)
    talkers = torch.randn(2, 8064) * torch.rand(2, 63).repeat_interleave(128, 1)
    mixture = torch.einsum("cs,st->ct", torch.randn(4, 2), talkers)
    window = torch.hann_window(256)
    spectrum = torch.stft(mixture, 256, 128, window=window, return_complex=True).permute(2, 0, 1)[None]
    network = SpatialNet(129, 2, 4, streams=2, **SMALL[SpatialNet]).eval()
    found = network._array(spectrum)
    array = ArrayStreams(mixture[None], 2, 2048, 512)
    demixed, _ = array.blind(starts=8)
    streams = torch.cat([demixed, array.beamformed(demixed)], 1)[0]
    wanted = torch.stft(streams, 256, 128, window=window, return_complex=True).permute(2, 0, 1)[None]
    inside = slice(2, -2)  # the ends are padded in another way
    error = (found - wanted)[:, inside].abs().square().mean() / wanted[:, inside].abs().square().mean()
    assert error < 1e-3
    # What they are decides the outputs.
    lengths = torch.tensor([spectrum.shape[1]])
    before = stack(network(spectrum, lengths)[0])
    network._array = lambda x: torch.zeros_like(found)
    assert (stack(network(spectrum, lengths)[0]) - before).abs().max() > 1e-3


def test_spatialnet_refuses_more_streams_than_microphones():
    with pytest.raises(UserError, match="expected streams of 0 to n_mics .4.*found 5"):
        SpatialNet(129, 2, 4, streams=5)
