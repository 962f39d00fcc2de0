"""Basak et al.: a teacher's pseudo-labels, fewer of them for the classes that the student already masters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from ..losses import segmentation_loss, voxel_cross_entropy
from ..networks import SegmentationNet
from .parts.class_balance import keep_at_random
from .parts.difficulty import PerformanceBank
from .parts.mean_teacher import MeanTeacher


class Basak(MeanTeacher):
    """Dynamic class-wise sampling ("Addressing Class Imbalance in Semi-supervised Image Segmentation: A Study on
    Cardiac MRI", MICCAI 2022).

    L = L_seg(student(x_l), y) + weight * ramp(t) * mean(keep * p^confidence_power * CE(student(x_u), pseudo-label)) / 2

    The pseudo-label is the argmax of the teacher, a moving average of the student, and p its probability. A voxel is
    kept at the rate of its pseudo-label's class, ((1 - rating) / max)^power, with the rating of `PerformanceBank`. The
    loss is half of the paper's (Dice + CE + weight * CE), so that one learning rate suits all methods.

    Args:
        predictor: the student.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        teacher_decay: share of its own weights that the teacher keeps at every step; the rest is the student's.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
        ranked: how many of the worst classes count in each score of the rating.
        decay: share that the moving averages of the scores keep of themselves at every batch.
        power: exponent of the rates at which voxels are kept; 0 keeps all of them.
        confidence_power: exponent of the teacher's probability; 0 counts all kept voxels alike.
    """

    network = SegmentationNet
    published_lr: ClassVar[dict[int, float]] = {2: 0.01, 3: 0.03}
    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {**MeanTeacher.tuning, "power": (1.5, 4.0)}

    def __init__(
        self,
        predictor: SegmentationNet,
        unsup_weight: float = 0.1,
        ramp: str = "sigmoid",
        ramp_length: float = 1.0,
        teacher_decay: float = 0.99,
        absent: str = "skip",
        ranked: int = 12,
        decay: float = 0.99,
        power: float = 2.5,
        confidence_power: float = 1.5,
    ) -> None:
        super().__init__(
            predictor, unsup_weight=unsup_weight, ramp=ramp, ramp_length=ramp_length, teacher_decay=teacher_decay
        )
        self.absent, self.power, self.confidence_power = absent, power, confidence_power
        self.bank = PerformanceBank(predictor.num_classes, ranked, decay)

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """See `Method.forward`."""
        logits = self.predictor(image if image_u is None else torch.cat([image, image_u]))
        labelled = logits[: len(image)]
        self.bank.update(labelled.detach(), label)
        loss = segmentation_loss(labelled, label, absent=self.absent)
        losses = {"loss_supervised": loss}
        if image_u is not None:
            pseudo, weight = self._label(image_u)
            losses["loss_unlabelled"] = 0.5 * (voxel_cross_entropy(logits[len(image) :], pseudo) * weight).mean()
            loss = loss + self.ramped_weight(progress) * losses["loss_unlabelled"]
        return {"loss": loss, **losses}

    @torch.no_grad()
    def _label(self, image_u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The teacher's pseudo-labels of [B, C_in, *spatial] and the weights of their voxels, both [B, *spatial]."""
        probability, pseudo = self.teacher(image_u).float().softmax(1).max(1)
        kept = keep_at_random(self.bank.rates(self.power), pseudo)
        return pseudo, kept * probability**self.confidence_power
