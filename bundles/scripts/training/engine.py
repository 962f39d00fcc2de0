"""The trainer of all methods: MONAI's trainer with two streams, autocast on CPU and GPU, and a schedule per step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.engine import Events
from ignite.metrics import Metric
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents, default_metric_cmp_fn
from monai.inferers import Inferer
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ..data.streams import TwoStreamLoader
from ..methods.base import Method
from ..networks import miscomputed_in_bfloat16, recompute_finest_levels
from ..settings import as_flag, expect_at_least
from .graphs import CudaGraphs, Replayed, obstacle
from .step import Batch, Step

logger = logging.getLogger(__name__)

CHECK_EVERY = 25  # steps on a GPU; reading waits for the steps that are under way


class SemiSupervisedTrainer(SupervisedTrainer):
    """Trains a `Method` on labelled and unlabelled batches.

    A step is: the method's losses under autocast, backward, the optimizer's step, the method's own update (all of this
    is `step.Step`), and the schedule's step. `progress`, the share of the training that is done, is all a method knows
    of the time. What is random in a step, such as dropout and mixing, depends only on its number, on one process and on
    several.

    On a GPU the host only starts the steps: it reads whether the losses are finite every `CHECK_EVERY` steps and at the
    end of an epoch, before anything is validated or saved.

    Args:
        device: where to run.
        max_epochs: epochs; an epoch is one pass of `train_data_loader`.
        train_data_loader: yields {"image", "label"} and, where there are unlabelled cases, "image_u".
        method: what is trained, or a DistributedDataParallel around it.
        optimizer: of the method's parameters.
        lr_scheduler: stepped once per step; None keeps the learning rate.
        amp: use the reduced precision of `autocast_dtype`.
        checkpointing: take less memory and more time (see `networks.checkpointing`).
        cuda_graphs: on a GPU, capture a step and replay it (see `graphs`), where the method allows it.
        inferer: MONAI's key `train::inferer`; methods call their networks themselves.
        key_train_metric, additional_metrics, metric_cmp_fn, train_handlers: as in MONAI's SupervisedTrainer.

    Raises:
        UserError: less than one epoch; the loss is no longer finite.
    """

    def __init__(
        self,
        device: torch.device,
        max_epochs: int,
        train_data_loader: TwoStreamLoader,
        method: Method | DistributedDataParallel,
        optimizer: Optimizer,
        lr_scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
        amp: bool = True,
        checkpointing: bool = False,
        cuda_graphs: bool = True,
        inferer: Inferer | None = None,
        key_train_metric: dict[str, Metric] | None = None,
        additional_metrics: dict[str, Metric] | None = None,
        metric_cmp_fn: Callable[[float, float], bool] = default_metric_cmp_fn,
        train_handlers: Sequence[Any] | None = None,
    ) -> None:
        expect_at_least("max_epochs", max_epochs, 1)
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=method,
            optimizer=optimizer,
            loss_function=torch.nn.Identity(),
            inferer=inferer,
            key_train_metric=key_train_metric,
            additional_metrics=additional_metrics,
            metric_cmp_fn=metric_cmp_fn,
            train_handlers=train_handlers,
            amp=False,  # MONAI's autocast knows only CUDA
            decollate=False,
        )
        device = torch.device(device)
        self.step = Step(method, optimizer, device, as_flag("amp", amp), tell=self.fire_event)
        self.method, self.grad_scaler = self.step.method, self.step.grad_scaler
        self.checkpointing = as_flag("checkpointing", checkpointing)
        if self.checkpointing:
            recompute_finest_levels(self.method)
        self.lr_scheduler = lr_scheduler
        self.cuda_graphs = as_flag("cuda_graphs", cuda_graphs) and device.type == "cuda"
        self.check_every = CHECK_EVERY if device.type == "cuda" else 1
        if self.step.dtype == torch.float16:
            logger.info("this GPU has no instructions for bfloat16: using float16 with a scaled loss")
        self.loader = train_data_loader
        self.take: Callable[[Batch, int], dict[str, torch.Tensor]] = lambda batch, form: self.step(batch)
        self.total_steps = max_epochs * len(train_data_loader)
        self.add_event_handler(Events.STARTED, self._choose_a_way)
        self.add_event_handler(Events.EPOCH_STARTED, lambda: train_data_loader.set_epoch(self.state.epoch - 1))

    def _choose_a_way(self) -> None:
        """Take steps one by one, as before, or by replaying one."""
        if not self.cuda_graphs:
            return
        events = (IterationEvents.LOSS_COMPLETED, IterationEvents.BACKWARD_COMPLETED)
        reason = obstacle(self.step)
        if self.checkpointing:
            reason = "checkpointing asks for the state of the random numbers"
        elif any(self._event_handlers[event] for event in events):
            reason = "handlers listen within a step"
        if reason:
            logger.info("training: no CUDA graph of a step: %s", reason)
        else:
            self.take = Replayed(self.step, CudaGraphs(self.step.device))

    def _iteration(self, engine: SupervisedTrainer, batchdata: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        number = self.state.iteration
        torch.manual_seed(self.loader.step_seed(number - 1))
        batch = {k: v.to(self.state.device, non_blocking=True) for k, v in batchdata.items()}
        if self.step.dtype == torch.bfloat16 and miscomputed_in_bfloat16(batch["image"]):
            logger.warning("torch computes wrong gradients in bfloat16 for this patch size on a CPU: using float32")
            self.step.dtype = None
        form = self.step.begin(number, (number - 1) / self.total_steps)
        losses = self.take(batch, form)
        if self.lr_scheduler is not None:
            self.lr_scheduler.step()
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        if number % self.check_every == 0 or number % len(self.loader) == 0:
            self.step.expect_finite()
        return losses
