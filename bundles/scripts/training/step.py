"""A training step: losses, gradients, weights and averages. The device never waits for the host in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from monai.engines.utils import IterationEvents
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ..errors import UserError
from ..methods.base import Method
from ..networks import autocast_dtype

Batch = Mapping[str, torch.Tensor]


class Step:
    """One step after the other of a method on its device.

    What changes from step to step is told before, by `begin`, and lies on the device: the share of the training, the
    number of the step, the learning rates. A step is then the same work each time, of the same shapes, as long as the
    batches and the method's form are (`graphs.Replayed` makes use of it). On a CPU, where reading costs nothing, a
    loss that is not finite ends the step; elsewhere `expect_finite` tells later.

    Args:
        network: the method, or a DistributedDataParallel around it.
        optimizer: of the method's parameters.
        device: of all of them.
        amp: use the reduced precision of `autocast_dtype`.
        tell: is called with MONAI's events within a step.

    Attributes:
        method: the method itself.
        dtype: of the autocast; None for float32.
        grad_scaler: at work in float16 only.
    """

    def __init__(
        self,
        network: Method | DistributedDataParallel,
        optimizer: Optimizer,
        device: torch.device,
        amp: bool = True,
        tell: Callable[[IterationEvents], object] = lambda event: None,
    ) -> None:
        self.network, self.optimizer, self.device, self.tell = network, optimizer, device, tell
        self.method: Method = network.module if isinstance(network, DistributedDataParallel) else network
        self.dtype = autocast_dtype(device) if amp else None
        self.grad_scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.progress = torch.zeros((), dtype=torch.float64, device=device)
        self.number = torch.zeros((), dtype=torch.long, device=device)
        self.failed = torch.zeros((), dtype=torch.long, device=device)  # the first step whose loss was not finite
        self.rates = [torch.zeros((), device=device) for _ in optimizer.param_groups]

    def begin(self, number: int, progress: float) -> int:
        """Get ready for the step of this number, counted from 1, at this share of the training; returns its form."""
        self.number.fill_(number)
        self.progress.fill_(progress)
        for rate, group in zip(self.rates, self.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        return self.method.enter(progress)

    def __call__(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Take the step on a batch {"image", "label"[, "image_u"]} on the device; returns its losses, detached."""
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            losses = self.network(batch["image"], batch["label"][:, 0].long(), batch.get("image_u"), self.progress)
        loss = losses["loss"]
        self.tell(IterationEvents.LOSS_COMPLETED)
        first_failure = loss.isfinite().logical_not() & (self.failed == 0)
        self.failed.copy_(torch.where(first_failure, self.number, self.failed))
        if self.device.type == "cpu":
            self.expect_finite()
        self.grad_scaler.scale(loss).backward()
        self.tell(IterationEvents.BACKWARD_COMPLETED)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        self.method.after_step(self.progress)
        if self.method.average is not None:
            self.method.average.update_parameters(self.method.predictor)
        return {name: value.detach() for name, value in losses.items()}

    def expect_finite(self) -> None:
        """Wait for the steps so far.

        Raises:
            UserError: the loss of one of them was not finite.
        """
        if failed := int(self.failed):
            raise UserError(
                f"training: expected a finite loss, found NaN or infinity at step {failed}; lower `lr`, or look for "
                "extreme values in the images"
            )

    @contextmanager
    def rates_on_device(self) -> Iterator[None]:
        """Within this context the optimizer reads its learning rates on the device, where `begin` puts them."""
        groups = self.optimizer.param_groups
        numbers = [group["lr"] for group in groups]
        for group, rate in zip(groups, self.rates, strict=True):
            group["lr"] = rate
        try:
            yield
        finally:
            for group, number in zip(groups, numbers, strict=True):
                group["lr"] = number
