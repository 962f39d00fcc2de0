"""What is counted, added up or told apart by class, in the way that is fast where the tensors are."""

from __future__ import annotations

import torch


def sums_by_class(values: torch.Tensor, ids: torch.Tensor, classes: int) -> torch.Tensor:
    """Sums [classes] of values [...] over the voxels of each class id in `ids` [...], differentiable in the values."""
    if _voxel_by_voxel(ids):
        return values.new_zeros(classes).index_add(0, ids.flatten(), values.flatten())
    return torch.where(_is_class(ids, classes), values.flatten(), 0).sum(1)


def voxels_by_class(ids: torch.Tensor, classes: int) -> torch.Tensor:
    """How many voxels [classes] of each class id are in `ids` [...], int64."""
    if _voxel_by_voxel(ids):
        return torch.bincount(ids.flatten(), minlength=classes)
    return _is_class(ids, classes).sum(1)  # bincount would wait for the host to learn the largest id


def _voxel_by_voxel(ids: torch.Tensor) -> bool:
    """Whether one voxel after the other is the fast way: on a GPU all of them would add to the same few numbers."""
    return ids.device.type == "cpu"


def _is_class(ids: torch.Tensor, classes: int) -> torch.Tensor:
    """[classes, voxels], bool."""
    return ids.flatten() == torch.arange(classes, device=ids.device).unsqueeze(1)


def one_hot(ids: torch.Tensor, classes: int) -> torch.Tensor:
    """Class ids [B, *spatial] to 1 in the channel of the class and 0 in the others: float32 [B, classes, *spatial].

    Torch's own looks at the ids on a CPU, and puts the channels last.
    """
    each = torch.arange(classes, device=ids.device).view(-1, *[1] * (ids.dim() - 1))
    return (ids.unsqueeze(1) == each).float()
