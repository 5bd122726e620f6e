"""What can be known of separated recordings without references, read block by block.

Residual (what the streams lack of the mixture), leakage (likeness of the streams), activity (who sounds
when), and the spatial consistency of :mod:`frontend.spatial_consistency`.
"""

from collections.abc import Sequence

import numpy as np
from scipy.signal import correlate

from frontend.activity import frame_samples, levels_db, segments_of_levels
from frontend.audio import audio_info, read_audio
from frontend.errors import UserError
from frontend.over_separation import ACTIVE_DB
from frontend.spatial_consistency import block_covariances, consistency

BLOCK_S = 8.0
_LEVELS = 10  # frames of 20 ms that make one in which a stream sounds or not: 0.2 s, about a syllable
_LAG_S = 0.01  # an echo of one stream in another may come late
_TINY = 1e-20


def measure(name: str, mixture: str, streams: Sequence[str], seed: int = 0) -> dict:
    """Measure the streams of one recording.

    Args:
        name: id of the recording.
        mixture: its entry, C channels; channel 0 is the reference channel.
        streams: entries of S mono files of the same rate and length.
        seed: of the random assignment.

    Returns:
        ``seconds``; ``residual_db``: energy of mixture minus streams relative to the mixture; ``leakage``:
        mean over blocks and pairs of the largest normalised cross-correlation within 10 ms, 0..1;
        ``activity``: see :func:`_activity`; ``spatial``: see :func:`frontend.spatial_consistency.consistency`
        (None for one microphone).

    Raises:
        UserError: a stream of another rate, length or number of channels, unreadable audio.
    """
    channels, frames, fs = audio_info(mixture)
    for entry in streams:
        found = audio_info(entry)
        if found != (1, frames, fs):
            raise UserError(
                f"{entry}: expected 1 channel of {frames} samples at {fs} Hz, as {mixture}, found {found}"
            )
    energy, residual = _TINY, 0.0
    likeness, covariances, powers, levels = [], [], [], []
    # At 11025 Hz neither 20 ms nor 8 s are whole samples: both grids are made of whole frames.
    frame = _LEVELS * frame_samples(fs)
    block = frame * max(1, round(BLOCK_S * fs / frame))
    for start in range(0, frames, block):
        x = read_audio(mixture, start, block)[0]
        s = np.concatenate([read_audio(entry, start, block)[0] for entry in streams])
        energy += float(np.square(x[0], dtype=np.float64).sum())
        residual += float(np.square(x[0] - s.sum(0), dtype=np.float64).sum())
        likeness += _leakage(s, round(_LAG_S * fs))
        powers.append(_frame_powers(np.concatenate([x[:1], s]), frame))
        levels.append(levels_db(x, fs))
        if channels > 1 and x.shape[1] > block // 4:
            covariances.append(block_covariances(x, s, fs))
    spoken = segments_of_levels(np.concatenate(levels), fs, frames / fs)
    return {
        "seconds": frames / fs,
        "residual_db": 10 * np.log10(residual / energy + _TINY),
        "leakage": float(np.mean(likeness)) if likeness else None,
        "activity": _activity(np.concatenate(powers, axis=1), spoken, frame / fs),
        "spatial": consistency(np.stack(covariances), seed, name) if covariances else None,
    }


def _leakage(streams: np.ndarray, lag: int) -> list[float]:
    """Return for each pair of streams of a block that sound the largest normalised cross-correlation."""
    found = []
    norms = np.linalg.norm(streams.astype(np.float64), axis=1)
    loudest = norms.max(initial=0.0)
    for i in range(len(streams)):
        for j in range(i):
            # 30 dB below the other a stream is what separation left over: its likeness means nothing.
            if min(norms[i], norms[j]) > 0.03 * loudest > 0:
                full = correlate(streams[i], streams[j], "full", "fft")
                middle = streams.shape[1] - 1
                near = full[max(0, middle - lag) : middle + lag + 1]
                found.append(float(np.abs(near).max() / (norms[i] * norms[j])))
    return found


def _frame_powers(signals: np.ndarray, frame: int) -> np.ndarray:
    """(K, T) to (K, frames): mean power; a last, shorter frame is padded with zeros."""
    padded = np.pad(signals, [(0, 0), (0, -signals.shape[1] % frame)]).astype(np.float64)
    return np.square(padded).reshape(len(signals), -1, frame).mean(-1)


def _activity(powers: np.ndarray, spoken: Sequence[tuple[float, float]], frame_s: float) -> dict:
    """Say who sounds when: a stream does in a frame of about 0.2 s if it is at most 20 dB below the mixture.

    Args:
        powers: (1 + S, frames), of the mixture and the streams.
        spoken: where there is speech in the mixture; the rest does not count.
        frame_s: length of a frame in seconds, as long as its samples are.

    Returns:
        ``speech_s``; ``streams``: share of these frames in which each stream is active; ``number``: share in
        which 0, 1, ... S of them are.
    """
    middle = (np.arange(powers.shape[1]) + 0.5) * frame_s
    inside = np.zeros(len(middle), bool)
    for start, end in spoken:
        inside |= (middle >= start) & (middle < end)
    mixture, streams = powers[0, inside], powers[1:, inside]
    active = streams > 10 ** (ACTIVE_DB / 10) * mixture
    count = active.sum(0)
    shares = [float((count == k).mean()) if len(count) else None for k in range(len(streams) + 1)]
    each = [float(row.mean()) if len(row) else None for row in active]
    return {"speech_s": float(inside.sum() * frame_s), "streams": each, "number": shares}


def pooled(rows: Sequence[dict]) -> dict:
    """Average the measures of several recordings, weighted with length (activity: with speech)."""

    def mean(pick, weight) -> float | None:
        pairs = [(pick(row), weight(row)) for row in rows if pick(row) is not None]
        total = sum(w for _, w in pairs)
        return float(sum(v * w for v, w in pairs) / total) if total > 0 else None

    def of_spatial(key):
        return lambda row: row["spatial"][key] if row["spatial"] else None

    length, speech = (lambda row: row["seconds"]), (lambda row: row["activity"]["speech_s"])
    power = mean(lambda row: 10 ** (row["residual_db"] / 10), length)
    n_streams = len(rows[0]["activity"]["streams"])
    blocks = [row["spatial"]["blocks"] for row in rows if row["spatial"]]
    return {
        "seconds": sum(map(length, rows)),
        "residual_db": 10 * np.log10(power),
        "leakage": mean(lambda row: row["leakage"], length),
        "activity": {
            "speech_s": sum(map(speech, rows)),
            "streams": [
                mean(lambda row, k=k: row["activity"]["streams"][k], speech) for k in range(n_streams)
            ],
            "number": [
                mean(lambda row, k=k: row["activity"]["number"][k], speech) for k in range(n_streams + 1)
            ],
        },
        "spatial": {
            **{key: mean(of_spatial(key), length) for key in ("own", "other", "random")},
            "changed": mean(of_spatial("changed"), lambda row: row["spatial"]["blocks"]),
            "blocks": sum(blocks),
        }
        if blocks
        else None,
    }
