"""One decoder with all that DCA has besides its experts: the control that tells what the experts add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from ..losses import segmentation_loss
from ..networks import SegmentationNet
from .parts.deep_supervision import at_all_levels
from .parts.mean_teacher import MeanTeacher
from .parts.mixing import paste_either_way
from .parts.pseudo_labels import hard_labels
from .parts.strong_views import change_intensities


class MeanTeacherCopyPaste(MeanTeacher):
    """A mean teacher and copy-paste around the plain network, as DCA has them, in one joint batch.

    L = L_seg(student(x_l), y) + weight * ramp(t) * L_seg(student(x'), y')

    x' is an unlabelled image with a box out of a labelled one, or that image around the box, by turns of chance; y' is
    mixed alike from the label and the argmax of the teacher on the whole unlabelled image. This is no published method:
    what DCA is ahead of it by is due to the experts and their aggregation.

    Args:
        predictor: the student.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        teacher_decay: share of its own weights that the teacher keeps at every step; the rest is the student's.
        jitter: strength of `change_intensities` on all that the student is shown, but not its teacher; 0: none.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
    """

    network = SegmentationNet
    published_lr: ClassVar[dict[int, float]] = {}  # that of DCA, whose control it is
    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {
        "unsup_weight": (0.5, 2.0),
        "ramp_length": (1.0,),
        "teacher_decay": (0.98, 0.995),
        "jitter": (0.2, 0.4),
    }

    def __init__(
        self,
        predictor: SegmentationNet,
        unsup_weight: float = 1.0,
        ramp: str = "sigmoid",
        ramp_length: float = 0.4,
        teacher_decay: float = 0.99,
        jitter: float = 0.0,
        absent: str = "skip",
    ) -> None:
        super().__init__(
            predictor, unsup_weight=unsup_weight, ramp=ramp, ramp_length=ramp_length, teacher_decay=teacher_decay
        )
        self.predictor: SegmentationNet = predictor
        self.jitter, self.absent = jitter, absent

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """See `Method.forward`."""
        images, target = image, label[:0]
        if image_u is not None:
            with torch.no_grad():
                pseudo = hard_labels(self.teacher(image_u))
            mixed, target = paste_either_way(image_u, pseudo, image, label)
            images = torch.cat([image, mixed])
        if self.jitter > 0:
            images = change_intensities(images, self.jitter)
        outputs = self.predictor.outputs(images)
        loss = at_all_levels(self._loss, [logits[: len(image)] for logits in outputs], label)
        losses = {"loss_supervised": loss}
        if image_u is not None:
            losses["loss_mixed"] = at_all_levels(self._loss, [logits[len(image) :] for logits in outputs], target)
            loss = loss + self.ramped_weight(progress) * losses["loss_mixed"]
        return {"loss": loss, **losses}

    def _loss(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return segmentation_loss(logits, target, absent=self.absent)
