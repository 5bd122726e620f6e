"""Resampling against closed forms: tones pass or go, and blocks give what the whole gives."""

import numpy as np
import pytest

from frontend.dsp.resample import resample, resample_blocks

RATES = [(16000, 8000), (44100, 8000), (48000, 16000), (8000, 16000)]


@pytest.mark.parametrize(("fs", "new_fs"), RATES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_tone_passes_at_its_level_and_place(fs, new_fs, dtype):
    time, new_time = np.arange(fs) / fs, np.arange(new_fs) / new_fs
    for hertz in (100, 0.42 * min(fs, new_fs)):
        tone = (0.5 * np.sin(2 * np.pi * hertz * time)).astype(dtype)
        found = resample(tone, fs, new_fs)
        assert found.shape == (new_fs,) and found.dtype == dtype
        inside = slice(new_fs // 20, -new_fs // 20)
        np.testing.assert_allclose(
            found[inside], 0.5 * np.sin(2 * np.pi * hertz * new_time)[inside], atol=5e-4
        )


@pytest.mark.parametrize(("fs", "new_fs"), [rates for rates in RATES if rates[0] > rates[1]])
def test_what_the_new_rate_cannot_hold_is_gone(fs, new_fs):
    tone = np.sin(2 * np.pi * 0.55 * new_fs * np.arange(fs) / fs)
    assert np.abs(resample(tone, fs, new_fs)[new_fs // 20 : -new_fs // 20]).max() < 1e-5


@pytest.mark.parametrize(("fs", "new_fs"), RATES)
def test_blocks_give_what_the_whole_gives(fs, new_fs):
    rng = np.random.default_rng(0)
    for samples in (0, 1, 5, 12347):
        audio = rng.standard_normal((3, samples)).astype(np.float32)
        whole = resample(audio, fs, new_fs)
        assert whole.shape == (3, -(-samples * new_fs // fs))
        for size in (777, 20000):
            blocks = (audio[:, k : k + size] for k in range(0, max(samples, 1), size))
            joined = np.concatenate(list(resample_blocks(blocks, fs, new_fs)), axis=1)
            np.testing.assert_array_equal(joined, whole)
    np.testing.assert_array_equal(resample(audio[0], fs, new_fs), whole[0])
    assert resample(audio[None], fs, new_fs).shape == (1, *whole.shape)
    assert resample(audio, fs, fs) is audio and list(resample_blocks([], fs, new_fs)) == []
