"""What is measured of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tools.new.fingerprint import fingerprint, looks_like_ct

NAMES = {"0": "background", "1": "left kidney", "2": "left atrium"}


def content(**changes: Any) -> dict[str, Any]:
    """Two labelled cases and an unlabelled one, stored along different axes."""
    axes = {"orientation": "RAS", "shape": [10, 20, 5], "spacing": [1.0, 2.0, 8.0]}
    other = {"orientation": "IPR", "shape": [7, 24, 14], "spacing": [8.0, 2.0, 1.0]}
    cases = [
        {"id": "a", "image": "a.nii", "label": "la.nii", "voxels": {"1": 100, "2": 0}, **axes},
        {"id": "b", "image": "b.nii", "label": "lb.nii", "voxels": {"1": 300, "2": 40}, **other},
        {"id": "c", "image": "c.nii", **axes},
    ]
    return {"labels": NAMES, "cases": cases, **changes}


def save(folder: Path, name: str, values: Any) -> None:
    nib.nifti1.Nifti1Image(np.asarray(values, np.int16), np.eye(4)).to_filename(folder / name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of 0 to 999 whose labels cover 100 to 899, and half of 0 to 999."""
    image = np.arange(1000).reshape(10, 10, 10)
    for name, label in (("a", (image >= 100) & (image < 900)), ("b", image >= 500)):
        save(tmp_path, f"{name}.nii", image)
        save(tmp_path, f"l{name}.nii", label)
    save(tmp_path, "c.nii", image)
    return tmp_path


def test_shapes_and_spacings_are_along_the_patients_axes(folder: Path) -> None:
    found = fingerprint(content(), folder)
    assert found.shape == (10, 20, 5)
    assert found.spacing == (1, 2, 8)
    assert found.extent == (10, 40, 40)
    assert found.slices == 2
    assert (found.cases, found.labelled) == (3, 2)


def test_slices_of_several_directions_have_none_in_common(folder: Path) -> None:
    mixed = content()
    mixed["cases"][0] |= {"spacing": [8.0, 1.0, 1.0]}
    assert fingerprint(mixed, folder).slices is None


def test_sizes_of_classes_are_medians_of_the_cases_that_have_them(folder: Path) -> None:
    classes = fingerprint(content(), folder).classes
    assert (classes[1].cases, classes[1].voxels, classes[1].millilitres) == (2, 200, pytest.approx(3.2))
    assert (classes[2].cases, classes[2].voxels, classes[2].millilitres) == (1, 40, pytest.approx(0.64))
    assert classes[1].share == pytest.approx(400 / 440)


def test_the_foreground_is_what_lies_under_the_labels(folder: Path) -> None:
    low, high = fingerprint(content(), folder).foreground
    assert low == pytest.approx(106, abs=3)
    assert high == pytest.approx(992, abs=3)


def test_paired_structures_have_sides_and_chambers_of_the_heart_have_not(folder: Path) -> None:
    names = [
        "left_kidney",
        "Lung, Right",
        "left atrium",
        "Right-ventricular cavity",
        "leftover",
        "left lateral ventricle",
    ]
    named = content(labels={str(c): name for c, name in enumerate(["background", *names])})
    for case in named["cases"][:2]:
        case["voxels"] = {str(c): 1 for c in range(1, 7)}
    assert fingerprint(named, folder).sided == ("left_kidney", "Lung, Right", "left lateral ventricle")


def test_ct_is_known_by_its_air(folder: Path) -> None:
    assert not looks_like_ct(content()["cases"], folder)
    for name in ("a", "b"):
        save(folder, f"{name}.nii", np.where(np.arange(1000) < 400, -1000, 40).reshape(10, 10, 10))
    assert looks_like_ct(content()["cases"], folder)
    assert not looks_like_ct([case for case in content()["cases"] if "label" not in case], folder)
