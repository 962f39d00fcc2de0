"""Weights and rates out of the classes' shares, by hand."""

import math

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.methods.parts.class_balance import (
    ClassShares,
    ShareWeighted,
    gap_to_largest,
    inverse_cube_root,
    keep_at_random,
    keep_rates,
    log_ratio,
    rarest_rates,
    reversed_frequency,
)
from scripts.networks import TwinNet

SHARES = torch.tensor([0.64, 0.08, 0.27, 0.01])


def test_inverse_cube_root_of_shares():
    expected = [1.0, 2.0, (64 / 27) ** (1 / 3), 4.0]
    assert inverse_cube_root(SHARES).tolist() == pytest.approx(expected)


def test_log_ratio_is_zero_for_the_most_frequent_class_and_as_large_as_there_are_classes_for_the_rarest():
    expected = [4 * math.log(64 / n) / math.log(64) for n in (64, 8, 27, 1)]
    assert log_ratio(SHARES).tolist() == pytest.approx(expected)
    assert (log_ratio(SHARES)[0], log_ratio(SHARES)[3]) == (0, 4)


def test_gap_to_the_largest_share():
    assert gap_to_largest(SHARES).tolist() == pytest.approx([0.0, 4 * 0.56, 4 * 0.37, 4 * 0.63])


def test_reversed_frequency_hands_the_largest_out_to_the_rarest_class():
    ascending = [1 / 4, 1 / 2, 3 / 4, 1.0]  # cube roots of 1, 8, 27, 64 over 64
    expected = [ascending[0], ascending[2], ascending[1], ascending[3]]  # by frequency: class 0, 2, 1, 3
    assert reversed_frequency(SHARES).tolist() == pytest.approx(expected)
    assert reversed_frequency(SHARES, 0.0).tolist() == [1.0] * 4


@pytest.mark.parametrize("rule", [inverse_cube_root, log_ratio, gap_to_largest, reversed_frequency])
def test_equal_shares_weigh_alike_and_unseen_classes_get_finite_weights(rule):
    assert rule(torch.full((5,), 0.2)).tolist() == [1.0] * 5
    weights = rule(torch.tensor([0.9, 0.1, 0.0]))
    assert weights.isfinite().all()
    assert weights[2] == weights.max()


def test_a_class_that_is_missing_in_a_batch_counts_as_a_hundred_millionth_of_a_voxel_of_a_million():
    weights = log_ratio(torch.tensor([0.99, 0.01, 0.0]))
    assert weights.tolist() == pytest.approx([0.0, 3 * math.log(99) / math.log(0.99e14), 3.0], rel=1e-5)


def test_rarest_rates_are_one_for_the_rarest_class_and_for_those_that_were_not_seen():
    assert rarest_rates(SHARES).tolist() == pytest.approx([1 / 64, 1 / 8, 1 / 27, 1.0])
    assert rarest_rates(torch.tensor([0.8, 0.0, 0.2, 0.0])).tolist() == pytest.approx([0.25, 1.0, 1.0, 1.0])


def test_keep_rates_are_one_for_the_neediest_class_and_where_there_is_no_need():
    assert keep_rates(torch.tensor([0.0, 0.1, 0.4]), 0.5).tolist() == pytest.approx([0.0, 0.5, 1.0], abs=1e-6)
    assert keep_rates(torch.zeros(3), 2.5).tolist() == [1.0] * 3
    assert keep_rates(torch.tensor([-1e-8, 0.5]), 0.5).tolist() == pytest.approx([0.0, 1.0], abs=1e-6)


def test_voxels_are_kept_at_the_rate_of_their_class():
    torch.manual_seed(0)
    labels = torch.arange(40000).remainder(4).view(1, 200, 200)
    kept = keep_at_random(torch.tensor([0.0, 0.25, 0.6, 1.0]), labels)
    found = [kept[labels == c].float().mean().item() for c in range(4)]
    assert found == pytest.approx([0.0, 0.25, 0.6, 1.0], abs=0.02)
    assert (found[0], found[3]) == (0, 1)


def test_shares_follow_the_labels_and_stay_without_any():
    shares = ClassShares(2, decay=0.9)
    shares.start(torch.tensor([0.5, 0.3, 0.2]))
    shares.update(torch.zeros(0, 4, 4, dtype=torch.long))
    assert shares.shares.tolist() == pytest.approx([0.5, 0.3, 0.2])
    shares.update(torch.tensor([[[0, 0], [0, 2]]]))
    assert shares.shares.tolist() == pytest.approx([0.525, 0.27, 0.205])


class ByShare(ShareWeighted):
    """Weighs each class by its share."""

    def rule(self, shares):
        return shares


def test_weights_start_with_those_of_the_label_files_and_follow_the_batches(tmp_path):
    for name, ids in (("a", [0] * 6 + [1, 2]), ("b", [0] * 7 + [2])):
        nib.save(nib.Nifti1Image(np.array(ids, np.uint8).reshape(2, 2, 2), np.eye(4)), tmp_path / f"{name}.nii.gz")
    method = ByShare(TwinNet("unet", 2, 1, 3, 2), decay=0.9)
    method.prepare([str(tmp_path / "a.nii.gz"), str(tmp_path / "b.nii.gz")])
    for side in (0, 1):
        assert method.class_weights(side).tolist() == pytest.approx([13 / 16, 1 / 16, 2 / 16, 0])
    method.follow(1, torch.zeros(0, 4, 4, dtype=torch.long))
    method.follow(1, torch.tensor([[[3, 3], [3, 0]]]))
    assert method.class_weights(0).tolist() == pytest.approx([13 / 16, 1 / 16, 2 / 16, 0])
    expected = [0.9 * 13 / 16 + 0.025, 0.9 / 16, 0.9 * 2 / 16, 0.075]
    assert method.class_weights(1).tolist() == pytest.approx(expected)
    method.prepare([])
    assert method.weights.tolist() == [[0.25] * 4] * 2
