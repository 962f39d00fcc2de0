import math
from datetime import timedelta

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine

from scripts.errors import UserError
from scripts.scoring.empty_masks import EMPTY_POLICIES, EmptyPolicy, PerSide
from scripts.scoring.metrics import METRICS, SegmentationScores, case_scores

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


def random_case(rng, shape, num_classes):
    """Two related label maps of blocks and noise."""
    label = np.zeros(shape, np.uint8)
    for c in range(1, num_classes + 1):
        corner = [rng.integers(0, n) for n in shape]
        label[tuple(slice(a, a + rng.integers(1, n + 1)) for a, n in zip(corner, shape, strict=True))] = c
    prediction = np.roll(label, int(rng.integers(-2, 3)), axis=int(rng.integers(len(shape))))
    noise = rng.random(shape) < 0.15
    prediction[noise] = rng.integers(0, num_classes + 1, noise.sum())
    return prediction, label


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


def empty_case():
    """Classes 1 to 4 of a 30 x 40 image: empty in the prediction, in the label, in both, in none."""
    prediction, label = np.zeros((2, 30, 40), np.uint8)
    label[3, 4], prediction[5, 6] = 1, 2
    label[8:12, 8:12] = prediction[8:12, 8:12] = 4
    return prediction, label


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
        ({"metrics": ("dice", "nsd")}, "found nsd"),
        ({"metrics": ()}, "found none"),
        ({"prediction": np.zeros((4, 5), int)}, r"label's shape \(4, 4\), found \(4, 5\)"),
        ({"prediction": np.full((4, 4), 3)}, r"ids 0\.\.2 in the prediction, found 3"),
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


def volumes(seed, cases=3):
    """[B, 1, *spatial] predictions and labels of class ids 0..3."""
    pairs = [random_case(np.random.default_rng(seed + b), (6, 8, 5), 3) for b in range(cases)]
    return tuple(torch.from_numpy(np.stack(side)[:, None]) for side in zip(*pairs, strict=True))


def test_collected_scores_are_those_of_each_case():
    y_pred, y = volumes(10)
    metric = SegmentationScores(3, METRICS)
    metric(y_pred[:2], y[:2])
    metric(list(y_pred[2:]), list(y[2:]))
    rows = metric.rows(["a", "b", "c"], {1: "liver"})
    assert [row["case"] for row in rows] == ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    for b in range(3):
        expected = case_scores(y_pred[b, 0].numpy(), y[b, 0].numpy(), 3, metrics=METRICS)
        for k, row in enumerate(rows[3 * b : 3 * b + 3]):
            assert {m: row[m] for m in METRICS} == pytest.approx({m: expected[m][k] for m in METRICS}, nan_ok=True)
            assert row["empty"] == expected["empty"][k]
    metric.reset()
    assert metric.rows([]) == []


def test_channels_count_by_their_argmax():
    y_pred, y = volumes(20)
    one_hot = torch.nn.functional.one_hot(y_pred[:, 0].long(), 4).movedim(-1, 1).float()
    metrics = [SegmentationScores(3), SegmentationScores(3)]
    metrics[0](y_pred, y)
    metrics[1](one_hot * 3 - 1, y)
    assert metrics[0].aggregate() == metrics[1].aggregate()
    with pytest.raises(ValueError, match="expected 1 or 4 channels"):
        metrics[0](one_hot[:, :3], y)
    with pytest.raises(ValueError, match="a label for each of 3 predictions"):
        metrics[0](y_pred, y[:2])


def test_mm_takes_the_spacing_of_each_label():
    y_pred, y = volumes(30, cases=2)
    affines = [torch.diag(torch.tensor([*s, 1.0], dtype=torch.float64)) for s in ((1.5, 0.8, 5.0), (1.0, 1.0, 2.0))]
    labels = [MetaTensor(y[b], affine=affines[b]) for b in range(2)]
    metric = SegmentationScores(3, ("asd",), unit="mm")
    metric(list(y_pred), labels)
    for b, spacing in enumerate([(1.5, 0.8, 5.0), (1.0, 1.0, 2.0)]):
        expected = case_scores(y_pred[b, 0].numpy(), y[b, 0].numpy(), 3, spacing, metrics=("asd",))
        np.testing.assert_allclose(metric.get_buffer()[b, :, 0], expected["asd"])
    with pytest.raises(ValueError, match="MetaTensor with its spacing"):
        metric(y_pred, y)


def test_aggregate_is_the_mean_over_cases_then_classes_without_nan():
    prediction, label = (torch.from_numpy(side)[None, None] for side in empty_case())
    other = label.clone()
    other[other == 4] = 3
    metric = SegmentationScores(4)
    metric(prediction, label)
    metric(other, other)
    # Class 1: 0 and 1; class 2: 0 and nan; class 3: nan and 1; class 4: 1 and nan.
    assert metric.class_means()["dice"].tolist() == [0.5, 0, 1, 1]
    assert metric.aggregate() == pytest.approx(2.5 / 4)
    nothing = SegmentationScores(4)
    nothing(torch.zeros_like(label), torch.zeros_like(label))
    assert nothing.aggregate().isnan()


def test_repeated_cases_make_rows_once():
    y_pred, y = volumes(40, cases=2)
    metric = SegmentationScores(3)
    metric(torch.cat([y_pred, y_pred[:1]]), torch.cat([y, y[:1]]))
    assert [row["case"] for row in metric.rows(["a", "b", "a"])] == ["a"] * 3 + ["b"] * 3
    with pytest.raises(ValueError, match="zip"):
        metric.rows(["a", "b"])


def test_metric_handler_reports_the_mean_dice():
    batches = [volumes(50), volumes(60)]
    evaluator = Engine(lambda _, batch: [{"pred": p, "label": q} for p, q in zip(*batch, strict=True)])
    metric = SegmentationScores(3, ("dice", "asd"), empty="fixed128")
    handler = IgniteMetricHandler(metric, output_transform=from_engine(["pred", "label"]), save_details=False)
    handler.attach(evaluator, "val_mean_dice")
    for _ in range(2):  # a second round starts afresh
        evaluator.run(batches)
    dice = [
        case_scores(p[0].numpy(), q[0].numpy(), 3, empty="fixed128")["dice"]
        for batch in batches
        for p, q in zip(*batch, strict=True)
    ]
    assert evaluator.state.metrics["val_mean_dice"] == pytest.approx(np.mean(dice))
    assert evaluator.has_event_handler(handler.completed, Events.EPOCH_COMPLETED)


def test_unknown_unit_is_a_user_error():
    with pytest.raises(UserError, match="voxels or mm, found 'cm'"):
        SegmentationScores(3, unit="cm")


def score_shares(rank, shares, folder):
    """One of two processes: scores its cases of each share and saves what it has after gathering."""
    torch.distributed.init_process_group(
        "gloo", f"file://{folder}/store", timedelta(seconds=60), rank=rank, world_size=2
    )
    gathered = []
    for share in shares:
        metric = SegmentationScores(3, ("dice", "asd"))
        y_pred, y = volumes(70)
        for b in share[rank]:
            metric(y_pred[b : b + 1], y[b : b + 1])
        gathered.append((metric.aggregate(), metric.get_buffer()))
    torch.save(gathered, f"{folder}/rank{rank}.pt")
    torch.distributed.destroy_process_group()


def test_processes_gather_all_cases_also_where_one_has_none(tmp_path):
    shares = [([0], [1, 2]), ([0, 1, 2], [])]
    torch.multiprocessing.spawn(score_shares, args=(shares, str(tmp_path)), nprocs=2)
    single = SegmentationScores(3, ("dice", "asd"))
    single(*volumes(70))
    for rank in range(2):
        for mean, buffer in torch.load(tmp_path / f"rank{rank}.pt", weights_only=True):
            assert mean == single.aggregate()
            torch.testing.assert_close(buffer, single.get_buffer(), equal_nan=True)
