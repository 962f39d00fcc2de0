"""URPC: the outputs of all levels of one decoder have to agree, less where they cannot."""

from __future__ import annotations

import math
from typing import ClassVar

import torch

from ..losses import segmentation_loss
from ..networks import DeepSupervisionNet
from .base import SemiSupervised

NOT_ZERO = 1e-8  # where the outputs contradict each other everywhere


class URPC(SemiSupervised):
    """Uncertainty rectified pyramid consistency ("Efficient Semi-supervised Gross Target Volume of Nasopharyngeal
    Carcinoma Segmentation via Uncertainty Rectified Pyramid Consistency", MICCAI 2021).

    With the probabilities p_s of the outputs s = 1..4 and their mean q, and per voxel D_s = KL(q || p_s),

        L = mean_s L_seg(logits_s(x_l), y) + weight * ramp(t) * mean_s L_s(x_u),
        L_s = mean(|q - p_s|^2 / C * exp(-D_s)) / mean(exp(-D_s)) + mean(D_s)

    Args:
        predictor: the network; its finest output is the prediction.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
    """

    network = DeepSupervisionNet
    published_lr: ClassVar[dict[int, float]] = {2: 0.01, 3: 0.03}

    def __init__(
        self,
        predictor: DeepSupervisionNet,
        unsup_weight: float = 0.1,
        ramp: str = "sigmoid",
        ramp_length: float = 1.0,
        absent: str = "skip",
    ) -> None:
        super().__init__(predictor, unsup_weight=unsup_weight, ramp=ramp, ramp_length=ramp_length)
        self.predictor: DeepSupervisionNet = predictor
        self.absent = absent

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """See `Method.forward`."""
        pyramid = self.predictor.pyramid(image if image_u is None else torch.cat([image, image_u]))
        supervised = [segmentation_loss(logits[: len(image)], label, absent=self.absent) for logits in pyramid]
        losses = {"loss_supervised": torch.stack(supervised).mean()}
        loss = losses["loss_supervised"]
        if image_u is not None:
            losses["loss_pyramid"] = pyramid_consistency([logits[len(image) :] for logits in pyramid])
            loss = loss + self.ramped_weight(progress) * losses["loss_pyramid"]
        return {"loss": loss, **losses}


def pyramid_consistency(pyramid: list[torch.Tensor]) -> torch.Tensor:
    """The mean of the L_s above over logits [B, C, *spatial] of the same images."""
    logarithms = [logits.float().log_softmax(1) for logits in pyramid]
    # In logarithms throughout: the gradient of p log p is not finite where p is rounded to 0.
    log_mean = torch.stack(logarithms).logsumexp(0) - math.log(len(pyramid))
    mean = log_mean.exp()
    losses = []
    for log_p in logarithms:
        divergence = (mean * (log_mean - log_p)).sum(1)
        rectified = (-divergence).exp()
        squares = (mean - log_p.exp()).square().mean(1)
        losses.append((squares * rectified).mean() / (rectified.mean() + NOT_ZERO) + divergence.mean())
    return torch.stack(losses).mean()
