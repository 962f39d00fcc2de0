"""Exponential moving average of a network's weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


def moving_average(network: nn.Module, decay: float = 0.99) -> AveragedModel:
    """A copy of `network` whose parameters follow it: theta' <- a theta' + (1 - a) theta, a = min(1 - 1/(t+1), decay).

    The warm-up of a lets the copy forget its random start (Tarvainen and Valpola's mean teacher). Buffers, such as the
    statistics of batch normalisation, are copied. Call `update_parameters(network)` after every step; the copy itself
    is `module`, and the count of steps a buffer, so that a state dict resumes it exactly.
    """

    def average(mean: torch.Tensor, current: torch.Tensor, steps: torch.Tensor | int) -> torch.Tensor:
        weight = max(1.0 / (float(steps) + 1.0), 1.0 - decay)
        return torch.lerp(mean, current, weight)

    copy = AveragedModel(network, avg_fn=average)
    copy.requires_grad_(False)
    return copy
