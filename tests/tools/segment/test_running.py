"""A case's way from images to results, with a network that marks what is bright."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.errors import UserError
from tests.tools.dicom_files import write_series
from tools.dicom.reading import find_series
from tools.dicom.segments import read_segments
from tools.dicom.writing import Algorithm
from tools.segment.cases import Case
from tools.segment.options import Options
from tools.segment.results import is_finished, read_rows
from tools.segment.running import Work, segment_case, try_case
from tools.segment.segmenter import Result, Segmenter

LEFT_VENTRICLE = 3
AFFINE = np.array([[-1.5, 0, 0, 30], [0, 1.5, 0, 20], [0, 0, 8, -700], [0, 0, 0, 1.0]])
SHAPE = (40, 30, 6)


def mark_bright(image: Path, progress: bool = False) -> Result:
    """Class 3 where the image is above 500, class 1 where it is above 100."""
    volume = nib.nifti1.load(image)
    values = np.asarray(volume.dataobj)
    labels = np.where(values > 500, LEFT_VENTRICLE, np.where(values > 100, 1, 0)).astype(np.uint8)
    return Result(labels, volume.affine, None)


def work(bundle: str = "dca_acdc", **options: Any) -> Work:
    segments = read_segments(Path("bundles") / bundle)
    modality = "MR" if bundle == "dca_acdc" else "CT"
    algorithm, settings = Algorithm("Marker", "1", "0"), {"bundle": bundle}
    return Work(cast(Segmenter, mark_bright), segments, modality, algorithm, Options(**options), settings)


def heart(size: int) -> np.ndarray:
    """A bright cube, the left ventricle, of this size."""
    values = np.broadcast_to(np.arange(SHAPE[2]), SHAPE).astype(np.int16)  # slices differ
    values[10 : 10 + size, 10 : 10 + size, 2:5] = 1000
    return values


def cine(folder: Path, *sizes: int) -> Case:
    write_series(folder, [heart(size) for size in sizes], AFFINE, "MR")
    (series,) = find_series(folder)
    return Case("heart", series=series)


def test_end_systole_is_the_phase_of_the_smallest_left_ventricle(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = cine(tmp_path / "mr", 9, 7, 4, 6)
    with caplog.at_level(logging.INFO):
        segment_case(case, tmp_path / "out", work())
    assert "end-diastole is phase 0, end-systole phase 2 of 4" in caplog.text
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"case.json", "volumes.csv"} | {
        f"{phase}_{what}" for phase in ("ED", "ES") for what in ("labels.nii.gz", "segmentation.dcm")
    }
    for phase, size in (("ED", 9), ("ES", 4)):
        labels = np.asarray(nib.nifti1.load(tmp_path / "out" / f"{phase}_labels.nii.gz").dataobj)
        assert (labels == LEFT_VENTRICLE).sum() == size * size * 3
    volumes = {row["phase"]: row["volume_ml"] for row in read_rows(tmp_path / "out") if row["class"] == LEFT_VENTRICLE}
    voxel = 1.5 * 1.5 * 8 / 1000
    sizes = {"ED": 9, "phase01": 7, "ES": 4, "phase03": 6}
    assert volumes == pytest.approx({phase: size * size * 3 * voxel for phase, size in sizes.items()}, abs=1e-3)


def test_a_phase_without_left_ventricle_is_no_end_systole(tmp_path: Path) -> None:
    segment_case(cine(tmp_path / "mr", 9, 0, 5), tmp_path / "out", work())
    assert [row["phase"] for row in read_rows(tmp_path / "out")][::3] == ["ED", "phase01", "ES"]


def test_a_cine_without_any_left_ventricle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a left ventricle to tell end-systole by"):
        segment_case(cine(tmp_path / "mr", 9, 0, 0), tmp_path / "out", work())
    assert not list(tmp_path.glob("*out*"))


def test_the_user_names_the_phases(tmp_path: Path) -> None:
    segment_case(cine(tmp_path / "mr", 9, 7, 4), tmp_path / "out", work(phases=[1, 2], formats=("nifti",)))
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"phase01_labels.nii.gz", "phase02_labels.nii.gz", "case.json"}


@pytest.mark.parametrize("phase", [-1, 3])
def test_a_phase_that_there_is_not_is_refused(phase: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--phases: expected 0 to 2 for series .*, found {phase}"):
        segment_case(cine(tmp_path / "mr", 9, 7, 4), tmp_path / "out", work(phases=[phase]))


def test_several_images_at_a_place_are_no_cine_to_a_bundle_without_heart(tmp_path: Path) -> None:
    other = work("dca_amos")
    with pytest.raises(UserError, match="expected one image at each place, found 3; name some with --phases"):
        segment_case(cine(tmp_path / "mr", 9, 7, 4), tmp_path / "out", Work(**{**vars(other), "modality": "MR"}))


def test_phases_are_refused_where_there_is_one(tmp_path: Path) -> None:
    nib.Nifti1Image(heart(5), AFFINE).to_filename(tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match="expected a cine for --phases"):
        segment_case(Case("a", image=tmp_path / "a.nii.gz"), tmp_path / "out", work(phases=[0]))


def test_case_that_fills_the_gpu_is_told_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    def full(image: Path, progress: bool = False) -> Result:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    nib.Nifti1Image(heart(5), AFFINE).to_filename(tmp_path / "a.nii.gz")
    small = Work(**{**vars(work()), "segmenter": full})
    problem = try_case(Case("a", image=tmp_path / "a.nii.gz"), tmp_path / "out", small)
    assert problem is not None
    assert problem.startswith("GPU memory: expected room for a step (")
    assert not (tmp_path / "out").exists()


def test_a_marker_on_the_patients_right_stays_there(tmp_path: Path) -> None:
    values = np.broadcast_to(-1000 - np.arange(12), (40, 30, 12)).astype(np.int16)
    values[4:9, 20:26, 2:5] = 1000  # x = 17 to 24 mm: right in RAS+; to the front; low
    write_series(tmp_path / "ct", values, AFFINE)
    (series,) = find_series(tmp_path / "ct")
    segment_case(Case("ct", series=series), tmp_path / "out", work("dca_synapse"))
    labels = nib.nifti1.load(tmp_path / "out" / "labels.nii.gz")
    found = nib.affines.apply_affine(labels.affine, np.argwhere(np.asarray(labels.dataobj))).mean(axis=0)
    true = nib.affines.apply_affine(AFFINE, np.argwhere(values > 500)).mean(axis=0)
    assert true[0] > 0
    assert np.allclose(found, true, atol=1e-3)
    volume = hd.seg.segread(tmp_path / "out" / "segmentation.dcm").get_volume(combine_segments=True)
    there = nib.affines.apply_affine(volume.affine, np.argwhere(volume.array)).mean(axis=0)
    assert np.allclose(there, true * [-1, -1, 1], atol=1e-3)  # LPS


def test_organs_that_are_absent_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        segment_case(cine(tmp_path / "mr", 9, 5), tmp_path / "out", work())
    assert "ED: found no right ventricle, myocardium" in caplog.text


def test_finished_is_what_has_the_same_settings(tmp_path: Path) -> None:
    case = cine(tmp_path / "mr", 9, 5)
    segment_case(case, tmp_path / "out", work())
    settings = work().settings_of(case)
    assert not is_finished(tmp_path / "new", settings)
    assert is_finished(tmp_path / "out", settings)
    with pytest.raises(UserError, match=r"found bundle 'dca_acdc'; add --overwrite"):
        is_finished(tmp_path / "out", {"bundle": "dca_amos"})
    assert not is_finished(tmp_path / "out", {"bundle": "dca_amos"}, overwrite=True)


def test_another_image_of_the_same_name_is_not_taken_for_finished(tmp_path: Path) -> None:
    for size, folder in ((5, "first"), (6, "second")):
        (tmp_path / folder).mkdir()
        nib.Nifti1Image(heart(size), AFFINE).to_filename(tmp_path / folder / "a.nii.gz")
    first, second = (Case("a", image=tmp_path / folder / "a.nii.gz") for folder in ("first", "second"))
    segment_case(first, tmp_path / "out", work())
    assert is_finished(tmp_path / "out", work().settings_of(first))
    with pytest.raises(UserError, match="found image"):
        is_finished(tmp_path / "out", work().settings_of(second))


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    with pytest.raises(UserError, match="found other files"):
        is_finished(tmp_path / "thesis", {}, overwrite=True)
