"""Learning rate over the steps of a training."""

import math

import torch
from espnet2.schedulers.abs_scheduler import AbsBatchStepScheduler
from torch.optim.lr_scheduler import LRScheduler


class WarmupCosine(LRScheduler, AbsBatchStepScheduler):
    """Linear warm-up, then a cosine down to a fraction, per step (``scheduler: warmupcosine``).

    The peak is the optimiser's ``lr``. ESPnet's ``CosineAnnealingWarmupRestarts`` wants
    both rates again as settings of its own, starts at the lowest and jumps back to the
    peak after its last step; and a ``LambdaLR`` would be stepped a second time per epoch.

    The rate is a closed form of the step number, which is all the state there is, so
    that a resumed training goes on exactly, and one that is prolonged takes the new length.

    Args:
        optimizer: its groups' ``lr`` is the peak.
        total_steps: steps of the whole training; filled in from ``max_epoch`` by
            :mod:`frontend.bin.enh_train` where it is not given.
        warmup_steps: steps until the peak.
        floor: last rate as a fraction of the peak.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, total_steps: int, warmup_steps: int = 100, floor: float = 0.03
    ):
        self.total_steps, self.warmup_steps, self.floor = total_steps, warmup_steps, floor
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """Return the rate of the step after ``step`` steps, as a fraction of the peak."""
        rise = (step + 1) / (self.warmup_steps + 1)
        done = (step - self.warmup_steps) / max(1, self.total_steps - 1 - self.warmup_steps)
        fall = 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
        return min(rise, self.floor + (1 - self.floor) * fall)

    def get_lr(self) -> list[float]:
        """Return the rate of every group for the next step."""
        return [base * self.factor(self.last_epoch) for base in self.base_lrs]

    def state_dict(self) -> dict:
        """Return the step number and the peak rates."""
        return {k: self.__dict__[k] for k in ("last_epoch", "_step_count", "base_lrs")}
