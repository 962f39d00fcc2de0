"""SimiS: weights out of the gap to the most frequent class."""

import numpy as np
import pytest
import torch

from tests.cross_pseudo_losses import shares, twin_logits, weighted_losses
from tests.method_cases import batch, fixed_normalisation, small_method

LABELLED = torch.tensor([0.7, 0.1, 0.1, 0.05, 0.04, 0.01])


def test_loss_equals_its_formula():
    method = fixed_normalisation(small_method("simis", unsup_weight=0.7, decay=0.9))
    for bank in method.shares:
        bank.start(LABELLED)
    image, label, image_u = batch()
    logits = twin_logits(method, image, image_u)
    followed = [0.9 * LABELLED.numpy() + 0.1 * shares(z.argmax(1)) for z in logits]
    assert not np.allclose(*followed)
    supervised, cross = weighted_losses(logits, label, [6 * (s.max() - s) for s in followed])
    losses = method(image, label, image_u, 1.0)
    assert losses["loss_supervised"].item() == pytest.approx(supervised, rel=1e-5)
    assert losses["loss_cross"].item() == pytest.approx(cross, rel=1e-5)
    assert losses["loss"].item() == pytest.approx(supervised + 0.7 * cross, rel=1e-5)
    for bank, expected in zip(method.shares, followed, strict=True):
        np.testing.assert_allclose(bank.shares, expected, rtol=1e-5)


def test_background_has_no_weight_and_rare_classes_the_largest():
    method = small_method("simis")
    method.shares[0].start(LABELLED)
    weight = method.class_weights(0)
    assert weight[0] == 0
    assert (weight.diff() >= 0).all()
