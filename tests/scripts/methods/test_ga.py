"""GA: MagicNet with a Dice that pushes absent classes away and a cross-entropy of the hardest voxels."""

import numpy as np
import pytest
import torch

from scripts.methods.ga import equilibrium_cross_entropy
from tests import numpy_losses
from tests.method_cases import small_method


def numpy_gace(p, y, hardest, balance):
    """Voxel by voxel, from the formula."""
    losses = -np.log(np.take_along_axis(p, y[:, None], 1)).ravel()
    kept = np.argsort(-losses)[: round(hardest * losses.size)]
    voxels = {c: (y.ravel()[kept] == c).sum() for c in np.unique(y.ravel()[kept])}
    return sum(losses[v] / (voxels[y.ravel()[v]] ** (1 - balance) * len(kept) ** balance) for v in kept)


def example():
    """Logits [2, 4, 6, 5], as a tensor and their probabilities, and labels in which class 2 is absent, 3 rare."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 4, 6, 5)) * 2
    label = rng.choice([0, 1, 3], p=[0.7, 0.25, 0.05], size=(2, 6, 5))
    return torch.tensor(logits), numpy_losses.softmax(logits), label


@pytest.mark.parametrize("hardest", [1.0, 0.5, 0.1])
@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_cross_entropy_equals_its_formula(hardest, balance):
    logits, p, y = example()
    found = equilibrium_cross_entropy(logits, torch.from_numpy(y), hardest, balance)
    assert found.item() == pytest.approx(numpy_gace(p, y, hardest, balance), rel=1e-5)


def test_balance_goes_from_the_sum_of_the_classes_means_to_the_mean_of_the_voxels():
    logits, p, y = example()
    losses = -np.log(np.take_along_axis(p, y[:, None], 1)[:, 0])
    by_class, by_voxel = (equilibrium_cross_entropy(logits, torch.from_numpy(y), balance=b).item() for b in (0.0, 1.0))
    assert by_class == pytest.approx(sum(losses[y == c].mean() for c in np.unique(y)), rel=1e-5)
    assert by_voxel == pytest.approx(losses.mean(), rel=1e-5)


def test_only_the_hardest_voxels_have_a_gradient():
    logits, p, y = example()
    logits.requires_grad_()
    equilibrium_cross_entropy(logits, torch.from_numpy(y), hardest=0.25).backward()
    losses = -np.log(np.take_along_axis(p, y[:, None], 1)[:, 0])
    moved = logits.grad.abs().sum(1).numpy() > 0
    assert moved.sum() == round(0.25 * y.size)
    assert losses[moved].min() > losses[~moved].max()


def test_supervised_loss_equals_its_formula():
    method = small_method("ga", hardest=0.3, balance=0.25)
    rng = np.random.default_rng(1)
    logits = [rng.normal(size=(2, 6, 8, 8)) for _ in range(3)]
    y = rng.choice([0, 1, 2, 4], size=(2, 8, 8))
    p = [numpy_losses.softmax(z) for z in logits]
    expected = numpy_gace(p[0], y, 0.3, 0.25) + sum(numpy_losses.dice(q, y, absent="probability") for q in p)
    found = method.supervised_loss([torch.tensor(z) for z in logits], torch.from_numpy(y))
    assert found.item() == pytest.approx(expected / 4, rel=1e-5)


def test_pseudo_loss_is_the_same_dice_without_cross_entropy():
    rng = np.random.default_rng(1)
    logits, y = rng.normal(size=(2, 6, 8, 8)), rng.choice([0, 1, 2, 4], size=(2, 8, 8))
    expected = numpy_losses.dice(numpy_losses.softmax(logits), y, absent="probability")
    found = small_method("ga").pseudo_loss(torch.tensor(logits), torch.from_numpy(y))
    assert found.item() == pytest.approx(expected, rel=1e-5)
