"""Which devices there are, and whether one computes in bfloat16. PyTorch is imported when this is asked."""

import functools
import re

from frontend.utils.errors import UserError


@functools.cache
def computes_in_bfloat16(device_type: str) -> bool:
    """Say whether ``cpu`` or ``cuda`` has the instructions; PyTorch emulates missing ones, slowly.

    Where they are, they train a convolution stack faster than float32.
    """
    import torch

    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def check_gpu(ngpu: int) -> None:
    """Raise UserError unless there are as many GPUs as ``--ngpu`` asks for."""
    import torch

    found = torch.cuda.device_count()
    if ngpu > found:
        raise UserError(
            f"--ngpu {ngpu}: expected so many CUDA devices, torch finds {found} "
            "(give --ngpu 0 to compute on the CPU)"
        )


def check_device(device: str, blind: str | None = None) -> None:
    """Raise UserError unless torch can compute on ``device``: ``cpu``, ``cuda``, ``cuda:1``.

    ``blind`` is the name of a blind method that is to compute there: these compute on the CPU alone.
    """
    if blind and device != "cpu":
        raise UserError(
            f"expected the device cpu, where {blind} computes, found '{device}' (leave --device out)"
        )
    if device == "cpu":
        return
    if not re.fullmatch("cuda(:(0|[1-9][0-9]*))?", device):
        raise UserError(f"expected a device, cpu, cuda or cuda:1, found '{device}'")
    import torch

    if int(device.partition(":")[2] or 0) >= (found := torch.cuda.device_count()):
        raise UserError(f"device '{device}' asked for, found {found} CUDA device(s)")
