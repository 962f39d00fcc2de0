"""Mixing of images and their labels: boxes out of one, pasted into another (CutMix, copy-paste)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

# Side of the pasted box as a share of the image's side, drawn per axis and image, unless a method says otherwise.
SMALLEST_BOX, LARGEST_BOX = 0.3, 0.7
# CutMix in UniMatch: share of the image's area or volume, and how many times as long one side may be as another.
SMALLEST_SHARE, LARGEST_SHARE = 0.02, 0.4
LARGEST_RATIO = 1 / 0.3


def random_boxes(
    batch: int,
    size: list[int],
    device: torch.device | str = "cpu",
    smallest: float = SMALLEST_BOX,
    largest: float = LARGEST_BOX,
) -> torch.Tensor:
    """A mask [B, *spatial], true in one random box per image, whose sides are between two shares of the image's."""
    shares = (torch.empty(batch, 1, device=device).uniform_(smallest, largest) for _ in size)
    return _place(shares, batch, size, device)


def boxes_by_share(batch: int, size: list[int], device: torch.device | str = "cpu") -> torch.Tensor:
    """A mask [B, *spatial], true in one random box per image, whose share of the area or volume is drawn evenly.

    The sides, as shares of the image's, are at most `LARGEST_RATIO` times each other; one that would be longer than the
    image is cut off.
    """
    share = torch.empty(batch, 1, device=device).uniform_(SMALLEST_SHARE, LARGEST_SHARE)
    stretch = math.log(LARGEST_RATIO) * (torch.rand(batch, len(size), device=device) - 0.5)
    sides = share ** (1 / len(size)) * (stretch - stretch.mean(1, keepdim=True)).exp()
    return _place(sides.clamp_max(1.0).split(1, 1), batch, size, device)


def _place(shares: Iterable[torch.Tensor], batch: int, size: list[int], device: torch.device | str) -> torch.Tensor:
    """Boxes whose sides are these shares [B, 1] of the image's, an axis after the other, at random places."""
    mask = torch.ones(batch, *size, dtype=torch.bool, device=device)
    for axis, (side, share) in enumerate(zip(size, shares, strict=True)):
        length = (side * share).round().clamp_min(1)
        free = side - length
        first = torch.minimum((torch.rand(batch, 1, device=device) * (free + 1)).floor(), free)
        place = torch.arange(side, device=device)
        inside = (place >= first) & (place < first + length)
        mask &= inside.view(batch, *[side if other == axis else 1 for other in range(len(size))])
    return mask


def picked(rate: float, like: torch.Tensor) -> torch.Tensor:
    """Which images of [B, ...] chance picks, each with this rate; bool [B, 1, ...]."""
    return (torch.rand(len(like), device=like.device) < rate).view(-1, *[1] * (like.dim() - 1))


def swap_at_random(mask: torch.Tensor) -> torch.Tensor:
    """Exchange inside and outside of the boxes [B, *spatial] for every image with probability one half."""
    return mask ^ picked(0.5, mask)


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
