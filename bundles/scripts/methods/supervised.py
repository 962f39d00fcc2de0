"""Training on labels only: the reference that every semi-supervised method must beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from ..losses import segmentation_loss
from ..networks import SegmentationNet
from .base import Method
from .parts.deep_supervision import at_all_levels


class Supervised(Method):
    """L_seg of one network on the labelled batch; unlabelled images are not looked at.

    With all patients labelled (`percent` 100) it is the fully supervised bound.

    Args:
        predictor: the network.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
    """

    network = SegmentationNet
    unlabelled = False
    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {"absent": ("smooth", "probability")}

    def __init__(self, predictor: SegmentationNet, absent: str = "skip") -> None:
        super().__init__(predictor)
        self.predictor: SegmentationNet = predictor
        self.absent = absent

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """See `Method.forward`."""
        return {"loss": at_all_levels(self._loss, self.predictor.outputs(image), label)}

    def _loss(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return segmentation_loss(logits, label, absent=self.absent)
