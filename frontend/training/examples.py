"""Training examples made while training, as ESPnet preprocessors.

ESPnet's own ``DynamicMixingPreprocessor`` refuses multi-channel input and always cuts
from sample 0. All preprocessors here get the *entries* of the scp files (ESPnet's data
type ``text``) rather than samples, and read the crop they need and nothing else.

Every draw is keyed by (seed, epoch, use, utterance, purpose): an example depends neither on the
number of workers nor on how often training was interrupted. An epoch longer than the set uses
its utterances several times: each use is another example. In validation epoch and use are left
out of the key, so that an utterance is the same example in every epoch.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from frontend.data.audio import audio_info, read_audio
from frontend.data.chunks import Chunk
from frontend.data.mixtures import labelled_set
from frontend.dsp.refine import images as images_of
from frontend.dsp.spatial import array_symmetries
from frontend.utils.errors import UserError
from frontend.utils.espnet import AbsPreprocessor
from frontend.utils.rng import generator

# Root mean square below which a crop counts as silent and is not scaled up:
# under one step of 16-bit audio.
_SILENCE = 1e-5
# A label whose power in a crop is below this share of all labels' is no talker.
_LEAKAGE = 0.01


class _Crops(AbsPreprocessor):
    """What the preprocessors of crops share: keyed draws, crops, levels, symmetries.

    Args:
        train: False fixes every draw over the epochs and applies no symmetry.
        lengths: utterance -> length in samples.
        seed: of the training.
        fs: sampling rate that all recordings must have.
        crop: length of an example in seconds; shorter recordings are padded with zeros.
        array_symmetry: ``none``, ``circular`` or ``linear``, see
            :func:`frontend.dsp.spatial.array_symmetries`; ``any``, for a network that does not use the places
            of the microphones: all orders.
        n_mics: number of microphones.
        fewer_mics: recordings may have fewer; silent channels are put behind them.
        ref_channel: the reference channel.
    """

    def __init__(
        self,
        train: bool,
        lengths: dict[str, int],
        fs: int,
        seed: int = 0,
        crop: float = 2.5,
        array_symmetry: str = "none",
        n_mics: int = 1,
        fewer_mics: bool = False,
        ref_channel: int = 0,
    ):
        super().__init__(train)
        self.lengths, self.seed, self.fs = lengths, seed, fs
        self.n_mics, self.fewer_mics, self.ref_channel = n_mics, fewer_mics, ref_channel
        self.samples = round(crop * fs) if math.isfinite(crop * fs) else 0
        if self.samples < 1:
            raise UserError(f"preprocessor_conf: crop must be a positive number of seconds, found {crop}")
        self.epoch: int | str = 0
        self.any_order = train and array_symmetry == "any"
        try:
            symmetries = array_symmetries("none" if array_symmetry == "any" else array_symmetry, n_mics)
        except ValueError as error:
            raise UserError(f"preprocessor_conf: {error}") from None
        self.symmetries = [list(s) for s in (symmetries if train else symmetries[:1])]

    def set_epoch(self, epoch: int, use: int = 0) -> None:
        """Say which epoch the next examples are for, and how often it used them before."""
        self.epoch = f"{epoch}.{use}" if use else epoch

    def _draws(self, utterance: str, *purpose: str | int) -> np.random.Generator:
        when = self.epoch if self.train else "valid"
        return generator(self.seed, utterance, when, *purpose)

    def _start(self, utterance: str, draws: np.random.Generator) -> int:
        spare = self.lengths[utterance] - self.samples
        return int(draws.integers(spare + 1)) if spare > 0 else 0

    def _read(self, utterance: str, entry: str, start: int, channels: int) -> np.ndarray:
        """Read (C, T) of a recording from ``start`` on, padded with zeros to the crop's length."""
        if not isinstance(entry, str):
            raise UserError(
                f"{utterance}: the preprocessors mom, crop and remix read the audio themselves; "
                "give the scp files with the data type 'text' (or use --train_set and --valid_set)"
            )
        # NaN of one recording would become that of all weights.
        audio, fs = read_audio(entry, start, min(self.samples, self.lengths[utterance] - start), finite=True)
        if fs != self.fs:
            raise UserError(f"{entry}: {self.fs} Hz expected (preprocessor_conf: fs), found {fs} Hz")
        missing, fewest = channels - audio.shape[0], max(2, self.ref_channel + 1)
        if missing and not (self.fewer_mics and fewest <= audio.shape[0] < channels):
            raise UserError(f"{entry}: {channels} channel(s) expected, found {audio.shape[0]}")
        return np.pad(audio, ((0, missing), (0, self.samples - audio.shape[1])))

    def _turn(
        self, audio: np.ndarray, draws: np.random.Generator, keep_reference: bool = False
    ) -> np.ndarray:
        """Reorder the channels by a random symmetry of the array; a silent one is never the reference."""
        ref, live = self.ref_channel, np.any(audio, axis=-1)
        if self.any_order and not keep_reference:
            return audio[[*draws.permutation(np.flatnonzero(live)), *np.flatnonzero(~live)]]
        if self.fewer_mics and not live.all():  # a part of the array has not its symmetries
            return audio
        symmetries = [s for s in self.symmetries if s[ref] == ref or (live[s[ref]] and not keep_reference)]
        return audio[symmetries[int(draws.integers(len(symmetries)))]]

    def _labelled(
        self, start: int, mixture: str, entry: str, references: Iterable[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a crop (C, T) of ``mixture``, whose audio is ``entry``, and of its references, (S, T)."""
        audio = self._read(mixture, entry, start, self.n_mics)
        return audio, np.stack([self._read(mixture, one, start, 1)[0] for one in references])


class _Pooled(_Crops):
    """Examples made of an utterance and random others.

    The utterances of an example are to be independent. Chunks of one recording
    (:mod:`frontend.data.chunks`) are not: the same talkers are in the same places. So the partners of a chunk
    come from other recordings; where it is the only recording, or the others have too few chunks, not from
    its neighbours in time.

    Args:
        ids: the pool that partners come from.
        number: utterances in an example.
        others: see :class:`_Crops`.
    """

    def __init__(self, train: bool, ids: Iterable[str], number: int, **others: Any):
        super().__init__(train, **others)
        # What is no chunk is a recording of its own.
        chunks = {utterance: Chunk.of(utterance) or Chunk(utterance, 0, 0) for utterance in ids}
        if len(chunks) < number:
            raise UserError(
                f"a mixture of {number} mixtures needs as many different utterances, found {len(chunks)}"
            )
        self.number = number
        self.ids = sorted(chunks, key=lambda u: (chunks[u].recording, chunks[u].start, u))
        self.related = _related([chunks[u].recording for u in self.ids], number - 1)
        self.place = {utterance: i for i, utterance in enumerate(self.ids)}

    def partners(self, utterance: str) -> list[str]:
        """Return the other utterances this one is mixed with now."""
        draws = self._draws(utterance, "partners")
        first, end = self.related[self.place[utterance]]
        picks = draws.choice(len(self.ids) - (end - first), self.number - 1, replace=False)
        return [self.ids[i + (end - first) * (i >= first)] for i in picks]

    def _gain(self, utterance: str, which: int, most_db: float) -> float:
        """Return the factor of number ``which`` in an example: 1 of the first, else +-``most_db``."""
        gain = self._draws(utterance, "gain", which).uniform(-most_db, most_db) if which else 0.0
        return 10 ** (gain / 20)

    def _sum(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Add parts (C, T), whose last channels are silent where their arrays have fewer microphones.

        A channel in which one of them alone sounds would separate them: it is silent in the sum.
        """
        mixture = np.sum(parts, axis=0)
        if self.fewer_mics:
            live = [np.flatnonzero(part.any(-1)) for part in parts]
            mixture[min((int(one[-1]) + 1 for one in live if len(one)), default=0) :] = 0
        return mixture


class MixtureOfMixtures(_Pooled):
    """Add an utterance and random others to a mixture of mixtures (``preprocessor: mom``).

    Every mixture is cropped, its channels are reordered by a random symmetry of the array, and it is scaled
    to unit deviation at the reference channel; the others get a gain. The references are the mixtures
    themselves.

    Args:
        entries: ``speech_mix`` -> utterance -> audio entry.
        n_mixtures: N, mixtures in a mixture of mixtures.
        gain_db: gain of every mixture but the first, uniform in +-gain_db.
        others: see :class:`_Crops`.
    """

    def __init__(
        self,
        train: bool,
        entries: dict[str, dict[str, str]],
        n_mixtures: int = 2,
        gain_db: float = 2.5,
        **others: Any,
    ):
        super().__init__(train, entries["speech_mix"], n_mixtures, **others)
        self.entries, self.gain_db = entries["speech_mix"], gain_db

    def _one(self, utterance: str, which: int, mixture: str) -> np.ndarray:
        """Return (C, T) of ``mixture``, number ``which`` in the mixture of mixtures of ``utterance``."""
        start = self._start(mixture, self._draws(utterance, "crop", which))
        audio = self._read(mixture, self.entries[mixture], start, self.n_mics)
        audio = self._turn(audio, self._draws(utterance, "symmetry", which))
        gain = self._gain(utterance, which, self.gain_db)
        return audio * (gain * _unit_deviation(audio[self.ref_channel]))

    def __call__(self, uid: str, data: dict[str, str]) -> dict[str, np.ndarray]:
        """Return speech_mix (T, C), or (T,) of one microphone, and speech_ref1..N (T,)."""
        mixtures = [self._one(uid, i, u) for i, u in enumerate([uid, *self.partners(uid)])]
        example = {"speech_mix": _to_espnet(self._sum(mixtures))}
        for i, mixture in enumerate(mixtures, 1):
            example[f"speech_ref{i}"] = mixture[self.ref_channel].astype(np.float32)
        return example


class Remixes(_Pooled):
    """Add talkers' images of different mixtures to new mixtures of known parts (``preprocessor: remix``).

    The labels of a mixture, as masks on all its microphones, are images that sum to it. An image of it and
    images of others, at random levels, are a new mixture, whose parts are known with all their leakage; what
    leaks in one part has nothing to do with the others. No true source is needed: the labels may be
    pseudo-targets. (Remixing with separated streams of one channel: E. Tzinis et al., "RemixIT", 2022.)

    Since the images are at all microphones, any of them may be the reference: every image has its channels
    reordered by a random symmetry of its own.

    Args:
        entries: ``speech_mix``, ``speech_ref1`` ... -> utterance -> audio entry.
        gain_db: gain of every image but the first, uniform in +-gain_db.
        fewest: images in an example; of more labels, as many of these numbers each: fewest, ..., labels.
        one_talker: share of the examples that are one image alone.
        as_is: share of the examples that are a mixture itself, with its labels as references. Below 1, crops
            in which fewer than ``fewest`` labels sound become remixes: how many examples have one talker is
            for ``one_talker`` to say, not for the share of such mixtures among the labelled.
        labelled: a labelled set: the labels of its utterances take the place of those in ``entries``, and in
            training these utterances alone, whether in ``entries`` or not, are taken as they are. "": any may
            be. In validation those alone that are in ``entries``.
        others: see :class:`_Crops`.
    """

    def __init__(
        self,
        train: bool,
        entries: dict[str, dict[str, str]],
        gain_db: float = 2.5,
        fewest: int = 2,
        one_talker: float = 0.1,
        as_is: float = 0.0,
        labelled: str = "",
        **others: Any,
    ):
        self.references = sorted(name for name in entries if name.startswith("speech_ref"))
        super().__init__(train, entries["speech_mix"], len(self.references), **others)
        if not (0 <= one_talker and 0 <= as_is and one_talker + as_is <= 1):
            raise UserError(
                "preprocessor_conf: expected shares one_talker and as_is that add up to at most 1, found "
                f"{one_talker} and {as_is}"
            )
        if not 1 <= fewest <= self.number:
            raise UserError(
                f"preprocessor_conf: expected fewest from 1 to {self.number}, the number of labels, "
                f"found {fewest}"
            )
        self.entries, self.gain_db, self.fewest = entries, gain_db, fewest
        self.one_talker, self.as_is = one_talker, as_is
        self.labelled: list[str] | None = None
        if labelled:
            true = labelled_set(labelled)
            if len(true.speakers) != self.number:
                raise UserError(
                    f"{labelled}: expected {self.number} spkN.scp as the training set has, found "
                    f"{len(true.speakers)}"
                )
            self.labelled = [utterance for utterance in true.ids if train or utterance in self.place]
            self.as_is = self.as_is if self.labelled else 0.0
            added = {key: true.wav[key] for key in self.labelled if key not in self.place}
            self.lengths = self.lengths | {key: audio_info(entry)[1] for key, entry in added.items()}
            self.entries = entries | {"speech_mix": entries["speech_mix"] | added}
            for name, table in zip(self.references, true.speakers, strict=True):
                self.entries[name] = entries[name] | {key: table[key] for key in self.labelled}

    def __call__(self, uid: str, data: dict[str, str]) -> dict[str, np.ndarray]:
        """Return speech_mix (T, C), or (T,) of one microphone, and speech_ref1..S (T,)."""
        kind = self._draws(uid, "kind").uniform()
        made = self._mixture(uid) if kind < self.as_is else None
        if made is None:
            made = self._remix(uid, alone=self.as_is <= kind < self.as_is + self.one_talker)
        mixture, references = made
        return _example(mixture, references, self.references, _unit_deviation(mixture[self.ref_channel]))

    def _mixture(self, uid: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Return a crop (C, T) of a mixture itself and its labels (S, T); None, if it is to be a remix."""
        chosen = uid if self.labelled is None else self._draws(uid, "labelled").choice(self.labelled)
        mixture, references = self._crop(uid, 0, str(chosen))
        if self.as_is < 1 and np.count_nonzero(references.any(-1)) < self.fewest:
            return None
        return self._turn(mixture, self._draws(uid, "symmetry", 0), keep_reference=True), references

    def _remix(self, uid: str, alone: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return a new mixture (C, T) of images, of one if ``alone``, and its references (S, T)."""
        number = 1 if alone else int(self._draws(uid, "number").integers(self.fewest, self.number + 1))
        names = [uid, *self.partners(uid)][:number]
        images = [self._image(uid, i, name) for i, name in enumerate(names)]
        references = np.zeros((self.number, self.samples), np.float32)
        references[:number] = [image[self.ref_channel] for image in images]
        return self._sum(images), references

    def _crop(self, utterance: str, which: int, mixture: str) -> tuple[np.ndarray, np.ndarray]:
        """Return a crop (C, T) of ``mixture``, number ``which`` for ``utterance``, and its labels (S, T)."""
        start = self._start(mixture, self._draws(utterance, "crop", which))
        references = (self.entries[name][mixture] for name in self.references)
        return self._labelled(start, mixture, self.entries["speech_mix"][mixture], references)

    def _image(self, utterance: str, which: int, mixture: str) -> np.ndarray:
        """Return one talker's image (C, T) in ``mixture``, at unit deviation times the gain of its number."""
        audio, labels = self._crop(utterance, which, mixture)
        draws = self._draws(utterance, "image", which)
        power = np.square(labels, dtype=np.float64).sum(-1)
        # What is far below the others is leakage of them, where a talker is alone.
        sounding = np.flatnonzero((power > _LEAKAGE * power.sum()) & (power > 0))
        chosen = int(draws.choice(sounding)) if len(sounding) else 0
        image = images_of(torch.from_numpy(labels), torch.from_numpy(audio), self.fs)[chosen].numpy()
        image = self._turn(image, self._draws(utterance, "symmetry", which))
        return image * (self._gain(utterance, which, self.gain_db) * _unit_deviation(image[self.ref_channel]))


def _related(recordings: list[str], wanted: int) -> list[tuple[int, int]]:
    """Return for each place the places ``[first, end)``, itself among them, that no partner comes from.

    Args:
        recordings: of each place; those of one recording follow each other, in order of time.
        wanted: partners that there must be.
    """
    total = len(recordings)
    first = {recording: i for i, recording in reversed(list(enumerate(recordings)))}
    end = {recording: i + 1 for i, recording in enumerate(recordings)}
    found = []
    for i, recording in enumerate(recordings):
        a, b = first[recording], end[recording]
        choices = [(a, b), (max(a, i - 1), min(b, i + 2)), (i, i + 1)]
        found.append(next(c for c in choices if total - (c[1] - c[0]) >= wanted))
    return found


class CroppedSources(_Crops):
    """Crop a mixture and its references alike (``preprocessor: crop``).

    All are scaled by the deviation of the mixture at the reference channel, times a
    random gain. The references are mono at the reference channel, so only symmetries that
    leave this microphone in place (a mirrored circle) are applied.

    Args:
        gain_db: common gain of mixture and references, uniform in +-gain_db.
        others: see :class:`_Crops`.
    """

    def __init__(self, train: bool, gain_db: float = 0.0, **others: Any):
        super().__init__(train, **others)
        self.gain_db = gain_db

    def __call__(self, uid: str, data: dict[str, str]) -> dict[str, np.ndarray]:
        """Return speech_mix (T, C), or (T,) of one microphone, and speech_ref1..S (T,)."""
        names = [name for name in data if name.startswith("speech_ref")]
        start = self._start(uid, self._draws(uid, "crop"))
        entries = (data[name] for name in names)
        mixture, references = self._labelled(start, uid, data["speech_mix"], entries)
        gain = self._draws(uid, "gain").uniform(-self.gain_db, self.gain_db) if self.train else 0.0
        mixture = self._turn(mixture, self._draws(uid, "symmetry"), keep_reference=True)
        return _example(
            mixture, references, names, 10 ** (gain / 20) * _unit_deviation(mixture[self.ref_channel])
        )


class WholeUtterances(AbsPreprocessor):
    """Read a mixture, its references and its transcripts as they are, for the joint training.

    A recogniser needs whole utterances, and the level that it is used at: nothing is cropped or
    scaled. In training the channels are turned by a random symmetry of the array that leaves the
    reference channel in place, keyed by (seed, epoch, use, utterance).

    Args:
        train: False reads the channels in their own order.
        text: ESPnet's preprocessor that turns transcripts into numbers.
        fs: rate that all recordings must have.
        n_mics: channels that the mixtures must have.
        ref_channel: where the references were taken.
        array_symmetry: see :func:`frontend.dsp.spatial.array_symmetries`; ``any``: the order is left as it
            is, since such a network depends on no more of it than the reference channel.
        seed: of the training.
    """

    def __init__(
        self,
        train: bool,
        text: AbsPreprocessor,
        fs: int,
        n_mics: int,
        ref_channel: int = 0,
        array_symmetry: str = "none",
        seed: int = 0,
    ):
        super().__init__(train)
        self.text, self.fs, self.n_mics, self.seed = text, fs, n_mics, seed
        self.epoch: int | str = 0
        symmetries = array_symmetries(array_symmetry if train and array_symmetry != "any" else "none", n_mics)
        self.symmetries = [list(s) for s in symmetries if s[ref_channel] == ref_channel]

    def set_epoch(self, epoch: int, use: int = 0) -> None:
        """Say which epoch the next examples are for, and how often it used them before."""
        self.epoch = f"{epoch}.{use}" if use else epoch

    def cut(self, text: str) -> list[str]:
        """Return the tokens of a transcript."""
        return self.text.tokenizer.text2tokens(self.text.text_cleaner(text))

    def __call__(self, uid: str, data: dict[str, str]) -> dict[str, np.ndarray]:
        """Return speech (T, C), or (T,) of one microphone, speech_ref1..S (T,), text_spk1..S (L,)."""
        # NaN of one recording would become that of all weights.
        mixture = read_audio(data["speech"], finite=True)[0]
        turn = generator(self.seed, uid, self.epoch, "symmetry").integers(len(self.symmetries))
        example = {"speech": _to_espnet(mixture[self.symmetries[int(turn)]])}
        for name in (name for name in data if name.startswith("speech_ref")):
            example[name] = read_audio(data[name], finite=True)[0][0]
        return example | self.text(uid, {k: v for k, v in data.items() if k.startswith("text_spk")})


def _example(
    mixture: np.ndarray, references: np.ndarray, names: Iterable[str], scale: float
) -> dict[str, np.ndarray]:
    """Return (C, T) and (S, T), scaled, under the names that ESPnet knows them by."""
    scaled = (references * scale).astype(np.float32)
    return {"speech_mix": _to_espnet(mixture * scale)} | dict(zip(names, scaled, strict=True))


def _unit_deviation(signal: np.ndarray) -> float:
    """Return the factor that brings ``signal`` to unit deviation; 1 for silence."""
    deviation = float(np.sqrt(np.mean(np.square(signal, dtype=np.float64))))
    return 1 / deviation if deviation > _SILENCE else 1.0


def _to_espnet(audio: np.ndarray) -> np.ndarray:
    """(C, T) -> (T, C), or (T,) of one channel."""
    audio = audio.astype(np.float32)
    return audio[0] if len(audio) == 1 else np.ascontiguousarray(audio.T)
