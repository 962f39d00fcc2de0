"""A teacher that follows the network as a moving average of its weights (Tarvainen and Valpola): its base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from ...networks import MovingAverage
from ..base import SemiSupervised


class MeanTeacher(SemiSupervised):
    """A semi-supervised method with a teacher, updated after every step. The teacher never receives a gradient.

    Like all that belongs to a method, the teacher is in training mode: its normalisation takes the statistics of its
    own batch, and its dropout is on, as in the mean teachers of the field.

    Args:
        predictor: the student.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        teacher_decay: share of its own weights that the teacher keeps at every step; the rest is the student's.
    """

    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {**SemiSupervised.tuning, "teacher_decay": (0.98, 0.995)}

    def __init__(
        self,
        predictor: nn.Module,
        unsup_weight: float = 1.0,
        ramp: str = "sigmoid",
        ramp_length: float = 1.0,
        teacher_decay: float = 0.99,
    ) -> None:
        super().__init__(predictor, unsup_weight=unsup_weight, ramp=ramp, ramp_length=ramp_length)
        self.teacher = MovingAverage(predictor, teacher_decay)

    @torch.no_grad()
    def after_step(self, progress: torch.Tensor | float) -> None:
        """See `Method.after_step`."""
        self.teacher.update_parameters(self.predictor)
