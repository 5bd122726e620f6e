"""Options of the search: the keys of ESPnet's ``Speech2Text``, checked before it is imported."""

from pathlib import Path

from frontend.errors import UserError, did_you_mean
from frontend.recogniser_files import RecogniserFiles
from frontend.yaml_file import read_settings

# Types by key; a test compares them with Speech2Text's signature. Left out is what says which model is
# loaded and where, and what changes the kind of its answer (several talkers, streaming).
OPTIONS: dict[str, type] = {
    "beam_size": int,
    "ctc_weight": float,
    "lm_weight": float,
    "ngram_weight": float,
    "penalty": float,
    "maxlenratio": float,
    "minlenratio": float,
    "nbest": int,
    "batch_size": int,
    "normalize_length": bool,
    "dtype": str,
    "lm_train_config": str,
    "lm_file": str,
    "ngram_scorer": str,
    "ngram_file": str,
    "transducer_conf": dict,
    "time_sync": bool,
    "partial_ar": bool,
    "threshold_probability": float,
    "max_seq_len": int,
    "max_mask_parallel": int,
    "quantize_asr_model": bool,
    "quantize_lm": bool,
    "quantize_modules": list,
    "quantize_dtype": str,
    "token_type": str,
    "bpemodel": str,
    "hugging_face_decoder": bool,
    "hugging_face_decoder_conf": dict,
    "lid_prompt": bool,
    "lang_prompt_token": str,
    "nlp_prompt_token": str,
    "prompt_token_file": str,
}
_FILES = ("lm_train_config", "lm_file", "ngram_file", "bpemodel", "prompt_token_file")
_ESPNETS_BEAM = 20  # Speech2Text's default
_POSITIVE = ("beam_size", "nbest", "batch_size")
_CHOICES = {"dtype": ("float32", "float64", "float16", "bfloat16"), "ngram_scorer": ("full", "part")}


def read_options(path: str | Path) -> dict:
    """Read ``conf/decode.yaml``.

    Raises:
        UserError: no such file, not YAML, an unknown key, a value of another type.
    """
    return check_options(read_settings(path, "configuration of the decoding"), str(path))


def check_options(options: dict, where: str) -> dict:
    """Return ``options`` with numbers as ESPnet wants them.

    Raises:
        UserError: an unknown key, a value of another type or range, a file that is not there.
    """
    checked = {}
    for key, value in options.items():
        if key not in OPTIONS:
            raise UserError(f"{where}: unknown decode option '{key}'{did_you_mean(str(key), OPTIONS)}")
        wanted = OPTIONS[key]
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise UserError(f"{where}: {key}: expected {wanted.__name__}, found {value!r}")
        if key in _POSITIVE and value < 1:
            raise UserError(f"{where}: {key}: expected at least 1, found {value}")
        if key in _CHOICES and value not in _CHOICES[key]:
            raise UserError(f"{where}: {key}: expected {' or '.join(_CHOICES[key])}, found {value}")
        if key == "ctc_weight" and not 0 <= value <= 1:
            raise UserError(f"{where}: ctc_weight: expected 0 to 1, found {value:g}")
        if key in _FILES and not Path(value).is_file():
            raise UserError(f"{where}: {key}: no such file {value}")
        checked[key] = value
    return checked


def complete(options: dict, files: RecogniserFiles, where: str = "decode options") -> dict:
    """Return what the search of this recogniser gets: ``options`` and what the recogniser itself asks for.

    Raises:
        UserError: a weight between CTC and a decoder that the recogniser has not.
    """
    options = {**files.options, **check_options(options, where)}
    if files.ctc_only and options.setdefault("ctc_weight", 1.0) != 1.0:
        raise UserError(
            f"{where}: ctc_weight: expected 1.0, since {files.path} has no decoder beside its CTC, "
            f"found {options['ctc_weight']:g} (leave the option out)"
        )
    # ESPnet's search fails where its first step has fewer words to choose from than it is to keep.
    if options.get("beam_size", _ESPNETS_BEAM) > files.n_tokens:
        options["beam_size"] = files.n_tokens
    return options


def search_files(options: dict) -> list[str]:
    """Return the files that ``options`` name, whose content the hypotheses depend on."""
    return [options[key] for key in _FILES if key in options]
