import math

import numpy as np
import pytest

from scripts.errors import UserError
from scripts.scoring.empty_masks import EMPTY_POLICIES, EmptyPolicy, PerSide
from scripts.scoring.metrics import METRICS, case_scores
from tests.score_cases import empty_case, random_case

SPACINGS = {2: (0.7, 2.5), 3: (1.5, 0.8, 5.0)}


def brute_surface(mask):
    """Coordinates of the voxels that have a neighbour along an axis outside the mask or outside the image."""

    def inside(voxel):
        return all(0 <= v < n for v, n in zip(voxel, mask.shape, strict=True)) and mask[voxel]

    steps = [tuple(s * (axis == a) for a in range(mask.ndim)) for axis in range(mask.ndim) for s in (-1, 1)]
    voxels = [tuple(int(v) for v in voxel) for voxel in np.argwhere(mask)]
    return [v for v in voxels if not all(inside(tuple(map(sum, zip(v, step, strict=True)))) for step in steps)]


def brute_scores(prediction, label, spacing):
    """All metrics of two non-empty masks from their definitions, distances between all pairs of surface voxels."""
    p, q = (np.array(brute_surface(mask)) * np.array(spacing) for mask in (prediction, label))
    pairs = np.sqrt(((p[:, None] - q[None]) ** 2).sum(-1))
    forward, backward = pairs.min(1), pairs.min(0)
    pooled = sorted([*forward, *backward])
    position = 0.95 * (len(pooled) - 1)
    low = math.floor(position)
    high = min(low + 1, len(pooled) - 1)
    hits = (prediction & label).sum()
    return {
        "dice": 2 * hits / (prediction.sum() + label.sum()),
        "jaccard": hits / (prediction | label).sum(),
        "hd95": pooled[low] + (position - low) * (pooled[high] - pooled[low]),
        "asd": forward.sum() / len(forward),
        "assd": sum(pooled) / len(pooled),
    }


@pytest.mark.parametrize("with_spacing", [False, True])
@pytest.mark.parametrize("shape", [(11, 14), (1, 9), (7, 9, 6), (8, 5, 1)])
@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_brute_force(shape, with_spacing, seed):
    prediction, label = random_case(np.random.default_rng(seed), shape, 3)
    spacing = SPACINGS[len(shape)] if with_spacing else None
    scores = case_scores(prediction, label, 3, spacing, metrics=METRICS)
    measured = [k for k in range(3) if not scores["empty"][k]]
    assert measured
    for k in measured:
        expected = brute_scores(prediction == k + 1, label == k + 1, spacing or [1] * len(shape))
        for metric in METRICS:
            assert scores[metric][k] == pytest.approx(expected[metric], abs=1e-6), metric


def test_single_voxels_are_as_far_apart_as_their_centres():
    prediction, label = np.zeros((2, 6, 8, 4), np.int16)
    prediction[1, 2, 0], label[4, 6, 3] = 1, 1
    scores = case_scores(prediction, label, 1, spacing=(2, 0.5, 1), metrics=METRICS)
    for metric in ("hd95", "asd", "assd"):
        assert scores[metric][0] == pytest.approx(math.sqrt(6**2 + 2**2 + 3**2))
    assert (scores["dice"][0], scores["jaccard"][0]) == (0, 0)


def test_whole_volume_object_has_its_surface_at_the_border_of_the_image():
    prediction, label = np.ones((5, 5, 5), np.uint8), np.zeros((5, 5, 5), np.uint8)
    label[2, 2, 2] = 1
    scores = case_scores(prediction, label, 1, metrics=METRICS)
    expected = brute_scores(prediction == 1, label == 1, [1, 1, 1])
    assert {m: scores[m][0] for m in METRICS} == pytest.approx(expected)
    assert case_scores(prediction, prediction, 1)["asd"].tolist() == [0]


def test_asd_is_directed_from_prediction_to_label_and_hd95_pools_both_directions():
    prediction, label = np.zeros((2, 1, 40), np.uint8)
    prediction[0, 0] = label[0, [0, 10, 30]] = 1
    scores = case_scores(prediction, label, 1, metrics=METRICS)
    assert scores["asd"][0] == 0
    assert scores["assd"][0] == pytest.approx((0 + 0 + 10 + 30) / 4)
    # Pooled 0, 0, 10, 30: position 0.95 * 3 = 2.85. The larger of the directed percentiles would be 28.
    assert scores["hd95"][0] == pytest.approx(10 + 0.85 * 20)
    assert case_scores(label, prediction, 1)["asd"][0] == pytest.approx(40 / 3)


def test_margin_around_the_objects_does_not_change_the_scores():
    prediction, label = random_case(np.random.default_rng(5), (6, 7, 5), 2)
    wide = case_scores(np.pad(prediction, 4), np.pad(label, 4), 2, metrics=METRICS)
    tight = case_scores(prediction, label, 2, metrics=METRICS)
    for metric in METRICS:
        np.testing.assert_allclose(wide[metric], tight[metric])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint16, np.float32])
def test_class_ids_of_any_number_type_give_the_same_scores(dtype):
    prediction, label = random_case(np.random.default_rng(1), (8, 8, 4), 3)
    expected = case_scores(prediction, label, 3)
    scores = case_scores(prediction.astype(dtype), label.astype(dtype), 3)
    for metric, values in expected.items():
        np.testing.assert_array_equal(scores[metric], values)


@pytest.mark.parametrize(
    ("policy", "overlap", "distance"),
    [
        ("strict", [0, 0, math.nan, 1], [50, 50, math.nan, 0]),
        ("zero", [0, 0, 0, 1], [0, 50, 0, 0]),
        ("fixed128", [0, 0, 1, 1], [128, 128, 0, 0]),
        ("fixed128_percent", [0, 0, 0.01, 1], [128, 128, 0, 0]),
    ],
)
def test_empty_policy_decides_the_scores_of_empty_sides(policy, overlap, distance):
    scores = case_scores(*empty_case(), 4, empty=policy, metrics=METRICS)
    assert scores["empty"].tolist() == ["prediction", "label", "both", ""]
    for metric in METRICS:
        expected = overlap if metric in ("dice", "jaccard") else distance
        np.testing.assert_array_equal(scores[metric], expected, err_msg=metric)


def test_strict_distance_is_the_diagonal_in_the_unit_of_the_spacing():
    scores = case_scores(*empty_case(), 4, spacing=(4, 0.5))
    assert scores["hd95"][0] == pytest.approx(math.hypot(120, 20))


def test_own_policy_can_be_given_and_every_named_policy_describes_itself():
    own = EmptyPolicy("own", "all a quarter", PerSide(0.25, 0.25, 0.25), PerSide(7.0, 8.0, 9.0))
    scores = case_scores(*empty_case(), 4, empty=own)
    assert scores["dice"].tolist() == [0.25, 0.25, 0.25, 1]
    assert scores["asd"].tolist() == [7, 8, 9, 0]
    assert all(name == policy.name and policy.description for name, policy in EMPTY_POLICIES.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"empty": "lenient"}, "expected one of strict, zero, fixed128, fixed128_percent, found 'lenient'"),
        (
            {"metrics": ("dice", "nsd", "iou")},
            "expected metrics out of dice, jaccard, hd95, asd, assd, found nsd, iou$",
        ),
        ({"metrics": ()}, "found none"),
        ({"prediction": np.zeros((4, 5), int)}, r"label's shape \(4, 4\), found \(4, 5\)"),
        ({"prediction": np.arange(5)}, r"ids 0\.\.2 in the prediction, found 3, 4$"),
        ({"prediction": np.arange(12)}, r"in the prediction, found 3, 4, 5, 6, 7, 8, 9, 10$"),
        ({"label": np.full((4, 4), -1)}, r"ids 0\.\.2 in the label, found -1"),
        ({"label": np.full((4, 4), 0.5)}, r"in the label, found 0\.5"),
        ({"label": np.full((4, 4), math.nan)}, "in the label, found nan"),
        ({"label": np.zeros((0, 4), int)}, "in the label, found no voxel"),
        ({"spacing": (1, 1, 1)}, r"2 positive numbers, found \(1, 1, 1\)"),
        ({"spacing": (1, 0)}, r"2 positive numbers, found \(1, 0\)"),
    ],
)
def test_wrong_arguments_are_user_errors(changes, message):
    arguments = {"prediction": np.ones((4, 4), int), "label": np.ones((4, 4), int), "num_classes": 2}
    with pytest.raises(UserError, match=message):
        case_scores(**(arguments | changes))
