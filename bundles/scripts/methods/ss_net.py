"""SS-Net: predictions that an adversarial disturbance does not change, and features that gather by class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch.nn import functional

from ..losses import segmentation_loss
from ..networks import SegmentationNet, frozen_statistics
from ..networks.blocks import crop_to, pad_to_multiple
from ..settings import expect_at_least
from .base import SemiSupervised
from .parts.class_separation import ClassSeparation
from .parts.pseudo_labels import hard_labels

# By spatial dimensions: how many voxels the paper's images have, and the norm of the disturbance in them;
# the weight of the part without labels, and the share of the training over which it rises.
SIZE = {2: 256 * 256, 3: 112 * 112 * 80}
MAGNITUDE = {2: 6.0, 3: 10.0}
WEIGHT = {2: 0.1, 3: 1.0}
RAMP_LENGTH = {2: 1.0, 3: 0.4}


class SSNet(SemiSupervised):
    """Smoothness and class-separation ("Exploring Smoothness and Class-Separation for Semi-supervised Medical Image
    Segmentation", MICCAI 2022).

    L = L_seg(net(x_l), y) + weight * ramp(t) * [D(net(x + r), net(x)) + contrast_weight * (S_l + S_u)]

    D is a Dice distance, over the labelled and the unlabelled images x, and r the disturbance that increases it most,
    by one step of the power iteration (virtual adversarial training). S draws the last features of each voxel towards
    those that a memory keeps of its class (see `ClassSeparation`): of the label, and of the own pseudo-label.

    Args:
        predictor: the network.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
            For the weight and the length, None takes 0.1 and 1 for slices, 1 and 0.4 for volumes.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
        magnitude: L2 norm of r for an image of the paper's size, 256x256 or 112x112x80; for others it grows with the
            square root of the number of voxels, so that a voxel changes as much. None takes 6 for slices and 10 for
            volumes.
        probe: L2 norm of the random disturbance that the step starts from, likewise.
        contrast_weight: of S, within the part without labels.
        memory: features kept per class.
        voxels: at most so many of each class are drawn per step, of the labelled and of the unlabelled images.

    Raises:
        UserError: no room for a feature or a voxel.
    """

    network = SegmentationNet
    waits = "how many voxels of a class there are decides on the shapes of its memory and of its losses"
    published_lr: ClassVar[dict[int, float]] = {2: 0.01, 3: 0.03}
    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {
        "unsup_weight": (0.3,),
        "ramp_length": (0.7,),
        "contrast_weight": (0.03, 0.3),
    }

    def __init__(
        self,
        predictor: SegmentationNet,
        unsup_weight: float | None = None,
        ramp: str = "sigmoid",
        ramp_length: float | None = None,
        absent: str = "skip",
        magnitude: float | None = None,
        probe: float = 10.0,
        contrast_weight: float = 0.1,
        memory: int = 32,
        voxels: int = 1024,
    ) -> None:
        dims = predictor.spatial_dims
        weight = WEIGHT[dims] if unsup_weight is None else unsup_weight
        super().__init__(
            predictor,
            unsup_weight=weight,
            ramp=ramp,
            ramp_length=RAMP_LENGTH[dims] if ramp_length is None else ramp_length,
        )
        expect_at_least("method ss_net, memory", memory, 1)
        expect_at_least("method ss_net, voxels", voxels, 1)
        self.predictor: SegmentationNet = predictor
        self.absent, self.contrast_weight = absent, contrast_weight
        self.probe, self.magnitude = probe, MAGNITUDE[dims] if magnitude is None else magnitude
        channels = predictor.decoder.out.in_channels
        self.separation = ClassSeparation(channels, predictor.num_classes, memory, voxels)

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """See `Method.forward`."""
        images = image if image_u is None else torch.cat([image, image_u])
        net, labelled = self.predictor, len(image)
        maps = net.decoder(net.encoder(pad_to_multiple(images, net.divisor)))
        features, logits = (crop_to(x, list(images.shape)) for x in maps[-2:])
        pseudo = hard_labels(logits)
        separation = self.separation(features[:labelled], label, predicted=pseudo[:labelled])
        if image_u is not None:
            separation = separation + self.separation(features[labelled:], pseudo[labelled:])
        losses = {
            "loss_supervised": segmentation_loss(logits[:labelled], label, absent=self.absent),
            "loss_smoothness": self._smoothness(images, logits),
            "loss_separation": separation,
        }
        unsupervised = losses["loss_smoothness"] + self.contrast_weight * separation
        return {"loss": losses["loss_supervised"] + self.ramped_weight(progress) * unsupervised, **losses}

    def _smoothness(self, images: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """How far the adversarial disturbance moves the prediction from the images' logits [B, C, *spatial]."""
        scale = math.sqrt(images[0, 0].numel() / SIZE[images.dim() - 2])
        with frozen_statistics(self.predictor):
            start = scale * self.probe * unit(torch.rand(images.shape, device=images.device) - 0.5)
            start.requires_grad_()
            (steepest,) = torch.autograd.grad(dice_distance(self.predictor(images + start), logits), start)
            return dice_distance(self.predictor(images + scale * self.magnitude * unit(steepest)), logits)


def unit(x: torch.Tensor) -> torch.Tensor:
    """Each image of [B, C_in, *spatial] scaled to an L2 norm of 1; zeros stay zeros."""
    return functional.normalize(x.float().flatten(1)).view_as(x)


def dice_distance(logits: torch.Tensor, constant: torch.Tensor, smooth: float = 1e-5) -> torch.Tensor:
    """Dice loss between the softmaxes p and q of two logits [B, C, *spatial], no gradient to the second, a scalar.

    Per class 1 - (2 sum(p q) + s) / (sum(p^2) + sum(q^2) + s) over the whole batch, averaged over all classes.
    """
    p, q = logits.float().softmax(1), constant.detach().float().softmax(1)
    voxels = [0, *range(2, p.dim())]
    squares = p.square().sum(voxels) + q.square().sum(voxels)
    return (1.0 - (2.0 * (p * q).sum(voxels) + smooth) / (squares + smooth)).mean()
