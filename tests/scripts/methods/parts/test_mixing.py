"""Boxes, and what is pasted into them."""

import pytest
import torch

from scripts.methods.parts.mixing import LARGEST_BOX, SMALLEST_BOX, boxes_by_share, paste, random_boxes, swap_at_random


def test_every_image_has_one_box_of_the_allowed_size():
    torch.manual_seed(0)
    for mask in random_boxes(50, [40, 30, 20]):
        sides = [int(mask.any(dim=[a for a in range(3) if a != axis]).sum()) for axis in range(3)]
        assert mask.sum() == sides[0] * sides[1] * sides[2]
        for side, size in zip(sides, [40, 30, 20], strict=True):
            assert round(SMALLEST_BOX * size) <= side <= round(LARGEST_BOX * size)


@pytest.mark.parametrize("size", [[200, 100], [60, 60, 40]])
def test_boxes_by_share_cover_a_share_that_is_drawn_evenly_and_are_not_too_long(size):
    torch.manual_seed(0)
    shares, ratios = [], []
    for mask in boxes_by_share(400, size):
        axes = range(len(size))
        sides = [int(mask.any(dim=[a for a in axes if a != axis]).sum()) / size[axis] for axis in axes]
        shares.append(mask.float().mean().item())
        assert shares[-1] == pytest.approx(torch.tensor(sides).prod().item(), abs=1e-6)  # one box
        ratios.append(max(sides) / min(sides))
    shares, ratios = torch.tensor(shares), torch.tensor(ratios)
    assert 0.015 < shares.min() < 0.03
    assert 0.38 < shares.max() < 0.42
    assert 0.17 < shares.mean() < 0.24
    assert ratios.max() < 1 / 0.3 + 0.3  # sides are whole voxels
    assert ratios.max() > 2.5


def test_boxes_by_share_lie_anywhere():
    torch.manual_seed(0)
    mask = boxes_by_share(400, [30, 30])
    borders = [mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1]]
    assert all(15 < border.any(1).sum() < 70 for border in borders)
    covered = mask.float().mean(0)
    assert (covered - covered.flip(0)).abs().mean() < 0.05 > (covered - covered.flip(1)).abs().mean()


def test_boxes_come_from_torchs_random_state():
    torch.manual_seed(3)
    first = random_boxes(4, [16, 16])
    second = random_boxes(4, [16, 16])
    torch.manual_seed(3)
    assert torch.equal(first, random_boxes(4, [16, 16]))
    assert not torch.equal(first, second)


def test_inside_the_box_is_the_source_and_outside_the_image_itself():
    images, others = torch.rand(3, 2, 8, 8), torch.rand(3, 2, 8, 8)
    mask = torch.zeros(3, 8, 8, dtype=torch.bool)
    mask[:, 2:5, 3:7] = True
    mixed = paste(images, others, mask)
    for i, image in enumerate(mixed):
        assert torch.equal(image[:, mask[i]], others[i][:, mask[i]])
        assert torch.equal(image[:, ~mask[i]], images[i][:, ~mask[i]])
    assert torch.equal(paste(images[:, 0], others[:, 0], mask), mixed[:, 0])


def test_swapping_exchanges_inside_and_outside_of_about_half_the_images():
    torch.manual_seed(0)
    mask = random_boxes(400, [8, 8])
    swapped = swap_at_random(mask)
    kept = (swapped == mask).flatten(1).all(1)
    assert torch.equal(swapped[~kept], ~mask[~kept])
    assert 150 < kept.sum() < 250
