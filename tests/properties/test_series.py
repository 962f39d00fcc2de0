"""A DICOM series is the same scan as the NIfTI file of its voxels, whatever the grid and the stored numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from tests.bundle_commands import ACDC, SYNAPSE
from tests.properties.profiles import costly
from tests.properties.scans import Array, Grid, class_counts, grids, seeds
from tests.properties.segmenting import mosaic, segment
from tests.tools.dicom_files import INTERCEPT, write_enhanced, write_series
from tools.dicom.reading import find_series
from tools.dicom.volume import read_volumes

UID = "1.2.3.4"


@dataclass(frozen=True)
class Writing:
    """How a volume becomes a series.

    signed: whether the stored numbers may be negative.
    slope, inter: from stored numbers to values.
    enhanced: all slices in one file.
    syntax: of the others' pixels.
    """

    modality: str
    signed: bool
    slope: float
    inter: float
    enhanced: bool
    syntax: str

    def save(self, folder: Path, values: Array, affine: Array) -> None:
        """Write values that the stored numbers hold exactly."""
        stored = np.rint((values - self.inter) / self.slope).astype(int)
        assert (stored >= -(2**15)).all() if self.signed else (stored >= 0).all()
        tags: dict[str, Any] = {"RescaleSlope": self.slope, "RescaleIntercept": self.inter, "SeriesInstanceUID": UID}
        tags |= {"PixelRepresentation": int(self.signed)}
        numbers = stored + INTERCEPT[self.modality]  # which the writers take off again
        if self.enhanced:
            write_enhanced(folder / "all.dcm", [numbers], affine, self.modality, **tags)
        else:
            write_series(folder, numbers, affine, self.modality, self.syntax, **tags)


# Whether signed, slope and intercept, of values from -225 to 275.
NUMBERS = [(False, 1, -1024), (False, 2, -225), (False, 0.25, -500.5), (True, 1, 0), (True, 0.5, 100), (True, 2, 75)]


@st.composite
def writings(draw: Callable[..., Any]) -> Writing:
    numbers: Sequence[Any] = draw(st.sampled_from(NUMBERS))
    syntax = draw(st.sampled_from([ExplicitVRLittleEndian, RLELossless]))
    return Writing(draw(st.sampled_from(["CT", "MR"])), *numbers, draw(st.booleans()), syntax)


stacks = grids().filter(lambda grid: grid.shape[2] > 1)  # one slice is no stack


def assert_same_in_space(path: Path, values: Array, affine: Array) -> None:
    """The NIfTI file has these values in these places, in whatever order it stores them."""
    images = nib.nifti1.load(path), nib.Nifti1Image(values, affine)
    found, expected = (nib.as_closest_canonical(image) for image in images)
    np.testing.assert_array_equal(found.get_fdata(), expected.get_fdata())
    np.testing.assert_allclose(found.affine, expected.affine, rtol=1e-5, atol=1e-3)


@costly()
@given(stacks, writings(), seeds)
def test_a_series_has_the_values_and_places_of_its_voxels(
    folder: Callable[[], Path], grid: Grid, writing: Writing, seed: int
) -> None:
    root = folder()
    places = np.random.default_rng(seed).permutation(np.prod(grid.shape)).reshape(grid.shape)
    values = 2.0 * (places % 251) - 225
    writing.save(root / "dicom", values, grid.affine)
    (series,) = find_series(root / "dicom")
    (volume,) = read_volumes(series, writing.modality)
    volume.to_nifti(root / "volume.nii")
    assert_same_in_space(root / "volume.nii", values, grid.affine)


@costly()
@given(stacks, writings(), class_counts, seeds)
def test_a_series_is_segmented_as_the_voxels_are(
    folder: Callable[[], Path], model: Callable[[int, int], Path], grid: Grid, writing: Writing, classes: int, seed: int
) -> None:
    root = folder()
    values, ids = mosaic(grid, classes, seed)
    assume((ids[..., 1:] != ids[..., :-1]).any())  # the same image in all places is refused
    writing.save(root / "dicom", values, grid.affine)
    if writing.modality == "CT":
        sizes = {
            "spacing": grid.in_network((1, 1, 1)).spacing.tolist(),
            "patch_size": [16] * 3,
            "crop_foreground": False,
        }
        found = segment(SYNAPSE, model(3, classes), classes, root / "dicom", UID, **sizes)
    else:
        size = [grid.shape[axis] for axis in grid.plane]
        found = segment(ACDC, model(2, classes), classes, root / "dicom", UID, image_size=size)
    assert_same_in_space(found / "labels.nii.gz", ids.astype(np.uint8), grid.affine)
