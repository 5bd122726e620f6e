"""Normalisation that does not see padding."""

from __future__ import annotations

import torch
from torch import nn


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
