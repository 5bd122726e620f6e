"""Scenes: which room, array, talkers, levels and noise each mixture has; text, no audio.

A scene is a dictionary (one JSON line) with these keys; lengths are in metres from a corner of the room,
angles counter-clockwise:

``id, seed, fs, samples``
    ``samples`` is the length of the mixture (``max`` length mode: no talker is cut).
``room [x, y, z], t60``
    ``t60`` in seconds is nominal (Sabine); 0 is anechoic.
``array, mics [[x, y, z], ...]``
    kind of the array and its microphones; microphone 0 is the reference.
``talkers [{speaker, utterance, samples, position, level_db, offset}, ...]``
    level relative to talker 1 at the reference, offset in seconds.
``noise {kind, snr_db, utterances}, level_dbfs``
    utterances only for babble and recorded noise (of ``noise.scp``); ``level_dbfs`` is the mixture's level.

Each quantity has a generator of its own (:class:`frontend.simulation.ranges.Draw`); as in fgnt/mms_msg,
sampling is apart from rendering.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from frontend.data.speech import read_noises, read_speech
from frontend.simulation.arrays import ARRAY_KINDS, draw_array, place_microphones
from frontend.simulation.config import (
    CLEARANCE,
    CROSSFADE_S,
    NOISE_KINDS,
    SceneConfig,
    sabine_absorption,
)
from frontend.simulation.pairs import Pair, Speech, read_pairs, usable_pairs
from frontend.simulation.ranges import Draw, Range, is_number
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.files import parse_json, read_lines, write_json_lines
from frontend.utils.parallel import progress

_TRIES_PLACE = 200  # of one talker beside the others
_TRIES_ARRAY = 50  # of an array position around which all talkers find a place


def draw_set(
    config: SceneConfig,
    speech: str | Path,
    out: str | Path,
    num: int | None,
    prefix: str | None,
    pairs: str | Path | None = None,
    seed: int = 0,
    bank: int | None = None,
    matched: SceneConfig | None = None,
) -> None:
    """Draw the scenes of a set, write them and say how many there are.

    Args:
        config: ranges to draw from.
        speech: directory of the speech set that talkers and noise are drawn from.
        out: file to write.
        num: number of mixtures; with ``pairs`` at most, None: all.
        prefix: of the ids: ``PREFIX_000000`` ...
        pairs: list of mixtures, which gives ids and talkers instead.
        seed: as :func:`sample_scene`.
        bank: likewise.
        matched: the configuration of a set whose mixtures must have the same talkers and utterances.

    Raises:
        UserError: speech that does not fit the configuration, no place for a talker, too little speech,
            scenes that are not paired with the matched ones.
    """
    known = read_speech(speech, config.fs)
    mixtures: list = [f"{prefix}_{number:06d}" for number in range(num or 0)]
    if pairs is not None:
        usable, left_out = usable_pairs(read_pairs(pairs), known, config.max_seconds, pairs)
        if left_out:
            print(left_out)
        if num is not None and num > len(usable):
            print(f"{pairs}: {num} mixtures asked for, it has {len(usable)}: all are taken")
        mixtures = usable[:num]
    scenes = _draw_scenes(config, speech, known, mixtures, seed, bank)
    if matched is not None:
        check_paired(scenes, _draw_scenes(matched, speech, known, mixtures, seed, bank), out)
    write_scenes(out, scenes)
    longer = sum(seconds > config.max_seconds for _, seconds in known.values())
    print(f"{out}: {len(scenes)} scenes from {len(known) - longer} utterances; {longer} are too long")


def _draw_scenes(config, directory, speech: Speech, mixtures: Sequence, seed, bank) -> list[dict]:
    """Draw and check the scenes of mixtures, each an id or a :class:`Pair`."""
    noises = read_noises(directory, config.fs) if "recorded" in config.noise.kind else None
    speakers = by_speaker(speech, config.max_seconds)
    scenes = []
    for mixture in progress(mixtures, len(mixtures), "scenes"):
        name, pair = (mixture.id, mixture) if isinstance(mixture, Pair) else (mixture, None)
        scenes.append(sample_scene(name, config, speech, seed, pair, noises, speakers, bank))
        validate_scene(scenes[-1], f"scene {name}")
    return scenes


def check_paired(scenes: list[dict], matched: list[dict], where: str | Path) -> None:
    """Raise a UserError for a scene of a condition that has other utterances than the matched one."""
    for scene, other in zip(scenes, matched, strict=True):
        here, there = ([talker["utterance"] for talker in one["talkers"]] for one in (scene, other))
        if here != there:
            raise UserError(
                f"{where} changes the utterances of {scene['id']}, {there} in the matched set, {here} in it: "
                "the two cannot be compared (change another key)"
            )


def sample_scene(
    mixture: str,
    config: SceneConfig,
    speech: Speech,
    seed: int,
    pair: Pair | None = None,
    noises: dict[str, float] | None = None,
    speakers: dict[str, list[str]] | None = None,
    bank: int | None = None,
) -> dict:
    """Draw the scene that belongs to ``(seed, mixture)``.

    Args:
        mixture: its id.
        config: ranges to draw from.
        speech: dry utterances to choose from; those longer than ``config.max_seconds`` are left out.
        seed: of the set.
        pair: the talkers' utterances and levels, given instead of drawn.
        noises: recorded noise to choose from, id -> seconds; only where the noise is of that kind.
        speakers: ``by_speaker(speech, config.max_seconds)``, where it is known already.
        bank: take the geometry (room, array, number of talkers and their places) from one of so many, which
            all sets of this seed share; None: each mixture has its own.

    Raises:
        UserError: too few speakers, or a geometry that finds no place in the room.
    """
    draw = Draw(seed, mixture)
    where = Draw(seed, "bank", int(draw.rng("bank").integers(bank))) if bank else draw
    sides = (config.room.length, config.room.width, config.room.height)
    room = [where.uniform(side, 3, "room", axis) for axis, side in enumerate(sides)]
    fewest, most = config.talkers.number
    single = where.rng("n_talkers").random() < config.talkers.one_talker_share
    number = 1 if single else int(where.rng("number").integers(fewest, most + 1))
    array = draw_array(where, config.array, number)
    centre, places = _place(where, config, room, number)
    if speakers is None:
        speakers = by_speaker(speech, config.max_seconds)
    talkers = _talkers(draw, config, speakers, places, speech, pair)
    samples = max(round(t["offset"] * config.fs) + t["samples"] for t in talkers)
    return {
        "id": mixture,
        "seed": seed,
        "fs": config.fs,
        "samples": samples,
        "room": room,
        "t60": where.uniform(_t60(config.t60, room), 3, "t60"),
        "array": array.kind[0],
        "mics": place_microphones(where, array, centre),
        "talkers": talkers,
        "noise": _noise(draw, config, speakers, {t["speaker"] for t in talkers}, noises or {}, samples),
        "level_dbfs": draw.uniform(config.level_dbfs, 1, "level_dbfs"),
    }


def by_speaker(speech: Speech, max_seconds: float) -> dict[str, list[str]]:
    """Return speaker -> utterances of at most ``max_seconds``, both sorted."""
    speakers: dict[str, list[str]] = {}
    for name in sorted(speech):
        if 0 < speech[name][1] <= max_seconds:
            speakers.setdefault(speech[name][0], []).append(name)
    return dict(sorted(speakers.items()))


def _place(draw: Draw, config: SceneConfig, room: list[float], number: int) -> tuple[list, list]:
    """Return the array's centre and the talkers' positions."""
    margin = config.array.wall_margin
    for attempt in range(_TRIES_ARRAY):
        rng = draw.rng("array", attempt)
        centre = [round(float(rng.uniform(margin, side - margin)), 3) for side in room[:2]]
        centre.append(draw.uniform(config.array.height, 3, "array_height"))
        places: list[list[float]] = []
        azimuths: list[float] = []
        for talker in range(number):
            found = _stand(draw, config, room, centre, azimuths, (talker, attempt))
            if found is None:
                break
            places.append(found[0])
            azimuths.append(found[1])
        else:
            return centre, places
    raise UserError(
        f"scene {draw.scene}: {number} talkers at {config.talkers.distance} m from the array and "
        f"{config.talkers.min_angle} degrees apart found no place in a room of {room} m; "
        "take larger rooms, smaller distances or smaller margins"
    )


def _stand(draw, config, room, centre, azimuths, key) -> tuple[list[float], float] | None:
    """Find a place for one talker: (position, azimuth), or None after many tries."""
    limits, margin = config.talkers, config.talkers.wall_margin
    angle_rng, distance_rng = draw.rng("azimuth", *key), draw.rng("distance", *key)
    height = draw.uniform(limits.height, 3, "talker_height", key[0])
    for _ in range(_TRIES_PLACE):
        azimuth, distance = angle_rng.uniform(0, 360), distance_rng.uniform(*limits.distance)
        x = round(float(centre[0] + distance * math.cos(math.radians(azimuth))), 3)
        y = round(float(centre[1] + distance * math.sin(math.radians(azimuth))), 3)
        apart = min((abs((azimuth - a + 180) % 360 - 180) for a in azimuths), default=360.0)
        inside = margin <= x <= room[0] - margin and margin <= y <= room[1] - margin
        if inside and apart >= limits.min_angle:
            return [x, y, height], azimuth
    return None


def _t60(t60: Range, room: list[float]) -> Range:
    """Return the range without what the walls cannot absorb enough for, to the ms that is drawn."""
    shortest = math.ceil(1000 * sabine_absorption(room, 1.0)) / 1000
    return t60 if t60[1] == 0 else (max(t60[0], shortest), t60[1])


def _talkers(draw, config, speakers, places, speech: Speech, pair: Pair | None) -> list[dict]:
    utterances = _utterances(draw, config, speakers, len(places), speech, pair)
    onsets = [draw.uniform(config.talkers.onset, 3, "onset", k) for k in range(len(places))]
    talkers = []
    for k, (utterance, place) in enumerate(zip(utterances, places, strict=True)):
        level = draw.uniform(config.talkers.level_db, 1, "level", k) if pair is None else pair.level_db
        samples = round(speech[utterance][1] * config.fs)
        latest = math.floor((config.max_seconds - samples / config.fs) * 1000 + 1e-6) / 1000
        talkers.append(
            {
                "speaker": speech[utterance][0],
                "utterance": utterance,
                "samples": samples,
                "position": place,
                "level_db": level if k else 0.0,
                "offset": min(round(onsets[k] - min(onsets), 3), latest),  # someone starts at once
            }
        )
    return talkers


def _utterances(draw, config, speakers, number: int, speech: Speech, pair: Pair | None) -> list[str]:
    """Return what each talker says."""
    if pair is not None:
        if number > len(pair.utterances):
            raise UserError(f"scene {draw.scene}: {number} talkers asked for, the list of mixtures gives 2")
        return list(pair.utterances[:number])
    if len(speakers) < number:
        raise UserError(
            f"scene {draw.scene}: {number} different speakers needed, the speech set has {len(speakers)} "
            f"with utterances of at most {config.max_seconds} s ({len(speech)} utterances in all); "
            "give more speech or raise max_seconds"
        )
    # All speakers are shuffled: talker 1 is then the same whatever the number of talkers.
    known = list(speakers)
    chosen = [speakers[known[int(k)]] for k in draw.rng("speaker").permutation(len(known))[:number]]
    return [own[int(draw.rng("utterance", k).integers(len(own)))] for k, own in enumerate(chosen)]


def _noise(draw, config, speakers, talking: set[str], noises: dict[str, float], samples: int) -> dict:
    """Draw the noise; no talker of the mixture is in its babble."""
    kind = draw.choice(config.noise.kind, "noise_kind")
    if kind == "none":
        return {"kind": "none"}
    noise = {"kind": kind, "snr_db": draw.uniform(config.noise.snr_db, 1, "snr")}
    if kind == "babble":
        others = [u for speaker, names in speakers.items() if speaker not in talking for u in names]
        count = config.noise.babble_talkers
        if len(others) < count:
            raise UserError(
                f"scene {draw.scene}: babble of {count} utterances needs as many by other speakers than "
                f"the talkers; found {len(others)}; lower noise: babble_talkers or give more speech"
            )
        picked = draw.rng("babble").choice(len(others), size=count, replace=False)
        noise["utterances"] = [others[int(k)] for k in picked]
    if kind == "recorded":
        noise["utterances"] = _recordings(draw, noises, samples / config.fs)
    return noise


def _recordings(draw: Draw, noises: dict[str, float], seconds: float) -> list[str]:
    """Draw recordings until they are as long as the mixture when joined; all, if that is not enough."""
    if not noises:
        raise UserError(
            f"scene {draw.scene}: noise of kind 'recorded' needs noise.scp in the speech set, found none "
            "or an empty one (prepare the data with --noise_dir, or take another kind)"
        )
    names, picked, found = sorted(noises), [], 0.0
    for k in draw.rng("recorded").permutation(len(names)):
        picked.append(names[int(k)])
        found += noises[picked[-1]] - CROSSFADE_S
        if found >= seconds:
            break
    return picked


def write_scenes(path: str | Path, scenes: Iterable[dict]) -> None:
    """Write scenes as JSON lines, sorted by id, whole or not at all."""
    write_json_lines(path, sorted(scenes, key=lambda scene: scene["id"]))


def read_scenes(path: str | Path) -> list[dict]:
    """Read and check a file of scenes.

    Raises:
        UserError: naming file and line: not JSON, a missing or unknown key, a duplicate id,
            a microphone or talker outside the room, ...
    """
    scenes: dict[str, dict] = {}
    what = "a file of scenes (mixit simulate scenes makes it)"
    for number, line in read_lines(path, what):
        where, scene = f"{path}:{number}", parse_json(line, path, number, "make the file again")
        validate_scene(scene, where)
        if scene["id"] in scenes:
            raise UserError(f"{where}: duplicate id '{scene['id']}'")
        scenes[scene["id"]] = scene
    if not scenes:
        raise UserError(f"{path}: expected {what}, found an empty file (make it again)")
    return list(scenes.values())


# What a set's own scenes.jsonl says beside the scene.
MADE_KEYS = ("measured", "rendered_from")


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(is_number, value))


# What a value must fulfil, and that in words.
_SIZE = (lambda v: type(v) is int and v > 0), "a positive integer"
_NAME = (
    (lambda v: isinstance(v, str) and v != "" and not set(v) & set(" \t/")),
    "a name without spaces or slashes",
)
_FROM_0 = (lambda v: is_number(v) and v >= 0), "seconds from 0"
_SCENE = {
    "id": _NAME,
    "seed": ((lambda v: type(v) is int), "an integer"),
    "fs": _SIZE,
    "samples": _SIZE,
    "room": ((lambda v: _is_point(v) and min(v) > 2 * CLEARANCE), "three sides in metres"),
    "t60": _FROM_0,
    "array": (ARRAY_KINDS.__contains__, f"one of {ARRAY_KINDS}"),
    "mics": ((lambda v: isinstance(v, list) and v), "at least one microphone"),
    "talkers": ((lambda v: isinstance(v, list) and v), "at least one talker"),
    "noise": ((lambda v: isinstance(v, dict)), "a kind of noise"),
    "level_dbfs": ((lambda v: is_number(v) and v <= 0), "a level of at most 0 dB"),
}
_POSITION = _is_point, "a position [x, y, z] in metres"
_TALKER = {"speaker": _NAME, "utterance": _NAME, "samples": _SIZE, "position": _POSITION}
_TALKER |= {"level_db": (is_number, "dB"), "offset": _FROM_0}
_NOISE = {
    "kind": (NOISE_KINDS.__contains__, f"one of {NOISE_KINDS}"),
    "snr_db": (is_number, "dB"),
    "utterances": ((lambda v: isinstance(v, list) and v), "at least one utterance"),
}


def validate_scene(scene: Any, where: str) -> None:
    """Check one scene; :data:`MADE_KEYS` may be in it as well.

    Raises:
        UserError: one line that begins with ``where`` and names what is impossible.
    """
    _check_fields(scene, _SCENE, where, MADE_KEYS)
    room, t60, talkers = scene["room"], scene["t60"], scene["talkers"]
    shortest = sabine_absorption(room, 1.0)
    if 0 < t60 < shortest:
        raise UserError(
            f"{where}: t60: {t60} s cannot be had in a room of {room} m; at least {shortest:.3f} s"
        )
    for number, mic in enumerate(scene["mics"]):
        _check_inside(mic, room, f"{where}: microphone {number}")
    for number, talker in enumerate(talkers, 1):
        who = f"{where}: talker {number}"
        _check_fields(talker, _TALKER, who)
        _check_inside(talker["position"], room, who)
        for mic, position in enumerate(scene["mics"]):
            if math.dist(position, talker["position"]) < CLEARANCE:
                raise UserError(f"{who} stands in microphone {mic}; keep {CLEARANCE} m apart")
        end = round(talker["offset"] * scene["fs"]) + talker["samples"]
        if end > scene["samples"]:
            raise UserError(f"{who} ends at sample {end}, after the mixture's {scene['samples']}")
    speakers = [talker["speaker"] for talker in talkers]
    if len(set(speakers)) < len(speakers):
        raise UserError(f"{where}: talkers: expected different speakers; found {speakers}")
    needed = {"none": ["kind"], "white": ["kind", "snr_db"]}.get(scene["noise"].get("kind"), _NOISE)
    _check_fields(scene["noise"], {key: _NOISE[key] for key in needed}, f"{where}: noise")


def _check_fields(content: Any, fields: dict, where: str, optional: tuple = ()) -> None:
    """Check that an object has all keys and no other, each with a value as expected."""
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected keys {', '.join(fields)}; found {content!r}")
    for key in content:
        if key not in fields and key not in optional:
            raise UserError(f"{where}: unknown key '{key}'{did_you_mean(key, [*fields, *optional])}")
    for key, (is_right, expected) in fields.items():
        if key not in content:
            raise UserError(f"{where}: key '{key}' is missing")
        if not is_right(content[key]):
            raise UserError(f"{where}: {key}: expected {expected}; found {content[key]!r}")


def _check_inside(point: Any, room: list, who: str) -> None:
    if not _is_point(point):
        raise UserError(f"{who}: expected a position [x, y, z] in metres; found {point!r}")
    for axis, at, side in zip("xyz", point, room, strict=True):
        if not 0 <= at <= side:
            raise UserError(f"{who} is outside the room: {axis} = {at} m, the room has 0 to {side} m")
        if not CLEARANCE <= at <= side - CLEARANCE:
            raise UserError(f"{who} stands in a wall: {axis} = {at} m, keep {CLEARANCE} m off 0 and {side} m")
