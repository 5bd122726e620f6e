"""Multi-channel speech separation learned from mixtures, in front of an ESPnet recogniser.

Shapes and units, the same in every module:

* A multi-channel waveform is ``(..., C, T)``: C microphones, T samples, float,
  full scale 1.0. A stack of sources at the reference channel is ``(..., S, T)``;
  of teacher outputs ``(..., M, T)``; of the mixtures in a mixture of mixtures
  ``(..., N, T)``. docs/architecture.md says where ESPnet's ``(B, T, C)`` exists.
* A spectrogram is ``(..., F, L)``: F frequencies, L frames, complex.
* Rates are in Hz, times in seconds unless a name ends in ``_samples``, levels in dB,
  lengths in metres, angles in degrees counter-clockwise.
* The *image* of a talker is the talker's signal at the microphones, reverberation included;
  the *reference channel* is microphone 0 unless a configuration says otherwise.
"""

from pathlib import Path

__version__ = "0.3.0"

# The model that comes with the package. It takes any array of at most so many microphones.
PRETRAINED = Path(__file__).resolve().parent / "pretrained/any_array"
MOST_MICS = 8

# The averaged weights, which a training writes at its end.
MODEL = "valid.loss.ave.pth"
# A network sees a recording as a whole. Measured on a CPU, for the 4 channels at 8 kHz of egs/mini: MaskNet
# takes 4 MiB per second of it, 9 with the beamformer, GuidedNet 10; the attention of TF-GridNet grows with
# the square.
MAX_SECONDS = 120.0
AUDIO_FORMATS = ("wav", "flac", "flac.ark")

# Entries ``SCHEME:...`` of ``.scp`` files whose audio is made when it is read (frontend.data.audio). They are
# named here, in what every process imports, and by name: nothing is imported before the first such entry.
SEGMENT = "segment"
AUDIO_READERS = {
    "scene": "frontend.simulation.mixture_sets:READER",
    SEGMENT: "frontend.data.chunks:READER",
}


def __getattr__(name: str) -> object:
    if name == "Separator":  # late: torch and ESPnet take seconds to import
        from frontend.separation.model import Separator

        return Separator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
