"""A list of the cases as CSV, TSV or JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tools.new.trees import found, look, make


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make(tmp_path / "data", "a1.nii.gz", "a2.nii.gz", "b1.nii.gz", "b2.nii.gz", "l1.nii.gz")


def written(folder: Path, text: str, name: str = "cases.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_table_names_images_labels_patients_ids_and_roles(mark: str, data: Path) -> None:
    rows = ["id, image,label,patient,role", "x,a1.nii.gz,l1.nii.gz,7,train", 'y,"../data/a2.nii.gz",,8,validation']
    text = "\ufeff" + "\r\n".join(rows).replace(",", mark)
    first, second = found(written(data, text)).cases
    assert (first.id, first.patient, first.role) == ("x", "7", "train")
    assert (first.images, first.label) == ((data / "a1.nii.gz",), data / "l1.nii.gz")
    assert (second.id, second.patient, second.role, second.label) == ("y", "8", "validation", None)
    assert second.images == (data / "a2.nii.gz",)


def test_columns_of_images_are_channels(data: Path) -> None:
    rows = "image_T1,image_T2,label\na1.nii.gz,b1.nii.gz,l1.nii.gz\na2.nii.gz,b2.nii.gz,\n"
    source = found(written(data, rows))
    assert (source.channels, source.modality) == (("T1", "T2"), "MR")
    assert [[path.name for path in case.images] for case in source.cases] == [
        ["a1.nii.gz", "b1.nii.gz"],
        ["a2.nii.gz", "b2.nii.gz"],
    ]
    assert [(case.id, case.patient) for case in source.cases] == [("a1", "a1"), ("a2", "a2")]


def test_json_is_a_list_or_a_datalist(data: Path) -> None:
    records = [{"image": ["a1.nii.gz", "b1.nii.gz"], "label": "l1.nii.gz", "patient": 3, "voxels": {"1": 5}}]
    records += [{"image": ["a2.nii.gz", str(data / "b2.nii.gz")], "id": "z", "patient": "four"}]
    plain = found(written(data, json.dumps(records), "cases.json"))
    assert found(written(data, json.dumps({"cases": records}), "datalist.json")).cases == plain.cases
    assert plain.channels == ("0", "1")
    assert [(case.id, case.patient, len(case.images)) for case in plain.cases] == [("a1", "3", 2), ("z", "four", 2)]


def test_a_list_may_name_the_unlabelled_images(data: Path, tmp_path: Path) -> None:
    make(tmp_path, "i/a1.nii.gz", "l/a1.nii.gz")
    source = found(tmp_path / "i", tmp_path / "l", written(data, "image,label\na2.nii.gz,l1.nii.gz\n"))
    assert [(case.id, case.label is None) for case in source.cases] == [("a1", False), ("a2", True)]


GOOD = "a1.nii.gz,l1.nii.gz"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected at least one case, found none"),
        ("image,label", "expected at least one case, found none"),
        ("label\nl1.nii.gz", "expected a column image, or image_0, image_1 and so on, found neither"),
        ("image,image_0\na1.nii.gz,a2.nii.gz", "expected a column image, or image_0, image_1 and so on, found both"),
        (f"image,lable\n{GOOD}", "expected known columns, found 'lable'; did you mean 'label'?"),
        (f"image,image\n{GOOD}", "expected each column once, found ['image', 'image']"),
        (f"image,label\n{GOOD},7", "expected 2 values in each row, found others in row 1"),
        ("image,label\na1.nii.gz", "expected 2 values in each row, found others in row 1"),
        (f"image,label,role\n{GOOD},tset", "expected a role of case 1, one of train, validation, test, found 'tset'"),
        (f"image,label\n{GOOD}\n,l1.nii.gz", "expected the path of a NIfTI file of case 2, found none"),
        ("image,label\na1.mha,l1.nii.gz", "found 'a1.mha'; convert them with SimpleITK"),
        ("image,label\na1.txt,l1.nii.gz", "found 'a1.txt'; convert it to NIfTI, and correct the list"),
        (
            f"image,label,patient\n{GOOD},1\na2.nii.gz,,",
            "expected a patient of every case, or of none, found none of 1",
        ),
        (f'image,label\n{GOOD}\n"a2.nii.gz', "expected a table with a heading, in UTF-8, found text that does not"),
        ("image_0,image_1,label\na1.nii.gz,,l1.nii.gz", "expected the path of a NIfTI file of case 1, found none"),
    ],
)
def test_fault_of_a_table_is_told(text: str, message: str, data: Path) -> None:
    path = written(data, text)
    line = look(path).lines[0]
    assert line.startswith(f"{path}: ")
    assert message in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (7, "expected a list of cases, each an object with an image, found 7"),
        ({}, "expected a list of cases, each an object with an image, found None"),
        ([["a1.nii.gz"]], "expected a list of cases, each an object with an image, found a list"),
        ([{"image": 7}], "expected the path of a NIfTI file of case 1, found 7"),
        ([{"image": {}}], "expected the path of a NIfTI file of case 1, found a dict"),
        ([{"image": []}], "expected an image of case 1, found none"),
        ([{"image": [["a1.nii.gz"]]}], "expected the path of a NIfTI file of case 1, found ['a1.nii.gz']"),
        ([{"image": "a1\0.nii.gz"}], "expected the path of a NIfTI file of case 1, found 'a1\\x00.nii.gz'"),
        ([{"image": "a1.nii.gz", "label": 1}], "expected the path of a NIfTI file of case 1, found 1"),
        ([{"image": "a1.nii.gz", "patient": []}], "expected text at 'patient' of case 1, found []"),
        ([{"image": "a1.nii.gz", "id": True}], "expected text at 'id' of case 1, found True"),
        ([{"image": "a1.nii.gz", "role": 1}], "expected a role of case 1, one of train, validation, test, found 1"),
    ],
)
def test_fault_of_a_json_list_is_told(content: Any, message: str, data: Path) -> None:
    path = written(data, json.dumps(content), "cases.json")
    line = look(path).lines[0]
    assert line.startswith(f"{path}: ")
    assert message in line


def test_table_that_is_no_text_is_told(data: Path) -> None:
    (data / "cases.csv").write_bytes(b"image\n\xff\xfe")
    assert "expected a table with a heading, in UTF-8" in look(data / "cases.csv").lines[0]


def test_faults_of_a_list_s_files_are_told_together(data: Path) -> None:
    rows = "image,label,id\na1.nii.gz,l1.nii.gz,x\na1.nii.gz,,y\nno.nii.gz,,x\n"
    rows += "b1.nii.gz,l1.nii.gz,z\nb2.nii.gz,b2.nii.gz,w\n"
    text = "\n".join(look(written(data, rows)).lines)
    assert "a1.nii.gz: expected a file used once, as the image of y, found it as the image of x, too" in text
    assert "no.nii.gz: expected an id that no other case has, found 'x' of " in text
    assert "no.nii.gz: expected the image of x, found no such file" in text
    assert "l1.nii.gz: expected a file used once, as the label of z, found it as the label of x, too" in text
    assert "b2.nii.gz: expected a file used once, as the label of w, found it as the image of w, too" in text


def test_rows_of_different_numbers_of_channels_are_told(data: Path) -> None:
    records = [{"image": ["a1.nii.gz", "b1.nii.gz"], "label": "l1.nii.gz"}, {"image": "a2.nii.gz"}]
    (line,) = look(written(data, json.dumps(records), "cases.json")).lines
    assert "a2.nii.gz: expected 2 files of a case, one per channel (0, 1), found another number; " in line
