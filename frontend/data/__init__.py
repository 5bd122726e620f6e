"""What lies on disk: audio, Kaldi tables, mixture sets, dry speech, who spoke when, a user's recordings.

May use ``utils`` and ``dsp``.
"""

import importlib

_readers: dict[str, str] = {}


def register_reader(scheme: str, place: str) -> None:
    """Let entries ``SCHEME:...`` of ``.scp`` files be made when they are read, by a reader of a later room.

    Every process that reads audio must know the readers: a command, a spawned worker, a notebook. So they are
    registered in ``frontend/__init__.py``, which all of them pass, and by name: nothing is imported before
    the first such entry is met.

    Args:
        scheme: what stands before the first colon of the entries.
        place: ``MODULE:NAME`` of a :class:`frontend.data.audio.Reader`.
    """
    _readers[scheme] = place


def reader_of(entry: str):
    """Return the :class:`frontend.data.audio.Reader` of an entry, None where a file holds its audio."""
    scheme, colon, _ = entry.partition(":")
    if not colon or scheme not in _readers:
        return None
    module, _, name = _readers[scheme].partition(":")
    return getattr(importlib.import_module(module), name)
