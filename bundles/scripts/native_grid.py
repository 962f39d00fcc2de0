"""From the network's grid to the image's own: label maps and probabilities, slab by slab along the last axis.

Both grids have an affine, and that is enough: the preprocessing is not inverted, since an inverse brings all classes to
the image's size at once. What is on the network's grid knows both in its meta data ("affine", "original_affine", and
"spatial_shape", the image's size). Outside of the network's grid there is background.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, SpatialResample
from monai.transforms.utils import create_translate
from torch.nn import functional

SLAB = 16  # slices at once: what they take is small beside the label map
UNSURE = 255  # the label of voxels whose class is not known yet
BORDER = 2  # voxels of background around the network's grid: one for neighbours, one for whatever lies farther away


class NativeLabelsd(MapTransform):
    """Turns probabilities into `native_labels`."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with a label map [1, *image's grid] in the place of probabilities [C, *network's grid]."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = native_labels(item[key])
        return item


def native_labels(probabilities: MetaTensor) -> MetaTensor:
    """The likeliest class of each voxel of the image, by linear interpolation of all classes.

    It takes weighted means of eight neighbours. Where one class is the likeliest in all eight, it is so in their mean,
    so that all classes are interpolated only where labels differ among the 27 voxels around the nearest one.

    Args:
        probabilities: [C, *network's grid], C < 256.

    Returns:
        uint8 [1, *image's grid], with the image's affine.
    """
    values, meta = probabilities.as_tensor(), probabilities.meta
    sure = _sure_labels(values)
    slabs = [_slab_labels(values, sure, _affine_to_network(meta, z), size) for z, size in _slabs(meta)]
    return MetaTensor(torch.cat(slabs, -1), meta={**meta, "affine": meta["original_affine"]})


def native_values(values: MetaTensor) -> Iterator[torch.Tensor]:
    """Maps [C, *network's grid] on the image's grid: slab after slab [C, X, Y, up to `SLAB`]."""
    resample = SpatialResample(mode="bilinear", padding_mode="zeros", dtype=np.float32)
    for z, size in _slabs(values.meta):
        yield resample(values, _slab_affine(values.meta, z), size)


def _slabs(meta: Mapping[str, Any]) -> Iterator[tuple[int, list[int]]]:
    """The first slice of each slab, and the slab's size."""
    x, y, slices = (int(n) for n in meta["spatial_shape"])
    for z in range(0, slices, SLAB):
        yield z, [x, y, min(SLAB, slices - z)]


def _slab_affine(meta: Mapping[str, Any], z: int) -> torch.Tensor:
    return torch.as_tensor(meta["original_affine"]) @ torch.as_tensor(create_translate(3, [0, 0, z]))


def _affine_to_network(meta: Mapping[str, Any], z: int) -> torch.Tensor:
    """From voxels of a slab to those of the network's grid, [4, 4]."""
    return torch.linalg.solve(torch.as_tensor(meta["affine"]).double(), _slab_affine(meta, z).double()).float()


def _most_likely(values: torch.Tensor) -> torch.Tensor:
    return values.max(0, keepdim=True).indices  # argmax takes five times as long


def _sure_labels(values: torch.Tensor) -> torch.Tensor:
    """The likeliest class, or `UNSURE` where a neighbour has another one, with background of `BORDER` voxels around."""
    labels = functional.pad(_most_likely(values).float(), 6 * [BORDER])
    highest, negated_lowest = functional.max_pool3d(torch.cat([labels, -labels]), 3, 1, 1).split(1)
    return labels.where(highest == -negated_lowest, UNSURE).to(torch.uint8)


def _slab_labels(
    values: torch.Tensor, sure: torch.Tensor, to_network: torch.Tensor, size: Sequence[int]
) -> torch.Tensor:
    axes = [torch.as_tensor(axis) for axis in np.ogrid[tuple(slice(n) for n in size)]]
    nearest = tuple(_nearest(row, axes, n) for row, n in zip(to_network, sure.shape[1:], strict=False))
    labels = sure[0][nearest].expand(*size)
    unsure = labels == UNSURE
    to_network = to_network.to(values.device)
    places = unsure.nonzero().float() @ to_network[:3, :3].T + to_network[:3, 3]
    return labels.masked_scatter(unsure, _most_likely(_interpolated(values, places)).to(torch.uint8))[None]


def _nearest(row: torch.Tensor, axes: Sequence[torch.Tensor], size: int) -> torch.Tensor:
    """Along one axis of the network's grid with its border, the index next to each voxel of a slab.

    Axes that hardly move it are left out: what is indexed by one axis of the slab alone costs next to nothing.
    """
    steps = zip(row, axes, strict=False)
    place = sum((step * axis for step, axis in steps if abs(step) * axis.numel() > 0.01), row[3])
    return (place + BORDER).round().long().clamp(0, size - 1)


def _interpolated(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Maps [C, *spatial] at places [N, 3] in voxels: [C, N]."""
    grid = ((2 * places + 1) / places.new_tensor(values.shape[1:]) - 1).flip(-1)
    # torch gives each image of a batch to a thread, and all places of an image to one.
    threads = torch.get_num_threads()
    shares = functional.pad(grid, (0, 0, 0, -len(grid) % threads)).view(threads, 1, 1, -(-len(grid) // threads), 3)
    sampled = functional.grid_sample(values.expand(threads, *values.shape), shares, align_corners=False)
    return sampled.transpose(0, 1).flatten(1)[:, : len(places)]
