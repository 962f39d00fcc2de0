"""A prediction and its label on a common grid: the published 3D tables score every case on a grid of one size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.data import MetaTensor
from monai.transforms import Orientation
from monai.utils import convert_to_tensor
from torch.nn import functional

from ..errors import UserError


def check_grid(grid: Sequence[int]) -> tuple[int, ...]:
    """The grid as a tuple.

    Raises:
        UserError: anything but positive whole numbers.
    """
    if not grid or not all(isinstance(n, int) and n > 0 for n in grid):
        raise UserError(f"scores: expected a grid of positive whole numbers such as [160, 160, 80], found {grid!r}")
    return tuple(grid)


def on_common_grid(
    prediction: torch.Tensor, label: torch.Tensor, grid: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both resized to the grid by nearest neighbour, their axes running to the patient's right, front and head first.

    Each side is turned by its own affine, so that it does not matter how it is stored; a side without one lies on the
    other's grid, and two without are taken as they are.

    The neighbour is that of the voxel centres, torch's "nearest-exact": of S voxels, floor((i + 0.5) S / D) becomes
    voxel i of D. The published programs take torch's "nearest", floor(i S / D). That moves both sides alike, by about
    half a voxel of the grid, but in a direction that depends on how the volume is stored.

    Args:
        prediction, label: class ids [*spatial]; MetaTensors have an affine.
        grid: voxels along x, y, z (x, y for images).

    Returns:
        prediction, label as float32 [*grid].

    Raises:
        UserError: another number of axes than the grid's, or different shapes.
    """
    if label.ndim != len(grid):
        raise UserError(f"scores: expected volumes of {len(grid)} axes for the grid {tuple(grid)}, found {label.ndim}")
    prediction, label = _turned(prediction, label), _turned(label, prediction)
    if prediction.shape != label.shape:  # the grid would hide it
        shapes = f"{tuple(label.shape)}, found {tuple(prediction.shape)}"
        raise UserError(f"scores: expected the prediction in the label's shape {shapes}")
    return _resized(prediction, grid), _resized(label, grid)


def _turned(ids: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    source = next((side for side in (ids, other) if isinstance(side, MetaTensor)), None)
    if source is None:
        return ids
    turned = Orientation("RAS"[: ids.ndim], labels=None)(MetaTensor(ids, meta=source.meta)[None])
    return convert_to_tensor(turned[0], track_meta=False)


def _resized(ids: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    # float32 holds every class id exactly; torch resizes no integers but uint8.
    return functional.interpolate(ids[None, None].float(), size=tuple(grid), mode="nearest-exact")[0, 0]
