"""What may be listed as the images to infer on, and how anything else is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import Compose, LoadImaged

from scripts.errors import UserError
from scripts.inference.images import ImageDataset, find_images


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.nii.gz"
    nib.nifti1.save(nib.nifti1.Nifti1Image(np.arange(120, dtype=np.int16).reshape(4, 5, 6), np.eye(4)), path)
    return path


def dataset(data: Any, key: str = "image") -> ImageDataset:
    return ImageDataset(data, Compose([LoadImaged(key, ensure_channel_first=True)]), key)


@pytest.mark.parametrize("as_listed", [str, Path, lambda path: {"scan": str(path)}], ids=["text", "path", "item"])
def test_an_image_may_be_listed_as_a_path_or_as_an_item(image: Path, as_listed: Any) -> None:
    loaded = dataset([as_listed(image)], "scan")[0]["scan"]
    assert loaded.shape == (1, 4, 5, 6)
    assert loaded.flatten().tolist() == list(range(120))


def test_all_paths_that_are_no_volumes_are_told_at_once(image: Path, tmp_path: Path) -> None:
    film = tmp_path / "film.nii.gz"
    nib.nifti1.save(nib.nifti1.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.eye(4)), film)
    with pytest.raises(UserError) as error:
        dataset([image, film, tmp_path / "none.nii.gz"])
    problems = str(error.value).split("; ")
    assert f"{film}: expected a 3D NIfTI volume, found 4D (4 x 4 x 4 x 2)" in problems
    assert any(
        problem.startswith(f"{tmp_path / 'none.nii.gz'}: expected a 3D NIfTI volume, found no such")
        for problem in problems
    )
    assert str(image) not in str(error.value)


@pytest.mark.parametrize("data", [[{"scan": "a.nii.gz"}], [3]])
def test_an_item_without_an_image_is_told(data: Any) -> None:
    with pytest.raises(UserError, match="datalist: expected paths, or items with a path at 'image', found"):
        dataset(data)


def test_a_single_path_is_told_where_to_go(image: Path) -> None:
    with pytest.raises(UserError, match=r"datalist: expected a list of images, found '.*use `dataset_dir`"):
        dataset(str(image))


def test_a_folder_whose_name_is_a_number_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "2024").mkdir()
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), tmp_path / "2024" / "a.nii.gz")
    monkeypatch.chdir(tmp_path)
    assert find_images(2024) == [{"image": "2024/a.nii.gz"}]
