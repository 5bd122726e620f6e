"""ESPnet's import: what takes most of its time is left out, and is there once it is asked for."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CODE = """
import sys
import numpy as np
from frontend.separation.model import Separator
from frontend.utils.espnet import Speech2Text, asr
print(Separator.from_pretrained(sys.argv[1])(np.zeros((2, 100)), 8000).shape)
late = ("g2p_en", "nltk", "inflect", "sklearn", "pandas", "torch._dynamo")
print("loaded:", *(name for name in late if hasattr(sys.modules.get(name), "__file__")))
"""
USE = """
import tacotron_cleaner.cleaners
from nltk.tokenize import TweetTokenizer
import nltk, typeguard
print(tacotron_cleaner.cleaners.english_cleaners("Dr. X"), TweetTokenizer().tokenize("a b"))
print(bool(nltk.__file__), typeguard.typechecked.__name__)
"""


def test_separating_and_recognising_load_no_modules_of_text(models):
    installed = importlib.util.find_spec("tacotron_cleaner")  # ESPnet 202611 does not install it
    done = subprocess.run(
        [sys.executable, "-c", CODE + USE if installed else CODE, models / "student"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[:2] == ["(2, 100)", "loaded:"]
    assert not installed or lines[2:] == ["doctor x ['a', 'b']", "True typechecked"]
