"""What a network makes of an image and its mirror images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import torch


def mean_over_mirror_images(
    run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, axes: Sequence[int]
) -> torch.Tensor:
    """The mean of a network's outputs for an image and its mirror images, each mirrored back (nnU-Net).

    Args:
        run: [B, C_in, *spatial] to [B, C, *spatial].
        x: [B, C_in, *spatial].
        axes: spatial axes, 0 for the first, along which the image is mirrored; with n of them `run` is called 2^n
            times.
    """
    dims = sorted({2 + axis for axis in axes})
    flips = [flip for count in range(len(dims) + 1) for flip in combinations(dims, count)]
    total = run(x)
    for flip in flips[1:]:  # added up one by one: memory does not grow with their number
        total = total + run(x.flip(flip)).flip(flip)
    return total / len(flips)
