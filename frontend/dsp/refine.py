"""Refinement of separated streams: MVDR beamformers, AuxIVA from the streams, masks on the mixture, a gate.

A network of masks estimates which talker is active at which time and frequency; linear filters of the array
can null a direction. ``mvdr`` and ``iva`` estimate such filters from the network's streams; ``mask`` makes
masks from the filtered streams; ``gate`` mutes the streams that hold no talker after the steps before it, so
that the steps after it separate fewer streams. Steps are joined by a plus: ``iva+mask``.

Measured by true sources (docs/ablations.md): the teacher's merged streams gain most by ``mvdr+iva+mask``, a
student's by ``iva+mask``.
"""

from collections.abc import Callable

import torch

from frontend.dsp.array_streams import ArrayStreams
from frontend.dsp.spatial import frames, istft, stft, stream_masks
from frontend.utils.errors import UserError, did_you_mean, warn

# Raised with every change after which a step gives other streams.
VERSION = 2
# The best for beamformers and AuxIVA: at 8 kHz and T60 0.15-0.4 s, 2048 samples gave a beamformer with good
# masks 4 to 5 dB more than 256, and 4096 less again.
WINDOW_S = 0.256
# The part of its even share of the energy that a talker leads in, at least (docs/ablations.md).
_LEAST_SHARE = 1 / 8


def refine(streams: torch.Tensor, mixture: torch.Tensor, fs: int, steps: str) -> torch.Tensor:
    """Refine separated streams.

    Args:
        streams: (S, T), S >= 2, estimates at the reference channel, channel 0.
        mixture: (C, T), with as many microphones as :func:`check_size` asks for.
        fs: rate in Hz; the windows last 0.256 s whatever it is.
        steps: names in :data:`REFINEMENTS`, joined by a plus.

    Returns:
        (S, T) in the order and type of ``streams``; silent where a stream is silent throughout.

    Raises:
        UserError: unknown step, too few microphones or streams.
    """
    check_refinement(steps)
    check_size(steps, len(mixture), len(streams))
    for step in steps.split("+"):
        streams = REFINEMENTS[step](streams, mixture, fs)
    return streams


def check_refinement(steps: object, where: str = "") -> None:
    """Raise UserError unless ``steps`` are refinements joined by a plus; ``where`` starts the message."""
    for step in str(steps).split("+"):
        if step not in REFINEMENTS:
            raise UserError(
                f"{where}expected a refinement out of {', '.join(REFINEMENTS)}, or several joined by a plus, "
                f"found '{step}'{did_you_mean(step, REFINEMENTS)}"
            )


def check_size(steps: str, n_mics: int, n_streams: int, where: str = "") -> None:
    """Raise UserError unless there are enough microphones and streams; for checks before the work."""
    least = {"mvdr": 2, "iva": n_streams, "mask": 1, "gate": 1}
    mics = max(least[step] for step in steps.split("+"))
    if n_mics < mics or n_streams < 2:
        raise UserError(
            f"{where}refinement '{steps}' needs {mics} or more microphones and two or "
            f"more streams to separate, found {n_mics} and {n_streams}"
        )


def mvdr(streams: torch.Tensor, mixture: torch.Tensor, fs: int) -> torch.Tensor:
    """A beamformer a stream (:meth:`ArrayStreams.beamformed`): (S, T), (C, T) to (S, T)."""
    array = ArrayStreams(mixture[None], len(streams), *frames(fs, WINDOW_S, 4))
    return array.beamformed(streams[None].to(mixture))[0].to(streams)


def guided_iva(streams: torch.Tensor, mixture: torch.Tensor, fs: int) -> torch.Tensor:
    """AuxIVA (Ono 2011) whose demixing matrices start from the streams: (S, T), (C, T) to (S, T)."""
    # A silent stream has no source to look for: the others are separated without it.
    active = torch.nonzero(streams.abs().amax(-1) > 0).flatten()
    refined = streams.clone()
    if len(active) < 2 or not mixture.any():
        return refined
    array = ArrayStreams(mixture[None], len(active), *frames(fs, WINDOW_S, 4))
    made, found = array.guided(streams[None, active].to(mixture))
    if not found.all():
        warn(
            f"iva: {streams.shape[-1] / fs:.3g} s with sound in too few windows to be refined; left as it is"
        )
    refined[active] = made[0].to(streams)
    return refined


def mask_mixture(streams: torch.Tensor, mixture: torch.Tensor, fs: int) -> torch.Tensor:
    """Divide the reference channel among the streams, in proportion to their power in each bin.

    A beamformer suppresses where the other talker is not, too, and its streams do not sum to the
    mixture. As masks they say what they know best, which bin is whose, and images they become again:
    (S, T), (C, T) to (S, T) that sum to the reference channel, channel 0, where any stream sounds.
    """
    return images(streams, mixture[:1], fs)[:, 0]


def images(streams: torch.Tensor, mixture: torch.Tensor, fs: int) -> torch.Tensor:
    """Divide all channels among the streams: (S, T), (C, T) to (S, C, T), see :func:`mask_mixture`."""
    n_fft, hop = frames(fs, 0.032, 4)
    masks = stream_masks(stft(streams, n_fft, hop)).unsqueeze(1)
    return istft(masks * stft(mixture, n_fft, hop), n_fft, hop, streams.shape[-1])


def gate(streams: torch.Tensor, mixture: torch.Tensor, fs: int) -> torch.Tensor:
    """Silence the streams that hold no talker.

    What leaks of a talker into another stream is weaker than the talker in nearly all frames. So a stream
    counts by the energy of its frames (0.256 s) in which it is the loudest of all: where that is less than an
    eighth of what it would be if all streams had the same, it is silenced; the loudest stream never. A stream
    that is left alone is the reference channel, channel 0. (S, T), (C, T) to (S, T).
    """
    frame = frames(fs, WINDOW_S, 4)[0]
    energy = torch.nn.functional.pad(streams.double().square(), (0, -streams.shape[-1] % frame))
    energy = energy.unflatten(-1, (-1, frame)).sum(-1)
    leading = torch.where(energy == energy.amax(0), energy, 0.0).sum(-1)
    active = (leading >= _LEAST_SHARE / len(streams) * energy.sum()) | (leading == leading.amax())
    kept = mixture[:1].to(streams) if active.sum() == 1 < len(streams) and energy.any() else streams
    return torch.where(active.unsqueeze(-1), kept, 0.0)


REFINEMENTS: dict[str, Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]] = {
    "mvdr": mvdr,
    "iva": guided_iva,
    "mask": mask_mixture,
    "gate": gate,
}
