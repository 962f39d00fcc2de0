"""UniMatch: FixMatch with two strong views, and one whose features are disturbed in the place of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from ..networks import SegmentationNet
from ..networks.blocks import crop_to
from .fixmatch import FixMatch

STRONG, DISTURBED = 0.25, 0.5  # weights of each strong view and of the disturbed features


class UniMatch(FixMatch):
    """UniMatch ("Revisiting Weak-to-Strong Consistency in Semi-Supervised Semantic Segmentation", CVPR 2023).

    L = L_seg(net(x_l), y) + weight * ramp(t) * [D(net(s_1), y'_1; M_1) / 4 + D(net(s_2), y'_2; M_2) / 4
        + D(decoder(dropout(encoder(u))), y'; M) / 2]

    with two strong views s_1 and s_2 of the same plain image u (see `FixMatch`). The dropout leaves out whole channels
    of all the encoder's maps.

    Args:
        predictor: the network.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
        threshold: probability from which on a voxel of a pseudo-label counts.
        loss: of the views: "dice", or "cross_entropy" summed over the voxels that count and divided by that of all.
        jitter: strength of `change_intensities`; 0: none.
        blur: largest standard deviation of the blur, in voxels; 0: none.
        cutmix: share of the images with a box of another.
        dropout: share of the channels that are left out.

    Raises:
        UserError: an unknown loss.
    """

    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {**FixMatch.tuning, "dropout": (0.3,)}

    def __init__(
        self,
        predictor: SegmentationNet,
        unsup_weight: float = 1.0,
        ramp: str = "constant",
        ramp_length: float = 1.0,
        absent: str = "skip",
        threshold: float = 0.95,
        loss: str = "dice",
        jitter: float = 0.5,
        blur: float = 2.0,
        cutmix: float = 0.5,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(
            predictor,
            unsup_weight=unsup_weight,
            ramp=ramp,
            ramp_length=ramp_length,
            absent=absent,
            threshold=threshold,
            loss=loss,
            jitter=jitter,
            blur=blur,
            cutmix=cutmix,
        )
        self.dropout = dropout

    def consistency(
        self, image_u: torch.Tensor, features: list[torch.Tensor], pseudo: torch.Tensor, sure: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """See `FixMatch.consistency`."""
        views = [self.strong_view(image_u, pseudo, sure) for _ in range(2)]
        logits = self.predictor(torch.cat([view for view, *_ in views])).chunk(2)
        strong = [self.loss_where_sure(z, *target) for z, (_, *target) in zip(logits, views, strict=True)]
        losses = {"loss_strong": torch.stack(strong).sum()}
        # Other than torch's modules, this is at work in evaluation mode, too: it belongs to the loss.
        disturbed = self.predictor.decoder([torch.feature_dropout(f, self.dropout, train=True) for f in features])[-1]
        losses["loss_features"] = self.loss_where_sure(crop_to(disturbed, list(image_u.shape)), pseudo, sure)
        losses["loss_unlabelled"] = STRONG * losses["loss_strong"] + DISTURBED * losses["loss_features"]
        return losses
