"""Tiny untrained networks, and a set to separate."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from frontend.data.kaldi import write_set

FS, MICS, OUTPUTS = 8000, 2, 3


def make_model(folder: Path, num_spk: int, n_mics: int = MICS, seed: int = 0) -> Path:
    """Write a training directory with random weights."""
    stft = {"n_fft": 128, "hop_length": 64}
    config = {
        "encoder": "stft",
        "encoder_conf": stft,
        "separator": "mask_net",
        "separator_conf": {"n_mics": n_mics, "num_spk": num_spk, "channels": 8, "blocks": 1},
        "decoder": "stft",
        "decoder_conf": stft,
        "mask_module": None,
        "mask_module_conf": {},
        "criterions": [{"name": "thresholded_snr", "conf": {}, "wrapper": "mixit", "wrapper_conf": {}}],
        "model_conf": {"flexible_numspk": True},
        "init": None,
        "preprocessor": "mom",
        "preprocessor_conf": {"fs": FS, "crop": 1.0},
        "output_dir": "/somewhere/else",
    }
    return _write_model(folder, config, 0.3, seed)  # far from equal masks


def make_any_array(folder: Path, fs: int = 16000) -> Path:
    """Write a training directory of a network for any array, with random weights."""
    criterion = {"name": "thresholded_snr", "conf": {}, "wrapper": "thresholded_pit", "wrapper_conf": {}}
    config = {
        **dict.fromkeys(("encoder", "decoder"), "same"),
        **dict.fromkeys(("encoder_conf", "decoder_conf", "mask_module_conf"), {}),
        "separator": "guided_net",
        "separator_conf": {"n_mics": 4, "num_spk": 2, "fs": fs, "channels": 4, "blocks": 1},
        "mask_module": None,
        "criterions": [criterion],
        "model_conf": {},
        "init": None,
        "preprocessor": "remix",
        "preprocessor_conf": {"fs": fs},
    }
    return _write_model(folder, config, 0.05)


def _write_model(folder: Path, config: dict, spread: float, seed: int = 0) -> Path:
    """Write a training directory of a network whose weights are ``spread`` around their initial values."""
    from frontend.training.task import FrontendTask, register  # ESPnet: 8 s, for who needs it

    register()
    torch.manual_seed(seed)
    model = FrontendTask.build_model(argparse.Namespace(**config))
    for parameter in model.separator.parameters():
        parameter.data += spread * torch.randn_like(parameter)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save(model.state_dict(), folder / "valid.loss.ave.pth")
    return folder


def recording(n_samples=6000, channels=MICS, seed=0, level=0.1) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((channels, n_samples))
    return (level * noise).clip(-1, 1).astype(np.float32)


def write(path: Path, data: np.ndarray, fs: int = FS, subtype: str = "PCM_16") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, data.T, fs, subtype=subtype)
    return str(path)


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """exp with a teacher of 3 outputs and a student of 2."""
    exp = tmp_path_factory.mktemp("exp")
    make_model(exp / "teacher", OUTPUTS)
    make_model(exp / "student", 2, seed=1)
    return exp


def make_data(out: Path) -> Path:
    """A labelled set of three 2-talker mixtures."""
    tables = {"wav": {}, "spk1": {}, "spk2": {}}
    for k, name in enumerate("abc"):
        images = [recording(4000 + 100 * k, seed=10 * k + s) for s in range(2)]
        parts = {"wav": sum(images), "spk1": images[0][:1], "spk2": images[1][:1]}
        for part, audio in parts.items():
            tables[part][name] = write(out / "audio" / part / f"{name}.wav", audio)
    write_set(out, {f"{part}.scp": table for part, table in tables.items()})
    return out


@pytest.fixture
def data(tmp_path) -> Path:
    """A labelled set of three 2-talker mixtures."""
    return make_data(tmp_path / "data")
