"""Tiny trainings of separators: settings and a set to train on; the command line of any training."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import yaml

from frontend.data.kaldi import write_scp
from frontend.data.writers import AudioWriter

FS, MICS = 8000, 3
STFT = {"n_fft": 64, "hop_length": 32}
TEACHER = {
    "encoder": "stft",
    "encoder_conf": STFT,
    "decoder": "stft",
    "decoder_conf": STFT,
    "separator": "mask_net",
    "separator_conf": {"n_mics": MICS, "num_spk": 3, "channels": 4, "blocks": 1},
    "criterions": [{"name": "thresholded_snr", "conf": {"snr_max": 30}, "wrapper": "mixit"}],
    "model_conf": {"flexible_numspk": True},
    "preprocessor": "mom",
    "preprocessor_conf": {"fs": FS, "crop": 0.25, "array_symmetry": "circular"},
    "batch_size": 2,
    "num_iters_per_epoch": 3,
    "max_epoch": 2,
    "optim": "adam",
    "optim_conf": {"lr": 2.0e-3},
    "scheduler": "warmupcosine",
    "scheduler_conf": {"warmup_steps": 2},
    "keep_nbest_models": 2,
    "num_threads": 1,
}
STUDENT = TEACHER | {
    "separator_conf": TEACHER["separator_conf"] | {"num_spk": 2},
    "criterions": [{"name": "thresholded_snr", "wrapper": "thresholded_pit"}],
    "model_conf": {},
    "preprocessor": "crop",
}
GUIDED = STUDENT | {
    **dict.fromkeys(("encoder", "decoder"), "same"),
    **dict.fromkeys(("encoder_conf", "decoder_conf"), {}),
    "separator": "guided_net",
    "separator_conf": {"n_mics": MICS, "num_spk": 2, "fs": FS, "channels": 4, "blocks": 1},
    "preprocessor": "remix",
    "preprocessor_conf": {"fs": FS, "crop": 0.35, "array_symmetry": "any", "as_is": 0.3},
}
# Of an array of two microphones, which are in no circle.
TWO_MICS = {
    "separator_conf": STUDENT["separator_conf"] | {"n_mics": 2},
    "preprocessor_conf": {"fs": FS, "crop": 0.25},
}


def make_set(
    directory: Path,
    n: int,
    seed: int,
    audio_format: str = "wav",
    fs: int = FS,
    mics: int = MICS,
    samples: Callable[[int], int] = lambda i: 3000 + 10 * i,
    words: Sequence[str] = (),
) -> Path:
    """Write a mixture set of noise bursts; in every third mixture the second talker is silent.

    Args:
        directory: of the set.
        n: number of mixtures.
        seed: of the noise and the words.
        audio_format: of all files.
        fs: in Hz.
        mics: channels of the mixtures.
        samples: length of the i-th mixture.
        words: what the talkers' texts are drawn from; without any there are no texts.
    """
    rng, signals = np.random.default_rng(seed), ("wav", "spk1", "spk2")
    tables: dict[str, dict] = {f"{name}.scp": {} for name in signals} | {"utt2num_samples": {}}
    tables |= {f"text_spk{k}": {} for k in (1, 2) if words}
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(AudioWriter(directory / name, audio_format, fs)) for name in signals]
        for i in range(n):
            images = 0.05 * rng.standard_normal((2, mics, samples(i)))
            images[1] *= i % 3 != 0
            for name, writer, audio in zip(signals, writers, (images.sum(0), *images[:, 0]), strict=True):
                tables[f"{name}.scp"][f"u{i}"] = writer.write(f"u{i}", audio)
            for k in (1, 2) if words else ():
                said = " ".join(rng.choice(words, 1 + i % 2))
                tables[f"text_spk{k}"][f"u{i}"] = said if images[k - 1].any() else ""
            tables["utt2num_samples"][f"u{i}"] = images.shape[-1]
    for name, table in tables.items():
        write_scp(directory / name, table)
    return directory


def command_line(folder: Path, output: str, settings: dict, *more: object, **options: object) -> list[str]:
    """Return the options of a training that leaves what it makes in ``folder/output``.

    Args:
        folder: of the test; the settings are written there.
        output: name of the directory.
        settings: for ``--config``.
        more: words for the end.
        options: further ones, such as ``train_set``.
    """
    config = folder / f"{output}.yaml"
    config.write_text(yaml.safe_dump(settings))
    given = {"config": config, "output_dir": folder / output, **options}
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    return [*map(str, (*words, *more))]
