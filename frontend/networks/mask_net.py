"""MaskNet: a small, fast mask network on spectral and inter-channel phase features.

The default on a CPU. A strided convolution folds four neighbouring frequencies into one position,
a stack of residual dilated convolutions looks around in time and frequency, and a 1x1 convolution
gives complex masks for the reference channel. Nothing in it depends on the level of the input, nor
on how far an item of the batch was padded.

With one microphone there is no direction that would tell which talker a position belongs to: what is left
is the voice, over all frequencies and seconds. So there the stack can have recurrent layers besides
(``recurrent_units``), each of which sees the whole frame and all frames before and after it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from frontend.dsp.spatial import phase_difference_features
from frontend.networks.base import (
    ArraySeparator,
    MaskedGroupNorm,
    all_channels,
    frame_mask,
    level_of,
    mixture_consistency,
)
from frontend.networks.stack import FLOOR, STRIDE, Block, autocast, check_precision
from frontend.utils.errors import UserError


class _WholeFrame(nn.Module):
    """x + what a recurrent layer, forward and backward in time, makes of all positions of the frames.

    The positions are squeezed to a few channels, or the layer would have as many inputs as there are channels
    times positions.
    """

    def __init__(self, channels: int, groups: int, n_positions: int, squeezed: int, units: int):
        super().__init__()
        self.norm = MaskedGroupNorm(groups, channels)
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.lstm = nn.LSTM(squeezed * n_positions, units, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * units, squeezed * n_positions)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        y = self.squeeze(self.norm(x, mask))
        shape = y.permute(0, 2, 1, 3).shape  # (B, L, squeezed, Q)
        frames = y.permute(0, 2, 1, 3).flatten(2)
        if mask is None:
            frames = self.lstm(frames)[0]
        else:  # the backward direction starts at each item's own end
            lengths = mask.sum(1).cpu()
            packed = pack_padded_sequence(frames, lengths, batch_first=True, enforce_sorted=False)
            frames = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=shape[1])[0]
        y = self.linear(frames).view(shape).permute(0, 2, 1, 3)
        return x + self.expand(y.contiguous(memory_format=torch.channels_last))


class MaskNet(ArraySeparator):
    """Complex masks on the reference channel from a small dilated convolution stack.

    Args:
        input_dim: number of frequencies F (ESPnet hands it over).
        num_spk: number of outputs.
        n_mics: number of microphones.
        ref_channel: the microphone that the masks apply to.
        channels: width of the stack.
        blocks: its number of residual blocks.
        freq_dilations: dilations over frequency positions, repeated over the blocks.
        time_dilations: dilations over frames, repeated over the blocks.
        recurrent_units: units a direction of the recurrent layer behind every block; 0: no such layers.
        recurrent_channels: channels that the positions are squeezed to before it.
        groups: groups of the normalisation.
        freq_embedding: add a learned vector per frequency position to the stem's output.
        compression: exponent of the magnitude in the real and imaginary features.
        mask_init: factor on the last layer's initial weights. Small: with masks that start
            noisy instead of near 1/num_spk, MixIT can be stuck at its empty assignment.
        mixture_consistency: make the outputs sum to the reference channel.
        precision: of the convolution stack: ``float32``, ``bfloat16``, or ``auto``, which is
            bfloat16 in training on a processor that computes in it (1.6 times faster) and
            float32 otherwise, so that a trained network separates alike on every machine.

    Raises:
        UserError: sizes that make no sense, or an unknown precision.
    """

    def __init__(
        self,
        input_dim: int,
        num_spk: int = 2,
        n_mics: int = 1,
        ref_channel: int = 0,
        channels: int = 48,
        blocks: int = 8,
        freq_dilations: Sequence[int] = (1, 2, 4),
        time_dilations: Sequence[int] = (1, 2, 4, 8),
        recurrent_units: int = 0,
        recurrent_channels: int = 8,
        groups: int = 1,
        freq_embedding: bool = False,
        compression: float = 0.5,
        mask_init: float = 0.1,
        mixture_consistency: bool = True,
        precision: str = "float32",
    ):
        super().__init__(num_spk, n_mics, ref_channel, mixture_consistency)
        check_precision(precision)
        if channels % groups:
            raise UserError(f"separator_conf: groups ({groups}) must divide channels ({channels})")
        self.n_freqs, self.compression = input_dim, compression
        self.precision = precision
        self.n_positions = -(-input_dim // STRIDE)
        # log-magnitude of the reference, two per phase difference, two per channel
        n_features = 1 + 2 * (n_mics - 1) + 2 * n_mics
        self.stem = nn.Conv2d(n_features, channels, (3, STRIDE + 2), stride=(1, STRIDE), padding=(1, 0))
        self.embedding = (
            nn.Parameter(torch.zeros(1, channels, 1, self.n_positions)) if freq_embedding else None
        )
        dilations = [
            (time_dilations[i % len(time_dilations)], freq_dilations[i % len(freq_dilations)])
            for i in range(blocks)
        ]
        self.blocks = nn.ModuleList()
        for dilation in dilations:
            self.blocks.append(Block(channels, groups, dilation))
            if recurrent_units:
                sizes = self.n_positions, recurrent_channels, recurrent_units
                self.blocks.append(_WholeFrame(channels, groups, *sizes))
        self.norm = MaskedGroupNorm(groups, channels)
        self.head = nn.Linear(channels, STRIDE * num_spk * 2)
        with torch.no_grad():
            self.head.weight.mul_(mask_init)
            self.head.bias.zero_()
        self.to(memory_format=torch.channels_last)

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
        masks = self._masks(self._features(spectrum, ilens, mask), mask)
        if self.mixture_consistency:
            # On the masks, which is the same as on their products with the mixture.
            ones = masks.new_tensor((1.0, 0.0)).expand(masks.shape[1:])
            masks = mixture_consistency(ones.unsqueeze(0), masks.unsqueeze(0)).squeeze(0)
        reference = spectrum[:, :, self.ref_channel]
        if mask is not None:
            reference = reference * mask[:, :, None]
        outputs = torch.view_as_complex(masks.contiguous()) * reference
        return list(outputs.unbind(0)), ilens, OrderedDict()

    def _features(
        self, spectrum: torch.Tensor, ilens: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """(B, L, C, F) complex -> (B, K, L, F), zero in the padding."""
        power = torch.view_as_real(spectrum).square().sum(-1)
        reference = power[:, :, self.ref_channel]
        if mask is not None:
            reference = reference * mask[:, :, None]
        level = level_of(reference, ilens)[:, None, None, None]
        power = power / level + FLOOR
        compressed = spectrum * (power ** ((self.compression - 1) / 2) * level.rsqrt())
        parts = [
            (power[:, :, self.ref_channel].log10() / 2 + 1.5).unsqueeze(2),
            compressed.real,
            compressed.imag,
        ]
        if self.n_mics > 1:
            parts += phase_difference_features(spectrum, self.ref_channel)
        features = torch.cat(parts, dim=2)
        if mask is not None:
            features = features * mask[:, :, None, None]
        return features.transpose(1, 2).contiguous(memory_format=torch.channels_last)

    def _masks(self, features: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """(B, K, L, F) -> real and imaginary parts of the masks, (M, B, L, F, 2)."""
        dtype = features.dtype
        # Left 1, right as needed: position q sees the four bins that it masks and one either side.
        right = STRIDE * (self.n_positions - 1) + STRIDE + 2 - self.n_freqs - 1
        with autocast(self.precision, self.training, features.device.type):
            x = self.stem(F.pad(features, (1, right)))
            if self.embedding is not None:
                x = x + self.embedding.to(x.dtype)
            for block in self.blocks:
                x = block(x, mask)
            x = self.head(self.norm(x, mask).permute(0, 2, 3, 1))
        x = x.to(dtype).unflatten(-1, (STRIDE, self._num_spk, 2))
        x = x.permute(4, 0, 1, 2, 3, 5).flatten(3, 4)[:, :, :, : self.n_freqs]
        return x + x.new_tensor((1 / self._num_spk, 0.0))
