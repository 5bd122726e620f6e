"""A scene made audible: images of the talkers, noise, and their exact sum.

The noise is white, the babble of many far voices from everywhere, or recorded. Neither images nor noise of
channel 0 depend on how many channels there are.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import fft

from frontend.simulation.config import CROSSFADE_S, SPEED_OF_SOUND
from frontend.simulation.rirs import Rirs
from frontend.utils.errors import UserError
from frontend.utils.rng import generator

VERSION = 1

PEAK = 0.9  # of full scale: nothing goes beyond
GRID = 32768  # steps of 16-bit audio to full scale
_FRAME_S = 0.02  # for the level of speech
_ACTIVE_DB = -40.0  # relative to its loudest frame, an utterance's quieter frames are pauses
# At 0 Hz all microphones get the same: without a little of their own the coherence matrix has no root.
_LOADING = 1e-6

LoadSpeech = Callable[[str], np.ndarray]  # utterance id -> (T',) at the rate of the scene


class Rendered(NamedTuple):
    """One mixture; all arrays are float32 on the 16-bit grid, full scale 1.0.

    Attributes:
        images: ``(S, C, T)``, each talker at the microphones.
        noise: ``(C, T)``.
        mixture: ``(C, T)``, exactly ``images.sum(0) + noise``.
        t60: measured, seconds.
        drr_db: measured, one a talker.
    """

    images: np.ndarray
    noise: np.ndarray
    mixture: np.ndarray
    t60: float
    drr_db: list[float]


def render(scene: dict, load_speech: LoadSpeech, rirs: Rirs) -> Rendered:
    """Render a scene.

    Levels: talker k has ``level_db`` relative to talker 1, by the power of the active frames of the
    images at the reference channel; the noise ``snr_db`` below the images' sum there; the mixture
    ``level_dbfs`` there. One scale for everything is lowered where a sample would exceed 0.9.

    Args:
        scene: as in :mod:`frontend.simulation.scenes`.
        load_speech: utterance id -> ``(T',)`` at the scene's rate.
        rirs: of this scene (:func:`frontend.simulation.rirs.rirs_of`).

    Raises:
        UserError: an utterance of another length than the scene says, or silent.
    """
    talkers = zip(scene["talkers"], rirs.filters, strict=True)
    images = np.stack([_image(scene, talker, load_speech, filters) for talker, filters in talkers])
    noise = scene_noise(scene, load_speech)
    if scene["noise"]["kind"] != "none":
        power = np.mean(images[:, 0].sum(0) ** 2) / _positive(
            np.mean(noise[0] ** 2), scene, scene["noise"]["kind"]
        )
        noise *= np.sqrt(power * 10 ** (-scene["noise"]["snr_db"] / 10))
    mixture = images.sum(0) + noise
    scale = 10 ** (scene["level_dbfs"] / 20) / np.sqrt(np.mean(mixture[0] ** 2))
    peak = max(np.abs(mixture).max(), np.abs(images).max(), np.abs(noise).max())
    scale = min(scale, PEAK / peak) * GRID
    images, noise = np.rint(images * scale), np.rint(noise * scale)
    mixture = images.sum(0) + noise  # whole numbers: exact, also in float32
    images, noise, mixture = ((x / GRID).astype(np.float32) for x in (images, noise, mixture))
    drr_db = [round(float(value), 1) for value in rirs.drr_db]
    return Rendered(images, noise, mixture, round(rirs.t60, 3), drr_db)


def _image(scene: dict, talker: dict, load_speech: LoadSpeech, filters: np.ndarray) -> np.ndarray:
    """Return ``(C, T)``: a talker at the microphones, the tail cut at the mixture's end."""
    emitted = utterance_image(scene, talker, load_speech, filters)
    start = round(talker["offset"] * scene["fs"])
    length = min(scene["samples"] - start, emitted.shape[1])
    image = np.zeros((len(filters), scene["samples"]))
    image[:, start : start + length] = emitted[:, :length]
    power = _positive(active_power(image[0], scene["fs"]), scene, talker["utterance"])
    image *= np.sqrt(10 ** (talker["level_db"] / 10) / power)
    return image


def utterance_image(scene: dict, talker: dict, load_speech: LoadSpeech, filters: np.ndarray) -> np.ndarray:
    """Return ``(C, L)`` float64: an utterance through filters, from its emission to the end of its echo.

    Args:
        scene: for the messages.
        talker: with ``utterance`` and ``samples``.
        load_speech: utterance id -> ``(T',)``; ``L = T' + K - 1``.
        filters: ``(C, K)``, impulse responses to the microphones.

    Raises:
        UserError: the utterance has another length than ``samples``.
    """
    speech = np.asarray(load_speech(talker["utterance"]), np.float64)
    if len(speech) != talker["samples"]:
        raise UserError(
            f"scene {scene['id']}: utterance {talker['utterance']}: expected {talker['samples']} samples, "
            f"found {len(speech)}; make the scenes again from this speech set"
        )
    length = len(speech) + filters.shape[-1] - 1
    size = fft.next_fast_len(length, real=True)
    product = fft.rfft(speech, size) * fft.rfft(filters.astype(np.float64), size)
    return fft.irfft(product, size)[:, :length]


def _positive(power: float, scene: dict, who: str) -> float:
    if not power > 0:
        raise UserError(
            f"scene {scene['id']}: {who} is silent; take it out of the speech set and make scenes again"
        )
    return power


def active_power(signal: np.ndarray, fs: int) -> float:
    """Return the mean power of the frames of 20 ms that are no more than 40 dB below the loudest.

    Args:
        signal: ``(T,)``.
        fs: Hz.
    """
    frame = max(1, round(_FRAME_S * fs))
    padded = np.pad(signal, (0, -len(signal) % frame))
    power = np.mean(padded.reshape(-1, frame) ** 2, axis=1)
    return float(np.mean(power[power >= power.max() * 10 ** (_ACTIVE_DB / 10)]))


def scene_noise(scene: dict, load_speech: LoadSpeech) -> np.ndarray:
    """Return the noise of a scene, at no particular level.

    Args:
        scene: as in :mod:`frontend.simulation.scenes`.
        load_speech: called for babble, and for recorded noise by its ids.

    Returns:
        ``(C, T)`` float64; all channels of the same expected level; zeros for kind ``none``.
    """
    kind, samples, channels = scene["noise"]["kind"], scene["samples"], len(scene["mics"])
    if kind == "none":
        return np.zeros((channels, samples))
    if kind == "white":
        return np.stack([_rng(scene, "white", c).standard_normal(samples) for c in range(channels)])
    voices = [_unit_power(load_speech(name)) for name in scene["noise"]["utterances"]]
    if kind == "recorded":
        ring = _ring(voices, round(CROSSFADE_S * scene["fs"]))
        independent = np.stack([_recorded(scene, ring, c) for c in range(channels)])
    else:
        independent = np.stack([_babble(scene, voices, c) for c in range(channels)])
    return diffuse(independent, np.array(scene["mics"]), scene["fs"])


def _rng(scene: dict, *purpose: str | int) -> np.random.Generator:
    return generator(scene["seed"], scene["id"], *purpose)


def _unit_power(signal: np.ndarray) -> np.ndarray:
    signal = np.asarray(signal, np.float64)
    power = np.mean(signal**2)
    return signal / np.sqrt(power) if power > 0 else signal


def _babble(scene: dict, voices: list[np.ndarray], channel: int) -> np.ndarray:
    """Return all voices, each repeated from a place of its own in each channel.

    The same voices in every channel make channels of one spectrum, as a diffuse field has;
    other places make them independent.
    """
    starts = _rng(scene, "babble_start", channel).random(len(voices))
    turned = [np.roll(v, -int(start * len(v))) for v, start in zip(voices, starts, strict=True)]
    return sum((np.resize(v, scene["samples"]) for v in turned), np.zeros(scene["samples"]))


def _ring(pieces: list[np.ndarray], joint: int) -> np.ndarray:
    """Join recordings into a ring, ``(T,)``: each fades into the next over ``joint`` samples.

    The last fades into the first. The fades keep the power, since the recordings are independent.
    """
    joint = min(joint, min(map(len, pieces)) // 2)
    rise = np.sin(np.pi / 2 * (np.arange(joint) + 0.5) / max(joint, 1))
    ring, at = np.zeros(sum(map(len, pieces)) - joint * len(pieces)), 0
    for piece in pieces:
        faded = piece.copy()
        faded[:joint] *= rise
        faded[len(piece) - joint :] *= rise[::-1]
        # A piece alone overlaps itself, hence not by slices.
        np.add.at(ring, (at + np.arange(len(piece))) % len(ring), faded)
        at += len(piece) - joint
    return ring


def _recorded(scene: dict, ring: np.ndarray, channel: int) -> np.ndarray:
    """Return the ring from a place of its own in each channel, repeated where it is too short.

    One ring for all channels makes them of one spectrum, as a diffuse field has. The places are
    spread by the golden ratio: for eight channels, no two are nearer than 1/18 of the ring.
    """
    start = _rng(scene, "recorded_start").random() + channel * (np.sqrt(5) - 1) / 2
    return np.resize(np.roll(ring, -int(start % 1 * len(ring))), scene["samples"])


def diffuse(independent: np.ndarray, mics: np.ndarray, fs: int) -> np.ndarray:
    """Mix independent signals into a spherically isotropic sound field.

    The coherence of microphones i and j becomes ``sinc(2 f d_ij / c)`` with
    ``sinc(x) = sin(pi x) / (pi x)``: per frequency, the signals are multiplied by the Cholesky factor of
    that matrix (Habets & Gannot 2007). The factor is triangular, so channel 0 stays as it is.

    Args:
        independent: ``(C, T)``, of equal spectra.
        mics: ``(C, 3)`` in metres.
        fs: Hz.

    Returns:
        ``(C, T)`` float64.
    """
    channels, samples = independent.shape
    if channels == 1:
        return independent
    distance = np.linalg.norm(mics[:, None] - mics[None], axis=-1)  # (C, C)
    size = fft.next_fast_len(samples, real=True)
    frequency = np.arange(size // 2 + 1) * (fs / size)  # (F,)
    # The coherence is smooth in frequency: 257 factors, interpolated, serve all F.
    grid = np.linspace(0, fs / 2, 257)
    factor = _cholesky(np.sinc(2 * grid[:, None, None] * distance / SPEED_OF_SOUND))
    spectrum = fft.rfft(independent, size)  # (C, F)
    mixed = np.zeros_like(spectrum)
    for i in range(channels):
        for j in range(i + 1):
            mixed[i] += np.interp(frequency, grid, factor[:, i, j]) * spectrum[j]
    field = fft.irfft(mixed, size)[:, :samples]
    field[0] = independent[0]  # without the rounding of the two transforms
    return field


def _cholesky(coherence: np.ndarray) -> np.ndarray:
    """Return the lower factor of ``(F, C, C)`` coherences, rows of unit length."""
    channels = coherence.shape[-1]
    factor = np.linalg.cholesky(coherence + _LOADING * np.eye(channels))
    return factor / np.linalg.norm(factor, axis=-1, keepdims=True)
