"""Measures of separated recordings that need no references, read block by block.

Residual: what the streams lack of the mixture. Leakage: how alike the streams are. Activity: which streams
are active when. Spatial consistency: whether every stream stays at one place in the room. A talker who does
not move has one direction at the array, in each frequency the principal eigenvector of the covariance of the
microphones under the stream's mask, which for one talker and little noise is the relative transfer function
up to scale. Where a stream changes over to another talker, or holds pieces of several, the vector varies. It
is compared with the vector of *all other* blocks, so that no block is compared with itself. Recordings of
less than 32 s are cut into shorter blocks for this, since it takes four. What is too short for a measure has
none.

Of a network: its parameters; of a teacher: its MixIT loss on mixtures of held-out chunks, which its training
chose the weights by.
"""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.signal import correlate

from frontend import MODEL
from frontend.data.audio import audio_info, check_image, read_audio
from frontend.data.mixtures import MixtureSet
from frontend.dsp.activity import Levels, frame_samples, segments_of_levels
from frontend.dsp.metrics import ACTIVE_DB, surplus_outputs
from frontend.dsp.spatial import spatial_covariance, stft, stream_masks
from frontend.training.checkpoints import open_trained
from frontend.utils.files import read_settings
from frontend.utils.parallel import progress
from frontend.utils.rng import generator

BLOCK_S = 8.0
# Directions take four blocks of a second or more: the covariances of less are mostly chance.
_LEAST_BLOCKS, _LEAST_BLOCK_S = 4, 1.0
LEAST_S = _LEAST_BLOCKS * _LEAST_BLOCK_S
LEAST_SPEECH_S = 2.0  # of activity: ten of its frames
# A random order of four blocks is the streams' own in one draw of eight: so many blocks are drawn in all.
_RANDOM_BLOCKS = 64
_WINDOW_S = 0.064
# A stream below this share of a block's power carries no information about a talker's place.
_ACTIVE_SHARE = 0.05
_LEVELS = 10  # frames of 20 ms that make one in which a stream is active or not: 0.2 s, about a syllable
_LAG_S = 0.01  # an echo of one stream in another may come late
_MOST_COLUMNS = 480  # of a spectrogram
_TINY = 1e-12
_TINY_ENERGY = 1e-20


def block_covariances(mixture: np.ndarray, streams: np.ndarray, fs: int) -> np.ndarray:
    """Return the covariances of the microphones under each stream's mask in one block.

    Bins are weighted with 1 / |x|, so that the loudest vowel is not all that counts.

    Args:
        mixture: (C, T), C >= 2.
        streams: (S, T).
        fs: in Hz.

    Returns:
        (S, F, C, C) complex64, Hermitian.
    """
    hop = max(1, round(_WINDOW_S * fs / 2))
    x = stft(torch.from_numpy(mixture), 2 * hop, hop)
    masks = stream_masks(stft(torch.from_numpy(streams), 2 * hop, hop))
    norm = x.abs().square().sum(0).sqrt().clamp_min(_TINY)
    return spatial_covariance(x.unsqueeze(0), masks / norm).numpy()


def coherences(covariances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compare each block's direction with that of all other blocks.

    Args:
        covariances: (B, S, F, C, C) of :func:`block_covariances`, B >= 2.

    Returns:
        coherence (B, S, S), 0..1: ``[b, s, r]`` is the mean over frequencies of ``|v' u|^2``, with v of
        stream s in block b and u of stream r in all blocks but b, weighted with the power of stream s;
        activity (B, S), bool: whether stream s holds its share of the block's power.
    """
    power = np.einsum("bsfcc->bsf", covariances).real
    total = power.sum(-1)
    active = total > _ACTIVE_SHARE * np.maximum(total.sum(1, keepdims=True), _TINY)
    # Principal eigenvectors (B, S, F, C): of the block, and of all other blocks.
    own, others = (
        np.linalg.eigh(one)[1][..., -1]
        for one in (covariances, covariances.sum(0, keepdims=True) - covariances)
    )
    similar = np.abs(np.einsum("bsfc,brfc->bsrf", own.conj(), others)) ** 2
    weights = power / np.maximum(total, _TINY)[..., None]
    return np.einsum("bsrf,bsf->bsr", similar, weights), active


def consistency(covariances: np.ndarray, seed: int = 0, key: str = "") -> dict:
    """Sum up how constant the streams' directions are over a recording.

    The covariances are (B, S, F, C, C), one block after the other; seed and key are of a random assignment
    that the streams are compared with.

    Returns:
        ``own``: mean coherence of a stream with itself in the other blocks; ``other``: with the other
        streams; ``random``: with itself where the streams of every block are put in a random order (a mean of
        several such orders of few blocks), what streams that know nothing of talkers would get; ``changed``:
        share of the blocks, out of those in which all streams are active, whose streams fit another order
        better; ``blocks``: their number. None where there are too few blocks.
    """
    coherence, active = coherences(covariances)
    if len(covariances) < 2 or not active.any():
        return dict.fromkeys(("own", "other", "random", "changed")) | {"blocks": 0}
    n_streams = coherence.shape[1]
    same = np.eye(n_streams, dtype=bool)
    whole = active.all(1)
    found: dict = {"own": float(coherence[:, same][active].mean()), "other": None}
    if n_streams > 1:
        found["other"] = float(np.where(same, 0, coherence).sum(2)[active].mean() / (n_streams - 1))
    draws, random = generator(seed, key, "random assignment"), []
    for _ in range(-(-_RANDOM_BLOCKS // len(covariances))):
        orders = np.stack([draws.permutation(n_streams) for _ in covariances])
        shuffled = np.take_along_axis(covariances, orders[:, :, None, None, None], axis=1)
        drawn, drawn_active = coherences(shuffled)
        random.append(drawn[:, same][drawn_active].mean())
    found["random"] = float(np.mean(random))
    found["changed"] = None
    if whole.any() and n_streams > 1:
        orders_of = map(list, itertools.permutations(range(n_streams)))  # the first is the identity
        sums = np.stack([coherence[whole][:, np.arange(n_streams), order].sum(1) for order in orders_of])
        found["changed"] = float((sums.argmax(0) != 0).mean())
    return found | {"blocks": int(whole.sum())}


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
        ``activity``: see :func:`_activity`; ``spatial``: see :func:`consistency`, and ``block_s``, the length
        of its blocks (None for one microphone, and for less than :data:`LEAST_S`); ``overlap``: for each
        second the number of frames in which two or more streams are active.

    Raises:
        UserError: a stream of another rate, length or number of channels, unreadable audio.
    """
    channels, frames, fs = audio_info(mixture)
    for entry in streams:
        check_image(entry, frames, fs)
    energy, residual = _TINY_ENERGY, 0.0
    likeness, covariances, powers, levels = [], [], [], Levels(fs)
    # At 11025 Hz neither 20 ms nor 8 s are whole samples: both grids are made of whole frames.
    frame = _LEVELS * frame_samples(fs)
    block = frame * max(1, round(BLOCK_S * fs / frame))
    part = _direction_block(frames, block)
    for start in range(0, frames, block):
        x = read_audio(mixture, start, block)[0]
        s = np.concatenate([read_audio(entry, start, block)[0][:1] for entry in streams])
        energy += float(np.square(x[0], dtype=np.float64).sum())
        residual += float(np.square(x[0] - s.sum(0), dtype=np.float64).sum())
        likeness += _leakage(s, round(_LAG_S * fs))
        powers.append(_frame_powers(np.concatenate([x[:1], s]), frame))
        levels.add(x)
        for k in range(0, x.shape[1], part) if channels > 1 else ():
            if min(part, x.shape[1] - k) >= max(part // 4 + 1, _LEAST_BLOCK_S * fs):
                covariances.append(block_covariances(x[:, k : k + part], s[:, k : k + part], fs))
    spoken = segments_of_levels(levels.db(), fs, frames / fs)
    activity, overlap = _activity(np.concatenate(powers, axis=1), spoken, frame / fs)
    spatial = None
    if len(covariances) >= _LEAST_BLOCKS:
        spatial = consistency(np.stack(covariances), seed, name) | {"block_s": part / fs}
    return {
        "seconds": frames / fs,
        "residual_db": 10 * np.log10(residual / energy + _TINY_ENERGY),
        "leakage": float(np.mean(likeness)) if likeness else None,
        "activity": activity,
        "spatial": spatial,
        "overlap": overlap,
    }


def _direction_block(frames: int, block: int) -> int:
    """Return the length of the blocks for directions, in samples: ``block``, or a half or quarter of it.

    A recording that is shorter than ``block`` is cut into four.
    """
    parts = 1 if frames >= _LEAST_BLOCKS * block else 2 if 2 * frames >= _LEAST_BLOCKS * block else 4
    return max(1, min(block, frames) // parts)


def _leakage(streams: np.ndarray, lag: int) -> list[float]:
    """Return for each pair of streams that are active in a block the largest normalised cross-correlation."""
    found = []
    norms = np.linalg.norm(streams.astype(np.float64), axis=1)
    middle = streams.shape[1] - 1
    # 30 dB below the other a stream is what separation left over: its likeness means nothing.
    active = [k for k, norm in enumerate(norms) if norm > 0.03 * norms.max() > 0]
    for j, i in sorted(itertools.combinations(active, 2), key=lambda pair: pair[::-1]):
        full = correlate(streams[i], streams[j], "full", "fft")
        near = full[max(0, middle - lag) : middle + lag + 1]
        found.append(float(np.abs(near).max() / (norms[i] * norms[j])))
    return found


def _frame_powers(signals: np.ndarray, frame: int) -> np.ndarray:
    """(K, T) to (K, frames): mean power; a last, shorter frame is padded with zeros."""
    padded = np.pad(signals, [(0, 0), (0, -signals.shape[1] % frame)]).astype(np.float64)
    return np.square(padded).reshape(len(signals), -1, frame).mean(-1)


def _activity(
    powers: np.ndarray, spoken: Sequence[tuple[float, float]], frame_s: float
) -> tuple[dict, list[int]]:
    """Return which streams are active in frames of about 0.2 s: at most 20 dB below the mixture.

    Args:
        powers: (1 + S, frames), of the mixture and the streams.
        spoken: where there is speech in the mixture; the rest does not count.
        frame_s: length of a frame in seconds, as long as its samples are.

    Returns:
        ``speech_s``; ``streams``: share of these frames in which each stream is active; ``number``: share in
        which 0, 1, ... S of them are; None where less than :data:`LEAST_SPEECH_S` is speech. And for each
        second the number of frames in which two or more are active.
    """
    middle = (np.arange(powers.shape[1]) + 0.5) * frame_s
    inside = np.zeros(len(middle), bool)
    for start, end in spoken:
        inside |= (middle >= start) & (middle < end)
    active = (powers[1:] > 10 ** (ACTIVE_DB / 10) * powers[0]) & inside
    both = np.bincount(middle.astype(int), active.sum(0) >= 2).astype(int).tolist()
    active, speech_s = active[:, inside], float(inside.sum() * frame_s)
    count, enough = active.sum(0), speech_s >= LEAST_SPEECH_S
    shares = [float((count == k).mean()) if enough else None for k in range(len(active) + 1)]
    each = [float(row.mean()) if enough else None for row in active]
    return {"speech_s": speech_s, "streams": each, "number": shares}, both


def pooled(rows: Sequence[dict]) -> dict:
    """Average the measures of several recordings, weighted with length (activity: with speech)."""

    def mean(values: Iterable[float | None], weights: Sequence[float]) -> float | None:
        pairs = [(value, weight) for value, weight in zip(values, weights, strict=True) if value is not None]
        total = sum(weight for _, weight in pairs)
        return float(sum(value * weight for value, weight in pairs) / total) if total > 0 else None

    seconds, activity = ([row[key] for row in rows] for key in ("seconds", "activity"))
    speech = [one["speech_s"] for one in activity]
    power = sum(10 ** (row["residual_db"] / 10) * row["seconds"] for row in rows) / sum(seconds)
    shares = {key: zip(*(one[key] for one in activity), strict=True) for key in ("streams", "number")}
    found: dict = {
        "seconds": sum(seconds),
        "residual_db": float(10 * np.log10(power)),
        "leakage": mean([row["leakage"] for row in rows], seconds),
        "activity": {
            "speech_s": sum(speech),
            **{key: [mean(share, speech) for share in each] for key, each in shares.items()},
        },
        "spatial": None,
    }
    spatial = [row["spatial"] or {} for row in rows]
    if any(spatial):
        blocks = [one.get("blocks", 0) for one in spatial]
        weights = {"own": seconds, "other": seconds, "random": seconds, "changed": blocks}
        found["spatial"] = {key: mean([s.get(key) for s in spatial], w) for key, w in weights.items()}
        found["spatial"]["blocks"] = sum(blocks)
    return found


def validate_teacher(model: str, data: str, n_talkers: int, seed: int = 0) -> dict:
    """Measure a teacher on one mixture of mixtures for every chunk of a set, the same whatever the model.

    Args:
        model: a trained system of at least two outputs.
        data: unlabelled mixture set.
        n_talkers: how many talk at most in one chunk.
        seed: of the choice of partners and crops.

    Returns:
        ``loss``: mean MixIT loss in dB (0: nothing explained, lower is better); ``active_outputs``: mean
        number of outputs within 20 dB of the mixture when the chunk alone is separated; ``surplus``: mean
        share of those beyond ``n_talkers``; ``n``: number of chunks.

    Raises:
        UserError: channels or rate that do not fit, unreadable audio.
    """
    from frontend.separation.model import Separator  # ESPnet: seconds
    from frontend.training.examples import MixtureOfMixtures
    from frontend.training.losses import mixit_loss

    mixtures = MixtureSet(data)
    info = {u: audio_info(entry) for u, entry in mixtures.wav.items()}
    with open_trained(model) as trained:
        settings = read_settings(trained.config, "config.yaml of a training")
        for utterance, (channels, _, fs) in info.items():
            trained.check(mixtures.wav[utterance], channels, fs)
    kept = {k: v for k, v in settings["preprocessor_conf"].items() if k in ("crop", "gain_db", "ref_channel")}
    examples = MixtureOfMixtures(
        False,
        {"speech_mix": mixtures.wav},
        lengths={u: frames for u, (_, frames, _) in info.items()},
        fs=trained.fs,
        seed=seed,
        n_mics=trained.n_mics,
        **kept,
    )
    run = Separator.from_pretrained(model).outputs
    found = []
    for utterance in progress(mixtures.ids, len(mixtures.ids), "validate"):
        example = examples(utterance, {})
        references = np.stack([example["speech_ref1"], example["speech_ref2"]])
        outputs = run(torch.from_numpy(np.atleast_2d(example["speech_mix"].T))).cpu()
        loss = float(mixit_loss(torch.from_numpy(references)[None], outputs[None])[0])
        chunk = mixtures.mixture(utterance)[0]
        alone = run(torch.from_numpy(chunk)).cpu().numpy()
        found.append((loss, *surplus_outputs(alone, chunk[examples.ref_channel], n_talkers)))
    means = (float(np.mean(values)) for values in zip(*found, strict=True))
    return dict(zip(("loss", "active_outputs", "surplus"), means, strict=True)) | {"n": len(found)}


def parameters(directory: Path) -> int | None:
    """Count the weights of a training; None where they are elsewhere."""
    if not (directory / MODEL).exists():
        return None
    state = torch.load(directory / MODEL, map_location="cpu", weights_only=True)
    # What a network counts, such as the batches that it has seen, is a whole number.
    return sum(tensor.numel() for tensor in state.values() if tensor.is_floating_point())


def spectrogram_db(signal: np.ndarray, fs: int) -> np.ndarray:
    """Return the spectrogram of ``(T,)`` in dB, ``(F, L)``, low frequencies first; -inf in silence.

    Windows of 32 ms, a new one every 8 ms; 0 dB is a sine of amplitude 2. The power of neighbours is averaged
    where there would be more than 480 columns.
    """
    window = round(0.032 * fs)
    spectrum = stft(torch.from_numpy(np.array(signal, np.float64)), window, window // 4).abs().numpy()
    power = (spectrum / torch.hann_window(window, dtype=torch.float64).sqrt().sum().item()) ** 2
    starts = np.arange(0, power.shape[1], -(-power.shape[1] // _MOST_COLUMNS))
    widths = np.diff(starts, append=power.shape[1])
    with np.errstate(divide="ignore"):
        return 10 * np.log10(np.add.reduceat(power, starts, axis=1) / widths)
