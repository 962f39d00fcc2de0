"""How often each class occurs, and weights that make up for it: shared by the methods for imbalanced classes.

All of them work on the classes' shares of the voxels, background first, so that counts over label files and counts over
a batch can be averaged with each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..grouping import class_sizes

SMALLEST_SHARE = 1e-6  # of a class that has not been seen, so that every weight is finite


def labelled_shares(label_files: Sequence[str], num_classes: int) -> torch.Tensor:
    """Shares [K + 1] of the classes, background first, in the voxels of label files; equal ones without files."""
    if not label_files:
        return torch.full((num_classes + 1,), 1.0 / (num_classes + 1))
    sizes = torch.from_numpy(class_sizes(label_files, num_classes, background=True))
    return (sizes / sizes.sum()).float()


def batch_shares(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Shares [K + 1] of the classes, background first, in class ids [B, *spatial]."""
    counts = torch.bincount(labels.flatten().long(), minlength=num_classes + 1)
    return counts.float() / labels.numel()


class ClassShares(nn.Module):
    """A moving average of the classes' shares; its buffer `shares` [K + 1] resumes it.

    Args:
        num_classes: foreground classes K.
        decay: of the average: shares <- decay * shares + (1 - decay) * the batch's.
    """

    shares: torch.Tensor

    def __init__(self, num_classes: int, decay: float = 0.99) -> None:
        super().__init__()
        self.num_classes, self.decay = num_classes, decay
        self.register_buffer("shares", torch.full((num_classes + 1,), 1.0 / (num_classes + 1)))

    def start(self, shares: torch.Tensor) -> None:
        """Begin at these shares [K + 1]."""
        self.shares.copy_(shares)

    @torch.no_grad()
    def update(self, labels: torch.Tensor) -> None:
        """Fold in the shares of class ids [B, *spatial]."""
        self.shares.lerp_(batch_shares(labels, self.num_classes), 1.0 - self.decay)


def inverse_cube_root(shares: torch.Tensor) -> torch.Tensor:
    """(P_max / P_c)^(1/3), [C] to [C]: 1 for the most frequent class (CLD)."""
    shares = shares.clamp_min(SMALLEST_SHARE)
    return (shares.max() / shares) ** (1 / 3)
