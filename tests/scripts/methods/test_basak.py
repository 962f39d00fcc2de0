"""Basak et al.: sampling of the teacher's pseudo-labels by how well the student masters their class."""

import math

import numpy as np
import pytest
import torch

from tests import numpy_losses
from tests.method_cases import batch, fixed_normalisation, gradient, small_method


def rates(p, label):
    """The sampling rates from probabilities [B, C, *spatial] and the label, class by class."""
    classes = p.shape[1]
    x = np.zeros((3, classes))
    for c in range(classes):
        own = np.moveaxis(p, 1, -1)[label == c]  # [voxels, C]
        x[:, c] = [
            (-(own * np.log(own)).sum(1) / math.log(classes)).mean(),
            (1 - own[:, c]).mean(),
            (own.max(1) - own[:, c]).mean(),
        ]
    x = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    rating = (1 - x.mean(0)) * (1 - np.exp(-np.exp(-2 * x))).sum(0)
    need = 1 - rating / rating.max()
    return (need / need.max()) ** 2.5


def test_loss_equals_its_formula():
    method = fixed_normalisation(small_method("basak", unsup_weight=0.7))
    image, label, image_u = batch()
    student, student_u = (method.predictor(x).detach().double().numpy() for x in (image, image_u))
    teacher = numpy_losses.softmax(method.teacher(image_u).double().numpy())
    pseudo = teacher.argmax(1)
    torch.manual_seed(3)
    keep = torch.rand(2, 32, 32).numpy() < rates(numpy_losses.softmax(student), label.numpy())[pseudo]
    assert 0.05 < keep.mean() < 0.95
    voxels = -np.log(np.take_along_axis(numpy_losses.softmax(student_u), pseudo[:, None], 1)[:, 0])
    unlabelled = 0.5 * (voxels * keep * teacher.max(1) ** 1.5).mean()
    supervised = numpy_losses.segmentation(student, label.numpy())
    torch.manual_seed(3)
    losses = method(image, label, image_u, 0.5)
    assert losses["loss_supervised"].item() == pytest.approx(supervised, rel=1e-5)
    assert losses["loss_unlabelled"].item() == pytest.approx(unlabelled, rel=1e-3)
    expected = supervised + 0.7 * math.exp(-5 * 0.25) * unlabelled
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-4)


def test_teacher_follows_the_student_without_gradients():
    method = small_method("basak")
    assert not any(p.requires_grad for p in method.teacher.parameters())
    with torch.no_grad():
        for p in method.predictor.parameters():
            p.add_(1.0)
    method.after_step(0.0)  # the first step copies, the second has a weight of one half
    weights = [next(net.parameters()).clone() for net in (method.predictor, method.teacher)]
    assert torch.equal(*weights)
    with torch.no_grad():
        for p in method.predictor.parameters():
            p.add_(1.0)
    method.after_step(0.0)
    torch.testing.assert_close(next(method.teacher.parameters()), weights[0] + 0.5)


def test_pseudo_labels_are_the_teachers_and_those_of_mastered_classes_are_left_out():
    method = fixed_normalisation(small_method("basak", confidence_power=0.0))
    data = batch()
    with torch.no_grad():
        method.teacher.module.decoder.out.bias[2] += 100  # the teacher says class 2 everywhere
    method.bank.average.mean.fill_(0.5)
    method.bank.average.batches.fill_(10**6)
    method.bank.average.decay = 1.0
    method.bank.average.mean[:, 2] = 0.9  # the student knows it least
    loss = method(*data, 1.0)["loss_unlabelled"]
    alone = torch.nn.functional.cross_entropy(method.predictor(data[2]), torch.full((2, 32, 32), 2)) / 2
    torch.testing.assert_close(gradient(loss, method.predictor), gradient(alone, method.predictor))
    method.bank.average.mean[:, 2] = 0.1  # now it knows it best
    assert method(*data, 1.0)["loss_unlabelled"] == 0


def test_powers_of_zero_count_all_voxels_alike():
    method = fixed_normalisation(small_method("basak", power=0.0, confidence_power=0.0))
    data = batch()
    expected = torch.nn.functional.cross_entropy(method.predictor(data[2]), method.teacher(data[2]).argmax(1)) / 2
    torch.testing.assert_close(method(*data, 1.0)["loss_unlabelled"], expected)
