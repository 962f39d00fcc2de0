"""FixMatch: what the network is sure of in a plain image has to hold in a strongly changed view of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from ..losses import segmentation_loss, soft_dice, voxel_cross_entropy
from ..networks import SegmentationNet, frozen_statistics
from ..networks.blocks import crop_to, pad_to_multiple
from ..settings import expect_one_of
from .base import SemiSupervised
from .parts.mixing import boxes_by_share, paste, picked
from .parts.pseudo_labels import hard_labels
from .parts.strong_views import blur, change_intensities

LOSSES = ("dice", "cross_entropy")
JITTERED, BLURRED = 0.8, 0.5  # shares of the images whose intensities change, and which are blurred
SMALLEST_BLUR = 0.1  # standard deviation in voxels


class FixMatch(SemiSupervised):
    """FixMatch ("FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence", NeurIPS 2020) for
    segmentation, with the strong views, the threshold and the loss that UniMatch has on cardiac MR.

    L = L_seg(net(x_l), y) + weight * ramp(t) * D(net(s), y'; M)

    y' is the argmax of the network's own output for the plain image u, M where its probability is at least `threshold`.
    The view s is u with other intensities, blurred, and in some images with a box of the next image's view; y' and M
    are then mixed alike. The network remembers no statistics of the views: its prediction sees plain images.

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

    Raises:
        UserError: an unknown loss.
    """

    network = SegmentationNet
    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {
        "unsup_weight": (0.3, 3.0),
        "absent": ("smooth",),
        "threshold": (0.8,),
        "jitter": (0.25,),
    }

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
    ) -> None:
        super().__init__(predictor, unsup_weight=unsup_weight, ramp=ramp, ramp_length=ramp_length)
        expect_one_of("loss", loss, LOSSES)
        self.predictor: SegmentationNet = predictor
        self.absent, self.threshold, self.loss = absent, threshold, loss
        self.jitter, self.blur, self.cutmix = jitter, blur, cutmix

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """See `Method.forward`."""
        net, labelled = self.predictor, len(image)
        images = image if image_u is None else torch.cat([image, image_u])
        features = net.encoder(pad_to_multiple(images, net.divisor))
        logits = crop_to(net.decoder(features)[-1], list(images.shape))
        losses = {"loss_supervised": segmentation_loss(logits[:labelled], label, absent=self.absent)}
        loss = losses["loss_supervised"]
        if image_u is not None:
            plain = logits[labelled:].detach().float().softmax(1)
            sure = plain.amax(1) >= self.threshold
            with frozen_statistics(net):
                losses |= self.consistency(image_u, [f[labelled:] for f in features], hard_labels(plain), sure)
            loss = loss + self.ramped_weight(progress) * losses["loss_unlabelled"]
        return {"loss": loss, **losses}

    def consistency(
        self, image_u: torch.Tensor, features: list[torch.Tensor], pseudo: torch.Tensor, sure: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The "loss_unlabelled" and what it consists of.

        Args:
            image_u: [B, C_in, *spatial].
            features: the encoder's maps of them.
            pseudo: their pseudo-labels [B, *spatial].
            sure: which voxels count [B, *spatial], bool.
        """
        view, *target = self.strong_view(image_u, pseudo, sure)
        return {"loss_unlabelled": self.loss_where_sure(self.predictor(view), *target)}

    def strong_view(
        self, image: torch.Tensor, pseudo: torch.Tensor, sure: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A view of [B, C_in, *spatial], and the pseudo-labels and masks [B, *spatial] that belong to it."""
        view = torch.where(picked(JITTERED, image), change_intensities(image, self.jitter), image)
        if self.blur > 0:
            blurred = blur(view, min(SMALLEST_BLUR, self.blur), self.blur)
            view = torch.where(picked(BLURRED, view), blurred, view)
        box = picked(self.cutmix, pseudo) & boxes_by_share(len(image), list(pseudo.shape[1:]), image.device)
        mixed = [paste(values, values.roll(-1, 0), box) for values in (view, pseudo, sure)]
        return mixed[0], mixed[1], mixed[2]

    def loss_where_sure(self, logits: torch.Tensor, pseudo: torch.Tensor, sure: torch.Tensor) -> torch.Tensor:
        """The loss of logits [B, C, *spatial] against pseudo-labels [B, *spatial] where these are sure, a scalar."""
        if self.loss == "cross_entropy":
            return (voxel_cross_entropy(logits, pseudo) * sure).mean()
        return soft_dice(logits.float().softmax(1), pseudo, absent=self.absent, mask=sure)
