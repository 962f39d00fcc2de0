"""Strong views: intensities change image by image, boxes are blanked, voxels stay where they are."""

import torch

from scripts.methods.strong_views import blank_boxes, change_intensities


def test_intensities_change_by_one_brightness_and_one_contrast_per_image():
    torch.manual_seed(3)
    image = torch.rand(50, 2, 6, 8)
    changed = change_intensities(image, 0.8)
    mean, spread = (changed.mean((1, 2, 3)) / image.mean((1, 2, 3)), changed.std((1, 2, 3)) / image.std((1, 2, 3)))
    contrast = spread / mean  # brightness scales both
    for factors in (mean, contrast):
        assert 0.2 <= factors.min() < 0.4
        assert 1.6 < factors.max() <= 1.8
    assert abs(torch.corrcoef(torch.stack([mean, contrast]))[0, 1]) < 0.3
    shape = (50, 1, 1, 1)
    expected = image.mean((1, 2, 3)).view(shape) * (mean - spread).view(shape) + image * spread.view(shape)
    torch.testing.assert_close(changed, expected)


def test_no_strength_changes_nothing():
    image = torch.rand(2, 1, 4, 4, 4)
    torch.testing.assert_close(change_intensities(image, 0.0), image)


def test_about_half_of_the_images_have_a_blank_box_that_is_background():
    torch.manual_seed(3)
    image, label = torch.rand(200, 2, 10, 8) + 1.0, torch.randint(1, 4, (200, 10, 8))
    blanked, ids = blank_boxes(image, label, 0.5)
    box = ids == 0
    assert 75 < box.flatten(1).any(1).sum() < 125
    assert torch.equal((blanked == 0).all(1), box)
    assert torch.equal(ids[~box], label[~box])
    assert torch.equal(blanked.movedim(1, -1)[~box], image.movedim(1, -1)[~box])


def test_rates_of_none_and_all_are_kept():
    image, label = torch.ones(20, 1, 6, 6, 6), torch.ones(20, 6, 6, 6, dtype=torch.long)
    assert torch.equal(blank_boxes(image, label, 0.0)[1], label)
    assert (blank_boxes(image, label, 1.0)[1] == 0).flatten(1).any(1).all()
