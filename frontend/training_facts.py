"""What a network was really trained with, from the configuration that its training wrote down."""

from pathlib import Path

import torch

from frontend.yaml_file import read_settings


def training_facts(directory: Path) -> dict:
    """Return the settings that differ between the networks of a recipe.

    Args:
        directory: of the training; its ``config.yaml`` says what the options made of its settings.

    Returns:
        None for what is not set or not known, as of a packed network whose training is elsewhere.

    Raises:
        UserError: ``config.yaml`` is no YAML.
    """
    path = directory / "config.yaml"
    config = read_settings(path, "configuration of a training") if path.is_file() else {}
    epochs, iterations = config.get("max_epoch"), config.get("num_iters_per_epoch")
    init = config.get("init_param")  # FILE[:source[:destination...]] each
    return {
        "model": directory.name,
        "network": config.get("separator"),
        "parameters": _parameters(directory / "valid.loss.ave.pth"),
        "precision": (config.get("separator_conf") or {}).get("precision"),
        "epochs": epochs,
        "steps": epochs * iterations if epochs and iterations else None,
        "lr": (config.get("optim_conf") or {}).get("lr"),
        "init": None if init is None else [Path(str(one).split(":")[0]).parent.name for one in init],
        "train_set": _set_of(config, "train"),
        "valid_set": _set_of(config, "valid"),
    }


def _set_of(config: dict, part: str) -> str | None:
    entries = config.get(f"{part}_data_path_and_name_and_type")
    return Path(entries[0][0]).parent.name if entries else None


def _parameters(checkpoint: Path) -> int | None:
    """Count the numbers in a state dict; our networks store nothing else in it."""
    if not checkpoint.exists():
        return None
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return sum(tensor.numel() for tensor in state.values())
