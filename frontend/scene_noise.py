"""Which noise a scene has: its level, and what it is made of."""

from typing import Any

from frontend.errors import UserError
from frontend.scene_config import JOINT_S, SceneConfig


def draw_noise(
    draw: Any,
    config: SceneConfig,
    speakers: dict[str, list[str]] | None,
    talking: set[str],
    noises: dict[str, float] | None,
    samples: int,
) -> dict:
    """Draw the noise of a scene.

    Args:
        draw: the scene's draws (``frontend.scenes``).
        config: kind and level.
        speakers: speaker -> utterances, for babble.
        talking: the talkers' speakers, who are not in the babble.
        noises: recordings, id -> seconds, for noise of kind ``recorded``.
        samples: of the mixture.

    Raises:
        UserError: too little speech for babble, or no recordings.
    """
    if config.noise.kind == "none":
        return {"kind": "none"}
    noise = {"kind": config.noise.kind, "snr_db": draw.uniform(config.noise.snr_db, 1, "snr")}
    if config.noise.kind == "babble":
        others = [u for speaker, names in speakers.items() if speaker not in talking for u in names]
        count = config.noise.babble_talkers
        if len(others) < count:
            raise UserError(
                f"scene {draw.key[1]}: babble of {count} utterances needs as many by other speakers than "
                f"the talkers; found {len(others)}; lower noise: babble_talkers or give more speech"
            )
        picked = draw.rng("babble").choice(len(others), size=count, replace=False)
        noise["utterances"] = [others[int(k)] for k in picked]
    if config.noise.kind == "recorded":
        noise["utterances"] = _recordings(draw, noises or {}, samples / config.fs)
    return noise


def _recordings(draw: Any, noises: dict[str, float], seconds: float) -> list[str]:
    """Draw recordings until they are as long as the mixture when joined; all, if that is not enough."""
    if not noises:
        raise UserError(
            f"scene {draw.key[1]}: noise of kind 'recorded' needs noise.scp in the speech set, found none "
            "or an empty one (prepare the data with --noise_dir, or take another kind)"
        )
    names, picked, found = sorted(noises), [], 0.0
    for k in draw.rng("recorded").permutation(len(names)):
        picked.append(names[int(k)])
        found += noises[picked[-1]] - JOINT_S
        if found >= seconds:
            break
    return picked
