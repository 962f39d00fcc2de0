"""How large each class is in the labels."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike

import numpy as np

from .errors import UserError, first_line


def class_sizes(
    labels: Iterable[str | PathLike[str]], num_classes: int, unit: str = "voxels", background: bool = False
) -> np.ndarray:
    """Size of every foreground class summed over label files, [num_classes] float64 (class c at index c - 1).

    Args:
        labels: label volumes in a format that MONAI's LoadImage reads, such as NIfTI, with the ids 0..num_classes.
        num_classes: K, the number of foreground classes.
        unit: "voxels", or "mm3" to weight each file's voxels by their volume.
        background: count class 0 too, which then comes first: [num_classes + 1].

    Raises:
        UserError: unknown unit; files that cannot be read or hold other values, all of them in one message.
    """
    from monai.transforms import LoadImage

    if unit not in ("voxels", "mm3"):
        raise UserError(f"class sizes: expected the unit voxels or mm3, found {unit!r}")
    load = LoadImage()
    sizes = np.zeros(num_classes + 1)
    problems = []
    for path in labels:
        try:
            label = load(path)
        except Exception as error:  # each reader and decompressor raises its own
            problems.append(f"{path}: expected a readable label image, found: {first_line(error)}")
            continue
        values, counts = np.unique(label.numpy(), return_counts=True)
        wrong = [v for v in values.tolist() if v not in range(num_classes + 1)]
        if wrong:
            found = ", ".join(f"{v:g}" for v in wrong[:8]) + (", ..." if len(wrong) > 8 else "")
            problems.append(f"{path}: expected label values 0..{num_classes}, found {found}")
            continue
        voxel = float(label.pixdim.prod()) if unit == "mm3" else 1.0
        for value, count in zip(values.astype(int), counts, strict=True):
            sizes[value] += count * voxel
    if problems:
        raise UserError("; ".join(problems) + "; correct the files or the number of classes")
    return sizes if background else sizes[1:]
