"""Score the streams of every system against the talkers' images, utterance by utterance.

Of a test set (:func:`score_set`): SI-SNR, SDR, STOI, PESQ and over-separation, with the streams in the order
of the best SI-SNR. A value that does not exist (PESQ refused, infinite SI-SNR of a perfect stream) is null.

Of whole recordings (:func:`score_recordings`): SI-SNR in the span of each utterance of the references. Each
talker has one main stream a recording. An utterance is *off the main stream* if another stream explains most
of its image, and a *swap* is a change of the stream inside an utterance. With a model the same span is also
separated alone.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from frontend.data.audio import audio_info, check_alike, read_audio, seconds_of, stamp_of_entries
from frontend.data.mixtures import (
    MixtureSet,
    Silences,
    Streams,
    Utterance,
    find_streams,
    find_systems,
    labelled_set,
)
from frontend.data.segments import read_turns
from frontend.dsp import metrics
from frontend.dsp.activity import sounds
from frontend.evaluation.intervals import bootstrap_interval, rounded
from frontend.evaluation.measured import Job, run_jobs, stale_jobs
from frontend.training.checkpoints import open_trained
from frontend.utils.device import check_device
from frontend.utils.errors import UserError, did_you_mean, warn
from frontend.utils.parallel import Shard, part_of
from frontend.utils.stamps import Stamp, of_file, of_text

VERSION = 1
# SI-SNR and over-separation are always measured; these cost time (PESQ most: 25 ms for 4 s).
OPTIONAL_MEASURES = ("sdr", "stoi", "pesq")


@dataclass(frozen=True)
class Settings:
    """What to measure: a subset of ``OPTIONAL_MEASURES``, and when an output counts as active (dB)."""

    measures: tuple[str, ...] = OPTIONAL_MEASURES
    active_db: float = metrics.ACTIVE_DB

    def __post_init__(self):
        for name in self.measures:
            if name not in OPTIONAL_MEASURES:
                known = ", ".join(OPTIONAL_MEASURES)
                hint = did_you_mean(name, OPTIONAL_MEASURES)
                raise UserError(f"measure '{name}': expected some of {known}{hint}")


def score_set(
    data: str, separated: str | Path, out: str | Path, settings: Settings, nj: int = 1, shard: Shard = None
) -> None:
    """Score every system below ``separated`` whose score in ``out`` is not current.

    Args:
        data: a labelled mixture set.
        separated: as :func:`frontend.data.mixtures.find_systems` takes it.
        out: where the scores go.
        settings: what to measure.
        nj: number of processes.
        shard: part I of N of the systems alone is scored.

    Raises:
        UserError: a stream is missing, too short or of another rate; found before anything is scored.
    """
    mixtures, out = labelled_set(data), Path(out)
    fs = audio_info(mixtures.wav[mixtures.ids[0]])[2]
    if "pesq" in settings.measures:
        metrics.check_pesq_rate(fs)
    about = {"data": str(data), "channels": channels(mixtures), "fs": fs, "talkers": mixtures.n_talkers}
    paths = part_of(find_systems(separated, "separate"), shard)
    systems = {path.name: Streams(path, mixtures) for path in paths}
    jobs = [_job(name, streams, about, settings) for name, streams in systems.items()]
    stale = stale_jobs(jobs, out)
    for job in stale:
        systems[job.system].check()
    silences = Silences(mixtures.path)
    gain = partial(_gain, n_talkers=mixtures.n_talkers, silences=silences)
    run_jobs(stale, out, partial(_score_one, settings=settings), gain, nj, "score")
    silences.say()


def channels(mixtures: MixtureSet) -> int | str:
    """Return the number of channels of the mixtures; fewest and most, ``2-8``, where they differ."""
    found = sorted({audio_info(entry)[0] for entry in mixtures.wav.values()})
    return found[0] if len(found) == 1 else f"{found[0]}-{found[-1]}"


def _job(name: str, streams: Streams, about: dict, settings: Settings) -> Job:
    items, info = streams.utterances(), streams.info()
    inputs = {
        "references": stamp_of_entries(entry for item in items for entry in item.references),
        "streams": stamp_of_entries(entry for item in items for entry in (*item.streams, *item.outputs)),
        "mixtures": stamp_of_entries(item.mixture for item in items),
        "info.json": of_text(json.dumps(info)),
    }
    stamp = Stamp.of(asdict(settings), inputs, [metrics, sys.modules[__name__]])
    return Job(name, items, {"system": name, **about, **asdict(settings), "info": info}, stamp)


def _gain(job: Job, rows: Sequence[dict], n_talkers: int, silences: Silences) -> tuple[dict, str]:
    for row in rows:
        expected = [k for k in range(n_talkers) if silences.is_expected(row["id"], k)]
        if row["talkers"] < len(expected):
            silences.add(row["id"], expected[0], row["id"])
    gains = [v for row in rows for v in row["si_snri"] if v is not None]
    gain = f"SI-SNRi {np.mean(gains):.2f} dB" if gains else "no finite SI-SNRi"
    return {}, f"{len(rows)} utterances, {gain}"


def score_utterance(
    references: np.ndarray,
    streams: np.ndarray,
    outputs: np.ndarray,
    mixture: np.ndarray,
    fs: int,
    settings: Settings,
) -> dict:
    """Measure one utterance, with the streams in the order that gives the best SI-SNR.

    Args:
        references: ``(S, T)``, the talkers at the reference channel; silent ones are left out.
        streams: ``(M, T)``, one a talker or more.
        outputs: ``(K, T)``, what the network put out, to find over-separation in.
        mixture: ``(T,)``, the reference channel.
        fs: in Hz.
        settings: what to measure.

    Returns:
        lists with one entry a talker (``permutation, si_snr, si_snri, ...``), and the counts of outputs.
    """
    references = references[sounds(references)]
    order = list(metrics.match_streams(references, streams))
    chosen = streams[order]
    values = metrics.si_snr(references, chosen)
    with np.errstate(invalid="ignore"):  # inf - inf: a talker alone without noise
        improvement = values - metrics.si_snr(references, mixture)
    active, surplus = metrics.surplus_outputs(outputs, mixture, len(references), settings.active_db)
    active_streams, _ = metrics.surplus_outputs(streams, mixture, len(references), settings.active_db)
    row = {
        "talkers": len(references),
        "permutation": order,
        "silent": [int(k) for k in np.flatnonzero(~sounds(chosen))],
        "si_snr": values,
        "si_snri": improvement,
        "active_outputs": active,
        "active_streams": active_streams,
        "surplus_outputs": surplus,
        "energy_outside_best": metrics.energy_outside_best(references, outputs, fs),
    }
    if "sdr" in settings.measures:
        row["sdr"] = metrics.sdr(references, chosen)
    for name in ("stoi", "pesq"):
        if name in settings.measures:
            measure = getattr(metrics, name)
            row[name] = [measure(*pair, fs) for pair in zip(references, chosen, strict=True)]
    return rounded(row)


def _score_one(utterance: Utterance, settings: Settings) -> dict:
    references, streams, outputs, mixture, fs = utterance.read()
    if not sounds(references).any():
        raise UserError(
            f"{utterance.references[0]}: {utterance.id} has no talker to score, all images are silent"
        )
    return {"id": utterance.id, **score_utterance(references, streams, outputs, mixture, fs, settings)}


# --- whole recordings

_SHORTEST_S = 0.1  # shorter spans say nothing


@dataclass(frozen=True)
class RecordingSettings:
    """How whole recordings are scored.

    Attributes:
        ref: who talks when, RTTM, STM or SegLST; None: ``ref.rttm`` of the set.
        model: a trained separator, to separate each utterance alone, on ``device``; None leaves that out.
        least_s: length of what is separated alone, at least.
        seed: of the intervals.
        strict: a line of the references that cannot be used, or a recording without one, is an error.
    """

    ref: str | None = None
    model: str | None = None
    least_s: float = 2.5
    device: str = "cpu"
    seed: int = 0
    strict: bool = False

    def __post_init__(self):
        check_device(self.device)
        if not 0 < self.least_s <= 60:
            raise UserError(f"--least_s: expected more than 0 and at most 60, found {self.least_s:g}")


@dataclass(frozen=True)
class Span:
    """One utterance of the references in a whole recording, and the audio entries to score it by."""

    session_id: str
    speaker: str
    talker: int
    start_time: float
    end_time: float
    mixture: str
    image: str
    streams: tuple[str, ...] = ()

    def samples(self) -> tuple[int, int, int, int]:
        """Return first sample, end, samples of the whole recording, and rate in Hz."""
        _, frames, fs = audio_info(self.mixture)
        return min(round(self.start_time * fs), frames), min(round(self.end_time * fs), frames), frames, fs

    def read(self, entry: str) -> np.ndarray:
        """Return the span of an entry's first channel, ``(T,)``."""
        start, stop, _, _ = self.samples()
        return read_audio(entry, start, stop - start, finite=True)[0][0]


def has_references(data: str | Path) -> bool:
    """Return whether a mixture set is one of whole recordings with references (``ref.rttm``)."""
    return (Path(data) / "ref.rttm").is_file()


def score_recordings(
    data: str, separated: str | Path, out: str | Path, settings: RecordingSettings, nj: int = 1
) -> None:
    """Score the systems below ``separated`` on whole recordings, utterance by utterance of the references.

    Args:
        data: a labelled mixture set of whole recordings.
        separated: as :func:`frontend.data.mixtures.find_systems` takes it.
        out: where the scores go.
        settings: references, and whether to separate each utterance alone as well.
        nj: number of processes; with a model it is one.

    Raises:
        UserError: references, recordings, streams or a model that do not fit; before any scoring.
    """
    mixtures, out = labelled_set(data), Path(out)
    ref = Path(settings.ref) if settings.ref else mixtures.path / "ref.rttm"
    spans = _spans(ref, mixtures, settings.strict)
    if settings.model:
        with open_trained(settings.model) as trained:
            for entry in mixtures.wav.values():
                channels, _, fs = audio_info(entry)
                trained.check(entry, channels, fs)
            model = of_text(of_file(trained.config) + of_file(trained.checkpoint))
    jobs = []
    for path in find_systems(separated, "separate"):
        tables = find_streams(path, mixtures.ids)
        _check_streams(path, tables, mixtures)
        items = [replace(s, streams=tuple(table[s.session_id] for table in tables)) for s in spans]
        inputs = {
            "references": of_file(ref),
            "images": stamp_of_entries(dict.fromkeys(s.image for s in spans)),
            "mixtures": stamp_of_entries(mixtures.wav.values()),
            "streams": stamp_of_entries(entry for table in tables for entry in table.values()),
            "model": model if settings.model else "",
        }
        kept = {"least_s": settings.least_s, "seed": settings.seed}
        about = {"system": path.name, "data": str(data), "model": settings.model, "ref": str(ref)}
        jobs.append(Job(path.name, items, about, Stamp.of(kept, inputs, [metrics, sys.modules[__name__]])))
    stale = stale_jobs(jobs, out)
    alone = _Alone(settings.model, settings) if settings.model and stale else None
    measure, sum_up = partial(_score_span, alone=alone), partial(_sum_up, seed=settings.seed)
    run_jobs(stale, out, measure, sum_up, 1 if alone else nj, "score")


def _spans(ref: Path, mixtures: MixtureSet, strict: bool) -> list[Span]:
    """Return the segments of the references that are of these recordings; they must be of these talkers."""
    known = {f"spk{k}": k - 1 for k in range(1, mixtures.n_talkers + 1)}
    seconds = {name: seconds_of(entry) for name, entry in mixtures.wav.items()}
    rows = read_turns(ref, seconds, strict)
    ends = [min(row["end_time"], seconds[row["session_id"]]) for row in rows]
    rows = [row for row, end in zip(rows, ends, strict=True) if end - row["start_time"] >= _SHORTEST_S]
    lacking = sorted(seconds.keys() - {row["session_id"] for row in rows})
    if lacking:
        text = f"{ref}: recording {lacking[0]} has no utterance"
        if strict or len(lacking) == len(seconds):
            raise UserError(f"{text} (take the references of this set)")
        more = f", nor have {len(lacking) - 1} more" if len(lacking) > 1 else ""
        warn(f"{text}{more}: not scored; {len(seconds) - len(lacking)} recordings are")
    spans = []
    for row in rows:
        if row["speaker"] not in known:
            raise UserError(
                f"{ref}: expected speakers {', '.join(known)}, as the tables of images in {mixtures.path}, "
                f"found '{row['speaker']}' (take the references of this set)"
            )
        name, talker, entry = row["session_id"], known[row["speaker"]], mixtures.wav[row["session_id"]]
        times = row["start_time"], row["end_time"]
        spans.append(Span(name, row["speaker"], talker, *times, entry, mixtures.speakers[talker][name]))
    return spans


def _check_streams(path: Path, tables: list[dict[str, str]], mixtures: MixtureSet) -> None:
    if len(tables) < mixtures.n_talkers:
        raise UserError(
            f"{path}: expected at least {mixtures.n_talkers} streams, as {mixtures.path} has talkers, "
            f"found {len(tables)}"
        )
    for name, entry in mixtures.wav.items():
        _, frames, fs = audio_info(entry)
        check_alike(tables[0][name], frames, fs, f"in recording {name}", "separate again")


class _Alone:
    """Separates an utterance alone, cut out with more on either side if it is short; once for all systems."""

    def __init__(self, model: str, settings: RecordingSettings):
        from frontend.separation.model import Separator  # ESPnet: seconds

        self.separator = Separator.from_pretrained(model, settings.device)
        self.least_s = settings.least_s
        self.known: dict[Span, dict] = {}

    def __call__(self, span: Span, image: np.ndarray) -> dict:
        key = replace(span, streams=())
        if key not in self.known:
            start, stop, frames, fs = span.samples()
            least = round(self.least_s * fs)
            low = max(0, min(start - max(0, least - (stop - start)) // 2, frames - least))
            high = min(frames, max(stop, low + least))
            streams = self.separator(read_audio(span.mixture, low, high - low, finite=True)[0], fs)
            found = _choice(image, streams[:, start - low : stop - low], fs)
            self.known[key] = {f"alone_{name}": value for name, value in found.items()}
        return self.known[key]


def _score_span(span: Span, alone: _Alone | None) -> dict:
    image, fs = span.read(span.image), span.samples()[-1]
    if not sounds(image):
        raise UserError(
            f"{span.session_id}: {span.speaker} is silent in the image from {span.start_time} to "
            f"{span.end_time} s, where the references have speech (take the references of this set)"
        )
    streams = np.stack([span.read(entry) for entry in span.streams])
    row = {k: getattr(span, k) for k in ("session_id", "speaker", "talker", "start_time", "end_time")}
    row |= {"mixture": metrics.si_snr(image, span.read(span.mixture))}
    row |= {**_choice(image, streams, fs), "of_streams": metrics.si_snr(image, streams)}
    return rounded(row | (alone(span, image) if alone else {}))


def _choice(image: np.ndarray, streams: np.ndarray, fs: int) -> dict:
    shares, blocks = metrics.explained(image, streams), metrics.block_streams(image, streams, fs)
    best = int(np.argmax(shares))
    return {
        "best_si_snr": metrics.si_snr(image, streams[best]),
        "stream": best if metrics.is_clear(shares) else -1,
        "blocks": int(np.sum(blocks >= 0)),
        "swaps": metrics.swaps(blocks),
    }


def _sum_up(job: Job, rows: list[dict], seed: int) -> tuple[dict, str]:
    """Add to each row what its talker's main stream makes of it; return the sums, as data and as text."""
    for name in {row["session_id"] for row in rows}:
        here = [row for row in rows if row["session_id"] == name]
        talkers, streams = ([row[key] for row in here] for key in ("talker", "stream"))
        main = metrics.main_streams(talkers, streams, [row["end_time"] - row["start_time"] for row in here])
        for row in here:
            row["si_snr"] = row.pop("of_streams")[main[row["talker"]]]
            row["off_main_stream"] = row["stream"] != main[row["talker"]] if row["stream"] >= 0 else None
    found = totals(rows, seed)
    return found, table(found)


def totals(rows: list[dict], seed: int) -> dict:
    """Return medians, means with 95 % intervals, swaps, and utterances off the main stream.

    Utterances without a finite SI-SNR (a silent stream) are counted in ``not_finite`` and in no mean.
    """
    measures = [m for m in ("mixture", "si_snr", "best_si_snr", "alone_best_si_snr") if m in rows[0]]
    kept = [row for row in rows if all(row[key] is not None for key in measures)]
    found: dict = {"n": len(rows), "not_finite": len(rows) - len(kept)}
    values = {key: np.array([row[key] for row in kept]) for key in measures}
    values["si_snri"] = values["si_snr"] - values["mixture"]
    if "alone_best_si_snr" in values:
        values["difference"] = values["si_snr"] - values["alone_best_si_snr"]  # continuous - alone
    for key, row in values.items():
        found[key] = None
        if len(row):
            ci = bootstrap_interval(row, seed)
            found[key] = rounded({"mean": row.mean(), "ci": ci, "median": np.median(row)})
    for who in ("", "alone_"):
        if f"{who}swaps" in rows[0]:
            found[f"{who}swaps"] = sum(row[f"{who}swaps"] > 0 for row in rows)
            found[f"{who}swappable"] = sum(row[f"{who}blocks"] > 1 for row in rows)
    found["clear"] = sum(row["off_main_stream"] is not None for row in rows)
    found["off_main_stream"] = sum(bool(row["off_main_stream"]) for row in rows)
    return found


def table(found: dict) -> str:
    """Return the totals for reading."""
    names = {
        "mixture": "mixture",
        "si_snr": "main stream",
        "best_si_snr": "best stream of each",
        "si_snri": "main stream - mixture",
        "alone_best_si_snr": "each utterance alone",
        "difference": "main stream - alone",
    }
    lines = [f"{'SI-SNR, dB':<22}{'mean':>8}{'[95 %]':>18}{'median':>9}"]
    for key, name in names.items():
        if row := found.get(key):
            interval = f"[{row['ci'][0]:.2f}, {row['ci'][1]:.2f}]"
            lines.append(f"{name:<22}{row['mean']:>8.2f}{interval:>18}{row['median']:>9.2f}")
    swaps = "stream swaps inside {swaps} of {swappable} utterances that could show one"
    swaps += " (separated alone: {alone_swaps} of {alone_swappable})" if "alone_swaps" in found else ""
    lines += ["{n} utterances, {not_finite} of them without a finite SI-SNR".format(**found)]
    lines += [swaps.format(**found)]
    lines += ["{off_main_stream} of {clear} clear ones off their talker's main stream".format(**found)]
    return "\n".join(lines)
