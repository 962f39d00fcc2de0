"""Scores on a common grid: the resize, the orientation, and what SegmentationScores makes of it."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from scripts.errors import UserError
from scripts.scoring.common_grid import on_common_grid
from scripts.scoring.metrics import METRICS, SegmentationScores, case_scores

SPACING = np.diag([1.5, 0.8, 5.0, 1.0])


def blocks(seed, shape, num_classes=3):
    """A label map of overlapping blocks and, from it, a prediction that is moved and noisy."""
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.int64)
    for c in range(1, num_classes + 1):
        corner = [int(rng.integers(0, n - 2)) for n in shape]
        label[tuple(slice(a, a + n // 2 + 1) for a, n in zip(corner, shape, strict=True))] = c
    prediction = np.roll(label, 1, axis=0)
    noise = rng.random(shape) < 0.1
    prediction[noise] = rng.integers(0, num_classes + 1, noise.sum())
    return prediction, label


def stored(ids, codes):
    """[1, *spatial] of a volume in RAS as a file in the orientation `codes` would hold it."""
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(codes))
    )
    affine = SPACING @ nib.orientations.inv_ornt_aff(turn, ids.shape)
    turned = nib.orientations.apply_orientation(ids, turn)
    return MetaTensor(np.ascontiguousarray(turned)[None], affine=torch.from_numpy(affine))


def collected(prediction, label, grid, **options):
    metric = SegmentationScores(3, METRICS, grid=grid, **options)
    metric([prediction], [label])
    return metric


def centres_by_hand(ids, grid):
    """floor((i + 0.5) S / D) in whole numbers."""
    indices = [[(2 * i + 1) * s // (2 * d) for i in range(d)] for s, d in zip(ids.shape, grid, strict=True)]
    return ids[np.ix_(*indices)]


@pytest.mark.parametrize(
    ("shape", "grid"),
    [((11, 14, 5), (8, 20, 5)), ((16, 9, 6), (8, 3, 12)), ((7, 30, 1), (4, 4, 3)), ((13, 8), (9, 11))],
)
def test_resize_takes_the_voxel_at_each_centre(shape, grid):
    ids = np.arange(np.prod(shape)).reshape(shape)
    for side in on_common_grid(torch.from_numpy(ids), torch.from_numpy(ids), grid):
        np.testing.assert_array_equal(side.numpy(), centres_by_hand(ids, grid))


def test_resize_equals_that_of_scipy_on_voxel_centres():
    ids = blocks(0, (11, 14, 5))[0]
    resized, _ = on_common_grid(torch.from_numpy(ids), torch.from_numpy(ids), (7, 19, 9))
    zoom = [d / s for d, s in zip((7, 19, 9), ids.shape, strict=True)]
    expected = ndimage.zoom(ids, zoom, order=0, mode="nearest", grid_mode=True)
    np.testing.assert_array_equal(resized.numpy(), expected)


def test_scores_on_a_grid_are_those_of_the_resized_arrays():
    prediction, label = blocks(1, (20, 24, 9))
    metric = collected(stored(prediction, "RAS"), stored(label, "RAS"), [16, 16, 8])
    expected = case_scores(*(centres_by_hand(ids, (16, 16, 8)) for ids in (prediction, label)), 3, metrics=METRICS)
    for m, name in enumerate(METRICS):
        np.testing.assert_array_equal(metric.get_buffer()[0, :, m], expected[name])


def test_distances_are_in_voxels_of_the_grid():
    prediction, label = np.zeros((2, 8, 4, 4), np.int64)
    prediction[1] = label[5] = 1
    # On 16 voxels the planes are two voxels thick, at 2, 3 and at 10, 11: each surface voxel of 2 is 8 away, of 3 is 7.
    metric = SegmentationScores(1, ("asd", "dice"), grid=[16, 4, 4])
    metric([stored(prediction, "RAS")], [stored(label, "RAS")])
    assert metric.get_buffer()[0, 0].tolist() == [7.5, 0, 0]


@pytest.mark.parametrize("codes", ["LAS", "LPI", "SAR", "ILP", "PRS"])
def test_stored_orientation_does_not_change_the_scores(codes):
    prediction, label = blocks(2, (20, 24, 12))
    grid = [10, 6, 8]  # even factors: a centre lies between two voxels, and which of them is taken shows the direction
    expected = collected(stored(prediction, "RAS"), stored(label, "RAS"), grid).get_buffer()
    assert expected[0, :, 0].min() > 0.1
    for p, q in itertools.product((codes, "RAS"), repeat=2):  # also a prediction stored otherwise than its label
        found = collected(stored(prediction, p), stored(label, q), grid).get_buffer()
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("without", [0, 1])
def test_side_without_affine_lies_on_the_grid_of_the_other(without):
    sides = [stored(ids, "ILP") for ids in blocks(3, (20, 24, 12))]
    both = collected(*sides, [10, 6, 8]).get_buffer()
    sides[without] = sides[without].as_tensor()
    torch.testing.assert_close(collected(*sides, [10, 6, 8]).get_buffer(), both, rtol=0, atol=0)


def test_what_is_resized_has_no_affine_any_more():
    sides = on_common_grid(*(stored(ids, "RAS")[0] for ids in blocks(3, (20, 24, 12))), [10, 6, 8])
    assert [type(side) for side in sides] == [torch.Tensor] * 2


def test_grid_may_have_one_voxel_along_an_axis():
    label = np.zeros((8, 8, 8), np.int64)
    label[:, :, 4] = 1  # the voxel of the centre
    scores = collected(stored(label, "RAS"), stored(label, "RAS"), [4, 4, 1])
    assert scores.get_buffer()[0, :, 0].tolist() == pytest.approx([1, np.nan, np.nan], nan_ok=True)


def test_two_sides_without_affine_are_taken_as_they_are():
    prediction, label = (torch.from_numpy(ids)[None] for ids in blocks(4, (20, 24, 12)))
    expected = [centres_by_hand(ids[0].numpy(), (10, 6, 8)) for ids in (prediction, label)]
    scores = case_scores(*expected, 3, metrics=("dice",))["dice"]
    np.testing.assert_array_equal(collected(prediction, label, [10, 6, 8]).get_buffer()[0, :, 0], scores)


def test_scoring_on_a_grid_leaves_the_volumes_to_native_scores():
    prediction, label = (stored(ids, "LPI") for ids in blocks(5, (9, 10, 8)))
    before = collected(prediction, label, None, unit="mm").get_buffer()
    collected(prediction, label, [5, 5, 4])
    torch.testing.assert_close(collected(prediction, label, None, unit="mm").get_buffer(), before, rtol=0, atol=0)


def test_class_that_is_empty_or_lost_on_the_grid_has_the_distance_of_the_policy():
    prediction, label = np.zeros((2, 8, 8, 8), np.int64)
    prediction[:4], label[:4] = 1, 1
    prediction[6:, 4:] = 2  # the label has none
    prediction[6:, :4], label[4, 0, 0] = 3, 3  # of two voxels, the grid takes the second
    metric = collected(stored(prediction, "RAS"), stored(label, "RAS"), [4, 4, 4], empty="fixed128")
    rows = metric.rows(["a"])
    assert [row["asd"] for row in rows] == [0, 128, 128]
    assert [row["dice"] for row in rows] == [1, 0, 0]
    assert [row["empty"] for row in rows] == ["", "label", "label"]


def test_rows_name_the_grid_in_their_unit():
    prediction, label = (stored(ids, "RAS") for ids in blocks(6, (9, 10, 8)))
    units = {grid: collected(prediction, label, grid).rows(["a"])[0]["unit"] for grid in (None, (16, 12, 8))}
    assert units == {None: "voxels", (16, 12, 8): "voxels of 16x12x8"}


@pytest.mark.parametrize("grid", [[], [8, 0, 8], [8.0, 8, 8], "888"])
def test_grid_of_anything_but_positive_whole_numbers_is_a_user_error(grid):
    with pytest.raises(UserError, match="expected a grid of positive whole numbers"):
        SegmentationScores(3, grid=grid)


def test_grid_in_mm_is_a_user_error():
    with pytest.raises(UserError, match="expected the unit voxels with a grid, found 'mm'"):
        SegmentationScores(3, unit="mm", grid=[8, 8, 8])


def test_grid_of_other_axes_and_sides_of_other_shapes_are_user_errors():
    prediction, label = (torch.from_numpy(ids)[None] for ids in blocks(7, (9, 10, 8)))
    with pytest.raises(UserError, match=r"volumes of 2 axes for the grid \(8, 8\), found 3"):
        collected(prediction, label, [8, 8])
    with pytest.raises(UserError, match=r"label's shape \(9, 10, 8\), found \(8, 10, 8\)"):
        collected(prediction[:, 1:], label, [8, 8, 8])
