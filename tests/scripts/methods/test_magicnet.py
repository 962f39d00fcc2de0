"""MagicNet: cubes that change places between the images, cubes alone, and what they add to the teacher's labels."""

import math

import numpy as np
import pytest
import torch

from scripts.errors import UserError
from scripts.losses import soft_dice
from scripts.networks import LocationHead
from tests import numpy_losses
from tests.method_cases import batch, fixed_normalisation, gradient, small_method

QUARTERS = [
    (slice(0, 16), slice(0, 16)),
    (slice(0, 16), slice(16, 32)),
    (slice(16, 32), slice(0, 16)),
    (slice(16, 32), slice(16, 32)),
]
SHARES = torch.tensor([0.5, 0.1, 0.25, 0.05, 0.1, 0.0])


def orders(images, seed=3):
    """Which image each quarter of every image comes from."""
    torch.manual_seed(seed)
    return torch.rand(images, len(QUARTERS)).argsort(0)


def last_features(net, x):
    return net.decoder.maps(net.encoder(x))[-1]


def mixed_logits(net, images):
    """Of images whose quarters have changed places; the features go back."""
    source = orders(len(images))
    mixed = images.clone()
    for b in range(len(images)):
        for q, (rows, columns) in enumerate(QUARTERS):
            mixed[b, :, rows, columns] = images[source[b, q], :, rows, columns]
    features = last_features(net, mixed)
    back = [[None] * 4 for _ in images]
    for b in range(len(images)):
        for q, (rows, columns) in enumerate(QUARTERS):
            back[source[b, q]][q] = features[b, :, rows, columns]
    return net.decoder.out(torch.stack([put_together(quarters) for quarters in back]))


def put_together(quarters):
    return torch.cat([torch.cat(quarters[:2], -1), torch.cat(quarters[2:], -1)], -2)


def within_logits(net, images):
    """Of images whose quarters pass the network alone."""
    return net.decoder.out(put_together([last_features(net, images[..., r, c]) for r, c in QUARTERS]))


def pseudo_labels(method, image_u):
    teacher = method.teacher(image_u).double().numpy()
    within = within_logits(method.predictor, image_u).detach().double().numpy()
    share = (SHARES / SHARES.max()).double().numpy()[teacher.argmax(1)][:, None]
    return ((1 - share) * teacher + share * within).argmax(1)


def labelled(method, image_u, within):
    return method._ask(image_u, within)[1].argmax(1)


def doubles(*logits):
    return [z.detach().double().numpy() for z in logits]


def magicnet(noise=0.0, **options):
    method = fixed_normalisation(small_method("magicnet", noise=noise, **options))
    method.recent.start(SHARES)
    with torch.no_grad():  # a teacher of its own opinion
        method.teacher.module.decoder.out.weight.mul_(-1.0)
    return method


def test_loss_equals_its_formula():
    method = magicnet(unsup_weight=0.7, location_weight=0.3)
    net = method.predictor
    image, label, image_u = batch()
    images, y = torch.cat([image, image_u]), label.numpy()
    whole, mixed, within = doubles(net(image), mixed_logits(net, images), within_logits(net, images))
    p = [numpy_losses.softmax(z) for z in (whole, mixed, within)]
    supervised = numpy_losses.cross_entropy(p[0], y) + sum(numpy_losses.dice(q[:2], y) for q in p)
    deepest = torch.stack([net.encoder(images[..., r, c])[-1] for r, c in QUARTERS])
    positions = numpy_losses.softmax(np.stack(doubles(*(method.location(maps) for maps in deepest))).reshape(16, 4))
    location = -np.log(positions[np.arange(16), np.arange(16) // 4]).mean()
    pseudo = pseudo_labels(method, image_u)
    assert len(np.unique(pseudo)) > 1
    assert 0.01 < (pseudo != method.teacher(image_u).argmax(1).numpy()).mean() < 0.99
    unlabelled = numpy_losses.dice(p[1][2:], pseudo)
    torch.manual_seed(3)
    losses = method(image, label, image_u, 0.5)
    assert losses["loss_supervised"].item() == pytest.approx(supervised / 4, rel=1e-5)
    assert losses["loss_location"].item() == pytest.approx(location, rel=1e-5)
    assert losses["loss_unlabelled"].item() == pytest.approx(unlabelled, rel=1e-4)
    expected = supervised / 4 + 0.3 * location + 0.7 * math.exp(-5 * 0.25) * unlabelled
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-4)


def test_pseudo_labels_are_constants_and_the_teacher_has_no_gradient():
    method = magicnet()
    image, label, image_u = batch()
    pseudo = torch.from_numpy(pseudo_labels(method, image_u))
    expected = soft_dice(mixed_logits(method.predictor, torch.cat([image, image_u]))[2:].softmax(1), pseudo)
    torch.manual_seed(3)
    loss = method(image, label, image_u, 1.0)["loss_unlabelled"]
    torch.testing.assert_close(gradient(loss, method.predictor), gradient(expected, method.predictor))
    assert not gradient(loss, method.location).any()
    assert not any(p.requires_grad for p in method.teacher.parameters())


@pytest.mark.parametrize("name", ["magicnet", "ga"])
def test_teacher_sees_the_unlabelled_images_in_noise_and_the_student_does_not(name):
    method = small_method(name)
    seen, image_u = [], batch()[2]
    method.teacher.module.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    method(*batch(), 0.5)
    (shown,) = seen
    noise = shown - image_u
    assert 0.08 < noise.std() < 0.1
    assert noise.abs().max() <= 0.2 + 1e-6


def test_telling_the_positions_trains_the_head_and_the_encoder():
    method = magicnet()
    loss = method(*batch(), 0.5)["loss_location"]
    assert gradient(loss, method.location).any()
    assert gradient(loss, method.predictor.encoder).any()
    assert not gradient(loss, method.predictor.decoder).any()


def test_every_cube_passes_the_network_alone():
    method = magicnet()
    image = batch()[0]
    changed = image.clone()
    changed[..., :16, 16:] += 1.0
    before, after = (method._cube_by_cube(x)[0][-1] for x in (image, changed))
    same = (before == after).all(1)
    assert not same[:, :16, 16:].any()
    assert same[:, 16:].all()
    assert same[:, :16, :16].all()


@pytest.mark.parametrize(("confidence", "chosen"), [(4.0, 2), (6.0, 1)])
def test_the_more_frequent_the_teachers_class_the_more_the_cubes_count(confidence, chosen):
    method = magicnet()
    with torch.no_grad():
        method.teacher.module.decoder.out.weight.zero_()
        method.teacher.module.decoder.out.bias.copy_(torch.tensor([0, confidence, 0, 0, 0, 0]))
    method.recent.start(torch.tensor([0.6, 0.3, 0.1, 0.0, 0.0, 0.0]))  # class 1 is half as frequent as the background
    within = torch.zeros(1, 6, 32, 32)
    within[:, 2] = 5.0
    assert (labelled(method, torch.zeros(1, 1, 32, 32), within) == chosen).all()
    followed = torch.tensor([0.95 * 0.6, 0.95 * 0.3, 0.95 * 0.1, 0, 0, 0])
    followed[chosen] += 0.05
    torch.testing.assert_close(method.recent.shares, followed)


def test_the_teacher_alone_is_asked_before_there_are_pseudo_labels():
    method = fixed_normalisation(small_method("magicnet", noise=0.0))
    image_u = batch()[2]
    within = torch.full((2, 6, 32, 32), 100.0) * torch.arange(6).view(6, 1, 1)
    assert torch.equal(labelled(method, image_u, within), method.teacher(image_u).argmax(1))
    assert (labelled(method, image_u, within) == 5).any()


def test_normalisation_remembers_whole_images_only():
    method = small_method("magicnet")
    seen = []
    first = method.predictor.encoder.levels[0][0][0][0]
    first.register_forward_hook(lambda module, args, out: seen.append(out.mean((0, 2, 3))))
    norm = method.predictor.encoder.levels[0][0][0][1]
    norm.momentum = 1.0
    method(*batch(), 0.5)
    assert len(seen) == 2
    torch.testing.assert_close(norm.running_mean, seen[0])
    assert norm.num_batches_tracked == 1


@pytest.mark.parametrize(("spatial_dims", "cubes"), [(2, torch.bfloat16), (3, torch.float32)])
def test_cubes_of_volumes_are_too_small_for_bfloat16_on_a_cpu(spatial_dims, cubes):
    method = small_method("magicnet", spatial_dims)
    found = []
    method.predictor.encoder.levels[-1].register_forward_hook(lambda module, args, out: found.append(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        method(*batch((64, 32, 32)[:spatial_dims], 1, 1), 0.5)
    assert found == [torch.bfloat16, cubes]


def test_grid_of_one_cube_is_refused():
    with pytest.raises(UserError, match=r"^method magicnet, grid: expected at least 2, found 1$"):
        small_method("magicnet", grid=1)


@pytest.mark.parametrize(("spatial", "numbers"), [((2, 2, 2), 2048), ((3, 5, 1), 2048), ((4, 4), 1024)])
def test_location_head_takes_maps_of_any_size(spatial, numbers):
    head = LocationHead(len(spatial), 256, 27)
    assert (head.layers[0].in_features, head.layers[0].out_features) == (numbers, 2 * numbers)
    assert head(torch.rand(4, 256, *spatial)).shape == (4, 27)
