"""Cross pseudo supervision: what each network minimises, and that neither teaches itself."""

import math

import pytest
import torch

from scripts.errors import UserError
from scripts.networks import TwinNet
from tests import numpy_losses
from tests.method_cases import batch, fixed_normalisation, gradient, small_method


def test_loss_equals_its_formula():
    method = fixed_normalisation(small_method("cps", unsup_weight=0.7))
    image, label, image_u = batch()
    z = [net(torch.cat([image, image_u])).detach().double().numpy() for net in method.predictor.children()]
    supervised = sum(numpy_losses.segmentation(logits[:2], label.numpy()) for logits in z)
    # In 2D of the unlabelled images only, and whole.
    cross = sum(numpy_losses.cross_entropy(numpy_losses.softmax(a[2:]), b[2:].argmax(1)) for a, b in (z, z[::-1]))
    losses = method(image, label, image_u, 0.5)
    assert losses["loss_supervised"].item() == pytest.approx(supervised, rel=1e-5)
    assert losses["loss_cross"].item() == pytest.approx(cross, rel=1e-5)
    expected = supervised + 0.7 * math.exp(-5 * 0.25) * cross
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_volumes_learn_from_labelled_images_too_with_half_of_the_cross_entropy():
    size = (16, 16, 16)
    method = fixed_normalisation(small_method("cps", 3), size)
    image, label, image_u = batch(size)
    z = [net(torch.cat([image, image_u])).detach().double().numpy() for net in method.predictor.children()]
    cross = sum(numpy_losses.cross_entropy(numpy_losses.softmax(a), b.argmax(1)) / 2 for a, b in (z, z[::-1]))
    assert method(image, label, image_u, 0.5)["loss_cross"].item() == pytest.approx(cross, rel=1e-5)


def test_each_network_learns_from_the_others_labels_and_sends_no_gradient_through_them():
    method = fixed_normalisation(small_method("cps"))
    data = batch()
    before = gradient(method(*data, 1.0)["loss_cross"], method.predictor.first)
    with torch.no_grad():
        method.predictor.second.decoder.out.bias[2] += 100  # the second network now says class 2 everywhere
    cross = method(*data, 1.0)["loss_cross"]
    assert not torch.equal(before, gradient(cross, method.predictor.first))
    logits = method.predictor.first(torch.cat([data[0], data[2]]))[2:]
    alone = torch.nn.functional.cross_entropy(logits, torch.full((2, 32, 32), 2))
    torch.testing.assert_close(gradient(cross, method.predictor.first), gradient(alone, method.predictor.first))


@torch.no_grad()
def test_prediction_is_the_mean_of_both_networks_logits_or_either_of_them():
    net = TwinNet("unet", 2, 1, 3, 2).eval()
    image = torch.randn(1, 1, 32, 32)
    first, second = net.first(image), net.second(image)
    torch.testing.assert_close(net(image), (first + second) / 2)
    for prediction, expected in (("first", first), ("second", second)):
        net.prediction = prediction
        assert torch.equal(net(image), expected)


def test_published_networks_start_from_different_distributions():
    torch.manual_seed(0)
    net = TwinNet("vnet", 3, 1, 3, 8, initialisation="kaiming_xavier")
    weights = [getattr(net, name).encoder.levels[4][0][0].weight for name in ("first", "second")]
    fan_in, fan_out = 64 * 8, 128 * 8
    expected = [math.sqrt(2 / fan_in), math.sqrt(2 / (fan_in + fan_out))]
    assert [w.std().item() for w in weights] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("option", ["prediction", "initialisation"])
def test_unknown_choice_is_named(option):
    with pytest.raises(UserError, match=f"{option}: expected a known value, found 'nonsense'"):
        TwinNet("unet", 2, 1, 3, 2, **{option: "nonsense"})
