"""What a user can do wrong with a 3D bundle is told in one line; what is merely odd is worked with."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.bundle_commands import INFER, STEPS_3D, SYNAPSE, TINY_3D, TRAIN, assert_one_line, places
from tests.bundle_runner import BundleRunner, Result
from tests.damage import Damage, change, cut_off, damaged_copy, keep, overwrite_some, set_voxel
from tests.tiny_training import curves

IMAGE = "images/abdomen004.nii.gz"  # of the validation patient


def train(runner: BundleRunner, data: Path, folder: Path, *settings: str) -> Result:
    """A tiny training into `folder`."""
    return runner.run([*TRAIN, *places(data, folder), *TINY_3D, *STEPS_3D, *settings], SYNAPSE)


as_mr = change(lambda voxels: voxels.clip(-1000) + 1000)
moved = change(lambda voxels: voxels, shift=3)


@pytest.mark.parametrize(
    ("file", "damage", "found"),
    [
        (
            "images/abdomen001.nii.gz",
            as_mr,
            "expected CT in Hounsfield units, found no value below -50 (the lowest is 0)",
        ),
        ("images/abdomen003.nii.gz", as_mr, "expected CT in Hounsfield units"),
        ("images/abdomen002.nii.gz", set_voxel(np.nan), "expected finite numbers, found NaN or infinity"),
        ("images/abdomen003.nii.gz", overwrite_some, "expected a readable image, found: "),
        ("images/abdomen001.nii.gz", keep(np.s_[..., 0]), "expected a 3D NIfTI volume, found 2D (64 x 64)"),
        ("labels/abdomen001.nii.gz", keep(np.s_[:-4]), "the shape of its image (64, 64, 48), found (60, 64, 48)"),
        ("labels/abdomen002.nii.gz", moved, "the affine of its image, found one that moves a corner by 3 mm"),
        ("labels/abdomen002.nii.gz", set_voxel(14), "expected label values 0..13, found 14"),
        ("labels/abdomen001.nii.gz", cut_off, "expected a readable image, found: "),
    ],
)
def test_bad_files_of_a_data_set_are_told_in_one_line(
    runner: BundleRunner, abdomen_phantom: Path, tmp_path: Path, file: str, damage: Damage, found: str
) -> None:
    data = damaged_copy(abdomen_phantom, tmp_path / "data", file, damage)
    assert_one_line(train(runner, data, tmp_path / "run"), str(data / file), found)
    assert not list((tmp_path / "run").rglob("*.pt"))


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (
            ["--percent", "100"],
            ["datalist.json", "expected a label for every labelled case, found none for abdomen003"],
        ),
        (["--preset", "publishd"], ["preset: expected a known value, found 'publishd'; did you mean 'published'?"]),
        (["--merge", "mean"], ["merge: expected gaussian or constant, found 'mean'"]),
        (["--modality", "MR"], ["modality: expected a known value, found 'MR'; choose one of CT"]),
        (["--window", "[275,-125]"], ["window: expected two intensities, the lower first, found [275, -125]"]),
        (["--method", "dcaa"], ["method: expected a known name, found 'dcaa'; did you mean 'dca'?"]),
        (["--method_options", "{'mixing':'none'}"], ["expected a known option, found 'mixing'; did you mean 'mix'?"]),
    ],
)
def test_wrong_settings_are_told_in_one_line(
    runner: BundleRunner, abdomen_phantom: Path, tmp_path: Path, settings: list[str], parts: list[str]
) -> None:
    assert_one_line(train(runner, abdomen_phantom, tmp_path / "run", *settings), *parts)
    assert not (tmp_path / "run").exists()


def test_volumes_smaller_than_a_patch_are_padded(runner: BundleRunner, abdomen_phantom: Path, tmp_path: Path) -> None:
    # 352 x 352 x 240 mm are at most 15 x 15 x 10 voxels.
    train(runner, abdomen_phantom, tmp_path, "--spacing", "[24,24,24]").check()
    assert np.isfinite([float(row["loss"]) for row in curves(tmp_path)]).all()


def infer(runner: BundleRunner, images: Path, run: Path, output: Path) -> Result:
    """Inference on an image or a folder of them with the model of a run."""
    folders = ["--dataset_dir", str(images), "--ckpt_dir", str(run / "models"), "--output_dir", str(output)]
    return runner.run([*INFER, *folders, *TINY_3D], SYNAPSE)


ODD = {
    "no body": change(lambda voxels: (-1000 - np.arange(voxels.size) % 9).reshape(voxels.shape).astype(voxels.dtype)),
    "one slice": keep(np.s_[..., 20:21]),
    "a few voxels": keep(np.s_[30:33, 30:32, :2]),
}


@pytest.fixture(scope="module")
def odd_images(
    runner: BundleRunner, abdomen_phantom: Path, synapse_run: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder of odd images, with what one run of inference made of them in the folder `out`."""
    folder = tmp_path_factory.mktemp("odd")
    for name, damage in ODD.items():
        shutil.copy(abdomen_phantom / IMAGE, folder / f"{name}.nii.gz")
        damage(folder / f"{name}.nii.gz")
    infer(runner, folder, synapse_run[0], folder / "out").check()
    return folder


@pytest.mark.parametrize("name", ODD)
def test_inference_works_with_an_odd_image(odd_images: Path, name: str) -> None:
    image = nib.nifti1.load(odd_images / f"{name}.nii.gz")
    labels = nib.nifti1.load(odd_images / "out" / f"{name}_seg.nii.gz")
    assert (*labels.shape, 1)[:3] == image.shape  # MONAI's writer leaves out a last axis of one voxel
    assert np.allclose(labels.affine, image.affine, atol=1e-4)
    assert labels.get_data_dtype() == np.uint8
    assert np.asarray(labels.dataobj).max() <= 13


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (
            change(lambda voxels: np.stack([voxels] * 2, axis=-1)),
            "expected a 3D NIfTI volume, found 4D (64 x 64 x 48 x 2)",
        ),
        (keep(np.s_[..., 0]), "expected a 3D NIfTI volume, found 2D (64 x 64)"),
        (set_voxel(np.nan), "expected finite numbers, found NaN or infinity"),
        (as_mr, "expected CT in Hounsfield units"),
        (cut_off, "expected a readable image, found: "),
        (overwrite_some, "expected a readable image, found: "),
    ],
)
def test_an_image_that_inference_cannot_use_is_told_in_one_line(
    runner: BundleRunner,
    abdomen_phantom: Path,
    synapse_run: tuple[Path, str],
    tmp_path: Path,
    damage: Damage,
    found: str,
) -> None:
    data = damaged_copy(abdomen_phantom, tmp_path / "data", IMAGE, damage)
    assert_one_line(infer(runner, data / IMAGE, synapse_run[0], tmp_path / "out"), str(data / IMAGE), found)
    assert not (tmp_path / "out").exists()
