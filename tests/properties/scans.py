"""Strategies of scans: any grid, stored in any way, with values that say where in the patient each voxel lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from hypothesis import strategies as st
from nibabel.eulerangles import euler2mat
from numpy.typing import NDArray

Array = NDArray[Any]
Turn = tuple[tuple[int, ...], tuple[bool, ...]]  # the old axis that each new one is, and whether it runs backwards
TURNS: list[Turn] = [(order, flips) for order in permutations(range(3)) for flips in product((False, True), repeat=3)]

turns = st.sampled_from(TURNS)
class_counts = st.integers(1, 15)
seeds = st.integers(0, 2**32 - 1)
lengths = st.one_of(st.integers(4, 20), st.integers(1, 3))  # voxels along an axis: any, or next to none
spacings = st.floats(0.3, 8)  # mm
factors = st.tuples(*[st.floats(0.7, 1.6)] * 3)  # of a network's spacing to the scan's


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a volume lie.

    shape: [X, Y, Z].
    affine: voxel indices to mm, [4, 4], RAS+.
    """

    shape: tuple[int, int, int]
    affine: Array

    @property
    def spacing(self) -> Array:
        """Millimetres per voxel and axis."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def world(self) -> Array:
        """Millimetres of each voxel, [3, X, Y, Z]."""
        return moved(self.affine, np.indices(self.shape))

    def in_network(self, factors: Sequence[float]) -> Grid:
        """The grid that a 3D network has of it: about the same axes, as RAS as can be, with these times its spacing.

        Its size is the scan's, which nobody asks for.
        """
        image = nib.as_closest_canonical(nib.Nifti1Image(np.empty(self.shape, np.uint8), self.affine))
        return Grid(image.shape, image.affine @ np.diag([*factors, 1.0]))

    @property
    def plane(self) -> list[int]:
        """The axes of its slices, as RAS as can be: all but the coarsest one, or else but that from feet to head."""
        towards = nib.orientations.io_orientation(self.affine)[:, 0].astype(int).tolist()
        thick = [axis for axis in range(3) if self.spacing[axis] * 1.5 > max(self.spacing)]
        along = thick[0] if len(thick) == 1 else towards.index(2)
        return sorted({0, 1, 2} - {along}, key=lambda axis: towards[axis])

    def in_slices(self, size: Sequence[int] | None = None) -> Array:
        """Its affine with the spacing of slices that are resized to this size, and none from slice to slice."""
        scale = np.zeros(4)
        scale[3] = 1
        for axis, voxels in zip(self.plane, size or [self.shape[axis] for axis in self.plane], strict=True):
            scale[axis] = self.shape[axis] / voxels
        return self.affine @ np.diag(scale)

    def turned(self, turn: Turn) -> Grid:
        """The same places, stored along other axes."""
        order, flips = turn
        step = np.zeros((4, 4))  # from new indices to old ones
        step[3, 3] = 1
        for new, (old, back) in enumerate(zip(order, flips, strict=True)):
            step[old, new] = -1 if back else 1
            step[old, 3] = self.shape[old] - 1 if back else 0
        shape = tuple(self.shape[old] for old in order)
        return Grid((shape[0], shape[1], shape[2]), self.affine @ step)


def moved(affine: Array, places: Array) -> Array:
    """Places [3, ...] under an affine [4, 4]."""
    return np.tensordot(affine[:3, :3], places, 1) + affine[:3, 3].reshape(3, *[1] * (places.ndim - 1))


def turned(values: Array, turn: Turn) -> Array:
    """Values [X, Y, Z, ...] as `Grid.turned` stores them."""
    order, flips = turn
    rest = range(3, values.ndim)
    return np.flip(values.transpose(*order, *rest), [axis for axis, back in enumerate(flips) if back])


@st.composite
def grids(draw: Callable[..., Any], lengths: st.SearchStrategy[int] = lengths, oblique: bool = True) -> Grid:
    """Any axes, in half of the cases turned further by up to 34 degrees about each; two voxels or more."""
    shape = draw(st.tuples(lengths, lengths, lengths).filter(lambda shape: max(shape) > 1))
    spacing = draw(st.tuples(spacings, spacings, spacings))
    order, flips = draw(turns)
    angle = st.floats(-0.6, 0.6) if oblique and draw(st.booleans()) else st.just(0.0)
    tilt = euler2mat(draw(angle), draw(angle), draw(angle))
    affine = np.eye(4)
    affine[:3, :3] = tilt @ (np.eye(3)[:, order] * np.where(flips, -1, 1)) @ np.diag(spacing)
    affine[:3, 3] = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return Grid(shape, affine)


@dataclass(frozen=True)
class Storage:
    """How a volume is written as NIfTI.

    dtype: of the numbers in the file.
    slope, inter: from these numbers to the values; None for a file without.
    version: of NIfTI, 1 or 2.
    big: whether the most significant byte comes first.
    forms: which of "sform" and "qform" the header has.
    ending: of the file's name.
    """

    dtype: str
    slope: float | None = None
    inter: float = 0
    version: int = 1
    big: bool = False
    forms: tuple[str, ...] = ("sform", "qform")
    ending: str = ".nii.gz"

    def save(self, stem: Path, values: Array, affine: Array) -> Path:
        """Write values [X, Y, Z] into a file of this stem."""
        kind = {1: nib.Nifti1Image, 2: nib.Nifti2Image}[self.version]
        header = kind.header_class(endianness=">" if self.big else "<")
        numbers = values if self.slope is None else (values - self.inter) / self.slope
        image = kind(numbers.astype(self.dtype), affine, header, dtype=self.dtype)
        for form in ("sform", "qform"):
            getattr(image, f"set_{form}")(affine if form in self.forms else None, code=int(form in self.forms))
        if self.slope is not None:
            image.header.set_slope_inter(self.slope, self.inter)
        path = stem.with_name(stem.name + self.ending)
        image.to_filename(path)
        return path


@st.composite
def storages(draw: Callable[..., Any], numbers: st.SearchStrategy[tuple[Any, ...]]) -> Storage:
    """Any file of these (dtype, slope, inter)."""
    return Storage(
        *draw(numbers),
        version=draw(st.sampled_from([1, 2])),
        big=draw(st.booleans()),
        forms=draw(st.sampled_from([("sform", "qform"), ("sform",), ("qform",)])),
        ending=draw(st.sampled_from([".nii.gz", ".nii"])),
    )


# Of intensities from -225 to 275 (`hounsfield`): unsigned numbers need an intercept.
SIGNED = [(dtype, None, 0) for dtype in ("int16", "int32", "float32", "float64")]
RESCALED = [("uint8", 2.0, -225), ("uint16", 1.0, -1024), ("int16", 0.25, -100.5), ("int32", 0.5, 1000)]
images = storages(st.sampled_from(SIGNED + RESCALED))
labels = storages(st.sampled_from([("uint8", None), ("uint16", None), ("int16", 1.0), ("uint8", 0.5), *SIGNED]))


@dataclass(frozen=True)
class Ramp:
    """A scan whose intensities grow evenly along a direction in the patient, from 0 to 1 within its grid.

    So an interpolation, however fine or coarse, gives what the direction says of the place, and every swapped,
    mirrored or shifted axis shows.
    """

    grid: Grid
    direction: Array  # unit vector, RAS+
    start: float
    length: float  # mm

    @classmethod
    def through(cls, grid: Grid, seed: int) -> Ramp:
        """Along a direction that has a share of each of the patient's axes, by which no two axes are alike."""
        rng = np.random.default_rng(seed)
        shares = rng.permutation([1.0, 1.6, 2.5]) * rng.choice([-1, 1], 3)
        direction = shares / np.linalg.norm(shares)
        along = np.tensordot(direction, grid.world(), 1)
        return cls(grid, direction, float(along.min()), float(np.ptp(along)))

    def at(self, places: Array) -> Array:
        """The value, from 0 to 1 within the grid, at places [3, ...] in mm."""
        return (np.tensordot(self.direction, places, 1) - self.start) / self.length

    def over(self, affine: Array, voxels: float = 1.0) -> float:
        """By how much it changes over so many voxels along each axis of a grid with this affine."""
        return voxels * float(np.abs(self.direction @ affine[:3, :3]).sum()) / self.length


CLIPPED = 0.2  # of a ramp's values: the window of a CT shows lower ones as 0
ROUNDING = 0.005  # of a ramp's values, which `hounsfield` rounds
FAINT = 0.25  # of a ramp's values: lower ones are background, and its lowest part is air


def hounsfield(values: Array) -> Array:
    """A ramp's values from 0 to 1 as a CT shows them: -225 to 275, in steps that every storage holds exactly."""
    return 2 * np.rint(250 * values) - 225


def shown(values: Array, ct: bool) -> Array:
    """What a network is shown of a ramp's values: of a CT's window, or all of them."""
    return np.clip((values - CLIPPED) / (1 - CLIPPED), 0, 1) if ct else np.clip(values, 0, 1)


def class_of(values: Array, classes: int) -> Array:
    """The class of a ramp's values: 0 for the lowest ones, then 1, 2, ... in equal bands."""
    share = (np.clip(values, 0, 1) - FAINT) / (1 - FAINT)
    return np.where(share < 0, 0, np.minimum(np.floor(share * classes), classes - 1) + 1).astype(int)
