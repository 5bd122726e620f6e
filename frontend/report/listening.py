"""The page to listen to of an experiment on simulated mixtures.

It holds the table of results, and for some test utterances, chosen by rules that are shown on the page,
audio, spectrograms and recognised words of systems (:mod:`frontend.report.clips`).
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from frontend.data.audio import audio_info, read_image
from frontend.data.mixtures import Streams, labelled_set
from frontend.dsp.activity import sounds
from frontend.evaluation.measured import Scores, load_scores, read_measured
from frontend.evaluation.results import mean
from frontend.recognition.text import align, mark
from frontend.report.clips import FILES, MOST, MOST_BYTES, PAGE, clip, new_page, write_clips, write_html
from frontend.separation.systems import System
from frontend.utils.errors import UserError

# What is played, of what there is, in this order; all other streams stay in exp/NAME/separated.
PLAYED = (
    "mixture",
    "oracle",
    "dry",
    "auxiva",
    "auxiva+mask",
    "teacher_energy",
    "student",
    "any_array",
    "student_masknet",
    "distilled_ft",
    "supervised_full",
    "joint",
)
MAIN = "student"
_WITHOUT_STREAMS = ("mixture", "oracle", "dry")  # their audio is that of the test set; dry is not played
KINDS = {
    "best": "highest mean SI-SNRi over the talkers",
    "median": "mean SI-SNRi closest to the median by rank",
    "worst": "lowest mean SI-SNRi over the talkers",
    "disagree": "rank by SI-SNRi and rank by word error rate farthest apart",
}


def write_listening_page(
    out: Path, results: Mapping, experiment: Path, systems: Sequence[System], report: Path
) -> Path:
    """Write ``report.html`` and ``report_files/`` to ``out``, which is replaced as a whole.

    Args:
        out: a directory of its own, such as ``exp/NAME/report``.
        results: what ``results.json`` holds.
        experiment: ``exp/NAME`` with ``scores/``, ``separated/test/`` and, if words were counted, ``wer/``.
        systems: what the systems file lists; others are not played.
        report: directory with the pictures of the results.

    Returns:
        the page.

    Raises:
        UserError: ``out`` holds something else; scores, word errors, streams and test set do not fit.
    """
    with new_page(out) as part:
        source = Source(experiment, systems)
        plots = {kind: f"{FILES}/{name}" for kind, name in results["pictures"].items()}
        for name in results["pictures"].values():
            (part / FILES / name).write_bytes((report / name).read_bytes())
        examples = []
        for k, (key, kind) in enumerate(source.choose().items(), 1):
            example, signals = source.example(key, kind)
            examples.append(example | write_clips(part, k, signals, source.fs))
        order = list(KINDS)
        examples.sort(key=lambda one: order.index(one["kind"]))  # stable: as they were chosen
        about = {"experiment": experiment.name, "main": source.main, "played": source.played}
        kinds = {kind: rule for kind, rule in KINDS.items() if source.has_words or kind != "disagree"}
        page = {"results": results, "plots": plots, "examples": examples, "kinds": kinds, **about}
        write_html(part, "listening.html.j2", words=source.has_words, **page)
    return out / PAGE


# --- which systems and utterances


def main_system(scores: Mapping[str, Scores], systems: Sequence[System]) -> str:
    """Return ``student``, by which utterances are chosen.

    Where there is none, it is the system of highest mean SI-SNRi among those without labels, or among all.
    """
    if MAIN in scores:
        return MAIN
    scored = [system for system in systems if system.name in scores]
    free = [one for one in scored if (one.model or one.blind) and not one.labels and one.rule != "oracle"]
    gains = {one.name: mean(scores[one.name].values("si_snri")) for one in free or scored}
    return max(gains, key=lambda name: (gains[name] is not None, gains[name] or 0.0))


def ranks(gains: Mapping[str, float], word_errors: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Return the rank of each utterance by SI-SNRi and by word error rate, 1 for the best.

    Equal values share the mean of their ranks. An utterance without SI-SNRi (nan) has no rank.
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
    """Choose utterances of each of :data:`KINDS`.

    The kinds take turns, each with the next of its own order that no other has taken; equal values stand in
    the order of their ids. An utterance without SI-SNRi (nan) is never chosen.

    Args:
        gains: mean SI-SNRi of the main system per utterance, dB.
        word_errors: its word error rate per utterance that has words; empty where none were counted.
        most: number of utterances.

    Returns:
        ``{id: kind}``, in the order of choice: leaving some out at the end thins all kinds alike.
    """
    gains = {key: value for key, value in sorted(gains.items()) if np.isfinite(value)}
    rising = sorted(gains, key=lambda key: gains[key])  # stable: ids in order where values are equal
    near = sorted(range(len(rising)), key=lambda place: abs(place - (len(rising) - 1) / 2))
    orders = {
        "best": sorted(gains, key=lambda key: -gains[key]),
        "median": [rising[place] for place in near],
        "worst": rising,
    }
    if found := ranks(gains, word_errors):
        orders["disagree"] = sorted(found, key=lambda key: -abs(found[key][0] - found[key][1]))
    chosen: dict[str, str] = {}
    while len(chosen) < min(most, len(gains)):
        for kind, order in orders.items():
            key = next((one for one in order if one not in chosen), None)
            if key is not None and len(chosen) < most:
                chosen[key] = kind
    return chosen


# --- what there is of an experiment


class Source:
    """Scores, word errors, streams and test set of an experiment, checked to fit.

    Args:
        experiment, systems: see :func:`write_listening_page`.

    Attributes:
        main: the system that utterances are chosen by; ``played``: names of the systems to play.
        has_words: whether words were counted; ``fs``: rate of the test set in Hz.

    Raises:
        UserError: no scores, or scores, word errors, streams and test set that do not fit.
    """

    def __init__(self, experiment: Path, systems: Sequence[System]):
        every = load_scores(experiment / "scores")
        scores = {system.name: every[system.name] for system in systems if system.name in every}
        if not scores:
            where = experiment / "scores"
            raise UserError(f"{where}: no score of any listed system (run the stage 'score' first)")
        self.main = main_system(scores, systems)
        main = scores[self.main]
        self._gains = dict(zip(main.ids, main.values("si_snri").tolist(), strict=True))
        self._mixtures = labelled_set(main.about["data"])
        self.fs = audio_info(self._mixtures.wav[main.ids[0]])[2]
        counted = {name: rows for name, (_, rows) in read_measured(experiment / "wer", "wer").items()}
        self.has_words = bool(counted)
        known = {*scores, "oracle", *({"dry"} & counted.keys())}
        self.played = [name for name in dict.fromkeys((*PLAYED, self.main)) if name in known]
        self._scores = self._by_id({name: one.utterances for name, one in scores.items()}, "score")
        self._words = self._by_id(counted, "wer")
        self._streams = {
            name: {
                one.id: one
                for one in Streams(experiment / "separated/test" / name, self._mixtures).utterances()
            }
            for name in self.played
            if name not in _WITHOUT_STREAMS
        }
        rows = self._words.get(self.main, {})
        self._rates = {key: row["errors"] / row["words"] for key, row in rows.items() if row["words"]}

    def choose(self) -> dict[str, str]:
        """Return the utterances to play and why, as many as :data:`MOST_BYTES` allow, one at least."""
        chosen: dict[str, str] = {}
        left = MOST_BYTES
        for key, kind in choose_utterances(self._gains, self._rates).items():
            streams = sum(len(one[key].streams) for one in self._streams.values())
            left -= 2 * audio_info(self._mixtures.wav[key])[1] * (1 + self._mixtures.n_talkers + streams)
            if left < 0 and chosen:
                break
            chosen[key] = kind
        return chosen

    def example(self, key: str, kind: str) -> tuple[dict, dict[str, np.ndarray]]:
        """Return what the page shows of an utterance, and its signals ``{name: (T,)}``.

        Raises:
            UserError: a signal is missing or does not fit its mixture, or word errors do not fit the texts.
        """
        recording, fs = self._mixtures.mixture(key)
        references, texts = self._mixtures.references(key), self._mixtures.texts(key)
        present = np.flatnonzero(sounds(references)).tolist()  # talkers, as scores count
        signals = {"mixture": recording[0]}
        signals |= {f"reference-{k + 1}": references[k] for k in present}
        blocks = []
        for name in self.played:
            entries = self._streams[name][key].streams if name in self._streams else ()
            for k, entry in enumerate(entries):
                signals[f"{name}-{k + 1}"] = read_image(entry, recording.shape[1], fs)
            score, row = (table.get(name, {}).get(key) for table in (self._scores, self._words))
            words = _texts(row, [k for k, text in enumerate(texts) if text], name, key)
            blocks.append(_block(name, len(entries), present, score or {}, row, words))
        example = {
            "id": key,
            "kind": kind,
            "seconds": recording.shape[1] / fs,
            "talkers": [(f"talker {k + 1}", texts[k] if texts else "") for k in present],
            "facts": self._facts(key),
            "blocks": blocks,
        }
        return example, signals

    def _facts(self, key: str) -> list[str]:
        """Return what makes the utterance hard, as far as its scene is known, and its ranks."""
        known = (self._mixtures.path / "scenes.jsonl").is_file()
        scene = self._mixtures.scene(key) if known else {}
        t60 = scene.get("measured", {}).get("t60", scene.get("t60"))
        facts = [] if t60 is None else [f"T60 {t60:.2f} s"]
        for k, talker in enumerate(scene.get("talkers", [])[1:], 2):
            facts.append(f"talker {k} at {talker['level_db']:+.1f} dB")
        noise = scene.get("noise") or {}
        if noise.get("snr_db") is not None:
            facts.append(f"{noise.get('kind', '')} noise at {noise['snr_db']:.0f} dB SNR".strip())
        found = ranks(self._gains, self._rates)
        if key in found:
            gain, words = found[key]
            of = f"{gain:g} of {len(found)} by SI-SNRi and {words:g} by word errors"
            facts.append(f"{self.main} has rank {of}")
        return facts

    def _by_id(self, measured: Mapping[str, Sequence[dict]], stage: str) -> dict[str, dict[str, dict]]:
        """Return ``{system: {utterance id: row}}`` of what is played, checked to be of the test set."""
        found = {name: {row["id"]: row for row in measured[name]} for name in self.played if name in measured}
        for name, rows in found.items():
            for key in sorted(rows.keys() ^ set(self._mixtures.ids))[:1]:
                where = f"nothing of {key}" if key not in rows else f"{key}, which is not there,"
                raise UserError(
                    f"{self._mixtures.path}: the stage '{stage}' has {where} for {name} (run it again)"
                )
        return found


# --- one system on one utterance

# (talker, stream, words as marked): each talker with the stream that cpWER gives it, then surplus streams.
Texts = list[tuple[int | None, int | None, list[tuple]]]


def _texts(row: Mapping | None, speaking: Sequence[int], name: str, key: str) -> Texts:
    """Return the aligned words of a system's streams; ``speaking``: the talkers that have a text."""
    if row is None:
        return []
    if len(row["references"]) != len(speaking):
        raise UserError(
            f"{name}: word errors of {key} are of {len(row['references'])} talkers, found texts of "
            f"{len(speaking)} (run the stage 'wer' again)"
        )
    assigned = [*zip(speaking, row["assignment"], row["references"], strict=True)]
    found: Texts = []
    for talker, stream, words in [*assigned, *((None, stream, "") for stream in row["surplus"])]:
        pairs = align(words, "" if stream is None else row["hypotheses"][stream])
        found.append((talker, stream, [(mark(pair), *pair) for pair in pairs]))
    return found


def _of_stream(texts: Texts, wanted: int, best: int | None) -> list[dict]:
    """Return the words of one stream, whose best SI-SNR is with the talker ``best``."""
    found = []
    for talker, stream, pairs in texts:
        if stream == wanted:
            whose = ", of no talker" if talker is None else f", counted as talker {talker + 1}"
            found.append({"title": "recognised" + whose * (talker != best or talker is None), "pairs": pairs})
    return found


def _others(texts: Texts, shown: Collection[int] = (), prefix: str = "") -> list[dict]:
    """Return the words of all streams but those ``shown``, and of talkers whom cpWER gives no stream."""
    found = []
    for talker, stream, pairs in texts:
        if stream not in shown:
            title = "of no talker" if talker is None else f"talker {talker + 1}"
            title = (
                f"{title} has no stream" if stream is None else (prefix if talker is not None else "") + title
            )
            found.append({"title": title, "pairs": pairs})
    return found


def _block(
    name: str, streams: int, present: Sequence[int], score: Mapping, errors: Mapping | None, texts: Texts
) -> dict:
    """Return one system on one utterance: its figures, its clips, and words that belong to no clip."""
    gains = [gain for gain in score.get("si_snri", []) if gain is not None]
    clips: list[dict] = []
    rest = _others(texts)
    if name == "mixture":
        clips, rest = [clip("mixture", "reference channel", _others(texts, prefix="as "))], []
    elif name == "oracle":
        for k in present:
            clips.append(clip(f"reference-{k + 1}", f"talker {k + 1}, reference", _of_stream(texts, k, k)))
        rest = _others(texts, present)
    elif name != "dry":
        clips, rest = _stream_clips(name, streams, present, score, texts), _others(texts, range(streams))
    si_snri = float(np.mean(gains)) if gains and name != "mixture" else None
    return {"system": name, "clips": clips, "texts": rest, "si_snri": si_snri, "errors": errors}


def _stream_clips(
    name: str, streams: int, present: Sequence[int], score: Mapping, texts: Texts
) -> list[dict]:
    """Return the streams in the order of the talkers that the best SI-SNR gives them, then surplus ones."""
    order = score["permutation"]
    if len(order) != len(present):
        raise UserError(
            f"{name}: scores of {score['id']} are of {len(order)} talkers, found images of {len(present)} "
            "(run the stage 'score' again)"
        )
    clips = []
    for k, (talker, stream) in enumerate(zip(present, order, strict=True)):
        title, words = f"talker {talker + 1}, stream {stream + 1}", _of_stream(texts, stream, talker)
        more = {"si_snri": score["si_snri"][k], "silent": k in score["silent"]}
        clips.append(clip(f"{name}-{stream + 1}", title, words, **more))
    for stream in sorted(set(range(streams)) - set(order)):
        title = f"no talker, stream {stream + 1}"
        clips.append(clip(f"{name}-{stream + 1}", title, _of_stream(texts, stream, None)))
    return clips
