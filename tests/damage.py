"""Ways to spoil the files of a data set, for tests of what a bundle says about them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

Damage = Callable[[Path], None]


def damaged_copy(data: Path, folder: Path, file: str, damage: Damage) -> Path:
    """A copy of the data set `data` as `folder`, with `damage` done to one of its files."""
    shutil.copytree(data, folder)
    damage(folder / file)
    return folder


def change(new_voxels: Callable[[np.ndarray], np.ndarray], shift: float = 0) -> Damage:
    """Other voxels in a volume, and another place of it: `shift` mm along x."""

    def damage(path: Path) -> None:
        image = nib.nifti1.load(path)
        affine = image.affine.copy()
        affine[0, 3] += shift
        nib.Nifti1Image(new_voxels(np.asarray(image.dataobj)), affine).to_filename(path)

    return damage


def keep(part: Any) -> Damage:
    """Only a part of a volume, given as an index."""
    return change(lambda voxels: voxels[part])


def set_voxel(value: float) -> Damage:
    """This value in one voxel, not far from the middle of a volume."""

    def with_value(voxels: np.ndarray) -> np.ndarray:
        changed = voxels.astype(np.float32)
        changed[tuple(n // 2 for n in voxels.shape)] = value
        return changed

    return change(with_value)


def cut_off(path: Path) -> None:
    """The first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite_some(path: Path) -> None:
    """200 bytes of zeros in the middle of a file."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    path.write_bytes(content)


def swap(a: int, b: int) -> Callable[[np.ndarray], np.ndarray]:
    """Two classes exchanged."""
    return lambda label: np.where(label == a, b, np.where(label == b, a, label)).astype(label.dtype)


def scattered(number: int) -> Callable[[np.ndarray], np.ndarray]:
    """As many voxels of a class again, apart from it and from each other."""

    def change(label: np.ndarray) -> np.ndarray:
        changed = label.copy()
        free = np.zeros(label.shape, bool)
        free[::3, ::3, ::3] = True
        places = np.flatnonzero(free & (label == 0))
        changed.ravel()[places[: (label == number).sum()]] = number
        return changed

    return change


def most_of(number: int) -> Callable[[np.ndarray], np.ndarray]:
    """Next to nothing left of a class."""

    def change(label: np.ndarray) -> np.ndarray:
        changed = label.copy()
        places = np.flatnonzero(label == number)
        changed.ravel()[places[max(2, len(places) // 40) :]] = 0
        return changed

    return change
