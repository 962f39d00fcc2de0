"""Splits: who is labelled, who is not, and what a user is told when a list does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.data.datalists import Split, load_split
from scripts.errors import UserError
from tests.split_files import PATIENTS, PUBLISHED, case, edit, split_at, write


def patients(items: list[dict[str, Any]]) -> list[str]:
    return [item["id"].removesuffix("_ED") for item in items]


@pytest.mark.parametrize("percent", [10, 10.0])
def test_a_published_percentage_takes_the_published_patients_in_their_order(folder: Path, percent: float) -> None:
    split = split_at(folder, percent)
    assert patients(split["labelled"]) == PUBLISHED
    assert patients(split["unlabelled"]) == [p for p in PATIENTS if p not in PUBLISHED]
    assert patients(split["validation"]) == ["v1", "v2"]
    assert patients(split["test"]) == ["t1"]


@pytest.mark.parametrize(("percent", "count"), [(5, 1), (14.9, 2), (15, 3), (35, 7), (99.9, 19), (100, 20)])
def test_any_other_percentage_takes_the_first_patients_rounded_down(folder: Path, percent: float, count: int) -> None:
    split = split_at(folder, percent)
    assert patients(split["labelled"]) == PATIENTS[:count]
    assert patients(split["unlabelled"]) == PATIENTS[count:]


@pytest.mark.parametrize(("percent", "count"), [(18.4, 69), (36.8, 138), (65.6, 246)])
def test_rounding_down_does_not_lose_a_patient_to_floating_point(folder: Path, percent: float, count: int) -> None:
    train = [f"q{number:03d}" for number in range(375)]
    edit(folder / "split.json", train=train, labelled={})
    edit(folder / "datalist.json", cases=[case(patient) for patient in [*train, "v1", "v2", "t1"]])
    assert percent * 375 / 100 < count  # by a rounding error
    assert len(split_at(folder, percent)["labelled"]) == count


def test_all_cases_of_a_patient_have_one_role(folder: Path) -> None:
    second = [case(patient) | {"id": f"{patient}_ES"} for patient in PATIENTS]
    edit(folder / "datalist.json", cases=[case(patient) for patient in [*PATIENTS, "v1", "v2", "t1"]] + second)
    split = split_at(folder, 10)
    assert [item["id"] for item in split["labelled"]] == ["p07_ED", "p07_ES", "p03_ED", "p03_ES"]
    assert len(split["unlabelled"]) == 2 * 18


def test_unlabelled_cases_carry_no_label_even_where_a_file_exists(folder: Path) -> None:
    (folder / "labels").mkdir()
    for patient in PATIENTS:
        (folder / "labels" / f"{patient}.nii").touch()
    split = split_at(folder, 10)
    assert not any("label" in item for item in split["unlabelled"])
    assert all("label" in item for role in ("labelled", "validation", "test") for item in split[role])


def test_relative_paths_start_at_the_datalist_and_absolute_ones_stay(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = folder.parent / "elsewhere" / "p01.nii"
    cases = [case(patient) for patient in [*PATIENTS, "v1", "v2", "t1"]]
    cases[0]["image"] = elsewhere.as_posix()
    edit(folder / "datalist.json", cases=cases)
    monkeypatch.chdir(folder)
    split = load_split("datalist.json", "split.json", 5)
    assert split["labelled"][0]["image"] == str(elsewhere)
    assert split["labelled"][0]["label"] == str(folder.resolve() / "labels" / "p01.nii")
    assert split["unlabelled"][0]["image"] == str(folder.resolve() / "images" / "p02.nii")


@pytest.mark.parametrize("percent", [0.1, 4.9])
def test_a_percentage_that_gives_no_patient_says_which_would(folder: Path, percent: float) -> None:
    with pytest.raises(UserError, match=rf"{percent} % of 20 patients .*split\.json; use 5 or more"):
        split_at(folder, percent)


@pytest.mark.parametrize("percent", [0, -5, 100.5, float("nan")])
def test_a_number_that_is_no_percentage_is_refused(folder: Path, percent: float) -> None:
    with pytest.raises(UserError, match="above 0 and at most 100"):
        split_at(folder, percent)


def test_missing_patients_of_all_roles_are_named_at_once(folder: Path) -> None:
    missing = ["p07", "p20", "v2"]
    edit(folder / "datalist.json", cases=[case(p) for p in [*PATIENTS, "v1", "v2", "t1"] if p not in missing])
    with pytest.raises(UserError, match=r"datalist\.json.*split\.json.*p07, p20, v2"):
        split_at(folder, 10)


def test_missing_test_patients_are_no_obstacle_to_training(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    edit(folder / "datalist.json", cases=[case(patient) for patient in [*PATIENTS, "v1", "v2"]])
    assert split_at(folder, 10)["test"] == []
    assert "1 test patients of the split are not in the datalist" in caplog.text


@pytest.mark.parametrize(("patient", "role"), [("p07", "labelled"), ("v1", "validation"), ("t1", "test")])
def test_a_case_that_needs_a_label_and_has_none_is_named(folder: Path, patient: str, role: str) -> None:
    cases = [case(p) for p in [*PATIENTS, "v1", "v2", "t1"]]
    for item in cases:
        if item["patient"] == patient:
            del item["label"]
    edit(folder / "datalist.json", cases=cases)
    with pytest.raises(UserError, match=rf"datalist\.json.*every {role} case.*{patient}_ED"):
        split_at(folder, 10)


@pytest.mark.parametrize("name", ["datalist.json", "split.json"])
@pytest.mark.parametrize(
    ("content", "found"), [(None, "no such file"), ("{", "does not parse"), ("[]", "found a list")]
)
def test_an_unreadable_list_is_named(folder: Path, name: str, content: str | None, found: str) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(UserError, match=rf"{name}.*{found}"):
        split_at(folder, 10)


@pytest.mark.parametrize("key", ["train", "validation"])
def test_a_split_without_a_needed_role_is_refused(folder: Path, key: str) -> None:
    content = json.loads((folder / "split.json").read_text())
    del content[key]
    write(folder / "split.json", content)
    with pytest.raises(UserError, match=rf"split\.json.*expected a key '{key}'"):
        split_at(folder, 10)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"test": ["t1", "p20", "p19"]}, "p19, p20 in both train and test"),
        ({"validation": ["v1", "p02"]}, "p02 in both train and validation"),
        ({"test": ["t1", "v2"]}, "v2 in both validation and test"),
        ({"train": [*PATIENTS, "p05"]}, "p05 twice in train"),
        ({"validation": ["v1", "v2", "v1", "v1"]}, "v1 twice in validation"),
        ({"labelled": {"10": ["p07", "p07"]}}, "p07 twice in labelled 10"),
        ({"labelled": {"10": PUBLISHED, "20": ["p01", "v1"]}}, "v1 in labelled 20 and not in train"),
    ],
)
def test_a_patient_of_two_roles_is_named_whatever_percentage_is_asked_for(
    folder: Path, changes: dict[str, Any], found: str
) -> None:
    edit(folder / "split.json", **changes)
    with pytest.raises(UserError, match=rf"split\.json: expected each patient .*, found {found}; give each"):
        split_at(folder, 10)


def test_all_that_is_wrong_with_the_roles_is_told_in_one_line(folder: Path) -> None:
    edit(folder / "split.json", test=["t1", "t1", *PATIENTS[:9]], labelled={"10": ["q1"]})
    with pytest.raises(UserError) as error:
        split_at(folder, 10)
    found = (
        "found p01, p02, p03, p04, p05 and 4 more in both train and test; t1 twice in test; q1 in labelled 10 and not"
    )
    assert found in str(error.value)
    assert "\n" not in str(error.value)


def test_validation_on_training_patients_has_to_be_meant(folder: Path) -> None:
    edit(folder / "split.json", validation=["v1", "p07"], validation_trains=True)
    split = split_at(folder, 10)
    assert patients(split["validation"]) == ["v1", "p07"]
    assert patients(split["labelled"]) == PUBLISHED
    edit(folder / "split.json", validation_trains=False)
    with pytest.raises(UserError, match="p07 in both train and validation"):
        split_at(folder, 10)
    edit(folder / "split.json", validation_trains=True, test=["p07"])
    with pytest.raises(UserError, match=r"found p07 in both train and test; p07 in both validation and test; give"):
        split_at(folder, 10)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"train": "p01"}, "train: expected a list of patients, found 'p01'"),
        ({"validation": [["v1"]]}, "validation\\[0\\]: expected a patient, .*, found \\['v1'\\]"),
        ({"test": None}, "test: expected a list of patients, found None"),
        ({"labelled": ["p07"]}, "labelled: expected a mapping of percentages to patients, found \\['p07'\\]"),
        ({"labelled": {"10": "p07"}}, "labelled.10: expected a list of patients, found 'p07'"),
        ({"labelled": {"ten": ["p07"]}}, "labelled: expected a percentage, found 'ten'"),
    ],
)
def test_a_list_of_the_wrong_type_is_named(folder: Path, changes: dict[str, Any], found: str) -> None:
    edit(folder / "split.json", **changes)
    with pytest.raises(UserError, match=rf"split\.json: {found}"):
        split_at(folder, 10)


def test_a_split_is_read_when_a_role_is_asked_for(heart_phantom: Path) -> None:
    files = (heart_phantom / "datalist.json", heart_phantom / "split.json", 50)
    split, expected = Split(*files), load_split(*files)
    assert split.unlabelled_beside([{"image": "other.nii.gz", "label": "other_seg.nii.gz"}]) == []
    assert not split  # nothing was read for that
    assert split.unlabelled_beside(split["labelled"]) == expected["unlabelled"] != []
    assert dict(split) == expected
    assert split.unlabelled_beside(expected["labelled"][:1]) == []


def test_a_split_without_a_datalist_serves_cases_from_elsewhere_only(tmp_path: Path) -> None:
    split = Split(tmp_path / "datalist.json", tmp_path / "split.json", 50)
    assert split.unlabelled_beside([{"image": "other.nii.gz"}]) == []
    with pytest.raises(UserError, match="no such file"):
        split["labelled"]


def test_a_role_that_no_split_has_is_a_missing_key(folder: Path) -> None:
    split = Split(folder / "datalist.json", folder / "split.json", 10)
    with pytest.raises(KeyError, match="tset"):
        split["tset"]
    assert len(split["test"]) == 1
