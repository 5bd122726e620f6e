"""Whether a device computes in bfloat16, which trains a convolution stack faster than float32."""

import functools

import torch


@functools.cache
def computes_in_bfloat16(device_type: str) -> bool:
    """Say whether ``cpu`` or ``cuda`` has the instructions; PyTorch emulates missing ones, slowly."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
