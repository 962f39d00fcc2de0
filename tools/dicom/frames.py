"""Frames: what single images and multi-frame ("enhanced") images say of each slice, in one form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from scripts.errors import UserError, first_line

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """One slice of a series.

    image: index of its image in the series; number: of the frame in it, from 0.
    position: centre of its first pixel, [x, y, z] in mm, LPS.
    row, column: directions in which the column index and the row index grow, unit vectors in LPS.
    spacing: mm between rows, and between columns.
    shape: rows, columns.
    slope, intercept: from stored values to HU or to the modality's own unit; None where the image has none.
    unit: of the rescaled values, "" where it is not said.
    times: trigger time, temporal index, instance number, whatever of them there is.
    """

    image: int
    number: int
    position: Vector
    row: Vector
    column: Vector
    spacing: tuple[float, float]
    shape: tuple[int, int]
    slope: float | None
    intercept: float | None
    unit: str
    times: tuple[float | None, float | None, float | None]

    @property
    def normal(self) -> Vector:
        """Unit vector across the slice."""
        return np.cross(self.row, self.column)

    @property
    def height(self) -> float:
        """Place along the normal (mm)."""
        return float(self.normal @ self.position)


def frames_of(headers: Sequence[Dataset], name: str) -> list[Frame]:
    """The frames of all images of a series.

    Raises:
        UserError: colour or inverted grey values, a number of frames that the image does not describe, a frame without
            position, orientation or pixel spacing, or values of another kind than their attribute has.
    """
    try:
        return [
            _frame(FrameHeader(header, number), image, number, name)
            for image, header in enumerate(headers)
            for number in range(_number_of_frames(header, name))
        ]
    except UserError:
        raise
    except Exception as error:  # pydicom reads a value only when it is asked for, and raises whatever it leads to
        raise UserError(
            f"{name}: expected attributes that can be read, found: {first_line(error)}; export the series again"
        ) from None


def _number_of_frames(header: Dataset, name: str) -> int:
    number = int(header.get("NumberOfFrames") or 1)
    described = len(header.get("PerFrameFunctionalGroupsSequence") or ()) or 1
    if number != described:
        raise UserError(
            f"{name}: expected a place for each frame of an image, found {number} frames and {described} in "
            "PerFrameFunctionalGroupsSequence; export the series again"
        )
    return number


class FrameHeader:
    """The attributes of one frame: its own, else those that all frames share, else the image's."""

    def __init__(self, header: Dataset, number: int) -> None:
        self.header = header
        own = header.get("PerFrameFunctionalGroupsSequence")
        shared = header.get("SharedFunctionalGroupsSequence")
        self.groups = [group for group in (own[number] if own else None, shared[0] if shared else None) if group]

    def get(self, keyword: str, group: str) -> object:
        """An attribute, in a multi-frame image from its functional group."""
        for groups in self.groups:
            items = groups.get(group)
            if items and items[0].get(keyword) is not None:
                return items[0].get(keyword)
        return self.header.get(keyword)

    def numbers(self, keyword: str, group: str, count: int) -> list[float] | None:
        """An attribute of `count` finite numbers, else None."""
        value = self.get(keyword, group)
        if value is None or value == "":
            return None
        found = [float(part) for part in (value if count > 1 else [value])]  # type: ignore[attr-defined]
        return found if len(found) == count and np.isfinite(found).all() else None

    def words(self, keyword: str) -> list[str]:
        """An attribute of the image with any number of words."""
        value = self.header.get(keyword)
        return [] if value is None else [value] if isinstance(value, str) else [str(word) for word in value]

    def number(self, keyword: str, group: str) -> float | None:
        """An attribute of one number, else None."""
        found = self.numbers(keyword, group, 1)
        return found[0] if found else None


def _frame(header: FrameHeader, image: int, number: int, name: str) -> Frame:
    position = header.numbers("ImagePositionPatient", "PlanePositionSequence", 3)
    orientation = header.numbers("ImageOrientationPatient", "PlaneOrientationSequence", 6)
    spacing = header.numbers("PixelSpacing", "PixelMeasuresSequence", 2)
    for found, what in (
        (position, "position (ImagePositionPatient)"),
        (orientation, "orientation (ImageOrientationPatient)"),
        (spacing, "pixel spacing (PixelSpacing)"),
    ):
        if found is None:
            raise UserError(f"{name}: expected the {what} of every slice, found one without; export the series again")
    assert position is not None
    assert orientation is not None
    assert spacing is not None
    if int(header.header.get("SamplesPerPixel") or 1) != 1:
        raise UserError(f"{name}: expected one value per pixel, found a colour image; choose another series")
    if header.header.get("PhotometricInterpretation") == "MONOCHROME1":
        raise UserError(
            f"{name}: expected grey values of which the highest is white (MONOCHROME2), found MONOCHROME1, so that "
            "they may be inverted; export the series again"
        )
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    if abs(row @ column) > 1e-3 or abs(row @ row - 1) > 1e-2 or abs(column @ column - 1) > 1e-2 or min(spacing) <= 0:
        raise UserError(
            f"{name}: expected two perpendicular unit vectors as orientation and spacings above 0, found {orientation} "
            f"and {spacing}; export the series again"
        )
    transform = "PixelValueTransformationSequence"
    instance = header.header.get("InstanceNumber")
    return Frame(
        image=image,
        number=number,
        position=np.array(position),
        row=row / np.linalg.norm(row),
        column=column / np.linalg.norm(column),
        spacing=(spacing[0], spacing[1]),
        shape=(int(header.header.Rows), int(header.header.Columns)),
        slope=header.number("RescaleSlope", transform),
        intercept=header.number("RescaleIntercept", transform),
        unit=str(header.get("RescaleType", transform) or ""),
        times=(
            _first(
                header.number("NominalCardiacTriggerDelayTime", "CardiacSynchronizationSequence"),
                header.number("TriggerTime", ""),
            ),
            _first(
                header.number("TemporalPositionIndex", "FrameContentSequence"),
                header.number("TemporalPositionIdentifier", ""),
            ),
            None if instance is None else float(instance) + number * 1e-6,
        ),
    )


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
