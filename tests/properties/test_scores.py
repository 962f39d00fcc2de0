"""Scores of any two label maps: the metrics' definitions, and what must not matter."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from medpy.metric import binary
from monai.data import MetaTensor
from scipy import ndimage

from scripts.scoring.empty_masks import EMPTY_POLICIES
from scripts.scoring.metrics import DISTANCES, METRICS, SegmentationScores, case_scores
from tests.properties.profiles import costly
from tests.properties.scans import Array, Grid, Turn, class_counts, grids, seeds, turned, turns

MEDPY: dict[str, Callable[..., Any]] = {"dice": binary.dc, "jaccard": binary.jc}
MEDPY |= {"hd95": binary.hd95, "asd": binary.asd, "assd": binary.assd}
SYMMETRIC = [metric for metric in METRICS if metric != "asd"]
policies = st.sampled_from(sorted(EMPTY_POLICIES))


@st.composite
def label_maps(draw: Callable[..., Any]) -> tuple[Array, Array, int, list[float] | None]:
    """Prediction and label of 2 or 3 axes, the number of classes, and a spacing or None for voxels."""
    shape = draw(st.lists(st.integers(1, 12), min_size=2, max_size=3))
    classes, seed = draw(class_counts), draw(seeds)
    rng = np.random.default_rng(seed)
    # Smooth blobs, which differ at their borders; of many classes in a few voxels some are on one side only.
    fields = ndimage.gaussian_filter(rng.normal(size=(classes + 1, *shape)), (0, *[draw(st.floats(0, 2))] * len(shape)))
    label = fields.argmax(0)
    prediction = (fields + draw(st.floats(0, 1)) * fields.std() * rng.normal(size=fields.shape)).argmax(0)
    spacing = draw(st.one_of(st.none(), st.lists(st.floats(0.3, 8), min_size=len(shape), max_size=len(shape))))
    return prediction, label, classes, spacing


Maps = tuple[Array, Array, int, list[float] | None]


def side_of(prediction: bool, label: bool) -> str:
    """Which side is empty, of one that has the class or not."""
    return {(True, True): "", (False, True): "prediction", (True, False): "label", (False, False): "both"}[
        prediction, label
    ]


@given(label_maps())
def test_scores_are_those_of_medpy_where_both_sides_have_the_class(maps: Maps) -> None:
    prediction, label, classes, spacing = maps
    found = case_scores(prediction, label, classes, spacing, metrics=METRICS)
    for k in range(classes):
        masks = prediction == k + 1, label == k + 1
        assert found["empty"][k] == side_of(bool(masks[0].any()), bool(masks[1].any()))
        for metric, score in MEDPY.items() if not found["empty"][k] else ():
            how = {"voxelspacing": spacing} if metric in DISTANCES else {}
            assert found[metric][k] == pytest.approx(score(*masks, **how), rel=1e-6, abs=1e-6), metric


@given(label_maps(), policies)
def test_a_class_that_a_side_lacks_scores_as_the_policy_says(maps: Maps, policy: str) -> None:
    prediction, label, classes, spacing = maps
    found = case_scores(prediction, label, classes, spacing, policy, METRICS)
    rule = EMPTY_POLICIES[policy]
    diagonal = math.sqrt(sum((n * mm) ** 2 for n, mm in zip(label.shape, spacing or [1] * label.ndim, strict=True)))
    for k, side in enumerate(found["empty"]):
        for metric in METRICS if side else ():
            value = getattr(rule.distance if metric in DISTANCES else rule.overlap, side)
            assert found[metric][k] == pytest.approx(diagonal if value is None else value, nan_ok=True)


@given(label_maps())
def test_a_perfect_prediction_scores_one_and_zero(maps: Maps) -> None:
    _, label, classes, spacing = maps
    found = case_scores(label, label, classes, spacing, metrics=METRICS)
    for k in range(classes):
        there = (label == k + 1).any()
        expected = {m: (0.0 if m in DISTANCES else 1.0) if there else math.nan for m in METRICS}
        assert {m: found[m][k] for m in METRICS} == pytest.approx(expected, nan_ok=True)


@given(label_maps(), st.data())
def test_sides_axes_units_and_margins_do_not_matter(maps: Maps, data: st.DataObject) -> None:
    prediction, label, classes, spacing = maps
    known = case_scores(prediction, label, classes, spacing, metrics=METRICS)

    def assert_alike(other: dict[str, Array], metrics: Sequence[str] = METRICS, units: float = 1) -> None:
        there = known["empty"] == ""
        for metric in metrics:
            factor = units if metric in DISTANCES else 1
            np.testing.assert_allclose(other[metric][there], known[metric][there] * factor, rtol=1e-6, atol=1e-9)

    assert_alike(case_scores(label, prediction, classes, spacing, metrics=METRICS), SYMMETRIC)
    order = data.draw(st.permutations(range(label.ndim)))
    back = [axis for axis in range(label.ndim) if data.draw(st.booleans())]
    maps_turned = [np.flip(side.transpose(order), back) for side in (prediction, label)]
    along = None if spacing is None else [spacing[axis] for axis in order]
    assert_alike(case_scores(*maps_turned, classes, along, metrics=METRICS))
    assert_alike(case_scores(np.pad(prediction, 1), np.pad(label, 1), classes, spacing, metrics=METRICS))
    if spacing is not None:
        assert_alike(case_scores(prediction, label, classes, [10 * mm for mm in spacing], metrics=METRICS), units=10)


@costly(2)
@given(grids(), turns, turns, class_counts, seeds)
def test_it_does_not_matter_how_label_and_prediction_are_stored(
    grid: Grid, turn: Turn, other: Turn, classes: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes + 1, grid.shape)
    prediction = np.where(rng.random(grid.shape) < 0.7, label, rng.integers(0, classes + 1, grid.shape))

    def scored(turns: Sequence[Turn], **how: Any) -> Array:
        scores = SegmentationScores(classes, METRICS, **how)
        sides = [
            MetaTensor(turned(side, turn)[None, None].copy(), affine=grid.turned(turn).affine)
            for side, turn in zip((prediction, label), turns, strict=True)
        ]
        scores([sides[0][0]], [sides[1][0]])
        return scores.get_buffer().numpy()

    plain = ((0, 1, 2), (False, False, False))
    np.testing.assert_allclose(scored([turn, turn], unit="mm"), scored([plain, plain], unit="mm"), rtol=1e-4)
    grids = [8, 9, 10]
    np.testing.assert_array_equal(scored([turn, other], grid=grids), scored([plain, plain], grid=grids))
