"""ESPnet, imported without downloads and chatter.

The import of ESPnet's tasks tries to download pronunciation data for g2p_en, which no task
here needs (seconds without a network, in every process), prints to standard output, and
warns of what its own future versions will change. Everything else that is ours and
needs the tasks imports them from here; the recogniser's are imported when they are asked
for (1 s that separation alone does not pay).
"""

import contextlib
import importlib
import io
import warnings
from collections.abc import Iterator

import nltk


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    download, nltk.download = nltk.download, lambda *args, **kwargs: False
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        nltk.download = download


with quiet():
    from espnet2.enh.espnet_model import ESPnetEnhancementModel
    from espnet2.tasks import abs_task, enh
    from espnet2.train.preprocessor import AbsPreprocessor
    from espnet2.train.trainer import Trainer

_LATE = {
    "asr": ("espnet2.tasks.asr", None),
    "enh_s2t": ("espnet2.tasks.enh_s2t", None),
    "Speech2Text": ("espnet2.bin.asr_inference", "Speech2Text"),
}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LATE[name]
    with quiet():
        found = importlib.import_module(module)
    return found if attribute is None else getattr(found, attribute)


__all__ = ["AbsPreprocessor", "ESPnetEnhancementModel", "Trainer", "abs_task", "enh"]
