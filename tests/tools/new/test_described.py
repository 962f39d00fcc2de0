"""Data sets with a dataset.json: nnU-Net's and the Decathlon's; what is wrong with the file is told, whatever it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tools.new.trees import found, labels_of, look, make
from tools.common.findings import Findings

NNUNET = {
    "channel_names": {"0": "T1", "1": "T2"},
    "labels": {"background": 0, "left kidney": 2, "spleen": 1},
    "file_ending": ".nii.gz",
    "numTraining": 2,
}
DECATHLON = {
    "modality": {"0": "CT"},
    "labels": {"0": "background", "1": "liver"},
    "training": [{"image": "./imagesTr/liver_1.nii.gz", "label": "./labelsTr/liver_1.nii.gz"}],
    "test": ["./imagesTs/liver_9.nii.gz"],
}


def describe(root: Path, content: Any) -> Path:
    root.mkdir(exist_ok=True)
    (root / "dataset.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return root


def nnunet(root: Path, **other: Any) -> Path:
    channels = [f"{name}_000{c}.nii.gz" for name in ("Tr/a_1", "Tr/a_2", "Ts/a_3", "Ts/a_4") for c in (0, 1)]
    make(root, *(f"images{name}" for name in channels), "labelsTr/a_1.nii.gz", "labelsTs/a_4.nii.gz")
    return describe(root, {key: value for key, value in (NNUNET | other).items() if value is not None})


def decathlon(root: Path, **other: Any) -> Path:
    make(root, "imagesTr/liver_1.nii.gz", "labelsTr/liver_1.nii.gz", "imagesTs/liver_9.nii.gz")
    return describe(root, {key: value for key, value in (DECATHLON | other).items() if value is not None})


def test_nnunet(tmp_path: Path) -> None:
    source = found(nnunet(tmp_path))
    assert (source.layout, source.channels, source.modality) == ("nnU-Net", ("T1", "T2"), "MR")
    assert source.classes == {1: "spleen", 2: "left kidney"}
    assert labels_of(source) == {"a_1": "a_1.nii.gz", "a_2": None, "a_3": None, "a_4": "a_4.nii.gz"}
    assert [case.role for case in source.cases] == ["train", "train", "test", "test"]
    assert [path.name for path in source.cases[1].images] == ["a_2_0000.nii.gz", "a_2_0001.nii.gz"]
    assert [case.patient for case in source.cases] == ["a_1", "a_2", "a_3", "a_4"]
    assert found(tmp_path, tmp_path / "labelsTr") == found(tmp_path / "dataset.json") == source


def test_nnunet_of_the_first_version(tmp_path: Path) -> None:
    old = {"channel_names": None, "file_ending": None, "modality": {"0": "T1", "1": "T2"}}
    old |= {"labels": {"0": "background", "1": "spleen"}}
    old |= {"training": [{"image": "./imagesTr/a_1.nii.gz", "label": "./labelsTr/a_1.nii.gz"}]}
    source = found(nnunet(tmp_path, **old))
    assert (source.layout, source.classes) == ("nnU-Net", {1: "spleen"})
    assert len(source.cases) == 4


def test_names_of_nnunet_keep_what_would_be_an_affix_elsewhere(tmp_path: Path) -> None:
    make(tmp_path, "imagesTr/seg_1_0000.nii.gz", "labelsTr/seg_1.nii.gz")
    describe(tmp_path, NNUNET | {"channel_names": {"0": "CT"}})
    source = found(tmp_path)
    assert labels_of(source) == {"seg_1": "seg_1.nii.gz"}
    assert source.modality == "CT"


def test_decathlon(tmp_path: Path) -> None:
    source = found(decathlon(tmp_path))
    assert (source.layout, source.channels, source.modality, source.stacked) == ("Decathlon", ("CT",), "CT", False)
    assert source.classes == {1: "liver"}
    assert labels_of(source) == {"liver_1": "liver_1.nii.gz", "liver_9": None}
    assert [case.role for case in source.cases] == ["train", "test"]


def test_decathlon_of_several_channels_in_one_file(tmp_path: Path) -> None:
    decathlon(tmp_path, modality={"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"})
    make(tmp_path, "imagesTr/liver_1.nii.gz", "imagesTs/liver_9.nii.gz", shape=(4, 3, 2, 4))
    source = found(tmp_path)
    assert (source.channels, source.stacked, source.modality) == (("FLAIR", "T1w", "t1gd", "T2w"), True, "MR")
    make(tmp_path, "imagesTs/liver_9.nii.gz", shape=(4, 3, 2, 3))
    (line,) = look(tmp_path).lines
    assert f"{tmp_path / 'imagesTs/liver_9.nii.gz'}: expected 4 channels (FLAIR, T1w, t1gd, T2w)" in line
    assert "found 4D (4 x 3 x 2 x 3); " in line


def test_a_description_beside_the_given_folders_is_mentioned(tmp_path: Path) -> None:
    nnunet(tmp_path)
    findings = Findings()
    source = found(tmp_path / "imagesTr", tmp_path / "labelsTr", findings=findings)
    assert (source.layout, source.channels, findings.lines) == ("plain folders", ("0", "1"), [])
    assert f"{tmp_path / 'dataset.json'} is not used" in findings.notes[0]
    named = found(tmp_path / "imagesTr", tmp_path / "labelsTr", classes=tmp_path / "dataset.json")
    assert named.classes == {1: "spleen", 2: "left kidney"}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"labels": None}, "expected classes, as an object of numbers and names, found None"),
        ({"labels": []}, "expected classes, as an object of numbers and names, found []"),
        ({"labels": {"background": 0, "a": 1, "ignore": 2}}, "found a label to ignore ('ignore'); label these voxels"),
        ({"labels": {"background": 0, "whole": [1, 2]}}, "found a region of several numbers ('whole'); give every"),
        ({"labels": {"background": 0, "a": "1"}}, "expected a number and a name for each class, found 'a': '1'"),
        ({"labels": {"background": 0, "a": True}}, "expected a number and a name for each class, found 'a': True"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "expected each number once, found '1' twice"),
        ({"labels": {"0": "background", "1": "a", "2": "A"}}, "expected each name once, found 'a' twice"),
        ({"labels": {"0": "liver", "1": "a"}}, "expected 0, and only 0, to be the background, found 0 'liver'"),
        ({"labels": {"0": "background", "1": {}}}, "expected a number and a name for each class"),
        ({"channel_names": None}, "expected channels by number from 0 at 'modality', found neither"),
        ({"channel_names": {"1": "CT"}}, "expected channels by number from 0 at 'channel_names', found a dict"),
        ({"channel_names": ["CT"]}, "expected channels by number from 0 at 'channel_names', found ['CT']"),
        ({"channel_names": {"0": "a\nb", "1": 7}}, "expected names at 'channel_names', found 'a\\nb'"),
        ({"file_ending": ".nrrd"}, "expected files as NIfTI (.nii, .nii.gz), found file_ending '.nrrd'"),
        ({"file_ending": 7}, "expected files as NIfTI (.nii, .nii.gz), found file_ending 7"),
    ],
)
def test_fault_of_nnunets_description_is_told(other: dict[str, Any], message: str, tmp_path: Path) -> None:
    lines = look(nnunet(tmp_path, **other)).lines
    assert lines[0].startswith(f"{tmp_path / 'dataset.json'}: ")
    assert message in lines[0]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"training": {}}, "expected a list of files at 'training', found a dict"),
        ({"test": "imagesTs"}, "expected a list of files at 'test', found 'imagesTs'"),
        ({"test": [7]}, "expected the path of a NIfTI file below this folder at test[0], found 7"),
        ({"test": [{"label": "a.nii.gz"}]}, "below this folder at test[0], found None"),
        ({"test": ["../other/liver_9.nii.gz"]}, "below this folder at test[0], found '../other/liver_9.nii.gz'"),
        ({"test": ["imagesTs/../../liver_9.nii.gz"]}, "at test[0], found 'imagesTs/../../liver_9.nii.gz'"),
        ({"test": ["/liver_9.nii.gz"]}, "below this folder at test[0], found '/liver_9.nii.gz'"),
        ({"test": ["a\0.nii.gz"]}, "below this folder at test[0], found 'a\\x00.nii.gz'"),
        ({"test": ["imagesTs/liver_9.mha"]}, "at test[0], found 'imagesTs/liver_9.mha'; convert it to NIfTI"),
    ],
)
def test_fault_of_a_list_of_files_is_told(other: dict[str, Any], message: str, tmp_path: Path) -> None:
    line = look(decathlon(tmp_path, **other)).lines[0]
    assert line.startswith(f"{tmp_path / 'dataset.json'}: ")
    assert message in line


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"labels": {"a": 1}, "labels": {}}', '{"a": NaN}', "[" * 999])
def test_description_that_is_no_json_object_is_told(content: str, tmp_path: Path) -> None:
    (line,) = look(describe(tmp_path, content)).lines
    assert line.startswith(f"{tmp_path / 'dataset.json'}: expected ")


def test_listed_file_that_is_missing_or_damaged_is_told(tmp_path: Path) -> None:
    decathlon(tmp_path)
    (tmp_path / "imagesTs" / "liver_9.nii.gz").write_bytes(b"text")
    (tmp_path / "labelsTr" / "liver_1.nii.gz").unlink()
    damaged, missing = look(tmp_path).lines
    assert f"{tmp_path / 'imagesTs/liver_9.nii.gz'}: expected a NIfTI volume, found a file that cannot be" in damaged
    assert f"{tmp_path / 'labelsTr/liver_1.nii.gz'}: expected the label of liver_1, found no such file" in missing


def test_faults_of_nnunets_folders_are_told_together(tmp_path: Path) -> None:
    nnunet(tmp_path)
    make(tmp_path, "labelsTr/b_1.nii.gz", "imagesTr/b_2.nii.gz", "imagesTs/a_1_0000.nii.gz", "imagesTs/a_1_0001.nii.gz")
    (tmp_path / "imagesTr" / "a_2_0001.nii.gz").unlink()
    text = "\n".join(look(tmp_path).lines)
    assert "labelsTr/b_1.nii.gz: expected an image that fits this label, found none" in text
    assert "imagesTr/b_2.nii.gz: expected a name CASE_0000 with the number of the channel, found b_2.nii.gz" in text
    assert "imagesTr/a_2_0000.nii.gz: expected the channels _0000, _0001 of each case, found _0000" in text
    assert "imagesTs/a_1_0000.nii.gz: expected an id that no other case has, found 'a_1'" in text
    assert "expected one role of the patient 1, found a_1 (train) and a_1 (test)" in text


def test_nnunet_without_training_images_is_told(tmp_path: Path) -> None:
    (line,) = look(describe(tmp_path, NNUNET)).lines
    assert "expected a folder imagesTr, found none; pass the folder that holds imagesTr and labelsTr" in line


def test_other_labels_than_the_described_ones_are_told(tmp_path: Path) -> None:
    (line,) = look(nnunet(tmp_path / "data"), make(tmp_path / "mine", "a_1.nii.gz")).lines
    assert line.startswith(f"{tmp_path / 'mine'}: expected the labels that data names, found another folder; leave out")
