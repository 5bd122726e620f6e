"""What was recognised before, by content: nothing is recognised twice, and a kill loses nothing.

``cache.jsonl`` is only ever appended to, one ``{"key": ..., "text": ...}`` a line. The key is a hash of the
recogniser's files, the search's options and the audio: what is found under it is true whatever has changed.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

# Changes when recognise.py gives other words for the same audio.
_VERSION = 1


def key_of(audio: np.ndarray, fs: int, recogniser: str) -> str:
    """Return the key of a stream.

    Args:
        audio: (T,) float32.
        fs: its rate in Hz.
        recogniser: hash of the recogniser's files and options.
    """
    digest = hashlib.sha256(f"{_VERSION} {recogniser} {fs} ".encode())
    digest.update(np.ascontiguousarray(audio, dtype="<f4").tobytes())
    return digest.hexdigest()


class Cache:
    """Texts by key, on disk at once.

    Args:
        path: the file; a line that a kill has cut is dropped.
    """

    def __init__(self, path: str | Path):
        self.path, self._texts = Path(path), {}
        for line in self.path.read_bytes().splitlines() if self.path.is_file() else ():
            try:
                entry = json.loads(line)
                self._texts[entry["key"]] = entry["text"]
            except (ValueError, KeyError, TypeError):
                continue  # cut off: recognised again

    def __contains__(self, key: str) -> bool:
        return key in self._texts

    def __getitem__(self, key: str) -> str:
        return self._texts[key]

    def add(self, texts: Mapping[str, str]) -> None:
        """Append texts by key, and see that they are written."""
        self._texts.update(texts)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab+") as file:
            lines = b"".join(json.dumps({"key": k, "text": t}).encode() + b"\n" for k, t in texts.items())
            file.write(lines if _ends_a_line(file) else b"\n" + lines)


def _ends_a_line(file) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
