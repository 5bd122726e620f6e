"""The MixIT loss of a teacher on mixtures of held-out chunks: what its training chose its weights by."""

import numpy as np
import torch
import yaml

from frontend import packing
from frontend.datadir import MixtureSet, audio_info
from frontend.mixing import MixtureOfMixtures
from frontend.mixit import mixit_loss
from frontend.over_separation import surplus_outputs
from frontend.parallel import progress
from frontend.separate import Separator


def validate_teacher(model: str, data: str, n_talkers: int, seed: int = 0) -> dict:
    """Separate one mixture of mixtures for every chunk of a set, the same whatever the model.

    Args:
        model: a trained system of at least two outputs.
        data: unlabelled mixture set.
        n_talkers: how many talk at most in one chunk.
        seed: of the choice of partners and crops.

    Returns:
        ``loss``: mean MixIT loss in dB (0: nothing explained, lower is better); ``active_outputs``: mean
        number of outputs within 20 dB of the mixture when the chunk alone is separated, ``surplus``: mean
        share of those beyond ``n_talkers``; ``n``: number of chunks.

    Raises:
        UserError: channels or rate that do not fit, unreadable audio.
    """
    mixtures = MixtureSet(data)
    info = {u: audio_info(entry) for u, entry in mixtures.wav.items()}
    with packing.opened(model) as trained:
        settings = yaml.safe_load(trained.config.read_text(encoding="utf-8"))
        for utterance, (channels, _, fs) in info.items():
            trained.check(mixtures.wav[utterance], channels, fs)
    kept = {k: v for k, v in settings["preprocessor_conf"].items() if k in ("crop", "gain_db", "ref_channel")}
    examples = MixtureOfMixtures(
        False,
        mixtures.wav,
        lengths={u: frames for u, (_, frames, _) in info.items()},
        fs=trained.fs,
        seed=seed,
        n_mics=trained.n_mics,
        **kept,
    )
    run = Separator.from_pretrained(model).outputs
    losses, counts, surplus = [], [], []
    for utterance in progress(mixtures.ids, len(mixtures.ids), "validate"):
        example = examples(utterance, {})
        references = np.stack([example["speech_ref1"], example["speech_ref2"]])
        outputs = run(torch.from_numpy(np.atleast_2d(example["speech_mix"].T))).cpu()
        losses.append(float(mixit_loss(torch.from_numpy(references)[None], outputs[None])[0]))
        chunk = mixtures.mixture(utterance)[0]
        alone = run(torch.from_numpy(chunk)).cpu().numpy()
        active, share = surplus_outputs(alone, chunk[examples.ref_channel], n_talkers)
        counts.append(active)
        surplus.append(share)
    return {
        "loss": float(np.mean(losses)),
        "active_outputs": float(np.mean(counts)),
        "surplus": float(np.mean(surplus)),
        "n": len(losses),
    }
