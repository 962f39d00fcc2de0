"""CReST: the frequencies as weights, in reverse."""

import numpy as np
import pytest
import torch

from tests.cross_pseudo_losses import shares, twin_logits, weighted_losses
from tests.method_cases import batch, fixed_normalisation, small_method

LABELLED = torch.tensor([0.7, 0.1, 0.05, 0.02, 0.12, 0.01])


def test_loss_equals_its_formula():
    method = fixed_normalisation(small_method("crest", unsup_weight=0.7, decay=0.9))
    for bank in method.shares:
        bank.start(LABELLED)
    image, label, image_u = batch()
    logits = twin_logits(method, image, image_u)
    weights = np.empty((2, 6))
    for weight, z in zip(weights, logits, strict=True):  # each network has shares of its own
        followed = 0.9 * LABELLED.numpy() + 0.1 * shares(z.argmax(1)[2:])
        order = np.argsort(-followed)
        for place, c in enumerate(order):  # the most frequent class gets what the rarest would have
            weight[c] = (followed[order[-1 - place]] / followed.max()) ** (1 / 3)
    assert not np.allclose(*weights)
    supervised, cross = weighted_losses(logits, label, weights)
    losses = method(image, label, image_u, 1.0)
    assert losses["loss_supervised"].item() == pytest.approx(supervised, rel=1e-5)
    assert losses["loss_cross"].item() == pytest.approx(cross, rel=1e-5)
    assert losses["loss"].item() == pytest.approx(supervised + 0.7 * cross, rel=1e-5)


def test_shares_follow_the_unlabelled_images_alone():
    method = fixed_normalisation(small_method("crest"))
    for bank in method.shares:
        bank.start(LABELLED)
    image, label, _ = batch()
    method(image, label, None, 0.5)
    assert all(torch.equal(bank.shares, LABELLED) for bank in method.shares)


def test_power_zero_weighs_all_classes_alike():
    method = small_method("crest", power=0.0)
    method.shares[0].start(LABELLED)
    assert method.class_weights(0).tolist() == [1.0] * 6
