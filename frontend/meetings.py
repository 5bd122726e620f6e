"""A meeting made audible, block by block: memory does not grow with its length.

Each turn is convolved as a whole and added where it falls; whatever the size of the blocks, the samples are
the same. The noise is made in pieces of 10 s that are faded into each other with constant power.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import fft

from frontend.errors import UserError
from frontend.noise import scene_noise
from frontend.rirs import Rirs
from frontend.simulate import active_power

_PEAK = 0.9  # of full scale: nothing goes beyond
_GRID = 32768  # steps of 16-bit audio to full scale
_BLOCK_S = 20.0
_PIECE_S, _FADE_S = 10.0, 0.5  # of the noise

LoadSpeech = Callable[[str], np.ndarray]


class Block(NamedTuple):
    """A stretch of a meeting, float64.

    Attributes:
        images: ``(S, n)``, the talkers at the reference channel.
        heard: ``(C, n)``, the sum of their images at all channels.
        noise: ``(C, n)``.
        spoken: ``(n,)`` of bool, where somebody talks.
    """

    images: np.ndarray
    heard: np.ndarray
    noise: np.ndarray
    spoken: np.ndarray


def render_meeting(
    meeting: dict, load_speech: LoadSpeech, rirs: Rirs, block_s: float = _BLOCK_S
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield a meeting from its start to its end, in int16 on the grid of 16-bit audio.

    Levels: each turn has its talker's ``level_db`` (that of talker 1 is 0 dB), by the power of the active
    frames of its image at the reference channel; the noise is ``snr_db`` below 0 dB there; and where somebody
    talks the mixture has ``level_dbfs`` there. One scale for everything is lowered where a sample would
    exceed 0.9.

    Args:
        meeting: as in :mod:`frontend.meeting_scenes`.
        load_speech: utterance id -> ``(T',)`` at the meeting's rate.
        rirs: of this meeting (:func:`frontend.rirs.rirs_of`).
        block_s: length of the arrays, in seconds.

    Returns:
        pairs of mixture ``(C, n)`` and images ``(S, n)`` at the reference channel. There the mixture is
        exactly the sum of the images and the noise.

    Raises:
        UserError: an utterance of another length than the meeting says, or silent.
    """
    scale = _scale(meeting, blocks(meeting, load_speech, rirs, block_s)) * _GRID
    for block in blocks(meeting, load_speech, rirs, block_s):
        images = np.rint(block.images * scale)
        mixture = np.rint((block.heard + block.noise) * scale)
        mixture[0] = images.sum(0) + np.rint(block.noise[0] * scale)
        yield mixture.astype(np.int16), images.astype(np.int16)


def blocks(meeting: dict, load_speech: LoadSpeech, rirs: Rirs, block_s: float) -> Iterator[Block]:
    """Yield a meeting at its nominal levels, see :func:`render_meeting`."""
    fs, samples = meeting["fs"], meeting["samples"]
    noise = _Noise(meeting, load_speech)
    waiting = sorted(meeting["turns"], key=lambda turn: (turn["offset"], turn["talker"]))
    sounding: list[tuple[dict, int, np.ndarray]] = []  # turns, where they begin, their images (C, L)
    size = max(1, round(block_s * fs))
    for start in range(0, samples, size):
        stop = min(start + size, samples)
        while waiting and round(waiting[0]["offset"] * fs) < stop:
            turn = waiting.pop(0)
            filters = rirs.filters[turn["talker"]]
            sounding.append((turn, round(turn["offset"] * fs), _image(meeting, turn, load_speech, filters)))
        images, spoken = np.zeros((len(rirs.filters), stop - start)), np.zeros(stop - start, bool)
        heard = np.zeros((rirs.filters.shape[1], stop - start))
        for turn, begin, image in sounding:
            low, high = max(begin, start), min(begin + image.shape[1], stop)
            piece = image[:, low - begin : high - begin]
            heard[:, low - start : high - start] += piece
            images[turn["talker"], low - start : high - start] += piece[0]
            spoken[low - start : max(low, min(high, begin + turn["samples"])) - start] = True
        yield Block(images, heard, noise(start, stop), spoken)
        sounding = [(t, begin, image) for t, begin, image in sounding if begin + image.shape[1] > stop]


def _scale(meeting: dict, rendered: Iterator[Block]) -> float:
    """Return what the nominal levels are multiplied by, after a look at all of them."""
    energy, count, peak = 0.0, 0, 0.0
    for block in rendered:
        mixture = block.heard + block.noise
        energy += float(np.sum(mixture[0, block.spoken] ** 2))
        count += int(block.spoken.sum())
        peak = max(peak, float(np.abs(mixture).max()), float(np.abs(block.images).max()))
    return min(10 ** (meeting["level_dbfs"] / 20) / np.sqrt(energy / count), _PEAK / peak)


def _image(meeting: dict, turn: dict, load_speech: LoadSpeech, filters: np.ndarray) -> np.ndarray:
    """Return ``(C, L)``: a turn as the microphones hear it, from its emission to the end of its echo."""
    speech = np.asarray(load_speech(turn["utterance"]), np.float64)
    if len(speech) != turn["samples"]:
        raise UserError(
            f"meeting {meeting['id']}: utterance {turn['utterance']}: expected {turn['samples']} samples, "
            f"found {len(speech)}; make the meetings again from this speech set (frontend.bin.meetings)"
        )
    length = len(speech) + filters.shape[-1] - 1
    size = fft.next_fast_len(length, real=True)
    image = fft.irfft(fft.rfft(speech, size) * fft.rfft(filters.astype(np.float64), size), size)[:, :length]
    power = active_power(image[0], meeting["fs"])
    if not power > 0:
        raise UserError(
            f"meeting {meeting['id']}: {turn['utterance']} is silent; take it out of the speech set and make "
            "the meetings again"
        )
    level_db = meeting["talkers"][turn["talker"]]["level_db"]
    return image * np.sqrt(10 ** (level_db / 10) / power)


class _Noise:
    """The noise of a meeting, any stretch of it: ``snr_db`` below 0 dB.

    Independent pieces overlap by a fade whose squared weights sum to one, so that the level is constant.
    """

    def __init__(self, meeting: dict, load_speech: LoadSpeech):
        self.meeting, self.load = meeting, load_speech
        self.hop, self.fade = (max(1, round(s * meeting["fs"])) for s in (_PIECE_S, _FADE_S))
        self.channels, self.known = len(meeting["mics"]), {}
        # Voices of unit power, which are independent, sum to as many times that power.
        voices = len(meeting["noise"].get("utterances", [])) or 1
        self.gain = 10 ** (-meeting["noise"].get("snr_db", 0.0) / 20) / np.sqrt(voices)

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """Return samples ``[start, stop)``, ``(C, n)``."""
        out = np.zeros((self.channels, stop - start))
        if self.meeting["noise"]["kind"] == "none":
            return out
        first = max(0, (start - self.fade) // self.hop)
        needed = range(first, (stop - 1) // self.hop + 1)
        self.known = {k: self.known.get(k) for k in needed}
        for k in needed:
            if self.known[k] is None:
                self.known[k] = self._piece(k)
            begin, piece = k * self.hop, self.known[k]
            low, high = max(begin, start), min(begin + piece.shape[1], stop)
            if low < high:
                out[:, low - start : high - start] += piece[:, low - begin : high - begin]
        return out

    def _piece(self, number: int) -> np.ndarray:
        samples = self.hop + self.fade
        part = {**self.meeting, "id": f"{self.meeting['id']} noise {number}", "samples": samples}
        piece = self.gain * scene_noise(part, self.load)
        rise = np.sin(0.5 * np.pi * (np.arange(self.fade) + 0.5) / self.fade)
        if number:  # nothing precedes the first
            piece[:, : self.fade] *= rise
        piece[:, self.hop :] *= rise[::-1]  # the falling cosine
        return piece
