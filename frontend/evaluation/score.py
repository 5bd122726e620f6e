"""Score the streams of every system on a test set, one JSON line an utterance.

``OUT/SYSTEM.jsonl`` holds what was measured; ``OUT/SYSTEM.json`` what it was
measured on and a fingerprint of all that went in, so that a second run scores
only what changed. A value that does not exist (PESQ refused, infinite SI-SNR
of a perfect stream) is null; a silent stream is named as such.

Which stream a talker is in: by how much of his image's energy it explains.

A stream ``x`` explains ``2 <s, x> - |x|^2`` of the energy ``|s|^2`` of an image ``s``: what is gone of it in
``s - x``. Unlike SI-SNR this sees levels, so that a faint trace of a talker in the other stream does not
count as he himself; like the streams of all our systems, ``x`` has to be at the level of the recording.

Separated long recordings against the talkers' images, utterance by utterance.

For each utterance of the references, in its span: the SI-SNR of its talker's usual stream (one a talker and
recording, :mod:`frontend.evaluation.score`), that of the stream that explains most of his image just there, that
of the mixture at the reference channel, and, with a model, that of the same span separated alone: cut out of
the mixture, overlapping speech and all, with as much more on either side as makes it ``least_s`` long. A
stream swap is a change of the stream inside an utterance; it can show where two blocks of the utterance or
more are decided. An utterance is astray if its stream is not its talker's usual one.
"""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from frontend.data.audio import audio_info, entry_stamp, read_audio
from frontend.data.mixtures import MixtureSet, Streams, Utterance, find_streams, labelled_set
from frontend.data.segments import read_segments
from frontend.dsp.metrics import (
    ACTIVE_DB,
    best_permutation,
    check_pesq_rate,
    energy_outside_best,
    pesq,
    sdr,
    si_snr,
    stoi,
    surplus_outputs,
)
from frontend.evaluation.intervals import bootstrap_interval
from frontend.training.checkpoints import open_trained
from frontend.utils.errors import UserError, did_you_mean
from frontend.utils.files import write_json, write_text
from frontend.utils.parallel import parallel_map, progress

# SI-SNR and over-separation are always measured; these cost time (PESQ most: 25 ms for 4 s).
OPTIONAL_MEASURES = ("sdr", "stoi", "pesq")
_DECIMALS = 4
_SOURCES = ("dsp/metrics.py", "evaluation/score.py", "data/mixtures.py")


@dataclass(frozen=True)
class Settings:
    """What to measure: a subset of ``OPTIONAL_MEASURES``, and when an output counts as active (dB)."""

    measures: tuple[str, ...] = OPTIONAL_MEASURES
    active_db: float = ACTIVE_DB

    def __post_init__(self):
        for name in self.measures:
            if name not in OPTIONAL_MEASURES:
                known = ", ".join(OPTIONAL_MEASURES)
                hint = did_you_mean(name, OPTIONAL_MEASURES)
                raise UserError(f"measure '{name}': expected some of {known}{hint}")


def score_systems(data: str, separated: str | Path, out: str | Path, settings: Settings, nj: int) -> None:
    """Score every system below ``separated`` whose score in ``out`` is not up to date.

    Args:
        data: a labelled mixture set.
        separated: directory with one directory of streams per system.
        out: where the scores go.
        settings: what to measure.
        nj: number of processes.

    Raises:
        UserError: a stream is missing, too short or of another rate; found before anything is scored.
    """
    mixtures, out = labelled_set(data), Path(out)
    systems = {p.name: Streams(p, mixtures) for p in _find_systems(Path(separated))}
    prints = {name: _fingerprint(streams, settings) for name, streams in systems.items()}
    stale = [name for name in systems if not _is_current(out, name, prints[name])]
    print(
        f"{separated}: {len(systems)} systems, {len(systems) - len(stale)} of them scored before", flush=True
    )
    if not stale:
        return
    channels, _, fs = audio_info(mixtures.wav[mixtures.ids[0]])
    if "pesq" in settings.measures:
        check_pesq_rate(fs)
    for name in stale:
        systems[name].check()
    common = {
        "data": str(data),
        "channels": channels,
        "fs": fs,
        "talkers": mixtures.n_talkers,
        **asdict(settings),
    }
    jobs = [utterance for name in stale for utterance in systems[name].utterances()]
    with contextlib.closing(parallel_map(partial(_score_job, settings=settings), jobs, nj, "score")) as rows:
        for name in stale:
            about = {"system": name, **common, "info": systems[name].info(), "fingerprint": prints[name]}
            _write(out, name, list(islice(rows, len(mixtures.ids))), about)


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
    references = references[np.any(references != 0, axis=-1)]
    order = best_permutation(references, streams)
    chosen = streams[order]
    values = si_snr(references, chosen)
    with np.errstate(invalid="ignore"):  # inf - inf: a talker alone without noise
        improvement = values - si_snr(references, mixture)
    active, surplus = surplus_outputs(outputs, mixture, len(references), settings.active_db)
    active_streams, _ = surplus_outputs(streams, mixture, len(references), settings.active_db)
    row = {
        "talkers": len(references),
        "permutation": order.tolist(),
        "silent": [int(k) for k in np.flatnonzero(~np.any(chosen != 0, axis=-1))],
        "si_snr": values,
        "si_snri": improvement,
        "active_outputs": active,
        "active_streams": active_streams,
        "surplus_outputs": surplus,
        "energy_outside_best": energy_outside_best(references, outputs, fs),
    }
    if "sdr" in settings.measures:
        row["sdr"] = sdr(references, chosen)
    for name in ("stoi", "pesq"):
        if name in settings.measures:
            measure = {"stoi": stoi, "pesq": pesq}[name]
            row[name] = [measure(*pair, fs) for pair in zip(references, chosen, strict=True)]
    return {key: _plain(value) for key, value in row.items()}


def _score_job(utterance: Utterance, settings: Settings) -> dict:
    references, *signals, fs = utterance.read()
    if not references.any():
        raise UserError(
            f"{utterance.references[0]}: {utterance.id} has no talker to score, all images are silent"
        )
    return {"id": utterance.id, **score_utterance(references, *signals, fs, settings)}


def _plain(value):
    """Return ``value`` for JSON: lists, rounded numbers, null for what is not finite."""
    if isinstance(value, list | np.ndarray):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return round(float(value), _DECIMALS) if np.isfinite(value) else None
    return value


def _find_systems(separated: Path) -> list[Path]:
    if not separated.is_dir():
        raise UserError(f"{separated}: expected a directory with a directory per system, found none")
    found = sorted(p for p in separated.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not found:
        raise UserError(f"{separated}: no system in it (run the stage 'separate' first)")
    return found


def _fingerprint(streams: Streams, settings: Settings) -> str:
    """Hash all that goes into a score: the code by content, the audio by name, size and time."""
    here = Path(__file__).parents[1]
    code = [hashlib.sha256((here / name).read_bytes()).hexdigest() for name in _SOURCES]
    entries = [[*u.references, *u.streams, *u.outputs, u.mixture] for u in streams.utterances()]
    stamps = [[(entry, *entry_stamp(entry)) for entry in row] for row in entries]
    everything = [code, asdict(settings), stamps, streams.info()]
    return hashlib.sha256(json.dumps(everything).encode()).hexdigest()


def _is_current(out: Path, name: str, fingerprint: str) -> bool:
    about = out / f"{name}.json"
    if not about.is_file() or not (out / f"{name}.jsonl").is_file():
        return False
    return json.loads(about.read_text()).get("fingerprint") == fingerprint


def _write(out: Path, name: str, rows: Sequence[dict], about: dict) -> None:
    write_text(out / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    # Written last: with it the score is complete.
    write_json(out / f"{name}.json", about)
    gains = [v for row in rows for v in row["si_snri"] if v is not None]
    gain = f"SI-SNRi {np.mean(gains):.2f} dB" if gains else "no finite SI-SNRi"
    print(f"{name}: {len(rows)} utterances, {gain}", flush=True)


BLOCK_S = 0.5
ACTIVE_DB = -20.0  # blocks of the image this far below its mean power are pauses
MARGIN = 0.25  # of the energy: by so much the best stream is ahead of the next where a block is decided


def explained(image: np.ndarray, streams: np.ndarray) -> np.ndarray:
    """Return the share of the image's energy that each stream explains, at most 1, negative for other speech.

    Args:
        image: ``(T,)``, not silent.
        streams: ``(M, T)``.

    Returns:
        ``(M,)``
    """
    image, streams = np.asarray(image, np.float64), np.asarray(streams, np.float64)
    return (2 * streams @ image - np.sum(streams**2, axis=-1)) / np.sum(image**2)


def decided(shares: np.ndarray) -> bool:
    """Tell whether one stream is ahead of all others by :data:`MARGIN`; what is negative counts as 0."""
    ordered = np.sort(np.maximum(np.append(shares, 0.0), 0.0))
    return bool(ordered[-1] - ordered[-2] >= MARGIN)


def block_streams(image: np.ndarray, streams: np.ndarray, fs: int) -> np.ndarray:
    """Return which stream a talker is in, block by block of 0.5 s.

    Args:
        image: ``(T,)``, of one utterance.
        streams: ``(M, T)``.
        fs: Hz.

    Returns:
        ``(B,)`` of int; -1 where the talker pauses or no stream is ahead by :data:`MARGIN`. A rest of less
        than half a block at the end belongs to the last block.
    """
    size, samples = max(1, round(BLOCK_S * fs)), len(image)
    edges = np.append(np.arange(max(1, round(samples / size))) * size, samples)
    power = np.mean(np.square(image, dtype=np.float64))
    found = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        piece = image[low:high]
        heard = np.mean(np.square(piece, dtype=np.float64)) > power * 10 ** (ACTIVE_DB / 10)
        shares = explained(piece, streams[:, low:high]) if heard else np.zeros(1)
        found.append(int(np.argmax(shares)) if decided(shares) else -1)
    return np.array(found)


def swaps(blocks: np.ndarray) -> int:
    """Count how often a talker changes his stream: consecutive decided blocks that name another stream."""
    kept = blocks[blocks >= 0]
    return int(np.sum(kept[1:] != kept[:-1]))


def usual_streams(talkers: np.ndarray, streams: np.ndarray, weights: np.ndarray) -> dict[int, int]:
    """Return each talker's usual stream: different ones, that hold most of what is said.

    Args:
        talkers: ``(n,)`` of int, who says utterance i.
        streams: ``(n,)`` of int, the stream it is in; -1: undecided, which does not count.
        weights: ``(n,)``, its length.
    """
    talkers, streams = np.asarray(talkers), np.asarray(streams)
    table = np.zeros((talkers.max() + 1, max(streams.max(), talkers.max()) + 1))
    np.add.at(table, (talkers[streams >= 0], streams[streams >= 0]), np.asarray(weights)[streams >= 0])
    return dict(zip(*map(np.ndarray.tolist, linear_sum_assignment(table, maximize=True)), strict=True))


LEAST_S = 2.5
_SHORTEST_S = 0.1  # spans below say nothing
_LONG_DECIMALS = 3


@dataclass(frozen=True)
class Request:
    """What to score, as the options of ``mixit score`` say."""

    data: str
    streams: str
    out: str
    model: str | None = None
    ref: str | None = None
    least_s: float = LEAST_S
    device: str = "cpu"
    seed: int = 0


def score_long(request: Request) -> dict:
    """Score and write ``OUT``; return what it holds.

    Raises:
        UserError: no references, recordings or talkers that do not fit each other, a model of other channels.
    """
    mixtures = labelled_set(request.data)
    ref = Path(request.ref) if request.ref else Path(request.data) / "ref.rttm"
    utterances = _utterances(ref, mixtures)
    streams = find_streams(request.streams, mixtures.ids)
    _check(request, mixtures, streams)
    _check_times(ref, utterances, mixtures)
    separator = None
    if request.model:
        from frontend.separation.model import Separator  # ESPnet: 8 s

        separator = Separator.from_pretrained(request.model, request.device)
    rows = [
        _score(row, mixtures, streams, separator, request.least_s)
        for row in progress(utterances, len(utterances), "long_score")
    ]
    _judge_by_the_usual(rows)
    about = {key: getattr(request, key) for key in ("data", "streams", "model")}
    found = {**about, "ref": str(ref), **totals(rows, request.seed), "utterances": rows}
    write_json(request.out, found)
    return found


def _utterances(ref: Path, mixtures: MixtureSet) -> list[dict]:
    """Return the references' segments, with ``talker`` from 0."""
    known = {f"spk{k}": k - 1 for k in range(1, mixtures.n_talkers + 1)}
    rows = [row for row in read_segments(ref) if row["end_time"] - row["start_time"] >= _SHORTEST_S]
    for row in rows:
        if row["speaker"] not in known:
            raise UserError(
                f"{ref}: expected speakers {', '.join(known)}, as the tables of images in {mixtures.path}, "
                f"found '{row['speaker']}' (take the references that mixit simulate meetings wrote)"
            )
    for name in sorted({row["session_id"] for row in rows} ^ set(mixtures.ids)):
        where = f"is not in {mixtures.path}" if name not in mixtures.wav else "has no utterance"
        raise UserError(f"{ref}: recording {name} {where} (take the references of this set)")
    return [{**row, "talker": known[row["speaker"]]} for row in rows]


def _check(request: Request, mixtures: MixtureSet, streams: list[dict[str, str]]) -> None:
    """Compare rates, lengths and channels before any long work."""
    if len(streams) < mixtures.n_talkers:
        raise UserError(
            f"{request.streams}: expected at least {mixtures.n_talkers} streams, as {mixtures.path} has "
            f"talkers, found {len(streams)}"
        )
    for name, entry in mixtures.wav.items():
        channels, frames, fs = audio_info(entry)
        _, found, rate = audio_info(streams[0][name])
        if (found, rate) != (frames, fs):
            raise UserError(
                f"{streams[0][name]}: expected {frames} samples at {fs} Hz as in recording {name}, found "
                f"{found} at {rate} Hz (separate again)"
            )
        if request.model:
            with open_trained(request.model) as trained:
                trained.check(entry, channels, fs)


def _check_times(ref: Path, utterances: list[dict], mixtures: MixtureSet) -> None:
    for name, entry in mixtures.wav.items():
        _, frames, fs = audio_info(entry)
        here = (row for row in utterances if row["session_id"] == name)
        latest = max(here, key=lambda row: row["start_time"])
        if latest["start_time"] + _SHORTEST_S > frames / fs:
            raise UserError(
                f"{ref}: {latest['speaker']} talks at {latest['start_time']} s, but recording {name} ends "
                f"after {frames / fs:.1f} s (take the references of this set)"
            )


def _score(row: dict, mixtures: MixtureSet, streams: list[dict], separator, least_s: float) -> dict:
    name, entry = row["session_id"], mixtures.wav[row["session_id"]]
    _, frames, fs = audio_info(entry)
    start, stop = (min(round(row[key] * fs), frames) for key in ("start_time", "end_time"))

    def read(source: str) -> np.ndarray:
        return read_audio(source, start, stop - start, finite=True)[0][0]

    image = read(mixtures.speakers[row["talker"]][name])
    if not image.any():
        raise UserError(
            f"{name}: {row['speaker']} is silent in his image from {row['start_time']} to {row['end_time']} "
            "s, where he should talk (take the references of this set)"
        )
    heard = np.stack([read(table[name]) for table in streams])
    result = {key: row[key] for key in ("session_id", "speaker", "talker", "start_time", "end_time")}
    result |= {"mixture": _rounded(si_snr(image, read(entry))), **_judge(image, heard, fs)}
    result["of_streams"] = [_rounded(si_snr(image, stream)) for stream in heard]
    if separator is not None:
        spare = max(0, round(least_s * fs) - (stop - start))
        low = max(0, min(start - spare // 2, frames - round(least_s * fs)))
        high = min(frames, max(stop, low + round(least_s * fs)))
        alone = separator(read_audio(entry, low, high - low, finite=True)[0], fs)[:, start - low : stop - low]
        result |= {f"alone_{key}": value for key, value in _judge(image, alone, fs).items()}
    return result


def _judge(image: np.ndarray, streams: np.ndarray, fs: int) -> dict:
    shares = explained(image, streams)
    best = int(np.argmax(shares))
    blocks = block_streams(image, streams, fs)
    return {
        "best_si_snr": _rounded(si_snr(image, streams[best])),
        "stream": best if decided(shares) else -1,
        "blocks": int(np.sum(blocks >= 0)),
        "swaps": swaps(blocks),
    }


def _judge_by_the_usual(rows: list[dict]) -> None:
    """Add the SI-SNR of each talker's usual stream, and whether a decided utterance is in another."""
    for name in {row["session_id"] for row in rows}:
        here = [row for row in rows if row["session_id"] == name]
        talkers, chosen = ([row[key] for row in here] for key in ("talker", "stream"))
        usual = usual_streams(talkers, chosen, [r["end_time"] - r["start_time"] for r in here])
        for row in here:
            row["si_snr"] = row.pop("of_streams")[usual[row["talker"]]]
            row["astray"] = row["stream"] != usual[row["talker"]] if row["stream"] >= 0 else None


def totals(rows: list[dict], seed: int) -> dict:
    """Return what all utterances together say: medians, means with 95 % intervals, swaps, astray.

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
        found[key] = _average(row, seed)
    for who in ("", "alone_"):
        if f"{who}swaps" in rows[0]:
            found[f"{who}swaps"] = sum(row[f"{who}swaps"] > 0 for row in rows)
            found[f"{who}swappable"] = sum(row[f"{who}blocks"] > 1 for row in rows)
    found["decided"] = sum(row["astray"] is not None for row in rows)
    found["astray"] = sum(bool(row["astray"]) for row in rows)
    return found


def _average(values: np.ndarray, seed: int) -> dict | None:
    if len(values) == 0:
        return None
    ci = [round(bound, _LONG_DECIMALS) for bound in bootstrap_interval(values, seed)]
    return {"mean": _rounded(values.mean()), "ci": ci, "median": _rounded(np.median(values))}


def _rounded(value: float) -> float | None:
    return round(float(value), _LONG_DECIMALS) if np.isfinite(value) else None


def table(found: dict) -> str:
    """Return the totals for reading."""
    names = {
        "mixture": "mixture",
        "si_snr": "talker's usual stream",
        "best_si_snr": "best stream of each",
        "si_snri": "usual - mixture",
        "alone_best_si_snr": "each utterance alone",
        "difference": "usual - alone",
    }
    lines = [f"{'SI-SNR, dB':<22}{'mean':>8}{'[95 %]':>18}{'median':>9}"]
    for key, name in names.items():
        if row := found.get(key):
            interval = f"[{row['ci'][0]:.2f}, {row['ci'][1]:.2f}]"
            lines.append(f"{name:<22}{row['mean']:>8.2f}{interval:>18}{row['median']:>9.2f}")
    alone = ""
    if "alone_swaps" in found:
        alone = f" (separated alone: {found['alone_swaps']} of {found['alone_swappable']})"
    lines.append(f"{found['n']} utterances, {found['not_finite']} of them without a finite SI-SNR")
    lines.append(
        f"stream swaps inside {found['swaps']} of {found['swappable']} utterances that could show one{alone}"
    )
    lines.append(f"{found['astray']} of {found['decided']} decided ones not in their talker's usual stream")
    return "\n".join(lines)
