"""Whisper [1] by faster-whisper: files, options of the search, streams to words, the normal form of texts.

Faster-whisper is imported when a model is found, CTranslate2 when streams are recognised. Decoding is one
pass without sampling, earlier text or time stamps: the same audio gives the same words.

[1] Radford et al., Robust speech recognition via large-scale weak supervision, ICML 2023.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import importlib.metadata
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from frontend.utils.errors import UserError, did_you_mean, few

# Raised with every change after which the same audio gives other words.
VERSION = 1
FS = 16000  # Hz
LONGEST_S = 30.0  # of what the network looks at
ENGLISH = "whisper_en"
_FILES = ("model.bin", "config.json", "tokenizer.json")
_INSTALL = "(pip install faster-whisper whisper-normalizer)"


@dataclass(frozen=True)
class WhisperFiles:
    """A Whisper model on disk; audio of any rate is resampled for it."""

    path: str  # as the user gave it
    folder: Path
    fs: int = FS
    longest_s: float | None = LONGEST_S  # longer streams are cut
    # It spells every word, byte by byte.
    token_type: str = "bytes"
    tokens: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content of every file that a hypothesis depends on."""
        digest = hashlib.sha256(b"whisper")
        for path in sorted(
            path for path in self.folder.iterdir() if path.suffix in (".bin", ".json", ".txt")
        ):
            digest.update(path.name.encode())
            with open(path, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()

    def check_rate(self, where: str, fs: int, hint: str = "") -> None:
        """Accept every rate."""


def find_whisper(model: str) -> WhisperFiles:
    """Find a model: a directory with ``model.bin``, or a size, which is downloaded once from Hugging Face.

    Raises:
        UserError: faster-whisper is not installed, no such directory or size, it cannot be downloaded.
    """
    try:
        from faster_whisper.utils import available_models, download_model
    except ModuleNotFoundError as error:
        raise UserError(f"--asr_whisper {model}: needs the package {error.name} {_INSTALL}") from None
    normaliser()
    folder, sizes = Path(model), available_models()
    if folder.is_dir():
        for name in _FILES:
            if not (folder / name).is_file():
                raise UserError(
                    f"--asr_whisper {model}: expected {', '.join(_FILES)} of a Whisper model in "
                    f"CTranslate2's form, found no {name} (ct2-transformers-converter makes them, with "
                    "--copy_files tokenizer.json preprocessor_config.json)"
                )
        return WhisperFiles(f"Whisper {_shown(folder)}", folder)
    if model not in sizes:
        raise UserError(
            f"--asr_whisper {model}: expected a directory with model.bin, or a size: {few(sizes, 8)}; "
            f"found neither{did_you_mean(model, sizes)}"
        )
    try:
        return WhisperFiles(f"Whisper {model}", Path(download_model(model)))
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(". ") or type(error).__name__
        raise UserError(
            f"--asr_whisper {model}: no such directory, and the size cannot be downloaded: {reason} (give a "
            "directory with model.bin, or allow the download: network, HF_HUB_OFFLINE)"
        ) from None


def _shown(folder: Path) -> str:
    """Return the name of a model as pages show it: no names of somebody's home."""
    return str(Path("...", *folder.parts[-2:]) if folder.is_absolute() or ".." in folder.parts else folder)


# --- the options of its search

BEAM_SIZE = 5  # OpenAI's default
# Option -> its default, with its type, and the least value. ``beam_size`` is that of all recognisers.
_DEFAULTS: dict[str, tuple[Any, float]] = {
    "language": ("en", 0),
    "compute_type": ("float32", 0),
    "no_repeat_ngram_size": (4, 0),
    "max_new_tokens": (200, 1),
    "no_speech_threshold": (0.6, 0),
}
_PROMPT = 4  # tokens that no hypothesis has: start, language, task, no time stamps
_MOST_TOKENS = 448 - _PROMPT


def check_options(options: object, where: str) -> dict[str, Any]:
    """Return the section ``whisper`` of ``conf/decode.yaml``, checked.

    Raises:
        UserError: an unknown key, a value of another type or range.
    """
    if not isinstance(options, dict):
        raise UserError(f"{where}: expected keys with values, found {options!r}")
    for key, value in options.items():
        if key not in _DEFAULTS:
            raise UserError(f"{where}: unknown option '{key}'{did_you_mean(str(key), _DEFAULTS)}")
        default, least = _DEFAULTS[key]
        kinds = (int, float) if isinstance(default, float) else (type(default),)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise UserError(f"{where}: {key}: expected {type(default).__name__}, found {value!r}")
        if not isinstance(value, str) and not value >= least:
            raise UserError(f"{where}: {key}: expected at least {least:g}, found {value:g}")
    if (most := options.get("max_new_tokens", 1)) > _MOST_TOKENS:
        raise UserError(f"{where}: max_new_tokens: expected at most {_MOST_TOKENS}, found {most}")
    return dict(options)


def complete_options(options: dict, where: str) -> dict[str, Any]:
    """Return the options, checked, ``beam_size`` among them, with the defaults of those that are left out.

    Raises:
        UserError: see :func:`check_options`.
    """
    own = dict(options)
    beam_size = own.pop("beam_size", BEAM_SIZE)
    defaults = {key: value for key, (value, _) in _DEFAULTS.items()}
    return {"beam_size": beam_size, **defaults, **check_options(own, where)}


# --- streams to words


class Whisper:
    """Makes words of streams; the model is loaded with the first ones, in each process anew.

    Raises:
        UserError: a damaged model, one that does not know the language, no such type of numbers here.
    """

    # Below this mean log probability a stream that may hold no speech has no words (OpenAI's rule).
    _UNLIKELY = -1.0

    def __init__(self, files: WhisperFiles, options: dict, device: str):
        self.files, self.options, self.device = files, options, device
        # CTranslate2's threads do not survive a fork; a model whose threads are gone cannot be freed either.
        self._models: dict[int, Any] = {}

    def __call__(self, streams: np.ndarray) -> list[str]:
        """Return the words of each of (B, T) at 16 kHz.

        Raises:
            UserError: streams longer than 30 s.
        """
        if streams.shape[1] > LONGEST_S * FS:
            found = f"found {streams.shape[1] / FS:g} s"
            raise UserError(f"streams: Whisper takes {LONGEST_S:g} s at most, {found} (cut them)")
        model, prompt, tokenizer = self._loaded()
        mel, options = model.feature_extractor, self.options
        # As OpenAI pads: with silence, before the spectrum.
        rest = mel.n_samples - streams.shape[1]
        features = np.stack([mel(row, padding=rest)[:, : mel.nb_max_frames] for row in streams])
        found = model.model.generate(
            model.encode(features.astype(np.float32)),
            [prompt] * len(streams),
            beam_size=options["beam_size"],
            no_repeat_ngram_size=options["no_repeat_ngram_size"],
            max_length=len(prompt) + options["max_new_tokens"],
            return_scores=True,
            return_no_speech_prob=True,
        )
        return [self._words(one, tokenizer) for one in found]

    def _words(self, found: Any, tokenizer: Any) -> str:
        tokens = found.sequences_ids[0]
        mean = found.scores[0] * len(tokens) / (len(tokens) + 1)  # the last token, of the end, counts too
        if found.no_speech_prob > self.options["no_speech_threshold"] and mean < self._UNLIKELY:
            return ""
        return " ".join(tokenizer.decode(tokens).split())

    def _loaded(self) -> tuple[Any, list[int], Any]:
        """Return the model of this process, its prompt and its tokenizer."""
        pid = os.getpid()
        if pid not in self._models:
            self._models[pid] = self._load()
        return self._models[pid]

    def _load(self) -> tuple[Any, list[int], Any]:
        import torch
        from faster_whisper import WhisperModel
        from faster_whisper.tokenizer import Tokenizer

        _keep_in_forked_processes()
        kind, _, index = self.device.partition(":")
        try:
            model = WhisperModel(
                str(self.files.folder),
                device=kind,
                device_index=int(index or 0),
                compute_type=self.options["compute_type"],
                cpu_threads=torch.get_num_threads(),
                local_files_only=True,
            )
        except Exception as error:  # tokenizers raises nothing more special
            reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
            raise UserError(f"{self.files.path}: faster-whisper cannot load it: {reason}") from None
        language, known = self.options["language"], model.supported_languages
        if language not in known:
            raise UserError(
                f"decode options: whisper.language: expected one of {self.files.path} ({', '.join(known)}), "
                f"found {language}"
            )
        tokenizer = Tokenizer(model.hf_tokenizer, model.model.is_multilingual, "transcribe", language)
        return model, model.get_prompt(tokenizer, [], without_timestamps=True), tokenizer


@functools.cache
def _keep_in_forked_processes() -> None:
    """Let no forked process free what its parent has dropped but not yet freed.

    CTranslate2 waits for a model's threads before it frees the model. A forked process has none of them: it
    is aborted.
    """
    os.register_at_fork(after_in_child=gc.freeze)


# --- the normal form of English words


@functools.cache
def normaliser() -> Any:
    """Return Whisper's normaliser of English texts.

    Raises:
        UserError: the package that has it is not installed.
    """
    try:
        from whisper_normalizer.english import EnglishTextNormalizer
    except ModuleNotFoundError as error:
        raise UserError(f"words of Whisper need the package {error.name} to be counted {_INSTALL}") from None
    return EnglishTextNormalizer()


def normalise_english(text: str) -> str:
    """Return a text as Whisper's paper compares it."""
    return " ".join(normaliser()(text).split())


def english_rules() -> tuple[str, ...]:
    """Say in words what :func:`normalise_english` does."""
    version = importlib.metadata.version("whisper-normalizer")
    return (
        f"by Whisper's normaliser of English (whisper-normalizer {version})",
        "lower case; what stands in brackets is removed, and hmm, mm, mhm, uh, um",
        "contractions and titles are written out (won't: will not, mr: mister)",
        "British spellings become American",
        "numbers become digits (twenty one: 21), symbols, punctuation and diacritics go",
    )
