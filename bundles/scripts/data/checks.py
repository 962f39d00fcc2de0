"""What makes an image or a label usable, whatever reads it."""

from __future__ import annotations

import contextlib
import gzip
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import UserError, first_line

if TYPE_CHECKING:
    import torch

HIGHEST_IN_FAT = -50  # HU; fat (about -100) and air (-1000) lie below, and every CT shows one of them
LARGEST_SHIFT = 0.1  # mm; converters round the geometry of an image and of its label differently
LARGEST_STRETCH = 0.01  # of a spacing, by which the header's two may differ: one is rounded
NIFTI = (".nii", ".nii.gz")
MOST_PACKED = 1040  # bytes that one byte of gzip data can stand for
MOST_AFTER = 2**20  # bytes behind the voxels of a compressed file
AGAIN = "download or export the file again"


class Fault(NamedTuple):
    """Why a file cannot be used: what was expected, what was found, and what to do."""

    expected: str
    found: str
    mend: str

    def __str__(self) -> str:
        return f"expected {self.expected}, found {self.found}; {self.mend}"


def nifti_fault(path: Path, one_spacing: bool = False, channels: int = 1) -> Fault | None:
    """What keeps a NIfTI file from being a volume that training and inference read alike; only its header is read.

    Args:
        path: the file, NIfTI-1 or NIfTI-2, compressed if its name ends in .gz.
        one_spacing: whether the header's two spacings (pixdim and affine) have to agree; where the image is resampled,
            it matters which of them is true.
        channels: that the file has to hold, of more than one along a fourth axis.
    """
    import nibabel as nib  # here, so that reading lists stays light

    expected = "a 3D NIfTI volume"
    if fault := file_fault(path):
        return fault
    try:
        with path.open("rb") as file:
            start = file.read(2)
        if fault := name_fault(path, start):
            return fault
        image = nib.load(path)
    except Exception as error:  # nibabel's and the decompressors' own
        return Fault(expected, f"a file that cannot be read ({first_line(error)})", AGAIN)
    if not isinstance(image, nib.nifti1.Nifti1Pair):  # NIfTI-2 is one, too
        return Fault(expected, f"a {type(image).__name__}", "convert it to NIfTI")
    held = path.stat().st_size * (MOST_PACKED if path.name.lower().endswith(".gz") else 1)
    return image_fault(image, held, one_spacing, channels)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Make sure that a NIfTI file is as it was compressed, beside the block that reads it.

    gzip's checksum stands at the end of a file, and MONAI's readers read as far as the voxels go. To decompress a file
    a second time in another thread takes hardly longer than to read it once.

    Raises:
        UserError: the checksum is of other content, or much more follows than the header says.
    """
    with ThreadPoolExecutor(1) as pool:
        checked = pool.submit(_checksum_fault, path)
        yield
        if fault := checked.result():
            raise UserError(f"{path}: {fault}")


def _checksum_fault(path: Path) -> Fault | None:
    import nibabel as nib

    if not path.name.lower().endswith(".gz"):
        return None
    try:
        image: Any = nib.load(path)
        data = image.dataobj
        left = data.offset + math.prod(data.shape) * data.dtype.itemsize + MOST_AFTER
        with gzip.open(path) as file:
            while left > 0 and (part := file.read(MOST_AFTER)):
                left -= len(part)
    except Exception as error:
        found = f"a truncated or otherwise unreadable file ({first_line(error)})"
        return Fault("a 3D NIfTI volume", found, AGAIN)
    return None if left > 0 else Fault("a 3D NIfTI volume", "a file in which more follows than its header says", AGAIN)


def file_fault(path: Path) -> Fault | None:
    """What keeps a file from being opened; a pipe or a device would never end."""
    if os.path.isfile(path):  # unlike Path's, False of a name that no disk can hold
        return None
    found = "something that is not a file" if os.path.exists(path) else "no such file"
    return Fault("a 3D NIfTI volume", found, "restore the file, or correct the path")


def image_fault(image: Any, held: int, one_spacing: bool = False, channels: int = 1) -> Fault | None:
    """What keeps the header of nibabel's image of a NIfTI file from being used (see `nifti_fault`).

    Args:
        image: of which no voxel has been read.
        held: bytes that the file, decompressed, has at most. nibabel would take memory for all that a header says.
        one_spacing, channels: see `nifti_fault`.
    """
    zooms = image.header.get_zooms()[:3]
    fault = grid_fault(image.shape, image.get_data_dtype(), image.affine, zooms, one_spacing, channels)
    size = math.prod(image.shape) * image.get_data_dtype().itemsize
    if fault is None and size > held:
        found = f"a truncated or otherwise unreadable file ({size} bytes by its header, which it cannot hold)"
        return Fault("a 3D NIfTI volume", found, AGAIN)
    if fault or np.allclose(zooms, np.linalg.norm(image.affine[:3, :3], axis=0)):
        return fault
    try:
        image.get_qform()  # MONAI's reader asks for it where the header's two spacings differ
    except Exception as error:
        return Fault("a qform that rotates", first_line(error), "repair the header")
    return None


def name_fault(path: Path, start: bytes) -> Fault | None:
    """Whether a file is compressed, by its first two bytes, and its name says something else."""
    if (start == b"\x1f\x8b") == path.name.lower().endswith(".gz"):
        return None
    found = "content that is not NIfTI" + ("" if path.name.lower().endswith(".gz") else ", but compressed")
    return Fault("a 3D NIfTI volume, compressed if its name ends in .gz", found, f"{AGAIN}, or rename it")


def grid_fault(
    shape: Sequence[int],
    kind: np.dtype[Any],
    affine: Any,
    spacing: Sequence[float],
    one_spacing: bool = False,
    channels: int = 1,
) -> Fault | None:
    """What keeps the grid of a volume and the type of its voxels from being used (see `nifti_fault`)."""
    expected = "a 3D NIfTI volume"
    size = f"{len(shape)}D ({' x '.join(map(str, shape))})"
    if channels > 1 and (len(shape) != 4 or shape[3] != channels):
        expected = f"{channels} channels (`in_channels`), a file for each or one whose fourth axis holds them"
        return Fault(expected, f"one file of {size}", "name the files CASE_0000, CASE_0001 and so on, or list them")
    if channels == 1 and len(shape) != 3:
        return Fault(expected, size, "export the file as one 3D volume")
    if 0 in shape:
        return Fault(expected, f"no voxel (shape {tuple(shape)})", AGAIN)
    if kind.kind not in "iuf":
        return Fault("one number per voxel", f"the voxel type {kind}", "export it in grey values")
    affine, zooms = np.asarray(affine, float), np.asarray(spacing, float)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    # The volume of a cell beside that of its box: 0 where two axes have one direction.
    flat = not np.isfinite(affine).all() or sizes.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-3
    if flat or not (np.isfinite(zooms).all() and zooms.min() > 0):
        return Fault("a finite, invertible affine", f"{affine[:3].tolist()}", "repair the header")
    if one_spacing and np.abs(sizes / zooms - 1).max() > LARGEST_STRETCH:
        two = " and ".join(" x ".join(f"{mm:.4g}" for mm in row) for row in (zooms, sizes))
        return Fault("one spacing in its header", f"{two} mm (pixdim and affine)", "correct the wrong one of them")
    return None


def grid_shift(affine: Any, other: Any, shape: Sequence[int]) -> float:
    """The largest distance in mm between the same corner of a grid of `shape` under two affines [4, 4]."""
    corners = np.array([(*corner, 1) for corner in product(*((0, n - 1) for n in shape))], float).T
    moved = (np.asarray(affine, float) - np.asarray(other, float)) @ corners
    return float(np.linalg.norm(moved[:3], axis=0).max())


def intensity_fault(image: torch.Tensor) -> Fault | None:
    """What keeps the intensities of an image from being used; in one pass, since one of the extremes would be NaN."""
    low, high = image.aminmax()
    if not (low.isfinite() and high.isfinite()):
        return Fault("finite numbers", "NaN or infinity", "repair or leave out the case")
    if low == high:
        return Fault("grey values that differ", f"{float(low):g} in every voxel", "export the image again")
    return None


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
