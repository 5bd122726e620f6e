"""How good a separated stream is: SI-SNR, SDR, STOI, PESQ; which stream is whose; how far a talker is spread.

All are numpy, in double precision, without clamping: a perfect stream scores +inf, a silent one -inf, and a
silent reference has no score (nan).

A mixture-invariant teacher has more outputs than there are talkers and is free to split a voice among them.
``surplus_outputs`` counts outputs that sound although no talker is left for them; ``energy_outside_best``
asks how much of a talker is missing from the one output that holds most of it. Both are 0 where nobody is
split.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from frontend.utils.errors import UserError

VERSION = 2
PESQ_MODES = {8000: "nb", 16000: "wb"}
# An output within this many dB of the mixture counts as active: 20 dB below, a voice is clearly audible
# beside the other; what is weaker passes as residual noise.
ACTIVE_DB = -20.0


def si_snr(reference: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """Scale-invariant signal-to-noise ratio of ``(..., T)`` signals, which broadcast.

    Both signals are made zero-mean; the target is the projection of the estimate
    on the reference (Le Roux et al., "SDR: half-baked or well done?", ICASSP 2019, Eq. 3).

    Returns:
        ``(...)`` in dB; nan where the reference is silent, -inf where the estimate holds nothing of it.
    """
    reference, estimate = _zero_mean(reference), _zero_mean(estimate)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = (estimate * reference).sum(-1, keepdims=True) / (reference**2).sum(-1, keepdims=True)
        target = scale * reference
        signal, noise = (target**2).sum(-1), ((estimate - target) ** 2).sum(-1)
        ratio_db = 10 * (np.log10(signal) - np.log10(noise))
    silent = np.isfinite(signal) & (signal == 0)
    return np.where(silent, -np.inf, ratio_db)[()]


def _zero_mean(signal: np.ndarray) -> np.ndarray:
    """Return ``(..., T)`` without its mean: of a constant exact silence, not what rounding leaves of it."""
    signal = _double(signal)
    is_constant = (signal == signal[..., :1]).all(-1, keepdims=True)
    return np.where(is_constant, 0.0, signal - signal.mean(-1, keepdims=True))


def best_permutation(scores: np.ndarray) -> tuple[int, ...]:
    """Return p with the largest ``sum_s scores[s, p[s]]``, finite ``(S, M)``, M >= S; ties keep the order."""
    rows = np.arange(len(scores))
    permutation = linear_sum_assignment(scores, maximize=True)[1]
    gain = scores[rows, permutation].sum() - scores[rows, rows].sum()
    if gain <= 1e-9 * (1 + np.abs(scores).max(initial=0.0)):
        return tuple(range(len(scores)))
    return tuple(int(p) for p in permutation)


def match_streams(reference: np.ndarray, estimate: np.ndarray) -> tuple[int, ...]:
    """Return which estimate belongs to each reference: the permutation with the highest sum of SI-SNRs.

    Args:
        reference: ``(S, T)``, none of them silent; S may be 0.
        estimate: ``(M, T)`` with M >= S.

    Raises:
        UserError: fewer estimates than references.
    """
    if len(estimate) < len(reference):
        raise UserError(f"expected at least {len(reference)} streams, one per talker, found {len(estimate)}")
    pairs = si_snr(np.asarray(reference)[:, None], np.asarray(estimate)[None])
    # The solver takes no infinities; beyond +-1000 dB double precision knows no difference.
    return best_permutation(np.clip(pairs, -1000, 1000))


def sdr(reference: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """Signal-to-distortion ratio of BSS Eval v3, where any 512-tap filtering of the reference is target.

    Row i of the estimate ``(S, T)`` is compared with row i of the reference ``(S, T)``; no permutation is
    searched (Vincent et al. 2006; computed by fast_bss_eval, Scheibler 2022). Returns ``(S,)`` in dB.
    """
    import fast_bss_eval  # imports torch: a process that only makes tables needs neither

    reference, estimate = _double(reference), _double(estimate)
    # Exact copies and silence leave only rounding errors to solve for, and their value is known.
    result = np.atleast_1d(si_snr(reference, estimate)).copy()
    # Row by row: cheaper than the matrix of all pairs, and fast_bss_eval's own
    # row-wise loss (`pairwise=False`) calls numpy.linalg.solve in a way numpy 2 refuses.
    for i in np.flatnonzero(np.isfinite(result)):
        pair = estimate[i : i + 1], reference[i : i + 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            value = -fast_bss_eval.sdr_loss(*pair, filter_length=512, pairwise=True).item()
        # A coherence that rounds to 1 or a hair more: perfect to the last bit.
        result[i] = np.inf if np.isnan(value) else value
    return result


def stoi(reference: np.ndarray, estimate: np.ndarray, fs: int) -> float | None:
    """Short-time objective intelligibility, 0..1 (Taal et al. 2011; pystoi), of ``(T,)`` signals.

    None where less than 0.4 s of speech is left to score.
    """
    from pystoi import stoi as score

    if len(reference) < 0.4 * fs:  # 30 frames of 25.6 ms, half overlapping, is the least it takes
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        value = score(_double(reference), _double(estimate), fs)
    return None if any("Not enough STFT frames" in str(w.message) for w in caught) else float(value)


def pesq(reference: np.ndarray, estimate: np.ndarray, fs: int) -> float | None:
    """Perceptual speech quality of ``(T,)`` signals (ITU-T P.862 at 8 kHz, P.862.2 at 16 kHz), as MOS-LQO.

    None where PESQ refuses the pair (no utterance found, or too short).

    Raises:
        UserError: PESQ is not defined at this sample rate.
    """
    from pesq import PesqError
    from pesq import pesq as score

    check_pesq_rate(fs)
    value = score(fs, _double(reference), _double(estimate), PESQ_MODES[fs], on_error=PesqError.RETURN_VALUES)
    # The library returns -1 for an error; a score is at least 1.
    return None if not np.isfinite(value) or value < 0 else float(value)


def check_pesq_rate(fs: int) -> None:
    """Raise a UserError unless PESQ is defined at ``fs`` Hz."""
    if fs not in PESQ_MODES:
        raise UserError(f"PESQ is defined at 8000 and 16000 Hz, found {fs} Hz: leave it out of --measures")


def surplus_outputs(
    outputs: np.ndarray, mixture: np.ndarray, n_talkers: int, active_db: float = ACTIVE_DB
) -> tuple[int, float]:
    """Count the active ones of outputs ``(M, T)``, and the share 0..1 of them beyond the number of talkers.

    An output is active if its energy is above ``active_db`` relative to that of the mixture's reference
    channel ``(T,)``; if none is, the share is 0.
    """
    energy = (_double(outputs) ** 2).sum(-1)
    threshold = 10 ** (active_db / 10) * (_double(mixture) ** 2).sum()
    active = int((energy > threshold).sum())
    return active, max(0, active - n_talkers) / active if active else 0.0


def energy_outside_best(images: np.ndarray, outputs: np.ndarray, fs: int) -> np.ndarray:
    """Return the share of each talker's energy that lies outside the output with most of it.

    Every bin of a talker's spectrogram is attributed to the outputs in proportion to their power in that bin;
    bins that no output holds are lost to all. Where talkers overlap in a bin even the true images share it,
    so that the floor for two talkers is a few percent: compare with the row ``oracle``.

    Args:
        images: ``(S, T)``, the talkers at the reference channel, none silent.
        outputs: ``(M, T)``.
        fs: in Hz.

    Returns:
        ``(S,)``, each 0..1: 0 if one output holds all, 1 - 1/M if it is spread evenly.
    """
    talker, output = _power(images, fs), _power(outputs, fs)
    total = output.sum(0)
    share = np.divide(output, total, out=np.zeros_like(output), where=total > 0)
    held = np.einsum("sfl,mfl->sm", talker, share, optimize=True)
    return np.maximum(0.0, 1 - held.max(1) / talker.sum((1, 2)))


def _power(signals: np.ndarray, fs: int) -> np.ndarray:
    """Return ``(..., F, L)`` power spectrograms of ``(..., T)``: 32 ms Hann windows, half overlapping."""
    from frontend.dsp.spatial import stft_numpy  # torch, which a process that only makes tables does not need

    size = 2 * max(1, round(0.032 * fs / 2))
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    padded = np.pad(_double(signals), [(0, 0), (0, size)])  # no shorter than the window
    return np.abs(stft_numpy(padded, size, size // 2, window)) ** 2


# Where in a recording is a talker in which stream?
BLOCK_S = 0.5
PAUSE_DB = -20.0  # blocks of the image this far below its mean power are pauses
MARGIN = 0.25  # of the energy: by so much the best stream is ahead of the next where a choice is clear


def explained(image: np.ndarray, streams: np.ndarray) -> np.ndarray:
    """Return which share ``(M,)`` of an image's energy each stream explains; negative for other speech.

    A stream ``x`` explains ``2 <s, x> - |x|^2`` of the energy ``|s|^2`` of an image ``s``: what is gone of it
    in ``s - x``. Unlike SI-SNR this sees levels, so that a faint trace of a talker in the other stream does
    not count as the talker; like the streams of all our systems, ``x`` has to be at the level of the
    recording.

    Args:
        image: ``(T,)``, not silent.
        streams: ``(M, T)``.
    """
    image, streams = _double(image), _double(streams)
    return (2 * streams @ image - np.sum(streams**2, axis=-1)) / np.sum(image**2)


def is_clear(shares: np.ndarray) -> bool:
    """Return whether one stream is ahead of all others by :data:`MARGIN`; what is negative counts as 0."""
    ordered = np.sort(np.maximum(np.append(shares, 0.0), 0.0))
    return bool(ordered[-1] - ordered[-2] >= MARGIN)


def block_streams(image: np.ndarray, streams: np.ndarray, fs: int) -> np.ndarray:
    """Return which of the streams ``(M, T)`` an utterance's image ``(T,)`` is in, block by block of 0.5 s.

    ``(B,)`` of int; -1 where the talker pauses or the choice is not clear. A rest of less than half a block
    at the end belongs to the last block.
    """
    size, samples = max(1, round(BLOCK_S * fs)), len(image)
    edges = np.append(np.arange(max(1, round(samples / size))) * size, samples)
    power = np.mean(np.square(image, dtype=np.float64))
    found = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        piece = image[low:high]
        active = np.mean(np.square(piece, dtype=np.float64)) > power * 10 ** (PAUSE_DB / 10)
        shares = explained(piece, streams[:, low:high]) if active else np.zeros(1)
        found.append(int(np.argmax(shares)) if is_clear(shares) else -1)
    return np.array(found)


def swaps(blocks: np.ndarray) -> int:
    """Count how often a talker changes the stream: consecutive clear blocks that name another one."""
    kept = blocks[blocks >= 0]
    return int(np.sum(kept[1:] != kept[:-1]))


def main_streams(talkers: Sequence[int], streams: Sequence[int], weights: Sequence[float]) -> dict[int, int]:
    """Return each talker's main stream: the assignment of different streams that holds most speech.

    Args:
        talkers: ``(n,)``, who says utterance i.
        streams: ``(n,)``, the stream it is in; -1: not clear, which does not count.
        weights: ``(n,)``, its length.
    """
    who, where = np.asarray(talkers), np.asarray(streams)
    table = np.zeros((who.max() + 1, max(where.max(), who.max()) + 1))
    np.add.at(table, (who[where >= 0], where[where >= 0]), np.asarray(weights)[where >= 0])
    return dict(zip(*map(np.ndarray.tolist, linear_sum_assignment(table, maximize=True)), strict=True))


def _double(signal: np.ndarray) -> np.ndarray:
    return np.asarray(signal, dtype=np.float64)
