"""What there is to recognise: the streams of every system on a test set, and what was really said."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from frontend.datadir import MixtureSet, audio_info, read_audio, read_scp
from frontend.errors import UserError, did_you_mean
from frontend.recogniser_files import RecogniserFiles
from frontend.streams import Streams, file_stamp
from frontend.text_normaliser import normalise

DRY = "dry"


@dataclass(frozen=True)
class Row:
    """One system: its streams and its recogniser.

    Attributes:
        name: of the system.
        streams: ``{id: [audio of each stream]}``; the first channel is meant, None is no talker.
        recogniser: who recognises them.
        separated: the streams' directory, checked before they are read; None where there is none (``dry``).
    """

    name: str
    streams: Mapping[str, Sequence[str | None]] = field(repr=False)
    recogniser: RecogniserFiles
    separated: Streams | None = field(default=None, repr=False)

    def fingerprint(self, about: object) -> str:
        """Hash ``about`` and the name, size and time of every audio file."""
        stamps = [[e and (e, *file_stamp(e)) for e in self.streams[key]] for key in sorted(self.streams)]
        return hashlib.sha256(json.dumps([about, list(self.streams), stamps]).encode()).hexdigest()

    def check(self) -> None:
        """Raise UserError for a stream that is unreadable or of another rate or length than its mixture."""
        if self.separated is not None:
            self.separated.check()
        for entry in (e for streams in self.streams.values() for e in streams if e):
            self.recogniser.check_rate(entry, audio_info(entry)[2])


def reference_texts(mixtures: MixtureSet) -> dict[str, list[str]]:
    """Return ``{id: [words of each talker]}``; ``""`` where a mixture has fewer talkers.

    Raises:
        UserError: no ``text_spkK`` of a talker, no words where there is a voice, or nobody who speaks.
    """
    for k in range(1, mixtures.n_talkers + 1):
        path = mixtures.path / f"text_spk{k}"
        if not path.is_file():
            raise UserError(f"{path}: expected the words of talker {k} of each mixture, found no such file")
    texts = {key: mixtures.texts(key) for key in mixtures.ids}
    for key, words in texts.items():
        for k, text in enumerate(words, 1):
            if normalise(text):
                continue
            image = mixtures.speakers[k - 1][key]
            if read_audio(image, finite=True)[0].any():
                raise UserError(
                    f"{mixtures.path}/text_spk{k}: {key} has no words, but {image} is not silent "
                    "(add what is said there)"
                )
        if not any(map(normalise, words)):
            raise UserError(f"{mixtures.path}/text_spk1: nobody says anything in {key} (leave it out)")
    return texts


def separated_streams(separated: str | Path, mixtures: MixtureSet) -> dict[str, Streams]:
    """Return the streams of every system below ``separated``.

    Raises:
        UserError: no system, or one without a stream for an utterance.
    """
    separated = Path(separated)
    if not separated.is_dir():
        raise UserError(f"{separated}: expected a directory with a directory per system, found none")
    found = sorted(p for p in separated.iterdir() if p.is_dir() and not p.name.startswith("."))
    return {path.name: Streams(path, mixtures) for path in found}


def stream_entries(streams: Streams) -> dict[str, tuple[str, ...]]:
    """Return ``{id: [audio of each stream]}``."""
    return {utterance.id: utterance.streams for utterance in streams.utterances()}


def dry_entries(
    mixtures: MixtureSet, speech: str | Path, texts: Mapping[str, Sequence[str]]
) -> dict[str, list[str | None]]:
    """Return ``{id: [dry utterance of each talker]}``, which the scenes of the test set name.

    Raises:
        UserError: no scenes, an utterance that ``speech`` has not got, or a talker without words.
    """
    wav, entries = read_scp(Path(speech) / "wav.scp"), {}
    for key in mixtures.ids:
        names = [talker["utterance"] for talker in mixtures.scene(key)["talkers"]]
        for k, name in enumerate(names, 1):
            if name not in wav:
                raise UserError(
                    f"{speech}/wav.scp: no utterance '{name}', which talker {k} of {key} says by "
                    f"{mixtures.path}/scenes.jsonl (give the speech set it was simulated from)"
                )
            if k > len(texts[key]) or not normalise(texts[key][k - 1]):
                raise UserError(
                    f"{mixtures.path}/text_spk{k}: {key} has no words, but its scene has a talker"
                )
        entries[key] = [wav[name] for name in names] + [None] * (len(texts[key]) - len(names))
    return entries


def choose(names: Sequence[str], wanted: Sequence[str], where: str | Path) -> list[str]:
    """Return those of ``names`` that are ``wanted``, all of them if none is named.

    Raises:
        UserError: a name that is not there.
    """
    for name in wanted:
        if name not in names:
            raise UserError(f"{where}: no streams of a system '{name}'{did_you_mean(name, names)}")
    return [name for name in names if name in wanted or not wanted]
