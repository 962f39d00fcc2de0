"""CReST: the frequencies as weights, in reverse."""

import numpy as np
import pytest
import torch

from tests.cross_pseudo_losses import shares, twin_logits, weighted_losses
from tests.method_cases import batch, fixed_normalisation, small_method

LABELLED = torch.tensor([0.7, 0.1, 0.05, 0.02, 0.12, 0.01])


def test_loss_equals_its_formula():
    method = fixed_normalisation(small_method("crest", unsup_weight=0.7, decay=0.9))
    method.weights.copy_(LABELLED)
    image, label, image_u = batch()
    logits = twin_logits(method, image, image_u)
    weights = np.empty((2, 6))
    for weight, z in zip(weights, logits, strict=True):  # each network has weights of its own
        seen = np.maximum(shares(z.argmax(1)[2:]), 1e-14)
        order = np.argsort(-seen, kind="stable")
        for place, c in enumerate(order):  # the most frequent class gets what the rarest would have
            weight[c] = 0.9 * LABELLED[c] + 0.1 * (seen[order[-1 - place]] / seen.max()) ** (1 / 3)
    assert not np.allclose(*weights)
    supervised, cross = weighted_losses(logits, label, weights)
    losses = method(image, label, image_u, 1.0)
    assert losses["loss_supervised"].item() == pytest.approx(supervised, rel=1e-5)
    assert losses["loss_cross"].item() == pytest.approx(cross, rel=1e-5)
    assert losses["loss"].item() == pytest.approx(supervised + 0.7 * cross, rel=1e-5)


def test_weights_follow_the_unlabelled_images_only():
    method = fixed_normalisation(small_method("crest"))
    method.weights.copy_(LABELLED)
    image, label, _ = batch()
    method(image, label, None, 0.5)
    assert torch.equal(method.weights, LABELLED.repeat(2, 1))


def test_power_zero_weighs_all_classes_alike():
    method = small_method("crest", power=0.0)
    assert method.rule(LABELLED).tolist() == [1.0] * 6
