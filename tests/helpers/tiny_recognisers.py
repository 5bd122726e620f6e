"""Tiny untrained recognisers, and a test set with words for them to get wrong."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny_models import FS, write

from frontend.data.audio import read_audio
from frontend.data.kaldi import write_scp, write_set

WORDS = ["ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX"]
TOKENS = ["<blank>", "<unk>", *WORDS, "<sos/eos>"]


def make_recogniser(
    folder: Path, fs: int = FS, ctc_weight: float = 1.0, seed: int = 0, sure: float = 20.0, **more: object
) -> Path:
    """Write a recogniser's training directory with random weights, which finds words in any noise."""
    from frontend.utils.espnet import asr

    config = {
        "token_list": TOKENS,
        "token_type": "word",
        "bpemodel": None,
        "init": None,
        "input_size": None,
        "frontend": "default",
        "frontend_conf": {"fs": fs, "n_fft": 128, "hop_length": 64, "n_mels": 10},
        "specaug": None,
        "specaug_conf": {},
        "normalize": "utterance_mvn",
        "normalize_conf": {},
        "model": "espnet",
        "model_conf": {"ctc_weight": ctc_weight},
        "encoder": "conformer",
        "encoder_conf": {"output_size": 8, "attention_heads": 2, "linear_units": 8, "num_blocks": 1},
        "decoder": None if ctc_weight == 1.0 else "transformer",
        "decoder_conf": {"attention_heads": 2, "linear_units": 8, "num_blocks": 1},
        "ctc_conf": {},
        **more,
    }
    torch.manual_seed(seed)
    model = asr.ASRTask.build_model(argparse.Namespace(**config)).float()
    model.ctc.ctc_lo.weight.data *= sure  # of itself: a random distribution is flat
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save(model.state_dict(), folder / "valid.loss.ave.pth")
    return folder


@pytest.fixture(scope="session")
def recognisers(tmp_path_factory) -> Path:
    """Directories of recognisers that tests share: ``asr`` (CTC alone), ``hybrid`` (CTC and attention)."""
    exp = tmp_path_factory.mktemp("recognisers")
    make_recogniser(exp / "asr")
    make_recogniser(exp / "hybrid", ctc_weight=0.5)
    return exp


def former_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights of a recogniser under the names that they have in ESPnet 202511."""
    new, old = "encoder.embed.out.", "encoder.embed.out.0."
    return {k if old in k else k.replace(new, old): weights for k, weights in state.items()}


def sees_padding(encoder: torch.nn.Module) -> bool:
    """Say whether what is beyond the end of an utterance has an influence within it."""
    features = torch.randn(2, 80, 10, generator=torch.Generator().manual_seed(0))
    changed = features.clone()
    changed[1, 60:] += 1
    with torch.no_grad():
        one, other = (encoder.eval()(x, torch.tensor([80, 60]))[0] for x in (features, changed))
    return not torch.equal(one[1, 5], other[1, 5])  # of the frames 20 to 26


def tones(n_samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Return ``(C, T)``: a tone of another pitch and level every 0.1 s, for words that differ."""
    rng = np.random.default_rng(seed)
    pieces = -(-n_samples // 800)
    pitch, level = rng.uniform(100, 3900, pieces).repeat(800), rng.uniform(0.01, 0.2, pieces).repeat(800)
    tone = (level * np.sin(2 * np.pi * np.cumsum(pitch) / FS))[:n_samples]
    return (tone + 0.001 * rng.standard_normal((channels, n_samples))).astype(np.float32)


def make_spoken(root: Path) -> None:
    """Write ``data`` (mixtures a, b of two talkers, c of one), ``speech`` (dry) and ``separated``."""
    tables: dict[str, dict] = {name: {} for name in ("wav", "spk1", "spk2", "text_spk1", "text_spk2")}
    dry, words, scenes = {}, {}, []
    for k, name in enumerate("abc"):
        images = [tones(6000 + 400 * k, 2, 10 * k + s) for s in range(2)]
        images[1] *= name != "c"
        talkers = []
        for s in range(2 if name != "c" else 1):
            utterance = f"s{s}-{name}"
            dry[utterance] = write(
                root / f"speech/{utterance}.wav", tones(5000 + 300 * k, 1, 100 + 10 * k + s)
            )
            words[utterance] = f"{WORDS[k]} {WORDS[k + s + 1]}"
            talkers.append({"speaker": f"s{s}", "utterance": utterance})
        parts = {"wav": sum(images), "spk1": images[0][:1], "spk2": images[1][:1]}
        for part, audio in parts.items():
            tables[part][name] = write(root / f"data/audio/{part}/{name}.wav", audio)
        for s in range(2):
            tables[f"text_spk{s + 1}"][name] = words.get(f"s{s}-{name}", "")
        scenes.append({"id": name, "talkers": talkers})
    named = {k if k.startswith("text") else f"{k}.scp": table for k, table in tables.items()}
    write_set(root / "data", named, records=scenes)
    write_scp(root / "speech/wav.scp", dry)
    write_scp(root / "speech/text", words)
    streams = {
        "mixture": [tables["wav"]] * 2,
        "oracle": [tables["spk1"], tables["spk2"]],
        "swapped": [tables["spk2"], tables["spk1"]],
        "model": [_noisy(root, tables[f"spk{k}"], k) for k in (1, 2)],
    }
    for system, rows in streams.items():
        for k, table in enumerate(rows, 1):
            write_scp(root / f"separated/{system}/spk{k}.scp", table)


def _noisy(root: Path, table: dict[str, str], k: int) -> dict[str, str]:
    """Return streams that are near the images and nowhere silent."""
    made = {}
    for name, entry in table.items():
        image = read_audio(entry)[0]
        noise = 0.02 * np.random.default_rng(k).standard_normal(image.shape)
        made[name] = write(root / f"separated/model/wav{k}/{name}.wav", (image + noise).astype(np.float32))
    return made
