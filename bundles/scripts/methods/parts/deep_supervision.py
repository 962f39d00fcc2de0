"""A loss at several resolutions (nnU-Net)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ...networks.blocks import crop_to


def at_all_levels(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    outputs: Sequence[torch.Tensor],
    target: torch.Tensor,
    coarser: int = 1,
) -> torch.Tensor:
    """The weighted mean of a loss over the outputs of a decoder, each of which weighs half of the finer one.

    Args:
        loss: of logits and class ids of the same size, a scalar.
        outputs: logits [B, C, *spatial] of the whole, half, a quarter, ... of the size; what the network was padded by
            at the end is left out.
        target: class ids [B, *spatial]; coarser outputs learn from every second, fourth, ... of them.
        coarser: voxels of the target, along an axis, per voxel of the first output.

    Returns:
        A scalar; of one output it is the loss itself.
    """
    losses = []
    for level, logits in enumerate(outputs):
        ids = target[(slice(None), *[slice(None, None, coarser * 2**level)] * (target.dim() - 1))]
        losses.append(0.5**level * loss(crop_to(logits, [len(ids), 0, *ids.shape[1:]]), ids))
    return torch.stack(losses).sum() / (2.0 - 0.5 ** (len(losses) - 1))
