"""ESPnet, imported when it is asked for, without what takes most of the time, and without chatter.

Imported as it is, ESPnet takes 10 s of processor time beside torch. Most of it goes into three things that
nothing here needs: typeguard, which parses a module again for every function that checks the types of its
arguments; modules that turn text to phones (g2p_en, nltk, inflect), which also try to download data; and
torch's compiler, which 202611 loads to exclude a function from it. So functions that are imported here do not
check types and say nothing to the compiler, and those modules are loaded once they are used.

ESPnet also prints to standard output, and warns of what its own future versions will change. Everything of
ours that needs ESPnet's tasks, or what loads its layers, imports it from this module:
``from frontend.utils.espnet import enh``.
"""

import contextlib
import importlib
import importlib.util
import io
import logging
import sys
import types
import warnings
from collections.abc import Callable, Iterator
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
    "GridNetV2Block": ("espnet2.enh.separator.tfgridnetv2_separator", "GridNetV2Block"),
    "Speech2Text": ("espnet2.bin.asr_inference", "Speech2Text"),
    "TimeDomainLoss": ("espnet2.enh.loss.criterions.time_domain", "TimeDomainLoss"),
    "TooShortUttError": ("{nets}.pytorch_backend.transformer.subsampling", "TooShortUttError"),
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


# Imported by ESPnet's modules of text, used by none of ours; a package before what is in it.
_LATE = ("g2p_en", "nltk", "tacotron_cleaner", "tacotron_cleaner.cleaners")


class _Late(types.ModuleType):
    """Stands for a module until something in it is asked for, which imports it."""

    def __getattr__(self, name: str) -> Any:
        # Whoever looks through all modules asks for __file__ and the like: that is no use of it.
        if name.startswith("__") and name != "__path__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if sys.modules.get(self.__name__) is self:
            for within in [key for key in sys.modules if key.startswith(f"{self.__name__}.")]:
                if isinstance(sys.modules[within], _Late):
                    del sys.modules[within]
            del sys.modules[self.__name__]
        found = importlib.import_module(self.__name__)
        self.__dict__.update(found.__dict__)
        return getattr(found, name)


def _put_off() -> None:
    """Let stand-ins take the place of the modules that are not needed, where these are installed."""
    for name in _LATE:
        package, _, inner = name.rpartition(".")
        if name in sys.modules or (package and not isinstance(sys.modules.get(package), _Late)):
            continue
        spec = None if package else importlib.util.find_spec(name)
        if spec or package:
            module = sys.modules[name] = _Late(name)
            module.__spec__ = spec
            if package:
                setattr(sys.modules[package], inner, module)


@contextlib.contextmanager
def _undecorated() -> Iterator[None]:
    """Let the decorators of ESPnet's functions do nothing: typeguard's, and that for torch's compiler."""
    import torch.compiler
    import typeguard

    def as_it_is(function: Callable | None = None, *_: Any, **__: Any) -> Callable:
        return (lambda given: given) if function is None else function

    of_types, of_compiler = typeguard.typechecked, torch.compiler.disable
    typeguard.typechecked = torch.compiler.disable = as_it_is  # type: ignore[assignment]
    try:
        yield
    finally:
        typeguard.typechecked, torch.compiler.disable = of_types, of_compiler


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _NAMES[name]
    _put_off()
    # 202611 says on standard error that flash_attn is missing, which nothing here wants.
    with quiet(), _undecorated(), contextlib.redirect_stderr(io.StringIO()):
        # 202511 has the first version's networks in a package of their own, 202611 has none.
        nets = "espnet2.legacy.nets" if importlib.util.find_spec("espnet2.legacy") else "espnet.nets"
        found = importlib.import_module(module.format(nets=nets))
    return found if attribute is None else getattr(found, attribute)
