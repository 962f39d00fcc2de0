"""SimiS: weights out of the gap to the most frequent class."""

import numpy as np
import pytest
import torch

from tests.cross_pseudo_losses import shares, twin_logits, weighted_losses
from tests.method_cases import batch, fixed_normalisation, small_method

LABELLED = torch.tensor([0.7, 0.1, 0.1, 0.05, 0.04, 0.01])


def test_loss_equals_its_formula():
    method = fixed_normalisation(small_method("simis", unsup_weight=0.7, decay=0.9))
    method.weights.copy_(LABELLED)
    image, label, image_u = batch()
    logits = twin_logits(method, image, image_u)
    seen = [shares(z.argmax(1)) for z in logits]
    weights = [0.9 * LABELLED.numpy() + 0.1 * 6 * (s.max() - s) for s in seen]
    assert not np.allclose(*weights)
    supervised, cross = weighted_losses(logits, label, weights)
    losses = method(image, label, image_u, 1.0)
    assert losses["loss_supervised"].item() == pytest.approx(supervised, rel=1e-5)
    assert losses["loss_cross"].item() == pytest.approx(cross, rel=1e-5)
    assert losses["loss"].item() == pytest.approx(supervised + 0.7 * cross, rel=1e-5)
    np.testing.assert_allclose(method.weights, weights, rtol=1e-5)


def test_background_has_no_weight_and_rare_classes_the_largest():
    method = small_method("simis")
    weight = method.rule(LABELLED)
    assert weight[0] == 0
    assert (weight.diff() >= 0).all()


def test_all_classes_weigh_alike_at_first():
    method = small_method("simis", decay=0.99)
    method.prepare([])  # equal shares weigh 1
    torch.testing.assert_close(method.weights, torch.full((2, 6), 0.99 * 6 + 0.01))
