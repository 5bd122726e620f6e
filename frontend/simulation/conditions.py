"""Test sets that differ from the matched one in one thing: another array, room, distance, or noise.

A file of conditions names them, each with the keys of the scene configuration that it changes::

    radius_10cm: {array: {radius: 0.1}}
    reverberant: {t60: [0.4, 0.7]}

Every draw of a scene has a generator of its own (:mod:`frontend.simulation.scenes`), so the same utterances by the
same talkers, and all that a condition does not touch, are in the mixture of the same id of every condition.
"""

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path

from frontend.data.speech import read_noises, read_speech
from frontend.simulation.config import Count, SceneConfig, load_config, validate_scene
from frontend.simulation.mixture_sets import simulate_set
from frontend.simulation.scenes import by_speaker, sample_scene, write_scenes
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.files import read_json, read_settings, write_text

MATCHED = "matched"
CONDITION = "condition.json"  # in the mixture set: name, place in the file, and changes
_SCENES = "scenes"


@dataclass(frozen=True)
class Condition:
    """One test set: its name, its place in the file (0: matched), and what it changes."""

    name: str
    place: int
    changes: dict
    config: SceneConfig = dataclasses.field(repr=False)


def load_conditions(
    config: str | Path,
    conditions: str | Path,
    n_talkers: Count | None = None,
    channels: int | None = None,
    only: list[str] | None = None,
    changes: str | Path | None = None,
) -> list[Condition]:
    """Read a file of conditions against the configuration that they change.

    Args:
        config: the scene configuration of the matched set.
        conditions: YAML file, ``NAME: {key: value, ...}`` each.
        n_talkers, channels: as :func:`frontend.simulation.config.load_config` takes them.
        only: names of those wanted; None for all. ``matched`` is always the first.
        changes: YAML file of what all of them, ``matched`` too, change of ``config``.

    Raises:
        UserError: an unknown key or name, nothing that is changed, or a configuration that cannot be met.
    """
    listed = read_settings(conditions, "file of conditions")
    common = {} if changes is None else read_settings(changes, "scene configuration")
    for name, own in listed.items():
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", str(name)) or name in (MATCHED, _SCENES):
            raise UserError(
                f"{conditions}: '{name}': expected a name of letters, digits, '_', '-' and '.' "
                f"other than '{MATCHED}' and '{_SCENES}' (the matched set is always made)"
            )
        if not isinstance(own, dict) or not own:
            raise UserError(
                f"{conditions}: {name}: expected keys of {config} with other values, found {own!r}"
            )
    for name in only or []:
        if name not in listed:
            raise UserError(f"{conditions}: no condition '{name}'{did_you_mean(name, listed)}")
    found = [Condition(MATCHED, 0, {}, load_config(config, n_talkers, channels, common))]
    for place, (name, own) in enumerate(listed.items(), 1):
        if only is not None and name not in only:
            continue
        try:
            changed = load_config(config, n_talkers, channels, _merged(common, own))
        except UserError as error:
            raise UserError(f"{conditions}: {name}: {error}") from None
        _check_comparable(f"{conditions}: '{name}'", changed, found[0].config)
        found.append(Condition(name, place, own, changed))
    return found


def _check_comparable(where: str, config: SceneConfig, matched: SceneConfig) -> None:
    """Raise UserError for what is known before the first scene to make a condition one of its own."""
    pairs = [(config.fs, matched.fs), (len(config.array.offsets()), len(matched.array.offsets()))]
    for what, (own, expected) in zip(_PAIRED, pairs, strict=False):
        if own != expected:
            raise UserError(
                f"{where} changes {what}, {expected} in the matched set, {own} in it: the two cannot be "
                "compared (change another key)"
            )


def _merged(settings: dict, changes: dict) -> dict:
    """Return ``settings`` with the values of ``changes``, section by section."""
    result = dict(settings)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result


def sample_conditions(
    conditions: list[Condition], speech: str | Path, number: int, prefix: str, seed: int
) -> dict[str, list[dict]]:
    """Draw the scenes ``PREFIX_000000 ...`` of every condition.

    Returns:
        ``{name: scenes}``; scene k has the same utterances by the same talkers in all of them.

    Raises:
        UserError: no place for a talker, too little speech, or a condition that changes who speaks, the
            number of microphones or the sampling rate.
    """
    matched = conditions[0].config
    known = read_speech(speech, matched.fs)
    found: dict[str, list[dict]] = {}
    for one in conditions:
        config = one.config
        noises = read_noises(speech, config.fs) if config.noise.kind == "recorded" else None
        speakers = by_speaker(known, config.max_seconds)
        ids = [f"{prefix}_{k:06d}" for k in range(number)]
        try:
            scenes = [sample_scene(i, config, known, seed, noises=noises, speakers=speakers) for i in ids]
            for scene in scenes:
                validate_scene(scene, scene["id"])
        except UserError as error:
            raise UserError(f"condition '{one.name}': {error}") from None
        found[one.name] = scenes
        for scene, paired in zip(scenes, found[conditions[0].name], strict=True):
            for what, a, b in zip(_PAIRED, _identity(scene), _identity(paired), strict=True):
                if a != b:
                    raise UserError(
                        f"condition '{one.name}' changes {what} of {scene['id']}, {b} in the matched set, "
                        f"{a} in it: the two cannot be compared (change another key)"
                    )
    return found


_PAIRED = ("the sampling rate", "the number of microphones", "the utterances")


def _identity(scene: dict) -> tuple:
    """Return what must be the same for the scenes to be compared, in the order of ``_PAIRED``."""
    return scene["fs"], len(scene["mics"]), [talker["utterance"] for talker in scene["talkers"]]


def simulate_conditions(
    conditions: list[Condition], scenes: dict[str, list[dict]], speech: str, out: str | Path, **options
) -> None:
    """Render every condition into the mixture set ``OUT/NAME``; what is complete is not made again.

    Args:
        conditions, scenes: of :func:`sample_conditions`.
        speech: the speech set of the scenes.
        out: directory; the scenes go to ``OUT/scenes``.
        options: of :func:`frontend.simulation.mixture_sets.simulate_set`.
    """
    out = Path(out)
    for one in conditions:
        write_scenes(out / _SCENES / f"{one.name}.jsonl", scenes[one.name])
    for one in conditions:
        counts = simulate_set(out / _SCENES / f"{one.name}.jsonl", speech, out / one.name, **options)
        about = {"condition": one.name, "place": one.place, "changes": one.changes}
        write_text(out / one.name / CONDITION, json.dumps(about) + "\n")
        print(f"{out / one.name}: {counts['total']} mixtures, {counts['rendered']} rendered now", flush=True)


def read_condition(data: str | Path) -> dict:
    """Return ``{condition, place, changes}`` of a mixture set that :func:`simulate_conditions` made.

    Raises:
        UserError: it made no such set.
    """
    path = Path(data) / CONDITION
    if not path.is_file():
        raise UserError(
            f"{path}: expected what the condition is, found none (make the set with mixit simulate conditions)"
        )
    return read_json(path)
