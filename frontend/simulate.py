"""A scene made audible: images of the talkers, noise and their exact sum."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import fft

from frontend.errors import UserError
from frontend.noise import scene_noise
from frontend.rirs import Rirs

_PEAK = 0.9  # of full scale: nothing goes beyond
_GRID = 32768  # steps of 16-bit audio to full scale
_FRAME_S = 0.02  # for the level of speech
_ACTIVE_DB = -40.0  # relative to its loudest frame, an utterance's quieter frames are pauses


class Rendered(NamedTuple):
    """One mixture; all arrays are float32 on the 16-bit grid, full scale 1.0.

    Attributes:
        images: ``(S, C, T)``, the talkers as the microphones hear them.
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


def render(scene: dict, load_speech: Callable[[str], np.ndarray], rirs: Rirs) -> Rendered:
    """Render a scene.

    Levels: talker k has ``level_db`` relative to talker 1, by the power of the active frames of the
    images at the reference channel; the noise ``snr_db`` below the images' sum there; the mixture
    ``level_dbfs`` there. One scale for everything is lowered where a sample would exceed 0.9.

    Args:
        scene: as in :mod:`frontend.scenes`.
        load_speech: utterance id -> ``(T',)`` at the scene's rate.
        rirs: of this scene (:func:`frontend.rirs.rirs_of`).

    Raises:
        UserError: an utterance of another length than the scene says, or silent.
    """
    images = np.stack(
        [
            _image(scene, talker, load_speech, h)
            for talker, h in zip(scene["talkers"], rirs.filters, strict=True)
        ]
    )
    _set_levels(images, scene)
    noise = scene_noise(scene, load_speech)
    if scene["noise"]["kind"] != "none":
        power = np.mean(images[:, 0].sum(0) ** 2) / _positive(
            np.mean(noise[0] ** 2), scene, scene["noise"]["kind"]
        )
        noise *= np.sqrt(power * 10 ** (-scene["noise"]["snr_db"] / 10))
    mixture = images.sum(0) + noise
    scale = 10 ** (scene["level_dbfs"] / 20) / np.sqrt(np.mean(mixture[0] ** 2))
    peak = max(np.abs(mixture).max(), np.abs(images).max(), np.abs(noise).max())
    scale = min(scale, _PEAK / peak) * _GRID
    images, noise = np.rint(images * scale), np.rint(noise * scale)
    mixture = images.sum(0) + noise  # whole numbers: exact, also in float32
    t60 = round(rirs.t60, 3)
    drr = [round(float(value), 1) for value in rirs.drr_db]
    images, noise, mixture = ((x / _GRID).astype(np.float32) for x in (images, noise, mixture))
    return Rendered(images, noise, mixture, t60, drr)


def _image(scene: dict, talker: dict, load_speech: Callable, filters: np.ndarray) -> np.ndarray:
    """Return ``(C, T)``: the utterance through the filters ``(C, L)``, its tail cut at the mixture's end."""
    speech = np.asarray(load_speech(talker["utterance"]), np.float64)
    if len(speech) != talker["samples"]:
        raise UserError(
            f"scene {scene['id']}: utterance {talker['utterance']}: expected {talker['samples']} samples, "
            f"found {len(speech)}; make the scenes again from this speech set (frontend.bin.scenes)"
        )
    start = round(talker["offset"] * scene["fs"])
    room = min(scene["samples"] - start, len(speech) + filters.shape[-1] - 1)
    size = fft.next_fast_len(len(speech) + filters.shape[-1] - 1, real=True)
    heard = fft.irfft(fft.rfft(speech, size) * fft.rfft(filters.astype(np.float64), size), size)
    image = np.zeros((len(filters), scene["samples"]))
    image[:, start : start + room] = heard[:, :room]
    return image


def _set_levels(images: np.ndarray, scene: dict) -> None:
    """Scale the images in place, so that talker k has ``level_db`` and active power 1 is 0 dB."""
    for image, talker in zip(images, scene["talkers"], strict=True):
        power = _positive(active_power(image[0], scene["fs"]), scene, talker["utterance"])
        image *= np.sqrt(10 ** (talker["level_db"] / 10) / power)


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
