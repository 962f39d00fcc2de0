"""Made-up data sets of tiny files."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from tools.common.findings import Findings
from tools.new.sources import Source, find_cases


def make(root: Path, *names: str, shape: tuple[int, ...] = (4, 3, 2)) -> Path:
    """NIfTI files of these names below a folder, which is returned."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4)).to_filename(path)
    root.mkdir(exist_ok=True)
    return root


def look(images: Path, labels: Path | None = None, unlabelled: Path | None = None, **more: object) -> Findings:
    """What is found to be wrong."""
    findings = Findings()
    found(images, labels, unlabelled, findings=findings, **more)
    return findings


def found(
    images: Path,
    labels: Path | None = None,
    unlabelled: Path | None = None,
    classes: Path | None = None,
    findings: Findings | None = None,
    patients: str | None = None,
) -> Source:
    """What is found; nothing may be wrong unless `findings` takes it."""
    taken = Findings() if findings is None else findings
    source = find_cases(images, labels, unlabelled, classes, taken, patients)
    assert findings is not None or not taken.lines, taken.lines
    return source


def labels_of(source: Source) -> dict[str, str | None]:
    """The name of each case's label."""
    return {case.id: case.label and case.label.name for case in source.cases}


def patients_of(source: Source) -> dict[str, str]:
    """Whose each case is."""
    return {case.id: case.patient for case in source.cases}
