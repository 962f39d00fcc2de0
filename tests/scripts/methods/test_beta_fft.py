"""beta-FFT: low frequencies that change places, and mixtures of unlabelled images."""

import math

import numpy as np
import pytest
import torch

from scripts.methods.beta_fft import low_pass, swap_low_frequencies
from tests import numpy_losses
from tests.copy_paste_losses import (
    any_gradient,
    cross_dice,
    draw_strong,
    draw_views,
    pair_losses,
    student_logits,
    unlike_students,
)
from tests.method_cases import batch, gradient


def low(image, half_widths):
    """By the full transform, shifted so that frequency 0 is in the centre."""
    axes = tuple(range(2, image.ndim))
    spectrum = np.fft.fftshift(np.fft.fftn(image, axes=axes), axes)
    kept = np.zeros_like(spectrum)
    box = [slice(n // 2 - h, n // 2 + h + 1) for n, h in zip(image.shape[2:], half_widths, strict=True)]
    kept[(..., *box)] = spectrum[(..., *box)]
    return np.fft.ifftn(np.fft.ifftshift(kept, axes), axes=axes).real


def test_loss_equals_its_formula():
    method = unlike_students("beta_fft", unsup_weight=0.7, cross_weight=0.9, mixup_weight=0.6)
    image, label, image_u = batch()
    torch.manual_seed(35)
    views = draw_views(method, image, label, image_u)
    images = [view["image"] for view in views]
    strong, strong_label = draw_strong(image.numpy(), label.numpy())
    share = torch.distributions.Beta(0.1, 0.1).sample((2, 1, 1, 1)).numpy()
    strong_u, _ = draw_strong(image_u.numpy(), label.numpy())
    assert 0.1 < share.min() < share.max() < 0.9  # rare: most mixtures are one of the images
    expected = pair_losses(views, student_logits(method, *images))
    lows = [low(x, (3, 3)) for x in images]  # 30 of 256 are 3.75 of 32
    swapped = [(images[i] - lows[i] + lows[1 - i]).astype(np.float32) for i in (0, 1)]
    both = np.concatenate(swapped)  # each student sees both views
    expected["loss_swapped"] = cross_dice(student_logits(method, both, both))
    first = method.predictor.first
    logits = [first(torch.from_numpy(x)).detach().double().numpy() for x in (image.numpy(), strong)]
    labels = np.concatenate([label.numpy(), strong_label])
    expected["loss_labelled"] = numpy_losses.segmentation(np.concatenate(logits), labels)
    teacher = numpy_losses.softmax(method.teacher(image_u).double().numpy())
    weak, strong, target = (share * x + (1 - share) * x[::-1] for x in (image_u.numpy(), strong_u, teacher))
    students = [numpy_losses.softmax(first(torch.from_numpy(x)).detach().double().numpy()) for x in (weak, strong)]
    expected["loss_mixup"] = np.mean([(student - target) ** 2 for student in students])
    torch.manual_seed(35)
    losses = method(image, label, image_u, 0.625)  # half of what follows the first quarter
    for part, value in expected.items():
        assert losses[part].item() == pytest.approx(value, rel=1e-4), part
    total = expected["loss_supervised"] + expected["loss_labelled"] + 0.7 * expected["loss_unlabelled"]
    total += 0.9 * (expected["loss_cross"] + expected["loss_swapped"])
    total += 0.6 * math.exp(-5 * 0.25) * expected["loss_mixup"]
    assert losses["loss"].item() == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize(("spatial", "half_widths"), [((32, 17), (3, 1)), ((11, 16, 26), (1, 1, 3))])
def test_low_frequencies_are_a_box_of_the_spectrum(spatial, half_widths):
    torch.manual_seed(3)
    image = torch.randn(2, 2, *spatial)
    np.testing.assert_allclose(low_pass(image, 30 / 256).numpy(), low(image.double().numpy(), half_widths), atol=1e-5)


def test_waves_below_the_limit_change_places_and_the_others_stay():
    x = torch.arange(64) / 64 * 2 * math.pi
    slow, fast = (torch.cos(k * x).view(1, 1, 1, 64).expand(1, 1, 64, 64) for k in (7, 8))
    weak, strong = 1.0 + slow + fast.mT, 5.0 + 2 * slow.mT + 3 * fast  # 30 / 256 of 64 are 7.5
    found = swap_low_frequencies(weak, strong, 30 / 256)
    torch.testing.assert_close(found[0], 5.0 + 2 * slow.mT + fast.mT, atol=1e-4, rtol=0)
    torch.testing.assert_close(found[1], 1.0 + slow + 3 * fast, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("part", "second"), [("loss_swapped", True), ("loss_labelled", False), ("loss_mixup", False)])
def test_first_student_alone_learns_from_labelled_images_and_mixups(part, second):
    method = unlike_students("beta_fft")
    loss = method(*batch(), 0.5)[part]
    assert any_gradient(loss, method.predictor.first)
    assert any_gradient(loss, method.predictor.second) == second


def test_mixup_of_a_single_image_is_the_image_and_the_teacher_a_constant():
    method = unlike_students("beta_fft", jitter=0.0, cut_out=0.0)  # the strong view is the image, too
    image, label, image_u = batch(unlabelled=1)
    loss = method(image, label, image_u, 0.5)["loss_mixup"]
    first = method.predictor.first(image_u).softmax(1)
    expected = (first - method.teacher(image_u).softmax(1)).square().mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient(loss, method.predictor.first), gradient(expected, method.predictor.first))
