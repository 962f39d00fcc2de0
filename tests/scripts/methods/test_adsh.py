"""Adsh: thresholds that admit the same share of every class."""

import numpy as np
import pytest
import torch

from scripts.methods.adsh import BINS, ThresholdBank
from tests import numpy_losses
from tests.cross_pseudo_losses import twin_logits, weighted_losses
from tests.method_cases import batch, fixed_normalisation, gradient, small_method


def example(voxels=4000):
    """Predicted classes 0..2 of a network that is the less sure the rarer the class, and their probabilities."""
    rng = np.random.default_rng(0)
    predicted = rng.choice(3, p=[0.7, 0.2, 0.1], size=voxels)
    confidence = 1 - rng.random(voxels) ** 2 * np.array([0.3, 0.5, 0.7])[predicted]
    return torch.tensor(predicted), torch.tensor(confidence, dtype=torch.float32)


def test_thresholds_are_the_ranks_of_the_formula_to_within_a_bin():
    predicted, confidence = example()
    bank = ThresholdBank(3)
    bank.update(confidence.view(1, 40, 100), predicted.view(1, 40, 100))
    by_class = [np.sort(confidence[predicted == c].double().numpy())[::-1] for c in range(3)]
    share = (by_class[0] > 0.9).mean()
    assert 0.2 < share < 0.8
    expected = [0.9, *(own[int(share * len(own)) - 1] for own in by_class[1:])]
    found = bank.thresholds()
    assert found[:3].tolist() == pytest.approx(expected, abs=2.5 / BINS)
    assert found[0] > found[1] > found[2]
    admitted = [(confidence >= found[predicted])[predicted == c].double().mean().item() for c in range(3)]
    assert admitted == pytest.approx([share] * 3, abs=0.02)


def test_nothing_is_admitted_where_the_most_frequent_class_is_unsure_and_of_classes_never_seen():
    bank = ThresholdBank(3)
    bank.update(torch.tensor([[0.8, 0.85, 0.89, 0.99]]), torch.tensor([[0, 0, 0, 1]]))
    assert bank.thresholds().tolist() == pytest.approx([0.9, 1.0, 1.0, 1.0])
    bank.update(torch.tensor([[0.8, 0.85, 0.95, 0.99]]), torch.tensor([[0, 0, 0, 1]]))
    assert bank.thresholds().tolist() == pytest.approx([0.9, 0.99, 1.0, 1.0])


def test_everything_is_admitted_where_the_most_frequent_class_is_sure():
    bank = ThresholdBank(1)
    bank.update(torch.tensor([[1.0, 0.97, 0.95, 0.6, 0.7]]), torch.tensor([[0, 0, 0, 1, 1]]))
    assert bank.thresholds().tolist() == pytest.approx([0.9, 0.6])


def test_bank_does_not_grow_and_follows_the_latest_predictions():
    bank = ThresholdBank(1, decay=0.5)
    before = {name: value.shape for name, value in bank.state_dict().items()}
    labels = torch.tensor([[0, 0, 1]])
    for low in (0.6, 0.6, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8):
        bank.update(torch.tensor([[0.99, 0.5, low]]), labels)
    assert {name: value.shape for name, value in bank.state_dict().items()} == before
    assert bank.thresholds().tolist() == pytest.approx([0.9, 0.8])


def admitted(z, thresholds):
    p = numpy_losses.softmax(z)
    return p.max(1) >= thresholds.double().numpy()[p.argmax(1)]


def test_loss_equals_its_formula():
    method = fixed_normalisation(small_method("adsh", unsup_weight=0.7, threshold=0.3))
    image, label, image_u = batch()
    logits = twin_logits(method, image, image_u)
    losses = method(image, label, image_u, 1.0)
    kept = [admitted(z, bank.thresholds()) for z, bank in zip(logits, method.banks, strict=True)]
    assert all(0.05 < keep.mean() < 0.95 for keep in kept)
    supervised, cross = weighted_losses(logits, label, [None, None], kept[::-1])  # by the network that teaches
    assert losses["loss_supervised"].item() == pytest.approx(supervised, rel=1e-5)
    assert losses["loss_cross"].item() == pytest.approx(cross, rel=1e-4)
    assert losses["loss"].item() == pytest.approx(supervised + 0.7 * cross, rel=1e-4)


def test_thresholds_follow_the_unlabelled_images():
    method = fixed_normalisation(small_method("adsh"))
    image, label, image_u = batch()
    method(image, label, image_u, 1.0)
    bank = ThresholdBank(5)
    confidence, predicted = method.predictor.first(image_u).softmax(1).max(1)
    bank.update(confidence, predicted)
    torch.testing.assert_close(method.banks[0].histogram, bank.histogram, atol=2e-5, rtol=0)


def test_unsure_pseudo_labels_send_no_gradient():
    method = fixed_normalisation(small_method("adsh", threshold=1.0))
    assert (gradient(method(*batch(), 1.0)["loss_cross"], method.predictor) == 0).all()


def test_as_released_sets_logits_to_zero_where_the_other_network_is_unsure_of_the_class():
    method = fixed_normalisation(small_method("adsh", threshold=0.3, as_released=True))
    image, label, image_u = batch()
    logits = twin_logits(method, image, image_u)
    losses = method(image, label, image_u, 1.0)
    expected = 0.0
    for side in (0, 1):
        other = numpy_losses.softmax(logits[1 - side])
        each = method.banks[1 - side].thresholds().double().numpy().reshape(1, -1, 1, 1)
        changed = numpy_losses.softmax(logits[side] * (other >= each))
        expected += 0.5 * numpy_losses.cross_entropy(changed, other.argmax(1))
    assert losses["loss_cross"].item() == pytest.approx(expected, rel=1e-4)
