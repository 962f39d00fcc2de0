"""DHC: each network weighs the classes by its own rule."""

import numpy as np
import pytest
import torch

from tests.cross_pseudo_losses import shares, twin_logits, weighted_losses
from tests.method_cases import batch, fixed_normalisation, gradient, small_method

LABELLED = torch.tensor([0.7, 0.1, 0.05, 0.02, 0.12, 0.01])


def dice(predicted, label):
    overlap = [((predicted == c) & (label == c)).sum() for c in range(6)]
    return np.array([2 * overlap[c] / ((predicted == c).sum() + (label == c).sum()) for c in range(6)])


def test_loss_equals_its_formula():
    method = fixed_normalisation(small_method("dhc", unsup_weight=0.7, decay=0.9))
    method.weights[1].copy_(LABELLED)
    image, label, image_u = batch()
    logits = twin_logits(method, image, image_u)
    missing = 1 - dice(logits[0][:2].argmax(1), label.numpy())  # the first batch has neither learnt nor unlearnt
    by_difficulty = 6 * missing / missing.max()
    seen = np.maximum(shares(logits[1][2:].argmax(1)), 1e-14)
    ratio = np.log(seen.max() / seen)
    by_distribution = 0.9 * LABELLED.numpy() + 0.1 * 6 * ratio / ratio.max()
    supervised, cross = weighted_losses(logits, label, [by_difficulty, by_distribution])
    losses = method(image, label, image_u, 1.0)
    assert losses["loss_supervised"].item() == pytest.approx(supervised, rel=1e-5)
    assert losses["loss_cross"].item() == pytest.approx(cross, rel=1e-5)
    assert losses["loss"].item() == pytest.approx(supervised + 0.7 * cross, rel=1e-5)


def test_difficulty_belongs_to_the_first_network_and_distribution_to_the_second():
    method = fixed_normalisation(small_method("dhc", decay=0.0))
    data = batch()
    with torch.no_grad():
        method.predictor.first.decoder.out.bias[2] += 100  # all class 2 for the first
        method.predictor.second.decoder.out.bias[3] += 100  # all class 3 for the second
    method(*data, 1.0)
    assert method.class_weights(0).argmin() == 2  # the only class with a Dice above 0
    assert method.class_weights(1)[3] == 0  # the most frequent pseudo-label
    assert (method.class_weights(1) > 0).sum() == 5


def test_neither_network_gets_a_gradient_from_the_others_loss():
    method = fixed_normalisation(small_method("dhc"))
    data = batch()
    method(*data, 1.0)
    before = gradient(method(*data, 1.0)["loss"], method.predictor.first)
    with torch.no_grad():  # other weights for the second network alone, with the same pseudo-labels
        method.weights[1].copy_(LABELLED.flip(0))
    torch.testing.assert_close(gradient(method(*data, 1.0)["loss"], method.predictor.first), before)


def test_weights_stay_those_of_the_labelled_set_without_unlabelled_images():
    method = small_method("dhc")
    method.weights[1].copy_(LABELLED)
    image, label, _ = batch()
    method(image, label, None, 0.5)
    assert torch.equal(method.class_weights(1), LABELLED)
