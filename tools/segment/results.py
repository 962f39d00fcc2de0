"""What is written of a case."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.errors import UserError
from scripts.files import read_json, replacing, write_json

RECORD = "case.json"  # is in every finished folder
COLUMNS = ("case", "phase", "class", "name", "voxels", "volume_ml", "disagreement")


def is_finished(folder: Path, settings: Mapping[str, Any], overwrite: bool = False) -> bool:
    """Whether a case has been segmented before, with these settings; never, if it is to be repeated.

    Raises:
        UserError: with others, or a folder of something else.
    """
    if not folder.exists():
        return False
    if not (folder / RECORD).is_file():
        raise UserError(f"{folder}: expected a folder of results, found other files; choose another OUTPUT")
    if overwrite:
        return False
    found = read_json(folder / RECORD, "record of a segmentation").get("settings", {})
    different = sorted(key for key in settings if settings[key] != found.get(key))
    if different:
        what = ", ".join(f"{key} {found.get(key)!r}" for key in different)
        raise UserError(f"{folder}: expected results of the same settings, found {what}; add --overwrite")
    return True


def volume_rows(
    case: str,
    phase: str,
    labels: NDArray[np.uint8],
    affine: NDArray[np.float64],
    names: Mapping[int, str],
    disagreement: Mapping[int, float] | None,
) -> list[dict[str, Any]]:
    """A row per class: voxels, volume in ml, and how much the experts disagree ("" where that is not known)."""
    voxel = abs(float(np.linalg.det(affine[:3, :3]))) / 1000  # mm3 to ml
    counts = np.bincount(labels.ravel(), minlength=max(names) + 1)
    rows = []
    for c, name in names.items():
        score = None if disagreement is None else disagreement.get(c)
        numbers = {"voxels": int(counts[c]), "volume_ml": round(int(counts[c]) * voxel, 4)}
        rows.append(
            {"case": case, "phase": phase, "class": c, "name": name}
            | numbers
            | {"disagreement": "" if score is None else round(score, 4)}
        )
    return rows


def write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows of volumes as CSV."""
    with replacing(path, "the volumes") as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)


def write_record(folder: Path, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], **about: Any) -> None:
    """Write what the folder holds, last of all: what was segmented, with which settings, and the volumes."""
    write_json(folder / RECORD, {**about, "settings": dict(settings), "volumes": list(rows)})


def write_map(path: Path, values: NDArray[np.uint8], affine: NDArray[np.float64], scale: float | None = None) -> None:
    """Write whole numbers [X, Y, Z] or [X, Y, Z, K] as NIfTI; with `scale` a reader gets them times this."""
    import nibabel as nib

    image = nib.Nifti1Image(values, affine)
    if scale is not None:
        image.header.set_slope_inter(scale, 0)
    image.to_filename(path)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The volumes of a finished folder."""
    rows: list[dict[str, Any]] = read_json(folder / RECORD, "record of a segmentation")["volumes"]
    return rows
