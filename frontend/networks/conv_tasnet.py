"""Multi-channel Conv-TasNet: a spectral encoder for the reference, a spatial one across channels.

[1] J. Zhang, C. Zorila, R. Doddipatla, J. Barker, "On end-to-end multi-channel time domain speech
    separation in reverberant environments", ICASSP 2020, arXiv 2011.05958: the two encoders.
[2] Y. Luo, N. Mesgarani, "Conv-TasNet: surpassing ideal time-frequency magnitude masking for speech
    separation", IEEE/ACM TASLP 27(8), 2019: the temporal convolution network, Sec. II-C.

Use it with ESPnet's encoder and decoder ``same``. It needs far more training than a network on an
STFT before it separates anything; on a CPU take MaskNet.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

from frontend.networks.base import (
    ArraySeparator,
    MaskedGroupNorm,
    all_channels,
    frame_mask,
    level_of,
    mixture_consistency,
)
from frontend.utils.errors import UserError


class _Block(nn.Module):
    """One dilated depthwise-separable convolution block, Fig. 1(C) in [2]."""

    def __init__(self, bottleneck: int, hidden: int, skip: int, kernel: int, dilation: int, last: bool):
        super().__init__()
        self.expand = nn.Conv1d(bottleneck, hidden, 1)
        self.activation_in, self.norm_in = nn.PReLU(), MaskedGroupNorm(1, hidden)
        padding = dilation * (kernel - 1) // 2
        self.depthwise = nn.Conv1d(hidden, hidden, kernel, padding=padding, dilation=dilation, groups=hidden)
        self.activation_out, self.norm_out = nn.PReLU(), MaskedGroupNorm(1, hidden)
        # The last block's residual path would lead nowhere, and its weights never learn.
        self.residual = None if last else nn.Conv1d(hidden, bottleneck, 1)
        self.skip = nn.Conv1d(hidden, skip, 1)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.norm_in(self.activation_in(self.expand(x)), mask)
        y = self.norm_out(self.activation_out(self.depthwise(y)), mask)
        return (x if self.residual is None else x + self.residual(y)), self.skip(y)


class MCConvTasNet(ArraySeparator):
    """Masks on a learned encoding of the reference channel, from spectral and spatial encodings.

    Args:
        input_dim: not used (ESPnet hands it over).
        num_spk: number of outputs.
        n_mics: number of microphones; with one there is no spatial encoder, and this is [2].
        ref_channel: the microphone whose signal is encoded, masked and decoded.
        filters: number of filters of the spectral encoder (N in [2]).
        spatial_filters: of the spatial encoder, each as wide as all channels.
        kernel: filter length in samples, even (L in [2]); the hop is half of it.
        bottleneck, hidden, skip: channels of the stack (B, H, Sc in [2]).
        block_kernel: length of its depthwise convolutions, odd (P in [2]).
        blocks: blocks with dilations 1, 2, 4, ... in a repeat (X in [2]).
        repeats: number of repeats (R in [2]).
        mask_init: factor on the mask layer's initial weights; masks start near 1/num_spk.
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
        filters: int = 256,
        spatial_filters: int = 64,
        kernel: int = 20,
        bottleneck: int = 128,
        hidden: int = 256,
        skip: int = 128,
        block_kernel: int = 3,
        blocks: int = 8,
        repeats: int = 3,
        mask_init: float = 0.1,
        mixture_consistency: bool = True,
    ):
        super().__init__(num_spk, n_mics, ref_channel, mixture_consistency)
        if kernel % 2 or not block_kernel % 2:
            raise UserError(
                "separator_conf: kernel must be even and block_kernel odd, "
                f"found kernel {kernel} and block_kernel {block_kernel}"
            )
        self.kernel, self.hop = kernel, kernel // 2
        self.spectral = nn.Conv1d(1, filters, kernel, stride=self.hop, bias=False)
        self.spatial = (
            nn.Conv1d(n_mics, spatial_filters, kernel, stride=self.hop, bias=False) if n_mics > 1 else None
        )
        features = filters + (spatial_filters if n_mics > 1 else 0)
        self.norm = MaskedGroupNorm(1, features)
        self.bottleneck = nn.Conv1d(features, bottleneck, 1)
        total = repeats * blocks
        self.blocks = nn.ModuleList(
            _Block(bottleneck, hidden, skip, block_kernel, 2 ** (i % blocks), last=i == total - 1)
            for i in range(total)
        )
        self.activation = nn.PReLU()
        self.masks = nn.Conv1d(skip, num_spk * filters, 1)
        with torch.no_grad():
            self.masks.weight.mul_(mask_init)
            assert self.masks.bias is not None
            self.masks.bias.fill_(1 / num_spk)
        self.decoder = nn.ConvTranspose1d(filters, 1, kernel, stride=self.hop, bias=False)

    def forward(
        self, input: torch.Tensor, ilens: torch.Tensor, additional: dict | None = None
    ) -> tuple[list[torch.Tensor], torch.Tensor, OrderedDict]:
        """Separate waveforms.

        Args:
            input: ``(B, T, C)``, or ``(B, T)`` of one microphone.
            ilens: ``(B,)`` samples of each item; padding behind them changes nothing.
            additional: not used.

        Returns:
            ``num_spk`` tensors ``(B, T)``, zero in the padding; ``ilens``; an empty dict.

        Raises:
            UserError: wrong number of channels.
        """
        mixture = all_channels(input, self.n_mics)
        mask = frame_mask(ilens, mixture.shape[1], mixture.device)
        if mask is not None:
            mixture = mixture * mask[:, :, None]
        mixture = mixture.transpose(1, 2)  # (B, C, T)
        reference = mixture[:, self.ref_channel]
        level = level_of(reference.square(), ilens).sqrt()
        outputs = self._separate(mixture / level[:, None, None], ilens) * level[:, None, None]
        if self.mixture_consistency:
            outputs = mixture_consistency(reference, outputs)
        if mask is not None:
            outputs = outputs * mask[:, None]
        return list(outputs.unbind(1)), ilens, OrderedDict()

    def _separate(self, mixture: torch.Tensor, ilens: torch.Tensor) -> torch.Tensor:
        """(B, C, T) -> (B, M, T)."""
        length = mixture.shape[-1]
        # Every sample lies in two frames: one hop in front, and behind what fills the last frame.
        frames = -(-length // self.hop) + 1
        padded = F.pad(mixture, (self.hop, frames * self.hop - length))
        mask = frame_mask(-(-ilens // self.hop) + 1, frames, mixture.device)
        encoded = self.spectral(padded[:, self.ref_channel, None]).relu()
        features = encoded if self.spatial is None else torch.cat([encoded, self.spatial(padded)], dim=1)
        x = self.bottleneck(self.norm(features, mask))
        skips = 0
        for block in self.blocks:
            x, skip = block(x, mask)
            skips = skips + skip
        masks = self.masks(self.activation(skips)).relu().unflatten(1, (self._num_spk, -1))
        decoded = self.decoder((masks * encoded[:, None]).flatten(0, 1))
        return decoded.view(len(mixture), self._num_spk, -1)[..., self.hop : self.hop + length]
