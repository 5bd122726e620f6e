"""What all the corpora of this recipe have in common: 8 kHz, trimmed, one level."""

from functools import partial

from frontend.data.speech import normalise, trim
from frontend.dsp.resample import resample

FS = 8000

resample = partial(resample, new_fs=FS)
trim = partial(trim, fs=FS)
normalise = partial(normalise, fs=FS)
