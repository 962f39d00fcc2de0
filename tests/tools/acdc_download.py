"""A made-up download in the layout of ACDC."""

from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (12, 10, 3)
AFFINE = np.diag([-1.5, -1.5, 10.0, 1.0])


def save(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(values, affine).to_filename(path)


def noted(image: Path, label: Path) -> dict[str, object]:
    """What the record of a case says of its two files."""
    return {
        "image": image.as_posix(),
        "label": label.as_posix(),
        "shape": [12, 10, 3],
        "spacing": [1.5, 1.5, 10.0],
        "orientation": "LPS",
        "sha256": {
            "image": hashlib.sha256(image.read_bytes()).hexdigest(),
            "label": hashlib.sha256(label.read_bytes()).hexdigest(),
        },
    }


def add_patient(
    folder: Path, name: str, frames: tuple[int, int] = (1, 12), ventricle: tuple[int, int] = (6, 3)
) -> None:
    """A patient's folder as in the download: two frames with labels, the left ventricle `ventricle` voxels wide."""
    rng = np.random.default_rng(int(name[-3:]))
    for frame, width in zip(frames, ventricle, strict=True):
        label = np.zeros(SHAPE, np.uint8)
        label[1:3, 2:5, 1] = 1
        label[3:11, 1:9, 1] = 2
        label[4 : 4 + width, 3:7, 1] = 3
        stem = folder / name / f"{name}_frame{frame:02d}"
        save(Path(f"{stem}.nii.gz"), rng.integers(0, 4095, SHAPE).astype(np.int16))
        save(Path(f"{stem}_gt.nii.gz"), label)
