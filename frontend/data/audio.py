"""Audio in: wav and flac files and Kaldi archives of them, as arrays ``(C, T)`` of full scale 1.0.

An entry of a ``.scp`` file names a file, a place in an archive (``FILE.ark:OFFSET``), several of these, one a
channel (:func:`files_of`), or audio that is made when it is read (``scene:...``, see :class:`Reader`). Audio
is written by :mod:`frontend.data.writers`.

A wav is read to its end where its header gives no length (:mod:`frontend.data.headers`).

Refused here, in one line that names the entry: a missing, truncated, damaged or empty file; NaN and infinity
where the caller asks for ``finite``; another length, rate or number of channels than that of the mixture
(:func:`read_image`, :func:`check_alike`). Silent dry speech is refused in
:mod:`frontend.simulation.mixture_sets`; whole sets are checked by :func:`frontend.data.kaldi.validate`.
"""

import contextlib
import errno
import importlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from frontend import AUDIO_READERS
from frontend.data.headers import archive_record, mended, what_else
from frontend.dsp.activity import Faults, find_faults
from frontend.utils.errors import UserError, warn
from frontend.utils.stamps import of_text

SLACK_S = 0.1  # by which the files of a recording may differ in length: recorders stop one after the other
_LOOK_S = 10.0  # of a recording, read at once in search of dead channels
_RANGE = re.compile(r"\[[\d:,]*\]$")  # Kaldi's: file.ark:123[0:99]
_NARROW = ("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW")
_LOSSY = ("OGG", "MP3")


class Reader(NamedTuple):
    """How the audio of a scheme of entries is made (``frontend.AUDIO_READERS``), from the whole entry.

    Attributes:
        file: the file that the audio is described in.
        info: (channels, frames, fs in Hz), without making the audio.
        read: ``(C, T)`` float32 without NaN, not to be written to, and the rate in Hz.
        stamp: what changes if and only if the audio does.
    """

    file: Callable[[str], Path]
    info: Callable[[str], tuple[int, int, int]]
    read: Callable[[str], tuple[np.ndarray, int]]
    stamp: Callable[[str], tuple]


def scheme_of(entry: str) -> str:
    """Return the scheme of an entry whose audio is made when it is read, "" where a file holds it."""
    scheme, colon, _ = entry.partition(":")
    return scheme if colon and scheme in AUDIO_READERS else ""


def _reader_of(entry: str) -> Reader | None:
    """Return the reader of an entry, None where a file holds its audio."""
    if not (scheme := scheme_of(entry)):
        return None
    module, name = AUDIO_READERS[scheme].split(":")
    return getattr(importlib.import_module(module), name)


def files_of(entry: str) -> tuple[str, ...]:
    """Return what an entry names: one file, place in an archive or rendered stream; or a file a channel.

    The rest of a line of a ``.scp`` is one file where there is a file of that name, blanks and all. Else its
    words are files whose channels follow each other.

    Raises:
        UserError: there is no file of that name, and a word is none either.
    """
    words = entry.split()
    if len(words) < 2 or is_there(entry) or entry.endswith("|"):
        return (entry,)
    for missing in (word for word in words if not is_there(word)):
        raise UserError(
            f"{entry}: no such audio file; read as {len(words)} files, one a channel, '{missing}' is none "
            f"(check the path{_beside(missing)})"
        )
    return tuple(words)


def is_there(entry: str) -> bool:
    """Return whether the file, or archive, of an entry of one file is found from the working directory."""
    return bool(scheme_of(entry)) or os.path.isfile(split_archive(entry)[0])


def _beside(path: str) -> str:
    if path[:1] in "~$\"'" and path:
        return f"; {path[0]} is a letter of the name here as any other, write the path out"
    hint = "; relative paths start at the working directory, or beside their table"
    return "" if os.path.isabs(path) else hint


def audio_file(entry: str) -> Path:
    """Return the file, or archive, that an entry of a ``.scp`` file names; the scenes of a rendered one.

    Of several files it is the first.
    """
    reader = _reader_of(entry)
    return reader.file(entry) if reader else Path(split_archive(files_of(entry)[0])[0])


def audio_info(entry: str) -> tuple[int, int, int]:
    """Return (channels, frames, fs in Hz) of ``entry`` without decoding it; raise as :func:`read_audio`."""
    reader = _reader_of(entry)
    if reader:
        return reader.info(entry)
    if len(files := files_of(entry)) > 1:
        several = Recording(files)
        return several.channels, several.frames, several.fs
    with _open(entry) as audio:
        return audio.channels, audio.frames, audio.samplerate


def seconds_of(entry: str) -> float:
    """Return the length of a recording; raise as :func:`read_audio`."""
    _, frames, fs = audio_info(entry)
    return frames / fs


def read_audio(
    entry: str | Path, start: int = 0, frames: int = -1, finite: bool = False
) -> tuple[np.ndarray, int]:
    """Read a recording or a piece of it.

    Args:
        entry: paths are relative to the working directory.
        start: first sample.
        frames: number of samples, -1 = to the end; fewer come back only at the end of the recording.
        finite: check for NaN and infinity.

    Returns:
        ``(C, T)`` float32, full scale 1.0 (16-bit sample / 32768), and the rate in Hz.

    Raises:
        UserError: missing, unreadable, truncated or empty file, ``start`` beyond its end, NaN.
    """
    entry = str(entry)
    reader = _reader_of(entry)
    if reader:
        made, fs = reader.read(entry)  # finite: it was checked when it was made
        return made[:, start : start + _wanted(entry, start, frames, made.shape[1])].copy(), fs
    if len(files := files_of(entry)) > 1:
        several = Recording(files)
        return several.read(start, frames), several.fs
    with _open(entry) as audio:
        wanted, fs = _wanted(entry, start, frames, audio.frames), audio.samplerate
        try:
            audio.seek(start)
            data = audio.read(wanted, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            data = np.zeros((0, audio.channels), np.float32)
        except (MemoryError, ValueError):  # a header may say anything
            found = f"{wanted} samples of {audio.channels} channels, more than the memory holds"
            raise UserError(f"{entry}: {found} (a damaged header? copy it again, or cut it)") from None
    if len(data) < wanted:
        raise UserError(
            f"{entry}: truncated or damaged, {wanted} samples expected"
            f"{f' from sample {start} on' if start else ''}, found {len(data)} (copy or make it again)"
        )
    if finite and not np.isfinite(data).all():
        bad = int(np.argmin(np.isfinite(data).all(axis=1)))
        _refuse_sample(entry, start + bad, int(np.argmin(np.isfinite(data[bad]))))
    return np.ascontiguousarray(data.T), fs


def _refuse_sample(entry: str, sample: int, channel: int) -> None:
    """Raise the UserError of a sample (both from 0) that is no finite float of 32 bits."""
    with _open(entry) as audio:
        audio.seek(sample)
        value = audio.read(1, dtype="float64", always_2d=True)[0, channel]
    found, what_to_do = "NaN or infinity", "make it again"
    if np.isfinite(value):
        found, what_to_do = f"{value:.3g}, more than a float of 32 bits holds,", "full scale is 1.0: scale it"
    raise UserError(f"{entry}: {found} at sample {sample} of channel {channel + 1} ({what_to_do})")


def read_image(entry: str, frames: int, fs: int) -> np.ndarray:
    """Read a talker's image or a stream ``(T,)``, one channel as long and fast as its mixture.

    Raises:
        UserError: as :func:`read_audio`; several channels, another length or rate.
    """
    image, rate = read_audio(entry, finite=True)
    _check_image(entry, (*image.shape, rate), frames, fs)
    return image[0]


def check_image(entry: str, frames: int, fs: int) -> None:
    """Look at the header of an image or a stream, and raise as :func:`read_image`."""
    _check_image(entry, audio_info(entry), frames, fs)


def _check_image(entry: str, found: tuple[int, int, int], frames: int, fs: int) -> None:
    if found != (1, frames, fs):
        wanted = f"expected 1 channel of {frames} samples at {fs} Hz, as the mixture"
        raise UserError(f"{entry}: {wanted}, found {found[0]} of {found[1]} at {found[2]} Hz")


def check_alike(
    entry: str, frames: int, fs: int, other: str, what_to_do: str, slack_s: float = 0.0
) -> tuple[int, int, int]:
    """Return :func:`audio_info` of ``entry``; raise UserError unless it is as long and fast as ``other``.

    It may be shorter or longer by ``slack_s`` seconds. ``other`` and ``what_to_do`` go into the message.
    """
    channels, found, rate = audio_info(entry)
    if rate != fs or abs(found - frames) > slack_s * fs:
        within = f" to within {1000 * slack_s:g} ms" if slack_s else ""
        raise UserError(
            f"{entry}: expected {frames} samples at {fs} Hz{within} as {other}, found {found} at {rate} Hz "
            f"({what_to_do})"
        )
    return channels, found, rate


class Recording:
    """A recording of any length: one file of C channels, or several files of one array; read piece by piece.

    Recorders stop one after the other: the files may differ in length by 0.1 s, and the shortest counts, with
    a warning. This is the rule of all commands.

    Args:
        entries: the file, or the files in the order of the channels; each may name several
            (:func:`files_of`).

    Attributes:
        entries: the files.
        name: the first file.
        channels, frames, seconds, fs: what it has; fs in Hz.

    Raises:
        UserError: unreadable or empty files, or files that differ in rate or length.
    """

    def __init__(self, entries: Sequence[str]):
        self.entries = tuple(file for entry in entries for file in files_of(entry))
        self.name = self.entries[0]
        found = [audio_info(entry) for entry in self.entries]
        lengths = [frames for _, frames, _ in found]
        self.fs, self.frames, longest = found[0][2], min(lengths), max(lengths)
        one = self.entries[lengths.index(longest)]
        for entry in self.entries if len(found) > 1 else ():
            advice = "cut or resample the files to match"
            check_alike(entry, longest, self.fs, f"{one} of the same recording", advice, SLACK_S)
        self._channels = [channels for channels, _, _ in found]
        self.channels = sum(self._channels)
        self.seconds = self.frames / self.fs
        if longest > self.frames:
            ms = 1000 * (longest - self.frames) / self.fs
            warn(
                f"{self.name}: {len(found)} files of one recording differ in length by up to {ms:.3g} ms: "
                f"cut to the shortest, {self.frames} samples"
            )

    def read(self, start: int = 0, frames: int = -1) -> np.ndarray:
        """Return samples ``(C, T)`` from ``start`` on, -1 = to the end; raise as :func:`read_audio`."""
        frames = _wanted(self.name, start, frames, self.frames)
        return np.concatenate([read_audio(entry, start, frames, finite=True)[0] for entry in self.entries])

    def blocks(self, samples: int) -> Iterator[np.ndarray]:
        """Yield it as arrays ``(C, samples)``, the last one shorter; raise as :meth:`read`."""
        for start in range(0, self.frames, samples):
            yield self.read(start, samples)

    def check_end(self) -> None:
        """Raise UserError if the last samples are not there, before the work on those before them."""
        self.read(self.frames - 1, 1)

    def is_wide(self) -> bool:
        """Tell whether a file holds more than 16 bits a sample."""
        return any(kind not in _NARROW for kind in self._kinds())

    def is_float(self) -> bool:
        """Tell whether a file can hold samples beyond full scale."""
        return any(kind not in _NARROW and not kind.startswith("PCM") for kind in self._kinds())

    def _kinds(self) -> Iterator[str]:
        for entry in self.entries:
            if scheme_of(entry):
                yield "FLOAT"
                continue
            with _open(entry) as audio:
                yield audio.subtype

    def where(self, channel: int) -> str:
        """Return how a channel (from 0) is called in a message: its file, and its number from 1 there."""
        for entry, channels in zip(self.entries, self._channels, strict=True):
            if channel < channels:
                return f"{entry}: channel {channel + 1}"
            channel -= channels
        raise IndexError(channel)

    def faults(self, whole: bool = False) -> Faults:
        """Return which channels are dead or copies; no more is read than it takes to know, unless ``whole``.

        Raises:
            UserError: as :meth:`read`, of what is read.
        """
        # A reader makes all of its audio, however little is asked for.
        at_once = self.frames if any(map(scheme_of, self.entries)) else max(1, round(_LOOK_S * self.fs))
        blocks = self.blocks(at_once)
        found = find_faults(blocks)
        for _ in blocks if whole else ():
            pass
        return found

    def live_channels(self) -> list[int]:
        """Return the channels (from 0) that are not dead, the first of which is the reference.

        What is wrong with the others is a warning. If all are dead, all are returned: silence is separated to
        silence.
        """
        live = self._live(self.faults())
        if live[0]:
            warn(f"{self.where(live[0])} is the reference in place of a dead one")
        return live

    def _live(self, found: Faults) -> list[int]:
        for text in found.warnings(self.where):
            warn(text)
        return found.live(self.channels)

    def check_reference(self) -> None:
        """Raise UserError if the reference channel is dead and others are not; warn as :meth:`live_channels`.

        A trained network takes the channels it was trained for, and its streams are those at the reference.
        """
        found = self.faults()
        if first := found.live(self.channels)[0]:
            raise UserError(
                f"{self.where(0)} is dead, constant from beginning to end, and the network's reference: put "
                f"a live one first, such as channel {first + 1}, or separate blindly"
            )
        self._live(found)


def entry_stamp(entry: str) -> tuple:
    """Return what changes when the audio of an entry does: size and time of its file, or what a reader says.

    Raises:
        UserError: there is no such file.
    """
    reader = _reader_of(entry)
    if reader:
        return reader.stamp(entry)
    if len(files := files_of(entry)) > 1:
        return tuple(value for file in files for value in entry_stamp(file))
    path = audio_file(entry)
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such audio file (run the stage that makes it again)") from None
    return found.st_size, found.st_mtime_ns


def stamp_of_entries(entries: Iterable[str]) -> str:
    """Return a digest of several entries, names and :func:`entry_stamp`, for a ``Stamp``'s inputs.

    A path below the working directory counts from there: a project may be moved.
    """
    here = os.path.join(os.getcwd(), "")
    return of_text(json.dumps([(entry.removeprefix(here), *entry_stamp(entry)) for entry in entries]))


def split_archive(entry: str) -> tuple[str, int | None]:
    """Return the archive and the offset that an entry of one file names; else the entry and None."""
    path, colon, offset = entry.rpartition(":")
    is_place = colon and offset.isascii() and offset.isdecimal() and not os.path.isfile(entry)
    return (path, int(offset)) if is_place else (entry, None)


def _open(entry: str) -> soundfile.SoundFile:
    path, offset = split_archive(entry)
    if entry.endswith("|"):
        raise UserError(f"{entry}: piped commands are not read (write their output to files first)")
    if _RANGE.search(entry) and not os.path.isfile(entry):
        raise UserError(f"{entry}: ranges are not read (name the whole recording, and the piece in segments)")
    try:
        if offset is not None:
            record = archive_record(path, offset)
            if record is None:
                raise UserError(f"{entry}: no complete audio there in the archive (write the archive again)")
            whole = mended(record, entry)
            record.seek(0)
            audio = soundfile.SoundFile(record if whole is None else whole)
        elif os.path.exists(path) and not os.path.isfile(path):
            found = "a directory" if os.path.isdir(path) else "a pipe or device (write it to a file first)"
            raise UserError(f"{path}: expected an audio file, found {found} (check the path)")
        else:
            file = open(path, "rb")
            with contextlib.ExitStack() as stack:
                stack.callback(file.close)
                whole = mended(file, entry)
                if whole is not None:
                    stack.pop_all()  # it is read on
            audio = soundfile.SoundFile(path if whole is None else whole)
    except FileNotFoundError:
        raise UserError(f"{path}: no such audio file (check the path{_beside(path)})") from None
    except NotADirectoryError:
        raise UserError(f"{path}: no such audio file (a part of the path is a file)") from None
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: NAME.raw, which has no header
        raise UserError(f"{entry}: expected wav or flac audio: {what_else(path, error)}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
            raise
        raise UserError(f"{entry}: no name of a file: {getattr(error, 'strerror', None) or error}") from None
    if audio.format in _LOSSY:
        warn(f"{entry}: {audio.format}, a lossy format, which changes the phases that separation lives on")
    if audio.frames <= 0 or audio.samplerate <= 0:
        audio.close()
        raise UserError(f"{entry}: 0 samples (remove the entry or make the file again)")
    return audio


def _wanted(entry: str, start: int, frames: int, total: int) -> int:
    """Return how many samples there are of ``frames`` from ``start`` on."""
    if not 0 <= start < total:
        raise UserError(f"{entry}: sample {start} asked for, found {total} samples")
    return total - start if frames < 0 else min(frames, total - start)
