"""A cine falls into its phases, in the order of time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from scripts.errors import UserError
from tests.tools.dicom_files import write_enhanced, write_series
from tools.dicom.reading import find_series
from tools.dicom.volume import DicomVolume, read_volumes

AFFINE = np.array([[-1.5, 0, 0, 30], [0, -1.5, 0, 20], [0, 0, 8, -700], [0, 0, 0, 1.0]])
PHASES = [np.random.default_rng(phase).integers(0, 1000, (12, 10, 5)).astype(np.int16) for phase in range(4)]


def read(folder: Path) -> list[DicomVolume]:
    (series,) = find_series(folder)
    return read_volumes(series, "MR")


def assert_phases(volumes: list[DicomVolume], expected: list[np.ndarray]) -> None:
    assert len(volumes) == len(expected)
    for volume, values in zip(volumes, expected, strict=True):
        assert np.array_equal(volume.values, values)
        assert np.allclose(volume.stack.affine, AFFINE)


def number(keyword: str, values: list[float], breath: float = 0.0, instances: bool = True):
    """Sets an attribute per phase, other from slice to slice by `breath`; `instances` False makes them all number 1."""

    def change(images: list[Dataset]) -> None:
        for i, image in enumerate(images):
            setattr(image, keyword, values[i // 5] + breath * (i % 5))
            if not instances:
                image.InstanceNumber = 1

    return change


def test_phases_are_in_the_order_of_the_trigger_time(tmp_path: Path) -> None:
    # The slices' heart beats differ, and instance numbers contradict.
    write_series(tmp_path, PHASES, AFFINE, "MR", change=number("TriggerTime", [90, 0, 270, 180], breath=7))
    assert_phases(read(tmp_path), [PHASES[1], PHASES[0], PHASES[3], PHASES[2]])


def test_phases_are_in_the_order_of_their_temporal_position(tmp_path: Path) -> None:
    write_series(
        tmp_path, PHASES, AFFINE, "MR", change=number("TemporalPositionIdentifier", [4, 3, 2, 1]), TriggerTime=0
    )
    assert_phases(read(tmp_path), PHASES[::-1])


def test_phases_are_else_in_the_order_of_the_instance_number(tmp_path: Path) -> None:
    write_series(tmp_path, PHASES, AFFINE, "MR")
    assert_phases(read(tmp_path), PHASES)


def test_phases_of_a_multi_frame_image(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "cine.dcm", PHASES, AFFINE, "MR")
    assert_phases(read(tmp_path), PHASES)


def test_images_that_nothing_orders_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path, PHASES, AFFINE, "MR", change=number("TriggerTime", [0, 0, 1, 2], instances=False))
    with pytest.raises(UserError, match=r"series .* order the 4 images at one place"):
        read(tmp_path)


def test_a_slice_with_fewer_phases_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, PHASES, AFFINE, "MR", change=lambda images: images[:-1])
    with pytest.raises(UserError, match="as many phases at every slice, found 3 and 4"):
        read(tmp_path)


def test_a_missing_slice_of_a_cine_is_a_gap(tmp_path: Path) -> None:
    write_series(
        tmp_path, PHASES, AFFINE, "MR", change=lambda images: [im for i, im in enumerate(images) if i % 5 != 2]
    )
    with pytest.raises(UserError, match="slices are missing"):
        read(tmp_path)
