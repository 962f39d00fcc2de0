"""SKCDF: who learns from whom, which voxels the balanced heads see, and who follows whom."""

import copy
import math

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.losses import segmentation_loss
from tests import numpy_losses
from tests.method_cases import batch, fixed_normalisation, gradient, small_method

SIZE = (64, 48)  # the deepest map has 4 x 3 voxels: windows of two, of which some are padded
RATES = torch.tensor([0.2, 1.0, 0.5, 0.8, 0.3, 0.9])
HEADS = ("predictor.decoder.out", "balanced", "labelled_decoder.out", "labelled_balanced")


def skcdf(**options):
    """In evaluation mode, with decoders and heads that have gone apart, and an attention that counts."""
    method = small_method("skcdf", **options)
    with torch.no_grad():
        for module in (method.labelled_decoder.levels, *map(method.get_submodule, HEADS)):
            for p in module.parameters():
                p.add_(0.2 * torch.randn_like(p))
        for stage in method.predictor.attention:
            stage.project.weight.mul_(5.0)
    fixed_normalisation(method, SIZE).train()(*batch(SIZE, seed=5), 0.5)  # statistics for the labelled decoder, too
    method.rates.copy_(RATES)
    return method.eval()


def decoded(decoder, balanced, features):
    last = decoder.maps(features)[-1]
    return [head(last).detach().double().numpy() for head in (decoder.out, balanced)]


def one_by_one(method, images):
    """The encoder's maps of every image."""
    return [method.predictor.encoder(image.unsqueeze(0)) for image in images]


def complemented(method, maps, maps_u):
    """The deepest maps after each image has attended to all of the other kind, the unlabelled ones being numbers."""
    x, u = [m[-1] for m in maps], [m[-1].detach() for m in maps_u]
    for stage in method.predictor.attention:
        found = [stage(one, torch.cat(u)) for one in x]
        u = [stage(one, torch.cat(x)).detach() for one in u]
        x = found
    return x, u


def seen(logits, ids, kept):
    """L_seg of a balanced head: where a voxel is not kept, its logits and its class are 0."""
    return numpy_losses.segmentation(logits * kept[:, None], ids * kept)


def reference(method, image, label, image_u, progress):
    """The two parts of the loss, image by image through the network; the random numbers follow the caller's seed."""
    maps, maps_u = one_by_one(method, image), one_by_one(method, image_u)
    x, u = complemented(method, maps, maps_u)
    joint = [decoded(method.labelled_decoder, method.labelled_balanced, [*m[:-1], deepest])
             for m, deepest in zip(maps + maps_u, x + u, strict=True)]  # fmt: skip
    main, balanced = (np.concatenate(z) for z in zip(*joint, strict=True))
    y, n, rates = label.numpy(), len(image), RATES.double().numpy()
    kept = torch.rand(y.shape).numpy() < rates[y]
    supervised = numpy_losses.segmentation(main[:n], y) + seen(balanced[:n], y, kept)
    own = [decoded(method.predictor.decoder, method.balanced, [*m[:-1], method.predictor.attend(m[-1])])
           for m in maps_u]  # fmt: skip
    main_u, balanced_u = (np.concatenate(z) for z in zip(*own, strict=True))
    pseudo, pseudo_balanced = main[n:].argmax(1), balanced[n:].argmax(1)
    assert 0.01 < (pseudo != pseudo_balanced).mean() < 0.99
    kept = torch.rand(pseudo.shape).numpy() < (1 - progress * (1 - rates))[pseudo_balanced]
    unlabelled = numpy_losses.segmentation(main_u, pseudo)
    return supervised, unlabelled + seen(balanced_u, pseudo_balanced, kept)


@pytest.mark.parametrize(("labelled", "unlabelled"), [(2, 2), (2, 3), (3, 1)])
def test_loss_equals_its_formula(labelled, unlabelled):
    method = skcdf()
    data = batch(SIZE, labelled, unlabelled)
    torch.manual_seed(3)
    supervised, without = reference(method, *data, 0.6)
    torch.manual_seed(3)
    losses = method(*data, 0.6)
    assert losses["loss_supervised"].item() == pytest.approx(supervised, rel=1e-5)
    assert losses["loss_unlabelled"].item() == pytest.approx(without, rel=1e-5)
    expected = supervised + 10 * math.exp(-5 * 0.4**2) * without
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_labels_train_the_labelled_decoder_and_pseudo_labels_the_other_one():
    method = skcdf()
    losses = method(*batch(SIZE), 0.5)
    l_parts, u_parts = (method.labelled_decoder, method.labelled_balanced), (method.predictor.decoder, method.balanced)
    for part in l_parts:
        assert gradient(losses["loss_supervised"], part).any()
        assert not gradient(losses["loss_unlabelled"], part).any()
    for part in u_parts:
        assert gradient(losses["loss_unlabelled"], part).any()
        assert not gradient(losses["loss_supervised"], part).any()
    for part in (method.predictor.encoder, method.predictor.attention):
        assert gradient(losses["loss_supervised"], part).any()
        assert gradient(losses["loss_unlabelled"], part).any()


def test_unlabelled_images_are_constants_for_the_labelled_ones_and_labelled_ones_for_the_pseudo_labels():
    method = skcdf()
    image, label, image_u = batch(SIZE)
    images = image.requires_grad_(), image_u.requires_grad_()
    losses = method(image, label, image_u, 0.5)
    by_label = torch.autograd.grad(losses["loss_supervised"], images, retain_graph=True, allow_unused=True)
    assert by_label[0].any()
    assert by_label[1] is None or not by_label[1].any()
    by_pseudo_label = torch.autograd.grad(losses["loss_unlabelled"], images, allow_unused=True)
    assert by_pseudo_label[0] is None or not by_pseudo_label[0].any()
    assert by_pseudo_label[1].any()


def test_labelled_images_take_what_they_attend_to_for_numbers():
    method = skcdf()
    method.rates.zero_()  # so that all that the loss teaches is the main head's
    image, label, image_u = batch(SIZE)
    maps = one_by_one(method, image)
    x, _ = complemented(method, maps, one_by_one(method, image_u))
    logits = [method.labelled_decoder([*m[:-1], deepest])[-1] for m, deepest in zip(maps, x, strict=True)]
    nothing = torch.zeros_like(logits[0]).repeat(len(label), 1, 1, 1)
    expected = segmentation_loss(torch.cat(logits), label) + segmentation_loss(nothing, torch.zeros_like(label))
    loss = method(image, label, image_u, 0.5)["loss_supervised"]
    torch.testing.assert_close(loss, expected)
    for part in (method.predictor.encoder, method.predictor.attention):
        torch.testing.assert_close(gradient(loss, part), gradient(expected, part), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("progress", "share"), [(0.0, 1.0), (0.5, 0.625), (1.0, 0.25)])
def test_balanced_head_sees_all_pseudo_labels_first_and_as_many_as_of_the_rarest_class_last(progress, share):
    method = skcdf()
    method.rates.fill_(1.0)
    method.rates[3] = 0.25
    with torch.no_grad():  # l sees class 3 everywhere
        method.labelled_balanced.bias[3] += 100
    seen = []
    method._loss = lambda logits, targets, rates: seen.append((targets, rates)) or logits[0].sum()
    method(*batch(SIZE), progress)
    (targets, rates), (pseudo, rates_u) = seen
    assert torch.equal(targets[1], batch(SIZE)[1])
    assert rates[3] == 0.25  # on labelled images from the start
    assert (pseudo[1] == 3).all()
    assert rates_u[3] == share
    assert (rates_u[[0, 1, 2, 4, 5]] == 1).all()


def test_rates_are_of_the_labelled_set_and_one_for_a_class_it_lacks(tmp_path):
    label = np.zeros((10, 10, 1), np.uint8)
    label[0] = np.array([1, 1, 1, 1, 2, 2, 4, 4, 4, 4])[:, None]
    nib.save(nib.Nifti1Image(label, np.eye(4)), tmp_path / "label.nii.gz")
    method = small_method("skcdf")
    assert (method.rates == 1).all()
    method.prepare([str(tmp_path / "label.nii.gz")] * 2)
    assert method.rates.tolist() == pytest.approx([2 / 90, 2 / 4, 1, 1, 2 / 4, 1])


def test_main_heads_follow_the_balanced_ones_and_then_the_unlabelled_side_the_labelled_one():
    method = skcdf(decay=0.9)
    before = copy.deepcopy(method)
    method.after_step(0.5)
    main, balanced, l_main, l_balanced = (before.get_submodule(name).weight for name in HEADS)
    new_l_main = 0.9 * l_main + 0.1 * l_balanced
    new_main = 0.9 * (0.9 * main + 0.1 * balanced) + 0.1 * new_l_main
    new_balanced = 0.9 * balanced + 0.1 * l_balanced
    for name, expected in zip(HEADS, (new_main, new_balanced, new_l_main, l_balanced), strict=True):
        torch.testing.assert_close(method.get_submodule(name).weight, expected)
    for old, l_old, new, l_new in zip(
        *(m.levels.parameters() for b in (before, method) for m in (b.predictor.decoder, b.labelled_decoder)),
        strict=True,
    ):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * l_old)
        assert torch.equal(l_new, l_old)
    assert torch.equal(
        method.predictor.encoder.levels[0][0][0][0].weight, before.predictor.encoder.levels[0][0][0][0].weight
    )


def test_decoders_and_heads_start_alike():
    method = small_method("skcdf")
    for name, parameter in method.predictor.decoder.named_parameters():
        assert torch.equal(method.labelled_decoder.get_parameter(name), parameter)
    for head in map(method.get_submodule, HEADS):
        assert torch.equal(head.weight, method.predictor.decoder.out.weight)


@pytest.mark.parametrize("with_unlabelled", [True, False])
def test_normalisation_of_the_predictor_remembers_what_it_sees_when_it_predicts(with_unlabelled):
    method = small_method("skcdf")
    for module in method.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():  # the predictor's decoder is not the one that learns
        for p in method.predictor.decoder.parameters():
            p.add_(0.1 * torch.randn_like(p))
    image, label, image_u = batch(SIZE)
    images = image_u if with_unlabelled else image
    method(image, label, image_u if with_unlabelled else None, 0.5)
    found = {name: b.clone() for name, b in method.predictor.decoder.named_buffers()}
    features = method.predictor.encoder(torch.cat([image, image_u]) if with_unlabelled else image)
    features = [f[-len(images) :] for f in features]
    method.predictor.decoder([*features[:-1], method.predictor.attend(features[-1])])
    for name, expected in method.predictor.decoder.named_buffers():
        if "running" in name:
            torch.testing.assert_close(found[name], expected)
    assert any(b.abs().sum() > 0 for name, b in found.items() if name.endswith("running_mean"))


def test_without_unlabelled_images_the_predictor_follows_what_the_labels_teach():
    method = small_method("skcdf", width=4, decay=0.5)
    image, label, _ = batch(SIZE)
    label = (image[:, 0] > 0).long()
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
    for _ in range(25):
        optimizer.zero_grad()
        method(image, label, None, 0.5)["loss"].backward()
        optimizer.step()
        method.after_step(0.5)
    method.eval()
    assert (method.predictor(image).argmax(1) == label).float().mean() > 0.8
