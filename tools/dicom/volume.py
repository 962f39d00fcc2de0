"""From a series to volumes that a bundle's inference reads."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from scripts.errors import UserError, printable

from .cine import split_phases
from .frames import Frame, frames_of
from .geometry import Stack, same_place, stack
from .reading import Series, read_headers, read_pixels

logger = logging.getLogger(__name__)

LARGEST_SLOPE = 1000  # of a rescaling; of CT it is 1, of MR rarely above 100
LARGEST_VALUE = 1e6  # of a voxel; of CT about 30000 HU


@dataclass(frozen=True)
class DicomVolume:
    """A volume with its way back to the images that it was made of.

    values: [columns, rows, slices], HU for CT.
    stack: its slices and its affine (RAS+).
    headers: the images of the series, without pixels; a slice's `image` counts them.
    """

    values: NDArray[Any]
    stack: Stack
    headers: list[Dataset]

    def to_nifti(self, path: Path) -> None:
        """Write the volume as NIfTI."""
        nib.Nifti1Image(self.values, self.stack.affine).to_filename(path)


def read_volumes(series: Series, modality: str) -> list[DicomVolume]:
    """The volume of a series, or one per phase of a cine MR, in the order of time.

    Raises:
        UserError: whatever leaves a doubt about the values or about their place; see `geometry`, `cine`, `reading`.
    """
    name = str(series)
    headers = read_headers(series)
    if len({str(header.get("FrameOfReferenceUID")) for header in headers}) > 1 or not headers[0].get(
        "FrameOfReferenceUID"
    ):
        raise UserError(
            f"{name}: expected one frame of reference, found several or none, so that nobody knows how its slices lie "
            "to each other; export the series again"
        )
    frames = frames_of(headers, name)
    _check_rescaling(frames, name)
    if modality == "CT":
        _check_hounsfield(frames, name)
        phases = [_without_copies(frames, series)]
    else:
        phases = split_phases(frames, name)
    stacks = [stack(phase, name) for phase in phases]
    wanted = {(frame.image, frame.number) for phase in phases for frame in phase}
    slices = _slices(series, frames, wanted)
    return [DicomVolume(_assemble(slices, grid.frames, name), grid, headers) for grid in stacks]


def _check_rescaling(frames: Sequence[Frame], name: str) -> None:
    for frame in frames:
        slope, intercept = _rescaling(frame)
        if not (1 / LARGEST_SLOPE**2 <= slope <= LARGEST_SLOPE and abs(intercept) <= LARGEST_VALUE):
            raise UserError(
                f"{name}: expected a RescaleSlope above 0 and at most {LARGEST_SLOPE}, and a RescaleIntercept of at "
                f"most {LARGEST_VALUE:g}, found {slope:g} and {intercept:g}; export the series again"
            )


def _rescaling(frame: Frame) -> tuple[float, float]:
    return 1.0 if frame.slope is None else frame.slope, 0.0 if frame.intercept is None else frame.intercept


def _check_hounsfield(frames: Sequence[Frame], name: str) -> None:
    if any(frame.slope is None or frame.intercept is None for frame in frames):
        raise UserError(
            f"{name}: expected RescaleSlope and RescaleIntercept, found a slice without, so that its Hounsfield units "
            "are not known; export the series again"
        )
    units = {frame.unit for frame in frames} - {"HU", ""}
    if units:
        found = printable(", ".join(sorted(units)))
        raise UserError(f"{name}: expected Hounsfield units, found values in {found}; choose another")


def _without_copies(frames: Sequence[Frame], series: Series) -> list[Frame]:
    """One frame per place, if those at the same place are the same image."""
    kept = []
    copies = 0
    for place in same_place(frames, str(series)):
        kept.append(place[0])
        if len(place) == 1:
            continue
        copies += len(place) - 1
        images = [read_pixels(series, frame.image)[frame.number] for frame in place]
        if any(
            frame.slope != place[0].slope
            or frame.intercept != place[0].intercept
            or not np.allclose(frame.position, place[0].position, atol=0.01)
            or not np.array_equal(image, images[0])
            for frame, image in zip(place, images, strict=True)
        ):
            raise UserError(
                f"{series}: expected one image per place, found {len(place)} different ones at {place[0].height:.2f} mm"
                " along the stack (several phases or reconstructions in one series?); export each as its own series"
            )
    if copies:
        logger.warning("%s: passed over %d images that are copies of others", series, copies)
    return kept


def _slices(
    series: Series, frames: Sequence[Frame], wanted: set[tuple[int, int]]
) -> dict[tuple[int, int], NDArray[Any]]:
    """Rescaled values of the wanted frames, [columns, rows] each."""
    slices: dict[tuple[int, int], NDArray[Any]] = {}
    for frame in frames:
        key = (frame.image, frame.number)
        if key not in wanted or key in slices:
            continue
        pixels = read_pixels(series, frame.image)
        for other in frames:
            if other.image == frame.image and (other.image, other.number) in wanted:
                slices[other.image, other.number] = _rescale(pixels, other, str(series))
    return slices


def _rescale(pixels: NDArray[Any], frame: Frame, name: str) -> NDArray[Any]:
    if frame.number >= len(pixels) or pixels.shape[1:] != frame.shape:
        raise UserError(
            f"{name}: expected {frame.number + 1} or more frames of {frame.shape} pixels in an image, found "
            f"{pixels.shape}; export the series again"
        )
    slope, intercept = _rescaling(frame)
    values = pixels[frame.number].T.astype(np.float64) * slope + intercept
    if not (slope.is_integer() and intercept.is_integer()):
        return values.astype(np.float32)
    fits = np.iinfo(np.int16).min <= values.min() and values.max() <= np.iinfo(np.int16).max
    return values.astype(np.int16 if fits else np.int32)


def _assemble(slices: dict[tuple[int, int], NDArray[Any]], frames: Sequence[Frame], name: str) -> NDArray[Any]:
    values = np.stack([slices[frame.image, frame.number] for frame in frames], axis=-1)
    repeated = int((values[..., 1:] == values[..., :-1]).all((0, 1)).sum())
    if repeated == len(frames) - 1:
        raise UserError(f"{name}: expected slices that differ, found the same image in all; export the series again")
    if repeated:
        logger.warning("%s: %d of %d slices are the same as the one below them", name, repeated, len(frames))
    return values
