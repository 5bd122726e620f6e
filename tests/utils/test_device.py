"""Which devices can be asked for."""

import pytest
import torch

from frontend.utils.device import check_device
from frontend.utils.errors import UserError


@pytest.mark.parametrize(
    "device", ["", "gpu", "mps", "xpu", "hip", "meta", "cpu:1", "cuda:", "cuda:01", "cuda:-1"]
)
def test_torch_alone_knows_other_devices(device):
    with pytest.raises(UserError, match=f"expected a device, cpu, cuda or cuda:1, found '{device}'"):
        check_device(device)


def test_as_many_gpus_as_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device in ("cpu", "cuda", "cuda:0", "cuda:1"):
        check_device(device)
    with pytest.raises(UserError, match="'cuda:2' asked for, found 2 CUDA device"):
        check_device("cuda:2")
    with pytest.raises(UserError, match="expected the device cpu, where ilrma computes, found 'cuda'"):
        check_device("cuda", "ilrma")
    check_device("cpu", "ilrma")
