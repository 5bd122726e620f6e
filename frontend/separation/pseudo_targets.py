"""Teacher outputs to pseudo-targets: M outputs in, one stream per talker out.

A teacher trained with mixture invariance has more outputs than there are talkers and splits a talker over
several of them (over-separation). A *rule* makes ``n_talkers`` streams of its M outputs. A new rule is one
function here and one line of :data:`RULES`; all but ``oracle`` need no reference.

Rules that sum outputs look for the best partition of them. What a subset costs as one group is computed once
(2^M subsets); a partition then costs the sum of its groups' table entries. A subset is a bit mask: bit m is
set if output m is in it.
"""

import functools
import inspect
import itertools
import math
from collections.abc import Callable, Iterator

import torch

from frontend.dsp.spatial import frames, spatial_covariance, stft
from frontend.utils.errors import UserError, did_you_mean

# Raised with every change after which a rule makes other streams.
VERSION = 1
_TINY = 1e-30
# Of each setting of a rule: what it is above, and what it is.
_SETTINGS = {
    "window": (0, "seconds above 0"),
    "regularisation": (0, "a number above 0"),
    "weight_exponent": (-math.inf, "a number"),
}


def select(
    outputs: torch.Tensor,
    n_talkers: int,
    rule: str,
    mixture: torch.Tensor | None = None,
    references: torch.Tensor | None = None,
    fs: int = 8000,
    **settings,
) -> torch.Tensor:
    """Make one stream per talker of a network's outputs.

    Args:
        outputs: (M, T), the outputs for one recording.
        n_talkers: S, the number of streams wanted, at most M.
        rule: a name in :data:`RULES`.
        mixture: (C, T), the recording; needed by ``energy+residual`` (of channel 0) and ``spatial_merge``.
        references: (S, T), needed by ``oracle`` alone.
        fs: rate in Hz; windows are given in seconds.
        **settings: of the rule.

    Returns:
        (S, T), of the same type and device as ``outputs``.

    Raises:
        UserError: unknown rule or setting, or something the rule needs is missing.
    """
    check_rule(rule, settings)
    if not 1 <= n_talkers <= len(outputs):
        raise UserError(f"rule '{rule}' cannot make {n_talkers} streams of {len(outputs)} outputs")
    given = {"mixture": mixture, "references": references, "fs": fs}
    needed = {k: v for k, v in given.items() if k in inspect.signature(RULES[rule]).parameters}
    for name, signal in needed.items():
        if signal is None:
            raise UserError(f"rule '{rule}' needs the {name}")
        if isinstance(signal, torch.Tensor) and signal.shape[-1] != outputs.shape[-1]:
            found = f"{signal.shape[-1]} and {outputs.shape[-1]} samples"
            raise UserError(f"rule '{rule}': {name} and outputs differ in length, {found}")
    return RULES[rule](outputs, n_talkers, **needed, **settings)


def check_rule(rule: object, settings: dict, where: str = "") -> None:
    """Raise UserError unless ``rule`` exists and takes ``settings``; ``where`` starts the message."""
    if not isinstance(rule, str) or rule not in RULES:
        raise UserError(
            f"{where}expected a rule out of {', '.join(RULES)}, found '{rule}'{did_you_mean(rule, RULES)}"
        )
    known = settings_of(RULES[rule])
    for name, value in settings.items():
        if name not in known:
            raise UserError(f"{where}rule '{rule}' has no setting '{name}'{did_you_mean(name, known)}")
        above, wanted = _SETTINGS[name]
        if isinstance(value, bool) or not (isinstance(value, int | float) and above < value < math.inf):
            raise UserError(f"{where}rule '{rule}': {name}: expected {wanted}, found {value!r}")


def settings_of(function: Callable) -> list[str]:
    """Names of the keyword-only parameters of ``function``."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


def take_all(outputs: torch.Tensor, n_talkers: int) -> torch.Tensor:
    """The outputs as they are, for a network that has one per talker."""
    if len(outputs) != n_talkers:
        raise UserError(
            f"rule 'all' expects as many outputs as talkers, found {len(outputs)} outputs for "
            f"{n_talkers} talkers; choose another rule"
        )
    return outputs


def energy(outputs: torch.Tensor, n_talkers: int) -> torch.Tensor:
    """The ``n_talkers`` outputs of highest energy, loudest first (the paper's rule)."""
    order = outputs.double().square().sum(-1).argsort(descending=True, stable=True)
    return outputs[order[:n_talkers]]


def energy_residual(outputs: torch.Tensor, n_talkers: int, mixture: torch.Tensor) -> torch.Tensor:
    """As :func:`energy`; what they lack of the mixture is added to them in equal parts."""
    kept = energy(outputs, n_talkers)
    return kept + (mixture[0] - kept.sum(0)) / n_talkers


def spatial_merge(
    outputs: torch.Tensor,
    n_talkers: int,
    mixture: torch.Tensor,
    fs: int = 8000,
    *,
    weight_exponent: float = 1.0,
    window: float = 0.064,
    regularisation: float = 0.1,
) -> torch.Tensor:
    """Sum the outputs of each group of the spatially likeliest partition.

    Model: a bin (f, t) of the mixture belongs to the loudest output there; its
    direction x/|x| is drawn from a zero-mean complex Gaussian whose covariance
    is that of the output's group at f; bins are weighted by |x|^weight_exponent.
    With R_m(f) the weighted sum of x x^H / |x|^2 and n_m(f) the sum of weights
    over the bins of output m, a group g has R_g = sum R_m, n_g = sum n_m, and
    its best log-likelihood is, up to a constant,
    ``- sum_f n_g(f) log det(R_g(f) / n_g(f))``.

    Args:
        outputs: (M, T).
        n_talkers: number of streams S.
        mixture: (C, T), C >= 2.
        fs: rate in Hz.
        weight_exponent: 1 or 2 (2 = plain covariances).
        window: of the STFT in seconds; the hop is half of it.
        regularisation: added to the diagonal of R_g / n_g, whose trace is 1.

    Returns:
        (S, T) streams that sum to the sum of the outputs, loudest first.
    """
    if mixture.ndim != 2 or len(mixture) < 2:
        found = 1 if mixture.ndim < 2 else len(mixture)
        raise UserError(f"rule 'spatial_merge' needs two or more microphones, found {found}")
    n_fft, hop = frames(fs, window, 2)
    cost = spatial_costs(outputs, mixture, weight_exponent, n_fft, hop, regularisation)
    groups, _ = cheapest_partition(cost, n_talkers)
    return energy(_sums(outputs, groups), n_talkers)


def oracle(outputs: torch.Tensor, n_talkers: int, references: torch.Tensor) -> torch.Tensor:
    """The partition of best mean SI-SNR, in the order of the references (a control).

    Every output goes to exactly one talker. Silent references do not count;
    talkers beyond the references are silent ones.
    """
    if len(references) > n_talkers:
        raise UserError(f"rule 'oracle' was given {len(references)} references for {n_talkers} talkers")
    score = subset_si_snr(outputs, references)  # (2^M, number of references)
    score = torch.nn.functional.pad(score, (0, n_talkers - len(references)))
    return _sums(outputs, best_assignment(score))


def _sums(outputs: torch.Tensor, groups: tuple[int, ...]) -> torch.Tensor:
    return subsets(len(outputs))[list(groups)].to(outputs) @ outputs


RULES: dict[str, Callable[..., torch.Tensor]] = {
    "all": take_all,
    "energy": energy,
    "energy+residual": energy_residual,
    "spatial_merge": spatial_merge,
    "oracle": oracle,
}


# --- partitions


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

    The model is that of :func:`frontend.separation.pseudo_targets.spatial_merge`; the
    likelihood needs the subsets' covariances alone, and those add up.

    Of outputs (M, T) and a mixture (C, T); the settings are those of that function.

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
