"""Which way slices lie, and that they come back to the axes of their file."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd
from nibabel.eulerangles import euler2mat

from scripts.data.orientation import OrientSlicesd
from tests.properties.scans import TURNS, Grid, Turn, turned

RNG = np.random.default_rng(0)


def oriented(values: np.ndarray, affine: np.ndarray) -> MetaTensor:
    item = OrientSlicesd("image")({"image": MetaTensor(torch.from_numpy(values.copy())[None], affine)})
    found: MetaTensor = item["image"]
    return found


@pytest.mark.parametrize("spacing", [(1.0, 1.2, 8.0), (1.0, 1.0, 1.0), (8.0, 1.0, 1.5), (1.0, 4.0, 1.0)])
def test_a_scan_gives_the_same_slices_however_it_is_stored(spacing: tuple[float, ...]) -> None:
    values, grid = RNG.random((4, 5, 3)), Grid((4, 5, 3), np.diag([*spacing, 1.0]))
    first = oriented(values, grid.affine)
    for turn in TURNS:
        other = oriented(turned(values, turn), grid.turned(turn).affine)
        assert torch.equal(first, other), turn
        assert np.allclose(first.affine, other.affine), turn


@pytest.mark.parametrize("axis", range(3))
def test_thick_slices_come_last_in_whichever_direction_they_lie(axis: int) -> None:
    spacing, shape = np.full(3, 1.4), [10, 11, 12]
    spacing[axis], shape[axis] = 8, 4
    tilt = euler2mat(0.9, 0.5, -0.6)  # of a heart's short axis; the slices are closest to another axis of the body
    affine = np.eye(4)
    affine[:3, :3] = tilt @ np.diag(spacing)
    found = oriented(RNG.random(shape), affine)
    assert found.shape[-1] == 4
    assert float(torch.linalg.norm(found.affine[:3, 2])) == pytest.approx(8)


def test_without_thick_slices_those_from_feet_to_head_are_taken() -> None:
    grid = Grid((7, 8, 9), np.diag([1.0, 1.49, 1.0, 1.0]))
    stored = grid.turned(((2, 0, 1), (True, False, True)))
    found = oriented(np.zeros(stored.shape), stored.affine)
    assert tuple(found.shape[1:]) == (7, 8, 9)
    assert nib.orientations.aff2axcodes(found.affine.numpy()) == ("R", "A", "S")


@pytest.mark.parametrize("turn", TURNS[::5])
def test_what_is_found_goes_back_to_the_axes_of_the_file(turn: Turn) -> None:
    values, grid = RNG.random((4, 5, 3)), Grid((4, 5, 3), np.diag([1.0, 1.0, 5.0, 1.0])).turned(turn)
    stored = turned(values, turn)
    first = Compose([OrientSlicesd("image")])
    item = first({"image": MetaTensor(torch.from_numpy(stored.copy())[None], grid.affine)})
    item["pred"] = MetaTensor(2 * item["image"].as_tensor())
    back = Invertd("pred", first, "image", nearest_interp=False)(item)["pred"]
    assert np.array_equal(back[0].numpy(), 2 * stored)
    assert np.allclose(back.affine, grid.affine)


def test_the_image_decides_for_its_label() -> None:
    affine = np.diag([3.0, 1.0, 2.0, 1.0])
    other = np.diag([2.9999999, 1.0, 2.0, 1.0])  # rounded, and no longer coarse enough to decide
    item = {"image": MetaTensor(torch.zeros(1, 4, 5, 3), affine), "label": MetaTensor(torch.zeros(1, 4, 5, 3), other)}
    found = OrientSlicesd(["image", "label"])(item)
    assert found["image"].shape == found["label"].shape == (1, 5, 3, 4)
