"""SpatialNet: what frequencies share over time, and what frames share over frequency, in turns.

[1] C. Quan, X. Li, "SpatialNet: extensively learning spatial information for multichannel joint speech
    separation, denoising and dereverberation", IEEE/ACM TASLP 32, 2024, arXiv 2307.16516.

A cross-band block looks at one frame at a time: convolutions over neighbouring frequencies, and between them
a linear layer over all frequencies, of few channels, whose weights all blocks share. A narrow-band block
looks at one frequency at a time, with the same weights at each: self-attention over the frames, which
gathers the frames of one direction, and a feed-forward layer with convolutions over time. The default
values are those of the small network of [1]: 1.2 million parameters at 129 frequencies. It learns on a
GPU; on a CPU take MaskNet. Beside the microphones it may see what AuxIVA and a beamformer make of them, as
GuidedNet does.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

from frontend.dsp.array_streams import ArrayStreams
from frontend.dsp.refine import WINDOW_S
from frontend.dsp.spatial import frames, istft, stft
from frontend.networks.base import (
    ArraySeparator,
    MaskedGroupNorm,
    all_channels,
    frame_mask,
    level_of,
    mixture_consistency,
)
from frontend.networks.guided_net import STARTS, TRAINING_STARTS
from frontend.utils.errors import UserError


class _FrequencyConv(nn.Module):
    """x + PReLU(grouped convolution over frequency of norm(x)); x is (B, F, L, H)."""

    def __init__(self, hidden: int, kernel: int, groups: int):
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.conv = nn.Conv1d(hidden, hidden, kernel, padding=kernel // 2, groups=groups)
        self.activation = nn.PReLU(hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        frames = self.norm(x).permute(0, 2, 3, 1)  # (B, L, H, F)
        y = self.activation(self.conv(frames.flatten(0, 1)))
        return x + y.view_as(frames).permute(0, 3, 1, 2)


class _FullBand(nn.Module):
    """Every frequency sees all others, in a squeezed number of channels S; x is (B, F, L, H)."""

    def __init__(self, hidden: int, squeezed: int):
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.squeeze = nn.Linear(hidden, squeezed)
        self.expand = nn.Linear(squeezed, hidden)

    def forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Use the linear layers ``weight`` (S, F, F), ``bias`` (S, F, 1), one for each squeezed channel."""
        y = F.silu(self.squeeze(self.norm(x)))  # (B, F, L, S)
        y = weight @ y.permute(0, 3, 1, 2) + bias  # (B, S, F, L)
        return x + F.silu(self.expand(y.permute(0, 2, 3, 1)))


class _TimeAttention(nn.Module):
    """x + multi-head self-attention over the frames of one frequency; x is (B * F, L, H)."""

    def __init__(self, hidden: int, heads: int):
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.attention = nn.MultiheadAttention(hidden, heads, batch_first=True)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        y = self.norm(x)
        hidden_keys = None if mask is None else ~mask
        return x + self.attention(y, y, y, key_padding_mask=hidden_keys, need_weights=False)[0]


class _TimeFeedForward(nn.Module):
    """x + linear, three grouped convolutions over time, linear; x is (B * F, L, H)."""

    def __init__(self, hidden: int, inner: int, kernel: int, groups: int):
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.expand = nn.Linear(hidden, inner)
        self.convs = nn.ModuleList(
            nn.Conv1d(inner, inner, kernel, padding=kernel // 2, groups=groups) for _ in range(3)
        )
        self.inner_norm = MaskedGroupNorm(groups, inner)
        self.squeeze = nn.Linear(inner, hidden)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        y = F.silu(self.expand(self.norm(x))).transpose(1, 2)
        for i, conv in enumerate(self.convs):
            # A convolution must find zeros behind the end of an item, as it does where nothing is padded.
            y = conv(y if mask is None else y * mask[:, None])
            if i == 1:
                y = self.inner_norm(y, mask)
            y = F.silu(y)
        return x + self.squeeze(y.transpose(1, 2))


class _Blocks(nn.Module):
    """A cross-band block and the narrow-band block behind it."""

    def __init__(
        self, hidden: int, inner: int, squeezed: int, heads: int, kernels: tuple[int, int], groups: int
    ):
        super().__init__()
        over_frequency, over_time = kernels
        self.below = _FrequencyConv(hidden, over_frequency, groups)
        self.full = _FullBand(hidden, squeezed)
        self.above = _FrequencyConv(hidden, over_frequency, groups)
        self.attention = _TimeAttention(hidden, heads)
        self.feed_forward = _TimeFeedForward(hidden, inner, over_time, groups)

    def forward(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """(B, F, L, H) -> the same; ``mask`` is (B * F, L)."""
        x = self.above(self.full(self.below(x), weight, bias))
        bands = self.attention(x.flatten(0, 1), mask)
        return self.feed_forward(bands, mask).view_as(x)


class SpatialNet(ArraySeparator):
    """Complex spectra of the sources at the reference channel from those of all channels.

    Args:
        input_dim: number of frequencies F (ESPnet hands it over).
        num_spk: number of outputs.
        n_mics: number of microphones.
        ref_channel: the microphone at which the sources are estimated.
        streams: how many streams AuxIVA makes of the array: the network sees these, and a beamformer's for
            each, beside the microphones. 0: the microphones alone. Needs an STFT with half a window as hop.
        fs: rate in Hz, for the windows of AuxIVA.
        blocks: pairs of a cross-band and a narrow-band block (L in [1]; large: 12).
        hidden: channels between the blocks (large: 192).
        inner: channels inside the feed-forward layer (large: 384).
        squeezed: channels of the linear layer over all frequencies (large: 16).
        heads: of the attention.
        input_kernel: length over time of the first convolution, odd.
        freq_kernel, time_kernel: lengths of the grouped convolutions, odd.
        groups: of these convolutions and of the normalisation among them.
        output_init: factor on the last layer's initial weights. Small: with mixture consistency
            every output then starts near its share of the mixture, where MixIT can leave from.
        mixture_consistency: make the outputs sum to the reference channel.

    Raises:
        UserError: sizes that make no sense.
    """

    def __init__(
        self,
        input_dim: int,
        num_spk: int = 2,
        n_mics: int = 1,
        ref_channel: int = 0,
        streams: int = 0,
        fs: int = 8000,
        blocks: int = 8,
        hidden: int = 96,
        inner: int = 192,
        squeezed: int = 8,
        heads: int = 4,
        input_kernel: int = 5,
        freq_kernel: int = 5,
        time_kernel: int = 3,
        groups: int = 8,
        output_init: float = 0.1,
        mixture_consistency: bool = True,
    ):
        super().__init__(num_spk, n_mics, ref_channel, mixture_consistency)
        if not 0 <= streams <= n_mics or fs < 1:
            raise UserError(
                f"separator_conf: expected streams of 0 to n_mics ({n_mics}) and fs in Hz, found {streams} "
                f"and {fs}"
            )
        if hidden % heads:
            raise UserError(f"separator_conf: heads ({heads}) must divide hidden ({hidden})")
        if hidden % groups or inner % groups:
            raise UserError(
                f"separator_conf: groups ({groups}) must divide hidden ({hidden}) and inner ({inner})"
            )
        for name, kernel in [
            ("input_kernel", input_kernel), ("freq_kernel", freq_kernel), ("time_kernel", time_kernel)
        ]:  # fmt: skip
            if kernel % 2 == 0:
                raise UserError(f"separator_conf: {name} must be odd, found {kernel}")
        self.n_freqs, self.streams, self.fs = input_dim, streams, fs
        self.input = nn.Conv1d(2 * (n_mics + 2 * streams), hidden, input_kernel, padding=input_kernel // 2)
        # Started as nn.Linear starts, one layer for each squeezed channel.
        bound = input_dim**-0.5
        self.full_weight = nn.Parameter(torch.empty(squeezed, input_dim, input_dim).uniform_(-bound, bound))
        self.full_bias = nn.Parameter(torch.empty(squeezed, input_dim, 1).uniform_(-bound, bound))
        self.blocks = nn.ModuleList(
            _Blocks(hidden, inner, squeezed, heads, (freq_kernel, time_kernel), groups) for _ in range(blocks)
        )
        self.output = nn.Linear(hidden, 2 * num_spk)
        with torch.no_grad():
            self.output.weight.mul_(output_init)
            self.output.bias.zero_()

    def forward(
        self, input: torch.Tensor, ilens: torch.Tensor, additional: dict | None = None
    ) -> tuple[list[torch.Tensor], torch.Tensor, OrderedDict]:
        """Separate an STFT.

        Args:
            input: complex ``(B, L, C, F)``, or ``(B, L, F)`` of one microphone.
            ilens: ``(B,)`` frames of each item; what follows them is padding. The frames before
                are the same (to rounding) whatever the padding.
            additional: not used.

        Returns:
            ``num_spk`` complex ``(B, L, F)``, zero in the padding; ``ilens``; an empty dict.

        Raises:
            UserError: wrong number of channels or frequencies.
        """
        spectrum = all_channels(input, self.n_mics, self.n_freqs)
        mask = frame_mask(ilens, spectrum.shape[1], spectrum.device)
        if mask is not None:
            spectrum = spectrum * mask[:, :, None, None]
        reference = spectrum[:, :, self.ref_channel]
        level = level_of(torch.view_as_real(reference).square(), ilens).sqrt()[:, None, None, None]
        # The biases answer a silent input too: its outputs are set to zero.
        audible = (reference.abs().amax(dim=(1, 2)) > 0)[:, None, None, None]
        seen = torch.cat([spectrum, *self._streams(spectrum, ilens, mask)], 2)
        outputs = self._separate(seen / level, mask) * level * audible
        if self.mixture_consistency:
            outputs = mixture_consistency(reference, outputs)
        if mask is not None:
            outputs = outputs * mask[:, None, :, None]
        return list(outputs.unbind(1)), ilens, OrderedDict()

    def _streams(
        self, spectrum: torch.Tensor, ilens: torch.Tensor, mask: torch.Tensor | None
    ) -> list[torch.Tensor]:
        """What the array makes of (B, L, C, F): (B, L, 2 * streams, F), zero in the padding; or nothing."""
        if not self.streams:
            return []
        if mask is None:
            return [self._array(spectrum)]
        made = [self._array(one[None, :n]) for one, n in zip(spectrum, ilens.tolist(), strict=True)]
        return [torch.cat([F.pad(x, (0, 0, 0, 0, 0, spectrum.shape[1] - x.shape[1])) for x in made])]

    @torch.no_grad()
    def _array(self, spectrum: torch.Tensor) -> torch.Tensor:
        """(B, L, C, F) to the streams of AuxIVA and of beamformers, (B, L, 2 * streams, F)."""
        n_fft = 2 * (self.n_freqs - 1)
        hop = n_fft // 2
        # Covariances in half precision, which ESPnet's use_amp would compute, are nearly singular.
        with torch.autocast(spectrum.device.type, enabled=False):
            bins = F.pad(spectrum.permute(0, 2, 3, 1), (0, max(0, 2 - spectrum.shape[1])))  # at least a hop
            mixture = istft(bins, n_fft, hop, (bins.shape[-1] - 1) * hop, 1.0)
            array = ArrayStreams(mixture, self.streams, *frames(self.fs, WINDOW_S, 4), self.ref_channel)
            demixed, _ = array.blind(starts=TRAINING_STARTS if self.training else STARTS)
            streams = torch.cat([demixed, array.beamformed(demixed)], 1)
            return stft(streams, n_fft, hop, 1.0).permute(0, 3, 1, 2)[:, : spectrum.shape[1]]

    def _separate(self, spectrum: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """(B, L, C, F) of unit level, zero in the padding -> (B, M, L, F)."""
        parts = torch.cat([spectrum.real, spectrum.imag], dim=2).permute(0, 3, 2, 1)  # (B, F, 2C, L)
        x = self.input(parts.flatten(0, 1)).transpose(1, 2).unflatten(0, parts.shape[:2])
        bands = None if mask is None else mask.repeat_interleave(self.n_freqs, dim=0)
        for block in self.blocks:
            x = block(x, self.full_weight, self.full_bias, bands)
        x = self.output(x).unflatten(-1, (self._num_spk, 2)).permute(0, 3, 2, 1, 4)
        return torch.view_as_complex(x.float().contiguous())
