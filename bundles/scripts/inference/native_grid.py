"""From the network's grid to the image's own: label maps as if all probabilities were interpolated, without its cost.

Nothing inverts the preprocessing: an inverse brings the probabilities of every class to the image's size at once, ten
gigabytes for a large CT. Both grids have an affine, and that is enough.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SpatialResample
from monai.transforms.utils import create_translate
from torch.nn import functional

SLAB = 16  # slices at once
UNSURE = 255  # in place of a label: all classes have to be interpolated here
UNMOVED = 0.01  # voxels; an axis that moves a place by less does not move it


class LabelsOnImageGridd(MapTransform):
    """Turn probabilities on the network's grid into the label map on the image's own.

    The result is that of `resampled` followed by an argmax, voxel for voxel. Outside of the probabilities' grid, where
    an image was cropped, is background.

    Args:
        keys: of MetaTensors [C, *grid] (3D) that know both grids: `affine` of their own, `original_affine` and
            `spatial_shape` of the image. They become uint8 label maps [1, *image].
        slab: slices of the image, along its last axis, that are made at once. Fewer need less memory.
        allow_missing_keys: leave an item alone that lacks a key.

    Example:
        >>> about = {"original_affine": np.eye(4), "spatial_shape": (16, 16, 8)}
        >>> twice_as_coarse = np.diag([2.0, 2.0, 2.0, 1.0])
        >>> probabilities = MetaTensor(torch.rand(3, 8, 8, 4), affine=twice_as_coarse, meta=about)
        >>> tuple(LabelsOnImageGridd("pred")({"pred": probabilities})["pred"].shape)
        (1, 16, 16, 8)
    """

    def __init__(self, keys: KeysCollection, slab: int = SLAB, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.slab = slab

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with the label maps in the place of the probabilities."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = labels_on_image_grid(item[key], self.slab)
        return item


def resampled(values: MetaTensor, slab: int = SLAB) -> Iterator[torch.Tensor]:
    """Values [C, *grid], interpolated linearly on the image's grid, zero outside of theirs, slab by slab.

    Yields:
        [C, X, Y, up to `slab`].
    """
    resample = SpatialResample(mode="bilinear", padding_mode="zeros", dtype=np.float32)
    for affine, size in _slabs(values.meta, slab):
        yield torch.as_tensor(resample(values, affine, size))


def labels_on_image_grid(probabilities: MetaTensor, slab: int = SLAB) -> MetaTensor:
    """The likeliest class of each voxel of the image, uint8 [1, *image], of probabilities [C, *grid].

    Interpolation takes a weighted mean of eight neighbours. Where one class is the likeliest in all eight, it is so in
    every mean of them: the nearest label says it. All classes are interpolated only elsewhere, along the organs'
    borders, some 6 % of an abdominal CT.
    """
    meta, values = probabilities.meta, probabilities.as_tensor()
    sure = _sure_labels(values)
    to_image = torch.as_tensor(meta["affine"]).double()
    parts = []
    for affine, size in _slabs(meta, slab):
        to_grid = torch.linalg.solve(to_image, affine.double()).float()
        labels = _nearest(sure, to_grid, size)
        unsure = labels == UNSURE
        at = _moved(unsure[0].nonzero().float(), to_grid.to(labels.device))
        parts.append(labels.masked_scatter(unsure, _likeliest(_interpolated(values, at)).to(torch.uint8)))
    return MetaTensor(torch.cat(parts, -1), meta={**meta, "affine": meta["original_affine"]})


def _slabs(meta: Mapping[str, Any], slab: int) -> Iterator[tuple[torch.Tensor, list[int]]]:
    """Affine [4, 4] and size of each slab of the image."""
    *plane, depth = (int(size) for size in meta["spatial_shape"])
    for start in range(0, depth, slab):
        shift = torch.as_tensor(create_translate(3, [0, 0, start]))
        yield torch.as_tensor(meta["original_affine"]).matmul(shift), [*plane, min(slab, depth - start)]


def _likeliest(values: torch.Tensor) -> torch.Tensor:
    return values.max(0, keepdim=True).indices


def _sure_labels(probabilities: torch.Tensor) -> torch.Tensor:
    """The likeliest class, where it is that of all 26 neighbours, too, else UNSURE: uint8 [1, *(grid + 4)].

    The eight neighbours of a place are among the 27 voxels around its nearest one. Two voxels of background on each
    side stand for all that lies outside.
    """
    labels = functional.pad(_likeliest(probabilities).float(), [2] * 6)
    high, minus_low = functional.max_pool3d(torch.cat([labels, -labels]), 3, 1, 1).split(1)
    return labels.where(high == -minus_low, UNSURE).to(torch.uint8)


def _nearest(sure: torch.Tensor, to_grid: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """The entry of `sure` nearest to each voxel of a slab: [1, *size].

    Where the axes of both grids agree, as they do unless an image is sheared, each axis of the grid depends on one axis
    of the slab: its nearest voxels are one row of numbers, and not a number per voxel.
    """
    axes = [torch.as_tensor(axis, device=sure.device) for axis in np.ogrid[tuple(map(slice, size))]]
    index = []
    for row, voxels in zip(to_grid[:3], sure.shape[1:], strict=True):
        moved = (step * axis for step, axis in zip(row[:3], axes, strict=True) if abs(step) * axis.numel() > UNMOVED)
        index.append((sum(moved, row[3]) + 2).round().long().clamp(0, voxels - 1))
    return sure[(slice(None), *index)]


def _moved(places: torch.Tensor, to_grid: torch.Tensor) -> torch.Tensor:
    """Places [N, 3] by an affine [4, 4].

    Not by a product of matrices: a GPU may be set to round its factors to eleven bits (TF32), a tenth of a voxel here.
    """
    rotation, shift = to_grid[:3, :3], to_grid[:3, 3]
    x, y, z = (places[:, [axis]] * rotation[:, axis] for axis in range(3))
    return x + y + z + shift


def _interpolated(values: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Values [C, *grid] at places [N, 3], in voxels, zero outside: [C, N]. Each thread of a CPU takes a share."""
    size = at.new_tensor(values.shape[1:])
    grid = ((2 * at + 1) / size - 1).flip(-1)
    places, threads = at.shape[0], torch.get_num_threads() if values.device.type == "cpu" else 1
    share = -(-places // threads)
    shares = functional.pad(grid, (0, 0, 0, threads * share - places)).view(threads, 1, 1, share, 3)
    found = functional.grid_sample(values.expand(threads, -1, -1, -1, -1), shares, align_corners=False)
    return found.transpose(0, 1).flatten(1)[:, :places]
