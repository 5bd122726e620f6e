"""Separated long recordings against the talkers' images, utterance by utterance.

For each utterance of the references, in its span: the SI-SNR of its talker's usual stream (one a talker and
recording, :mod:`frontend.stream_choice`), that of the stream that explains most of his image just there, that
of the mixture at the reference channel, and, with a model, that of the same span separated alone: cut out of
the mixture, overlapping speech and all, with as much more on either side as makes it ``least_s`` long. A
stream swap is a change of the stream inside an utterance; it can show where two blocks of the utterance or
more are decided. An utterance is astray if its stream is not its talker's usual one.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frontend import atomic, stream_choice
from frontend.datadir import MixtureSet, audio_info, read_audio
from frontend.errors import UserError
from frontend.intervals import bootstrap_interval
from frontend.long_streams import find_streams
from frontend.metrics import si_snr
from frontend.packing import opened
from frontend.parallel import progress
from frontend.segment_files import read_segments
from frontend.streams import labelled_set

LEAST_S = 2.5
_SHORTEST_S = 0.1  # spans below say nothing
_DECIMALS = 3


@dataclass(frozen=True)
class Request:
    """What to score, as the options of ``python -m frontend.bin.long_score`` say."""

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
        from frontend.separate import Separator  # ESPnet: 8 s

        separator = Separator.from_pretrained(request.model, request.device)
    rows = [
        _score(row, mixtures, streams, separator, request.least_s)
        for row in progress(utterances, len(utterances), "long_score")
    ]
    _judge_by_the_usual(rows)
    about = {key: getattr(request, key) for key in ("data", "streams", "model")}
    found = {**about, "ref": str(ref), **totals(rows, request.seed), "utterances": rows}
    atomic.write_text(request.out, json.dumps(found, indent=1) + "\n")
    return found


def _utterances(ref: Path, mixtures: MixtureSet) -> list[dict]:
    """Return the references' segments, with ``talker`` from 0."""
    known = {f"spk{k}": k - 1 for k in range(1, mixtures.n_talkers + 1)}
    rows = [row for row in read_segments(ref) if row["end_time"] - row["start_time"] >= _SHORTEST_S]
    for row in rows:
        if row["speaker"] not in known:
            raise UserError(
                f"{ref}: expected speakers {', '.join(known)}, as the tables of images in {mixtures.path}, "
                f"found '{row['speaker']}' (take the references that bin/meetings wrote)"
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
            with opened(request.model) as trained:
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
    shares = stream_choice.explained(image, streams)
    best = int(np.argmax(shares))
    blocks = stream_choice.block_streams(image, streams, fs)
    return {
        "best_si_snr": _rounded(si_snr(image, streams[best])),
        "stream": best if stream_choice.decided(shares) else -1,
        "blocks": int(np.sum(blocks >= 0)),
        "swaps": stream_choice.swaps(blocks),
    }


def _judge_by_the_usual(rows: list[dict]) -> None:
    """Add the SI-SNR of each talker's usual stream, and whether a decided utterance is in another."""
    for name in {row["session_id"] for row in rows}:
        here = [row for row in rows if row["session_id"] == name]
        talkers, chosen = ([row[key] for row in here] for key in ("talker", "stream"))
        usual = stream_choice.usual_streams(talkers, chosen, [r["end_time"] - r["start_time"] for r in here])
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
    ci = [round(bound, _DECIMALS) for bound in bootstrap_interval(values, seed)]
    return {"mean": _rounded(values.mean()), "ci": ci, "median": _rounded(np.median(values))}


def _rounded(value: float) -> float | None:
    return round(float(value), _DECIMALS) if np.isfinite(value) else None


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
