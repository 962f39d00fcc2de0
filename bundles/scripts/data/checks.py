"""What makes an image or a label usable, whatever reads it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError

if TYPE_CHECKING:
    import torch

HIGHEST_IN_FAT = -50  # HU; fat (about -100) and air (-1000) lie below, and every CT shows one of them
LARGEST_SHIFT = 0.1  # mm; converters round the geometry of an image and of its label differently


def grid_shift(affine: Any, other: Any, shape: Sequence[int]) -> float:
    """The largest distance in mm between the same corner of a grid of `shape` under two affines [4, 4]."""
    corners = np.array([(*corner, 1) for corner in product(*((0, n - 1) for n in shape))], float).T
    moved = (np.asarray(affine, float) - np.asarray(other, float)) @ corners
    return float(np.linalg.norm(moved[:3], axis=0).max())


def all_finite(image: torch.Tensor) -> bool:
    """Whether no number is NaN or infinite, in one pass: either of the extremes would be."""
    low, high = image.aminmax()
    return bool(low.isfinite() and high.isfinite())


def check_modality(image: torch.Tensor, modality: str | None, path: str) -> None:
    """Make sure that a "CT" holds Hounsfield units; other modalities have no scale to check.

    Raises:
        UserError: no voxel is as dark as fat.
    """
    if modality == "CT" and image.min() >= HIGHEST_IN_FAT:
        raise UserError(
            f"{path}: expected CT in Hounsfield units, found no value below {HIGHEST_IN_FAT} (the lowest is "
            f"{float(image.min()):g}); leave out MR, or say `--modality MR` where a bundle takes it, and export CT "
            "with its rescale intercept"
        )
