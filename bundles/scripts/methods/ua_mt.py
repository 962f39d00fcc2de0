"""UA-MT: a mean teacher that is asked only where it is sure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from ..losses import segmentation_loss
from ..networks import SegmentationNet
from ..settings import expect_at_least
from .base import RAMPS
from .parts.mean_teacher import MeanTeacher
from .parts.strong_views import add_noise

# The share of the largest entropy up to which a voxel counts, at the start and at the end of the training.
FIRST_SHARE, LAST_SHARE = 0.75, 1.0
BINARY = 2  # the classes of the paper's own task


class UAMT(MeanTeacher):
    """Uncertainty-aware mean teacher ("Uncertainty-aware Self-ensembling Model for Semi-supervised 3D Left Atrium
    Segmentation", MICCAI 2019).

    L = L_seg(student(x_l), y) + weight * ramp(t) * sum(m |p_student - p_teacher|^2) / (C sum(m)),
    m = [entropy of the mean of noisy passes < (3/4 + ramp(t) / 4) ln C]

    on the unlabelled images. The teacher sees them with noise; its dropout, where the network has any, is on.

    Args:
        predictor: the student.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        teacher_decay: share of its own weights that the teacher keeps at every step; the rest is the student's.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
        passes: noisy passes of the teacher that the entropy is taken from.
        noise: standard deviation of the noise; it is clipped at twice that.
        as_released: keep the 2 of the paper's binary task in place of C, as the released multi-class ports do: a
            threshold of ln 2 at most, and a larger loss.

    Raises:
        UserError: not one pass.
    """

    network = SegmentationNet
    published_lr: ClassVar[dict[int, float]] = {2: 0.01, 3: 0.03}
    published: ClassVar[dict[str, Any]] = {"as_released": True}
    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {**MeanTeacher.tuning, "noise": (0.05, 0.2)}

    def __init__(
        self,
        predictor: SegmentationNet,
        unsup_weight: float = 0.1,
        ramp: str = "sigmoid",
        ramp_length: float = 1.0,
        teacher_decay: float = 0.99,
        absent: str = "skip",
        passes: int = 8,
        noise: float = 0.1,
        as_released: bool = False,
    ) -> None:
        super().__init__(
            predictor, unsup_weight=unsup_weight, ramp=ramp, ramp_length=ramp_length, teacher_decay=teacher_decay
        )
        expect_at_least("method ua_mt, passes", passes, 1)
        self.absent, self.passes, self.noise = absent, passes, noise
        self.classes = BINARY if as_released else predictor.num_classes + 1

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """See `Method.forward`."""
        logits = self.predictor(image if image_u is None else torch.cat([image, image_u]))
        loss = segmentation_loss(logits[: len(image)], label, absent=self.absent)
        losses = {"loss_supervised": loss}
        if image_u is not None:
            target, sure = self._ask(image_u, progress)
            squares = (logits[len(image) :].float().softmax(1) - target).square().sum(1)
            losses["loss_consistency"] = (squares * sure).sum() / (self.classes * sure.sum().clamp_min(1))
            loss = loss + self.ramped_weight(progress) * losses["loss_consistency"]
        return {"loss": loss, **losses}

    @torch.no_grad()
    def _ask(self, image_u: torch.Tensor, progress: torch.Tensor | float) -> tuple[torch.Tensor, torch.Tensor]:
        """The teacher's probabilities [B, C, *spatial] of [B, C_in, *spatial], and where it is sure [B, *spatial]."""
        mean = self._noisy(image_u)
        for _ in range(self.passes - 1):  # added up one by one: memory does not grow with their number
            mean = mean + self._noisy(image_u)
        mean = mean / self.passes
        entropy = torch.special.entr(mean).sum(1)
        share = FIRST_SHARE + (LAST_SHARE - FIRST_SHARE) * RAMPS[self.ramp](progress, self.ramp_length)
        return self._noisy(image_u), entropy < share * math.log(self.classes)

    def _noisy(self, image_u: torch.Tensor) -> torch.Tensor:
        probabilities: torch.Tensor = self.teacher(add_noise(image_u, self.noise)).float().softmax(1)
        return probabilities
