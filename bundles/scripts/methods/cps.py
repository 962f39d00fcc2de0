"""Cross pseudo supervision (CPS)."""

from __future__ import annotations

import torch

from ..losses import cross_entropy
from .parts.cross_pseudo import CrossPseudo


class CPS(CrossPseudo):
    """Cross pseudo supervision ("Semi-Supervised Semantic Segmentation with Cross Pseudo Supervision", CVPR 2021).

    In 2D, as in the code that the tables of cardiac MR compare with,

        L = sum over both networks L_seg(own logits, y) + weight * ramp(t) * CE(own logits(x_u), the other's argmax)

    on the unlabelled images only, with L_seg = (Dice + CE) / 2 beside a whole CE. In 3D the loss is `CrossPseudo`'s.

    Args:
        predictor: the TwinNet.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
    """

    def observe(self, logits: list[torch.Tensor], pseudo: list[torch.Tensor], label: torch.Tensor) -> None:
        """See `CrossPseudo.observe`."""
        self.labelled = len(label)

    def cross_loss(
        self, side: int, logits: torch.Tensor, pseudo: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        """See `CrossPseudo.cross_loss`."""
        if self.predictor.first.spatial_dims == 3 or self.labelled == len(logits):
            return super().cross_loss(side, logits, pseudo, weight)
        return 2.0 * cross_entropy(logits[self.labelled :], pseudo[self.labelled :], weight)
