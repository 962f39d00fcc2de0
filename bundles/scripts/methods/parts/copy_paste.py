"""Labelled and unlabelled images pasted into each other: BCP, and what the methods that build on it have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ...losses import segmentation_loss, soft_dice
from .mixing import paste, random_boxes
from .pseudo_labels import hard_labels, largest_components

COMPONENTS = "the connected parts of the pseudo-labels are found on the host"  # why they wait for it (`Method.waits`)
LABELS_ONLY = 0  # the form of the first steps (`Method.changes`) of the methods here


@dataclass(frozen=True)
class Mixture:
    """Images that show a labelled image in a region and an unlabelled one elsewhere.

    Args:
        image: the mixed images [B, C_in, *spatial].
        label, pseudo: of the labelled and the unlabelled ones [B, *spatial].
        region: where the labelled ones are [B, *spatial], bool.
    """

    image: torch.Tensor
    label: torch.Tensor
    pseudo: torch.Tensor
    region: torch.Tensor

    def losses(self, logits: torch.Tensor, absent: str) -> dict[str, torch.Tensor]:
        """L_seg of logits [B, C, *spatial] against the labels in their region and the pseudo-labels in the other."""
        return {
            "loss_supervised": segmentation_loss(logits, self.label, absent=absent, mask=self.region),
            "loss_unlabelled": segmentation_loss(logits, self.pseudo, absent=absent, mask=~self.region),
        }


def mix(
    image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor, pseudo: torch.Tensor, region: torch.Tensor
) -> Mixture:
    """As many labelled as unlabelled images, mixed one by one."""
    return Mixture(paste(image_u, image, region), label, pseudo, region)


def pairs(labelled: int, unlabelled: int, device: torch.device | str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Which labelled image is mixed with which unlabelled one: all are, the ones that are fewer more than once."""
    pair = torch.arange(max(labelled, unlabelled), device=device)
    return pair % labelled, pair % unlabelled


def labelled_regions(image: torch.Tensor, box: float) -> torch.Tensor:
    """The labelled regions [B, *spatial] of mixtures of the size of `image`: a box, what surrounds a box, in turns.

    `box` is the side of the box, as a share of the image's.
    """
    region = random_boxes(len(image), list(image.shape[2:]), image.device, box, box)
    region[1::2] = ~region[1::2]
    return region


def labelled_loss(
    network: nn.Module, image: torch.Tensor, label: torch.Tensor, box: float, absent: str
) -> torch.Tensor:
    """L_seg in a box of the next labelled image and L_seg around it, added up, a scalar; arguments as in `BCP`."""
    boxes = random_boxes(len(image), list(image.shape[2:]), image.device, box, box)
    mixture = mix(image.roll(-1, 0), label.roll(-1, 0), image, label, boxes)
    return torch.stack([*mixture.losses(network(mixture.image), absent).values()]).sum()


def component_labels(logits: torch.Tensor, num_classes: int) -> torch.Tensor:
    """The largest connected part of each class [B, *spatial] in the argmax of logits [B, C, *spatial]."""
    return largest_components(hard_labels(logits), num_classes)


def cross_dice(logits: Sequence[torch.Tensor], absent: str) -> torch.Tensor:
    """Dice loss of each of two networks' logits [B, C, *spatial] against the argmax of the other's, summed."""
    losses = [
        soft_dice(own.float().softmax(1), hard_labels(other), absent=absent)
        for own, other in zip(logits, logits[::-1], strict=True)
    ]
    return torch.stack(losses).sum()
