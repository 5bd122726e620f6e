"""Score the streams of every system on a test set, one JSON line an utterance.

``OUT/SYSTEM.jsonl`` holds what was measured; ``OUT/SYSTEM.json`` what it was
measured on and a fingerprint of all that went in, so that a second run scores
only what changed. A value that does not exist (PESQ refused, infinite SI-SNR
of a perfect stream) is null; a silent stream is named as such.
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

from frontend import atomic, metrics
from frontend.datadir import audio_info
from frontend.errors import UserError, did_you_mean
from frontend.metrics import best_permutation, check_pesq_rate, si_snr
from frontend.over_separation import ACTIVE_DB, energy_outside_best, surplus_outputs
from frontend.parallel import parallel_map
from frontend.streams import Streams, Utterance, file_stamp, labelled_set

# SI-SNR and over-separation are always measured; these cost time (PESQ most: 25 ms for 4 s).
OPTIONAL_MEASURES = ("sdr", "stoi", "pesq")
_DECIMALS = 4
_SOURCES = ("metrics.py", "over_separation.py", "score.py", "streams.py")


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
        row["sdr"] = metrics.sdr(references, chosen)
    for name in ("stoi", "pesq"):
        if name in settings.measures:
            measure = getattr(metrics, name)
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
    here = Path(__file__).parent
    code = [hashlib.sha256((here / name).read_bytes()).hexdigest() for name in _SOURCES]
    entries = [[*u.references, *u.streams, *u.outputs, u.mixture] for u in streams.utterances()]
    stamps = [[(entry, *file_stamp(entry)) for entry in row] for row in entries]
    everything = [code, asdict(settings), stamps, streams.info()]
    return hashlib.sha256(json.dumps(everything).encode()).hexdigest()


def _is_current(out: Path, name: str, fingerprint: str) -> bool:
    about = out / f"{name}.json"
    if not about.is_file() or not (out / f"{name}.jsonl").is_file():
        return False
    return json.loads(about.read_text()).get("fingerprint") == fingerprint


def _write(out: Path, name: str, rows: Sequence[dict], about: dict) -> None:
    atomic.write_text(out / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    # Written last: with it the score is complete.
    atomic.write_text(out / f"{name}.json", json.dumps(about, indent=1) + "\n")
    gains = [v for row in rows for v in row["si_snri"] if v is not None]
    gain = f"SI-SNRi {np.mean(gains):.2f} dB" if gains else "no finite SI-SNRi"
    print(f"{name}: {len(rows)} utterances, {gain}", flush=True)
