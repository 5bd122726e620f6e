"""Where a trained recogniser lies, and what its files say: rate, tokens, fingerprint.

Nothing here imports torch or ESPnet, so that a wrong path or rate is said before the long imports,
and a run that finds everything done ends at once.
"""

import hashlib
import tarfile
import warnings
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from frontend.errors import UserError
from frontend.yaml_file import read_settings

ASR_MODEL = "valid.loss.ave.pth"
# Files that ESPnet opens when it builds the model, by where config.yaml names them.
_NAMED_FILES = (("normalize_conf", "stats_file"), (None, "bpemodel"))
_SPECIAL = {"<blank>", "<unk>", "<sos/eos>", "<sos>", "<eos>", "<space>"}


@dataclass(frozen=True)
class RecogniserFiles:
    """A trained ESPnet recogniser on disk.

    Attributes:
        path: as the user gave it.
        config, checkpoint: the files to load.
        fs: rate in Hz that it was trained at.
        tokens: what it can put out, without ESPnet's own signs such as ``<blank>``.
        n_tokens: their number with these signs.
        token_type: ``word``, ``char``, ``bpe`` ...
        ctc_only: whether it has no attention decoder or transducer.
        needs: further files that ESPnet opens with it.
        options: further options of ESPnet's ``Speech2Text`` that belong to it (a packed language model).
    """

    path: str
    config: Path
    checkpoint: Path
    fs: int
    tokens: tuple[str, ...] = field(repr=False)
    n_tokens: int
    token_type: str
    ctc_only: bool
    needs: tuple[Path, ...] = ()
    options: dict = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content of every file that a hypothesis depends on."""
        digest = hashlib.sha256()
        for path in (self.config, self.checkpoint, *self.needs):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def check_rate(self, where: str, fs: int, hint: str = "") -> None:
        """Raise UserError, naming ``where``, unless audio of ``fs`` Hz fits."""
        if fs != self.fs:
            raise UserError(
                f"{where}: the recogniser {self.path} expects {self.fs} Hz, found {fs} Hz "
                f"(give one trained at this rate{hint})"
            )


def find_recogniser(path: str | Path) -> RecogniserFiles:
    """Find what a training left in ``path``.

    Args:
        path: a directory with ``config.yaml`` and an averaged model, or the model itself, beside which
            its ``config.yaml`` lies.

    Raises:
        UserError: nothing there, no choice among several models, or not the configuration of a recogniser.
    """
    path = Path(path)
    folder = path.parent if path.is_file() else path
    config = folder / "config.yaml"
    if not config.is_file():
        raise UserError(
            f"{path}: expected a trained recogniser with config.yaml, found none (train it first?)"
        )
    return describe(str(path), config, path if path.is_file() else _averaged_model(folder))


def find_in_zoo(tag: str, cache: str | Path | None = None) -> RecogniserFiles:
    """Get a recogniser from espnet_model_zoo, which downloads and unpacks it once.

    Args:
        tag: name of a model there or on Hugging Face, a URL, or a zip made by ``espnet2.bin.pack``.
        cache: where it is unpacked; None takes the package's own place.

    Raises:
        UserError: the package is missing, there is no such model, or it is no recogniser.
    """
    try:
        from espnet_model_zoo.downloader import ModelDownloader
    except ModuleNotFoundError as error:
        raise UserError(
            f"--asr_model {tag}: needs the package {error.name} (pip install espnet_model_zoo)"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how it names its cache
            found = ModelDownloader(cache).download_and_unpack(tag)
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, tarfile.TarError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"--asr_model {tag}: espnet_model_zoo has not got it: {reason}") from None
    if "asr_train_config" not in found or "asr_model_file" not in found:
        raise UserError(f"--asr_model {tag}: expected a recogniser, found a model with {', '.join(found)}")
    config, checkpoint = Path(found.pop("asr_train_config")), Path(found.pop("asr_model_file"))
    return describe(tag, config, checkpoint, found)


def describe(name: str, config: Path, checkpoint: Path, options: dict | None = None) -> RecogniserFiles:
    """Read what a recogniser's ``config.yaml`` says of it.

    Raises:
        UserError: it is not the configuration of a recogniser, or a file that it names is not there.
    """
    values, options = read_settings(config, "config.yaml of a recogniser's training"), options or {}
    tokens = values.get("token_list")
    if isinstance(tokens, str) and Path(tokens).is_file():
        tokens = Path(tokens).read_text(encoding="utf-8").splitlines()
    if not isinstance(tokens, list) or not isinstance(values.get("frontend_conf"), dict):
        raise UserError(
            f"{config}: expected the config.yaml of a recogniser (token_list, frontend_conf), "
            "found another (give a directory trained by asr_train)"
        )
    if values.get("input_size") is not None or values.get("frontend") is None:
        raise UserError(f"{config}: the recogniser was trained on features, expected one trained on audio")
    needs = _named_files(config, values) + [Path(str(path)) for path in options.values()]
    return RecogniserFiles(
        name,
        config,
        checkpoint,
        _rate(values["frontend_conf"].get("fs", 16000), config),
        tuple(str(t) for t in tokens if t not in _SPECIAL),
        len(tokens),
        str(values.get("token_type") or "word"),
        not values.get("decoder") or (values.get("model_conf") or {}).get("ctc_weight") == 1.0,
        tuple(needs),
        options,
    )


def _averaged_model(folder: Path) -> Path:
    if (folder / ASR_MODEL).exists():
        return folder / ASR_MODEL
    found = sorted(folder.glob("valid.*.ave.pth")) or sorted(folder.glob("valid.*.ave_*best.pth"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none (is its training done?)"
        raise UserError(f"{folder}: expected one averaged model such as {ASR_MODEL}, found {names}")
    return found[0]


def _named_files(config: Path, values: dict) -> list[Path]:
    files = []
    for section, key in _NAMED_FILES:
        place = (values.get(section) or {}) if section else values
        if place.get(key) is None:
            continue
        path = Path(str(place[key]))
        if not path.is_file():
            raise UserError(
                f"{config}: {key} {path} is not there; relative paths start at the working directory "
                "(run from where it was trained, or write an absolute path)"
            )
        files.append(path)
    return files


def _rate(value: object, config: Path) -> int:
    """Read ``8000``, ``"8000"`` or ``8k``: ESPnet takes all of them."""
    text = str(value).lower()
    try:
        return int(float(text[:-1]) * 1000) if text.endswith("k") else int(text)
    except ValueError:
        raise UserError(f"{config}: frontend_conf.fs: expected a rate in Hz, found {value!r}") from None
