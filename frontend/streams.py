"""The separated streams of one system on one test set: where they lie, and how to read them.

A directory with ``spk1.scp .. spkS.scp``, one stream a talker; ``raw1.scp .. rawM.scp``
where these were selected or merged from more outputs; and ``info.json`` (real-time
factor, memory, number of outputs).
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frontend.audio import renderer
from frontend.datadir import MixtureSet, audio_info, read_audio, read_scp
from frontend.errors import UserError


def labelled_set(path: str | Path) -> MixtureSet:
    """Open a mixture set.

    Raises:
        UserError: it is none, or has no images of the talkers.
    """
    mixtures = MixtureSet(path)
    if mixtures.n_talkers == 0:
        raise UserError(
            f"{path}: expected spk1.scp, spk2.scp ... to score against, found none (unlabelled set)"
        )
    return mixtures


def file_stamp(entry: str) -> tuple:
    """Return size and time of change of the file (or archive) behind an scp entry; of one that is rendered
    when it is read, a digest of what it is made of.

    Raises:
        UserError: there is no such file.
    """
    made_by = renderer(entry)
    if made_by:
        return made_by.stamp(entry)
    name, colon, offset = entry.rpartition(":")
    path = Path(name if colon and offset.isdigit() else entry)
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise UserError(f"{path}: no such stream file (run the stage 'separate' again)") from None
    return stat.st_size, stat.st_mtime_ns


@dataclass(frozen=True)
class Utterance:
    """The audio entries of one utterance: all a process needs to score it."""

    id: str
    mixture: str
    references: tuple[str, ...]
    streams: tuple[str, ...]
    outputs: tuple[str, ...]

    def read(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
        """Return references and streams ``(S, T)``, outputs ``(M, T)``, mixture ``(T,)``, rate in Hz.

        Raises:
            UserError: unreadable audio, NaN.
        """
        mixture, fs = read_audio(self.mixture)
        return *map(_stack, (self.references, self.streams, self.outputs)), mixture[0], fs


def _stack(entries: tuple[str, ...]) -> np.ndarray:
    # The row `mixture` names the multi-channel recording itself: its reference channel is meant.
    return np.stack([read_audio(entry, finite=True)[0][0] for entry in entries])


class Streams:
    """Streams of one system, checked against the test set they belong to.

    Args:
        directory: with ``spk1.scp`` ...
        mixtures: the test set that was separated.

    Raises:
        UserError: no ``spk1.scp``, fewer streams than talkers, ids that are not those of the set.
    """

    def __init__(self, directory: Path, mixtures: MixtureSet):
        self.directory, self.mixtures = directory, mixtures
        self._spk, self._raw = self._tables("spk"), self._tables("raw")
        if len(self._spk) < mixtures.n_talkers:
            wanted = f"at least {mixtures.n_talkers} streams, as {mixtures.path} has talkers"
            raise UserError(f"{directory}: expected {wanted}, found {len(self._spk)} (spk1.scp ...)")

    def utterances(self) -> list[Utterance]:
        """Return what there is to score; outputs are the streams where none were kept beside them."""
        mixtures, outputs = self.mixtures, self._raw or self._spk
        return [
            Utterance(
                key,
                mixtures.wav[key],
                *(tuple(t[key] for t in ts) for ts in (mixtures.speakers, self._spk, outputs)),
            )
            for key in mixtures.ids
        ]

    def check(self) -> None:
        """Raise a UserError for the first stream that is not as long or fast as its mixture, or not mono."""
        for utterance in self.utterances():
            _, frames, fs = audio_info(utterance.mixture)
            for entry in (*utterance.references, *utterance.streams, *utterance.outputs):
                channels, found, rate = audio_info(entry)
                if (found, rate) != (frames, fs):
                    raise UserError(
                        f"{entry}: expected {frames} samples at {fs} Hz as in the mixture {utterance.id}, "
                        f"found {found} at {rate} Hz (make it again)"
                    )
                if channels > 1 and os.path.realpath(entry) != os.path.realpath(utterance.mixture):
                    raise UserError(
                        f"{entry}: expected a mono stream, found {channels} channels (separate again)"
                    )

    def info(self) -> dict:
        """Return ``info.json``; empty where a system has none."""
        path = self.directory / "info.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def _tables(self, kind: str) -> list[dict[str, str]]:
        tables = []
        while (path := self.directory / f"{kind}{len(tables) + 1}.scp").is_file():
            table = read_scp(path)
            for utterance in sorted(table.keys() ^ set(self.mixtures.ids)):
                where = "has no stream of" if utterance not in table else "has a stream of unknown"
                raise UserError(
                    f"{path}: {where} utterance {utterance} of {self.mixtures.path} (separate again)"
                )
            tables.append(table)
        return tables
