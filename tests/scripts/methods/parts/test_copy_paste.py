"""Labelled and unlabelled images in one: which are mixed, where, and what is learnt from each other's predictions."""

import numpy as np
import pytest
import torch

from scripts.losses import soft_dice
from scripts.methods.parts.copy_paste import cross_dice, labelled_loss, labelled_regions, mix, pairs
from tests import numpy_losses


@pytest.mark.parametrize(
    ("labelled", "unlabelled", "expected"),
    [(2, 2, [[0, 1], [0, 1]]), (1, 3, [[0, 0, 0], [0, 1, 2]]), (2, 1, [[0, 1], [0, 0]]), (1, 1, [[0], [0]])],
)
def test_images_that_are_fewer_are_mixed_more_than_once(labelled, unlabelled, expected):
    assert [index.tolist() for index in pairs(labelled, unlabelled)] == expected


def test_labelled_regions_are_a_box_and_what_surrounds_a_box_in_turns():
    torch.manual_seed(3)
    regions = labelled_regions(torch.zeros(3, 1, 30, 15, 6), 2 / 3)
    inside = 20 * 10 * 4 / (30 * 15 * 6)
    torch.testing.assert_close(regions.float().mean((1, 2, 3)), torch.tensor([inside, 1 - inside, inside]))
    assert not torch.equal(regions[0], regions[2])


def test_mixture_shows_and_learns_each_image_in_its_own_region():
    region = torch.zeros(1, 4, 4, dtype=torch.bool)
    region[:, :2] = True
    one = torch.ones(1, 1, 4, 4)
    mixture = mix(one, torch.full((1, 4, 4), 1), 2 * one, torch.full((1, 4, 4), 2), region)
    assert torch.equal(mixture.image[0, 0], torch.tensor([1.0, 1, 2, 2]).view(4, 1).expand(4, 4))
    logits = torch.zeros(1, 3, 4, 4)
    logits[:, 1, :2] = logits[:, 2, 2:] = 50.0  # right on either side
    assert all(loss < 1e-6 for loss in mixture.losses(logits, "skip").values())
    right, wrong = mixture.losses(logits.roll(1, 2), "skip").values()  # the last row of class 2 is now the first
    assert min(right, wrong) > 5


def test_boxes_of_the_next_labelled_image_are_pasted_with_their_label():
    image = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 9, 9)
    seen = []

    def network(mixed):
        seen.append(mixed[:, 0].long())
        return torch.nn.functional.one_hot(seen[0], 3).movedim(-1, 1) * 2.0  # what it is shown, not quite sure

    loss = labelled_loss(network, image, image[:, 0].long(), 2 / 3, "skip")
    for i, ids in enumerate(seen[0]):
        assert (ids == (i + 1) % 3).sum() == 36
        assert (ids == i).sum() == 45
    boxes = (seen[0] != torch.arange(3).view(3, 1, 1)).numpy()
    logits = np.eye(3)[seen[0].numpy()].transpose(0, 3, 1, 2) * 2.0
    regions = [numpy_losses.segmentation(logits, seen[0].numpy(), mask=mask) for mask in (boxes, ~boxes)]
    assert loss.item() == pytest.approx(sum(regions), rel=1e-5)


def test_each_network_learns_from_the_argmax_of_the_other_without_a_gradient_to_it():
    torch.manual_seed(3)
    first, second = (torch.randn(2, 4, 8, 8, requires_grad=True) for _ in range(2))
    loss = cross_dice([first, second], "skip")
    sides = [soft_dice(a.softmax(1), b.argmax(1)) for a, b in ((first, second), (second, first))]
    torch.testing.assert_close(loss, sides[0] + sides[1])
    for logits, own in zip((first, second), sides, strict=True):
        found, expected = (torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (loss, own))
        torch.testing.assert_close(found, expected)
