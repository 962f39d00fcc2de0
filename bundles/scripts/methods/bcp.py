"""BCP: boxes of labelled images in unlabelled ones, and the other way round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from ..networks import SegmentationNet
from .parts.copy_paste import COMPONENTS, LABELS_ONLY, component_labels, labelled_loss, labelled_regions, mix, pairs
from .parts.mean_teacher import MeanTeacher


class BCP(MeanTeacher):
    """Bidirectional copy-paste ("Bidirectional Copy-Paste for Semi-Supervised Medical Image Segmentation", CVPR 2023).

    Every image that the network learns from is a mixture of a labelled and an unlabelled one: the one gives a box, the
    other what surrounds it, in turns. With R the region of the labelled image,

        L = L_seg(student(x), y; R) + weight * L_seg(student(x), pseudo-label; not R)

    where the pseudo-label is the largest connected part of each class in the teacher's argmax of the unmixed image. The
    paper sums over both directions, 2 L_seg(y) + L_seg(pseudo-label); here both are one batch with half of that loss.

    At first, for the share `pretraining` of the training, and where there are no unlabelled images, boxes of labelled
    images are pasted into each other, with L = L_seg(student(x), y; box) + L_seg(student(x), y; not box).

    Args:
        predictor: the student.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        teacher_decay: share of its own weights that the teacher keeps at every step; the rest is the student's.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
        pretraining: share of the training on labelled images only.
        box: side of the box, as a share of the image's.
    """

    network = SegmentationNet
    waits = COMPONENTS
    published_3d: ClassVar[dict[str, Any]] = {"pretraining": 2_000 / 17_000}
    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {
        "unsup_weight": (0.25, 1.0),
        "teacher_decay": (0.98, 0.995),
        "pretraining": (0.1,),
        "box": (0.5,),
    }

    def __init__(
        self,
        predictor: SegmentationNet,
        unsup_weight: float = 0.5,
        ramp: str = "constant",
        ramp_length: float = 1.0,
        teacher_decay: float = 0.99,
        absent: str = "skip",
        pretraining: float = 0.25,
        box: float = 2 / 3,
    ) -> None:
        super().__init__(
            predictor, unsup_weight=unsup_weight, ramp=ramp, ramp_length=ramp_length, teacher_decay=teacher_decay
        )
        self.num_classes = predictor.num_classes
        self.absent, self.pretraining, self.box = absent, pretraining, box

    @property
    def changes(self) -> tuple[float, ...]:
        """See `Method.changes`: after the part on labels only."""
        return (self.pretraining,)

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """See `Method.forward`."""
        if image_u is None or self.form == LABELS_ONLY:
            return {"loss": labelled_loss(self.predictor, image, label, self.box, self.absent)}
        pseudo = self._label(image_u)
        labelled, unlabelled = pairs(len(image), len(image_u), image.device)
        region = labelled_regions(image_u[unlabelled], self.box)
        mixture = mix(image[labelled], label[labelled], image_u[unlabelled], pseudo[unlabelled], region)
        losses = mixture.losses(self.predictor(mixture.image), self.absent)
        return {"loss": losses["loss_supervised"] + self.ramped_weight(progress) * losses["loss_unlabelled"], **losses}

    @torch.no_grad()
    def _label(self, image_u: torch.Tensor) -> torch.Tensor:
        """The teacher's pseudo-labels [B, *spatial] of [B, C_in, *spatial]."""
        return component_labels(self.teacher(image_u), self.num_classes)
