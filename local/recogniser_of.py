"""Check a recogniser that run.sh was given, before the long work, and print what identifies it.

usage: recogniser_of.py (--asr_exp DIR | --asr_model TAG) SCENES.yaml DECODE.yaml

Prints a hash of its files and of those that the search needs. Exit code 2 and one line where it is no
recogniser, or one of another sampling rate than the scenes.
"""

import sys

from frontend.recognition.model import describe
from frontend.utils.errors import run
from frontend.utils.files import read_settings


def main() -> None:
    kind, name, scenes, search = sys.argv[1:]
    asr, tag = (None, name) if kind == "--asr_model" else (name, None)
    print(describe(asr, tag, search, read_settings(scenes, "scenes")["fs"], scenes))


if __name__ == "__main__":
    run(main)
