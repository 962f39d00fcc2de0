"""Co-BioNet: what the networks and their critics minimise, and that neither side trains the other's weights."""

import math

import numpy as np
import pytest
import torch

from scripts.networks import VoxelCritic
from tests import numpy_losses
from tests.method_cases import batch, fixed_normalisation, gradient, small_method


def verdicts(critic, probabilities):
    return critic(torch.from_numpy(probabilities).float()).detach().double().numpy()


def bce(logits, value):
    return np.logaddexp(0, -logits if value == 1 else logits).mean()


def test_losses_equal_their_formulas():
    method = fixed_normalisation(small_method("co_bionet", unsup_weight=0.7, adversarial_weight=0.3, threshold=0.45))
    image, label, image_u = batch()
    z = [net(torch.cat([image, image_u])).detach().double().numpy() for net in method.predictor.children()]
    u = [numpy_losses.softmax(logits) for logits in z]
    for critic, own in zip(method.critics, u, strict=True):  # each believes half of the voxels
        with torch.no_grad():
            critic.layers[-1].weight.mul_(40)
            critic.layers[-1].bias.sub_(float(np.median(verdicts(critic, own[2:]))) - math.log(0.45 / 0.55))
    true = np.moveaxis(np.eye(6)[label.numpy()], -1, 1)
    supervised, unlabelled, critics = 0.0, 0.0, 0.0
    for i, j in ((0, 1), (1, 0)):
        supervised += numpy_losses.segmentation(z[i][:2], label.numpy())
        believed = 1 / (1 + np.exp(-verdicts(method.critics[j], u[j][2:]))) > 0.45
        assert 0.02 < believed.mean() < 0.98
        cross = -(u[j][2:] * np.log(u[i][2:])).sum(1)
        unlabelled += 0.5 * (((1 + believed) * cross).mean() + 0.3 * bce(verdicts(method.critics[i], u[i][2:]), 1))
        critics += 0.5 * (bce(verdicts(method.critics[i], true), 1) + bce(verdicts(method.critics[i], u[i]), 0))
    losses = method(image, label, image_u, 0.2)  # the ramp takes 0.4 of the training
    assert losses["loss_supervised"].item() == pytest.approx(supervised, rel=1e-5)
    assert losses["loss_unlabelled"].item() == pytest.approx(unlabelled, rel=1e-3)
    assert losses["loss_critics"].item() == pytest.approx(critics, rel=1e-4)
    expected = supervised + critics + 0.7 * math.exp(-5 * 0.25) * unlabelled
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-4)


def test_critics_and_networks_each_have_a_loss_of_their_own():
    method = small_method("co_bionet")
    losses = method(*batch(), 1.0)
    trained = {
        (loss, part): bool(gradient(losses[loss], module).abs().max() > 0)
        for loss in ("loss_unlabelled", "loss_critics")
        for part, module in (("networks", method.predictor), ("critics", method.critics))
    }
    assert trained == {
        ("loss_unlabelled", "networks"): True,
        ("loss_unlabelled", "critics"): False,
        ("loss_critics", "networks"): False,
        ("loss_critics", "critics"): True,
    }


def test_each_network_is_drawn_to_the_other_and_to_its_own_critic():
    method = fixed_normalisation(small_method("co_bionet", adversarial_weight=0.0, threshold=2.0))
    data = batch()
    logits = [net(data[2]) for net in method.predictor.children()]
    cross = -(logits[1].detach().softmax(1) * logits[0].log_softmax(1)).sum(1).mean() / 2
    first = method.predictor.first
    without = method(*data, 1.0)["loss_unlabelled"]
    torch.testing.assert_close(gradient(without, first), gradient(cross, first))
    method.adversarial_weight = 1.0
    verdict = torch.nn.functional.softplus(-method.critics[0](logits[0].softmax(1))).mean() / 2
    torch.testing.assert_close(
        gradient(method(*data, 1.0)["loss_unlabelled"], first), gradient(cross + verdict, first), rtol=1e-4, atol=1e-7
    )


def test_a_critic_learns_to_tell_labels_from_predictions():
    torch.manual_seed(0)
    critic = VoxelCritic(2, 3)
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.5, momentum=0.9)
    soft = torch.rand(4, 3, 8, 8).softmax(1)
    hard = torch.eye(3)[soft.argmax(1)].movedim(-1, 1)
    targets = torch.tensor([0.0, 1.0]).repeat_interleave(4).view(-1, 1, 1).expand(-1, 8, 8)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(critic(torch.cat([soft, hard])), targets).backward()
        optimizer.step()
    assert (critic(torch.cat([soft, hard])) > 0).eq(targets > 0.5).all()


def test_predictions_are_judged_as_they_would_be_among_labels():
    method = small_method("co_bionet", adversarial_weight=1.0)
    for critic in method.critics:
        critic(torch.rand(8, 6, 32, 32).mul(9).softmax(1))  # the statistics of something else than these predictions
    logits = [torch.randn(2, 6, 32, 32) for _ in range(2)]
    probabilities = [z.softmax(1) for z in logits]
    while_training = method._unlabelled_loss(logits, probabilities)
    assert all(critic.training for critic in method.critics)
    torch.testing.assert_close(while_training, method.eval()._unlabelled_loss(logits, probabilities))
