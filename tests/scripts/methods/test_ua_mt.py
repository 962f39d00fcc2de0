"""UA-MT: consistency with a noisy teacher, where the mean of its passes is sure."""

import math

import numpy as np
import pytest
import torch

from scripts.errors import UserError
from tests import numpy_losses
from tests.method_cases import batch, fixed_normalisation, gradient, small_method


def noise(shape, passes):
    """The clipped noise of every pass, in the order of the passes."""
    torch.manual_seed(3)
    return [torch.randn(shape).mul(0.1).clamp(-0.2, 0.2) for _ in range(passes)]


def steeper(method, factor):
    """The method with the logits of teacher and student multiplied, so that the teacher is sure of some voxels."""
    with torch.no_grad():
        for net in (method.predictor, method.teacher.module):
            net.decoder.out.weight.mul_(factor)
    return method


@pytest.mark.parametrize(("as_released", "classes", "factor"), [(False, 6, 6), (True, 2, 30)])
def test_loss_equals_its_formula(as_released, classes, factor):
    method = steeper(fixed_normalisation(small_method("ua_mt", unsup_weight=0.7, as_released=as_released)), factor)
    image, label, image_u = batch()
    student, student_u = (method.predictor(x).detach().double().numpy() for x in (image, image_u))
    *passes, target = [
        numpy_losses.softmax(method.teacher(image_u + n).double().numpy()) for n in noise(image_u.shape, 9)
    ]
    mean = np.mean(passes, axis=0)
    entropy = -(mean * np.log(mean + 1e-30)).sum(1)
    sure = entropy < (0.75 + 0.25 * math.exp(-5 * 0.25)) * math.log(classes)
    assert 0.05 < sure.mean() < 0.95
    squares = ((numpy_losses.softmax(student_u) - target) ** 2).sum(1)
    consistency = (squares * sure).sum() / (classes * sure.sum())
    torch.manual_seed(3)
    losses = method(image, label, image_u, 0.5)
    supervised = numpy_losses.segmentation(student, label.numpy())
    assert losses["loss_supervised"].item() == pytest.approx(supervised, rel=1e-5)
    assert losses["loss_consistency"].item() == pytest.approx(consistency, rel=1e-3)
    expected = supervised + 0.7 * math.exp(-5 * 0.25) * consistency
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-3)


def test_only_the_student_has_gradients():
    method = steeper(small_method("ua_mt"), 6)
    loss = method(*batch(), 1.0)["loss_consistency"]
    assert gradient(loss, method.predictor).abs().max() > 0
    assert not any(p.requires_grad for p in method.teacher.parameters())


def test_a_teacher_that_is_never_sure_teaches_nothing():
    method = fixed_normalisation(small_method("ua_mt"))
    with torch.no_grad():
        method.teacher.module.decoder.out.weight.zero_()  # all classes alike: the largest entropy there is
        method.teacher.module.decoder.out.bias.zero_()
    assert method(*batch(), 0.5)["loss_consistency"] == 0


def test_a_sure_teacher_is_believed_everywhere():
    method = fixed_normalisation(small_method("ua_mt"))
    image, label, image_u = batch()
    with torch.no_grad():
        method.teacher.module.decoder.out.bias[2] += 100
    squares = (method.predictor(image_u).softmax(1) - torch.eye(6)[2].view(1, 6, 1, 1)).square()
    torch.testing.assert_close(method(image, label, image_u, 0.0)["loss_consistency"], squares.mean())


def test_number_of_passes_has_to_be_one_or_more():
    with pytest.raises(UserError, match=r"^method ua_mt, passes: expected at least 1, found 0$"):
        small_method("ua_mt", passes=0)
