"""eSpeak NG, driven through ctypes: text in, samples out.

The library, its voices and its dictionaries come with the ``espeakng-loader`` wheel; they are GPL-3 and
used by recipes alone. Constants and functions are those of eSpeak NG's ``speak_lib.h``.
"""

import _ctypes
import ctypes
import os
import tempfile

import numpy as np

from frontend.utils.errors import UserError

_SYNCHRONOUS, _DONT_EXIT = 2, 0x8000
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_CHARACTERS, _UTF8 = 1, 1
# At full volume a limiter inside espeak bends the waveform of the louder variants.
_QUIET = 30
_LONGEST_PATH = 120  # espeak keeps it in a buffer of 160 bytes, and falls back to another path beyond that

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def synthesise(
    text: str, voice: str, variant: str = "", rate: int = 170, pitch: int = 50, intonation: int = 50
) -> tuple[np.ndarray, int]:
    """Speak ``text``; the result depends on nothing but the arguments.

    Args:
        text: lower-case English.
        voice: an accent, such as ``en-us`` (see :mod:`voices`).
        variant: a talker's voice such as ``f2``, a file of ``voices/!v``.
        rate: words per minute, 80 to 450.
        pitch: 0 to 100; 50 is the variant's own.
        intonation: 0 (monotone) to 100; 50 is the variant's own.

    Returns:
        samples ``(T,)`` float32 within ±1, and their rate in Hz.

    Raises:
        UserError: unknown voice, or the library does not work on this machine.
    """
    path, data = _wheel()
    if variant and not os.path.isfile(os.path.join(data, "voices", "!v", variant)):
        # espeak would speak with the plain voice
        raise UserError(f"{data}/voices/!v: no variant '{variant}' (see voices.py for those in use)")
    settings, voice = (rate, pitch, intonation), f"{voice}+{variant}" if variant else voice
    if len(data) <= _LONGEST_PATH:
        return _speak(path, data, text, voice, settings)
    with tempfile.TemporaryDirectory() as directory:
        link = os.path.join(directory, "espeak-ng-data")
        os.symlink(data, link)
        return _speak(path, link, text, voice, settings)


def _wheel() -> tuple[str, str]:
    """Return where the wheel keeps the library and its data."""
    try:
        import espeakng_loader  # here, so that the other corpora do without it
    except ImportError:
        raise UserError("espeak needs the wheel espeakng-loader (pip install espeakng-loader)") from None
    return espeakng_loader.get_library_path(), espeakng_loader.get_data_path()


def _speak(path: str, data: str, text: str, voice: str, settings: tuple) -> tuple[np.ndarray, int]:
    # The phase of flutter lives on in the library from one utterance to the next, and neither
    # setting every parameter nor espeak_Initialize resets it: a fresh library for every utterance (0.3 ms).
    library = ctypes.CDLL(path)
    try:
        fs = library.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), _DONT_EXIT)
        if fs <= 0:
            raise UserError(
                f"{path}: espeak-ng does not start with its data in {data} (reinstall espeakng-loader)"
            )
        samples = _collect(library, text, voice, settings)
        library.espeak_Terminate()
    finally:
        _ctypes.dlclose(library._handle)
    _check_unloaded(path)
    return samples, fs


def _collect(library: ctypes.CDLL, text: str, voice: str, settings: tuple) -> np.ndarray:
    pieces: list[np.ndarray] = []

    def receive(samples, number, _events) -> int:
        if number:
            pieces.append(np.ctypeslib.as_array(samples, (number,)).copy())
        return 0

    callback = _Callback(receive)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise UserError(f"espeak-ng has no voice '{voice}' (see voices.py for those that it has)")
    for parameter, value in zip((_RATE, _PITCH, _RANGE, _VOLUME), (*settings, _QUIET), strict=True):
        library.espeak_SetParameter(parameter, int(value), 0)
    # espeak_Initialize seeds the noise of breath with the time of day.
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    raw = text.encode()
    size = ctypes.c_size_t(len(raw) + 1)
    if library.espeak_Synth(raw, size, 0, _CHARACTERS, 0, _UTF8, None, None) != 0 or not pieces:
        raise UserError(f"espeak-ng could not speak '{text}' with voice '{voice}'")
    return np.concatenate(pieces).astype(np.float32) / 32768


def _check_unloaded(path: str) -> None:
    try:
        ctypes.CDLL(path, mode=os.RTLD_NOLOAD)
    except OSError:
        return
    raise UserError(f"{path}: stays in memory when closed, so speech would depend on what was spoken before")
