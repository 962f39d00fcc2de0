"""The learning rate from step to step."""

from __future__ import annotations

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class PolynomialRounds(LRScheduler):
    """min(1, (s + 1) / (warmup + 1)) (1 - s / S)^power of the initial rate, at step s of the S steps of a round.

    Args:
        optimizer: whose rates these are.
        total_steps: of the training.
        rounds: equal parts of the training, of which each starts anew (`Method.rounds`).
        warmup: steps at the start of a round over which the rate rises.
        power: of the decay.
    """

    def __init__(
        self, optimizer: Optimizer, total_steps: int, rounds: int = 1, warmup: int = 0, power: float = 0.9
    ) -> None:
        self.total_steps, self.rounds, self.warmup, self.power = total_steps, rounds, warmup, power
        super().__init__(optimizer)

    def get_lr(self) -> list[float | torch.Tensor]:
        """The rates of the optimizer's groups of parameters in the step to come."""
        length = self.total_steps / self.rounds
        step = self.last_epoch - min(self.last_epoch * self.rounds // self.total_steps, self.rounds - 1) * length
        factor = min(1.0, (step + 1) / (self.warmup + 1)) * max(0.0, 1.0 - step / length) ** self.power
        return [rate * factor for rate in self.base_lrs]
