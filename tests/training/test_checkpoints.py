"""Models packed by version 0.1 load: registered names, settings and names of weights are those of then."""

import numpy as np
import pytest
import torch
import yaml
from espnet2.enh.separator.tfgridnetv2_separator import GridNetV2Block

from frontend.separation.model import Separator
from frontend.training.checkpoints import pack
from frontend.utils.errors import UserError

STFT = {"n_fft": 16, "hop_length": 8}
BLOCK = {
    "lstm_hidden_units": 2,
    "attn_n_head": 1,
    "attn_approx_qk_dim": 8,
    "emb_dim": 4,
    "emb_ks": 2,
    "emb_hs": 2,
}
TASNET = {"filters": 4, "spatial_filters": 2, "kernel": 4, "bottleneck": 3, "hidden": 4, "skip": 3}
# Name -> what stood in config.yaml, and the shapes of the weights.
PACKED = {
    "mask_net": (
        {"channels": 2, "blocks": 1},
        {
            "stem.weight": (2, 7, 3, 6),
            "stem.bias": (2,),
            "blocks.0.norm.weight": (2,),
            "blocks.0.norm.bias": (2,),
            "blocks.0.conv.weight": (2, 2, 3, 3),
            "blocks.0.conv.bias": (2,),
            "blocks.0.activation.weight": (1,),
            "norm.weight": (2,),
            "norm.bias": (2,),
            "head.weight": (16, 2),
            "head.bias": (16,),
        },
    ),
    "safe_tfgridnet": (
        {"n_layers": 1, **BLOCK},
        {
            "conv.0.weight": (4, 4, 3, 3),
            "conv.0.bias": (4,),
            "conv.1.weight": (4,),
            "conv.1.bias": (4,),
            "deconv.weight": (4, 4, 3, 3),
            "deconv.bias": (4,),
        },
    ),
    "mc_conv_tasnet": (
        {"blocks": 1, "repeats": 1, **TASNET},
        {
            "spectral.weight": (4, 1, 4),
            "spatial.weight": (2, 2, 4),
            "norm.weight": (6,),
            "norm.bias": (6,),
            "bottleneck.weight": (3, 6, 1),
            "bottleneck.bias": (3,),
            "blocks.0.expand.weight": (4, 3, 1),
            "blocks.0.expand.bias": (4,),
            "blocks.0.activation_in.weight": (1,),
            "blocks.0.norm_in.weight": (4,),
            "blocks.0.norm_in.bias": (4,),
            "blocks.0.depthwise.weight": (4, 1, 3),
            "blocks.0.depthwise.bias": (4,),
            "blocks.0.activation_out.weight": (1,),
            "blocks.0.norm_out.weight": (4,),
            "blocks.0.norm_out.bias": (4,),
            "blocks.0.skip.weight": (3, 4, 1),
            "blocks.0.skip.bias": (3,),
            "activation.weight": (1,),
            "masks.weight": (8, 3, 1),
            "masks.bias": (8,),
            "decoder.weight": (4, 1, 4),
        },
    ),
}


def packed_then(folder, name):
    """Write a packed directory as version 0.1 did."""
    settings, shapes = PACKED[name]
    shapes = dict(shapes)
    if name == "safe_tfgridnet":  # whose blocks are ESPnet's
        block = GridNetV2Block(4, 2, 2, 9, 2, n_head=1, approx_qk_dim=8, activation="prelu", eps=1e-5)
        shapes |= {f"blocks.0.{key}": tuple(value.shape) for key, value in block.state_dict().items()}
    coder, conf = ("same", {}) if name == "mc_conv_tasnet" else ("stft", STFT)
    config = {
        "encoder": coder,
        "encoder_conf": conf,
        "separator": name,
        "separator_conf": {"n_mics": 2, "num_spk": 2, **settings},
        "decoder": coder,
        "decoder_conf": conf,
        "mask_module": "multi_mask",
        "mask_module_conf": {},
        "model_conf": {},
        "criterions": [
            {
                "name": "thresholded_snr",
                "conf": {"snr_max": 30},
                "wrapper": "thresholded_pit" if name == "mc_conv_tasnet" else "mixit",
                "wrapper_conf": {},
            }
        ],
        "init": None,
        "preprocessor": "crop" if name == "mc_conv_tasnet" else "mom",
        "preprocessor_conf": {"fs": 8000},
    }
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    torch.manual_seed(0)
    state = {f"separator.{key}": 0.5 + 0.1 * torch.randn(shape) for key, shape in shapes.items()}
    torch.save(state, folder / "model.pth")
    return state


@pytest.mark.parametrize("name", PACKED)
def test_a_model_packed_before_loads(tmp_path, name):
    state = packed_then(tmp_path / "old", name)
    separator = Separator.from_pretrained(tmp_path / "old")
    found = separator.model.state_dict()
    assert found.keys() == state.keys() and all(torch.equal(found[key], state[key]) for key in state)
    mixture = 0.1 * np.random.default_rng(0).standard_normal((2, 400)).astype(np.float32)
    streams = separator(mixture, 8000)
    assert streams.shape == (2, 400) and np.isfinite(streams).all()
    np.testing.assert_allclose(streams.sum(0), mixture[0], atol=1e-4)  # mixture consistency
    pack(tmp_path / "old", tmp_path / "again.zip")
    np.testing.assert_array_equal(Separator.from_pretrained(tmp_path / "again.zip")(mixture, 8000), streams)


def test_weights_of_another_network_do_not_load(tmp_path):
    state = packed_then(tmp_path / "old", "mask_net")
    torch.save({f"{key}s": value for key, value in state.items()}, tmp_path / "old/model.pth")
    with pytest.raises(UserError, match=r"weights do not fit .*missing separator\.stem\.weight"):
        Separator.from_pretrained(tmp_path / "old")
