"""Starting from a model of another recipe: does it fit these recordings and this configuration?"""

from pathlib import Path

import yaml

from frontend import packing
from frontend.errors import UserError
from frontend.yaml_file import read_settings

_ARCHITECTURE = ("encoder", "encoder_conf", "separator", "decoder", "decoder_conf")
_SAMPLES = ("n_fft", "hop_length")


def check_start(model: str, config: str, n_mics: int, fs: int, n_outputs: int) -> Path:
    """Return the weights of ``model`` for ``--init_param``, if they fit.

    Args:
        model: a training directory of another recipe.
        config: YAML of the training to come.
        n_mics, fs: channels and rate in Hz of the recordings.
        n_outputs: streams wanted.

    Raises:
        UserError: no trained model, or one of another rate, number of microphones or outputs, or
            architecture.
    """
    wanted = read_settings(config, "training configuration")
    with packing.opened(model) as trained:
        theirs = yaml.safe_load(trained.config.read_text(encoding="utf-8"))
        for what, need, has in (
            ("microphones", n_mics, trained.n_mics),
            ("Hz", fs, trained.fs),
            ("outputs", n_outputs, trained.n_outputs),
        ):
            if need != has:
                raise UserError(
                    f"{model}: trained for {has} {what}, expected {need} to start from it here "
                    "(give another --init_model, or leave it out and train from nothing)"
                )
        own = {k: v for k, v in wanted.get("separator_conf", {}).items() if k not in ("n_mics", "num_spk")}
        found = {key: theirs.get(key) for key in _ARCHITECTURE}
        found |= {f"separator_conf.{key}": theirs["separator_conf"].get(key) for key in own}
        expected = {key: wanted.get(key) for key in _ARCHITECTURE}
        # run.sh gives windows of the configuration's milliseconds at the rate of the recordings.
        factor = fs / wanted.get("preprocessor_conf", {}).get("fs", fs)
        for key in ("encoder_conf", "decoder_conf"):
            scaled = {k: round(v * factor) for k, v in (expected[key] or {}).items() if k in _SAMPLES}
            expected[key] = {**(expected[key] or {}), **scaled}
        expected |= {f"separator_conf.{key}": value for key, value in own.items()}
        for key, value in expected.items():
            if key != "separator_conf.precision" and found[key] != value:
                raise UserError(
                    f"{model}: {key} is {found[key]}, expected {value} as in {config} (copy the setting of "
                    f"{trained.config} into {config}, or train from nothing)"
                )
        return trained.checkpoint
