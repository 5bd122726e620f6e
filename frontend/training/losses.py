"""Mixture invariant training: which output belongs to which mixture, and how well it fits.

Source: Wisdom et al., "Unsupervised sound separation using mixture invariant
training", NeurIPS 2020 [1]; above the bound on the number of assignments,
Wisdom et al., "Sparse, efficient, and semantic mixture invariant training",
WASPAA 2021 [2].
"""

import functools
import itertools
import math

import torch

# Up to so many assignments the search is exhaustive: two mixtures and 16 outputs.
MAX_ASSIGNMENTS = 2**16
# Energy (sum over samples) below which a signal counts as silent: under half a
# step of 16-bit audio on a few thousand samples, far below any speech.
_SILENCE = 1e-6


def thresholded_snr(
    reference: torch.Tensor,
    estimate: torch.Tensor,
    energy: torch.Tensor,
    snr_max: float | torch.Tensor = 30.0,
) -> torch.Tensor:
    """Error of an estimate in dB relative to ``energy``, with a soft floor (Eq. (2) in [1]).

    ``10 log10((|s - s^|^2 + tau E) / E)``, ``tau = 10^(-snr_max / 10)``: 0 where nothing
    is explained, ``-snr_max`` where everything is. Finite, with a finite gradient, for
    silent signals as well.

    Args:
        reference: (..., T).
        estimate: (..., T).
        energy: (...), E: the energy errors are measured against, in most cases that of
            ``reference`` or of the mixture it is part of.
        snr_max: in dB, one or (...).

    Shape:
        (..., T), (..., T), (...) -> (...), lower is better.
    """
    error = (reference - estimate).square().sum(-1)
    energy = energy.clamp_min(_SILENCE)
    return 10 * torch.log10(error / energy + 10 ** (-snr_max / 10))


def mixit_loss(
    mixtures: torch.Tensor,
    estimates: torch.Tensor,
    snr_max: float = 30.0,
    allow_empty: bool = False,
    max_assignments: int = MAX_ASSIGNMENTS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of the best assignment of the M outputs to the N mixtures (Eq. (3) in [1]).

    The search needs inner products only: ``|x - sum_m a_m e_m|^2 = <x,x> - 2 a'c + a'Ga``
    with ``c_m = <x,e_m>`` and ``G`` the Gram matrix of the outputs. The loss of the
    assignment found is then computed from the waveforms, because differences of inner
    products lose several dB of precision near a perfect reconstruction.

    With a mixture-consistent network the empty assignment (every output to one mixture)
    has a loss of 0 dB and a gradient of exactly zero. Training that starts there never
    leaves, hence ``allow_empty=False``.

    Args:
        mixtures: (B, N, T), the mixtures that were added up, at the reference channel.
        estimates: (B, M, T), outputs of the network, M >= N.
        snr_max: soft threshold in dB, see :func:`thresholded_snr`.
        allow_empty: also search assignments that leave a mixture without an output.
        max_assignments: with more than so many assignments (N^M) the assignment is found
            by least squares [2] instead, which is not always the best one.

    Shape:
        (B, N, T), (B, M, T) -> loss (B,) in dB, averaged over the N mixtures (0 = nothing
        explained, -snr_max = floor); assignment (B, M) of long, the mixture of each output.

    Raises:
        ValueError: fewer outputs than mixtures, or shapes that do not fit.
    """
    _check(mixtures, estimates)
    with torch.no_grad():
        # A mixture much weaker than the others is measured against a floor derived
        # from them: silence must not weigh more than speech.
        energies = mixtures.square().sum(-1)
        floor = 10 ** (-snr_max / 10) * energies.mean(-1, keepdim=True)
        energies = torch.maximum(energies, floor)
        if mixtures.shape[1] ** estimates.shape[1] <= max_assignments:
            assignment = _search(mixtures, estimates, energies, snr_max, allow_empty)
        else:
            assignment = _least_squares(mixtures, estimates, allow_empty)
    loss = thresholded_snr(mixtures, _sums(estimates, assignment, mixtures.shape[1]), energies, snr_max)
    return loss.mean(-1), assignment


def _check(mixtures: torch.Tensor, estimates: torch.Tensor) -> None:
    (b, n, t), (b2, m, t2) = mixtures.shape, estimates.shape
    if (b, t) != (b2, t2) or m < n:
        raise ValueError(
            f"mixtures (B, N, T) and estimates (B, M, T) with M >= N expected, found "
            f"{tuple(mixtures.shape)} and {tuple(estimates.shape)}"
        )


def _sums(estimates: torch.Tensor, assignment: torch.Tensor, n: int) -> torch.Tensor:
    """Add up the outputs of each mixture: (B, M, T), (B, M) -> (B, N, T)."""
    one_hot = torch.nn.functional.one_hot(assignment, n).to(estimates.dtype)
    return torch.einsum("bmn,bmt->bnt", one_hot, estimates)


@functools.lru_cache(maxsize=8)
def _tables(n: int, m: int, allow_empty: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All assignments (A, M), the subset number each gives each mixture (A, N), subsets (2^M, M)."""
    subsets = torch.tensor(list(itertools.product((0, 1), repeat=m)))
    if n == 2:
        # The subsets already are the assignments; the product below would be slower to build.
        assignments = subsets
    else:
        assignments = torch.tensor(list(itertools.product(range(n), repeat=m)))
    weights = 2 ** torch.arange(m - 1, -1, -1)
    index = torch.stack([((assignments == i) * weights).sum(-1) for i in range(n)], dim=-1)
    if not allow_empty:
        kept = (index > 0).all(-1)
        assignments, index = assignments[kept], index[kept]
    return assignments, index, subsets.double()


def _search(
    mixtures: torch.Tensor, estimates: torch.Tensor, energies: torch.Tensor, snr_max: float, allow_empty: bool
) -> torch.Tensor:
    """Exact search in the space of inner products -> (B, M)."""
    n, m = mixtures.shape[1], estimates.shape[1]
    assignments, index, subsets = (x.to(mixtures.device) for x in _tables(n, m, allow_empty))
    x, e = mixtures.double(), estimates.double()
    gram = e @ e.mT  # (B, M, M)
    cross = x @ e.mT  # (B, N, M)
    # |x - sum|^2 for every mixture and every subset of the outputs: (B, N, 2^M).
    power = torch.einsum("sk,bkl,sl->bs", subsets, gram, subsets)
    match = torch.einsum("bnm,sm->bns", cross, subsets)
    error = x.square().sum(-1, keepdim=True) - 2 * match + power[:, None]
    energy = energies.double().clamp_min(_SILENCE)[..., None]
    table = torch.log10(error.clamp_min(0) / energy + 10 ** (-snr_max / 10))
    parts = [table[:, i].index_select(-1, index[:, i]) for i in range(n)]  # of (B, A)
    return assignments[sum(parts[1:], parts[0]).argmin(-1)]


def _least_squares(mixtures: torch.Tensor, estimates: torch.Tensor, allow_empty: bool) -> torch.Tensor:
    """Unconstrained ``min_A |X - A E|``, then the largest entry of each column -> (B, M) [2]."""
    x, e = mixtures.double(), estimates.double()
    gram = e @ e.mT
    # Silent or linearly dependent outputs leave the system singular: a ridge far below
    # the energies picks the smallest solution.
    ridge = 1e-9 * gram.diagonal(dim1=-2, dim2=-1).mean(-1) + _SILENCE
    gram = gram + ridge[:, None, None] * torch.eye(e.shape[1], dtype=e.dtype, device=e.device)
    mixing = torch.linalg.solve(gram, e @ x.mT).mT  # (B, N, M)
    assignment = mixing.argmax(1)
    return assignment if allow_empty else _fill_empty(assignment, mixing)


def _fill_empty(assignment: torch.Tensor, mixing: torch.Tensor) -> torch.Tensor:
    """Give each mixture without an output the one that costs least to take away."""
    assignment = assignment.clone()
    for row, weights in zip(assignment, mixing, strict=True):
        for mixture in range(weights.shape[0]):
            if (row == mixture).any():
                continue
            count = torch.bincount(row, minlength=weights.shape[0])
            loss = weights.gather(0, row[None])[0] - weights[mixture]
            row[torch.where(count[row] > 1, loss, math.inf).argmin()] = mixture
    return assignment
