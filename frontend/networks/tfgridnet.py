"""TF-GridNet for any array, made of ESPnet's blocks; registered as ``safe_tfgridnet``.

The blocks are those of ESPnet's second version: the first is the same network, slower (attention
heads one by one); the third takes one channel only. What its second version does around the blocks
is done here instead, since it divides by the deviation of the input (NaN on digital silence),
has no reference channel, and lets padding change the level and the result.

[1] Z.-Q. Wang et al., "TF-GridNet: integrating full- and sub-band modeling for speech separation",
    IEEE/ACM TASLP 31, 2023.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from frontend.networks.base import ArraySeparator, all_channels, level_of, mixture_consistency
from frontend.utils.errors import UserError
from frontend.utils.espnet import GridNetV2Block


class TFGridNet(ArraySeparator):
    """TF-GridNet on the STFT of all channels, mapping to the sources at the reference channel.

    Args:
        input_dim: number of frequencies F (ESPnet hands it over).
        num_spk: number of outputs.
        n_mics: number of microphones.
        ref_channel: the microphone at which the sources are estimated.
        n_layers: number of blocks.
        lstm_hidden_units, attn_n_head, attn_approx_qk_dim, emb_dim, emb_ks, emb_hs, activation,
        eps: of the blocks, as in ESPnet's ``tfgridnetv2``. ``emb_hs: 4`` (with ``emb_ks: 4``) is
            about four times faster than 1.
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
        n_layers: int = 6,
        lstm_hidden_units: int = 192,
        attn_n_head: int = 4,
        attn_approx_qk_dim: int = 512,
        emb_dim: int = 48,
        emb_ks: int = 4,
        emb_hs: int = 1,
        activation: str = "prelu",
        eps: float = 1.0e-5,
        output_init: float = 0.1,
        mixture_consistency: bool = True,
    ):
        super().__init__(num_spk, n_mics, ref_channel, mixture_consistency)
        if emb_dim % attn_n_head:
            raise UserError(f"separator_conf: attn_n_head ({attn_n_head}) must divide emb_dim ({emb_dim})")
        self.n_freqs = input_dim
        self.conv = nn.Sequential(
            nn.Conv2d(2 * n_mics, emb_dim, 3, padding=1), nn.GroupNorm(1, emb_dim, eps=eps)
        )
        self.blocks = nn.ModuleList(
            GridNetV2Block(
                emb_dim,
                emb_ks,
                emb_hs,
                input_dim,
                lstm_hidden_units,
                n_head=attn_n_head,
                approx_qk_dim=attn_approx_qk_dim,
                activation=activation,
                eps=eps,
            )
            for _ in range(n_layers)
        )
        self.deconv = nn.ConvTranspose2d(emb_dim, 2 * num_spk, 3, padding=1)
        with torch.no_grad():
            self.deconv.weight.mul_(output_init)
            assert self.deconv.bias is not None
            self.deconv.bias.zero_()

    def forward(
        self, input: torch.Tensor, ilens: torch.Tensor, additional: dict | None = None
    ) -> tuple[list[torch.Tensor], torch.Tensor, OrderedDict]:
        """Separate an STFT.

        Args:
            input: complex ``(B, L, C, F)``, or ``(B, L, F)`` of one microphone.
            ilens: ``(B,)`` frames of each item. Items of a batch of unequal lengths are
                separated one by one: the blocks' recurrence and attention over frames have
                no mask, so this alone keeps padding from changing the result.
            additional: not used.

        Returns:
            ``num_spk`` complex ``(B, L, F)``, zero in the padding; ``ilens``; an empty dict.

        Raises:
            UserError: wrong number of channels or frequencies.
        """
        spectrum = all_channels(input, self.n_mics, self.n_freqs)
        lengths, frames = ilens.tolist(), spectrum.shape[1]
        if min(lengths) >= frames:
            outputs = self._separate(spectrum, ilens)
        else:
            outputs = spectrum.new_zeros(len(spectrum), self._num_spk, frames, self.n_freqs)
            for i, length in enumerate(lengths):
                outputs[i, :, :length] = self._separate(spectrum[i : i + 1, :length], ilens[i : i + 1])[0]
        return list(outputs.unbind(1)), ilens, OrderedDict()

    def _separate(self, spectrum: torch.Tensor, ilens: torch.Tensor) -> torch.Tensor:
        """(B, L, C, F) without padding -> (B, M, L, F)."""
        reference = spectrum[:, :, self.ref_channel]
        level = level_of(torch.view_as_real(reference).square(), ilens).sqrt()[:, None, None, None]
        parts = (spectrum / level).transpose(1, 2)  # (B, C, L, F)
        x = self.conv(torch.cat([parts.real, parts.imag], dim=1))
        for block in self.blocks:
            x = block(x)
        # Sources outside, parts inside: the order in which ESPnet's network learns them.
        x = self.deconv(x).unflatten(1, (self._num_spk, 2)).movedim(2, -1)
        # The biases answer a silent input too: its outputs are set to zero.
        audible = (reference.abs().amax(dim=(1, 2)) > 0)[:, None, None, None]
        outputs = torch.view_as_complex(x.contiguous()) * level * audible
        return mixture_consistency(reference, outputs) if self.mixture_consistency else outputs
