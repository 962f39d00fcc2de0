"""ABD: the least sure patch of each view makes room for a sure one of the other view."""

import numpy as np
import pytest
import torch

from scripts.errors import UserError
from scripts.methods.abd import displace
from tests import numpy_losses
from tests.copy_paste_losses import any_gradient, cross_dice, draw_views, pair_losses, student_logits, unlike_students
from tests.method_cases import batch, small_method

PATCHES = [(slice(r, r + 8), slice(c, c + 8)) for r in range(0, 32, 8) for c in range(0, 32, 8)]


def displaced(images, logits, by_likeness):
    """Patch by patch in numpy, with the 4 surest as candidates."""
    found = []
    for here, there in ((0, 1), (1, 0)):
        for b in range(len(images[0])):
            sure = [[numpy_losses.softmax(z[b : b + 1])[0].max(0)[p].mean() for p in PATCHES] for z in logits]
            q = [numpy_losses.softmax(np.stack([z[b][:, r, c].mean((1, 2)) for r, c in PATCHES])) for z in logits]
            least = int(np.argmin(sure[here]))
            candidates = np.argsort(sure[there])[::-1][:4]
            divergence = [(q[here][least] * np.log(q[here][least] / q[there][k])).sum() for k in candidates]
            taken = candidates[np.argmin(divergence) if by_likeness[here][b] else 0]
            image = images[here][b].copy()
            (rows, columns), source = PATCHES[least], PATCHES[taken]
            image[:, rows, columns] = images[there][b][:, source[0], source[1]]
            found.append(image)
    return np.stack(found)


def test_loss_equals_its_formula():
    method = unlike_students("abd", unsup_weight=0.7, cross_weight=0.9)
    data = batch()
    torch.manual_seed(3)
    views = draw_views(method, *data)
    images = [view["image"] for view in views]
    logits = student_logits(method, *images)
    new = displaced(images, logits, torch.rand(2, 2).numpy() < 0.5)
    expected = pair_losses(views, logits) | {"loss_displaced": cross_dice(student_logits(method, new, new))}
    torch.manual_seed(3)
    losses = method(*data, 0.5)
    for part, value in expected.items():
        assert losses[part].item() == pytest.approx(value, rel=1e-4), part
    total = expected["loss_supervised"] + 0.7 * expected["loss_unlabelled"]
    total += 0.9 * (expected["loss_cross"] + expected["loss_displaced"])
    assert losses["loss"].item() == pytest.approx(total, rel=1e-4)


def hand_made():
    """Two views of one image of 4 x 4 voxels and 3 classes: each patch of 1 voxel has its number as intensity."""
    images = [torch.arange(16.0).view(1, 1, 4, 4), 100 + torch.arange(16.0).view(1, 1, 4, 4)]
    weak, strong = torch.zeros(1, 3, 16), torch.zeros(1, 3, 16)
    weak[0, 0] = 4.0
    weak[0, :, 5] = torch.tensor([0.0, 0.6, 0.0])  # the least sure one, if anything of class 1
    strong[0, 0] = 2.0
    strong[0, 0, 7] = 6.0  # the surest
    strong[0, 1, 9], strong[0, 0, 9] = 5.0, 0.0  # nearly as sure, of class 1
    strong[0, 2, 14], strong[0, 0, 14] = 0.5, 0.0  # the least sure one
    return images, [weak.view(1, 3, 4, 4), strong.view(1, 3, 4, 4)]


@pytest.mark.parametrize(("by_likeness", "expected"), [(False, 107.0), (True, 109.0)])
def test_least_sure_patch_makes_room_for_the_surest_or_the_most_similar_one(by_likeness, expected):
    images, logits = hand_made()
    flags = torch.full((2, 1), by_likeness)
    weak, strong = displace(images, logits, 4, 2, flags)
    assert weak[0, 1, 1] == expected
    changed = images[0].clone()
    changed[0, 0, 1, 1] = expected
    assert torch.equal(weak, changed[0])
    assert (strong != images[1][0]).nonzero().tolist() == [[0, 3, 2]]
    assert strong[0, 3, 2] < 100


def test_only_candidates_are_taken():
    images, logits = hand_made()
    flags = torch.ones(2, 1, dtype=torch.bool)
    assert displace(images, logits, 4, 1, flags)[0, 0, 1, 1] == 107.0
    assert displace(images, logits, 4, 100, flags)[0, 0, 1, 1] == 114.0  # unsure itself, and so the most similar


def test_patches_are_alike_by_their_mean_logits():
    sure, unsure = torch.tensor([9.0, 0, 0]), torch.zeros(3)
    balanced, leaning = torch.tensor([10.0, 0, 0]), torch.tensor([0.3, 0, 0])  # the mean of the softmax says otherwise
    strong = torch.stack([sure, sure, balanced, -balanced, sure, sure, leaning, leaning], 1).view(1, 3, 2, 4)
    weak = torch.stack([unsure] * 2 + [sure] * 6, 1).view(1, 3, 2, 4)
    images = [torch.zeros(1, 1, 2, 4), torch.arange(8.0).view(1, 1, 2, 4)]
    new = displace(images, [weak, strong], 2, 4, torch.ones(2, 1, dtype=torch.bool))
    assert new[0].tolist() == [[[2.0, 3, 0, 0], [0, 0, 0, 0]]]


def test_views_themselves_and_what_no_patch_covers_stay():
    torch.manual_seed(3)
    images, logits = [torch.rand(2, 1, 11, 9, 8) for _ in range(2)], [torch.rand(2, 3, 11, 9, 8) for _ in range(2)]
    before = [x.clone() for x in images]
    new = displace(images, logits, 4, 4, torch.zeros(2, 2, dtype=torch.bool))
    assert all(torch.equal(a, b) for a, b in zip(images, before, strict=True))
    for image, old in zip(new, torch.cat(before), strict=True):
        assert (image != old).sum() == 2 * 2 * 2
        assert torch.equal(image[:, 8:], old[:, 8:])
        assert torch.equal(image[:, :, 8:], old[:, :, 8:])


def test_both_students_see_both_displaced_views_and_choose_no_patch_by_gradient():
    method = unlike_students("abd")
    seen = {"first": [], "second": []}
    for name, images in seen.items():
        getattr(method.predictor, name).register_forward_pre_hook(lambda module, args, x=images: x.append(args[0]))
    loss = method(*batch(), 0.5)["loss_displaced"]
    assert [len(x) for x in seen["first"]] == [2, 4]
    assert torch.equal(seen["first"][1], seen["second"][1])
    assert not torch.equal(seen["first"][0], seen["second"][0])
    assert not seen["first"][1].requires_grad
    assert any_gradient(loss, method.predictor.first)
    assert any_gradient(loss, method.predictor.second)


@pytest.mark.parametrize(("option", "least"), [("grid", 2), ("candidates", 1)])
def test_nonsense_is_refused(option, least):
    with pytest.raises(UserError, match=f"^method abd, {option}: expected at least {least}, found {least - 1}$"):
        small_method("abd", **{option: least - 1})
