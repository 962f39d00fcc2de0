"""One decoder with a mean teacher and copy-paste: what the student is shown, and what it has to say there."""

import math

import numpy as np
import pytest
import torch

from tests import numpy_losses
from tests.method_cases import batch, fixed_normalisation, gradient, small_method


def control(**options):
    """With a teacher of its own opinion."""
    method = fixed_normalisation(small_method("mean_teacher_cp", **options))
    with torch.no_grad():
        method.teacher.module.decoder.out.weight.mul_(-1.0)
    return method


def shown(method, data, progress=0.5):
    """What the student sees in a step, and the losses."""
    seen = []
    method.predictor.encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    losses = method(*data, progress)
    (images,) = seen  # labelled and mixed images in one batch
    return images, losses


@pytest.mark.parametrize(("progress", "ramp"), [(0.2, math.exp(-5 * 0.25)), (0.4, 1.0), (0.9, 1.0)])
def test_loss_equals_its_formula(progress, ramp):
    method, (image, label, image_u) = control(unsup_weight=0.7), batch()
    pseudo = method.teacher(image_u).argmax(1)
    images, losses = shown(method, (image, label, image_u), progress)
    assert torch.equal(images[:2], image)
    pasted = (images[2:] == image)[:, 0]
    assert torch.equal(images[2:], torch.where(pasted.unsqueeze(1), image, image_u))
    assert all(0 < share < 1 for share in pasted.float().mean((1, 2)))
    target = torch.where(pasted, label, pseudo).numpy()
    logits = method.predictor(images).detach().double().numpy()
    supervised = numpy_losses.segmentation(logits[:2], label.numpy())
    mixed = numpy_losses.segmentation(logits[2:], target)
    assert losses["loss_supervised"].item() == pytest.approx(supervised, rel=1e-5)
    assert losses["loss_mixed"].item() == pytest.approx(mixed, rel=1e-5)
    assert losses["loss"].item() == pytest.approx(supervised + 0.7 * ramp * mixed, rel=1e-5)


def test_labelled_images_are_pasted_in_a_box_or_around_one_by_turns_of_chance():
    image, label = torch.ones(1, 1, 32, 32), torch.ones(1, 32, 32, dtype=torch.long)
    corners = []
    for seed in range(40):
        method = control()
        torch.manual_seed(seed)
        images, _ = shown(method, (image, label, torch.zeros(1, 1, 32, 32)))
        corners.append(float(images[1, 0, [0, 0, -1, -1], [0, -1, 0, -1]].mean()))  # 1 around a box, mostly
    assert 8 < np.sum(np.array(corners) > 0.5) < 32


def test_jitter_changes_what_the_student_sees_and_not_what_its_teacher_sees():
    data, seen = batch(), []
    method = control(jitter=0.4)
    method.teacher.module.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    images, _ = shown(method, data)
    assert torch.equal(seen[0], data[2])
    assert not torch.equal(images[:2], data[0])


def test_only_the_student_has_gradients_and_its_teacher_follows_it():
    method = control()
    loss = method(*batch(), 1.0)["loss_mixed"]
    assert gradient(loss, method.predictor).any()
    assert not any(p.requires_grad for p in method.teacher.parameters())
    for value in (1.0, 3.0):  # the first step copies, the second has a weight of one half
        with torch.no_grad():
            method.predictor.decoder.out.bias.fill_(value)
        method.after_step(0.0)
    torch.testing.assert_close(method.teacher.module.decoder.out.bias, torch.full((6,), 2.0))
