"""Subsets and partitions of a network's outputs: what each costs, and the best one.

What a subset costs as one group is computed once (2^M subsets); a partition
then costs the sum of its groups' table entries. A subset is a bit mask: bit m
is set if output m is in it.
"""

import functools
import itertools
from collections.abc import Iterator

import torch

from frontend.spatial import spatial_covariance, stft

_TINY = 1e-30


def subsets(n_outputs: int) -> torch.Tensor:
    """Membership (2^M, M), bool: row k, column m says whether output m is in subset k."""
    masks = torch.arange(2**n_outputs)
    return (masks[:, None] >> torch.arange(n_outputs) & 1).bool()


def spatial_costs(
    outputs: torch.Tensor,
    mixture: torch.Tensor,
    weight_exponent: float,
    n_fft: int,
    hop: int,
    regularisation: float,
) -> torch.Tensor:
    """What each subset of the outputs costs as one group: -log-likelihood per unit of weight.

    The model is that of :func:`frontend.pseudo_targets.spatial_merge`; the
    likelihood needs the subsets' covariances alone, and those add up.

    Args:
        outputs: (M, T).
        mixture: (C, T).
        weight_exponent, n_fft, hop, regularisation: see there.

    Returns:
        (2^M,), 0 for the empty subset.
    """
    r, n = _covariances(outputs, mixture, weight_exponent, n_fft, hop)  # (M, F, C, C), (M, F)
    member = subsets(len(outputs)).to(n)
    r = (member.to(r.dtype) @ r.flatten(1)).view(-1, *r.shape[1:])  # (2^M, F, C, C)
    n = member @ n
    r = r / n.clamp_min(_TINY)[..., None, None]
    r.diagonal(dim1=-2, dim2=-1).add_(regularisation)
    log_det = 2 * torch.linalg.cholesky(r).diagonal(dim1=-2, dim2=-1).real.log().sum(-1)
    return (n * log_det).sum(-1) / n[-1].sum().clamp_min(_TINY)


def _covariances(outputs, mixture, weight_exponent, n_fft, hop) -> tuple[torch.Tensor, torch.Tensor]:
    """R_m(f) = sum_t w x x^H / |x|^2 (M, F, C, C) and n_m(f) = sum_t w (M, F) over the bins output m owns."""
    owner = stft(outputs, n_fft, hop).abs().argmax(0)  # (F, L)
    x = stft(mixture, n_fft, hop)  # (C, F, L)
    power = x.abs().square().sum(0)  # (F, L)
    # Relative to the mean, so that the floor below means the same at any level.
    mean = power.mean().clamp_min(_TINY)
    power = power / mean
    # x x^H |x|^(p-2); the floor, 120 dB down, is there for digital silence.
    share = power.clamp_min(1e-12) ** (weight_exponent / 2 - 1)
    mask = (owner == torch.arange(len(outputs), device=owner.device)[:, None, None]) * share  # (M, F, L)
    return spatial_covariance((x / mean.sqrt()).unsqueeze(0), mask), (mask * power).sum(-1)


def subset_si_snr(outputs: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """SI-SNR of each subset's sum to each reference, from inner products alone.

    Args:
        outputs: (M, T).
        references: (S, T).

    Returns:
        (2^M, S) in dB, double; within +-120 dB, 0 where the reference is silent.
    """
    y = outputs.double() - outputs.double().mean(-1, keepdim=True)
    s = references.double() - references.double().mean(-1, keepdim=True)
    member = subsets(len(outputs)).to(y)
    energy_y = torch.einsum("km,kn,mn->k", member, member, y @ y.T).clamp_min(0)
    energy_s = s.square().sum(-1)
    projected = (member @ (y @ s.T)).square() / energy_s.clamp_min(_TINY)  # (2^M, S)
    # The floor keeps a silent group (SI-SNR of -inf) and a perfect one comparable.
    floor = 1e-12 * energy_s + _TINY
    error = (energy_y[:, None] - projected).clamp_min(0)
    score = 10 * torch.log10((projected + floor) / (error + floor))
    return torch.where(energy_s > 0, torch.where(energy_y[:, None] > 0, score, -120.0), 0.0)


def cheapest_partition(cost: torch.Tensor, n_groups: int) -> tuple[tuple[int, ...], float]:
    """Return the partition into ``n_groups`` groups whose ``cost`` (2^M,) adds up to least, and that sum."""
    n_outputs = (len(cost) - 1).bit_length()
    candidates = partitions(n_outputs, n_groups)
    totals = cost.double()[torch.tensor(candidates, device=cost.device)].sum(-1)
    best = int(totals.argmin())
    return candidates[best], float(totals[best])


def best_assignment(score: torch.Tensor) -> tuple[int, ...]:
    """Return the partition into S groups of highest summed ``score`` (2^M, S), in its order."""
    n_outputs = (len(score) - 1).bit_length()
    rows, columns = score.tolist(), range(score.shape[1])
    ordered = (p for groups in partitions(n_outputs, len(columns)) for p in itertools.permutations(groups))
    return max(ordered, key=lambda groups: sum(rows[g][s] for s, g in zip(columns, groups, strict=True)))


@functools.cache
def partitions(n_outputs: int, n_groups: int) -> list[tuple[int, ...]]:
    """Return all partitions of the outputs into ``n_groups`` non-empty groups.

    >>> partitions(3, 2)  # {0,1}|{2}, {0,2}|{1}, {0}|{1,2}
    [(3, 4), (5, 2), (1, 6)]
    """

    def grow(output: int, groups: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if n_outputs - output < n_groups - len(groups):
            return
        if output == n_outputs:
            yield groups
            return
        for g in range(len(groups)):
            yield from grow(output + 1, groups[:g] + (groups[g] | 1 << output,) + groups[g + 1 :])
        if len(groups) < n_groups:
            yield from grow(output + 1, (*groups, 1 << output))

    return list(grow(0, ()))
