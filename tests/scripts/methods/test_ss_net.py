"""SS-Net: the adversarial disturbance, the memory of classes, and the losses made of them."""

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from scripts.errors import UserError
from scripts.methods.parts.class_separation import ClassSeparation, draw_by_class
from tests import numpy_losses
from tests.method_cases import batch, fixed_normalisation, gradient, small_method


def dice_distance(p, q):
    """Class by class, over the voxels of the whole batch; works for arrays and for tensors."""
    terms = [
        1 - (2 * (p[:, c] * q[:, c]).sum() + 1e-5) / ((p[:, c] ** 2).sum() + (q[:, c] ** 2).sum() + 1e-5)
        for c in range(p.shape[1])
    ]
    return sum(terms) / len(terms)


def adversarial(net, images, start, probe, magnitude):
    """The disturbance of the formula, in double precision."""
    net, images = copy.deepcopy(net).double(), images.double()
    q = net(images).softmax(1).detach()
    first = torch.stack([probe * d / d.norm() for d in start.double()]).requires_grad_()
    dice_distance(net(images + first).softmax(1), q).backward()
    return torch.stack([magnitude * d / d.norm() for d in first.grad]).float()


def features(net, images):
    """The last feature map as vectors, and their predicted classes, both in the order of the voxels."""
    maps = net.decoder(net.encoder(images))
    return maps[-2].movedim(1, -1).flatten(0, -2), maps[-1].argmax(1).flatten()


def separation(module, vectors, ids):
    """The loss of vectors [M, channels] of classes [M], voxel by voxel against the module's memory."""
    vectors = module.predict(module.project(vectors)).double().numpy()
    terms = []
    for c in range(1, len(module.memory) + 1):
        memory, own = module.memory[c - 1, : int(module.filled[c - 1])], vectors[ids == c]
        if len(own) == 0 or len(memory) == 0:
            continue
        v, w = (
            1 / (1 + np.exp(-rate[c - 1](x).double().numpy()[:, 0]))
            for rate, x in ((module.rate_voxels, torch.from_numpy(own).float()), (module.rate_memory, memory))
        )
        memory = memory.double().numpy()
        cosines = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in memory] for a in own]
        terms.append((np.outer(v / v.mean(), w / w.mean()) * (1 - np.array(cosines))).mean())
    return np.mean(terms) if terms else 0.0


def half_full(method):
    """The method with some features of every class in its memory, and selectors that tell vectors apart."""
    module = method.separation
    with torch.no_grad():
        module.memory[:, :5] = torch.randn(module.memory[:, :5].shape)
        module.filled.fill_(5)
        for rate in (*module.rate_voxels, *module.rate_memory):
            rate[-1].weight.mul_(10)
    return method


def test_losses_equal_their_formulas():
    method = half_full(
        fixed_normalisation(small_method("ss_net", unsup_weight=0.7, contrast_weight=0.3, magnitude=4.0))
    )
    image, label, image_u = batch()
    net, images = method.predictor, torch.cat([image, image_u])
    torch.manual_seed(3)
    losses = method(image, label, image_u, 0.5)
    torch.manual_seed(3)
    r = adversarial(net, images, torch.rand(images.shape) - 0.5, 10 / 8, 4 / 8)  # 32 x 32 of 256 x 256 voxels
    with torch.no_grad():
        clean, moved = (numpy_losses.softmax(net(x).double().numpy()) for x in (images, images + r))
        supervised = numpy_losses.segmentation(net(image).double().numpy(), label.numpy())
        drawn = separation(method.separation, features(net, image)[0], label.flatten())
        drawn += separation(method.separation, *features(net, image_u))
    smoothness = dice_distance(moved, clean)
    assert smoothness > 1e-3
    assert drawn > 0.1
    assert losses["loss_supervised"].item() == pytest.approx(supervised, rel=1e-5)
    assert losses["loss_smoothness"].item() == pytest.approx(smoothness, rel=1e-3)
    assert losses["loss_separation"].item() == pytest.approx(drawn, rel=1e-4)
    expected = supervised + 0.7 * math.exp(-5 * 0.25) * (smoothness + 0.3 * drawn)
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-4)


# The disturbance


def test_disturbance_moves_the_prediction_further_than_chance_does():
    method = fixed_normalisation(small_method("ss_net", magnitude=8.0, probe=8.0))
    image, label, image_u = batch()
    images = torch.cat([image, image_u])
    with torch.no_grad():  # 32 x 32 voxels are 1/64 of the published size: the norms are 1
        clean = method.predictor(images).softmax(1)
        by_chance = []
        for _ in range(20):
            d = torch.randn(images.shape)
            d = d / d.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            by_chance.append(dice_distance(method.predictor(images + d).softmax(1), clean))
    assert method(image, label, image_u, 0.5)["loss_smoothness"] > 2 * max(by_chance)


@pytest.mark.parametrize(
    ("spatial", "probe", "norm"),
    [((256, 256), 10.0, 6.0), ((32, 32), 1.25, 0.75), ((112, 56, 20), 2.5 * 2**0.5, 2.5 * 2**0.5)],
)
def test_disturbance_changes_a_voxel_by_as_much_as_at_the_published_size(spatial, probe, norm):
    method = small_method("ss_net", spatial_dims=len(spatial))
    image, label, image_u = batch(spatial)
    seen = []
    method.predictor.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    method(image, label, image_u, 0.5)
    lengths = [(x - torch.cat([image, image_u])).flatten(1).norm(dim=1) for x in seen]
    torch.testing.assert_close(torch.stack(lengths), torch.tensor([[probe] * 4, [norm] * 4]))


def test_clean_prediction_and_disturbance_are_constants_for_the_gradient():
    method = fixed_normalisation(small_method("ss_net"))
    image, label, image_u = batch()
    net, images = method.predictor, torch.cat([image, image_u])
    torch.manual_seed(3)
    loss = method(image, label, image_u, 0.5)["loss_smoothness"]
    torch.manual_seed(3)
    r = adversarial(net, images, torch.rand(images.shape) - 0.5, 10 / 8, 6 / 8)
    alone = dice_distance(net(images + r).softmax(1), net(images).softmax(1).detach())
    expected = gradient(alone, net)
    assert expected.abs().max() > 1e-4
    # Of the whole vector: the disturbance in double precision puts single activations on the other side of their kink.
    assert (gradient(loss, net) - expected).norm() < 5e-3 * expected.norm()


def test_no_gradient_is_left_behind_by_the_step_to_the_disturbance():
    method = small_method("ss_net")
    method(*batch(), 0.5)
    assert all(p.grad is None for p in method.parameters())


def test_statistics_of_the_normalisation_are_those_of_the_clean_images():
    method = small_method("ss_net")
    alone = copy.deepcopy(method.predictor)
    image, label, image_u = batch()
    method(image, label, image_u, 0.5)
    alone(torch.cat([image, image_u]))
    buffers = dict(method.predictor.named_buffers())
    assert len(buffers) > 20
    for name, value in alone.named_buffers():
        torch.testing.assert_close(buffers[name], value)
    before = {name: value.clone() for name, value in buffers.items()}
    method.predictor(image)  # and the next ones are remembered again
    assert not any(torch.equal(value, before[name]) for name, value in method.predictor.named_buffers())


# The memory


def identities(module):
    """Projection and prediction pass vectors of no negative number on; selectors rate them by their first number."""
    module.project[0] = torch.nn.ZeroPad1d((0, module.memory.shape[2] // 2))
    module.predict[0] = torch.nn.Identity()
    for part in (module.project, module.predict):
        part[1] = part[3] = torch.nn.Identity()
    for rate in (*module.rate_voxels, *module.rate_memory):
        rate[0] = torch.nn.Identity()
        rate[2].weight.data = torch.eye(1, module.memory.shape[2])
        rate[2].bias.data.zero_()
    return module


def test_memory_takes_the_highest_rated_of_the_correct_voxels_and_keeps_the_latest():
    module = identities(ClassSeparation(2, num_classes=3, size=3))
    first = torch.tensor([[[0.1, 0.9, 0.5, 0.7, 0.8, 0.3]], [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]]).view(1, 2, 1, 6)
    label = torch.tensor([[[1, 1, 1, 1, 0, 2]]])
    module(first, label, predicted=torch.tensor([[[1, 2, 1, 1, 0, 1]]]))
    assert module.filled.tolist() == [3, 0, 0]  # class 2 is not recognised, 3 absent, background never kept
    assert module.memory[0, :, 1].tolist() == [4.0, 3.0, 1.0]  # by the first number; the voxel of 0.9 was missed
    module(first, label, predicted=torch.tensor([[[2, 1, 2, 2, 0, 2]]]))
    assert module.filled.tolist() == [3, 1, 0]
    assert module.memory[0, :, 1].tolist() == [2.0, 4.0, 3.0]
    assert module.memory[1, :1, 1].tolist() == [6.0]


def test_memory_takes_at_most_its_share_of_a_batch_and_nothing_of_unlabelled_images():
    module = identities(ClassSeparation(2, num_classes=1, size=8))
    maps, label = torch.rand(4, 2, 5, 5), torch.ones(4, 5, 5, dtype=torch.long)
    module(maps, label)
    assert module.filled.tolist() == [0]
    module(maps, label, predicted=label)
    assert module.filled.tolist() == [2]
    assert sorted(module.memory[0, :2, 0].tolist()) == sorted(maps[:, 0].flatten().topk(2).values.tolist())


def test_memory_takes_one_voxel_of_a_class_also_of_a_batch_larger_than_itself():
    module = identities(ClassSeparation(2, num_classes=1, size=3))
    label = torch.ones(4, 5, 5, dtype=torch.long)
    module(torch.rand(4, 2, 5, 5), label, predicted=label)
    assert module.filled.tolist() == [1]


def test_only_classes_with_voxels_and_memory_are_drawn_by_their_distance():
    module = identities(ClassSeparation(2, num_classes=3, size=4))
    for rate in (*module.rate_voxels, *module.rate_memory):
        rate[2].weight.data.zero_()
    module.memory[:2, 0, :2] = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    module.filled[:2] = 1
    maps = torch.tensor([[[1.0, 0.0, 1.0, 5.0]], [[0.0, 3.0, 1.0, 0.0]]]).view(1, 2, 1, 4)
    assert module(maps, torch.tensor([[[1, 1, 0, 3]]])).item() == pytest.approx((0 + 1) / 2)
    assert module(maps, torch.tensor([[[1, 1, 2, 0]]])).item() == pytest.approx((1 / 2 + 1 - math.sqrt(0.5)) / 2)
    assert module(maps, torch.tensor([[[0, 0, 0, 3]]])).item() == 0


def test_selectors_learn_and_send_no_gradient_into_the_network():
    method = half_full(fixed_normalisation(small_method("ss_net")))
    image, label, image_u = batch()
    loss = method(image, label, image_u, 0.5)["loss_separation"]
    module, net = method.separation, method.predictor
    assert all(gradient(loss, m).abs().max() > 0 for m in (module.rate_voxels, module.rate_memory))
    alone = 0.0
    for vectors, ids in ((features(net, image)[0], label.flatten()), features(net, image_u)):
        vectors, terms = module.predict(module.project(vectors)), []
        for c in ids.unique()[ids.unique() > 0].tolist():
            own, memory = vectors[ids == c], module.memory[c - 1, : int(module.filled[c - 1])]
            v, w = module.rate_voxels[c - 1](own).sigmoid().detach(), module.rate_memory[c - 1](memory).sigmoid()
            distance = 1 - functional.cosine_similarity(own[:, None], memory[None], dim=2)
            terms.append((v / v.mean() * (w / w.mean()).T * distance).mean())
        alone = alone + sum(terms) / len(terms)
    for part in (net, module.project, module.predict):
        torch.testing.assert_close(gradient(loss, part), gradient(alone, part), rtol=1e-3, atol=1e-6)


def test_few_voxels_are_drawn_of_large_classes_and_all_of_small_ones():
    label = torch.zeros(2, 20, 20, dtype=torch.long)
    label[1, :10] = 1
    label[0, 3, 4], label[1, 15, 5] = 2, 2
    index = draw_by_class(label, 4, most=50)
    assert torch.bincount(label.flatten()[index], minlength=4).tolist() == [50, 50, 2, 0]
    assert index[-2:].tolist() == [3 * 20 + 4, 400 + 15 * 20 + 5]
    assert len(index[50:100].unique()) > 30


def test_a_class_of_as_many_voxels_as_are_drawn_is_taken_whole():
    label = torch.zeros(1, 10, 10, dtype=torch.long)
    assert sorted(draw_by_class(label, 1, most=100).tolist()) == list(range(100))


@pytest.mark.parametrize("option", ["memory", "voxels"])
def test_room_for_nothing_is_refused(option):
    with pytest.raises(UserError, match=f"^method ss_net, {option}: expected at least 1, found 0$"):
        small_method("ss_net", **{option: 0})
