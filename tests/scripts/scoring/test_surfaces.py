"""Surface distances, and how much work they are: exact counts, since seconds depend on the machine."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from scripts.scoring.metrics import case_scores
from scripts.scoring.surfaces import surface_distances


def ball(centre: tuple[int, int, int], radius: float, shape: tuple[int, int, int] = (60, 50, 40)) -> np.ndarray:
    offsets = np.indices(shape) - np.reshape(centre, (3, 1, 1, 1))
    return np.square(offsets).sum(axis=0) <= radius**2


def test_distances_equal_those_of_a_distance_transform() -> None:
    masks = (ball((20, 20, 15), 9), ball((24, 18, 17), 7) | ball((50, 40, 30), 3))
    spacing = (1.5, 0.8, 3.0)
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in masks]
    transforms = [ndimage.distance_transform_edt(~surface, sampling=spacing) for surface in surfaces]
    first, second = surface_distances(*masks, spacing)
    np.testing.assert_allclose(first, transforms[1][surfaces[0]], rtol=1e-12)
    np.testing.assert_allclose(second, transforms[0][surfaces[1]], rtol=1e-12)


@pytest.mark.parametrize("around", [0, 30])
def test_work_per_organ_is_its_bounding_box_and_its_surface(around: int, monkeypatch: pytest.MonkeyPatch) -> None:
    prediction, label = np.zeros((2, 60, 50, 40), np.uint8)
    prediction[ball((20, 20, 15), 8)] = label[ball((21, 20, 15), 9)] = 1
    prediction[ball((45, 35, 25), 5)] = label[ball((45, 37, 25), 4)] = 2
    prediction, label = np.pad(prediction, around), np.pad(label, around)
    eroded: list[int] = []
    trees: list[int] = []
    asked: list[int] = []
    erode = ndimage.binary_erosion

    class Counting(cKDTree):
        def __init__(self, points: np.ndarray, compact_nodes: bool = True, balanced_tree: bool = True) -> None:
            assert not compact_nodes  # both take longer than they save
            assert not balanced_tree
            trees.append(len(points))
            super().__init__(points, compact_nodes=compact_nodes, balanced_tree=balanced_tree)

        def query(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            asked.append(len(points))
            return super().query(points)

    surface = [int((mask & ~erode(mask)).sum()) for k in (1, 2) for mask in (prediction == k, label == k)]
    monkeypatch.setattr("scipy.ndimage.binary_erosion", lambda m: (eroded.append(m.size), erode(m))[1])
    monkeypatch.setattr("scipy.ndimage.distance_transform_edt", lambda *_, **__: pytest.fail("visits every voxel"))
    monkeypatch.setattr("scripts.scoring.surfaces.cKDTree", Counting)
    case_scores(prediction, label, 3, metrics=("dice", "hd95", "asd", "assd"))
    # The union of both balls' boxes: 1 from 12 to 30 along the first axis and 19 along the others; 2 from 30 to 41.
    assert eroded == [19 * 19 * 19] * 2 + [11 * 12 * 11] * 2
    assert sorted(trees) == sorted(asked) == sorted(surface)
    assert len(trees) == 2 * 2


def test_overlaps_alone_need_no_surface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.scoring.metrics.surface_distances", lambda *_: pytest.fail("measured distances"))
    label = ball((20, 20, 15), 8).astype(np.uint8)
    assert case_scores(label, label, 1, metrics=("dice", "jaccard"))["dice"].tolist() == [1]
