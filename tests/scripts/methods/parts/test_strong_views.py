"""Strong views: intensities change image by image, boxes are cut out, voxels stay where they are."""

import math

import pytest
import torch

from scripts.methods.parts.strong_views import add_noise, blur, change_intensities, cut_out_boxes


def test_intensities_change_by_one_brightness_and_one_contrast_per_channel():
    torch.manual_seed(3)
    image = torch.rand(50, 2, 6, 8)
    changed = change_intensities(image, 0.8)
    mean, spread = (changed.mean((2, 3)) / image.mean((2, 3)), changed.std((2, 3)) / image.std((2, 3)))
    contrast = spread / mean  # brightness scales both
    for factors in (mean, contrast):
        assert 0.2 <= factors.min() < 0.4
        assert 1.6 < factors.max() <= 1.8
    drawn = torch.stack([mean[:, 0], contrast[:, 0], mean[:, 1], contrast[:, 1]])
    assert torch.corrcoef(drawn).fill_diagonal_(0.0).abs().max() < 0.4  # each is drawn for itself
    shape = (50, 2, 1, 1)
    expected = image.mean((2, 3)).view(shape) * (mean - spread).view(shape) + image * spread.view(shape)
    torch.testing.assert_close(changed, expected)


def test_no_strength_changes_nothing():
    image = torch.rand(2, 1, 4, 4, 4)
    torch.testing.assert_close(change_intensities(image, 0.0), image)


@pytest.mark.parametrize("shape", [(41, 33), (21, 19, 23)])
def test_blur_is_a_gaussian_of_this_deviation(shape):
    image = torch.zeros(1, 2, *shape)
    middle = tuple(side // 2 for side in shape)
    image[0, 1][middle] = 1.0
    blurred = blur(image, 1.5, 1.5)
    assert not blurred[0, 0].any()
    assert blurred.sum().item() == pytest.approx(1.0, abs=1e-4)
    peak = blurred[0, 1][middle].item()
    assert peak == pytest.approx((2 * math.pi * 1.5**2) ** (-len(shape) / 2), rel=1e-3)
    for axis in range(len(shape)):
        two_off = tuple(at + 2 * (axis == other) for other, at in enumerate(middle))
        assert blurred[0, 1][two_off].item() / peak == pytest.approx(math.exp(-(2**2) / (2 * 1.5**2)), rel=1e-3)


def test_blur_of_every_image_is_its_own_and_even_images_stay():
    torch.manual_seed(3)
    image = torch.zeros(300, 1, 31, 31)
    image[:, 0, 15, 15] = 1.0
    blurred = blur(image, 0.1, 2.0)
    at = torch.arange(31.0) - 15
    deviations = (blurred.sum((1, 2)) * at.square()).sum(1).sqrt()
    assert deviations.max() < 2.0
    assert deviations.max() > 1.9
    assert 0.85 < deviations.mean() < 1.2
    torch.testing.assert_close(blur(torch.full((2, 1, 8, 8), 3.0), 1.0, 1.0), torch.full((2, 1, 8, 8), 3.0))


def test_about_half_of_the_images_have_a_box_of_noise_that_is_background():
    torch.manual_seed(3)
    image, label = torch.rand(200, 2, 10, 8) + 1.0, torch.randint(1, 4, (200, 10, 8))
    changed, ids = cut_out_boxes(image, label, 0.5)
    box = ids == 0
    assert 75 < box.flatten(1).any(1).sum() < 125
    assert torch.equal((changed != image).all(1), box)
    assert torch.equal(ids[~box], label[~box])


def test_noise_of_a_box_is_uniform_over_the_range_of_its_image():
    torch.manual_seed(3)
    image = torch.stack([torch.linspace(-3.0, 1.0, 1600), torch.linspace(10.0, 12.0, 1600)]).view(2, 1, 40, 40)
    changed, ids = cut_out_boxes(image, torch.ones(2, 40, 40, dtype=torch.long), 1.0)
    for values, (lowest, highest) in zip(
        (changed[i, 0][ids[i] == 0] for i in (0, 1)), ((-3.0, 1.0), (10.0, 12.0)), strict=True
    ):
        width = highest - lowest
        assert lowest <= values.min() < lowest + 0.05 * width
        assert highest - 0.05 * width < values.max() <= highest
        assert abs(values.mean() - (lowest + highest) / 2) < 0.1 * width


def test_noise_is_clipped_at_twice_its_deviation():
    torch.manual_seed(3)
    noise = add_noise(torch.full((4, 1, 50, 50), 5.0), 0.1) - 5.0
    assert noise.abs().max() <= 0.2 + 1e-6
    assert 0.08 < noise.std() < 0.1  # clipped
    assert abs(noise.mean()) < 0.01


def test_rates_of_none_and_all_are_kept():
    image, label = torch.ones(20, 1, 6, 6, 6), torch.ones(20, 6, 6, 6, dtype=torch.long)
    assert torch.equal(cut_out_boxes(image, label, 0.0)[1], label)
    assert (cut_out_boxes(image, label, 1.0)[1] == 0).flatten(1).any(1).all()
