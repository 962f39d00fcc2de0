"""A training step: losses, gradients, weights and averages. The device never waits for the host in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from monai.engines.utils import IterationEvents
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ..methods.base import Method
from ..networks import autocast_dtype
from .health import NORM, NotFiniteError

Batch = Mapping[str, torch.Tensor]
MOST_PARTS = 32  # losses of a step that are kept for a message


class Step:
    """One step after the other of a method on its device.

    What changes from step to step is told before, by `begin`, and lies on the device: the share of the training, the
    number of the step, the learning rates. A step is then the same work each time, of the same shapes, as long as the
    batches and the method's form are (`graphs.Replayed` makes use of it). On a CPU, where reading costs nothing, a
    loss or gradient that is not finite ends the step before any weight changes; elsewhere `expect_finite` tells later.

    Args:
        network: the method, or a DistributedDataParallel around it.
        optimizer: of the method's parameters.
        device: of all of them.
        amp: use the reduced precision of `autocast_dtype`.
        tell: is called with MONAI's events within a step.
        clip_gradient_norm: a longer gradient is shortened to this length; None leaves it.

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
        clip_gradient_norm: float | None = None,
    ) -> None:
        self.network, self.optimizer, self.device, self.tell = network, optimizer, device, tell
        self.method: Method = network.module if isinstance(network, DistributedDataParallel) else network
        self.dtype = autocast_dtype(device) if amp else None
        self.grad_scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.progress = torch.zeros((), dtype=torch.float64, device=device)
        self.number = torch.zeros((), dtype=torch.long, device=device)
        self.clip_gradient_norm = clip_gradient_norm
        self.reads_at_once = device.type == "cpu"
        self.failed = torch.zeros((), dtype=torch.long, device=device)  # the first step that was not finite
        self.found = torch.zeros(MOST_PARTS, device=device)  # its losses, in the order of `parts`
        self.parts: list[str] = []
        self.rates = [torch.zeros((), device=device) for _ in optimizer.param_groups]

    def begin(self, number: int, progress: float) -> int:
        """Get ready for the step of this number, counted from 1, at this share of the training; returns its form."""
        self.number.fill_(number)
        self.progress.fill_(progress)
        for rate, group in zip(self.rates, self.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        return self.method.enter(progress)

    def __call__(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Take the step on a batch {"image", "label"[, "image_u"]} on the device; its losses, detached, and `NORM`."""
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            losses = self.network(batch["image"], batch["label"][:, 0].long(), batch.get("image_u"), self.progress)
        loss = losses["loss"]
        self.tell(IterationEvents.LOSS_COMPLETED)
        values = {name: value.detach() for name, value in losses.items()}
        if self.reads_at_once:
            self._note(values, loss.isfinite())
            self.expect_finite()
        self.grad_scaler.scale(loss).backward()
        self.tell(IterationEvents.BACKWARD_COMPLETED)
        values[NORM] = self._gradient_norm()
        finite = loss.isfinite()
        if not self.grad_scaler.is_enabled():  # which looks for gradients that are not finite, and skips their steps
            finite = finite & values[NORM].isfinite()
        self._note(values, finite)
        if self.reads_at_once:
            self.expect_finite()
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        self.method.after_step(self.progress)
        if self.method.average is not None:
            self.method.average.update_parameters(self.method.predictor)
        return values

    def _gradient_norm(self) -> torch.Tensor:
        """The length of the whole gradient; a longer one than allowed is shortened."""
        self.grad_scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
        if self.clip_gradient_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.clip_gradient_norm, norm)
        return norm

    def _note(self, values: Mapping[str, torch.Tensor], finite: torch.Tensor) -> None:
        """Keep the number and the values of the first step that is not finite, on the device."""
        self.parts = list(values)
        first = finite.logical_not() & (self.failed == 0)
        self.failed.copy_(torch.where(first, self.number, self.failed))
        found = self.found[: len(values)]
        found.copy_(torch.where(first, torch.stack([value.float() for value in values.values()]), found))

    def expect_finite(self) -> None:
        """Wait for the steps so far.

        Raises:
            NotFiniteError: a loss or gradient of one of them was not finite.
        """
        if failed := int(self.failed):
            raise NotFiniteError(failed, dict(zip(self.parts, self.found.tolist(), strict=False)))

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
