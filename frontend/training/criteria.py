"""The losses in the form that ESPnet wants: a criterion, and the solvers around it (MixIT, PIT).

The formulas are in :mod:`frontend.training.losses`.
"""

import torch
from espnet2.enh.loss.wrappers.abs_wrapper import AbsLossWrapper
from espnet2.enh.loss.wrappers.pit_solver import PITSolver

from frontend.training.losses import MAX_ASSIGNMENTS, mixit_loss, thresholded_snr
from frontend.utils.errors import UserError
from frontend.utils.espnet import TimeDomainLoss


class ThresholdedSNR(TimeDomainLoss):
    """Negative SNR in dB with a soft threshold: :func:`frontend.training.losses.thresholded_snr`.

    Not SI-SNR: the level is to be learned too, and SI-SNR has no finite value on silence.

    Args:
        snr_max: threshold in dB; errors below it stop mattering.
        name: the key of the loss in logs and checkpoints.
    """

    def __init__(
        self,
        snr_max: float = 30.0,
        name: str | None = None,
        only_for_test: bool = False,
        is_noise_loss: bool = False,
        is_dereverb_loss: bool = False,
    ):
        name = name or "thresholded_snr"
        super().__init__(name, only_for_test, is_noise_loss, is_dereverb_loss)
        self.snr_max = snr_max
        # What errors are measured against, (B,), and their threshold, a number or (B,);
        # None: the reference's own energy and snr_max.
        self.scale: tuple[torch.Tensor, float | torch.Tensor] | None = None

    def forward(self, ref: torch.Tensor, inf: torch.Tensor) -> torch.Tensor:
        """(B, T), (B, T) -> (B,)."""
        energy, snr_max = self.scale or (ref.square().sum(-1), self.snr_max)
        return thresholded_snr(ref, inf, energy, snr_max)


class MixIT(AbsLossWrapper):
    """Mixture invariant training for any number of mixtures and outputs.

    ESPnet's ``MixITSolver`` takes the number of mixtures to be half the number of outputs
    (8 outputs: 4^8 assignments and 134 GB; 3 outputs: one mixture), sums waveforms for
    every assignment, and hands on a ``perm`` that its joint models then sort by. Here the
    number of mixtures is the number of references given, and no ``perm`` is returned.

    Args:
        criterion: :class:`ThresholdedSNR`; its threshold is used.
        weight: of this loss among several.
        allow_empty, max_assignments: see :func:`frontend.training.losses.mixit_loss`.
    """

    def __init__(
        self,
        criterion: ThresholdedSNR,
        weight: float = 1.0,
        allow_empty: bool = False,
        max_assignments: int = MAX_ASSIGNMENTS,
    ):
        super().__init__()
        if not isinstance(criterion, ThresholdedSNR):
            raise UserError(f"criterions: mixit needs the criterion thresholded_snr, found {criterion.name}")
        self.criterion = criterion
        self.weight = weight
        self.allow_empty = allow_empty
        self.max_assignments = max_assignments

    def forward(self, ref, inf, others=None):
        """[(B, T)] x N, [(B, T)] x M -> loss, stats, {"assignment": (B, M)}."""
        loss, assignment = mixit_loss(
            torch.stack(list(ref), dim=1),
            torch.stack(list(inf), dim=1),
            self.criterion.snr_max,
            self.allow_empty,
            self.max_assignments,
        )
        loss = loss.mean()
        return loss, {self.criterion.name: loss.detach()}, {"assignment": assignment}


class ThresholdedPIT(PITSolver):
    """ESPnet's PIT with errors and threshold relative to the mixture, not to each source.

    Loss per source: ``10 log10((|s - s^|^2 + tau |x|^2) / |x|^2)`` with x the sum of the references. A silent
    reference (a mixture with fewer talkers than outputs) so asks for a silent output, with a finite loss.

    The gradient of a decibel grows as its error shrinks. Where a reference is silent the error can become
    very small, so that a few such crops outweigh the many in which talkers overlap: a network that starts
    from nothing then learns to put everything into one output, and stays there. A lower threshold for such
    crops keeps the balance (docs/ablations.md), as in Wisdom et al., "What's all the fuss about free
    universal sound separation data?", ICASSP 2021.

    Args:
        criterion: :class:`ThresholdedSNR`.
        weight: of this loss among several.
        independent_perm: as in ESPnet.
        snr_max_silent: threshold in dB of all sources of an example in which one is silent,
            its energy below that of the errors that do not matter (``-snr_max`` relative
            to x). Default: ``snr_max``.
    """

    def __init__(
        self,
        criterion: ThresholdedSNR,
        weight: float = 1.0,
        independent_perm: bool = True,
        snr_max_silent: float | None = None,
    ):
        super().__init__(criterion, weight, independent_perm)
        if not isinstance(criterion, ThresholdedSNR):
            raise UserError(
                f"criterions: thresholded_pit needs the criterion thresholded_snr, found {criterion.name}"
            )
        if snr_max_silent is not None and not _is_within(snr_max_silent, criterion.snr_max):
            raise UserError(
                f"criterions: wrapper_conf: snr_max_silent must lie above 0 and at most at snr_max "
                f"({criterion.snr_max:g} dB), found {snr_max_silent!r}"
            )
        self.snr_max_silent = snr_max_silent

    def forward(self, ref, inf, others=None):
        """[(B, T)] x S, [(B, T)] x S -> loss, stats, {"perm": (B, S)}."""
        self.criterion.scale = self._scale(torch.stack(list(ref), dim=1))
        try:
            return super().forward(ref, inf, others or {})
        finally:
            self.criterion.scale = None

    def _scale(self, references: torch.Tensor) -> tuple[torch.Tensor, float | torch.Tensor]:
        """(B, S, T) -> energy of each mixture, (B,), and its threshold in dB."""
        snr_max = self.criterion.snr_max
        energy = references.sum(1).square().sum(-1)
        if self.snr_max_silent is None:
            return energy, snr_max
        weakest = references.square().sum(-1).amin(1)
        silent = weakest <= energy * 10 ** (-snr_max / 10)
        return energy, torch.where(silent, self.snr_max_silent, snr_max)


def _is_within(value: object, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= most
