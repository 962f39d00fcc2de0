"""The contrastive loss of voxels and vectors of their classes, and the draw of the voxels."""

import contextlib
import math

import numpy as np
import pytest
import torch

from scripts.methods.parts.class_contrast import IGNORED, ClassContrast, contrastive_loss, draw_by_class


def numpy_loss(vectors, ids, counted):
    """Vector by vector, from the formula."""
    a = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    s, rows = a @ a.T / 0.07, np.flatnonzero(counted)
    losses = []
    for i in rows:
        own = [j for j in rows if ids[j] == ids[i] and j != i]
        others = sum(math.exp(s[i, n]) for n in rows if ids[n] != ids[i])
        losses.append(-sum(s[i, j] - math.log(math.exp(s[i, j]) + others) for j in own) / (len(own) + 1e-5))
    return np.mean(losses)


def test_loss_equals_its_formula_over_the_vectors_that_count():
    rng = np.random.default_rng(0)
    vectors, ids, counted = rng.normal(size=(30, 5)), rng.integers(0, 4, 30), rng.random(30) < 0.7
    ids[0], counted[0] = 4, True  # alone in its class
    tensors = torch.tensor(vectors, requires_grad=True), torch.from_numpy(ids), torch.from_numpy(counted)
    found = contrastive_loss(*tensors)
    assert found.item() == pytest.approx(numpy_loss(vectors, ids, counted), rel=1e-5)
    (moved,) = torch.autograd.grad(found, tensors[0])
    assert torch.equal(moved.abs().sum(1) > 0, tensors[2])


def test_loss_of_equal_vectors():
    """Every S is the same: log(1 + the number of others) for each of the own; 3 of class 0, 2 of class 1."""
    ids = torch.tensor([0, 0, 0, 1, 1])
    found = contrastive_loss(torch.ones(5, 7), ids, ids >= 0)
    expected = (3 * 2 / (2 + 1e-5) * math.log(1 + 2) + 2 * 1 / (1 + 1e-5) * math.log(1 + 3)) / 5
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_loss_by_hand():
    """Two vectors of a class at a right angle to a third: S is 1/0.07 and 0."""
    vectors = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    found = contrastive_loss(vectors, torch.tensor([0, 0, 1]), torch.ones(3) > 0)
    assert found.item() == pytest.approx(2 * math.log(1 + math.exp(-1 / 0.07)) / 3, rel=1e-3)


def test_voxels_are_of_their_class_each_drawn_once_and_no_more_than_there_are():
    torch.manual_seed(0)
    label = torch.tensor([[0] * 50 + [1] * 3 + [IGNORED] * 7, [2] * 20 + [0] * 40]).float()
    index, found = draw_by_class(label, 4, 5)
    assert found.sum(2).tolist() == [[5, 3, 0, 0], [5, 0, 5, 0]]
    for m in range(2):
        for c in range(4):
            drawn = index[m, c][found[m, c]]
            assert (label[m, drawn] == c).all()
            assert len(set(drawn.tolist())) == len(drawn)
    again, _ = draw_by_class(label, 4, 5)
    assert not torch.equal(index, again)


def test_every_voxel_of_a_class_is_as_likely():
    torch.manual_seed(0)
    label = torch.tensor([[0] * 5 + [1] * 5]).float().expand(2000, 10)
    index, _ = draw_by_class(label, 2, 2)
    often = torch.bincount(index[:, 0].flatten(), minlength=10) / 2000
    assert torch.allclose(often, torch.tensor([0.4] * 5 + [0.0] * 5), atol=0.04)


def test_a_map_of_fewer_voxels_than_are_drawn():
    index, found = draw_by_class(torch.tensor([[1.0, 0.0]]), 2, 9)
    assert index.shape == found.shape == (1, 2, 2)
    assert found.sum(2).tolist() == [[1, 1]]


def contrast():
    torch.manual_seed(0)
    return ClassContrast(2, [4, 8], 6, [3, 2])


def test_every_level_adds_its_loss_over_the_rows_of_the_classes_and_the_voxels_of_all_maps():
    module, vectors, last = contrast(), torch.randn(2, 3, 6), torch.rand(2, 3, 8)
    labels = [torch.full((1, 16, 16), IGNORED) for _ in range(2)]
    labels[0][:, :8], labels[1][..., 8:] = 2, 0
    levels = [[torch.randn(1, c, side, side) for _ in range(2)] for c, side in ((4, 4), (8, 2))]
    # Of the maps of 2 x 2 the upper two voxels of the first and the right two of the second: all that may be drawn.
    first, second = (module.heads[1](m)[0] for m in levels[1])
    voxels = torch.cat([last.flatten(0, 1), first[:, 0].T, second[:, :, 1].T]).detach().double().numpy()
    expected = numpy_loss(voxels, np.array([0, 1, 2, 0, 1, 2, 2, 2, 0, 0]), np.ones(10))
    coarse = module._level(1, levels[1], labels, last)
    assert coarse.item() == pytest.approx(expected, rel=1e-4)
    torch.manual_seed(1)
    fine = module._level(0, levels[0], labels, module.read[0](vectors).relu())
    torch.manual_seed(1)
    assert module(levels, labels, vectors, last).item() == pytest.approx((fine + coarse).item(), rel=1e-4)


def test_gradient_reaches_maps_heads_and_vectors():
    module, vectors, last = contrast(), torch.randn(2, 3, 6), torch.rand(2, 3, 8)
    maps = [torch.randn(1, c, side, side) for c, side in ((4, 4), (8, 2))]
    inputs = [t.requires_grad_() for t in (vectors, last, *maps)]
    label = torch.arange(256).remainder(3).view(1, 16, 16)
    module([[m] for m in maps], [label], vectors, last).backward()
    assert all(t.grad.any() for t in (*inputs, *(p for p in module.parameters() if p.dim() > 1)))


def halves():
    """Maps of 2 x 2 voxels of two images, and labels in which two of each are of class 2 and two of class 0."""
    torch.manual_seed(2)
    labels = [torch.full((1, 16, 16), IGNORED) for _ in range(2)]
    labels[0][:, :8], labels[1][..., 8:] = 2, 0
    return [torch.randn(1, 8, 2, 2) for _ in range(2)], labels


def test_images_of_one_map_count_like_maps_of_one_image():
    module, last, (maps, labels) = contrast(), torch.rand(2, 3, 8), halves()
    apart, joined = module._level(1, maps, labels, last), module._level(1, [torch.cat(maps)], [torch.cat(labels)], last)
    assert joined.item() == pytest.approx(apart.item(), rel=1e-5)


def test_label_of_a_coarse_voxel_is_that_of_its_centre():
    module, last, (maps, labels) = contrast(), torch.rand(2, 3, 8), halves()
    centres = [torch.full_like(label, IGNORED) for label in labels]
    for label, centre in zip(labels, centres, strict=True):
        centre[:, 4::8, 4::8] = label[:, 4::8, 4::8]
    expected, found = (module._level(1, maps, ids, last).item() for ids in (labels, centres))
    assert found == pytest.approx(expected, rel=1e-6)
    nothing = module._level(1, maps, [torch.full_like(label, IGNORED) for label in labels], last).item()
    assert nothing != pytest.approx(expected, rel=1e-2)


def test_rows_of_all_levels_but_the_last_are_read_from_the_vectors():
    module = ClassContrast(2, [4, 6, 8], 5, [3, 2, 2])
    assert [tuple(read.weight.shape) for read in module.read] == [(4, 5), (6, 5)]


def test_heads_are_two_convolutions_with_a_kink_between_that_no_scale_or_constant_of_a_map_passes():
    head, m = contrast().heads[1], torch.randn(2, 8, 6, 6)
    assert [tuple(p.shape) for p in head.parameters()] == [(8, 8, 1, 1), (8,)] * 2
    torch.testing.assert_close(head(7 * m + 3), head(m), atol=1e-3, rtol=1e-3)
    assert (head(m) < 0).any()
    assert not torch.allclose((head(m) + head(-m)) / 2, head[-1].bias.view(-1, 1, 1), atol=0.05)


def test_on_another_device_nothing_is_made_of_the_cpus_numbers(monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # `meta` knows none
    module, (_, labels) = contrast().to("meta"), halves()
    levels = [[torch.rand(1, c, side, side, device="meta")] for c, side in ((4, 4), (8, 2))]
    vectors, last = torch.rand(2, 3, 6, device="meta"), torch.rand(2, 3, 8, device="meta")
    assert module(levels, [labels[0].to("meta")], vectors, last).device.type == "meta"
