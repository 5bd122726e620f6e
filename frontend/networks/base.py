"""What all separators share: input checks, the reference channel, masks of padding, mixture consistency.

Mixture consistency (outputs that sum to the mixture, exactly) is that of S. Wisdom et al., "Differentiable
consistency constraints for improved deep speech enhancement", ICASSP 2019, Sec. 3.2.
"""

from __future__ import annotations

import torch
from espnet2.enh.separator.abs_separator import AbsSeparator
from torch import nn

from frontend.utils.errors import UserError


class ArraySeparator(AbsSeparator):
    """A network with ``num_spk`` outputs for ``n_mics`` microphones; the base of all of ours.

    Args:
        num_spk: number of outputs.
        n_mics: number of microphones.
        ref_channel: the microphone that the outputs are images at.
        mixture_consistency: make the outputs sum to the reference channel.

    Raises:
        UserError: sizes that make no sense.
    """

    def __init__(self, num_spk: int, n_mics: int, ref_channel: int, mixture_consistency: bool):
        super().__init__()
        _check_sizes(num_spk, n_mics, ref_channel)
        self._num_spk, self.n_mics, self.ref_channel = num_spk, n_mics, ref_channel
        self.mixture_consistency = mixture_consistency

    @property
    def num_spk(self) -> int:
        """Number of outputs, under ESPnet's name; where outputs share all weights, it may be changed."""
        return self._num_spk

    @num_spk.setter
    def num_spk(self, number: int) -> None:
        self._num_spk = number


def _check_sizes(num_spk: int, n_mics: int, ref_channel: int) -> None:
    if num_spk < 1:
        raise UserError(f"separator_conf: num_spk must be at least 1, found {num_spk}")
    if n_mics < 1:
        raise UserError(f"separator_conf: n_mics must be at least 1, found {n_mics}")
    if not 0 <= ref_channel < n_mics:
        raise UserError(
            f"separator_conf: ref_channel must be one of 0..{n_mics - 1} (n_mics is {n_mics}), "
            f"found {ref_channel}"
        )


def all_channels(signal: torch.Tensor, n_mics: int, n_freqs: int | None = None) -> torch.Tensor:
    """Return ``signal`` with a channel axis at position 2, of exactly ``n_mics`` channels.

    Args:
        signal: ``(B, T, C)`` or ``(B, T)``; spectra ``(B, L, C, F)`` or ``(B, L, F)``.
        n_mics: the number of channels that the network was built for.
        n_freqs: the number of frequencies F that it was built for; None for waveforms.

    Raises:
        UserError: ``signal`` has another number of channels or frequencies.
    """
    if n_freqs and signal.shape[-1] != n_freqs:
        raise UserError(f"expected {n_freqs} frequencies (input_dim), found {signal.shape[-1]}")
    if signal.dim() == (3 if n_freqs else 2):
        signal = signal.unsqueeze(2)
    if signal.shape[2] != n_mics:
        raise UserError(
            f"expected {n_mics} channel(s), as the model was built for (n_mics), found {signal.shape[2]}: "
            "give it recordings of that array, or train a model for this one"
        )
    return signal


def frame_mask(ilens: torch.Tensor, length: int, device: torch.device) -> torch.Tensor | None:
    """Return ``(B, length)``, True within each item, or None where nothing is padded.

    None is the common case (training crops are all equally long), and spares the
    networks every multiplication by a mask.
    """
    if int(ilens.min()) >= length:
        return None
    return torch.arange(length, device=device) < ilens.to(device)[:, None]


def level_of(power: torch.Tensor, ilens: torch.Tensor) -> torch.Tensor:
    """Return the mean power ``(B,)`` of each item, 1 for a silent one.

    Dividing by it, or by its root, makes a network scale-equivariant at any level; silence
    stays silence, with finite gradients, and no epsilon shows at low levels.

    Args:
        power: ``(B, L, ...)``, zero behind ``ilens``.
        ilens: ``(B,)`` length of each item along L.
    """
    dims = tuple(range(1, power.dim()))
    count = ilens.to(power) * (power[0].numel() // power.shape[1])
    level = power.sum(dim=dims) / count
    return torch.where(level > 0, level, 1.0)


class MaskedGroupNorm(nn.GroupNorm):
    """Group normalisation of ``(B, K, L, ...)`` over K's group and all axes behind, padded frames left out.

    With one group this is the "global layer normalisation" of Conv-TasNet.
    """

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Normalise ``x``; ``mask`` is ``(B, L)``, True where there is signal, or None for everywhere.

        Masked frames come out as 0, which is what a convolution's own padding shows behind
        the end of an unpadded item: so the next layer cannot tell the two apart.
        """
        if mask is None:
            return super().forward(x)
        y = x.float().unflatten(1, (self.num_groups, -1))  # (B, G, K / G, L, ...)
        mask = mask.view(len(x), 1, 1, -1, *[1] * (x.dim() - 3))
        dims = tuple(range(2, y.dim()))
        count = mask.sum(dim=3, keepdim=True) * (y[0, 0].numel() // x.shape[2])
        mean = (y * mask).sum(dim=dims, keepdim=True) / count
        centred = (y - mean) * mask
        variance = centred.square().sum(dim=dims, keepdim=True) / count
        y = (centred * (variance + self.eps).rsqrt()).flatten(1, 2)
        shape = (-1, *[1] * (x.dim() - 2))
        return ((y * self.weight.view(shape) + self.bias.view(shape)) * mask[:, 0]).to(x.dtype)


def mixture_consistency(mixture: torch.Tensor, estimates: torch.Tensor) -> torch.Tensor:
    """Return the estimates nearest to ``estimates`` that sum to ``mixture``.

    What is missing, ``mixture - sum(estimates)``, is shared out evenly. Works on waveforms, spectrograms and,
    with a mixture of ones, on masks.

    Args:
        mixture: ``(B, ...)``, real or complex.
        estimates: ``(B, M, ...)``.

    Returns:
        ``(B, M, ...)``.
    """
    missing = (mixture - estimates.sum(dim=1)).unsqueeze(1)
    return estimates + missing / estimates.shape[1]
