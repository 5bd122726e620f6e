"""The two networks of a joint training, each in the form that everything else loads.

The separator becomes an ordinary training directory of :mod:`frontend.task`, the recogniser, below it
in ``asr/``, an ordinary one of ESPnet: nothing that separates or recognises knows of joint training.
"""

import shutil
from pathlib import Path

import torch
import yaml

from frontend import atomic
from frontend.joint_task import RECOGNISER, SEPARATOR
from frontend.packing import opened
from frontend.recogniser_files import find_recogniser
from frontend.task import read_state
from frontend.token_list import read_list, write_list
from frontend.train_door import MODEL
from frontend.yaml_file import read_settings

# What the joint training says of itself, in place of what the two said of theirs.
_TRAINING = (
    "max_epoch",
    "num_iters_per_epoch",
    "batch_size",
    "optim",
    "optim_conf",
    "scheduler",
    "scheduler_conf",
)
_TRAINING += ("seed", "init_param", "train_set", "valid_set", "output_dir", "version", "best_model_criterion")
_TRAINING += ("keep_nbest_models", "train_data_path_and_name_and_type", "train_shape_file")
_TRAINING += ("valid_data_path_and_name_and_type", "valid_shape_file", "grad_clip", "freeze_param")


def export(training: str | Path, separator: str | Path, recogniser: str | Path, out: str | Path) -> None:
    """Write ``out/{config.yaml,valid.loss.ave.pth}`` and ``out/asr``.

    Args:
        training: directory of the joint training, complete.
        separator, recogniser: the training directories that it started from.
        out: directory to write to; the recogniser's own files (statistics, token model) are copied, and
            are named relative to the working directory as ``out`` is.

    Raises:
        UserError: one of them is not what it should be.
    """
    training, out = Path(training), Path(out)
    joint = read_settings(training / "config.yaml", "config.yaml of a training")
    changed = {key: joint[key] for key in _TRAINING if key in joint}
    parts = {SEPARATOR: {}, RECOGNISER: {}}
    for name, value in read_state(training / MODEL).items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    _export_recogniser(parts[RECOGNISER], changed, recogniser, out / "asr")
    with opened(separator) as trained:
        config = read_settings(trained.config, "config.yaml of a training")
    out.mkdir(parents=True, exist_ok=True)
    _write_yaml(out / "config.yaml", config | changed)
    with atomic.file(out / MODEL) as part:
        torch.save(parts[SEPARATOR], part)


def _export_recogniser(state: dict, changed: dict, source: str | Path, out: Path) -> None:
    files = find_recogniser(source)
    config = read_settings(files.config, "config.yaml of a recogniser's training")
    with atomic.directory(out) as part:
        for path in files.needs:  # what ESPnet opens when it builds the network
            shutil.copyfile(path, part / path.name)
        normalize = config.get("normalize_conf") or {}
        if normalize.get("stats_file") is not None:
            config["normalize_conf"] = normalize | {
                "stats_file": str(out / Path(normalize["stats_file"]).name)
            }
        if config.get("bpemodel") is not None:
            config["bpemodel"] = str(out / Path(config["bpemodel"]).name)
        if isinstance(config["token_list"], str):
            config["token_list"] = read_list(config["token_list"])
        # ESPnet's own keys alone: its config.yaml knows nothing of our data directories.
        _write_yaml(part / "config.yaml", config | {k: v for k, v in changed.items() if k in config})
        write_list(part / "tokens.txt", config["token_list"])
        torch.save(state, part / MODEL)


def _write_yaml(path: Path, values: dict) -> None:
    atomic.write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
