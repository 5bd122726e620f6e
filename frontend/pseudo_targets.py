"""Teacher outputs to pseudo-targets: M outputs in, one stream per talker out.

A teacher trained with mixture invariance has more outputs than there are
talkers and splits a talker over several of them (over-separation). A *rule*
makes ``n_talkers`` streams of its M outputs. Rules are looked up by name in
:data:`RULES`; all but ``oracle`` need no reference.
"""

import inspect
from collections.abc import Callable

import torch

from frontend.blind import frames
from frontend.errors import UserError, did_you_mean
from frontend.partitions import best_assignment, cheapest_partition, spatial_costs, subset_si_snr, subsets


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
        mixture: (C, T), the recording; needed by ``energy+residual`` (channel 0
            is the reference channel) and ``spatial_merge``.
        references: (S, T), needed by ``oracle`` alone.
        fs: rate in Hz; windows are given in seconds.
        settings: keyword arguments of the rule.

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
        if name != "fs" and signal.shape[-1] != outputs.shape[-1]:
            found = f"{signal.shape[-1]} and {outputs.shape[-1]} samples"
            raise UserError(f"rule '{rule}': {name} and outputs differ in length, {found}")
    return RULES[rule](outputs, n_talkers, **needed, **settings)


def check_rule(rule: str, settings: dict, where: str = "") -> None:
    """Raise UserError unless ``rule`` exists and takes ``settings``; ``where`` starts the message."""
    if rule not in RULES:
        raise UserError(
            f"{where}expected a rule out of {', '.join(RULES)}, found '{rule}'{did_you_mean(rule, RULES)}"
        )
    known = settings_of(RULES[rule])
    for name in settings:
        if name not in known:
            raise UserError(f"{where}rule '{rule}' has no setting '{name}'{did_you_mean(name, known)}")


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
