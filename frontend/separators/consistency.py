"""Mixture consistency: outputs that sum to the mixture, exactly.

S. Wisdom et al., "Differentiable consistency constraints for improved deep speech
enhancement", ICASSP 2019, Sec. 3.2.
"""

from __future__ import annotations

import torch


def mixture_consistency(
    mixture: torch.Tensor, estimates: torch.Tensor, weighting: str = "uniform"
) -> torch.Tensor:
    """Return the estimates nearest to ``estimates`` that sum to ``mixture``.

    What is missing, ``mixture - sum(estimates)``, is shared out with weights that sum
    to one over the estimates: 1/M each, or in proportion to each estimate's energy, so
    that a silent output stays silent. Works on waveforms, spectrograms and, with a
    mixture of ones, on masks.

    Args:
        mixture: ``(B, ...)``, real or complex.
        estimates: ``(B, M, ...)``.
        weighting: ``uniform`` or ``energy``.

    Returns:
        ``(B, M, ...)``.

    Raises:
        ValueError: unknown weighting.
    """
    n_outputs = estimates.shape[1]
    missing = (mixture - estimates.sum(dim=1)).unsqueeze(1)
    if weighting == "uniform":
        return estimates + missing / n_outputs
    if weighting != "energy":
        raise ValueError(f"weighting must be uniform or energy, found {weighting!r}")
    dims = tuple(range(2, estimates.dim()))
    energy = (estimates * estimates.conj()).real.sum(dim=dims, keepdim=True)
    total = energy.sum(dim=1, keepdim=True)
    # Where every estimate is silent there is no proportion to keep: share evenly.
    proportion = energy / torch.where(total > 0, total, 1.0)
    weight = torch.where(total > 0, proportion, 1 / n_outputs)
    return estimates + weight * missing
