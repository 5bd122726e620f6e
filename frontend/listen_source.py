"""What there is to hear of an experiment: its scores, word errors, streams and test set, made sure to fit."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from frontend.datadir import MixtureSet, audio_info
from frontend.errors import UserError
from frontend.listen_choice import choose_utterances, main_system, places, played_systems
from frontend.listen_examples import UNPLAYED, Example, Heard, gather
from frontend.results import load_scores, read_measured
from frontend.streams import Streams, labelled_set
from frontend.systems import System

# Of audio: with its spectrograms the folder stays below 40 MB.
MOST_BYTES = 24_000_000
# Rows that have no streams of their own: they name audio of the test set.
_NAMES_ONLY = ("mixture", "oracle", *UNPLAYED)


class Source:
    """An experiment to listen to.

    Args:
        experiment: ``exp/NAME`` with ``scores/``, ``separated/test/`` and, if words were counted, ``wer/``.
        systems: those that the systems file lists; others are not played.

    Attributes:
        main: the system that utterances are chosen by.
        played: names of the systems to hear.
        has_words: whether words were counted.

    Raises:
        UserError: no scores, or scores, word errors, streams and test set that do not fit.
    """

    def __init__(self, experiment: Path, systems: Sequence[System]):
        listed = [system.name for system in systems]
        scores = load_scores(experiment / "scores")
        scores = {name: scores[name] for name in listed if name in scores}
        if not scores:
            where = experiment / "scores"
            raise UserError(f"{where}: no score of any listed system (run the stage 'score' first)")
        self.main = main_system(scores, systems)
        self._gains = dict(
            zip(scores[self.main].ids, scores[self.main].values("si_snri").tolist(), strict=True)
        )
        self._mixtures: MixtureSet = labelled_set(scores[self.main].about["data"])
        counted = {name: rows for name, (_, rows) in read_measured(experiment / "wer", "wer").items()}
        self.has_words = bool(counted)
        self.played = played_systems({*scores, "oracle", *({*UNPLAYED} & {*counted})}, self.main)
        scored = {name: one.utterances for name, one in scores.items()}
        self._scores, self._words = (
            self._by_id(rows, stage) for rows, stage in ((scored, "score"), (counted, "wer"))
        )
        self._streams = {
            name: {one.id: one for one in self._read_streams(experiment / "separated/test" / name)}
            for name in self.played
            if name not in _NAMES_ONLY
        }

    def choose(self) -> dict[str, str]:
        """Return the utterances to hear and why, as many as :data:`MOST_BYTES` allow, one at least."""
        chosen, left = {}, MOST_BYTES
        for key, kind in choose_utterances(self._gains, self._rates()).items():
            left -= self._bytes(key)
            if left < 0 and chosen:
                break
            chosen[key] = kind
        return chosen

    def example(self, key: str, kind: str) -> tuple[Example, dict[str, np.ndarray]]:
        """Return an utterance and its signals.

        Raises:
            UserError: a signal cannot be read or does not fit.
        """
        tables = (self._scores, self._words, self._streams)
        heard = {name: Heard(*(table.get(name, {}).get(key) for table in tables)) for name in self.played}
        return gather(self._mixtures, key, kind, heard, self._places(key))

    def _places(self, key: str) -> list[str]:
        """Say in words what place an utterance has among all, by what the main system made of it."""
        found = places(self._gains, self._rates())
        if key not in found:
            return []
        gain, words = found[key]
        return [f"{self.main} is at place {gain:g} of {len(found)} by SI-SNRi and {words:g} by word errors"]

    def _rates(self) -> dict[str, float]:
        """Return the word error rate of the main system by utterance."""
        return {key: row["errors"] / row["words"] for key, row in self._words.get(self.main, {}).items()}

    def _bytes(self, key: str) -> int:
        streams = sum(len(one[key].streams) for one in self._streams.values())
        return 2 * audio_info(self._mixtures.wav[key])[1] * (1 + self._mixtures.n_talkers + streams)

    def _read_streams(self, directory: Path) -> list:
        return Streams(directory, self._mixtures).utterances()

    def _by_id(self, measured: Mapping[str, Sequence[dict]], stage: str) -> dict[str, dict[str, dict]]:
        """Return ``{system: {utterance id: row}}`` of what is played, made sure to be of the test set."""
        found = {name: {row["id"]: row for row in measured[name]} for name in self.played if name in measured}
        for name, rows in found.items():
            for key in sorted(rows.keys() ^ set(self._mixtures.ids))[:1]:
                where = f"nothing of {key}" if key not in rows else f"{key}, which is not there,"
                raise UserError(
                    f"{self._mixtures.path}: the stage '{stage}' has {where} for {name} (run it again)"
                )
        return found
