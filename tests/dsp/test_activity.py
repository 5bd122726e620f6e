"""Levels without the recorder's offset, and channels that are dead or copies."""

import numpy as np
import pytest

from frontend.dsp.activity import Faults, Levels, find_faults, levels_db, segments_of_levels, sounds

FS = 8000


def talk(channels: int = 3, seconds: float = 20.0, seed: int = 0) -> np.ndarray:
    """Noise that comes and goes, as 16 bits hold it."""
    n = round(seconds * FS)
    noise = 0.05 * np.random.default_rng(seed).standard_normal((channels, n))
    noise *= np.where(np.arange(n) / FS % 4 < 2.5, 1.0, 0.01)
    return (np.rint(noise * 32768) / 32768).astype(np.float32)


def plain_levels(signal: np.ndarray) -> np.ndarray:
    """The levels as they were before offsets were known."""
    power = np.mean(np.square(signal, dtype=np.float64), axis=0).reshape(-1, 160)
    return 10 * np.log10(np.add.reduceat(power.ravel(), np.arange(0, power.size, 160)) / 160)


def test_levels_of_a_recording_without_offset_are_the_same_to_the_bit():
    signal = talk()
    signal -= signal.mean(1, keepdims=True).astype(np.float32)
    assert np.array_equal(levels_db(signal, FS), plain_levels(signal))


@pytest.mark.parametrize("offset", [(0.1, 0.1, 0.1), (0.0, -0.3, 0.0), (0.9, 0.0005, -0.4)])
def test_an_offset_is_no_sound(offset):
    signal = talk()
    moved = (signal + np.array(offset, np.float32)[:, None]).astype(np.float32)
    expected = segments_of_levels(levels_db(signal, FS), FS, 20.0)
    assert len(expected) == 5 and segments_of_levels(levels_db(moved, FS), FS, 20.0) == expected
    assert np.abs(levels_db(moved, FS) - levels_db(signal, FS)).max() < 0.2
    assert not segments_of_levels(plain_levels(moved), FS, 20.0)
    blocks = Levels(FS)
    for start in range(0, signal.shape[1], 7 * 160):
        blocks.add(moved[:, start : start + 7 * 160])
    np.testing.assert_allclose(blocks.db(), levels_db(moved, FS), rtol=0, atol=1e-9)


def test_what_was_muted_stays_silent_beside_an_offset():
    signal = talk() + np.float32(0.01)
    signal[:, 32000:64000] = 0.0
    levels = levels_db(signal, FS)
    assert np.isneginf(levels[200:400]).all() and np.isfinite(levels[:200]).all()
    without = levels_db(signal - np.float32(0.01) * (signal != 0), FS)
    assert np.abs(levels[:200] - without[:200]).max() < 0.2
    assert len(levels_db(np.ones(161) * [[1.0]], FS)) == 2, "the last frame is one sample"


@pytest.mark.parametrize("value", [0.0, 1.0, -0.25, 0.1, 1e-3])
def test_a_constant_is_silence(value):
    signal = np.full((2, 4000), value, np.float32)
    assert not sounds(signal).any() and np.isneginf(levels_db(signal, FS)).all()
    signal[1, 7] += 0.01
    assert sounds(signal).tolist() == [False, True] and not sounds(signal[:, :0]).any()


def test_dead_channels_and_copies():
    signal = talk(6)
    signal[2], signal[4] = 0.0, 0.2
    assert find_faults([signal]) == Faults((2, 4))
    signal[3], signal[5] = signal[0], -signal[1]
    found = find_faults([signal])
    assert found == Faults((2, 4), ((3, 0, 1), (5, 1, -1))) and found.live(6) == [0, 1, 3, 5]
    said = found.warnings(lambda k: f"m.wav: channel {k + 1}")
    assert "m.wav: channel 3 is dead" in said[0] and said[3].startswith(
        "m.wav: channel 6 is a copy of m.wav: channel 2, with the opposite sign"
    )
    assert find_faults(np.split(signal, 10, axis=1)) == found
    assert find_faults([0 * signal]).live(6) == [0, 1, 2, 3, 4, 5], "nothing but silence"
    full = np.array([[1 - 2.0**-15, -0.5, 0.25], [-1.0, 0.5, -0.25]], np.float32)
    assert find_faults([full]).copies == ((1, 0, -1),), "16 bits hold -1 but not 1"


def test_no_more_is_read_than_it_takes():
    read = []

    def blocks(signal):
        for block in np.split(signal, 10, axis=1):
            read.append(len(read))
            yield block

    assert find_faults(blocks(talk())) == Faults() and len(read) == 1
    late = talk()
    late[:, : late.shape[1] // 2] = 0  # connected in the middle
    assert find_faults(blocks(late)) == Faults() and len(read) == 1 + 6
