"""Room impulse responses: image sources by pyroomacoustics, kept on disk by geometry alone."""

import hashlib
import json
import math
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyroomacoustics

from frontend.simulation.config import SPEED_OF_SOUND
from frontend.utils.errors import UserError
from frontend.utils.files import atomic_file

# Raised whenever the same geometry gives other impulse responses: old files of the cache are then not found.
VERSION = 1
# Images later than this multiple of the nominal T60 are left out. The diamond of image rooms that
# reaches T60 everywhere has corners far beyond it: most of the work, and inaudible.
_LATEST = 1.15
_DIRECT_S = 0.0025  # the direct sound is what arrives within this time of distance / c


class Rirs(NamedTuple):
    """Impulse responses of one scene; time 0 is the moment of emission.

    Attributes:
        filters: ``(S, C, L)`` float32.
        t60: measured at the reference channel, mean over the talkers, seconds; 0 if anechoic.
        drr_db: ``(S,)`` direct-to-reverberant ratio at the reference channel; infinite if anechoic.
    """

    filters: np.ndarray
    t60: float
    drr_db: np.ndarray


def geometry(scene: dict) -> dict:
    """Return the part of a scene that its impulse responses depend on."""
    places = [talker["position"] for talker in scene["talkers"]]
    return {
        "fs": scene["fs"],
        "room": scene["room"],
        "t60": scene["t60"],
        "mics": scene["mics"],
        "talkers": places,
    }


def rirs_of(scene: dict, cache: str | Path | None = None) -> Rirs:
    """Return the impulse responses of a scene, from ``cache`` where they are known.

    Args:
        scene: as in :mod:`frontend.simulation.scenes`.
        cache: directory of ``.npz`` files, one a geometry, or None to compute always.

    Raises:
        UserError: a damaged file in the cache.
    """
    if cache is None:
        return compute_rirs(scene)
    path = rirs_path(scene, cache)
    if not path.exists():
        rirs = compute_rirs(scene)
        with atomic_file(path) as part, open(part, "wb") as stream:
            np.savez(stream, **rirs._asdict())
        return rirs
    return load_rirs(path)


def rirs_path(scene: dict, cache: str | Path) -> Path:
    """Return the file of ``cache`` that holds the impulse responses of a scene, or will."""
    key = json.dumps([VERSION, pyroomacoustics.__version__, geometry(scene)], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    return Path(cache) / digest[:2] / f"{digest}.npz"


def load_rirs(path: str | Path) -> Rirs:
    """Read a file of the cache.

    Raises:
        UserError: it is damaged.
    """
    try:
        with np.load(path) as kept:
            return Rirs(kept["filters"], float(kept["t60"]), kept["drr_db"])
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: damaged file in the RIR cache ({error}); delete it") from None


def compute_rirs(scene: dict) -> Rirs:
    """Compute the impulse responses of a scene by the image source method (Allen & Berkley 1979)."""
    # One thread: the sum over images is then made in one order, whatever the machine.
    pyroomacoustics.constants.set("num_threads", 1)
    pyroomacoustics.constants.set("c", SPEED_OF_SOUND)
    fs, t60 = scene["fs"], scene["t60"]
    absorption, order = pyroomacoustics.inverse_sabine(t60, scene["room"]) if t60 else (1.0, 0)
    room = pyroomacoustics.ShoeBox(
        scene["room"], fs=fs, materials=pyroomacoustics.Material(absorption), max_order=order
    )
    mics = np.array(scene["mics"])  # (C, 3)
    room.add_microphone_array(mics.T)
    for talker in scene["talkers"]:
        room.add_source(talker["position"])
    room.image_source_model()
    latest = max(_LATEST * t60, math.hypot(*scene["room"]) / SPEED_OF_SOUND)  # the direct sound always
    for number, source in enumerate(room.sources):
        to_reference = np.linalg.norm(source.images - mics[:1].T, axis=0)
        room.visibility[number][:, to_reference > latest * SPEED_OF_SOUND] = 0
    room.compute_rir()
    # Fractional delays are filters centred at this sample; we start at the emission.
    lead = pyroomacoustics.constants.get("frac_delay_length") // 2
    # A length that does not depend on the microphones keeps microphone 0 the same whatever the others.
    length = math.ceil(latest * fs) + lead
    filters = np.zeros((len(scene["talkers"]), len(mics), length), np.float32)
    for channel, per_mic in enumerate(room.rir):
        for number, response in enumerate(per_mic):
            kept = response[lead : lead + length]
            filters[number, channel, : len(kept)] = kept
    return _measured(filters, scene)


def _measured(filters: np.ndarray, scene: dict) -> Rirs:
    places = np.array([talker["position"] for talker in scene["talkers"]])
    distances = np.linalg.norm(places - np.array(scene["mics"][0]), axis=1)
    if not scene["t60"]:
        return Rirs(filters, 0.0, np.full(len(places), np.inf))
    reference = filters[:, 0].astype(np.float64)
    times = [measure_t60(response, scene["fs"]) for response in reference]
    ratios = [
        direct_to_reverberant(h, distance, scene["fs"])
        for h, distance in zip(reference, distances, strict=True)
    ]
    return Rirs(filters, float(np.mean(times)), np.array(ratios))


def measure_t60(response: np.ndarray, fs: int) -> float:
    """Return the reverberation time of an impulse response in seconds (ISO 3382's T20).

    A line is fitted to the energy decay curve (Schroeder 1965) from -5 to -25 dB: low enough
    to be free of the direct sound, high enough not to see where the response was cut off.

    Args:
        response: ``(L,)``.
        fs: Hz.

    Returns:
        0 where the decay falls through that range at once: nearly anechoic.
    """
    decay = np.cumsum(response[::-1] ** 2)[::-1]
    decay_db = 10 * np.log10(np.maximum(decay / decay[0], 1e-12))
    inside = (decay_db <= -5) & (decay_db >= -25)
    if inside.sum() < 2:
        return 0.0
    time = np.flatnonzero(inside) / fs
    time_from_mean = time - time.mean()
    slope = np.sum(time_from_mean * decay_db[inside]) / np.sum(time_from_mean**2)
    return float(-60 / slope)


def direct_to_reverberant(response: np.ndarray, distance: float, fs: int) -> float:
    """Return the direct-to-reverberant energy ratio in dB.

    Args:
        response: ``(L,)``, time 0 at the emission.
        distance: metres from talker to microphone; the direct sound is within 2.5 ms of its delay.
        fs: Hz.
    """
    arrival = distance / SPEED_OF_SOUND * fs
    lowest, highest = max(0, round(arrival - _DIRECT_S * fs)), round(arrival + _DIRECT_S * fs) + 1
    energy = response**2
    direct = energy[lowest:highest].sum()
    return float(10 * np.log10(direct / (energy.sum() - direct)))
