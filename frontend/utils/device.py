"""Whether a device computes in bfloat16, which trains a convolution stack faster than float32."""

from __future__ import annotations

import argparse
import functools

import torch

from frontend.utils.errors import UserError


@functools.cache
def computes_in_bfloat16(device_type: str) -> bool:
    """Say whether ``cpu`` or ``cuda`` has the instructions; PyTorch emulates missing ones, slowly."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def check_gpu(args: argparse.Namespace) -> None:
    """Check that there are as many GPUs as ``--ngpu`` asks for.

    Raises:
        UserError: there are fewer.
    """
    if args.ngpu > torch.cuda.device_count():
        raise UserError(
            f"--ngpu {args.ngpu}: expected so many CUDA devices, torch finds {torch.cuda.device_count()} "
            "(give --ngpu 0 to train on the CPU)"
        )


def check_device(device: str) -> None:
    """Raise UserError unless torch can compute on ``device``."""
    try:
        kind = torch.device(device)
    except RuntimeError:
        raise UserError(f"expected a device such as cpu or cuda, found '{device}'") from None
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device '{device}' asked for, found {torch.cuda.device_count()} CUDA device(s)")
