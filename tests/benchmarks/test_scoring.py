"""Scoring: both variants agree on a phantom, and the prediction is not the label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.jobs import difference
from benchmarks.scoring import JOBS, ORGANS, prepare

METRICS = ("dice", "jaccard", "hd95", "asd")


def test_scores_equal_those_of_medpy_and_tell_organs_apart(tmp_path: Path) -> None:
    pytest.importorskip("medpy", reason="medpy is in requirements-dev.txt")
    [job] = JOBS
    prepare(tmp_path, size=(64, 64, 48))
    medpy, ours = (variant.make(tmp_path)() for variant in job.variants)
    assert difference(ours, medpy, job.tolerance) is None
    assert tuple(ours) == METRICS
    assert all(len(ours[metric]) == ORGANS for metric in METRICS)
    assert len(set(ours["asd"])) == ORGANS
    assert max(ours["dice"]) < 1
    assert min(ours["asd"]) > 0


def test_case_is_the_same_every_time_and_has_all_organs_on_both_sides(tmp_path: Path) -> None:
    cases = []
    for name in "ab":
        (tmp_path / name).mkdir()
        prepare(tmp_path / name, size=(64, 64, 48))
        cases.append([np.load(tmp_path / name / f"{side}.npy") for side in ("prediction", "label")])
    np.testing.assert_array_equal(*cases)
    prediction, label = cases[0]
    assert np.unique(prediction).tolist() == np.unique(label).tolist() == list(range(ORGANS + 1))
