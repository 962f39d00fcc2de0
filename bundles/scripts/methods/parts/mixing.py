"""Mixing of images and their labels: boxes out of one, pasted into another (CutMix, copy-paste)."""

from __future__ import annotations

import torch

# Side of the pasted box as a share of the image's side, drawn per axis and image, unless a method says otherwise.
SMALLEST_BOX, LARGEST_BOX = 0.3, 0.7


def random_boxes(
    batch: int,
    size: list[int],
    device: torch.device | str = "cpu",
    smallest: float = SMALLEST_BOX,
    largest: float = LARGEST_BOX,
) -> torch.Tensor:
    """A mask [B, *spatial], true in one random box per image, whose sides are between two shares of the image's.

    Drawn from torch's generator on the CPU, which a resume checkpoint restores, so that every device draws the same.
    """
    mask = torch.zeros(batch, *size, dtype=torch.bool)
    for image in mask:
        box = []
        for side in size:
            length = max(1, round(side * float(torch.empty(1).uniform_(smallest, largest))))
            first = int(torch.randint(0, side - length + 1, (1,)))
            box.append(slice(first, first + length))
        image[tuple(box)] = True
    return mask.to(device)


def swap_at_random(mask: torch.Tensor) -> torch.Tensor:
    """Exchange inside and outside of the boxes [B, *spatial] for every image with probability one half."""
    swap = (torch.rand(len(mask)) < 0.5).to(mask.device)
    return mask ^ swap.view(-1, *[1] * (mask.dim() - 1))


def paste_either_way(
    image_u: torch.Tensor, pseudo: torch.Tensor, image: torch.Tensor, label: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unlabelled images [B_u, C_in, *spatial] and their pseudo-labels with a box out of a labelled image and its label.

    By turns of chance the labelled image is pasted around the box instead. Labelled images serve more than once where
    they are fewer.
    """
    boxes = swap_at_random(random_boxes(len(image_u), list(image_u.shape[2:]), image_u.device))
    partner = torch.arange(len(image_u), device=image_u.device) % len(image)
    return paste(image_u, image[partner], boxes), paste(pseudo, label[partner], boxes)


def paste(values: torch.Tensor, source: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`source` where the mask [B, *spatial] is true, `values` elsewhere; both [B, *spatial] or [B, C, *spatial]."""
    where = mask.unsqueeze(1) if values.dim() > mask.dim() else mask
    return torch.where(where, source, values)
