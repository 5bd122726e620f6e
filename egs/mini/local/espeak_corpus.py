"""Speech sets spoken by espeak-ng: who says what, and how it sounds."""

from dataclasses import dataclass

import numpy as np
from espeak import synthesise
from sentences import DIGITS, sentence
from speech import normalise, resample, trim
from voices import Voice, draw_voices

from frontend.utils.rng import generator

VOICES = {"train": 40, "dev": 8, "test": 8}


@dataclass(frozen=True)
class SpokenSentence:
    """One utterance; :meth:`render` makes its audio."""

    id: str
    text: str
    spoken: str
    voice: Voice
    rate: int
    pitch: int

    @property
    def speaker(self) -> str:
        """Id of the talker."""
        return self.voice.speaker

    def render(self) -> np.ndarray:
        """Return the speech ``(T,)`` at 8 kHz, trimmed, at the common level."""
        voice = self.voice
        signal, fs = synthesise(
            self.spoken, voice.language, voice.variant, self.rate, self.pitch, voice.intonation
        )
        return normalise(trim(resample(signal, fs)))


def plan(seed: int, sizes: dict[str, int]) -> dict[str, list[SpokenSentence]]:
    """Return the utterances of every set; the talkers of a set take turns."""
    voices = draw_voices(seed, VOICES)
    return {name: [_utterance(seed, voices[name], i) for i in range(n)] for name, n in sizes.items()}


def _utterance(seed: int, voices: list[Voice], index: int) -> SpokenSentence:
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
    )


def _with_pauses(text: str, rng: np.random.Generator) -> str:
    """Return what espeak is to read: lower case, and a comma, a short pause, after some of the digits."""
    words = text.split()
    if not set(words) <= set(DIGITS):
        return text.lower()
    pauses = rng.random(len(words)) < 0.3
    return " ".join(f"{w}," if p else w for w, p in zip(words, pauses, strict=True)).lower()
