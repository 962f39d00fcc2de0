"""Two students on copy-paste mixtures: alike at first, then apart, and what both of the methods have in common."""

import pytest
import torch

from scripts.networks import TwinNet
from tests import numpy_losses
from tests.copy_paste_losses import SIDE, any_gradient, unlike_students
from tests.method_cases import batch, fixed_normalisation, small_method

both = pytest.mark.parametrize("name", ["abd", "beta_fft"])


def step(method, progress, image_u):
    image, label, _ = batch()
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
    method.enter(progress)
    method(image, label, image_u, progress)["loss"].backward()
    optimizer.step()
    method.after_step(progress)


def are_alike(method):
    states = [net.state_dict().values() for net in (method.predictor.first, method.predictor.second)]
    return all(torch.equal(a, b) for a, b in zip(*states, strict=True))


@both
@pytest.mark.parametrize("without", ["time", "unlabelled images"])
def test_first_student_learns_from_labels_alone_and_the_second_is_a_copy(name, without):
    method = small_method(name)
    before = method.predictor.first.decoder.out.weight.clone()
    step(method, *((0.2, batch()[2]) if without == "time" else (0.9, None)))
    assert not torch.equal(method.predictor.first.decoder.out.weight, before)
    assert are_alike(method)


@both
def test_students_go_apart_after_the_first_part_of_the_training(name):
    method = small_method(name)
    assert are_alike(method)
    step(method, 0.25, batch()[2])
    assert not are_alike(method)


@both
def test_labelled_images_are_pasted_into_each_other_at_first(name):
    method = unlike_students(name)
    seen = []
    method.predictor.first.register_forward_hook(lambda module, args, out: seen.append((args[0], out)))
    image, label, image_u = batch()
    image = label.unsqueeze(1).float() + torch.tensor([0.0, 10.0]).view(2, 1, 1, 1)  # tells image and class
    method.enter(0.2)
    loss = method(image, label, image_u, 0.2)["loss"]
    (mixed, logits), *others = seen
    assert not others
    assert set((mixed[0, 0] // 10).unique().tolist()) == {0.0, 1.0}
    boxes = (mixed[:, 0] // 10 != torch.arange(2).view(2, 1, 1)).numpy()
    ids, logits = (mixed[:, 0] % 10).long().numpy(), logits.detach().double().numpy()
    expected = sum(numpy_losses.segmentation(logits, ids, mask=mask) for mask in (boxes, ~boxes))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@both
def test_teacher_follows_the_first_student_without_gradients(name):
    method = small_method(name)
    assert not any(p.requires_grad for p in method.teacher.parameters())
    assert len(list(method.teacher.module.parameters())) == len(list(method.predictor.first.parameters()))
    with torch.no_grad():
        method.predictor.first.decoder.out.bias.fill_(1.0)
    method.after_step(0.0)  # the first step copies, the second has a weight of one half
    with torch.no_grad():
        method.predictor.first.decoder.out.bias.fill_(3.0)
    method.after_step(0.0)
    torch.testing.assert_close(method.teacher.module.decoder.out.bias, torch.full((6,), 2.0))


@both
@pytest.mark.parametrize("part", ["loss_supervised", "loss_unlabelled", "loss_cross"])
def test_both_students_learn_from_every_common_part(name, part):
    method = unlike_students(name)
    loss = method(*batch(), 0.5)[part]
    assert any_gradient(loss, method.predictor.first)
    assert any_gradient(loss, method.predictor.second)


@both
def test_views_differ_in_intensities_and_cut_out_boxes_only(name):
    method = fixed_normalisation(small_method(name, cut_out=1.0, jitter=0.0))
    image, label, image_u = (x.add(20) if x.is_floating_point() else x.clamp_min(1) for x in batch())
    taught = torch.zeros(2, 6, SIDE, SIDE)
    taught[:, 3] = 1.0
    weak, strong = method.views(image, label, image_u, taught)
    cut = torch.where(strong.region, strong.label, strong.pseudo) == 0
    assert 0 < cut.sum() < cut.numel()
    torch.testing.assert_close(strong.image[:, 0][~cut], weak.image[:, 0][~cut])
    assert (strong.image[:, 0] != weak.image[:, 0])[cut].all()
    assert torch.equal(strong.region, weak.region)
    assert torch.equal(weak.label, label)
    assert (weak.pseudo == 3).all()
    for ids, known in ((strong.label, label), (strong.pseudo, weak.pseudo)):
        assert torch.equal(ids[ids > 0], known[ids > 0])


@both
def test_pseudo_labels_are_the_largest_parts_of_what_the_teacher_says(name):
    method = small_method(name)
    taught = torch.zeros(1, 6, SIDE, SIDE)
    taught[:, 0] = 1.0
    taught[:, 2, 3:9, 3:9] = taught[:, 2, 20:24, 20:24] = 5.0
    expected = torch.zeros(1, SIDE, SIDE, dtype=torch.long)
    expected[:, 3:9, 3:9] = 2
    image, label, image_u = batch(labelled=1, unlabelled=1)
    assert torch.equal(method.views(image, label, image_u, taught)[0].pseudo, expected)


@both
@pytest.mark.parametrize(
    ("spatial", "labelled", "unlabelled"), [((32, 16, 48), 1, 1), ((21, 18, 37), 2, 1), ((45, 38), 1, 3)]
)
def test_any_sizes_and_numbers_of_images_give_finite_gradients(name, spatial, labelled, unlabelled):
    method = small_method(name, len(spatial))
    losses = method(*batch(spatial, labelled, unlabelled), 0.6)
    losses["loss"].backward()
    assert len(losses) > 4
    assert all(p.grad.isfinite().all() for p in method.predictor.parameters())


@both
def test_one_network_alone_is_published(name):
    cls = type(small_method(name))
    net = cls.network(
        style="unet", spatial_dims=2, in_channels=1, num_classes=3, width=2, **dict(cls.published_network)
    )
    assert isinstance(net, TwinNet)
    assert net.prediction == "first"
