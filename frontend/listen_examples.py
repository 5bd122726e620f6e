"""One utterance to listen to: who says what in it, and what every system made of that.

A stream belongs to the talker that the best SI-SNR gives it (what one hears), and its words are compared with
those of the talker that cpWER gives it (what is counted); the page says where these differ.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from frontend.alignments import align
from frontend.datadir import MixtureSet, read_audio
from frontend.errors import UserError
from frontend.streams import Utterance

UNPLAYED = ("dry",)


@dataclass(frozen=True)
class Text:
    """What was recognised, in pairs of words ``(reference, hypothesis)``, None where there is none."""

    title: str
    pairs: Sequence[tuple[str | None, str | None]]


@dataclass(frozen=True)
class Clip:
    """One signal: ``stem`` of its files, its SI-SNRi in dB if it has one, and its words."""

    stem: str
    title: str
    si_snri: float | None = None
    silent: bool = False
    texts: Sequence[Text] = ()


@dataclass(frozen=True)
class Block:
    """What one system made of the utterance; ``texts`` belong to none of its clips."""

    system: str
    clips: Sequence[Clip]
    texts: Sequence[Text] = ()
    si_snri: float | None = None
    errors: Mapping | None = None


@dataclass(frozen=True)
class Example:
    """One utterance of the page."""

    id: str
    kind: str
    seconds: float
    fs: int
    talkers: Sequence[tuple[str, str]]  # name and text
    blocks: Sequence[Block]
    facts: Sequence[str] = ()
    gain: float = 1.0
    directory: str = ""


@dataclass(frozen=True)
class Heard:
    """The rows that one system has of one utterance: of its scores, of its word errors, of its streams."""

    score: Mapping | None
    words: Mapping | None
    streams: Utterance | None


def gather(
    mixtures: MixtureSet, key: str, kind: str, systems: Mapping[str, Heard], facts: Sequence[str] = ()
) -> tuple[Example, dict[str, np.ndarray]]:
    """Return an example and its signals ``{stem: (T,)}``.

    Args:
        mixtures: the test set.
        key: id of the utterance.
        kind: why it was chosen.
        systems: what there is of each system.
        facts: what else to say of the utterance.

    Raises:
        UserError: a signal is missing or does not fit its mixture, or word errors do not fit the texts.
    """
    recording, fs = mixtures.mixture(key)
    references, texts = mixtures.references(key), mixtures.texts(key)
    talkers = _Talkers(references, texts, key)
    signals = {"mixture": recording[0]}
    signals |= {f"reference-{k + 1}": references[k] for k in talkers.heard}
    blocks = []
    for name, heard in systems.items():
        if heard.streams is not None:
            for k, entry in enumerate(heard.streams.streams):
                signals[f"{name}-{k + 1}"] = _read(entry, recording.shape[1], fs, key)
        blocks.append(talkers.block(name, heard))
    named = [(f"talker {k + 1}", texts[k] if texts else "") for k in talkers.heard]
    seconds = recording.shape[1] / fs
    return Example(key, kind, seconds, fs, named, blocks, [*_facts(mixtures, key), *facts]), signals


class _Talkers:
    """Who speaks in an utterance, and how scores and word errors number them."""

    def __init__(self, references: np.ndarray, texts: Sequence[str], key: str):
        self.key = key
        self.heard = [k for k, image in enumerate(references) if image.any()]  # as scores count
        self.speaking = [k for k, text in enumerate(texts) if text]  # as word errors count

    def block(self, name: str, heard: Heard) -> Block:
        """Return what the page shows of one system."""
        words = _Words(heard.words, self.speaking, name, self.key)
        score = heard.score or {}
        gains = [gain for gain in score.get("si_snri", []) if gain is not None]
        about = {"errors": heard.words, "si_snri": float(np.mean(gains)) if gains else None}
        if name in UNPLAYED:
            return Block(name, [], words.rest(()), **about)
        if name == "mixture":
            texts = words.rest((), "as talker {}")
            return Block(name, [Clip("mixture", "reference channel", texts=texts)], **about)
        if name == "oracle":
            return Block(name, self._references(words), words.rest(self.heard), **about)
        shown = range(len(heard.streams.streams))
        return Block(name, self._clips(name, heard, words), words.rest(shown), **about)

    def _references(self, words: "_Words") -> list[Clip]:
        return [
            Clip(f"reference-{k + 1}", f"talker {k + 1}, reference", texts=words.of(k, k)) for k in self.heard
        ]

    def _clips(self, name: str, heard: Heard, words: "_Words") -> list[Clip]:
        row, clips = heard.score, []
        if len(row["permutation"]) != len(self.heard):
            raise UserError(
                f"{name}: scores of {self.key} are of {len(row['permutation'])} talkers, found images of "
                f"{len(self.heard)} (run the stage 'score' again)"
            )
        for place, (talker, stream) in enumerate(zip(self.heard, row["permutation"], strict=True)):
            title, gain = f"talker {talker + 1}, stream {stream + 1}", row["si_snri"][place]
            silent, texts = place in row["silent"], words.of(stream, talker)
            clips.append(Clip(f"{name}-{stream + 1}", title, gain, silent, texts))
        for stream in sorted(set(range(len(heard.streams.streams))) - set(row["permutation"])):
            title = f"no talker, stream {stream + 1}"
            clips.append(Clip(f"{name}-{stream + 1}", title, texts=words.of(stream, None)))
        return clips


class _Words:
    """The words of one system's streams, against those of the talkers that cpWER gives them."""

    def __init__(self, row: Mapping | None, speaking: Sequence[int], name: str, key: str):
        self.row = row
        if row is not None and len(row["references"]) != len(speaking):
            raise UserError(
                f"{name}: word errors of {key} are of {len(row['references'])} talkers, found texts of "
                f"{len(speaking)} (run the stage 'wer' again)"
            )
        # (talker, words, stream) each
        self.pairs = (
            [] if row is None else list(zip(speaking, row["references"], row["assignment"], strict=True))
        )

    def of(self, stream: int, heard: int | None) -> list[Text]:
        """Return the words of one stream, whose best SI-SNR is with talker ``heard``."""
        found = []
        for talker, words, its in self.pairs:
            if its == stream:
                title = "recognised" if talker == heard else f"recognised, counted as talker {talker + 1}"
                found.append(Text(title, align(words, self.row["hypotheses"][stream])))
        if self.row is not None and stream in self.row["surplus"]:
            found.append(Text("recognised, of no talker", align("", self.row["hypotheses"][stream])))
        return found

    def rest(self, shown: Collection[int], title: str = "talker {}") -> list[Text]:
        """Return the words of all streams but those ``shown``, and of talkers whom cpWER gives no stream."""
        found = []
        for talker, words, stream in self.pairs:
            if stream is None:
                found.append(Text(f"talker {talker + 1} has no stream", align(words, "")))
            elif stream not in shown:
                found.append(Text(title.format(talker + 1), align(words, self.row["hypotheses"][stream])))
        for stream in () if self.row is None else self.row["surplus"]:
            if stream not in shown:
                found.append(Text("of no talker", align("", self.row["hypotheses"][stream])))
        return found


def _read(entry: str, frames: int, fs: int, key: str) -> np.ndarray:
    signal, rate = read_audio(entry, finite=True)
    if (*signal.shape, rate) != (1, frames, fs):
        wanted = f"expected 1 channel of {frames} samples at {fs} Hz, as the mixture {key}"
        raise UserError(f"{entry}: {wanted}, found {signal.shape} at {rate} Hz (separate again)")
    return signal[0]


def _facts(mixtures: MixtureSet, key: str) -> list[str]:
    """Return what makes the utterance hard, as far as its scene says."""
    if not (mixtures.path / "scenes.jsonl").is_file():
        return []
    scene = mixtures.scene(key)
    t60 = scene.get("measured", {}).get("t60", scene.get("t60"))
    facts = [] if t60 is None else [f"T60 {t60:.2f} s"]
    for number, talker in enumerate(scene.get("talkers", [])[1:], 2):
        facts.append(f"talker {number} at {talker['level_db']:+.1f} dB")
    noise = scene.get("noise") or {}
    if noise.get("snr_db") is not None:
        facts.append(f"{noise.get('kind', '')} noise at {noise['snr_db']:.0f} dB SNR".strip())
    return facts
