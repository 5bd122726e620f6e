"""Data directories in Kaldi form: the one way data lies on disk.

Speech set (dry, one talker an utterance): ``wav.scp utt2spk spk2utt text``.

Mixture set: ``wav.scp`` (C channels), ``spk1.scp spk2.scp ...`` (images at the reference channel, mono;
absent in an unlabelled set; silent where a mixture has fewer talkers), ``text_spk1 text_spk2 ...`` (the id
alone where there is no talker), ``utt2spk spk2utt`` (utt -> utt), ``utt2num_samples``, ``scenes.jsonl``.

Every table is sorted by id. Paths in ``.scp`` files are relative to the working directory, as Kaldi's and
ESPnet's are; an entry is a file, ``archive.ark:offset``, or a scene that is rendered when it is read
(``scene:SET/scenes.jsonl:ID:STREAM``, see :mod:`frontend.virtual`).
"""

import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

from frontend import atomic
from frontend.audio import AUDIO_FORMATS, AudioWriter, audio_file, audio_info, read_audio, to_pcm16
from frontend.errors import UserError
from frontend.tables import read_scp, scan_table, write_scp
from frontend.validate import numbered, read_records, validate

__all__ = [
    "AUDIO_FORMATS",
    "AudioWriter",
    "MixtureSet",
    "all_there",
    "audio_file",
    "audio_info",
    "read_audio",
    "read_scp",
    "scan_table",
    "subset",
    "to_pcm16",
    "validate",
    "write_scp",
    "write_spk2utt",
]


def write_spk2utt(directory: str | Path, utt2spk: dict[str, str]) -> None:
    """Write ``utt2spk`` and its inverse ``spk2utt`` into ``directory``."""
    spk2utt: dict[str, list[str]] = {}
    for utterance in sorted(utt2spk):
        spk2utt.setdefault(utt2spk[utterance], []).append(utterance)
    write_scp(Path(directory) / "utt2spk", utt2spk)
    write_scp(Path(directory) / "spk2utt", {k: " ".join(v) for k, v in spk2utt.items()})


def all_there(tables: Iterable[Path]) -> bool:
    """Tell whether all of these ``.scp`` files exist, and all the audio files they name."""
    return all(
        table.is_file() and all(audio_file(entry).is_file() for entry in read_scp(table).values())
        for table in tables
    )


class MixtureSet:
    """A mixture set, labelled or not, read as it is asked for.

    Args:
        path: the directory.

    Attributes:
        ids: utterance ids, sorted.
        wav: ``{id: entry}`` of the mixtures.
        speakers: one ``{id: entry}`` a talker; empty in an unlabelled set.

    Raises:
        UserError: no such directory, a broken table, ids that differ between the tables.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_dir():
            raise UserError(f"{path}: expected a data directory, found none (check the path)")
        self.wav = read_scp(self.path / "wav.scp")
        self.ids = list(self.wav)
        self.speakers = [self._table(p) for p in numbered(self.path, "spk", ".scp")]

    @property
    def n_talkers(self) -> int:
        """Number of ``spkN.scp`` files; 0 in an unlabelled set."""
        return len(self.speakers)

    def mixture(self, utterance_id: str) -> tuple[np.ndarray, int]:
        """Return the mixture ``(C, T)`` and its rate in Hz.

        Raises:
            UserError: unreadable audio, NaN.
        """
        return read_audio(self._entry(self.wav, utterance_id), finite=True)

    def references(self, utterance_id: str) -> np.ndarray:
        """Return the talkers' images at the reference channel, ``(S, T)``.

        Raises:
            UserError: the set is unlabelled, or an image is unreadable, has NaN, is not mono or not as long
                or fast as the mixture.
        """
        if not self.speakers:
            raise UserError(f"{self.path}: expected spk1.scp ..., found none (this set is unlabelled)")
        _, frames, fs = audio_info(self._entry(self.wav, utterance_id))
        images = []
        for entry in (table[utterance_id] for table in self.speakers):
            image, rate = read_audio(entry, finite=True)
            if (*image.shape, rate) != (1, frames, fs):
                wanted = f"expected 1 channel of {frames} samples at {fs} Hz, as the mixture"
                raise UserError(f"{entry}: {wanted}, found {image.shape} at {rate} Hz")
            images.append(image[0])
        return np.stack(images)

    def texts(self, utterance_id: str) -> list[str]:
        """Return what each talker says, ``""`` where there is none; an empty list without ``text_spkN``."""
        self._entry(self.wav, utterance_id)
        return [table[utterance_id] for table in self._texts]

    def scene(self, utterance_id: str) -> dict:
        """Return the line of ``scenes.jsonl`` that belongs to the utterance.

        Raises:
            UserError: the set has no scenes, or none of this id.
        """
        return self._entry(self._scenes, utterance_id)

    @cached_property
    def _texts(self) -> list[dict[str, str]]:
        return [self._table(p, allow_empty=True) for p in numbered(self.path, "text_spk")]

    @cached_property
    def _scenes(self) -> dict[str, dict]:
        scenes = read_records(self.path / "scenes.jsonl")
        if scenes.problems:
            raise UserError(scenes.problems[0])
        return scenes.entries

    def _table(self, path: Path, allow_empty: bool = False) -> dict[str, str]:
        table = read_scp(path, allow_empty)
        for extra in sorted(table.keys() - self.wav.keys())[:1]:
            raise UserError(f"{path}: id {extra} is not in wav.scp (remove it)")
        for missing in sorted(self.wav.keys() - table.keys())[:1]:
            raise UserError(f"{path}: id {missing} of wav.scp is missing (add it)")
        return table

    def _entry(self, table: dict, utterance_id: str):
        if utterance_id not in table:
            raise UserError(f"{self.path}: no utterance '{utterance_id}' among {len(self.ids)}")
        return table[utterance_id]


def subset(source: str | Path, destination: str | Path, ids: Iterable[str], labelled: bool = True) -> None:
    """Make a data directory of some of the utterances, which names the same audio.

    Args:
        source: a speech or mixture set.
        destination: the new directory; one made by this function before is replaced.
        ids: the utterances to keep.
        labelled: False leaves out whatever says who spoke or what: images, texts, scenes.

    Raises:
        UserError: an id that is not there, or a destination that holds more than tables.
    """
    source, destination, keep = Path(source), Path(destination), set(ids)
    wav = read_scp(source / "wav.scp")
    for unknown in sorted(keep - wav.keys())[:1]:
        raise UserError(f"{source}/wav.scp: no utterance '{unknown}' to keep")
    if not keep:
        raise UserError(f"{source}: a subset of 0 utterances was asked for (ask for at least 1)")
    _refuse_to_replace(destination, source)
    labels = [*numbered(source, "spk", ".scp"), *numbered(source, "text_spk"), source / "text"]
    tables = [source / "wav.scp", source / "utt2num_samples", *(labels if labelled else [])]
    with atomic.directory(destination) as out:
        for path in filter(Path.exists, tables):
            table = read_scp(path, allow_empty=path.name.startswith("text_spk"))
            write_scp(out / path.name, {k: v for k, v in table.items() if k in keep})
        write_spk2utt(out, {k: v for k, v in read_scp(source / "utt2spk").items() if k in keep})
        if labelled and (source / "scenes.jsonl").exists():
            records = (source / "scenes.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
            kept = (record for record in records if json.loads(record)["id"] in keep)
            atomic.write_text(out / "scenes.jsonl", "".join(kept))


def _refuse_to_replace(destination: Path, source: Path) -> None:
    if destination.resolve() == source.resolve():
        raise UserError(f"{destination}: is the source itself (choose another destination)")
    if destination.exists() and not destination.is_dir():
        raise UserError(f"{destination}: expected a directory to make, found a file (choose another)")
    for child in destination.iterdir() if destination.is_dir() else ():
        if child.is_dir():
            raise UserError(f"{destination}: holds {child.name}/, which would be lost (choose another)")
