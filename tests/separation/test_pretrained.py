"""The model that comes with the package: what lies beside it, and what it is worth on voices new to it."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from recipes import ROOT, write_resolved

from frontend import PRETRAINED
from frontend.data.audio import read_audio
from frontend.data.mixtures import MixtureSet
from frontend.dsp.blind import separate_blind
from frontend.dsp.metrics import si_snr
from frontend.dsp.refine import refine
from frontend.separation.model import Separator

FS = 8000
# Overrides of the scenes of egs/any_array.
ROOMS = {
    "anechoic": ["t60=0"],
    "dry": ["t60=[0.1,0.15]", "room.length=[3,4]", "room.width=[3,4]", "talkers.distance=[0.6,1.2]"],
    "ordinary": ["t60=[0.2,0.4]"],
}


def test_it_is_small_and_has_a_card():
    assert sum(path.stat().st_size for path in PRETRAINED.iterdir()) < 2e6
    card = (PRETRAINED / "README.md").read_text()
    for heading in ("Data", "Licences", "Training", "Figures", "Limits"):
        assert f"## {heading}" in card


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Voices of the test set of egs/mini."""
    folder = tmp_path_factory.mktemp("pretrained")
    numbers = [word for name in ("train", "dev", "test") for word in (f"--{name}_utts", "16")]
    script = [
        sys.executable,
        ROOT / "egs/any_array/local/any_speech.py",
        "--out",
        folder / "speech",
        *numbers,
    ]
    script += ["--fs", str(FS), "--nj", "1"]
    subprocess.run(script, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    return folder / "speech/test"


def mixtures(speech, folder, command, *overrides):
    """Five mixtures of two talkers: recordings (C, T) and images (2, T)."""
    config = write_resolved(folder / "scenes.yaml", "any_array", "scenes", fs=FS)
    changes = [word for one in (*overrides, "talkers.one_talker_share=0") for word in ("--set", one)]
    scenes = folder / "scenes.jsonl"
    made = ["--scenes", scenes, "--speech", speech, "--out", folder / "set", "--nj", 1]
    draw = ["--config", config, *changes, "--speech", speech, "--num", 5, "--prefix", "m", "--out", scenes]
    for line in (["simulate", "scenes", *draw], ["simulate", "render", *made]):
        code, _, err = command(*line)
        assert code == 0, err
    found = MixtureSet(folder / "set")
    return [(read_audio(found.wav[key])[0], found.references(key)) for key in found.ids]


def gain(streams, images, mixture):
    orders = itertools.permutations(range(len(streams)))
    best = max(si_snr(images, streams[list(order)]).mean() for order in orders)
    return best - si_snr(images, np.stack([mixture[0]] * len(images))).mean()


@pytest.mark.parametrize("room", ROOMS)
def test_it_is_never_far_below_what_it_starts_from(room, speech, tmp_path, command):
    """Where there is no reverberation, masks cost what AuxIVA's own streams have; elsewhere they gain."""
    model = Separator.from_pretrained()
    gains = []
    for mixture, images in mixtures(speech, tmp_path, command, *ROOMS[room]):
        blind = separate_blind("auxiva", mixture, FS, 2, starts=8)
        masked = refine(torch.from_numpy(blind), torch.from_numpy(mixture), FS, "mask").numpy()
        gains.append([gain(streams, images, mixture) for streams in (model(mixture, FS), blind, masked)])
    ours, *others = np.mean(gains, 0)
    assert ours > max(others) - 0.5 and ours > 3, gains
