"""Which series of a folder are segmented, and why the others are not."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from scripts.errors import UserError
from tests.tools.dicom_files import write_enhanced, write_series
from tools.dicom.choosing import choose
from tools.dicom.reading import find_series

VALUES = np.broadcast_to(np.arange(12), (8, 8, 12)).astype(np.int16)
AXIAL = np.array([[-1.5, 0, 0, 0], [0, -1.5, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1.0]])
CORONAL = AXIAL[[0, 2, 1, 3]]

UNSUITABLE = {
    "localiser": ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localiser"),
    "secondary": ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "derived secondary"),
    "capture": ({"SOPClassUID": SecondaryCaptureImageStorage}, "derived secondary"),
    "coronal": ({"affine": CORONAL}, "axial"),
    "short": ({"volumes": VALUES[:, :, :4]}, "at least 10 slices, found 4"),
    "mr": ({"modality": "MR"}, "expected CT, found MR"),
}


def write(folder: Path, **how: object) -> None:
    write_series(folder, **{"volumes": VALUES, "affine": AXIAL} | how)  # type: ignore[arg-type]


def test_all_suitable_series_of_several_studies_are_taken_and_the_others_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("study1/portal", "study1/late", "study2/portal"):
        write(tmp_path / name, SeriesDescription=name)
    write_enhanced(tmp_path / "study2" / "enhanced.dcm", [VALUES], AXIAL, SeriesDescription="enhanced")
    for name, (how, _) in UNSUITABLE.items():
        write(tmp_path / "study2" / name, SeriesDescription=name, **how)
    with caplog.at_level(logging.INFO):
        chosen = choose(find_series(tmp_path), "CT", str(tmp_path))
    described = sorted(series.get("SeriesDescription") for series in chosen)
    assert described == ["enhanced", "study1/late", "study1/portal", "study2/portal"]
    for name, (_, reason) in UNSUITABLE.items():
        (line,) = (line for line in caplog.text.splitlines() if f"({name})" in line)
        assert reason in line


@pytest.mark.parametrize("name", UNSUITABLE)
def test_where_no_series_is_suitable_each_is_named_with_its_reason(name: str, tmp_path: Path) -> None:
    how, reason = UNSUITABLE[name]
    write(tmp_path, SeriesInstanceUID="1.2.3", SeriesDescription=name, **how)
    with pytest.raises(UserError, match=rf"series 1.2.3 \({name}\).*{reason}"):
        choose(find_series(tmp_path), "CT", str(tmp_path))


def test_a_multi_frame_coronal_series_is_not_axial(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "a.dcm", [VALUES], CORONAL)
    with pytest.raises(UserError, match="axial"):
        choose(find_series(tmp_path), "CT", str(tmp_path))


def test_a_series_tilted_by_less_than_the_tolerance_is_axial(tmp_path: Path) -> None:
    angle = np.radians(15)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    write(tmp_path, affine=turn @ AXIAL)
    assert len(choose(find_series(tmp_path), "CT", str(tmp_path))) == 1


@pytest.mark.parametrize("name", ["secondary", "coronal", "short"])
def test_the_user_may_take_a_series_that_would_be_passed_over(name: str, tmp_path: Path) -> None:
    write(tmp_path / "a", SeriesInstanceUID="1.2.3", **UNSUITABLE[name][0])
    write(tmp_path / "b", SeriesInstanceUID="1.2.4")
    (series,) = choose(find_series(tmp_path), "CT", str(tmp_path), "1.2.3")
    assert series.uid == "1.2.3"


def test_not_even_the_user_gives_mr_to_a_ct_bundle(tmp_path: Path) -> None:
    write(tmp_path, SeriesInstanceUID="1.2.3", modality="MR")
    with pytest.raises(UserError, match="expected CT, found MR"):
        choose(find_series(tmp_path), "CT", str(tmp_path), "1.2.3")


def test_unknown_series_is_answered_with_those_there_are(tmp_path: Path) -> None:
    write(tmp_path, SeriesInstanceUID="1.2.3")
    with pytest.raises(UserError, match=r"found 1.2.9; there are 1.2.3 \(phantom\)"):
        choose(find_series(tmp_path), "CT", str(tmp_path), "1.2.9")
