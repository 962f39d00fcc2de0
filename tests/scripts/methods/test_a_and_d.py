"""A&D: one decoder denoises labels, one weighs classes, and the one that predicts follows both and their labels."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from scripts.errors import UserError
from scripts.losses import segmentation_loss
from scripts.networks import SegmentationNet
from tests import numpy_losses
from tests.method_cases import batch, gradient, small_method

SMOOTH = np.exp([-0.5, 0.0, -0.5]) / np.exp([-0.5, 0.0, -0.5]).sum()  # a Gaussian of one voxel, cut off there


def a_and_d(**options):
    """In evaluation mode, every normalisation with statistics of its own path, and decoders of different opinions."""
    method = small_method("a_and_d", **{"ddim_steps": 3} | options)
    for module in method.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    image, label, _ = batch(labelled=4, seed=5)
    net = method.predictor
    with torch.no_grad():
        method.diffusion(net.encoder, image, *method.diffusion.add_noise(label))
        method.weighted(net.encoder(image))
        net(image)
        for decoder in (method.weighted, method.diffusion.decoder):
            decoder.out.weight.add_(torch.randn_like(decoder.out.weight))
    return method.eval()


def doubles(*logits):
    return [z.detach().double().numpy() for z in logits]


def student(method, image):
    return method.predictor(image)


def weighted(method, image):
    return method.weighted(method.predictor.encoder(image))[-1]


def pseudo_labels(method, image_u, temperature=1.0, smooth=SMOOTH):
    """From the draws that the generator is about to make."""
    logits = method.diffusion.sample(method.predictor.encoder, image_u)
    gumbel = -np.log(torch.empty(logits.shape).exponential_().double().numpy())
    drawn = numpy_losses.softmax((logits.double().numpy() + gumbel) / temperature)
    for axis in (2, 3):
        drawn = ndimage.convolve1d(drawn, smooth, axis, mode="nearest")
    return (drawn + numpy_losses.softmax(*doubles(weighted(method, image_u)))).argmax(1)


def dice(predicted, label):
    overlap = [((predicted == c) & (label == c)).sum() for c in range(6)]
    return np.array([2 * overlap[c] / ((predicted == c).sum() + (label == c).sum()) for c in range(6)])


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_loss_equals_its_formula(temperature):
    method = a_and_d(unsup_weight=0.7, temperature=temperature)
    image, label, image_u = batch()
    y = label.numpy()
    torch.manual_seed(3)
    noisy = method.diffusion.add_noise(label)
    denoised, psi, theta = doubles(
        method.diffusion(method.predictor.encoder, image, *noisy), weighted(method, image), student(method, image_u)
    )
    pseudo = pseudo_labels(method, image_u, temperature)
    assert len(np.unique(pseudo)) > 3
    difficulty = 6 * (1 - dice(denoised.argmax(1), y))  # the first batch has neither learnt nor unlearnt
    denoising = numpy_losses.segmentation(denoised, y)
    by_difficulty = numpy_losses.segmentation(psi, y, difficulty)
    unlabelled = numpy_losses.segmentation(theta, pseudo)
    torch.manual_seed(3)
    losses = method(image, label, image_u, 0.5)
    assert losses["loss_denoising"].item() == pytest.approx(denoising, rel=1e-4)
    assert losses["loss_weighted"].item() == pytest.approx(by_difficulty, rel=1e-4)
    assert losses["loss_unlabelled"].item() == pytest.approx(unlabelled, rel=1e-4)
    expected = denoising + by_difficulty + 0.7 * math.exp(-5 * 0.25) * unlabelled
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-4)


def test_pseudo_labels_hear_the_smoothed_draws_and_the_weighted_decoder():
    method = a_and_d()
    image_u = batch()[2]
    torch.manual_seed(3)
    expected = pseudo_labels(method, image_u)
    torch.manual_seed(3)
    found = method._label(image_u, method.predictor.encoder(image_u)).numpy()
    assert (found == expected).mean() > 0.999
    torch.manual_seed(3)
    unsmoothed = pseudo_labels(method, image_u, smooth=np.array([0.0, 1.0, 0.0]))
    psi = weighted(method, image_u).argmax(1).numpy()
    assert 0.01 < (found != unsmoothed).mean() < 0.9
    assert 0.01 < (found != psi).mean() < 0.9


def test_student_learns_from_pseudo_labels_that_are_constants():
    method = a_and_d()
    image, label, image_u = batch()
    torch.manual_seed(3)
    method.diffusion.add_noise(label)
    expected = segmentation_loss(student(method, image_u), torch.from_numpy(pseudo_labels(method, image_u)))
    torch.manual_seed(3)
    loss = method(image, label, image_u, 1.0)["loss_unlabelled"]
    assert gradient(loss, method.predictor).any()
    torch.testing.assert_close(gradient(loss, method.predictor), gradient(expected, method.predictor))
    assert not gradient(loss, method.diffusion).any()
    assert not gradient(loss, method.weighted).any()


@pytest.mark.parametrize(("loss", "trained"), [("loss_denoising", "diffusion"), ("loss_weighted", "weighted")])
def test_labels_train_their_decoder_and_the_encoder(loss, trained):
    method = a_and_d()
    parts = {"diffusion": method.diffusion, "weighted": method.weighted, "student": method.predictor.decoder}
    found = method(*batch(), 1.0)[loss]
    assert [name for name, part in parts.items() if gradient(found, part).any()] == [trained]
    assert gradient(found, method.predictor.encoder).any()


def test_student_learns_from_labels_where_there_are_no_unlabelled_images():
    method = a_and_d()
    image, label, _ = batch()
    losses = method(image, label, None, 0.0)
    expected = numpy_losses.segmentation(*doubles(student(method, image)), label.numpy())
    assert losses["loss_student"].item() == pytest.approx(expected, rel=1e-5)
    parts = [losses[f"loss_{part}"].item() for part in ("denoising", "weighted", "student")]
    assert losses["loss"].item() == pytest.approx(sum(parts), rel=1e-5)
    assert gradient(losses["loss"], method.predictor.decoder).any()


def test_student_follows_the_mean_of_the_other_decoders():
    method = a_and_d(decay=0.9)
    decoders = (method.predictor.decoder, method.diffusion.decoder, method.weighted)
    with torch.no_grad():
        for p in (p for decoder in decoders for p in decoder.parameters()):
            p.normal_()
    theta, xi, psi = ([p.clone() for p in decoder.parameters()] for decoder in decoders)
    encoder = [p.clone() for p in method.predictor.encoder.parameters()]
    method.after_step(0.5)
    for p, a, b, c in zip(decoders[0].parameters(), theta, xi, psi, strict=True):
        torch.testing.assert_close(p, 0.9 * a + 0.1 * (b + c) / 2)
    untouched = zip([*decoders[1].parameters(), *decoders[2].parameters()], [*xi, *psi], strict=True)
    assert all(torch.equal(p, before) for p, before in untouched)
    assert all(torch.equal(p, q) for p, q in zip(method.predictor.encoder.parameters(), encoder, strict=True))


def test_student_follows_at_the_published_pace():
    method = a_and_d()
    with torch.no_grad():
        method.predictor.decoder.out.bias.fill_(1.0)
        method.diffusion.decoder.out.bias.fill_(4.0)
        method.weighted.out.bias.fill_(2.0)
    method.after_step(0.5)
    torch.testing.assert_close(method.predictor.decoder.out.bias, torch.full((6,), 0.99 * 1.0 + 0.01 * 3.0))


def test_decoders_start_alike():
    method = small_method("a_and_d")
    decoders = (method.predictor.decoder, method.diffusion.decoder, method.weighted)
    states = [decoder.state_dict() for decoder in decoders]
    for name in states[0]:
        assert torch.equal(states[0][name], states[1][name])
        assert torch.equal(states[0][name], states[2][name])


@pytest.mark.parametrize("unlabelled", [True, False])
def test_normalisation_of_the_predictor_remembers_what_the_student_may_see(unlabelled):
    method = small_method("a_and_d")
    image, label, image_u = batch()
    inputs = []
    method.predictor.decoder.register_forward_hook(lambda module, args, out: inputs.append(args[0][0]))
    method(image, label, image_u if unlabelled else None, 0.5)
    tracked = {name: int(b) for name, b in method.predictor.named_buffers() if name.endswith("num_batches_tracked")}
    assert {n for name, n in tracked.items() if name.startswith("encoder.")} == {2 if unlabelled else 1}
    assert {n for name, n in tracked.items() if name.startswith("decoder.")} == {1}
    assert len(inputs) == 1
    torch.testing.assert_close(inputs[0], method.predictor.encoder(image_u if unlabelled else image)[0])


def test_everything_learns_in_reduced_precision():
    method = small_method("a_and_d")
    with torch.autocast("cpu", torch.bfloat16):
        method(*batch(), 0.5)["loss"].backward()
    assert [name for name, p in method.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_what_only_the_training_needs_is_not_in_the_predictor():
    plain = SegmentationNet("unet", 2, 1, 5, 2, dropout=0.0)
    assert list(small_method("a_and_d").predictor.state_dict()) == list(plain.state_dict())


def test_impossible_numbers_of_steps_are_refused():
    with pytest.raises(UserError, match=r"^method a_and_d, ddim_steps: expected at least 1, found 0$"):
        small_method("a_and_d", ddim_steps=0)
    with pytest.raises(UserError, match=r"^method a_and_d, timesteps: expected at least 10, found 9$"):
        small_method("a_and_d", timesteps=9)
