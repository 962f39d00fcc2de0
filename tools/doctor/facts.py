"""What is measured of each case, in one pass over its files."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import nibabel as nib
import numpy as np
import torch
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray
from scipy import ndimage

from scripts.data.checks import grid_shift

from ..common.case_files import Volume

SIDE = 16  # voxels of a thumbnail's edge
PERCENTILES = (0.5, 25, 50, 75, 99.5)
AIR = -500  # HU


@dataclass(frozen=True)
class ClassFacts:
    """One class in one label map.

    voxels: how many.
    millilitres: their volume, by the header's spacing.
    largest: share of them in the largest connected part.
    centre: their centroid in voxels of the canonical (RAS+) orientation.
    rank: share of the image's voxels that are darker than the class's median; None without an image on the same grid.
    """

    voxels: int
    millilitres: float
    largest: float
    centre: tuple[float, float, float]
    rank: float | None


@dataclass(frozen=True)
class Facts:
    """One image, and its label if there is one.

    content, label_content: hashes of the values in canonical orientation, whatever the files' types and axes;
        label_content is None of a label without foreground.
    thumbnail: [SIDE^3], the image in canonical orientation, coarse, with mean 0 and length 1; zeros if it is constant.
    repeated: how many slices along the third axis are equal to the one before.
    percentiles: of the intensities, at PERCENTILES.
    tissue: median intensity of the voxels above AIR, which of CT is everything but air and lung; nan without one.
    header: the spacing by pixdim and by the affine, and the largest shift in mm between qform and sform (None
        where one of them is missing).
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: str
    kind: str
    content: str
    thumbnail: NDArray[np.float32]
    constant: bool
    repeated: int
    percentiles: tuple[float, ...]
    tissue: float
    affine_spacing: tuple[float, ...]
    qform_shift: float | None
    label_content: str | None = None
    classes: Mapping[int, ClassFacts] = field(default_factory=dict)


def facts_of(image: Volume, label: Volume | None) -> Facts:
    """Measure an image [X, Y, Z], and its label on the same grid."""
    axes = nib.orientations.io_orientation(image.affine)
    values = nib.orientations.apply_orientation(image.values, axes)
    finite = image.values[np.isfinite(image.values)] if image.values.dtype.kind == "f" else image.values.ravel()
    some = finite[:: max(1, finite.size // 1_000_000)] if finite.size else np.zeros(1)
    ordered = np.sort(some.astype(np.float64))
    middle = np.moveaxis(image.values, 2, 0)
    found = _label_facts(image, label, axes, ordered) if label is not None else (None, {})
    return Facts(
        shape=image.values.shape,
        spacing=tuple(image.spacing),
        orientation=image.orientation,
        kind=str(image.values.dtype),
        content=_hash(values),
        thumbnail=_thumbnail(values),
        constant=not finite.size or bool(finite.min() == finite.max()),
        repeated=sum(bool(np.array_equal(a, b)) for a, b in pairwise(middle)),
        percentiles=tuple(float(v) for v in np.percentile(ordered, PERCENTILES)),
        tissue=float(np.median(above)) if (above := ordered[ordered > AIR]).size else math.nan,
        affine_spacing=tuple(float(v) for v in np.linalg.norm(image.affine[:3, :3], axis=0)),
        qform_shift=_qform_shift(image),
        label_content=found[0],
        classes=found[1],
    )


def _label_facts(
    image: Volume, label: Volume, axes: NDArray[Any], ordered: NDArray[np.float64]
) -> tuple[str | None, dict[int, ClassFacts]]:
    same_grid = label.values.shape == image.values.shape
    own = axes if same_grid else nib.orientations.io_orientation(label.affine)
    values = nib.orientations.apply_orientation(label.values, own)
    numbers = values.astype(np.int64)
    if not numbers.any() or not np.array_equal(numbers, values) or numbers.min() < 0 or numbers.max() > 65_535:
        return (_hash(values) if values.any() else None), {}
    picture = nib.orientations.apply_orientation(image.values, axes) if same_grid else None
    millilitres = float(np.prod(label.spacing)) / 1000
    classes = {}
    for number, box in enumerate(ndimage.find_objects(numbers), 1):
        if box is None:
            continue
        mask = numbers[box] == number
        count = int(mask.sum())
        parts, _ = ndimage.label(mask, np.ones((3, 3, 3)))
        largest = int(np.bincount(parts.ravel())[1:].max())
        centre = tuple(float(c + side.start) for c, side in zip(ndimage.center_of_mass(mask), box, strict=True))
        rank = None
        if picture is not None:
            middle = float(np.median(picture[box][mask]))
            below = [np.searchsorted(ordered, middle, side) for side in ("left", "right")]
            rank = float(np.mean(below)) / len(ordered)
        place = (centre[0], centre[1], centre[2])
        classes[number] = ClassFacts(count, count * millilitres, largest / count, place, rank)
    return _hash(numbers.astype(np.uint16)), classes


def _hash(values: NDArray[Any]) -> str:
    plain = np.ascontiguousarray(values, dtype=np.float32)
    return hashlib.sha256(repr(plain.shape).encode() + plain.tobytes()).hexdigest()


def _thumbnail(values: NDArray[Any]) -> NDArray[np.float32]:
    # A copy, since torch takes no negative strides, which a mirrored axis of one voxel keeps as it is.
    whole = torch.as_tensor(np.array(values, dtype=np.float32, order="C"))[None].nan_to_num(0.0, 0.0, 0.0)
    coarse = torch.nn.functional.adaptive_avg_pool3d(whole, SIDE).double().flatten()
    coarse -= coarse.mean()
    length = float(coarse.norm())
    flat = length <= 1e-6 * max(1.0, float(whole.abs().max()))
    found: NDArray[np.float32] = (coarse * 0 if flat else coarse / length).float().numpy()
    return found


def _qform_shift(image: Volume) -> float | None:
    """How far qform and sform move a corner apart, in mm, where the header has both."""
    try:
        qform, sform = image.header.get_qform(coded=True)[0], image.header.get_sform(coded=True)[0]
    except (HeaderDataError, np.linalg.LinAlgError, ValueError):  # ValueError: a quaternion that is no rotation
        return None
    return None if qform is None or sform is None else grid_shift(qform, sform, image.values.shape)
