"""ESPnet, imported when it is asked for, without downloads and chatter.

The import of ESPnet takes 8 s. It tries to download pronunciation data for g2p_en, which no task here needs
(seconds without a network, in every process), prints to standard output, and warns of what its own future
versions will change. Everything of ours that needs ESPnet's tasks imports them from this module, by name:
``from frontend.utils.espnet import enh``.
"""

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

# Name here -> module of ESPnet, and what is meant in it (None: the module).
_NAMES = {
    "abs_task": ("espnet2.tasks.abs_task", None),
    "asr": ("espnet2.tasks.asr", None),
    "enh": ("espnet2.tasks.enh", None),
    "enh_s2t": ("espnet2.tasks.enh_s2t", None),
    "tokenize_text": ("espnet2.bin.tokenize_text", None),
    "AbsPreprocessor": ("espnet2.train.preprocessor", "AbsPreprocessor"),
    "ESPnetEnhancementModel": ("espnet2.enh.espnet_model", "ESPnetEnhancementModel"),
    "Speech2Text": ("espnet2.bin.asr_inference", "Speech2Text"),
    "Trainer": ("espnet2.train.trainer", "Trainer"),
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep libraries' warnings, log and prints off the terminal: nothing in them that a user could put right.

    What they log is lost, and ``logging.basicConfig``, which ESPnet calls, does nothing meanwhile.
    """
    nowhere, disabled = logging.NullHandler(), logging.root.manager.disable
    logging.root.addHandler(nowhere)
    logging.disable(max(disabled, logging.WARNING))
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        logging.root.removeHandler(nowhere)


@contextlib.contextmanager
def _no_downloads() -> Iterator[None]:
    import nltk

    download, nltk.download = nltk.download, lambda *args, **kwargs: False
    try:
        yield
    finally:
        nltk.download = download


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _NAMES[name]
    with quiet(), _no_downloads():
        found = importlib.import_module(module)
    return found if attribute is None else getattr(found, attribute)
