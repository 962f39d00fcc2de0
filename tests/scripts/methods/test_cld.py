"""CLD: class weights, and voxels kept at the rate of how unsure their class is."""

import numpy as np
import pytest
import torch

from tests import numpy_losses
from tests.cross_pseudo_losses import twin_logits, weighted_losses
from tests.method_cases import batch, fixed_normalisation, small_method

LABELLED = torch.tensor([0.64, 0.01, 0.08, 0.08, 0.18, 0.01])


def test_loss_equals_its_formula():
    method = fixed_normalisation(small_method("cld", unsup_weight=0.7))
    method.weights.copy_(method.rule(LABELLED))
    image, label, image_u = batch()
    logits = twin_logits(method, image, image_u)
    weight = (0.64 / LABELLED.double().numpy()) ** (1 / 3)
    kept = []
    torch.manual_seed(3)
    for z in logits:
        true = np.take_along_axis(numpy_losses.softmax(z[:2]), label.numpy()[:, None], 1)[:, 0]
        unsure = np.array([1 - true[label.numpy() == c].mean() for c in range(6)])
        rates = np.sqrt(unsure / unsure.max())
        kept.append(torch.rand(4, 32, 32).numpy() < rates[z.argmax(1)])  # by the class that the network itself sees
    assert all(0.5 < keep.mean() < 1 for keep in kept)
    supervised, cross = weighted_losses(logits, label, [weight, weight], kept)
    torch.manual_seed(3)
    losses = method(image, label, image_u, 1.0)
    assert losses["loss_supervised"].item() == pytest.approx(supervised, rel=1e-5)
    assert losses["loss_cross"].item() == pytest.approx(cross, rel=1e-4)
    assert losses["loss"].item() == pytest.approx(supervised + 0.7 * cross, rel=1e-4)
    np.testing.assert_allclose(method.weights, np.stack([weight, weight]), rtol=1e-5)  # nothing moves them


def test_well_known_classes_are_left_out_and_unknown_ones_kept():
    method = fixed_normalisation(small_method("cld"))
    data = batch()
    for bank in method.banks:
        bank.average.mean[0] = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
        bank.average.batches.fill_(10**6)
    method.banks[0].average.decay = method.banks[1].average.decay = 1.0
    _, pseudo = zip(*[net(torch.cat([data[0], data[2]])).max(1) for net in method.predictor.children()], strict=True)
    method(*data, 1.0)
    for kept, seen in zip(method.kept, pseudo, strict=True):
        assert torch.equal(kept, seen % 2 == 1)


def test_power_zero_keeps_all_voxels():
    method = fixed_normalisation(small_method("cld", power=0.0))
    method(*batch(), 1.0)
    assert all(kept.all() for kept in method.kept)
