"""Check a recogniser that run.sh was given, before the long work, and print what identifies it.

usage: recogniser_of.py (--asr_exp DIR | --asr_model TAG) SCENES.yaml DECODE.yaml

Prints a hash of its files and of those that the search needs. Exit code 2 and one line where it is no
recogniser, or one of another sampling rate than the scenes.
"""

import hashlib
import sys
from pathlib import Path

from frontend.recognition.model import (
    complete_options,
    find_in_zoo,
    find_recogniser,
    read_options,
    search_files,
)
from frontend.utils.errors import run
from frontend.utils.files import read_settings


def main() -> None:
    kind, name, scenes, search = sys.argv[1:]
    recogniser = find_in_zoo(name) if kind == "--asr_model" else find_recogniser(name)
    recogniser.check_rate(scenes, read_settings(scenes, "scenes")["fs"])
    needed = search_files(complete_options(read_options(search), recogniser, search))
    parts = [recogniser.fingerprint, *(hashlib.sha256(Path(p).read_bytes()).hexdigest() for p in needed)]
    print(hashlib.sha256(" ".join(parts).encode()).hexdigest())


if __name__ == "__main__":
    run(main)
