"""A datalist of another form, or one in which data leak from one role to another, is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.data.checks import nifti_fault
from scripts.errors import UserError
from tests.split_files import PATIENTS, case, edit, split_at


def test_an_id_that_stands_twice_is_named(folder: Path) -> None:
    cases = [case(patient) for patient in [*PATIENTS, "v1", "v2", "t1"]]
    edit(folder / "datalist.json", cases=[*cases, case("p01") | {"image": "images/other.nii"}])
    with pytest.raises(UserError, match=r"datalist\.json: expected every id once, found p01_ED more often; give each"):
        split_at(folder, 10)


@pytest.mark.parametrize("written", ["images/p01.nii", "images/../images/p01.nii"])
def test_an_image_under_two_patients_is_named(folder: Path, written: str) -> None:
    cases = [case(patient) for patient in [*PATIENTS, "v1", "v2", "t1"]]
    edit(folder / "datalist.json", cases=[*cases[:-1], cases[-1] | {"image": written}])
    with pytest.raises(UserError, match=r"every image under one patient, found images/p01\.nii of p01, t1; correct"):
        split_at(folder, 10)


@pytest.mark.parametrize(("one", "other"), [("p01", "v1"), ("p07", "t1"), ("v2", "t1")])
def test_a_copy_of_an_image_in_two_roles_is_named(folder: Path, one: str, other: str) -> None:
    (folder / "images").mkdir()
    for number, patient in enumerate([*PATIENTS, "v1", "v2", "t1"]):
        (folder / "images" / f"{patient}.nii").write_bytes(bytes(9000) + bytes([number]) * 9000)
    split_at(folder, 10)
    (folder / "images" / f"{other}.nii").write_bytes((folder / "images" / f"{one}.nii").read_bytes())
    with pytest.raises(UserError, match=rf"in one role of .*, found {one}_ED \(\w+\) and {other}_ED \(\w+\) with the"):
        split_at(folder, 10)


def test_copies_in_one_role_and_files_that_agree_in_their_middle_are_no_leak(folder: Path) -> None:
    (folder / "images").mkdir()
    for patient, last in (("p01", b"a"), ("p02", b"a"), ("v1", b"b")):
        (folder / "images" / f"{patient}.nii").write_bytes(bytes(20_000) + last)
    assert len(split_at(folder, 10)["unlabelled"]) == 18


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"id": 5}, r"cases\[0\]\.id: expected text in one line, found 5"),
        ({"image": "a\0.nii"}, r"cases\[0\]\.image: expected a path"),
        ({"image": "a\n.nii"}, r"cases\[0\]\.image: expected a path"),
        ({"image": "a\ud800.nii"}, r"cases\[0\]\.image: expected a path.*, found 'a\\ud800\.nii'"),
        (
            {"patient": "p\u202e1"},
            r"cases\[0\]\.patient: expected text in one line, or a whole number, found 'p\\u202e1'",
        ),
        ({"spacing": [1, 1]}, r"cases\[0\]\.spacing: expected three numbers of mm"),
        ({"spacing": [1, 1, -1]}, r"cases\[0\]\.spacing\[2\]: expected a number of mm above 0, found -1"),
        ({"shape": "large"}, r"cases\[0\]\.shape: expected a list"),
        ({"voxels": {"one": 1}}, r"cases\[0\]\.voxels: expected a class id"),
        ({"modality": ["CT"]}, r"cases\[0\]\.modality: expected a modality"),
        ({"label": None}, r"cases\[0\]\.label: expected text"),
    ],
)
def test_a_case_of_another_form_is_named_with_its_place(folder: Path, changes: dict[str, Any], found: str) -> None:
    edit(folder / "datalist.json", cases=[case("p01") | changes])
    with pytest.raises(UserError, match=rf"datalist\.json: {found}.*; correct it"):
        split_at(folder, 10)


def test_an_image_of_a_name_that_no_disk_can_hold_is_no_file(folder: Path) -> None:
    cases = [case(patient) for patient in [*PATIENTS, "v1", "v2", "t1"]]
    edit(folder / "datalist.json", cases=[cases[0] | {"image": "a" * 300}, *cases[1:]])
    split_at(folder, 10)  # it is told when it is loaded
    fault = nifti_fault(folder / ("a" * 300))
    assert fault is not None
    assert fault.found == "no such file"


def test_a_key_that_stands_twice_is_named_in_one_line(folder: Path) -> None:
    (folder / "datalist.json").write_text('{"a\\u001b\\ud800": 1, "a\\u001b\\ud800": 2}')
    with pytest.raises(UserError, match=r"expected each key once, found a\\x1b\\ud800 twice"):
        split_at(folder, 10)
