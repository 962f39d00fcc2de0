"""Cross pseudo supervision: two networks, each of which learns from what the other one says."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from ...losses import cross_entropy, segmentation_loss
from ...networks import TwinNet
from ..base import SemiSupervised
from .pseudo_labels import hard_labels


class CrossPseudo(SemiSupervised):
    """The common part of all methods that weigh cross pseudo supervision by class or by voxel.

    L = sum over both networks L_seg(own logits, y) + weight * ramp(t) * CE(own logits, the other's argmax) / 2

    where the second term is over labelled and unlabelled images. It is half of the sum that the papers of this family
    write (Dice + CE + weight * CE), so that one learning rate suits all methods. With class weights both
    cross-entropies are weighted means: divided by the sum of the voxels' weights (see `losses.cross_entropy`).

    A method of the family overrides `observe`, `class_weights` or `cross_loss`.

    Args:
        predictor: the TwinNet.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
    """

    network = TwinNet
    published_network: ClassVar[dict[str, Any]] = {"initialisation": "kaiming_xavier"}
    published_lr: ClassVar[dict[int, float]] = {2: 0.01, 3: 0.03}

    def __init__(
        self,
        predictor: TwinNet,
        unsup_weight: float = 0.1,
        ramp: str = "sigmoid",
        ramp_length: float = 1.0,
        absent: str = "skip",
    ) -> None:
        super().__init__(predictor, unsup_weight=unsup_weight, ramp=ramp, ramp_length=ramp_length)
        self.predictor: TwinNet = predictor
        self.absent = absent

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """See `Method.forward`."""
        images = image if image_u is None else torch.cat([image, image_u])
        logits = [self.predictor.first(images), self.predictor.second(images)]
        pseudo = [hard_labels(z) for z in logits]
        self.observe([z.detach() for z in logits], pseudo, label)
        supervised, cross = [], []
        for side in (0, 1):
            weight = self.class_weights(side)
            own = logits[side][: len(image)]
            supervised.append(segmentation_loss(own, label, absent=self.absent, weight=weight))
            cross.append(0.5 * self.cross_loss(side, logits[side], pseudo[1 - side], weight))
        losses = {"loss_supervised": torch.stack(supervised).sum(), "loss_cross": torch.stack(cross).sum()}
        return {"loss": losses["loss_supervised"] + self.ramped_weight(progress) * losses["loss_cross"], **losses}

    @torch.no_grad()
    def observe(self, logits: list[torch.Tensor], pseudo: list[torch.Tensor], label: torch.Tensor) -> None:
        """Look at this step's outputs before the losses are taken; here, nothing is kept.

        Args:
            logits: of both networks [B_l + B_u, C, *spatial], the labelled images first.
            pseudo: their argmax [B_l + B_u, *spatial].
            label: of the labelled images [B_l, *spatial].
        """

    def class_weights(self, side: int) -> torch.Tensor | None:
        """Weights [C] of the classes in all losses of network 0 or 1; None, here, weighs them alike."""
        return None

    def cross_loss(
        self, side: int, logits: torch.Tensor, pseudo: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        """Network `side`'s loss against the other's pseudo-labels [B, *spatial], a scalar."""
        return cross_entropy(logits, pseudo, weight)
