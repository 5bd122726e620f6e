"""Mixtures that no file holds: rendered from their scene whenever they are read.

In a virtual set (:mod:`frontend.virtual_set`) the entries of the ``.scp`` files are
``scene:SET/scenes.jsonl:ID:STREAM``, the stream being ``mix``, ``spk1`` ..., ``image1`` ... or ``noise``.
The line of that file says all that the audio depends on: the scene, and under ``virtual`` the dry
utterances (entry, fingerprint), the file of impulse responses and a digest of it all.

What is read is, bit for bit, what :mod:`frontend.simulate_set` writes for the same scene and a reader gets
back: :func:`frontend.simulate.render` makes whole numbers of 16 bits, so that no file format rounds them.
A part is a slice of the whole, for levels and noise are those of the whole mixture, and a transform of
another length would round differently. A process keeps the last mixtures it rendered: images are read right
after their mixture.
"""

import functools
import hashlib
import json
import re
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from frontend.audio import audio_file as _file_of
from frontend.audio import read_audio
from frontend.dry_speech import digest
from frontend.errors import UserError
from frontend.rirs import Rirs, load_rirs
from frontend.simulate import Rendered, render

_ENTRY = re.compile(r"scene:(.+?\.jsonl):(.+):(?:(mix|noise)|(spk|image)([1-9][0-9]*))")
_ID = re.compile(rb'\{"id": ("(?:[^"\\]|\\.)*")')
_AGAIN = "make the set again (frontend.bin.simulate --virtual)"
# One is enough for a mixture and its images; a mixture of 15 s, 16 kHz, 4 channels takes 15 MB.
_KEPT_MIXTURES = 2
_KEPT_UTTERANCES = 64
_KEPT_ROOMS = 64

# Where the last line that was found starts, by file: readers go through a set in order.
_cursor: dict[str, int] = {}


def make_entry(scenes: str | Path, name: str, stream: str) -> str:
    """Return the entry of a stream of the mixture ``name``."""
    return f"scene:{scenes}:{name}:{stream}"


class _Entry(NamedTuple):
    path: str
    name: str
    kind: str  # mix, noise, spk or image
    talker: int  # from 0, of the last two


def _parse(entry: str) -> _Entry:
    match = _ENTRY.fullmatch(entry)
    if not match:
        raise UserError(
            f"{entry}: expected scene:SET/scenes.jsonl:ID:STREAM, STREAM mix, spkK, imageK, noise"
        )
    path, name, whole, kind, number = match.groups()
    return _Entry(path, name, whole or kind, int(number or 1) - 1)


def audio_file(entry: str) -> Path:
    """Return the file of scenes that an entry names."""
    return Path(_parse(entry).path)


def stamp(entry: str) -> tuple[str]:
    """Return what changes if and only if the audio does.

    Raises:
        UserError: as :func:`audio_info`.
    """
    return (_record(entry)["virtual"]["digest"],)


def audio_info(entry: str) -> tuple[int, int, int]:
    """Return (channels, samples, fs in Hz) of what would be rendered, from the text alone.

    Raises:
        UserError: no such scene, one that was edited, or a file that it is made of is missing.
    """
    record = _record(entry)
    needed = [_file_of(dry) for dry, _ in record["virtual"]["speech"].values()]
    for path in (Path(record["virtual"]["rirs"]), *needed):
        if not path.exists():
            raise UserError(f"{path}: missing, {entry} is rendered from it; put it back, or {_AGAIN}")
    channels = 1 if _parse(entry).kind == "spk" else len(record["mics"])
    return channels, record["samples"], record["fs"]


def read(entry: str) -> tuple[np.ndarray, int]:
    """Return ``(C, T)`` float32, not to be written to, and the rate in Hz.

    Raises:
        UserError: as :func:`audio_info`; other dry speech than when the set was made.
    """
    path, name, kind, talker = _parse(entry)
    line = _find(path, name)
    fs, made = _checked(line, path, name)["fs"], _rendered(line)
    if kind in ("mix", "noise"):
        return (made.mixture if kind == "mix" else made.noise), fs
    # A set has as many tables as talkers at most: in a mixture of fewer, the others are silent.
    image = made.images[talker] if talker < len(made.images) else np.zeros_like(made.noise)
    return (image[:1] if kind == "spk" else image), fs


def made_from(scene: dict, speech: dict[str, tuple[str, str]], rirs: str) -> dict:
    """Return the key ``virtual`` of a scene's line.

    Args:
        scene: without the keys ``measured`` and ``virtual``.
        speech: the dry utterances in it, id -> (entry, fingerprint).
        rirs: file of its impulse responses.
    """
    sources = {"speech": {name: list(dry) for name, dry in sorted(speech.items())}, "rirs": str(rirs)}
    text = json.dumps([scene, sources], sort_keys=True)
    return {**sources, "digest": hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}


def _scene_of(record: dict) -> dict:
    return {key: value for key, value in record.items() if key not in ("measured", "virtual")}


def _record(entry: str) -> dict:
    """Return the checked line of ``scenes.jsonl`` that an entry names."""
    path, name = _parse(entry)[:2]
    return _checked(_find(path, name), path, name)


@functools.lru_cache(maxsize=8)
def _checked(line: bytes, path: str, name: str) -> dict:
    try:
        record = json.loads(line)
    except ValueError:
        raise UserError(f"{path}: scene {name}: not JSON; {_AGAIN}") from None
    sources = record.get("virtual")
    if sources is None:
        raise UserError(f"{path}: scene {name}: not of a virtual set; {_AGAIN}")
    if made_from(_scene_of(record), sources["speech"], sources["rirs"]) != sources:
        raise UserError(f"{path}: scene {name} was edited after the set was made; {_AGAIN}")
    return record


@functools.lru_cache(maxsize=_KEPT_MIXTURES)
def _rendered(line: bytes) -> Rendered:
    record = json.loads(line)
    sources = record["virtual"]
    speech = sources["speech"]
    return render(_scene_of(record), lambda name: _dry(*speech[name]), _room(sources["rirs"]))


@functools.lru_cache(maxsize=_KEPT_UTTERANCES)
def _dry(entry: str, fingerprint: str) -> np.ndarray:
    """Return the dry utterance ``(T,)``."""
    samples = read_audio(entry, finite=True)[0]
    if digest(samples) != fingerprint:
        raise UserError(f"{entry}: other samples than when the mixtures of it were drawn; {_AGAIN}")
    return samples[0]


@functools.lru_cache(maxsize=_KEPT_ROOMS)
def _room(path: str) -> Rirs:
    if not Path(path).exists():
        raise UserError(f"{path}: no such impulse responses; {_AGAIN}")
    return load_rirs(path)


def _find(path: str, name: str) -> bytes:
    """Return the line of a scene, from a file that is sorted by id, in a few reads and no memory.

    Nothing of the file is kept: it may be exchanged at any moment, and a worker starts at no cost.
    """
    try:
        with open(path, "rb") as file:
            file.seek(_cursor.get(path, 0))
            for _ in range(2):  # the one that was found last, or that after it
                start, line = file.tell(), file.readline()
                if _id(line) == name:
                    break
            else:
                start, line = _bisect(file, path, name)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{path}: no such file of scenes, {name} is rendered from it; {_AGAIN}") from None
    _cursor[path] = start
    return line


def _bisect(file: BinaryIO, path: str, name: str) -> tuple[int, bytes]:
    # Invariant: if the line is there, it starts at low or later, and before high; low starts a line.
    low, high = 0, file.seek(0, 2)
    while low < high:
        middle = (low + high) // 2
        file.seek(low if middle == low else middle - 1)
        if middle > low:
            file.readline()  # to the first line that starts at middle or later
        start = file.tell()
        if start >= high:
            high = middle
            continue
        line = file.readline()
        found = _id(line)
        if found is None:
            raise UserError(f"{path}: byte {start}: expected a scene, found something else; {_AGAIN}")
        if found == name:
            return start, line
        low, high = (start + len(line), high) if found < name else (low, middle)
    raise UserError(f"{path}: no scene '{name}' (or the file is not sorted by id); {_AGAIN}")


def _id(line: bytes) -> str | None:
    match = _ID.match(line)
    return json.loads(match[1]) if match else None
