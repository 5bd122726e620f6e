"""Which utterances and systems a person gets to hear, by rules that stand on the page.

An utterance is chosen by what the main system made of it, never by ear.

What a browser plays and shows of a signal: 16-bit wav files and spectrograms.

All signals of one utterance share one gain and one scale of colours, so that loud stays louder than soft.

One utterance to listen to: who says what in it, and what every system made of that.

A stream belongs to the talker that the best SI-SNR gives it (what one hears), and its words are compared with
those of the talker that cpWER gives it (what is counted); the page says where these differ.

What there is to hear of an experiment: its scores, word errors, streams and test set, made sure to fit.

HTML from calls: whatever is no element is text, and escaped.

The table of results as HTML, with what its columns are sorted by.

An utterance of the page as HTML: players, spectrograms, and words with their errors marked.

The page to listen to as one HTML document: style and script are in it, audio and pictures beside it.

The page to listen to: ``report.html`` and the audio and pictures it needs, in one folder.

The folder opens from disk: no server, no network, nothing outside it. It holds what
``results.json`` says, and for some utterances what one hears, sees and reads of them.
"""

import base64
import hashlib
import html
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image
from scipy.signal import stft
from scipy.stats import rankdata

from frontend.data.audio import AudioWriter, audio_info, read_audio
from frontend.data.mixtures import MixtureSet, Streams, Utterance, labelled_set
from frontend.evaluation.results import Scores, load_scores, mean, read_measured
from frontend.recognition.text import align, mark
from frontend.report.pages import NOTHING, duration, interval, number
from frontend.separation.systems import System
from frontend.utils.errors import UserError
from frontend.utils.files import atomic_directory, atomic_file, write_text

MOST = 12
# What is played, of what there is, in this order; all other streams stay in exp/NAME/separated.
PLAYED = (
    "mixture",
    "oracle",
    "dry",
    "teacher_energy",
    "student",
    "student+mvdr",
    "distilled_ft",
    "supervised_full",
    "joint",
    "auxiva",
    "ilrma",
    "teacher_spatial_merge",
    "student_ft",
    "supervised_small",
)
# Behind a heading to open, for whom the others are not enough.
FOLDED = PLAYED[PLAYED.index("auxiva") :]
MAIN = "student"
BEST, MEDIAN, WORST, DISAGREE = "best", "median", "worst", "disagree"
KINDS = {
    BEST: "highest mean SI-SNRi over the talkers",
    MEDIAN: "mean SI-SNRi closest to the median by rank",
    WORST: "lowest mean SI-SNRi over the talkers",
    DISAGREE: "place by SI-SNRi and place by word error rate farthest apart",
}


def main_system(scores: Mapping[str, Scores], systems: Sequence[System]) -> str:
    """Return the system that utterances are chosen by.

    It is ``student``; where there is none, the one of highest mean SI-SNRi among those without labels, or
    among all that were scored.
    """
    if MAIN in scores:
        return MAIN
    scored = [system for system in systems if system.name in scores]
    free = [one for one in scored if (one.model or one.blind) and not one.labels and one.rule != "oracle"]
    gains = {one.name: mean(scores[one.name].values("si_snri")) for one in free or scored}
    return max(gains, key=lambda name: -np.inf if gains[name] is None else gains[name])


def played_systems(known: Collection[str], main: str) -> list[str]:
    """Return the systems to hear: those of :data:`PLAYED` that are known, and the main one."""
    return [name for name in (*PLAYED, *(() if main in PLAYED else (main,))) if name in known]


def places(gains: Mapping[str, float], word_errors: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Return the place of each utterance by SI-SNRi and by word errors, as :mod:`frontend.evaluation.agreement` has it.

    Args:
        gains: SI-SNRi per utterance, dB; utterances where it is nan have no place.
        word_errors: word error rates.

    Returns:
        two places each, 1 for the best; equal values share the mean of theirs.
    """
    both = [key for key in sorted(gains) if key in word_errors and np.isfinite(gains[key])]
    if not both:
        return {}
    by_gain = rankdata([-gains[key] for key in both]).tolist()
    by_words = rankdata([word_errors[key] for key in both]).tolist()
    return dict(zip(both, zip(by_gain, by_words, strict=True), strict=True))


def choose_utterances(
    gains: Mapping[str, float], word_errors: Mapping[str, float], most: int = MOST
) -> dict[str, str]:
    """Choose utterances, as many of each kind as there is room for.

    The kinds take turns, each with the next of its own order that no other has taken; equal values stand in
    the order of their ids.

    Args:
        gains: mean SI-SNRi of the main system per utterance, dB; nan is never chosen.
        word_errors: its word error rate per utterance; empty where no words were counted.
        most: number of utterances.

    Returns:
        ``{id: kind}``, in the order of choice: leaving some out at the end thins all kinds alike.
    """
    gains = {key: value for key, value in sorted(gains.items()) if np.isfinite(value)}
    orders = {kind: iter(order) for kind, order in _orders(gains, word_errors).items()}
    chosen: dict[str, str] = {}
    while len(chosen) < min(most, len(gains)):
        for kind, order in orders.items():
            key = _next_free(order, chosen)
            if key is not None and len(chosen) < most:
                chosen[key] = kind
    return chosen


def _orders(gains: Mapping[str, float], word_errors: Mapping[str, float]) -> dict[str, list[str]]:
    """Return all utterances as each kind would take them."""
    rising = sorted(gains, key=lambda key: gains[key])  # stable: ids in order where values are equal
    middle = (len(rising) - 1) / 2
    near = sorted(range(len(rising)), key=lambda place: abs(place - middle))
    falling = sorted(gains, key=lambda key: -gains[key])
    orders = {BEST: falling, MEDIAN: [rising[place] for place in near], WORST: rising}
    if found := places(gains, word_errors):
        orders[DISAGREE] = sorted(found, key=lambda key: -abs(found[key][0] - found[key][1]))
    return orders


def _next_free(order: Iterator[str], taken: Mapping[str, str]) -> str | None:
    return next((key for key in order if key not in taken), None)


WINDOW_S = 0.032
RANGE_DB = 63  # as many steps of colour, 1 dB each
_MOST_COLUMNS = 480
_FULL_SCALE = 32767 / 32768  # the loudest sample that 16 bits hold on both sides


def shared_gain(signals: Iterable[np.ndarray]) -> float:
    """Return the factor at which none of the signals clips in 16 bits; 1 where none would.

    Streams are kept as floats and may exceed full scale; a player cannot.
    """
    peak = max(float(np.abs(signal).max()) for signal in signals)
    return min(1.0, _FULL_SCALE / peak) if peak > 0 else 1.0


def write_audio(path: Path, signal: np.ndarray, fs: int, gain: float) -> None:
    """Write ``(T,)`` times ``gain`` to ``path``, a ``.wav`` of 16 bits."""
    with AudioWriter(path.parent, "wav", fs) as writer:
        writer.write(path.stem, np.asarray(signal, np.float64) * gain)


def power_db(signal: np.ndarray, fs: int) -> np.ndarray:
    """Return the spectrogram of ``(T,)`` in dB, ``(F, L)``, low frequencies first; -inf in silence.

    Windows of 32 ms (Hann), a new one every 8 ms; the power of neighbours is averaged where there would be
    more than 480 columns.
    """
    window = round(WINDOW_S * fs)
    padded = np.pad(np.asarray(signal, np.float64), (0, max(0, window - len(signal))))
    power = np.abs(stft(padded, fs, "hann", window, window - window // 4)[2]) ** 2
    starts = np.arange(0, power.shape[1], -(-power.shape[1] // _MOST_COLUMNS))
    widths = np.diff(starts, append=power.shape[1])
    with np.errstate(divide="ignore"):
        return 10 * np.log10(np.add.reduceat(power, starts, axis=1) / widths)


def write_spectrogram(path: Path, levels: np.ndarray, top_db: float) -> None:
    """Draw ``(F, L)`` in dB as a PNG, a pixel a bin, from ``top_db`` (bright) to 63 dB below it (dark)."""
    with np.errstate(invalid="ignore"):  # -inf - -inf where all is silent; fmax makes it 0
        steps = np.fmax(levels - top_db + RANGE_DB, 0).clip(max=RANGE_DB)
    image = Image.fromarray(np.rint(steps[::-1]).astype(np.uint8))
    image.putpalette(_palette())
    encoded = io.BytesIO()
    image.save(encoded, format="PNG", optimize=True)
    with atomic_file(path) as part:
        part.write_bytes(encoded.getvalue())


def _palette() -> bytes:
    from matplotlib import colormaps

    return (
        (colormaps["magma"](np.linspace(0, 1, RANGE_DB + 1))[:, :3] * 255).round().astype(np.uint8).tobytes()
    )


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


_VOID = {"img", "meta", "wbr"}
# A browser drops a line break after these, so that nothing changes and a person can read the source.
_OWN_LINE = {"div", "section", "details", "figure", "table", "tr", "thead", "tbody", "head", "body", "main"}


class Html(str):
    """Markup, in contrast to text that has to be escaped."""


def element(name: str, /, *children: str | Iterable[str], **attributes: str | bool | None) -> Html:
    """Return an element.

    Args:
        name: of the tag.
        children: text, elements, or lists of these.
        attributes: ``class_`` for class, ``data_value`` for data-value; True stands alone, None and False are
            left out.

    >>> element("p", "a < b ", element("b", "c"), class_="x", hidden=True, title='"')
    '<p class="x" hidden title="&quot;">a &lt; b <b>c</b></p>'
    """
    parts = [name]
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(key)
        elif value is not None and value is not False:
            parts.append(f'{key}="{html.escape(str(value))}"')
    start = f"<{' '.join(parts)}>"
    if name in _VOID:
        return Html(start)
    gap = "\n" if name in _OWN_LINE else ""
    return Html(f"{start}{gap}{join(children)}</{name}>{gap}")


def join(children: Iterable[str | Iterable[str]]) -> Html:
    """Return elements and texts one after the other, the texts escaped."""
    return Html("".join(_markup(child) for child in children))


def _markup(child: str | Iterable[str]) -> str:
    if isinstance(child, Html):
        return child
    return html.escape(child, quote=False) if isinstance(child, str) else join(child)


@dataclass(frozen=True)
class _Column:
    """A heading, its unit, the key it is sorted by, and how a value is written."""

    key: str
    heading: str
    write: Callable[[Mapping], str]
    unit: str = ""


def _plain(key: str, heading: str, digits: int = 1, unit: str = "", factor: float = 1.0) -> _Column:
    def write(row: Mapping) -> str:
        value = row.get(key)
        return number(None if value is None else factor * value, digits)

    return _Column(key, heading, write, unit)


def _bounded(key: str, heading: str, unit: str) -> _Column:
    return _Column(
        key, heading, lambda row: interval(row, key), f"{unit} [95 %]"
    )


_COLUMNS = (
    _plain("channels", "channels", 0),
    _plain("label_share", "labels", 0, "%", 100.0),
    _bounded("si_snri", "SI-SNRi", "dB"),
    _plain("sdr", "SDR", unit="dB"),
    _plain("stoi", "STOI", 3),
    _plain("pesq", "PESQ", 2),
    _bounded("cpwer", "cpWER", "%"),
    _plain("insertions", "ins", unit="%"),
    _plain("deletions", "del", unit="%"),
    _plain("substitutions", "sub", unit="%"),
    _bounded("cpcer", "cpCER", "%"),
    _bounded("orcwer", "ORC-WER", "%"),
    _bounded("cpwer_separated", "cpWER, retrained", "%"),
    _plain("rtf", "RTF", 3),
    _plain("n", "n", 0),
)


def results_table(rows: Sequence[Mapping]) -> Html:
    """Return the table in a box that scrolls.

    Columns that tell nothing are left out: no row has a value, or all have the same number of channels or
    utterances, which stand above the table.
    """
    columns = [one for one in _COLUMNS if _tells(one.key, [row.get(one.key) for row in rows])]
    head = element("tr", _heading("system", ""), [_heading(one.heading, one.unit) for one in columns])
    body = [
        element("tr", element("th", _name(row["system"]), scope="row"), [_cell(row, one) for one in columns])
        for row in rows
    ]
    table = element("table", element("thead", head), element("tbody", body), id="results")
    # A box that scrolls has to be reachable by keyboard, and so has a name.
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label="Table of results")


def _name(system: str) -> list[str]:
    """Let the name of a system be broken where its parts join; on a phone it has little room."""
    parts = re.split(r"(?<=[_+])", system)
    return [piece for part in parts for piece in (element("wbr"), part)][1:]


def _tells(key: str, values: Sequence) -> bool:
    return len(set(values)) > 1 if key in ("channels", "n") else any(value is not None for value in values)


def _heading(text: str, unit: str) -> Html:
    parts = [text, *([" ", element("small", unit)] if unit else [])]
    return element("th", element("button", parts, type="button"), scope="col", aria_sort="none")


def _cell(row: Mapping, column: _Column) -> Html:
    """Return a cell; without ``data-value`` it is sorted behind all others."""
    value = row.get(column.key)
    text = column.write(row)
    if value is None:
        hidden = element("span", "none", class_="hidden")
        return element("td", element("span", NOTHING, aria_hidden="true"), hidden)
    return element("td", text, data_value=repr(value))


_TITLES = {"oracle": "references", "dry": "clean dry speech"}
_NOTES = {
    "mixture": "not processed",
    "oracle": "row oracle: each talker alone, as the microphone hears it",
    "dry": "not played: the recogniser's own errors",
    "joint": "heard by a recogniser of its own",
}


def example_section(example: Example, number_: int, main: str, opened: bool) -> Html:
    """Return one utterance, folded unless ``opened``."""
    block = next((one for one in example.blocks if one.system == main), None)
    summary = element(
        "summary",
        element("h3", example.id),
        element("span", example.kind, class_="kind", title=KINDS[example.kind]),
        element("span", _numbers(block, f"{main}: ") if block else "", class_="numbers"),
    )
    texts = [
        element("div", element("dt", name), element("dd", text or "(no text)"))
        for name, text in example.talkers
    ]
    content = [
        summary,
        element("dl", texts, class_="talkers"),
        element("p", _about(example), class_="note", data_gain=repr(example.gain)),
        [_block(one, example) for one in example.blocks if one.system == main or one.system not in FOLDED],
        _more([one for one in example.blocks if one.system != main and one.system in FOLDED], example),
    ]
    return element("details", content, class_="example", id=f"utterance-{number_}", open=opened)


def _more(blocks: Sequence[Block], example: Example) -> Html | str:
    """Return what of an utterance is folded even where the utterance is not."""
    if not blocks:
        return ""
    summary = element("summary", f"more systems: {', '.join(one.system for one in blocks)}")
    return element("details", summary, [_block(one, example) for one in blocks], class_="more")


def marked(text: Text) -> Html:
    """Return recognised words with insertions, deletions and substitutions marked, in words too."""
    words = join(part for pair in text.pairs for part in (_word(pair), " "))
    if not any(heard for _, heard in text.pairs):
        words = join([element("span", "(nothing recognised) ", class_="note"), words])
    return element("p", element("b", f"{text.title}: "), words, class_="words")


def _word(pair: tuple[str | None, str | None]) -> Html:
    wanted, heard = pair
    kind = mark(pair)
    if kind == "I":
        return element("ins", element("small", "ins "), element("u", heard))
    if kind == "D":
        return element("del", element("small", "del "), element("s", wanted))
    if kind == "S":
        return element(
            "mark", element("small", "sub "), heard, element("small", " for "), element("s", wanted)
        )
    return element("span", heard)


def _about(example: Example) -> str:
    parts = [f"{example.seconds:.2f} s", *example.facts]
    frequency = number(example.fs / 2000, 1).removesuffix(".0")
    parts.append(f"pictures: 0 to {frequency} kHz upwards, {RANGE_DB} dB from dark to bright, alike for all")
    if example.gain < 1:
        parts.append(f"all players turned down by {-20 * np.log10(example.gain):.1f} dB, so that none clips")
    return "; ".join(parts) + "."


def _block(block: Block, example: Example) -> Html:
    note = _NOTES.get(block.system, "")
    head = element(
        "div",
        element("h4", _TITLES.get(block.system, block.system)),
        element("p", note, class_="note") if note else "",
        element("p", _numbers(block), class_="numbers"),
        class_="who",
    )
    clips = [_figure(clip, block.system, example) for clip in block.clips]
    rest = element("div", [marked(text) for text in block.texts], class_="rest") if block.texts else ""
    return element("section", head, element("div", clips, rest, class_="streams"), class_="system")


def _numbers(block: Block, start: str = "") -> str:
    """Return SI-SNRi and word errors of one system, as far as there are any."""
    parts = []
    if block.si_snri is not None and block.system != "mixture":
        parts.append(f"SI-SNRi {number(block.si_snri)} dB")
    if (row := block.errors) is not None:
        kinds = ", ".join(
            f"{row[key]} {key[:3]}" for key in ("insertions", "deletions", "substitutions") if row[key]
        )
        parts.append(f"word errors {row['errors']} of {row['words']}" + (f" ({kinds})" if kinds else ""))
    return start + ", ".join(parts) if parts else ""


def _figure(clip: Clip, system: str, example: Example) -> Html:
    source = quote(f"{example.directory}/{clip.stem}")
    what = f"{_TITLES.get(system, system)}, {clip.title}"
    picture = element(
        "div",
        element("img", src=f"{source}.png", alt=f"Spectrogram of {example.id}: {what}", loading="lazy"),
        element("span", class_="cursor", aria_hidden="true"),
        class_="picture",
    )
    audio = element(
        "audio",
        controls=True,
        preload="none",
        src=f"{source}.wav",
        aria_label=f"{example.id}: {what}",
        data_seconds=f"{example.seconds:.4f}",
    )
    return element("figure", element("figcaption", _caption(clip)), picture, audio, _texts(clip.texts))


def _caption(clip: Clip) -> str:
    gain = f": SI-SNRi {number(clip.si_snri)} dB" if clip.si_snri is not None else ""
    return clip.title + gain + (", silent" if clip.silent else "")


def _texts(texts: Sequence[Text]) -> list[Html]:
    return [marked(text) for text in texts]


_ASSETS = Path(__file__).parents[1] / "page_assets"
_POLICY = (
    "default-src 'none'; img-src 'self' file:; media-src 'self' file:; style-src 'sha256-{}'; "
    "script-src 'sha256-{}'; base-uri 'none'; form-action 'none'"
)
_SORTING = (
    "Press a heading to sort by it: up, down, then as the method unfolds again. SI-SNRi is the improvement "
    "over the unprocessed mixture, with a 95 % interval over utterances."
)
_COUNTING = (
    " cpWER counts the word errors of all talkers under the best assignment of streams to talkers; inserted, "
    "deleted and substituted words are in percent of the words that were said."
)
_LISTENING = (
    "The streams of all other systems lie in the experiment's directory separated. A stream is shown with "
    "the talker that the best SI-SNR gives it. All players of an utterance share one gain, so that levels "
    "can be compared; it is 1 unless something would clip in 16 bits. With a mouse, press a picture to hear "
    "the signal from there."
)


@dataclass(frozen=True)
class Page:
    """All that the page shows.

    Attributes:
        results: what ``results.json`` holds.
        experiment: name of the one that is played.
        main: the system that utterances are chosen by.
        played: names of the systems.
        examples: utterances, in the order of choice.
        plots: heading, file and description of each.
        words: whether word errors were counted.
    """

    results: Mapping
    experiment: str
    main: str
    played: Sequence[str]
    examples: Sequence[Example]
    plots: Sequence[tuple[str, str, str]]
    words: bool


def render(page: Page) -> str:
    """Return the document."""
    title = f"Separation results: {', '.join(page.results['experiments'])}"
    style, script = (Html((_ASSETS / name).read_text(encoding="utf-8")) for name in ("style.css", "page.js"))
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", style),
    ]
    parts = [element("h1", title), _intro(page), _table(page), _plots(page), _examples(page)]
    body = [
        element("a", "Skip to the utterances", href="#listen", class_="skip"),
        element("main", [part for part in parts if part]),
        element("script", script),
    ]
    return (
        "<!DOCTYPE html>\n" + element("html", element("head", head), element("body", body), lang="en") + "\n"
    )


def _policy(style: str, script: str) -> str:
    """Allow what is in the page and beside it, and no request anywhere else.

    A page opened from disk has no origin for 'self' to mean, in some browsers: ``file:`` stands beside it.
    """
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script))
    return _POLICY.format(*hashes)


def _intro(page: Page) -> Html:
    results = page.results
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    facts = {
        "command": element("code", results["command"]),
        "date": results["date"],
        "commit": results["commit"] or NOTHING,
        "versions": versions,
        "machine": results["machine"],
        "seed": str(results["seed"]),
        "wall time": duration(sum(results["stages"].values())),
    }
    pairs = [element("div", element("dt", key), element("dd", value)) for key, value in facts.items()]
    warning = "Quick run: too little data and training, its numbers mean nothing."
    return join(
        [
            element("p", element("strong", warning), class_="warning") if results["quick"] else "",
            element(
                "details", element("summary", "Where this comes from"), element("dl", pairs, class_="facts")
            ),
        ]
    )


def _table(page: Page) -> Html:
    sets = [
        element(
            "li",
            "{experiment}: {n} mixtures of {talkers} talkers, {channels} channels, {fs} Hz".format(**one),
        )
        for one in page.results["test_sets"]
    ]
    reading = _SORTING + (_COUNTING if page.words else "")
    return element(
        "section",
        element("h2", "Systems"),
        element("ul", sets, class_="note"),
        element("p", reading, class_="note"),
        results_table(page.results["rows"]),
    )


def _plots(page: Page) -> Html:
    """Return the plots; each is a link to itself, for a screen on which it is small."""
    plots = [
        element(
            "section",
            element("h2", title),
            element("a", element("img", src=source, alt=alt, loading="lazy"), href=source, class_="plot"),
        )
        for title, source, alt in page.plots
    ]
    return element("div", plots, class_="plots") if plots else Html()


def _examples(page: Page) -> Html:
    order = list(KINDS)
    shown = sorted(page.examples, key=lambda one: order.index(one.kind))  # stable: as they were chosen
    sections = [example_section(one, n, page.main, n == 1) for n, one in enumerate(shown, 1)]
    return element(
        "section",
        element("h2", "Utterances to listen to", id="listen", tabindex="-1"),
        _rule(page, len(shown)),
        _legend() if page.words else "",
        element("p", element("button", "Open all", type="button", id="unfold"), class_="unfold"),
        sections,
    )


def _rule(page: Page, count: int) -> Html:
    kinds = [key for key in KINDS if page.words or key != DISAGREE]
    rules = [element("div", element("dt", key), element("dd", KINDS[key])) for key in kinds]
    taking = (
        f"{count} test utterances of {page.experiment}, chosen by what {page.main} made of them. These kinds "
        "take turns, each with the next of its own order that no other has taken:"
    )
    playing = f"Played: {', '.join(page.played)}. {_LISTENING}"
    return join(
        [element("p", taking), element("dl", rules, class_="facts"), element("p", playing, class_="note")]
    )


def _legend() -> Html:
    sample = Text("Words", [("said", "said"), (None, "added"), ("missed", None), ("meant", "heard")])
    meaning = (
        "As recognised; inserted; said but deleted; substituted for what was said. Spelling is normalised."
    )
    return element("div", marked(sample), element("p", meaning, class_="note"), class_="legend")


PAGE, FILES = "report.html", "report_files"


@dataclass(frozen=True)
class Picture:
    """A plot for the page: a PNG file, its heading, and what it shows in words."""

    title: str
    path: Path
    alt: str


def write_listening_page(
    out: Path,
    results: Mapping,
    experiment: Path,
    systems: Sequence[System],
    pictures: Sequence[Picture] = (),
) -> Path:
    """Write ``report.html`` and ``report_files/`` to ``out``, which is replaced as a whole.

    Args:
        out: a directory of its own, such as ``exp/NAME/report``.
        results: what ``results.json`` holds.
        experiment: ``exp/NAME`` with ``scores/``, ``separated/test/`` and, if words were counted, ``wer/``.
        systems: what the systems file lists; others are not played.
        pictures: plots to show.

    Returns:
        the page.

    Raises:
        UserError: ``out`` holds something else; scores, word errors, streams and test set do not fit.
    """
    _refuse_to_replace(out)
    source = Source(experiment, systems)
    with atomic_directory(out) as part:
        files = part / FILES
        files.mkdir()
        for number, picture in enumerate(pictures, 1):
            (files / f"plot{number}.png").write_bytes(_picture(picture.path))
        examples = [
            _write_media(files / f"{number:02d}", *source.example(key, kind))
            for number, (key, kind) in enumerate(source.choose().items(), 1)
        ]
        plots = [(one.title, f"{FILES}/plot{number}.png", one.alt) for number, one in enumerate(pictures, 1)]
        page = Page(results, experiment.name, source.main, source.played, examples, plots, source.has_words)
        write_text(part / PAGE, render(page))
    return out / PAGE


def _write_media(directory: Path, example: Example, signals: Mapping[str, np.ndarray]) -> Example:
    """Write the clips of an example; return it with gain and place of its files."""
    directory.mkdir()
    gain = shared_gain(signals.values())
    levels = {stem: power_db(signal, example.fs) for stem, signal in signals.items()}
    top = max(level.max() for level in levels.values())
    for stem, signal in signals.items():
        write_audio(directory / f"{stem}.wav", signal, example.fs, gain)
        write_spectrogram(directory / f"{stem}.png", levels[stem], top)
    return replace(example, gain=gain, directory=f"{FILES}/{directory.name}")


def _picture(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such picture for the page (make the report again)") from None


def _refuse_to_replace(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: expected a directory to make, found a file (choose another)")
    for child in sorted(out.iterdir()) if out.is_dir() else ():
        if child.name not in (PAGE, FILES):
            raise UserError(f"{out}: holds {child.name}, which would be lost (choose a directory of its own)")
