"""Every voxel of a DICOM series comes out with its value and in its place, in agreement with other readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.data import PydicomReader
from monai.transforms import LoadImage
from nibabel.eulerangles import euler2mat
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from tests.tools.dicom_files import write_enhanced, write_series
from tools.dicom.reading import find_series
from tools.dicom.volume import DicomVolume, read_volumes

SHAPE = (40, 36, 12)  # JPEG 2000 wants at least 32 pixels


def affine_of(name: str) -> NDArray[np.float64]:
    """Anisotropic spacing, away from the origin; "oblique" turns it about all axes."""
    signs = {"LPS": (-1, -1, 1), "LAS": (-1, 1, 1), "RAS": (1, 1, 1), "LPI": (-1, -1, -1), "oblique": (-1, -1, 1)}[name]
    affine = np.diag([*np.multiply(signs, (1.5, 1.25, 3.0)), 1.0])
    if name == "oblique":
        affine[:3, :3] = euler2mat(z=0.2, y=0.1, x=-0.15) @ affine[:3, :3]
    affine[:3, 3] = (31.5, -12.25, -700.5)
    return affine


def noise(seed: int = 0) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-1000, 1500, SHAPE).astype(np.int16)


def read(folder: Path, modality: str = "CT") -> list[DicomVolume]:
    (series,) = find_series(folder)
    return read_volumes(series, modality)


def assert_same_in_space(volume: DicomVolume, values: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Each voxel of `values` is found where it lies in the patient."""
    indices = np.indices(values.shape).reshape(3, -1)
    world = affine[:3, :3] @ indices + affine[:3, 3:]
    inverse = np.linalg.inv(volume.stack.affine)
    found = inverse[:3, :3] @ world + inverse[:3, 3:]
    assert np.abs(found - found.round()).max() < 1e-3
    assert volume.values.shape == volume.stack.shape == values.shape
    assert np.array_equal(volume.values[tuple(found.round().astype(int))], values.ravel())


@pytest.mark.parametrize("name", ["LPS", "LAS", "RAS", "LPI", "oblique"])
def test_every_voxel_keeps_its_value_and_its_place(name: str, tmp_path: Path) -> None:
    write_series(tmp_path, noise(), affine_of(name))
    (volume,) = read(tmp_path)
    assert_same_in_space(volume, noise(), affine_of(name))
    assert volume.values.dtype == np.int16


@pytest.mark.parametrize("name", ["LPS", "RAS", "oblique"])
def test_volume_agrees_with_the_reader_of_monai(name: str, tmp_path: Path) -> None:
    write_series(tmp_path, noise(), affine_of(name))
    (volume,) = read(tmp_path)
    other = LoadImage(reader=PydicomReader(affine_lps_to_ras=True), image_only=True)(tmp_path)
    assert_same_in_space(volume, other.numpy(), other.affine.numpy())


def test_nifti_of_a_volume_reads_back_the_same(tmp_path: Path) -> None:
    write_series(tmp_path / "dicom", noise(), affine_of("oblique"))
    (volume,) = read(tmp_path / "dicom")
    volume.to_nifti(tmp_path / "volume.nii")
    image = nib.nifti1.load(tmp_path / "volume.nii")
    assert np.array_equal(np.asarray(image.dataobj), volume.values)
    assert np.allclose(image.affine, volume.stack.affine, atol=1e-4)


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless, JPEGLosslessSV1]
)
def test_compressed_series_give_the_same_values(syntax: str, tmp_path: Path) -> None:
    write_series(tmp_path, noise(), affine_of("LPS"), syntax=syntax)
    (volume,) = read(tmp_path)
    assert_same_in_space(volume, noise(), affine_of("LPS"))


def test_multi_frame_ct_gives_the_same_volume(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "enhanced.dcm", [noise()], affine_of("oblique"))
    (volume,) = read(tmp_path)
    assert_same_in_space(volume, noise(), affine_of("oblique"))


def test_rescaling_by_fractions_gives_floats(tmp_path: Path) -> None:
    write_series(tmp_path, noise(), affine_of("LPS"), RescaleSlope=0.5, RescaleIntercept=-100.25)
    (volume,) = read(tmp_path)
    assert volume.values.dtype == np.float32
    assert_same_in_space(volume, ((noise() + 1024) * 0.5 - 100.25).astype(np.float32), affine_of("LPS"))


def test_mr_needs_no_rescaling(tmp_path: Path) -> None:
    values = noise() + 1000
    write_series(tmp_path, values, affine_of("LPS"), "MR")
    (volume,) = read(tmp_path, "MR")
    assert_same_in_space(volume, values, affine_of("LPS"))


def test_a_slight_drift_is_kept_in_the_affine(tmp_path: Path) -> None:
    sheared = affine_of("LPS")
    sheared[0, 2] = 0.02  # mm of 3: a third of a degree
    write_series(tmp_path, noise(), sheared)
    (volume,) = read(tmp_path)
    assert_same_in_space(volume, noise(), sheared)
