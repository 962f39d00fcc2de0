"""The trainer of all methods: MONAI's trainer with two streams, autocast on CPU and GPU, and a schedule per step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from ignite.metrics import Metric
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents, default_metric_cmp_fn
from monai.inferers import Inferer
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ..checkpoints import save_atomically
from ..data.streams import TwoStreamLoader
from ..errors import UserError, first_few
from ..methods.base import Method
from ..networks import miscomputed_in_bfloat16, recompute_finest_levels
from ..settings import as_flag, expect_at_least
from .graphs import CudaGraphs, Replayed, obstacle
from .health import GradientNorms, NotFiniteError
from .step import Batch, Step

logger = logging.getLogger(__name__)

CHECK_EVERY = 25  # steps on a GPU; reading waits for the steps that are under way


class SemiSupervisedTrainer(SupervisedTrainer):
    """Trains a `Method` on labelled and unlabelled batches.

    A step is: the method's losses under autocast, backward, the optimizer's step, the method's own update (all of this
    is `step.Step`), and the schedule's step. `progress`, the share of the training that is done, is all a method knows
    of the time. What is random in a step, such as dropout and mixing, depends only on its number, on one process and on
    several.

    A loss or gradient that is not finite ends the training: one line names the step, the part of the loss and the
    images, and the state at that moment goes into `failure_file`. No other file is touched: the best model, and what a
    run resumes from, are of earlier steps. On a GPU the host only starts the steps: it looks every `CHECK_EVERY` steps
    and at the end of an epoch, before anything is validated or saved.

    `network` is the method's predictor. That is what federated learning exchanges: the rest of what a method remembers,
    such as teachers and banks of features, stays where its images are.

    Args:
        device: where to run.
        max_epochs: epochs; an epoch is one pass of `train_data_loader`.
        train_data_loader: yields {"image", "label"} and, where there are unlabelled cases, "image_u".
        method: what is trained, or a DistributedDataParallel around it.
        optimizer: of the method's parameters.
        lr_scheduler: stepped once per step; None keeps the learning rate.
        amp: use the reduced precision of `autocast_dtype`.
        checkpointing: take less memory and more time (see `networks.checkpointing`).
        clip_gradient_norm: a longer gradient is shortened to this length; None leaves it.
        federated_rounds: how often a federated learning runs this training, by `max_epochs` more each time; the
            schedules are as long as all of them.
        failure_file: where the state goes if the numbers are no longer finite; several processes have one each.
        cuda_graphs: on a GPU, capture a step and replay it (see `graphs`), where the method allows it.
        inferer: MONAI's key `train::inferer`; methods call their networks themselves.
        key_train_metric, additional_metrics, metric_cmp_fn, train_handlers: as in MONAI's SupervisedTrainer.

    Raises:
        UserError: less than one epoch; a loss or gradient is no longer finite; a training that goes on beyond its
            schedules.
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
        clip_gradient_norm: float | None = None,
        federated_rounds: int = 1,
        failure_file: str | Path | None = None,
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
            train_handlers=[GradientNorms(), *(train_handlers or [])],
            amp=False,  # MONAI's autocast knows only CUDA
            decollate=False,
        )
        device = torch.device(device)
        self.step = Step(method, optimizer, device, as_flag("amp", amp), self.fire_event, clip_gradient_norm)
        self.method, self.grad_scaler = self.step.method, self.step.grad_scaler
        self.network = self.method.predictor
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
        self.total_steps = federated_rounds * max_epochs * len(train_data_loader)
        self.failure_file = None if failure_file is None else Path(failure_file)
        self.form = 0
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
        if number > self.total_steps:
            raise UserError(
                f"training: expected at most {self.total_steps} steps, the length of the schedules, found one more; "
                "set `federated_rounds` to the number of rounds"
            )
        torch.manual_seed(self.loader.step_seed(number - 1))
        batch = {k: v.to(self.state.device, non_blocking=True) for k, v in batchdata.items()}
        if self.step.dtype == torch.bfloat16 and miscomputed_in_bfloat16(batch["image"]):
            logger.warning("torch computes wrong gradients in bfloat16 for this patch size on a CPU: using float32")
            self.step.dtype = None
        try:
            losses = self._take_step(batch, number)
        except NotFiniteError as failure:
            raise self._explained(failure) from None
        if self.lr_scheduler is not None:
            self.lr_scheduler.step()
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return losses

    def _take_step(self, batch: Batch, number: int) -> dict[str, torch.Tensor]:
        form = self.step.begin(number, (number - 1) / self.total_steps)
        if form != self.form:
            self.step.expect_finite()  # while the names of its losses are known
            self.form = form
        losses = self.take(batch, form)
        if number % self.check_every == 0 or number % len(self.loader) == 0:
            self.step.expect_finite()
        return losses

    def _explained(self, failure: NotFiniteError) -> UserError:
        """The same with the images of that step and the place of the state, which is saved here."""
        images = list(dict.fromkeys(self.loader.images(failure.step - 1)))
        more = f", in a batch of {first_few(images, 8)}"
        if self.failure_file is not None:
            rank = self.state.rank
            path = self.failure_file.with_stem(f"{self.failure_file.stem}_{rank}") if rank else self.failure_file
            about = {"step": failure.step, "epoch": self.state.epoch, "values": dict(failure.values), "images": images}
            state = {"method": self.method.state_dict(), "optimizer": self.optimizer.state_dict()}
            try:
                save_atomically(about | state, path)
                more += f" (the state is in {path})"
            except UserError as error:
                more += f" (the state is not saved: {error})"
        return NotFiniteError(failure.step, failure.values, more)
