"""Slices of a volume along its last axis, however the file stores them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import nibabel as nib
import numpy as np
from monai.config import KeysCollection
from monai.transforms import InvertibleTransform, MapTransform, Orientation
from monai.utils import TraceKeys

# A spacing of so many times the next coarser one is that of slices.
THICKER = 1.5
# With slices from left to right, back to front, or feet to head: the directions of all axes.
DIRECTIONS = ("ASR", "RSA", "RAS")


class OrientSlicesd(MapTransform, InvertibleTransform):
    """Turn volumes so that their slices follow each other along the last axis, and all axes run canonically.

    Slices lie along the axis of the largest spacing, which an oblique scan (a heart's short axis) may have in any
    direction. Where no axis is much coarser than the others, they lie along the one that runs closest to the body's.

    Args:
        keys: of the [C, X, Y, Z] MetaTensors that are turned alike; the first one decides.
        allow_missing_keys: leave out keys that an item does not have.

    Example:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> scan = MetaTensor(torch.zeros(1, 3, 8, 9), affine=np.diag([9.0, 2.0, -2.0, 1.0]))  # slices come first
        >>> turned = OrientSlicesd("image")({"image": scan})["image"]
        >>> tuple(turned.shape), "".join(nib.aff2axcodes(turned.affine))
        ((1, 8, 9, 3), 'ASR')
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.turns = [Orientation(codes, labels=None) for codes in DIRECTIONS]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item, turned."""
        item = dict(data)
        turn = self.turns[slice_direction(item[self.first_key(item)].affine.numpy())]
        for key in self.key_iterator(item):
            item[key] = turn(item[key])
        return item

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item along the axes of its files."""
        item = dict(data)
        for key in self.key_iterator(item):
            before = self.turns[0].pop_transform(item[key], check=False)[TraceKeys.EXTRA_INFO]["original_affine"]
            back = Orientation(nib.orientations.aff2axcodes(before), labels=None)
            with back.trace_transform(False):
                item[key] = back(item[key])
        return item


def slice_direction(affine: np.ndarray) -> int:
    """Where slices of an affine [4, 4] follow each other to, or nearly: 0 the right, 1 the front, 2 the head."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    second, coarsest = np.argsort(sizes)[1:]
    if sizes[coarsest] < THICKER * sizes[second]:
        return 2
    return int(nib.orientations.io_orientation(affine)[coarsest, 0])
