"""Images of several channels: in a file each or in one, the same tensor; what does not fit is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, LoadImaged

from scripts.data.channels import channel_files, group_files
from scripts.data.datalists import load_split, read_datalist
from scripts.data.stores import keep_volumes
from scripts.data.transforms import LoadCased
from scripts.errors import UserError
from scripts.inference.images import ImageDataset, find_images

AFFINE = np.diag([-1.5, -1.5, 3.0, 1.0])
CHANNELS = np.random.default_rng(0).normal(100, 40, (2, 6, 5, 4)).astype(np.float32)


def save(path: Path, values: Any, affine: Any = AFFINE) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(values, affine).to_filename(path)
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return [save(tmp_path / f"a_{number:04d}.nii.gz", values) for number, values in enumerate(CHANNELS)]


@pytest.fixture
def whole(tmp_path: Path) -> str:
    return save(tmp_path / "whole" / "a.nii.gz", np.moveaxis(CHANNELS, 0, -1))


def by_training(image: Any, channels: int = 2, **item: Any) -> torch.Tensor:
    loaded: torch.Tensor = LoadCased(1, in_channels=channels)({"image": image, **item})["image"]
    return loaded


def by_inference(image: Any, channels: int = 2) -> torch.Tensor:
    load = Compose([LoadImaged("image", ensure_channel_first=True)])
    loaded: torch.Tensor = ImageDataset([{"image": image}], load, in_channels=channels)[0]["image"]
    return loaded


both = pytest.mark.parametrize("load", [by_training, by_inference])


@both
def test_files_and_one_file_are_the_same_channels(load: Any, files: list[str], whole: str) -> None:
    for image in (files, whole):
        loaded = load(image)
        np.testing.assert_array_equal(loaded.numpy(), CHANNELS)
        np.testing.assert_array_equal(loaded.affine.numpy(), AFFINE)
    assert load(files).meta["filename_or_obj"].endswith("/a.nii.gz")  # what its label map is named after


def shifted(path: str) -> None:
    affine = AFFINE.copy()
    affine[1, 3] = 7
    save(Path(path), CHANNELS[1], affine)


@both
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shifted, "expected the affine of the first channel, found one that moves a corner by 7 mm; resample the"),
        (lambda path: save(path, CHANNELS[1, 1:]), r"the first channel \(6, 5, 4\), found \(5, 5, 4\); resample"),
        (lambda path: save(path, np.moveaxis(CHANNELS, 0, -1)), r"a 3D NIfTI volume, found 4D \(6 x 5 x 4 x 2\)"),
        (lambda path: save(path, np.zeros((6, 5, 4), np.int16)), "expected grey values that differ, found 0 in every"),
        (lambda path: save(path, CHANNELS[1] * np.nan), "expected finite numbers, found NaN or infinity"),
        (lambda path: save(path, CHANNELS[1].astype(np.complex64)), "expected one number per voxel, found the voxel"),
        (Path.unlink, "expected a 3D NIfTI volume, found no such file"),
    ],
    ids=["affine", "shape", "4d", "constant", "nan", "complex", "missing"],
)
def test_a_fault_of_the_second_file_is_told(load: Any, spoil: Any, message: str, files: list[str]) -> None:
    spoil(Path(files[1]))
    with pytest.raises(UserError, match=rf"^{files[1]}: .*{message}"):
        load(files)


@both
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            CHANNELS[0],
            r"expected 2 channels \(`in_channels`\), .* found one file of 3D \(6 x 5 x 4\); name the files CASE",
        ),
        (np.zeros((6, 5, 4, 3), np.int16), r"expected 2 channels .* found one file of 4D \(6 x 5 x 4 x 3\)"),
        (np.zeros((6, 5, 4, 1, 2), np.int16), r"expected 2 channels .* found one file of 5D \(6 x 5 x 4 x 1 x 2\)"),
        (np.stack([CHANNELS[0], CHANNELS[0] * 0], -1), "channel 1: expected grey values that differ, found 0 in every"),
        (np.zeros((6, 5, 4, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "expected one number per voxel"),
    ],
    ids=["3d", "three", "5d", "constant", "rgb"],
)
def test_a_fault_of_the_one_file_is_told(load: Any, values: Any, message: str, whole: str) -> None:
    save(Path(whole), values)
    with pytest.raises(UserError, match=rf"^{whole}.*{message}"):
        load(whole)


@both
@pytest.mark.parametrize("channels", [1, 3])
def test_another_number_of_files_is_told(load: Any, channels: int, files: list[str]) -> None:
    with pytest.raises(UserError, match=rf"^{files[0]}: expected {channels} channels? .*found 2 files; list one per"):
        load(files, channels)


def test_of_several_channels_none_has_to_be_ct(files: list[str], whole: str) -> None:
    for image in (files, whole):
        assert by_training(image, modality="CT").min() > -50
    with pytest.raises(UserError, match="expected CT in Hounsfield units"):
        by_training(files[0], 1, modality="CT")


def test_a_label_lies_on_the_grid_of_all_channels(files: list[str], whole: str, tmp_path: Path) -> None:
    labels = (CHANNELS[0] > 100).astype(np.uint8)
    label = save(tmp_path / "label.nii.gz", labels)
    for image in (files, whole):
        item = LoadCased(1, in_channels=2)({"image": image, "label": label})
        np.testing.assert_array_equal(item["label"][0].numpy(), labels)
    save(tmp_path / "label.nii.gz", labels[1:])
    with pytest.raises(UserError, match=r"label.nii.gz: expected the shape of its image \(6, 5, 4\)"):
        LoadCased(1, in_channels=2)({"image": whole, "label": label})


def test_a_folder_holds_images_in_files_and_in_one(files: list[str], whole: str, tmp_path: Path) -> None:
    save(tmp_path / "b_0001.nii", np.moveaxis(CHANNELS, 0, -1))  # a number that is no channel's
    save(tmp_path / "a_gt.nii.gz", np.ones((6, 5, 4), np.uint8))
    found = [item["image"] for item in find_images(tmp_path, in_channels=2)]
    assert found == [files, str(tmp_path / "b_0001.nii"), whole]
    assert find_images(files[1], in_channels=2) == [{"image": files}]
    with pytest.raises(UserError, match=r"whole/a.nii.gz: expected a 3D NIfTI volume, found 4D"):
        find_images(tmp_path)


def test_all_cases_that_lack_a_channel_are_told_at_once(files: list[str], tmp_path: Path) -> None:
    for name in ("b_0000", "c_0001", "d_0000", "d_0001", "d_0002"):
        save(tmp_path / f"{name}.nii.gz", CHANNELS[0])
    with pytest.raises(UserError) as error:
        find_images(tmp_path, in_channels=2)
    here = str(tmp_path)
    found = f"_0000 of {here}/b, _0001 of {here}/c, _0000, _0001, _0002 of {here}/d"
    assert str(error.value).startswith(f"channels: expected _0000, _0001 of every case (`in_channels`), found {found};")
    with pytest.raises(UserError, match=r"found _0000 of .*b;"):
        channel_files(tmp_path / "b_0000.nii.gz", 2)


def test_of_one_channel_every_file_is_an_image(files: list[str]) -> None:
    assert group_files(map(Path, files), 1) == [[Path(file)] for file in files]


def write_datalist(folder: Path, *images: Any) -> Path:
    cases = [{"id": f"c{n}", "patient": f"p{n}", "image": image, "label": "l.nii"} for n, image in enumerate(images)]
    path = folder / "datalist.json"
    path.write_text(json.dumps({"cases": cases}))
    return path


def test_a_split_has_the_files_of_each_case(files: list[str], whole: str, tmp_path: Path) -> None:
    datalist = write_datalist(tmp_path, ["a_0000.nii.gz", "a_0001.nii.gz"], "whole/a.nii.gz")
    (tmp_path / "split.json").write_text(
        json.dumps({"train": ["p0"], "validation": ["p1"], "labelled": {"100": ["p0"]}})
    )
    split = load_split(datalist, tmp_path / "split.json", 100)
    assert [case["image"] for case in split["labelled"] + split["validation"]] == [files, whole]


def test_one_channel_in_two_roles_or_under_two_patients_is_told(files: list[str], tmp_path: Path) -> None:
    save(tmp_path / "b.nii.gz", CHANNELS[0] + 1)
    (tmp_path / "copy.nii.gz").write_bytes(Path(files[1]).read_bytes())
    datalist = write_datalist(tmp_path, ["a_0000.nii.gz", "a_0001.nii.gz"], ["b.nii.gz", "copy.nii.gz"])
    (tmp_path / "split.json").write_text(
        json.dumps({"train": ["p0"], "validation": ["p1"], "labelled": {"100": ["p0"]}})
    )
    with pytest.raises(UserError, match=r"found c0 \(training\) and c1 \(validation\) with the same one"):
        load_split(datalist, tmp_path / "split.json", 100)
    datalist = write_datalist(tmp_path, ["a_0000.nii.gz", "a_0001.nii.gz"], ["b.nii.gz", "a_0001.nii.gz"])
    with pytest.raises(UserError, match=r"found a_0001.nii.gz of p0, p1; correct the list"):
        read_datalist(datalist)


def test_a_store_makes_an_entry_anew_if_any_channel_changes(files: list[str], tmp_path: Path) -> None:
    load = Compose([LoadCased(1, in_channels=2)])

    def stored() -> np.ndarray[Any, Any]:
        image: torch.Tensor = keep_volumes([{"image": files}], load, tmp_path / "store")[0]["image"]
        return image.numpy()

    np.testing.assert_array_equal(stored(), CHANNELS)
    save(Path(files[1]), CHANNELS[1] * 2)
    np.testing.assert_array_equal(stored(), CHANNELS * np.array([1, 2], np.float32).reshape(2, 1, 1, 1))
    assert len(list((tmp_path / "store").iterdir())) == 2
