"""Is one talker spread over several outputs? Two measures, both 0 where nobody is.

A mixture-invariant teacher has more outputs than there are talkers and is free
to split a voice among them. ``surplus_outputs`` counts outputs that sound
although no talker is left for them; ``energy_outside_best`` asks how much of a
talker is missing from the one output that holds most of him.
"""

import numpy as np

# An output within this many dB of the mixture counts as active: 20 dB below, a
# voice is clearly heard beside the other; what is weaker passes as residual noise.
ACTIVE_DB = -20.0
WINDOW_SECONDS = 0.032


def surplus_outputs(
    outputs: np.ndarray, mixture: np.ndarray, n_talkers: int, active_db: float = ACTIVE_DB
) -> tuple[int, float]:
    """Count active outputs, and the share of them beyond the number of talkers.

    Args:
        outputs: ``(M, T)``.
        mixture: ``(T,)``, the reference channel.
        n_talkers: how many talk.
        active_db: an output is active if its energy is above this, relative to the mixture's.

    Returns:
        (active outputs, share 0..1 of them that is surplus; 0 if none is active)
    """
    energy = (np.asarray(outputs, np.float64) ** 2).sum(-1)
    threshold = 10 ** (active_db / 10) * (np.asarray(mixture, np.float64) ** 2).sum()
    active = int((energy > threshold).sum())
    return active, max(0, active - n_talkers) / active if active else 0.0


def energy_outside_best(images: np.ndarray, outputs: np.ndarray, fs: int) -> np.ndarray:
    """Share of each talker's energy that lies outside the output with most of it.

    Every bin of a talker's spectrogram is attributed to the outputs in proportion
    to their power in that bin; bins that no output holds are lost to all.
    Where talkers overlap in a bin even the true images share it, so that the
    floor for two talkers is a few percent: compare with the row ``oracle``.

    Args:
        images: ``(S, T)``, the talkers at the reference channel, none silent.
        outputs: ``(M, T)``.
        fs: in Hz.

    Returns:
        ``(S,)``, each 0..1: 0 if one output holds all, 1 - 1/M if it is spread evenly.
    """
    talker = _power(images, fs)
    output = _power(outputs, fs)
    total = output.sum(0)
    share = np.divide(output, total, out=np.zeros_like(output), where=total > 0)
    held = np.einsum("sfl,mfl->sm", talker, share, optimize=True)
    return np.maximum(0.0, 1 - held.max(1) / talker.sum((1, 2)))


def _power(signals: np.ndarray, fs: int) -> np.ndarray:
    """Return ``(..., F, L)`` power spectrograms of ``(..., T)``: 32 ms Hann windows, half overlapping."""
    size = 2 * max(1, round(WINDOW_SECONDS * fs / 2))
    padded = np.pad(np.asarray(signals, np.float64), [(0, 0), (size // 2, size)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, size, axis=-1)[:, :: size // 2]
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    return np.abs(np.fft.rfft(frames * window, axis=-1)).swapaxes(-1, -2) ** 2
