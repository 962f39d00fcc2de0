"""Exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import nn


class MovingAverage(nn.Module):
    """A copy of `network` whose parameters follow it: theta' <- a theta' + (1 - a) theta, a = min(1 - 1/(t+1), decay).

    The warm-up of a lets the copy forget its random start (Tarvainen and Valpola's mean teacher). Buffers, such as the
    statistics of batch normalisation, are copied. Call `update_parameters(network)` after every step; the copy itself
    is `module`, and the count of steps a buffer, so that a state dict resumes it exactly. It has the names of torch's
    AveragedModel, which would wait for the device at every step.

    Args:
        network: what is followed; it is not held here.
        decay: share of its own weights that the copy keeps at every step, after the warm-up.
    """

    n_averaged: torch.Tensor

    def __init__(self, network: nn.Module, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.module = deepcopy(network).requires_grad_(False)
        device = next(network.parameters()).device
        self.register_buffer("n_averaged", torch.zeros((), dtype=torch.long, device=device))

    def forward(self, *args: Any) -> Any:
        """What the copy makes of its input."""
        return self.module(*args)

    @torch.no_grad()
    def update_parameters(self, network: nn.Module) -> None:
        """Follow the network by one step; the first one takes its weights over."""
        share = (1.0 / (self.n_averaged + 1.0)).clamp_min(1.0 - self.decay)
        move_towards(self.module.parameters(), network.parameters(), share)
        buffers = [*zip(self.module.buffers(), network.buffers(), strict=True)]
        for kind in {copied.dtype for copied, _ in buffers}:  # tensors of one type are copied at once
            copies, originals = zip(*(pair for pair in buffers if pair[0].dtype == kind), strict=True)
            torch._foreach_copy_(copies, originals)
        self.n_averaged += 1


@torch.no_grad()
def move_towards(slow: Iterable[torch.Tensor], fast: Iterable[torch.Tensor], share: torch.Tensor | float) -> None:
    """slow <- slow + share (fast - slow), for all tensors at once: a GPU then has a few kernels to start, not hundreds.

    Args:
        slow: what moves, in place.
        fast: as many tensors of the same shapes.
        share: of the way, a number or a scalar.
    """
    means: list[Any] = [*slow]
    distances: Any = torch._foreach_sub([*fast], means)
    torch._foreach_mul_(distances, share)
    torch._foreach_add_(means, distances)
