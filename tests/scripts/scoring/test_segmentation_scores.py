"""Scores collected over the cases of an evaluation."""

from datetime import timedelta

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine

from scripts.errors import UserError
from scripts.scoring.metrics import METRICS, SegmentationScores, case_scores
from tests.score_cases import empty_case, volumes


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
            assert (row["name"], row["policy"], row["unit"]) == ("" if k else "liver", "strict", "voxels")
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


def test_labelled_classes_are_those_that_any_label_has_whatever_is_predicted():
    y = torch.tensor([[[[0, 1, 1, 0]]], [[[0, 0, 3, 1]]]])  # class 3 in the second case only, class 2 in none
    for y_pred in (torch.zeros_like(y), torch.full_like(y, 2), y):
        metric = SegmentationScores(3)
        metric(y_pred, y)
        assert metric.labelled().tolist() == [True, False, True]


@pytest.mark.parametrize("found", [0, 2])
def test_each_prediction_needs_a_label(found):
    y_pred, y = volumes(20)
    with pytest.raises(ValueError, match=f"a label for each of 3 predictions, found {found}$"):
        SegmentationScores(3)(y_pred, y[:found] if found else None)


def test_mm_takes_the_spacing_of_each_label():
    y_pred, y = volumes(30, cases=2)
    affines = [torch.diag(torch.tensor([*s, 1.0], dtype=torch.float64)) for s in ((1.5, 0.8, 5.0), (1.0, 1.0, 2.0))]
    labels = [MetaTensor(y[b], affine=affines[b]) for b in range(2)]
    metric = SegmentationScores(3, ("asd",), unit="mm")
    metric(list(y_pred), labels)
    for b, spacing in enumerate([(1.5, 0.8, 5.0), (1.0, 1.0, 2.0)]):
        expected = case_scores(y_pred[b, 0].numpy(), y[b, 0].numpy(), 3, spacing, metrics=("asd",))
        np.testing.assert_allclose(metric.get_buffer()[b, :, 0], expected["asd"])
    with pytest.raises(ValueError, match=r"MetaTensor with its spacing, got <class 'torch\.Tensor'>"):
        metric(y_pred, y)


def test_mm_takes_the_spacing_of_the_datalist_before_that_of_the_affine():
    prediction, label = torch.zeros(2, 1, 9, 3, 3, dtype=torch.int64)
    prediction[0, 1], label[0, 5] = 1, 1
    metric = SegmentationScores(1, ("asd",), unit="mm")
    for meta in ({}, {"spacing": [2.5, 1.0, 1.0]}):
        metric([prediction], [MetaTensor(label, affine=torch.eye(4), meta=meta)])
    assert metric.get_buffer()[:, 0, 0].tolist() == [4, 10]


def test_mm_of_an_image_are_along_its_two_axes():
    prediction, label = torch.zeros(2, 1, 9, 3, dtype=torch.int64)
    prediction[0, 1], label[0, 5] = 1, 1
    metric = SegmentationScores(1, ("asd",), unit="mm")
    for meta in ({}, {"spacing": [2.5, 1.0, 8.0]}):
        metric([prediction], [MetaTensor(label, affine=torch.diag(torch.tensor([0.5, 2.0, 8.0, 1.0])), meta=meta)])
    assert metric.get_buffer()[:, 0, 0].tolist() == [2, 10]


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


def test_no_case_gives_no_rows_of_the_shape_and_kind_that_others_have():
    metrics = [SegmentationScores(3, ("dice", "asd")) for _ in range(2)]
    metrics[0](*volumes(70))
    some, none = (metric.get_buffer() for metric in metrics)
    assert len(none) == 0
    assert (none.shape[1:], none.dtype) == (some.shape[1:], some.dtype)


def test_cases_are_gathered_once_however_often_they_are_asked_for(monkeypatch):
    gathered = []

    def gather(cases, concat=True):
        """As MONAI's, with another process that has the same cases."""
        gathered.append(len(cases))
        return torch.cat([cases] * 2) if concat else [cases] * 2

    monkeypatch.setattr("scripts.scoring.metrics.evenly_divisible_all_gather", gather)
    metric = SegmentationScores(3)
    metric(*volumes(70))
    assert metric.aggregate() == metric.class_means()["dice"].nanmean()
    assert len(metric.rows(["a", "b", "c"] * 2)) == 3 * 3
    assert gathered == [3]


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
