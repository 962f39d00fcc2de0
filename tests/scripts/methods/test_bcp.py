"""BCP: labelled and unlabelled images pasted into each other, and what is learnt where."""

import numpy as np
import pytest
import torch

from scripts.methods.parts.mixing import random_boxes
from scripts.methods.parts.pseudo_labels import largest_components
from tests import numpy_losses
from tests.method_cases import batch, fixed_normalisation, gradient, small_method


def boxes(count, seed=3):
    torch.manual_seed(seed)
    return random_boxes(count, [32, 32], smallest=2 / 3, largest=2 / 3).numpy()


def test_loss_equals_its_formula():
    method = fixed_normalisation(small_method("bcp", unsup_weight=0.7))
    image, label, image_u = batch()
    pseudo = largest_components(method.teacher(image_u).argmax(1), 5).numpy()
    inside = boxes(2)
    region = np.stack([inside[0], ~inside[1]])
    mixed = np.where(region[:, None], image.numpy(), image_u.numpy())
    logits = method.predictor(torch.from_numpy(mixed)).detach().double().numpy()
    supervised = numpy_losses.segmentation(logits, label.numpy(), mask=region)
    unlabelled = numpy_losses.segmentation(logits, pseudo, mask=~region)
    torch.manual_seed(3)
    losses = method(image, label, image_u, 0.5)
    assert losses["loss_supervised"].item() == pytest.approx(supervised, rel=1e-4)
    assert losses["loss_unlabelled"].item() == pytest.approx(unlabelled, rel=1e-4)
    assert losses["loss"].item() == pytest.approx(supervised + 0.7 * unlabelled, rel=1e-4)


@pytest.mark.parametrize("without", ["time", "unlabelled images"])
def test_labelled_images_are_pasted_into_each_other_at_first_and_where_there_are_no_others(without):
    method = fixed_normalisation(small_method("bcp"))
    image, label, image_u = batch()
    inside = boxes(2)
    mixed = np.where(inside[:, None], image.numpy()[::-1], image.numpy())
    logits = method.predictor(torch.from_numpy(mixed)).detach().double().numpy()
    target = np.where(inside, label.numpy()[::-1], label.numpy())
    expected = sum(numpy_losses.segmentation(logits, target, mask=mask) for mask in (inside, ~inside))
    torch.manual_seed(3)
    progress, others = (0.2, image_u) if without == "time" else (0.9, None)
    method.enter(progress)
    losses = method(image, label, others, progress)
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("labelled", "unlabelled"), [(1, 3), (3, 1), (1, 1)])
def test_images_that_are_fewer_are_used_more_than_once(labelled, unlabelled):
    method = fixed_normalisation(small_method("bcp"))
    seen = []
    method.predictor.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    image, label, _ = batch(labelled=labelled)
    method(torch.zeros_like(image), label, torch.ones(unlabelled, 1, 32, 32), 0.5)
    (mixed,) = seen
    assert len(mixed) == max(labelled, unlabelled)
    shares = mixed.mean((1, 2, 3))  # of unlabelled voxels: around a box of 21 x 21 voxels, within it, around it...
    expected = [1 - 21**2 / 32**2, 21**2 / 32**2, 1 - 21**2 / 32**2]
    torch.testing.assert_close(shares, torch.tensor(expected[: len(mixed)]))


def test_labels_teach_only_their_own_region():
    method = fixed_normalisation(small_method("bcp", unsup_weight=0.0))
    image, label, image_u = batch()
    found = []
    for where in (False, True):
        region = np.stack([boxes(2)[0], ~boxes(2)[1]])
        changed = torch.where(torch.from_numpy(region) == where, 1, label)
        torch.manual_seed(3)
        found.append(gradient(method(image, changed, image_u, 0.5)["loss"], method.predictor))
    torch.manual_seed(3)
    before = gradient(method(image, label, image_u, 0.5)["loss"], method.predictor)
    assert torch.equal(found[0], before)
    assert not torch.equal(found[1], before)


def test_pseudo_labels_are_the_teachers_and_it_has_no_gradient():
    method = fixed_normalisation(small_method("bcp"))
    with torch.no_grad():
        method.teacher.module.decoder.out.bias[2] += 100
    assert (method._label(batch()[2]) == 2).all()
    assert not any(p.requires_grad for p in method.teacher.parameters())


# The largest connected parts


def test_largest_part_of_each_class_in_each_image_stays():
    labels = torch.tensor(
        [
            [[1, 1, 0, 2], [0, 0, 0, 2], [1, 2, 0, 2]],  # of either class two parts
            [[1, 0, 0, 0], [0, 1, 0, 2], [0, 0, 0, 0]],  # corners touch
            [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
        ]
    )
    expected = labels.clone()
    expected[0, 2, :2] = 0
    assert torch.equal(largest_components(labels, 3), expected)


def test_parts_are_connected_through_slices_of_a_volume_but_not_from_image_to_image():
    labels = torch.zeros(2, 3, 4, 4, dtype=torch.long)
    labels[0, :, 1, 1] = 1
    labels[0, 0, 3, 2:] = 1
    labels[1, 0, 3, 3] = 1
    expected = labels.clone()
    expected[0, 0, 3, 2:] = 0
    assert torch.equal(largest_components(labels, 1), expected)
