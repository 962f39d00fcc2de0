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
from ..errors import UserError
from ..methods.base import Method
from ..networks import autocast_dtype, miscomputed_in_bfloat16, recompute_finest_levels
from ..settings import as_flag

logger = logging.getLogger(__name__)


class SemiSupervisedTrainer(SupervisedTrainer):
    """Trains a `Method` on labelled and unlabelled batches.

    A step is: the method's losses under autocast, backward, the optimizer's step, the schedule's step, and the method's
    own update. `progress`, the share of the training that is done, is all a method knows of the time. What is random in
    a step, such as dropout and mixing, depends only on its batch, on one process and on several.

    Args:
        device: where to run.
        max_epochs: epochs; an epoch is one pass of `train_data_loader`.
        train_data_loader: yields {"image", "label"} and, where there are unlabelled cases, "image_u".
        method: what is trained, or a DistributedDataParallel around it.
        optimizer: of the method's parameters.
        lr_scheduler: stepped once per step; None keeps the learning rate.
        amp: use the reduced precision of `autocast_dtype`.
        checkpointing: take less memory and more time (see `networks.checkpointing`).
        inferer: MONAI's key `train::inferer`; methods call their networks themselves.
        key_train_metric, additional_metrics, metric_cmp_fn, train_handlers: as in MONAI's SupervisedTrainer.

    Raises:
        UserError: the loss is no longer finite.
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
        inferer: Inferer | None = None,
        key_train_metric: dict[str, Metric] | None = None,
        additional_metrics: dict[str, Metric] | None = None,
        metric_cmp_fn: Callable[[float, float], bool] = default_metric_cmp_fn,
        train_handlers: Sequence[Any] | None = None,
    ) -> None:
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
        self.method: Method = method.module if isinstance(method, DistributedDataParallel) else method
        if as_flag("checkpointing", checkpointing):
            recompute_finest_levels(self.method)
        self.lr_scheduler = lr_scheduler
        self.autocast_dtype = autocast_dtype(device) if as_flag("amp", amp) else None
        if self.autocast_dtype == torch.float16:
            logger.info("this GPU has no instructions for bfloat16: using float16 with a scaled loss")
        self.grad_scaler = torch.amp.GradScaler(torch.device(device).type, enabled=self.autocast_dtype == torch.float16)
        self.loader = train_data_loader
        self.total_steps = max_epochs * len(train_data_loader)
        self.add_event_handler(Events.EPOCH_STARTED, lambda: train_data_loader.set_epoch(self.state.epoch - 1))

    def _iteration(self, engine: SupervisedTrainer, batchdata: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        torch.manual_seed(self.loader.step_seed(self.state.iteration - 1))
        batch = {k: v.to(self.state.device, non_blocking=self.non_blocking) for k, v in batchdata.items()}
        progress = (self.state.iteration - 1) / self.total_steps
        if self.autocast_dtype == torch.bfloat16 and miscomputed_in_bfloat16(batch["image"]):
            logger.warning("torch computes wrong gradients in bfloat16 for this patch size on a CPU: using float32")
            self.autocast_dtype = None
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.state.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None):
            losses = self.network(batch["image"], batch["label"][:, 0].long(), batch.get("image_u"), progress)
        loss = losses["loss"]
        self.fire_event(IterationEvents.LOSS_COMPLETED)
        if not torch.isfinite(loss):
            raise UserError(
                f"training: expected a finite loss, found {loss.item()} at step {self.state.iteration}; "
                "lower `lr`, or look for extreme values in the images"
            )
        self.grad_scaler.scale(loss).backward()
        self.fire_event(IterationEvents.BACKWARD_COMPLETED)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        if self.lr_scheduler is not None:
            self.lr_scheduler.step()
        self.method.after_step(progress)
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return {name: value.detach() for name, value in losses.items()}
