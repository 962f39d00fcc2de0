"""`check`: the files of a data set, the labels in them, and sizes that do not fit them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.tools.check_runner import CONFIGS, TRAIN, Check, runner

MakeData = Callable[..., Path]


@pytest.fixture
def check(heart_phantom: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Runs the verb on the phantom."""
    return runner(heart_phantom, capsys)


@pytest.fixture
def data(heart_phantom: Path, tmp_path: Path) -> MakeData:
    """Makes a copy of the phantom; its datalist and its split may be changed."""

    def make(datalist: dict[str, Any] | None = None, split: dict[str, Any] | None = None) -> Path:
        folder = shutil.copytree(heart_phantom, tmp_path / "heart")
        for name, changes in (("datalist.json", datalist), ("split.json", split)):
            content = json.loads((folder / name).read_text()) | (changes or {})
            (folder / name).write_text(json.dumps(content))
        return folder

    return make


def cases(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "datalist.json").read_text())["cases"]


def test_missing_images_and_labels_are_named_by_role(check: Check, data: MakeData) -> None:
    folder = data()
    (folder / "images" / "heart001_ED.nii.gz").unlink()
    (folder / "labels" / "heart005_ES.nii.gz").unlink()
    for image in (folder / "images").glob("heart007*"):
        image.unlink()
    code, _, error = check(TRAIN, data=folder)
    assert code == 2
    assert [line.split("datalist.json: ")[1].split(f"{folder}/")[0] for line in error[1:]] == [
        "expected the image of every labelled case, found no ",
        "expected the label of every validation case, found no ",
        "expected the image of every test case, found no ",
    ]
    assert "heart007_ED.nii.gz, " in error[3]


def test_label_file_of_an_unlabelled_case_is_not_asked_for(check: Check, heart_phantom: Path, data: MakeData) -> None:
    unlabelled = [case | {"label": "labels/gone.nii.gz"} for case in cases(heart_phantom) if "label" not in case]
    labelled = [case for case in cases(heart_phantom) if "label" in case]
    assert check(TRAIN, data=data({"cases": labelled + unlabelled}))[0] == 0


def test_patients_of_the_split_that_the_datalist_lacks(check: Check, heart_phantom: Path, data: MakeData) -> None:
    kept = [case for case in cases(heart_phantom) if case["patient"] not in ("heart003", "heart005", "heart008")]
    code, printed, error = check(TRAIN, data=data({"cases": kept}))
    assert code == 2
    assert len(error) == 3
    assert "expected the unlabelled patients of" in error[1]
    assert "found no heart003;" in error[1]
    assert "expected the validation patients of" in error[2]
    assert "lacks 1 of 2 test patients" in printed


def test_labelled_case_without_a_label(check: Check, data: MakeData) -> None:
    code, _, error = check(TRAIN, data=data(split={"labelled": {"50": ["heart003", "heart001"]}}))
    assert (code, len(error)) == (2, 1)
    assert "expected a label for every labelled case, found none for heart003_ED, heart003_ES" in error[0]


def test_split_that_gives_patients_two_roles(check: Check, data: MakeData) -> None:
    code, _, error = check(TRAIN, data=data(split={"test": ["heart007", "heart001"], "labelled": {"50": ["heart005"]}}))
    assert (code, len(error)) == (2, 1)
    assert "split.json: expected each patient once" in error[0]
    assert "found heart001 in both train and test; heart005 in labelled 50 and not in train; give" in error[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cases": {}}, "datalist.json: cases: expected a list of cases, at least one, found a dict; correct it"),
        ({"labels": None}, "datalist.json: labels: expected a mapping of class ids to names, found None"),
        ({"labels": {"0": "background", "1": "liver"}}, "labels: expected the classes 1..3 (num_classes), found 1 liv"),
        (
            {"labels": {"1": "left ventricle", "2": "myocardium", "3": "right ventricle"}},
            "labels: expected the names in `labels`, 1 right ventricle, 2 myocardium, 3 left ventricle, found 1 left ",
        ),
    ],
)
def test_datalist_that_does_not_fit_the_config(
    check: Check, data: MakeData, changes: dict[str, Any], message: str
) -> None:
    code, _, error = check(TRAIN, data=data(changes))
    assert (code, len(error)) == (2, 1)
    assert message in error[0]


def test_other_number_of_classes_is_a_problem_everywhere(check: Check, heart_phantom: Path) -> None:
    code, _, error = check(TRAIN, "--num_classes", 2)
    assert code == 2
    assert any("labels: expected a name for each of the classes 1..2 (num_classes), found 1 right" in e for e in error)
    assert any("metadata.json: channel_def, " in e and "expected the classes 1..2 (num_classes)" in e for e in error)
    assert any("expected labels 0..2 (num_classes), found 3 in heart001_ED" in e for e in error)


def test_another_data_set_is_recognised(check: Check, abdomen_phantom: Path) -> None:
    code, _, error = check(TRAIN, data=abdomen_phantom)
    assert code == 2
    assert any("labels: expected the classes 1..3 (num_classes), found 1 spleen" in line for line in error)


def test_metadata_with_other_channels(check: Check, heart_phantom: Path, tmp_path: Path) -> None:
    configs = shutil.copytree(CONFIGS, tmp_path / "configs")
    text = (configs / "metadata.json").read_text()
    (configs / "metadata.json").write_text(text.replace('"3": "left ventricle"', '"3": "left atrium"'))
    code, _, error = check(configs / "train.json")
    assert (code, len(error)) == (2, 1)
    assert "metadata.json: channel_def: expected the names in `labels`" in error[0]


def test_class_without_a_voxel_is_noted(check: Check, heart_phantom: Path, data: MakeData) -> None:
    changed = [case | {"voxels": case.get("voxels", {}) | {"2": 0}} for case in cases(heart_phantom)]
    code, printed, _ = check(TRAIN, data=data({"cases": changed}))
    assert code == 0
    assert "note: class 2 has no voxel in any labelled case" in printed
    assert "groups" not in printed


def test_label_files_are_opened_only_where_asked(check: Check, data: MakeData) -> None:
    folder = data()
    path = folder / "labels" / "heart002_ED.nii.gz"
    label = nib.load(path)
    values = np.asanyarray(label.dataobj).copy()
    values[0, 0, :2] = 7
    nib.Nifti1Image(values, label.affine).to_filename(path)
    (folder / "labels" / "heart006_ED.nii.gz").write_bytes(b"no image")
    assert check(TRAIN, data=folder)[0] == 0
    code, _, error = check(TRAIN, "--read-labels", data=folder)
    assert code == 2
    assert len(error) == 3
    assert f"{path}: expected label values 0..3 (num_classes), found 7; correct them" in error[1]
    assert "found content that is not NIfTI; download or export the file again" in error[2]
    assert "heart006_ED.nii.gz: expected a 3D NIfTI volume" in error[2]


def test_right_labels_pass_when_they_are_read(check: Check) -> None:
    assert check(TRAIN, "--read-labels", "--steps", 3)[0] == 0


@pytest.mark.parametrize(
    ("size", "note"),
    [
        ("[64,64]", None),
        ("[96,64]", "image_size 96 x 64 is larger than 16 of 16 volumes (such as 64 x 64 x 6)"),
        ("[64,8]", "image_size 64 x 8: below 16 the network sees mostly padding"),
        ("[60,33]", "image_size 60 x 33: the network pads it to 64 x 48"),
    ],
)
def test_size_that_the_network_takes_badly_is_noted(check: Check, heart_phantom: Path, size: str, note: str) -> None:
    code, printed, _ = check(TRAIN, "--image_size", size)
    assert code == 0
    assert (note in printed) if note else ("image_size 64 x 64 is larger" not in printed and "padding" not in printed)


def test_images_that_are_listed_one_by_one_are_looked_for_and_no_data_set_is(
    check: Check, heart_phantom: Path, tmp_path: Path
) -> None:
    image = next((heart_phantom / "images").glob("*.nii.gz"))
    for listed, missing in (([image], False), ([image, tmp_path / "none.nii.gz"], True)):
        datalist = str([str(path) for path in listed])
        _, _, error = check(CONFIGS / "inference.json", "--datalist", datalist, data=tmp_path / "no folder")
        assert not any("dataset_dir" in line for line in error)
        problem = f"datalist: expected images, found no {tmp_path / 'none.nii.gz'}; correct the paths"
        assert any(problem in line for line in error) == missing


@pytest.mark.parametrize(
    ("setting", "voxels", "told"),
    [
        (["--image_size", "[32,32]"], 60, None),  # a quarter of the voxels of 64 x 64
        (["--image_size", "[32,32]"], 20, "about 5 voxels"),
        (["--image_size", "[128,128]"], 1, "about 4 voxels"),
        (["--image_size", "[32,32]"], 0, None),
        ([], 3, "about 3 voxels"),
    ],
)
def test_class_that_resampling_may_lose_is_noted(
    check: Check, heart_phantom: Path, data: MakeData, setting: list[str], voxels: int, told: str | None
) -> None:
    less = iter([voxels] + [voxels // 2] * 99)  # the labelled case with the most of it counts
    changed = [
        case | ({"voxels": case["voxels"] | {"2": next(less)}} if "voxels" in case else {})
        for case in cases(heart_phantom)
    ]
    code, printed, _ = check(TRAIN, *setting, data=data({"cases": changed}))
    assert code == 0
    notes = [line for line in printed.splitlines() if "resampling may lose it" in line]
    assert [note.split(" has ")[0] for note in notes] == (["note: class 2"] if told else [])
    assert all(str(told) in note for note in notes)


def test_in_volumes_it_is_the_spacing_that_counts(check: Check, abdomen_phantom: Path) -> None:
    config = CONFIGS.parents[1] / "dca_synapse" / "configs" / "train.json"
    _, printed, _ = check(config, "--percent", "10", "--spacing", "[5,5,5]", data=abdomen_phantom)
    assert "resampling may lose it" not in printed
    _, printed, _ = check(config, "--percent", "10", "--spacing", "[20,20,20]", data=abdomen_phantom)
    noted = {line.split()[2] for line in printed.splitlines() if "resampling may lose it" in line}
    assert {"12", "13"} <= noted  # the adrenals
    assert "6" not in noted  # the liver


def test_images_of_other_channels_than_the_config_takes(check: Check, heart_phantom: Path, data: MakeData) -> None:
    assert "found 1 file of heart001_ED" in check(TRAIN, "--in_channels", "2")[2][1]
    folder = data(
        {"cases": [case | {"image": [case["image"], f"images/{case['id']}_b.nii"]} for case in cases(heart_phantom)]}
    )
    for number, case in enumerate(cases(folder)):
        nib.nifti1.Nifti1Image(np.full((2, 2, 2), number, np.int16), np.eye(4)).to_filename(folder / case["image"][1])
    assert check(TRAIN, "--in_channels", "2", data=folder)[0] == 0
    error = check(TRAIN, data=folder)[2]
    assert [line.split("datalist.json: ")[1].split(" of heart")[0] for line in error[1:]] == [
        f"expected 1 channel (in_channels) of every {role} case, found 2 files"
        for role in ("labelled", "unlabelled", "validation", "test")
    ]
