"""Scores per class and case: Dice, Jaccard, HD95 and ASD, with an explicit policy for empty masks.

The distances follow medpy, which the published tables of this field were made with:
- a mask's surface is the mask without its erosion by a voxel along the axes; voxels at the image's border are on it;
- ASD is the mean distance from the prediction's surface to the label's surface, in this one direction; `assd` is the
  mean of the pooled distances of both directions;
- HD95 is the 95th percentile of the pooled distances of both directions (MONAI: the larger of the two percentiles).
They are in voxels where no spacing is given (the published protocols), in mm with the native spacing. The published 3D
tables resize every case to a common grid and measure in its voxels (`grid` of SegmentationScores).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.metrics import CumulativeIterationMetric
from monai.utils import convert_to_numpy, evenly_divisible_all_gather
from scipy import ndimage

from ..errors import UserError
from .common_grid import check_grid, on_common_grid
from .empty_masks import EMPTY_SIDES, OVERLAPS, EmptyPolicy, policy_named
from .surfaces import surface_distances
from .tables import Row, case_rows

DISTANCES = ("hd95", "asd", "assd")
METRICS = OVERLAPS + DISTANCES
DEFAULT_METRICS = ("dice", "jaccard", "hd95", "asd")
UNITS = ("voxels", "mm")


def case_scores(
    prediction: np.ndarray,
    label: np.ndarray,
    num_classes: int,
    spacing: Sequence[float] | None = None,
    empty: str | EmptyPolicy = "strict",
    metrics: Sequence[str] = DEFAULT_METRICS,
) -> dict[str, np.ndarray]:
    """Scores of one case for the foreground classes 1..K (protocols of the published tables; module docstring).

    Args:
        prediction, label: class ids 0..K, [*spatial] of any dimension.
        num_classes: K.
        spacing: voxel size in mm per axis for distances in mm; None for distances in voxels.
        empty: a policy or a name of `empty_masks.EMPTY_POLICIES`.
        metrics: names out of METRICS.

    Returns:
        Per metric an array [K] (overlaps from 0 to 1), and under "empty" the array [K] of EMPTY_SIDES that says which
        entries the policy decided.

    Raises:
        UserError: different shapes, ids outside 0..K, a spacing that does not fit, unknown policy or metric.
    """
    policy = policy_named(empty)
    _check_metrics(metrics)
    prediction, label = _class_ids(prediction, num_classes, "prediction"), _class_ids(label, num_classes, "label")
    if prediction.shape != label.shape:
        raise UserError(f"scores: expected the prediction in the label's shape {label.shape}, found {prediction.shape}")
    if spacing is not None and (len(spacing) != label.ndim or min(spacing) <= 0):
        raise UserError(f"scores: expected a spacing of {label.ndim} positive numbers, found {tuple(spacing)}")
    diagonal = math.hypot(*(n * s for n, s in zip(label.shape, spacing or [1.0] * label.ndim, strict=True)))

    hits, predicted, labelled = _overlap_counts(prediction, label, num_classes)
    sides = np.array(EMPTY_SIDES)[(predicted == 0) + 2 * (labelled == 0)]
    measures_distances = any(metric in DISTANCES for metric in metrics)
    boxes = [ndimage.find_objects(ids) for ids in (prediction, label) if measures_distances]
    scores = {metric: np.empty(num_classes) for metric in metrics}
    for k, side in enumerate(sides):
        if side:
            values = {metric: policy.score(metric, side, diagonal) for metric in metrics}
        else:
            total = predicted[k] + labelled[k]
            values = {"dice": 2 * hits[k] / total, "jaccard": hits[k] / (total - hits[k])}
            if measures_distances:
                axes = zip(*(box[k] for box in boxes), strict=True)
                box = tuple(slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in axes)
                values |= _distance_scores(prediction[box] == k + 1, label[box] == k + 1, spacing)
        for metric in metrics:
            scores[metric][k] = values[metric]
    return scores | {"empty": sides}


class SegmentationScores(CumulativeIterationMetric):
    """Collects `case_scores` over the cases of an evaluation, to be attached with MONAI's IgniteMetricHandler.

    Called with y_pred and y as [B, 1, *spatial] class ids or [B, K + 1, *spatial] channels (their argmax counts), or as
    lists of such tensors without B. The buffer is [cases, K, len(metrics) + 1]; its last entry is the index of the
    empty side in EMPTY_SIDES. Over several processes the buffers are gathered in rank order; a process may have no
    case. A sampler that repeats cases to even out the processes weights these twice in `aggregate`: use one that does
    not (MONAI's DistributedSampler with even_divisible=False).

    Args:
        num_classes: K, the number of foreground classes.
        metrics: names out of METRICS; the first is the one that `aggregate` returns.
        empty: a policy or a name of `empty_masks.EMPTY_POLICIES`.
        unit: "voxels", or "mm" to take the spacing of the label, which then must be a MetaTensor: the "spacing" of its
            meta data where a datalist gave one, else that of its affine.
        grid: voxels along the patient's x, y, z to which prediction and label are resized before scoring, overlaps
            included (`common_grid.on_common_grid`; published 3D protocol: 160 x 160 x 80). The rows then name it in
            their unit: "voxels of 160x160x80". Only for "voxels": on a resized grid there are no mm.

    Example:
        >>> scores = SegmentationScores(num_classes=2, metrics=["dice"])
        >>> _ = scores(torch.tensor([[[[0, 1, 2, 2]]]]), torch.tensor([[[[0, 1, 1, 2]]]]))  # one case
        >>> scores.class_means()["dice"].tolist() == [2 / 3, 2 / 3]
        True
        >>> scores.rows(["case 1"], {1: "liver"})[0]["name"]
        'liver'
    """

    def __init__(
        self,
        num_classes: int,
        metrics: Sequence[str] = ("dice",),
        empty: str | EmptyPolicy = "strict",
        unit: str = "voxels",
        grid: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if unit not in UNITS:
            raise UserError(f"scores: expected the unit {' or '.join(UNITS)}, found {unit!r}")
        if grid is not None and unit != "voxels":
            raise UserError(f"scores: expected the unit voxels with a grid, found {unit!r}; leave out one of them")
        _check_metrics(metrics)
        self.grid = None if grid is None else check_grid(grid)
        self.unit = unit if self.grid is None else f"voxels of {'x'.join(map(str, self.grid))}"
        self.num_classes, self.metrics = num_classes, tuple(metrics)
        self.policy = policy_named(empty)

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        if y is None or len(y) != len(y_pred):
            found = 0 if y is None else len(y)
            raise ValueError(f"scores: expected a label for each of {len(y_pred)} predictions, found {found}")
        return torch.stack([self._case(y_pred[b], y[b]) for b in range(len(y))])

    def _case(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        spacing = None
        if self.unit == "mm":
            if not isinstance(y, MetaTensor):
                raise ValueError(f"scores in mm: expected the label as a MetaTensor with its spacing, got {type(y)}")
            native = y.meta.get("spacing", y.pixdim)
            spacing = [float(s) for s in native][: y.ndim - 1]
        prediction, label = self._ids(y_pred), self._ids(y)
        if self.grid is not None:
            prediction, label = on_common_grid(prediction, label, self.grid)
        ids = (convert_to_numpy(prediction), convert_to_numpy(label))
        scores = case_scores(*ids, self.num_classes, spacing, self.policy, self.metrics)
        side = np.array([EMPTY_SIDES.index(s) for s in scores["empty"]])
        return torch.from_numpy(np.stack([*(scores[m] for m in self.metrics), side], axis=-1))

    def _ids(self, channels: torch.Tensor) -> torch.Tensor:
        if channels.shape[0] not in (1, self.num_classes + 1):
            raise ValueError(f"expected 1 or {self.num_classes + 1} channels, got the shape {tuple(channels.shape)}")
        return channels[0] if channels.shape[0] == 1 else channels.argmax(0)

    def _sync(self) -> None:
        # Cumulative's own does not join the gathering where a process had no case, and the other processes would wait.
        if not self._synced:
            nothing = torch.empty(0, self.num_classes, len(self.metrics) + 1, dtype=torch.float64)
            local = torch.stack(self._buffers[0]) if self._buffers else nothing
            self._synced_tensors = [evenly_divisible_all_gather(local, concat=True)]
            self._synced = True

    def class_means(self) -> dict[str, torch.Tensor]:
        """Per metric the mean over all cases, [K]; nan entries are left out, a class of nothing but nan is nan."""
        means = self.get_buffer().nanmean(dim=0)
        return {metric: means[:, m] for m, metric in enumerate(self.metrics)}

    def labelled(self) -> torch.Tensor:
        """Which classes have a voxel in the label of any case, bool [K]."""
        return (self.get_buffer()[..., -1] < EMPTY_SIDES.index("label")).any(dim=0)

    def aggregate(self) -> torch.Tensor:
        """Mean of the first metric over cases, then over classes, as published; nan is left out of both means."""
        return self.class_means()[self.metrics[0]].nanmean()

    def rows(self, cases: Sequence[str], names: Mapping[int, str] | None = None) -> list[Row]:
        """Rows for `write_scores_csv`; cases: the ids in the gathered order, a repeated id counting once."""
        rows: list[Row] = []
        for case, values in dict(zip(cases, self.get_buffer().numpy(), strict=True)).items():
            scores = {metric: values[:, m] for m, metric in enumerate(self.metrics)}
            scores["empty"] = np.array(EMPTY_SIDES)[values[:, -1].astype(int)]
            rows += case_rows(case, scores, self.unit, self.policy.name, names)
        return rows


def _check_metrics(metrics: Sequence[str]) -> None:
    unknown = [metric for metric in metrics if metric not in METRICS]
    if unknown or not metrics:
        raise UserError(f"scores: expected metrics out of {', '.join(METRICS)}, found {', '.join(unknown) or 'none'}")


def _class_ids(array: np.ndarray, num_classes: int, what: str) -> np.ndarray:
    array = np.asarray(array)
    ids = array
    if not np.issubdtype(array.dtype, np.integer):  # MONAI's loaders hand class ids over as floats
        with np.errstate(invalid="ignore"):
            ids = array.astype(np.int32)
    if array.size == 0 or ids.min() < 0 or ids.max() > num_classes or (ids is not array and (ids != array).any()):
        wrong = [v for v in np.unique(array).tolist() if v not in range(num_classes + 1)]
        found = ", ".join(f"{v:g}" for v in wrong[:8]) or "no voxel"
        raise UserError(f"scores: expected class ids 0..{num_classes} in the {what}, found {found}")
    return ids


def _overlap_counts(prediction: np.ndarray, label: np.ndarray, num_classes: int) -> tuple[np.ndarray, ...]:
    """Voxels per class in both, in the prediction and in the label, from one confusion matrix; 3 arrays [K]."""
    foreground = (prediction > 0) | (label > 0)
    size = num_classes + 1
    pairs = label[foreground].astype(np.int64) * size + prediction[foreground]
    confusion = np.bincount(pairs, minlength=size**2).reshape(size, size)
    return confusion.diagonal()[1:], confusion.sum(axis=0)[1:], confusion.sum(axis=1)[1:]


def _distance_scores(prediction: np.ndarray, label: np.ndarray, spacing: Sequence[float] | None) -> dict[str, float]:
    """HD95, ASD and ASSD of two non-empty masks; cropping both to their union changes nothing, as no margin counts."""
    forward, backward = surface_distances(prediction, label, spacing)
    pooled = np.concatenate([forward, backward])
    return {"hd95": float(np.percentile(pooled, 95)), "asd": float(forward.mean()), "assd": float(pooled.mean())}
