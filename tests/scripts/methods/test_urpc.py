"""URPC: consistency of the outputs of all decoder levels, rectified by their disagreement."""

import math

import numpy as np
import pytest
import torch

from scripts.methods.urpc import pyramid_consistency
from scripts.networks import DeepSupervisionNet
from tests import numpy_losses
from tests.method_cases import batch, fixed_normalisation, gradient, small_method


def consistency(pyramid):
    """The formula of the paper, output by output, on probabilities [B, C, *spatial]."""
    mean = np.mean(pyramid, axis=0)
    terms = []
    for p in pyramid:
        divergence = (mean * np.log(mean / p)).sum(1)
        weight = np.exp(-divergence)
        terms.append((((mean - p) ** 2) * weight[:, None]).mean() / weight.mean() + divergence.mean())
    return np.mean(terms)


def test_loss_equals_its_formula():
    method = fixed_normalisation(small_method("urpc", unsup_weight=0.7))
    image, label, image_u = batch()
    labelled, unlabelled = (
        [z.detach().double().numpy() for z in method.predictor.pyramid(x)] for x in (image, image_u)
    )
    supervised = np.mean([numpy_losses.segmentation(z, label.numpy()) for z in labelled])
    pyramid = consistency([numpy_losses.softmax(z) for z in unlabelled])
    losses = method(image, label, image_u, 0.5)
    assert losses["loss_supervised"].item() == pytest.approx(supervised, rel=1e-5)
    assert losses["loss_pyramid"].item() == pytest.approx(pyramid, rel=1e-3)
    expected = supervised + 0.7 * math.exp(-5 * 0.25) * pyramid
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-4)


def test_outputs_that_agree_cost_nothing_and_sure_ones_that_do_not_stay_finite():
    z = torch.randn(2, 4, 8, 8)
    assert pyramid_consistency([z] * 4).item() == pytest.approx(0.0, abs=1e-6)
    steep = [1e4 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    steep = [logits.requires_grad_() for logits in steep]
    loss = pyramid_consistency(steep)
    assert loss.isfinite()
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, steep))


def test_every_output_learns_from_labels_and_from_the_others():
    method = small_method("urpc")
    losses = method(*batch(), 1.0)
    for out in (*method.predictor.coarse_outs, method.predictor.decoder.out):
        assert gradient(losses["loss_supervised"], out).abs().max() > 0
        assert gradient(losses["loss_pyramid"], out).abs().max() > 0


@pytest.mark.parametrize(("style", "spatial"), [("unet", (45, 38)), ("vnet", (32, 24, 19))])
def test_outputs_have_the_size_of_the_image_and_the_finest_is_the_prediction(style, spatial):
    net = DeepSupervisionNet(style, len(spatial), 1, 3, 2, dropout=0.0).eval()
    image = torch.randn(1, 1, *spatial)
    pyramid = net.pyramid(image)
    assert [z.shape for z in pyramid] == [(1, 4, *spatial)] * 4
    torch.testing.assert_close(pyramid[-1], net(image))
    assert not torch.equal(pyramid[0], pyramid[-1])


def test_coarse_outputs_are_dropped_out_in_training_only():
    net = DeepSupervisionNet("unet", 2, 1, 3, 2, dropout=0.0)
    image = torch.randn(1, 1, 32, 32)
    assert not torch.equal(net.pyramid(image)[0], net.pyramid(image)[0])
    net.eval()
    assert torch.equal(net.pyramid(image)[0], net.pyramid(image)[0])
