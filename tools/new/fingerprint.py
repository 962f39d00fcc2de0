"""What a plan has to know of a data set, out of its datalist and of the voxels under its labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from scripts.data.checks import HIGHEST_IN_FAT
from scripts.data.orientation import slice_direction

from ..common.case_files import MOST_BELOW_IN_MR, read_volume
from ..common.findings import Findings

SAMPLE = 100_000  # voxels of a case
# Structures that mirror each other. A heart's chambers do not: they differ in more than their side.
SIDED = re.compile(r"(?<![a-z])(left|right)(?![a-z])(?![^a-z]+(ventric|atri))", re.IGNORECASE)
AXES = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
WINDOW = (0.5, 99.5)  # percentiles of the foreground that a window of CT reaches


@dataclass(frozen=True)
class ClassSize:
    """One class: in how many labelled cases, median voxels and millilitres in these, share of all foreground."""

    cases: int
    voxels: float
    millilitres: float
    share: float


@dataclass(frozen=True)
class Fingerprint:
    """Medians over the cases, axes running to the patient's right, front and head.

    shape, spacing: of all images, in voxels and mm.
    slices: axis along which slices follow each other: 0, 1 or 2; None where the cases differ.
    cases, labelled: how many.
    classes: by number.
    foreground: intensities under the labels, at the percentiles of WINDOW.
    sided: the classes that are named left or right.
    """

    shape: tuple[float, float, float]
    spacing: tuple[float, float, float]
    slices: int | None
    cases: int
    labelled: int
    classes: Mapping[int, ClassSize]
    foreground: tuple[float, float]
    sided: tuple[str, ...]

    @property
    def extent(self) -> tuple[float, ...]:
        """Millimetres of the median image along each axis."""
        return tuple(n * mm for n, mm in zip(self.shape, self.spacing, strict=True))


def fingerprint(content: Mapping[str, Any], root: Path) -> Fingerprint:
    """Take the fingerprint of a datalist's content, whose paths start from `root`."""
    cases = content["cases"]
    labelled = [case for case in cases if "label" in case]
    names = {int(c): name for c, name in content["labels"].items() if c != "0"}
    rows = [_canonical(case) for case in cases]
    directions = {row[2] for row in rows}
    return Fingerprint(
        shape=_medians([row[0] for row in rows]),
        spacing=_medians([row[1] for row in rows]),
        slices=directions.pop() if len(directions) == 1 else None,
        cases=len(cases),
        labelled=len(labelled),
        classes=_classes(labelled, names),
        foreground=_foreground(labelled, root),
        sided=tuple(name for name in names.values() if SIDED.search(name)),
    )


def _canonical(case: Mapping[str, Any]) -> tuple[list[float], list[float], int]:
    """Shape and spacing along the patient's axes, and the axis of the slices as `OrientSlicesd` finds it."""
    shape, spacing = [0.0] * 3, [0.0] * 3
    for letter, voxels, mm in zip(case["orientation"], case["shape"], case["spacing"], strict=True):
        shape[AXES[letter]], spacing[AXES[letter]] = float(voxels), float(mm)
    return shape, spacing, slice_direction(np.diag([*spacing, 1.0]))


def _medians(rows: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    x, y, z = (float(median(column)) for column in zip(*rows, strict=True))
    return x, y, z


def _classes(labelled: Sequence[Mapping[str, Any]], names: Mapping[int, str]) -> dict[int, ClassSize]:
    total = sum(sum(case["voxels"].values()) for case in labelled) or 1
    found = {}
    for number in names:
        counts = [(case["voxels"][str(number)], float(np.prod(case["spacing"]))) for case in labelled]
        present = [(voxels, voxels * mm3 / 1000) for voxels, mm3 in counts if voxels]
        found[number] = ClassSize(
            cases=len(present),
            voxels=median([voxels for voxels, _ in present] or [0.0]),
            millilitres=median([ml for _, ml in present] or [0.0]),
            share=sum(voxels for voxels, _ in counts) / total,
        )
    return found


def looks_like_ct(cases: Sequence[Mapping[str, Any]], root: Path) -> bool:
    """Whether most images with a label have air and fat in Hounsfield units, which make up much of every CT."""
    shares = [
        float((image.values < HIGHEST_IN_FAT).mean())
        for case in cases
        if "label" in case and (image := read_volume(root / _first_channel(case), Findings())) is not None
    ]
    return bool(shares) and median(shares) > MOST_BELOW_IN_MR


def _foreground(labelled: Sequence[Mapping[str, Any]], root: Path) -> tuple[float, float]:
    """What lies under the labels, of the first channel."""
    under = [np.zeros(0)]
    for case in labelled:
        image, label = (read_volume(root / path, Findings()) for path in (_first_channel(case), case["label"]))
        if image is not None and label is not None:
            inside = image.values[label.values > 0]
            under.append(inside[:: max(1, inside.size // SAMPLE)].astype(np.float64))
    values = np.concatenate(under)
    low, high = np.percentile(values, WINDOW) if values.size else (0.0, 0.0)
    return float(low), float(high)


def _first_channel(case: Mapping[str, Any]) -> str:
    return str(case["image"] if isinstance(case["image"], str) else case["image"][0])
