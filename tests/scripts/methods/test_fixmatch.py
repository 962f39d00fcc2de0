"""FixMatch and UniMatch: what counts of a pseudo-label, what the views show, and what the loss is made of."""

import numpy as np
import pytest
import torch

from scripts.errors import UserError
from scripts.losses import soft_dice
from scripts.methods.parts import strong_views
from tests import numpy_losses
from tests.method_cases import batch, fixed_normalisation, gradient, small_method

PLAIN = {"jitter": 0.0, "blur": 0.0, "cutmix": 0.0}
both = pytest.mark.parametrize("name", ["fixmatch", "unimatch"])


def matching(name, **options):
    """With normalisation that does not depend on the batch, and probabilities on both sides of 0.3."""
    method = fixed_normalisation(small_method(name, **options))
    with torch.no_grad():
        method.predictor.decoder.out.weight.mul_(3.0)
    return method


def own_dice(method, image_u, absent="skip"):
    """D of the network's softmax against its own argmax."""
    p = numpy_losses.softmax(method.predictor(image_u).detach().double().numpy())
    return numpy_losses.dice(p, p.argmax(1), absent=absent)


@pytest.mark.parametrize("absent", ["skip", "smooth"])
def test_without_changes_every_view_is_the_plain_image(absent):
    image, label, image_u = batch()
    for name, extra, total in (("fixmatch", {}, 1.0), ("unimatch", {"dropout": 0.0}, 1.0)):
        method = matching(name, threshold=0.0, absent=absent, unsup_weight=0.7, **PLAIN, **extra)
        losses = method(image, label, image_u, 0.2)
        own = own_dice(method, image_u, absent)
        supervised = numpy_losses.segmentation(method.predictor(image).detach().double().numpy(), label.numpy())
        if absent == "skip":  # all classes are present in the labels
            assert losses["loss_supervised"].item() == pytest.approx(supervised, rel=1e-5)
        assert losses["loss_unlabelled"].item() == pytest.approx(total * own, rel=1e-5)
        assert losses["loss"].item() == pytest.approx(losses["loss_supervised"].item() + 0.7 * own, rel=1e-5)
        if name == "unimatch":
            assert losses["loss_strong"].item() == pytest.approx(2 * own, rel=1e-5)
            assert losses["loss_features"].item() == pytest.approx(own, rel=1e-5)


@both
@pytest.mark.parametrize("absent", ["skip", "smooth"])
@pytest.mark.parametrize("loss", ["dice", "cross_entropy"])
def test_where_nothing_is_sure_the_loss_is_zero_and_has_no_gradient(name, absent, loss):
    method = matching(name, threshold=1.01, absent=absent, loss=loss)
    unlabelled = method(*batch(), 1.0)["loss_unlabelled"]
    assert unlabelled.item() == 0.0
    assert not gradient(unlabelled, method.predictor).any()


@both
@pytest.mark.parametrize("loss", ["dice", "cross_entropy"])
def test_voxels_that_are_not_sure_have_no_gradient(name, loss):
    method = matching(name, loss=loss)
    logits = torch.randn(2, 6, 8, 8, requires_grad=True)
    sure = torch.rand(2, 8, 8) < 0.5
    method.loss_where_sure(logits, logits.argmax(1), sure).backward()
    moved = logits.grad.abs().sum(1) > 0
    assert torch.equal(moved, sure)


def test_cross_entropy_is_divided_by_all_voxels():
    method = matching("fixmatch", loss="cross_entropy")
    logits = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, np.log(3.0)]]).view(1, 2, 3)
    found = method.loss_where_sure(logits, torch.ones(1, 3).long(), torch.tensor([[True, False, True]]))
    assert found.item() == pytest.approx((np.log(2) + np.log(4 / 3)) / 3)  # the one in the middle adds 0, and counts


@both
def test_pseudo_label_and_confidence_are_those_of_the_plain_image(name, monkeypatch):
    method, seen = matching(name, threshold=0.3), []
    monkeypatch.setattr(method, "consistency", lambda *given: seen.append(given) or {"loss_unlabelled": torch.ones(())})
    image, label, image_u = batch()
    method(image, label, image_u, 1.0)
    ((shown, features, pseudo, sure),) = seen
    p = numpy_losses.softmax(method.predictor(image_u).detach().double().numpy())
    assert torch.equal(shown, image_u)
    assert [tuple(f.shape[2:]) for f in features] == [(32 // 2**level,) * 2 for level in range(5)]
    assert np.array_equal(pseudo.numpy(), p.argmax(1))
    assert np.array_equal(sure.numpy(), p.max(1) >= 0.3)
    assert 0.01 < sure.float().mean() < 0.99


@both
def test_a_box_shows_the_next_images_view_and_takes_its_pseudo_label_and_confidence(name, monkeypatch):
    method = matching(name, **{**PLAIN, "cutmix": 1.0})
    box = torch.zeros(3, 32, 32, dtype=torch.bool)
    box[:, 4:10, 6:20] = True
    monkeypatch.setattr("scripts.methods.fixmatch.boxes_by_share", lambda *given: box)
    image_u = torch.randn(3, 1, 32, 32)
    pseudo, sure = torch.arange(3).view(3, 1, 1).expand(3, 32, 32), torch.rand(3, 32, 32) < 0.5
    found = method.strong_view(image_u, pseudo, sure)
    for values, mixed in zip((image_u[:, 0], pseudo, sure), (found[0][:, 0], *found[1:]), strict=True):
        for i in range(3):
            torch.testing.assert_close(mixed[i][box[i]], values[(i + 1) % 3][box[i]])
            torch.testing.assert_close(mixed[i][~box[i]], values[i][~box[i]])
    box[:] = True
    full = method.strong_view(image_u, pseudo, sure)
    torch.testing.assert_close(full, tuple(values.roll(-1, 0) for values in (image_u, pseudo, sure)))


def test_some_images_are_changed_by_each_part_of_a_view():
    image_u, pseudo = torch.rand(200, 1, 16, 16), torch.zeros(200, 16, 16, dtype=torch.long)
    torch.manual_seed(0)
    shares = {}
    for part, value in {"jitter": 0.5, "blur": 2.0, "cutmix": 0.5}.items():
        method = small_method("fixmatch", **{**PLAIN, part: value})
        view, *_ = method.strong_view(image_u, pseudo, pseudo > 0)
        shares[part] = ((view - image_u).abs() > 1e-6).flatten(1).any(1).float().mean().item()
    assert shares == pytest.approx({"jitter": 0.8, "blur": 0.5, "cutmix": 0.5}, abs=0.1)


def test_a_single_unlabelled_image_has_nothing_to_be_mixed_with():
    method = matching("fixmatch", **{**PLAIN, "cutmix": 1.0})
    image_u, pseudo = torch.randn(1, 1, 32, 32), torch.randint(0, 6, (1, 32, 32))
    view, label, _ = method.strong_view(image_u, pseudo, pseudo > 0)
    torch.testing.assert_close(view, image_u)
    assert torch.equal(label, pseudo)


def test_features_lose_whole_channels_and_the_others_grow():
    method, given = matching("unimatch", threshold=0.0), []
    method.predictor.decoder.register_forward_pre_hook(lambda module, args: given.append(args[0]))
    image, label, image_u = batch()
    method(image, label, image_u, 1.0)
    plain, _, disturbed = given  # of all images, of the strong views, and without channels
    kept = 0
    for features, dropped in zip(plain, disturbed, strict=True):
        channels = (dropped != 0).flatten(2).any(2)
        torch.testing.assert_close(dropped, 2.0 * features[2:] * channels[..., None, None])
        kept += channels.float().mean().item() / 5
    assert 0.3 < kept < 0.7


def test_both_strong_views_are_drawn_anew_and_pass_the_network_together():
    method, seen = small_method("unimatch"), []
    method.predictor.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    method(*batch(), 1.0)
    (views,) = seen
    assert len(views) == 4
    assert not torch.equal(views[:2], views[2:])


@both
def test_pseudo_labels_are_constants(name):
    image, label, image_u = batch()
    method = matching(name, threshold=0.0, **PLAIN, **({"dropout": 0.0} if name == "unimatch" else {}))
    p = method.predictor(image_u).softmax(1)
    expected = soft_dice(p, p.argmax(1))
    found = method(image, label, image_u, 1.0)["loss_unlabelled"]
    torch.testing.assert_close(gradient(found, method.predictor), gradient(expected, method.predictor))


@both
def test_normalisation_remembers_plain_images_only(name):
    method = small_method(name)
    norm = method.predictor.encoder.levels[0][0][0][1]
    norm.momentum = 1.0
    seen = []
    norm.register_forward_pre_hook(lambda module, args: seen.append(args[0].mean((0, 2, 3))))
    method(*batch(), 0.5)
    assert len(seen) == 2
    torch.testing.assert_close(norm.running_mean, seen[0])
    assert all(m.num_batches_tracked == 1 for m in method.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_unknown_loss_is_refused_with_the_nearest_known_one():
    with pytest.raises(UserError, match=r"^loss: expected a known value, found 'dise'; did you mean 'dice'\?$"):
        small_method("fixmatch", loss="dise")


def test_views_are_as_exact_as_the_images_under_autocast(monkeypatch):
    method = small_method("fixmatch", jitter=0.0, cutmix=0.0)
    monkeypatch.setattr(strong_views, "picked", lambda rate, like: torch.ones(len(like), 1, 1, 1, dtype=torch.bool))
    image_u, pseudo = torch.rand(2, 1, 16, 16), torch.zeros(2, 16, 16, dtype=torch.long)
    torch.manual_seed(5)
    expected, *_ = method.strong_view(image_u, pseudo, pseudo > 0)
    torch.manual_seed(5)
    with torch.autocast("cpu", torch.bfloat16):
        found, *_ = method.strong_view(image_u, pseudo, pseudo > 0)
    assert torch.equal(found, expected)
