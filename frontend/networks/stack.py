"""The convolution stack of the networks on spectrograms: its blocks, and the precision they compute in."""

import contextlib

import torch
from torch import nn
from torch.nn import functional as F

from frontend.networks.base import MaskedGroupNorm
from frontend.utils.device import computes_in_bfloat16
from frontend.utils.errors import UserError, did_you_mean

# Frequencies per position of the stack. The stem's kernel sees one more on either side.
STRIDE = 4
_PRECISIONS = ("float32", "bfloat16", "auto")
# Power below -60 dB of the mean is floor: there the logarithm would show only rounding.
FLOOR = 1e-6


class _Slope(torch.autograd.Function):
    """PReLU with one slope. PyTorch's own backward took a third of a training step on a CPU."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, slope)
        return F.leaky_relu(x, float(slope))

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, slope = ctx.saved_tensors
        grad_slope = (grad * x.clamp_max(0)).sum(dtype=slope.dtype).reshape(slope.shape)
        return torch.ops.aten.leaky_relu_backward(grad, x, float(slope), False), grad_slope


class _PReLU(nn.PReLU):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.is_cuda else _Slope.apply(x, self.weight)


class Block(nn.Module):
    """x + PReLU(conv(norm(x))): pre-norm, for the post-norm stack collapsed in trials."""

    def __init__(self, channels: int, groups: int, dilation: tuple[int, int]):
        super().__init__()
        self.norm = MaskedGroupNorm(groups, channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.activation = _PReLU()

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """(B, K, L, Q) to the same; ``mask`` (B, L) is True where there is signal, None is everywhere."""
        return x + self.activation(self.conv(self.norm(x, mask)))


def check_precision(precision: str) -> None:
    """Raise UserError unless :func:`autocast` knows ``precision``."""
    if precision not in _PRECISIONS:
        raise UserError(
            f"separator_conf: precision must be one of {', '.join(_PRECISIONS)}, found {precision!r}"
            + did_you_mean(str(precision), _PRECISIONS)
        )


def autocast(precision: str, training: bool, device_type: str) -> contextlib.AbstractContextManager:
    """Return the context in which a convolution stack of that ``precision`` computes."""
    wanted = precision == "bfloat16"
    if precision == "auto":
        wanted = training and computes_in_bfloat16(device_type)
    return torch.autocast(device_type, dtype=torch.bfloat16) if wanted else contextlib.nullcontext()
