"""What there is to segment, and the names of its results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.errors import UserError
from scripts.files import write_json
from tests.bundle_commands import ACDC
from tests.tools.dicom_files import write_series
from tools.segment.cases import channels_of, find_cases
from tools.segment.options import Options

AFFINE = np.diag([-1.5, -1.5, 3.0, 1.0])
VALUES = np.broadcast_to(np.arange(12), (8, 8, 12)).astype(np.int16)


def names(source: Path, uid: str | None = None) -> list[str]:
    return [case.name for case in find_cases(source, source / "out", "CT", uid)]


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_images_at_any_depth_are_named_by_their_path(tmp_path: Path) -> None:
    touch(tmp_path / "b.nii", tmp_path / "first" / "a.nii.gz", tmp_path / "second" / "a.nii.gz", tmp_path / "x.txt")
    assert names(tmp_path) == ["b", "first_a", "second_a"]


def test_labels_and_results_are_no_images(tmp_path: Path) -> None:
    touch(tmp_path / "a.nii.gz", tmp_path / "a_gt.nii.gz", tmp_path / "a_seg.nii", tmp_path / "out" / "a" / "l.nii.gz")
    assert names(tmp_path) == ["a"]


def test_images_of_a_datalist_without_its_labels(abdomen_phantom: Path) -> None:
    assert names(abdomen_phantom)[0] == "images_abdomen001"
    assert not [name for name in names(abdomen_phantom) if "labels" in name]


def test_one_file(tmp_path: Path) -> None:
    touch(tmp_path / "a.b.nii.gz")
    assert names(tmp_path / "a.b.nii.gz") == ["a.b"]


def test_series_are_named_by_patient_and_number_and_never_alike(tmp_path: Path) -> None:
    for uid in ("1.2.3", "1.2.4"):
        write_series(tmp_path / uid, VALUES, AFFINE, SeriesInstanceUID=uid, PatientID="../a b")
    found = names(tmp_path)
    assert len(set(found)) == 2
    assert all(name.startswith("a_b_series3_") for name in found)
    assert names(tmp_path, "1.2.4") == [found[1]]


def test_images_and_series_in_one_folder(tmp_path: Path) -> None:
    touch(tmp_path / "a.nii.gz")
    write_series(tmp_path / "ct", VALUES, AFFINE)
    assert len(names(tmp_path)) == 2


def test_names_that_would_be_the_same_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a.nii", tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match="several images of the name a"):
        names(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a file or a folder"):
        names(tmp_path / "nowhere")
    with pytest.raises(UserError, match="expected DICOM images, found none"):
        names(tmp_path)


def test_channels_are_files_of_one_case_named_without_their_number(tmp_path: Path) -> None:
    touch(*(tmp_path / folder / f"a_000{number}.nii.gz" for folder in ("x", "y") for number in (0, 1)))
    cases = find_cases(tmp_path, tmp_path / "out", "MR", None, channels=2)
    assert [case.name for case in cases] == ["x_a", "y_a"]
    assert [cases[0].image, *cases[0].further] == sorted((tmp_path / "x").iterdir())
    assert names(tmp_path) == ["x_a_0000", "x_a_0001", "y_a_0000", "y_a_0001"]


def test_a_case_is_another_one_if_any_channel_is(tmp_path: Path) -> None:
    touch(tmp_path / "a_0000.nii.gz", tmp_path / "a_0001.nii.gz")
    (before,) = find_cases(tmp_path, tmp_path / "out", "MR", None, channels=2)
    identity = before.identity
    (tmp_path / "a_0001.nii.gz").write_bytes(b"other")
    assert before.identity != identity


def test_series_have_one_channel(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", VALUES, AFFINE)
    with pytest.raises(UserError, match=r"expected NIfTI images of 2 channels \(`in_channels`\), found DICOM series"):
        find_cases(tmp_path, tmp_path / "out", "CT", None, channels=2)


@pytest.mark.parametrize(("trained", "settings", "channels"), [(None, [], 1), (4, [], 4), (4, ["in_channels=2"], 2)])
def test_the_user_goes_before_the_model_and_the_model_before_the_bundle(
    trained: int | None, settings: list[str], channels: int, tmp_path: Path
) -> None:
    if trained:
        write_json(tmp_path / "model.json", {"inference": {"in_channels": trained}})
    assert channels_of(ACDC, Options(model=tmp_path, settings=settings)) == channels
