"""What all the corpora of this recipe have in common: 8 kHz, trimmed, one level."""

from functools import partial

from frontend import speech_level

FS = 8000

resample = partial(speech_level.resample, new_fs=FS)
trim = partial(speech_level.trim, fs=FS)
normalise = partial(speech_level.normalise, fs=FS)
