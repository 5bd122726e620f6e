"""A recogniser: its files, the options of its search, streams to words. ESPnet's are here, Whisper beside it.

Torch and ESPnet are imported when a :class:`Recogniser` is loaded and not before: a wrong path, rate or
option is found in the first second.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import inspect
import json
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import humanfriendly
import numpy as np

from frontend import MODEL
from frontend.dsp.activity import sounds
from frontend.recognition import whisper
from frontend.recognition.whisper import Whisper, WhisperFiles
from frontend.training.checkpoints import load_state, read_state
from frontend.utils.device import check_device
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.espnet import quiet
from frontend.utils.files import read_settings, read_text

# Raised with every change after which the same audio gives other words.
VERSION = 1
_SPECIAL = {"<blank>", "<unk>", "<sos/eos>", "<sos>", "<eos>", "<space>"}


@dataclass(frozen=True)
class RecogniserFiles:
    """A trained ESPnet recogniser on disk."""

    path: str  # as the user gave it
    config: Path
    checkpoint: Path
    settings: dict = field(repr=False)  # of config.yaml
    fs: int  # rate in Hz
    tokens: tuple[str, ...] = field(repr=False)  # without ESPnet's own signs such as <blank>
    n_tokens: int  # with these signs
    token_type: str  # word, char, bpe ...
    ctc_only: bool  # it has no attention decoder or transducer
    needs: tuple[Path, ...] = ()  # further files that ESPnet opens with it
    options: dict = field(default_factory=dict)  # of Speech2Text, such as a packed language model
    longest_s: float | None = None  # it takes streams of any length

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content of every file that a hypothesis depends on."""
        files = (self.config, self.checkpoint, *self.needs)
        digests = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)
        return hashlib.sha256(digests).hexdigest()

    def check_rate(self, where: str, fs: int, hint: str = "") -> None:
        """Raise UserError, naming ``where``, unless audio of ``fs`` Hz fits."""
        if fs != self.fs:
            raise UserError(
                f"{where}: the recogniser {self.path} expects {self.fs} Hz, found {fs} Hz "
                f"(give one trained at this rate{hint})"
            )


Files = RecogniserFiles | WhisperFiles


def find_recogniser(path: str | Path) -> RecogniserFiles:
    """Find what a training left: a directory with ``config.yaml`` and an averaged model, or that model.

    Raises:
        UserError: nothing there, no choice among several models, or not the configuration of a recogniser.
    """
    given, path = str(path), Path(path)
    folder = path.parent if path.is_file() else path
    config = folder / "config.yaml"
    if not config.is_file():
        raise UserError(f"{path}: expected a trained recogniser with config.yaml, found none (train it?)")
    if path.is_file() or (path := folder / MODEL).exists():
        return _read_files(given, config, path)
    found = sorted(folder.glob("valid.*.ave.pth")) or sorted(folder.glob("valid.*.ave_*best.pth"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none (is its training done?)"
        raise UserError(f"{folder}: expected one averaged model such as {MODEL}, found {names}")
    return _read_files(given, config, found[0])


def find_in_zoo(tag: str, cache: str | Path | None = None) -> RecogniserFiles:
    """Get a recogniser from espnet_model_zoo, which downloads it once and unpacks it in ``cache``.

    Args:
        tag: name of a model there or on Hugging Face, a URL, or a zip made by ``espnet2.bin.pack``.
        cache: None takes the package's own place.

    Raises:
        UserError: the package is missing, there is no such model, or it is no recogniser.
    """
    try:
        from espnet_model_zoo.downloader import ModelDownloader
    except ModuleNotFoundError as error:
        hint = "(pip install espnet_model_zoo)"
        raise UserError(f"--asr_model {tag}: needs the package {error.name} {hint}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how it names its cache
            found = ModelDownloader(cache).download_and_unpack(tag)
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, tarfile.TarError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"--asr_model {tag}: espnet_model_zoo cannot provide it: {reason}") from None
    if "asr_train_config" not in found or "asr_model_file" not in found:
        raise UserError(f"--asr_model {tag}: expected a recogniser, found a model with {', '.join(found)}")
    config, checkpoint = Path(found.pop("asr_train_config")), Path(found.pop("asr_model_file"))
    return _read_files(tag, config, checkpoint, found)


def _read_files(name: str, config: Path, checkpoint: Path, options: dict | None = None) -> RecogniserFiles:
    """Read what a recogniser's ``config.yaml`` says of it."""
    values, options = read_settings(config, "config.yaml of a recogniser's training"), options or {}
    tokens = values.get("token_list")
    if isinstance(tokens, str) and Path(tokens).is_file():
        tokens = read_text(tokens).removesuffix("\n").split("\n")
    if not isinstance(tokens, list) or not isinstance(values.get("frontend_conf"), dict):
        raise UserError(
            f"{config}: expected the config.yaml of a recogniser (token_list, frontend_conf), "
            "found another (give a directory made by `train recogniser`)"
        )
    if values.get("input_size") is not None or values.get("frontend") is None:
        raise UserError(f"{config}: the recogniser was trained on features, expected one trained on audio")
    # What ESPnet opens when it builds the model.
    normalize = (values.get("normalize_conf") or {}).get("stats_file")
    needs = {"stats_file": normalize, "bpemodel": values.get("bpemodel")} | options
    for key, path in needs.items():
        if path is not None and not Path(str(path)).is_file():
            raise UserError(
                f"{config}: {key} {path} is not there; relative paths start at the working directory "
                "(run from where it was trained, or write an absolute path)"
            )
    return RecogniserFiles(
        name,
        config,
        checkpoint,
        values,
        rate_of(values["frontend_conf"], str(config)),
        tuple(str(t) for t in tokens if t not in _SPECIAL),
        len(tokens),
        str(values.get("token_type") or "word"),
        ctc_only=not values.get("decoder") or (values.get("model_conf") or {}).get("ctc_weight") == 1.0,
        needs=tuple(Path(str(path)) for path in needs.values() if path is not None),
        options=options,
    )


def rate_of(frontend_conf: dict | None, where: str) -> int:
    """Return the rate in Hz of a recogniser's frontend: ``8000``, ``"8000"`` or ``8k``."""
    value = (frontend_conf or {}).get("fs", 16000)
    try:
        return humanfriendly.parse_size(str(value))
    except humanfriendly.InvalidSize:
        raise UserError(f"{where}: frontend_conf.fs: expected a rate in Hz, found {value!r}") from None


# Keys of ESPnet's Speech2Text by type; a test compares them with its signature. Left out is what says which
# model is loaded and where, and what changes the kind of its answer (several talkers, streaming).
_KEYS: dict[type, str] = {
    int: "beam_size nbest batch_size max_seq_len max_mask_parallel",
    float: "ctc_weight lm_weight ngram_weight penalty maxlenratio minlenratio threshold_probability",
    bool: "normalize_length time_sync partial_ar quantize_asr_model quantize_lm hugging_face_decoder "
    "lid_prompt",
    str: "dtype lm_train_config lm_file ngram_scorer ngram_file quantize_dtype token_type bpemodel "
    "lang_prompt_token nlp_prompt_token prompt_token_file",
    dict: "transducer_conf hugging_face_decoder_conf",
    list: "quantize_modules",
}
OPTIONS = {key: kind for kind, keys in _KEYS.items() for key in keys.split()}
_FILES = ("lm_train_config", "lm_file", "ngram_file", "bpemodel", "prompt_token_file")
_ESPNETS_BEAM = 20  # Speech2Text's default
_CHOICES = {"dtype": ("float32", "float64", "float16", "bfloat16"), "ngram_scorer": ("full", "part")}


def read_options(path: str | Path) -> tuple[dict, dict]:
    """Read ``conf/decode.yaml``: the options of ESPnet's search, and the section ``whisper``, both checked.

    Raises:
        UserError: see :func:`check_options`, :func:`frontend.recognition.whisper.check_options`.
    """
    options = read_settings(path, "configuration of the decoding")
    of_whisper = whisper.check_options(options.pop("whisper", {}), f"{path}: whisper")
    return check_options(options, str(path)), of_whisper


def check_options(options: dict[str, Any], where: str) -> dict[str, Any]:
    """Return ``options`` with numbers as ESPnet wants them.

    Raises:
        UserError: an unknown key, a value of another type or range, a file that is not there.
    """
    checked: dict[str, Any] = {}
    for key, value in options.items():
        if key not in OPTIONS:
            raise UserError(f"{where}: unknown decode option '{key}'{did_you_mean(str(key), OPTIONS)}")
        wanted: Any = OPTIONS[key]
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if wanted is float and is_whole:
            value = float(value)
        if not isinstance(value, wanted) or (wanted is int and not is_whole):
            raise UserError(f"{where}: {key}: expected {wanted.__name__}, found {value!r}")
        if key in ("beam_size", "nbest", "batch_size") and value < 1:
            raise UserError(f"{where}: {key}: expected at least 1, found {value}")
        if key in _CHOICES and value not in _CHOICES[key]:
            raise UserError(f"{where}: {key}: expected {' or '.join(_CHOICES[key])}, found {value}")
        if key == "ctc_weight" and not 0 <= value <= 1:
            raise UserError(f"{where}: ctc_weight: expected 0 to 1, found {value:g}")
        if key in _FILES and not Path(value).is_file():
            raise UserError(f"{where}: {key}: no such file {value}")
        checked[key] = value
    return checked


def complete_options(options: dict, files: RecogniserFiles, where: str = "decode options") -> dict:
    """Return ``options``, checked, and what this recogniser itself asks for.

    Raises:
        UserError: see :func:`check_options`; a weight of CTC for a recogniser that has nothing else.
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


@dataclass(frozen=True)
class Search:
    """A recogniser and the options of its search: all that a hypothesis depends on but the audio."""

    files: Files
    options: dict

    @classmethod
    def find(
        cls, asr: str | Path | None, asr_model: str | None, asr_whisper: str | None, config: str | None
    ) -> Search:
        """Find a recogniser, and complete the options of ``config`` for it.

        Args:
            asr: as :func:`find_recogniser` takes it; None where one of the next two is given.
            asr_model: as :func:`find_in_zoo` takes it.
            asr_whisper: as :func:`frontend.recognition.whisper.find_whisper` takes it. Of the options
                ``beam_size`` and the section ``whisper`` are meant for it.
            config: a YAML file of options; None: the defaults of ESPnet or Whisper.

        Raises:
            UserError: no such recogniser or file, options that do not fit.
        """
        options, of_whisper = read_options(config) if config else ({}, {})
        where = config or "decode options"
        if asr_whisper:
            of_whisper |= {"beam_size": options["beam_size"]} if "beam_size" in options else {}
            return cls(whisper.find_whisper(asr_whisper), whisper.complete_options(of_whisper, where))
        files = find_recogniser(asr) if asr else find_in_zoo(str(asr_model))
        return cls(files, complete_options(options, files, where))

    @property
    def code(self) -> ModuleType:
        """The module whose code the words depend on."""
        return whisper if isinstance(self.files, WhisperFiles) else sys.modules[__name__]

    @property
    def normaliser(self) -> str | None:
        """How both texts are to be normalised, see :func:`frontend.recognition.text.normalise`."""
        return whisper.ENGLISH if self.options.get("language") == "en" else None

    @cached_property
    def identity(self) -> str:
        """Hash of the recogniser's files, the options, and the files that the options name."""
        about: list = [self.files.fingerprint, self.options, list(self.named_files().values())]
        about += [whisper.VERSION] if self.code is whisper else []
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    def named_files(self) -> dict[str, str]:
        """Return a digest of the content of each file that the options name, such as a language model."""
        named = {key: Path(self.options[key]) for key in _FILES if key in self.options}
        return {key: hashlib.sha256(path.read_bytes()).hexdigest() for key, path in named.items()}


# Streams that go through the encoder at once: its attention takes memory with the square of the length.
MAX_BATCH = 16


class Recogniser:
    """A trained recogniser.

    Args:
        files: where it lies, see :func:`find_recogniser`, :func:`frontend.recognition.whisper.find_whisper`.
        options: of the search, see :data:`OPTIONS`.
        device: ``cpu``, ``cuda``, ``cuda:1``.

    Attributes:
        files: what it is and where it came from.
        options: of the search, completed.

    Raises:
        UserError: a damaged checkpoint, one of another network, an unknown option, no such device.

    >>> recogniser = Recogniser.from_pretrained("exp/espeak/asr")  # doctest: +SKIP
    >>> recogniser(streams, fs=8000)  # (S, T) -> S transcripts  # doctest: +SKIP
    """

    def __init__(self, files: Files, options: dict | None = None, device: str = "cpu"):
        check_device(device)
        self.files = files
        self._recognise: Callable[[np.ndarray], list[str]]  # (B, T) to B texts
        if isinstance(files, WhisperFiles):
            self.options = whisper.complete_options(options or {}, "decode options")
            self._recognise = Whisper(files, self.options, device)
        else:
            self.options = complete_options(options or {}, files)
            self._recognise = _ESPnet(files, self.options, device)

    @classmethod
    def from_pretrained(
        cls, path: str | Path, options: dict | None = None, device: str = "cpu"
    ) -> Recogniser:
        """Load what a training left, see :func:`find_recogniser`."""
        return cls(find_recogniser(path), options, device)

    @property
    def fs(self) -> int:
        """Rate in Hz."""
        return self.files.fs

    def __call__(self, streams: np.ndarray, fs: int) -> list[str]:
        """Recognise streams that are equally long, as those of one recording are.

        Args:
            streams: (S, T) float, full scale 1.0.
            fs: their rate in Hz.

        Returns:
            S transcripts; ``""`` for digital silence, and where the encoder would make no frame of them.

        Raises:
            UserError: another rate, or NaN.
        """
        streams = np.atleast_2d(np.asarray(streams, dtype=np.float32))
        self.files.check_rate("streams", fs)
        if not np.isfinite(streams).all():
            raise UserError("streams: expected finite samples, found NaN or infinity")
        # Digital silence holds no speech, and no recogniser was trained on it: it might output a word.
        spoken = np.flatnonzero(sounds(streams))
        texts = [""] * len(streams)
        for begin in range(0, len(spoken), MAX_BATCH):
            batch = spoken[begin : begin + MAX_BATCH]
            for k, text in zip(batch, self._recognise(streams[batch]), strict=True):
                texts[k] = text
        return texts


class _ESPnet:
    """Makes words of streams by ESPnet's Speech2Text."""

    def __init__(self, files: RecogniserFiles, options: dict, device: str):
        _check_weights(files)
        with quiet():
            from frontend.utils.espnet import Speech2Text  # ESPnet: seconds

            # From 202611 on, CTC is scored within a window around each token unless this is 0.
            windows = inspect.signature(Speech2Text).parameters.keys() & {"ctc_window_margin"}
            self._speech2text = Speech2Text(
                asr_train_config=str(files.config),
                asr_model_file=str(files.checkpoint),
                device=device,
                **dict.fromkeys(windows, 0),
                **options,
            )

    def __call__(self, streams: np.ndarray) -> list[str]:
        """Recognise (B, T): the encoder on all of them at once, then one search after the other."""
        import torch

        from frontend.utils.espnet import TooShortUttError

        speech2text, n_samples = self._speech2text, streams.shape[1]
        stft = getattr(speech2text.asr_model.frontend, "stft", None)
        # ESPnet's STFT reflects half a window at either end, which takes more samples than that.
        if n_samples <= (stft.n_fft // 2 if stft is not None and stft.center else 0):
            return [""] * len(streams)
        batch = torch.from_numpy(streams).to(speech2text.device, getattr(torch, speech2text.dtype))
        lengths = torch.full((len(batch),), n_samples, device=batch.device)
        with torch.inference_mode(), quiet():
            try:
                encoded, n_frames = speech2text.asr_model.encode(speech=batch, speech_lengths=lengths)
            except TooShortUttError:
                return [""] * len(streams)
            if isinstance(encoded, tuple):
                encoded = encoded[0]  # the rest is of intermediate layers
            frames = [one[:n] for one, n in zip(encoded, n_frames.tolist(), strict=True)]
            # ESPnet has no public step between a whole recording and its encoding.
            found = [speech2text._decode_single_sample(one) if len(one) else [] for one in frames]
        return [hypotheses[0][0] or "" if hypotheses else "" for hypotheses in found]


def _check_weights(files: RecogniserFiles) -> None:
    """Raise UserError unless the checkpoint fits ``config.yaml``: Speech2Text loads with ``strict=False``."""
    state = read_state(files.checkpoint)
    with quiet():
        try:
            from frontend.utils.espnet import asr

            # 202611 does not know all that was an `init` before; all weights are loaded.
            settings = copy.deepcopy(files.settings) | {"init": None}
            model = asr.ASRTask.build_model(argparse.Namespace(**settings))
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # whatever a missing setting does
            raise UserError(f"{files.config}: ESPnet cannot build a recogniser of it: {error}") from None
    load_state(model, state, str(files.checkpoint), f"the network of {files.config}")
