"""Speech by eSpeak NG: its voices as talkers, who says what, and the library itself, driven through ctypes.

The library, its voices and its dictionaries come with the ``espeakng-loader`` wheel; they are GPL-3 and
used by recipes alone. Constants and functions are those of eSpeak NG's ``speak_lib.h``.
"""

import _ctypes
import ctypes
import os
import tempfile
from dataclasses import dataclass

import numpy as np
from sentences import DIGITS, FS, sentence

from frontend.data.speech import normalise, trim
from frontend.dsp.resample import resample
from frontend.utils.errors import UserError
from frontend.utils.rng import generator

# Left out by name: no voice (whisper whisperf caleb), a croaking or raspy one (croak grandpa fast ian john
# "Mr serious" Tweaky), robots and echoes (robosoft* UniRobot anikaRobot Demonic announcer RicishayMax*),
# the Klatt synthesiser (klatt* Reed adam benjamin david edward* mike2), a cartoon child (zac), an accent of
# its own (Storm), and all but one of near-twins (steph2 steph3, iven2-4, Gene2, Henrique Hugo, miguel,
# AnxiousAndy).
FEMALE = "Alicia Andrea Annie anika aunty belinda f1 f2 f3 f4 f5 grandma linda shelby steph".split()
MALE = (
    "Alex Andy Denis Diogo Gene Jacky Lee Marco Mario Michael Mike Nguyen antonio boris ed gustave iven "
    "kaukovalta m1 m2 m3 m4 m5 m6 m7 m8 marcelo max michel norbert pablo paul pedro quincy rob robert "
    "sandro travis victor"
).split()

ACCENTS = {
    "gb": "gmw/en",
    "caribbean": "gmw/en-029",
    "scotland": "gmw/en-GB-scotland",
    "lancaster": "gmw/en-GB-x-gbclan",
    "midlands": "gmw/en-GB-x-gbcwmd",
    "rp": "gmw/en-GB-x-rp",
    "us": "gmw/en-US",
    "nyc": "gmw/en-US-nyc",
}
VOICES = {"train": 40, "dev": 8, "test": 8}  # talkers of each set

_SYNCHRONOUS, _DONT_EXIT = 2, 0x8000
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_CHARACTERS, _UTF8 = 1, 1
# At full volume a limiter inside espeak bends the waveform of the louder variants.
_QUIET = 30
_LONGEST_PATH = 120  # espeak keeps it in a buffer of 160 bytes, and falls back to another path beyond that

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Voice:
    """A talker: how :func:`synthesise` is to sound, and the id of the speaker."""

    speaker: str
    gender: str
    language: str
    variant: str
    rate: int
    pitch: int
    intonation: int


def draw_voices(seed: int, numbers: dict[str, int]) -> dict[str, list[Voice]]:
    """Draw the talkers of each set: half of them women, no variant in two sets.

    Args:
        seed: of the draw.
        numbers: talkers of each set; the first may use a variant with several accents, so that its
            number can exceed that of the variants left.

    Raises:
        UserError: more talkers than there are.
    """
    sets: dict[str, list[Voice]] = {name: [] for name in numbers}
    first = next(iter(numbers))
    for gender, variants in (("f", FEMALE), ("m", MALE)):
        wanted = {k: n // 2 if gender == "m" else n - n // 2 for k, n in numbers.items()}
        left = [variants[i] for i in generator(seed, gender, "variants").permutation(len(variants))]
        for name in [k for k in numbers if k != first] + [first]:
            take = len(left) if name == first else wanted[name]
            chosen, left = left[:take], left[take:]
            most = len(chosen) * (len(ACCENTS) if name == first else 1)
            if wanted[name] > most:
                raise UserError(
                    f"{name}: {numbers[name]} voices asked for, more than espeak-ng has (ask for fewer)"
                )
            sets[name] += [
                _draw_voice(seed, gender, chosen[i % len(chosen)], i // len(chosen))
                for i in range(wanted[name])
            ]
    return sets


def _draw_voice(seed: int, gender: str, variant: str, turn: int) -> Voice:
    """Return the ``turn``-th talker that is made from a variant; each has another accent."""
    accents = list(ACCENTS)
    accent = accents[generator(seed, variant, "accent").permutation(len(accents))[turn]]
    rng = generator(seed, variant, accent, "manner")
    return Voice(
        speaker=f"{variant.lower()}_{accent}",
        gender=gender,
        language=ACCENTS[accent],
        variant=variant,
        rate=int(rng.integers(105, 151)),
        pitch=int(rng.integers(35, 66)),
        intonation=int(rng.integers(35, 71)),
    )


@dataclass(frozen=True)
class SpokenSentence:
    """One utterance; :meth:`render` makes its audio."""

    id: str
    text: str
    spoken: str
    voice: Voice
    rate: int
    pitch: int
    fs: int = FS

    @property
    def speaker(self) -> str:
        """Id of the talker."""
        return self.voice.speaker

    def render(self) -> np.ndarray:
        """Return the speech ``(T,)`` at ``fs`` Hz, trimmed, at the common level."""
        voice = self.voice
        signal, fs = synthesise(
            self.spoken, voice.language, voice.variant, self.rate, self.pitch, voice.intonation
        )
        return normalise(trim(resample(signal, fs, self.fs), self.fs), self.fs)


def plan(seed: int, sizes: dict[str, int], fs: int = FS) -> dict[str, list[SpokenSentence]]:
    """Return the utterances of every set; the talkers of a set take turns."""
    voices = draw_voices(seed, VOICES)
    return {name: [_utterance(seed, voices[name], i, fs) for i in range(n)] for name, n in sizes.items()}


def _utterance(seed: int, voices: list[Voice], index: int, fs: int) -> SpokenSentence:
    turn, who = divmod(index, len(voices))
    # women come first in the list: alternate, so that a small set is balanced too
    voice = voices[who // 2 + (who % 2) * (len(voices) - len(voices) // 2)]
    key = f"{voice.speaker}-{turn:04d}"
    manner = generator(seed, key, "manner")
    text = sentence(generator(seed, key, "text"))
    return SpokenSentence(
        id=key,
        text=text,
        spoken=_with_pauses(text, generator(seed, key, "pauses")),
        voice=voice,
        rate=voice.rate + int(manner.integers(-10, 11)),
        pitch=voice.pitch + int(manner.integers(-5, 6)),
        fs=fs,
    )


def _with_pauses(text: str, rng: np.random.Generator) -> str:
    """Return what espeak is to read: lower case, and a comma, a short pause, after some of the digits."""
    words = text.split()
    if not set(words) <= set(DIGITS):
        return text.lower()
    pauses = rng.random(len(words)) < 0.3
    return " ".join(f"{w}," if p else w for w, p in zip(words, pauses, strict=True)).lower()


def synthesise(
    text: str, voice: str, variant: str = "", rate: int = 170, pitch: int = 50, intonation: int = 50
) -> tuple[np.ndarray, int]:
    """Speak ``text``; the result depends on nothing but the arguments.

    Args:
        text: lower-case English.
        voice: an accent, such as ``en-us`` of :data:`ACCENTS`.
        variant: a talker's voice such as ``f2``, a file of ``voices/!v``.
        rate: words per minute, 80 to 450.
        pitch: 0 to 100; 50 is the variant's own.
        intonation: 0 (monotone) to 100; 50 is the variant's own.

    Returns:
        samples ``(T,)`` float32 within ±1, and their rate in Hz.

    Raises:
        UserError: unknown voice, or the library does not work on this machine.
    """
    path, data = _wheel()
    if variant and not os.path.isfile(os.path.join(data, "voices", "!v", variant)):
        # espeak would speak with the plain voice
        raise UserError(f"{data}/voices/!v: no variant '{variant}' (see FEMALE and MALE)")
    settings, voice = (rate, pitch, intonation), f"{voice}+{variant}" if variant else voice
    if len(data) <= _LONGEST_PATH:
        return _speak(path, data, text, voice, settings)
    with tempfile.TemporaryDirectory() as directory:
        link = os.path.join(directory, "espeak-ng-data")
        os.symlink(data, link)
        return _speak(path, link, text, voice, settings)


def _wheel() -> tuple[str, str]:
    """Return where the wheel keeps the library and its data."""
    try:
        import espeakng_loader  # here, so that the other corpora do without it
    except ImportError:
        raise UserError("espeak needs the wheel espeakng-loader (pip install espeakng-loader)") from None
    return espeakng_loader.get_library_path(), espeakng_loader.get_data_path()


def _speak(path: str, data: str, text: str, voice: str, settings: tuple) -> tuple[np.ndarray, int]:
    # The phase of flutter lives on in the library from one utterance to the next, and neither
    # setting every parameter nor espeak_Initialize resets it: a fresh library for every utterance (0.3 ms).
    library = ctypes.CDLL(path)
    try:
        fs = library.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), _DONT_EXIT)
        if fs <= 0:
            raise UserError(
                f"{path}: espeak-ng does not start with its data in {data} (reinstall espeakng-loader)"
            )
        samples = _collect(library, text, voice, settings)
        library.espeak_Terminate()
    finally:
        _ctypes.dlclose(library._handle)
    _check_unloaded(path)
    return samples, fs


def _collect(library: ctypes.CDLL, text: str, voice: str, settings: tuple) -> np.ndarray:
    pieces: list[np.ndarray] = []

    def receive(samples, number, _events) -> int:
        if number:
            pieces.append(np.ctypeslib.as_array(samples, (number,)).copy())
        return 0

    callback = _Callback(receive)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise UserError(f"espeak-ng has no voice '{voice}' (see ACCENTS)")
    for parameter, value in zip((_RATE, _PITCH, _RANGE, _VOLUME), (*settings, _QUIET), strict=True):
        library.espeak_SetParameter(parameter, int(value), 0)
    # espeak_Initialize seeds the noise of breath with the time of day.
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    raw = text.encode()
    size = ctypes.c_size_t(len(raw) + 1)
    if library.espeak_Synth(raw, size, 0, _CHARACTERS, 0, _UTF8, None, None) != 0 or not pieces:
        raise UserError(f"espeak-ng could not speak '{text}' with voice '{voice}'")
    return np.concatenate(pieces).astype(np.float32) / 32768


def _check_unloaded(path: str) -> None:
    try:
        ctypes.CDLL(path, mode=os.RTLD_NOLOAD)
    except OSError:
        return
    raise UserError(f"{path}: stays in memory when closed, so speech would depend on what was spoken before")
