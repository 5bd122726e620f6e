"""Losses in the form ESPnet wants them: a criterion and the solvers around it."""

import torch
from espnet2.enh.loss.criterions.time_domain import TimeDomainLoss
from espnet2.enh.loss.wrappers.abs_wrapper import AbsLossWrapper
from espnet2.enh.loss.wrappers.pit_solver import PITSolver

from frontend.errors import UserError
from frontend.mixit import MAX_ASSIGNMENTS, mixit_loss, thresholded_snr


class ThresholdedSNR(TimeDomainLoss):
    """Negative SNR in dB with a soft threshold, level included (:func:`frontend.mixit.thresholded_snr`).

    Not SI-SNR: the level is part of what is to be learned, and SI-SNR has no finite
    value on silence.

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
        # What errors are measured against, (B,); None: the reference's own energy.
        self.energy: torch.Tensor | None = None

    def forward(self, ref: torch.Tensor, inf: torch.Tensor) -> torch.Tensor:
        """(B, T), (B, T) -> (B,)."""
        energy = ref.square().sum(-1) if self.energy is None else self.energy
        return thresholded_snr(ref, inf, energy, self.snr_max)


class MixIT(AbsLossWrapper):
    """Mixture invariant training for any number of mixtures and outputs.

    ESPnet's ``MixITSolver`` takes the number of mixtures to be half the number of outputs
    (8 outputs: 4^8 assignments and 134 GB; 3 outputs: one mixture), sums waveforms for
    every assignment, and hands on a ``perm`` that its joint models then sort by. Here the
    number of mixtures is the number of references given, and no ``perm`` is returned.

    Args:
        criterion: :class:`ThresholdedSNR`; its threshold is used.
        weight: of this loss among several.
        allow_empty, max_assignments: see :func:`frontend.mixit.mixit_loss`.
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

    Loss per source: ``10 log10((|s - s^|^2 + tau |x|^2) / |x|^2)`` with x the sum of the
    references. A silent reference (a mixture with fewer talkers than outputs) so asks for
    a silent output, with a finite loss, and the threshold is the same for all sources of
    a mixture.
    """

    def __init__(self, criterion: ThresholdedSNR, weight: float = 1.0, independent_perm: bool = True):
        super().__init__(criterion, weight, independent_perm)
        if not isinstance(criterion, ThresholdedSNR):
            raise UserError(
                f"criterions: thresholded_pit needs the criterion thresholded_snr, found {criterion.name}"
            )

    def forward(self, ref, inf, others=None):
        """[(B, T)] x S, [(B, T)] x S -> loss, stats, {"perm": (B, S)}."""
        self.criterion.energy = sum(ref).square().sum(-1)
        try:
            return super().forward(ref, inf, others or {})
        finally:
            self.criterion.energy = None
