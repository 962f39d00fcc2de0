"""Where DCA's gradients go, and what it minimises."""

import math

import pytest
import torch

from scripts.errors import UserError
from scripts.losses import segmentation_loss
from scripts.methods.base import RAMPS
from scripts.methods.dca import DCA
from scripts.methods.parts.strong_views import change_intensities
from scripts.networks import DCANet
from tests.dca_cases import GROUPS, dca
from tests.method_cases import batch, gradient

# The options of DCA that the tests turn, by what they mean here.
NO_LABELLED_AGGREGATION = {"supervise_aggregation": False}
STOP_AT_AGGREGATION = {"unsup_gradient": "aggregation"}
STOP_AT_EXPERTS = {"unsup_gradient": "encoder"}
CONSTANT_RAMP = {"ramp": "constant"}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def labels_except(expert, label):
    """The label with the classes of all other groups exchanged, turned into background, or drawn over background."""
    foreign = [c for c in range(1, 6) if c not in GROUPS[expert]]
    table = {c: c for c in range(6)} | dict(zip(foreign, [*foreign[1:], 0], strict=True))
    other = torch.tensor([table[c] for c in range(6)])[label]
    return torch.where((label == 0) & (torch.arange(label.shape[-1]) < 8), foreign[0], other)


# Where gradients go


@pytest.mark.parametrize("expert_dice", ["own", "all"])
@pytest.mark.parametrize("expert", [0, 1, 2])
def test_no_expert_receives_gradient_from_another_groups_classes(expert, expert_dice):
    method = dca(expert_dice=expert_dice)
    image, label, image_u = batch()
    other = labels_except(expert, label)
    assert (other != label).float().mean() > 0.4

    def of_experts(y):
        loss = method(image, y, image_u, 1.0)["loss"]
        return [gradient(loss, e) for e in method.predictor.experts]

    before, after = of_experts(label), of_experts(other)
    assert before[expert].any()
    assert [torch.equal(b, a) for b, a in zip(before, after, strict=True)] == [e == expert for e in range(3)]


def test_without_label_split_every_expert_learns_every_class():
    method = dca(label_split=False, network={"stitching": "mean"})
    image, label, image_u = batch()
    before, after = (
        gradient(method(image, y, image_u, 1.0)["loss"], method.predictor.experts[0])
        for y in (label, labels_except(0, label))
    )
    assert not torch.equal(before, after)


@pytest.mark.parametrize("reach", [STOP_AT_EXPERTS, STOP_AT_AGGREGATION])
def test_no_term_of_the_aggregation_reaches_an_expert(reach):
    method = dca(**reach)
    losses = method(*batch(), 1.0)
    parameters = list(method.predictor.experts.parameters())
    for term in ("loss_unlabelled", "loss_aggregation"):
        grads = torch.autograd.grad(losses[term], parameters, retain_graph=True, allow_unused=True)
        assert grads == (None,) * len(parameters)
        assert gradient(losses[term], method.predictor.aggregation).any()


def test_weight_of_the_unlabelled_term_changes_no_gradient_of_the_experts():
    data = batch()
    light, heavy = dca(unsup_weight=0.0, **CONSTANT_RAMP), dca(unsup_weight=10.0, **CONSTANT_RAMP)
    heavy.load_state_dict(light.state_dict())
    before, after = (gradient(m(*data, 1.0)["loss"], m.predictor.experts) for m in (light, heavy))
    assert torch.equal(before, after)


def test_unlabelled_term_reaches_the_encoder_where_asked():
    method = dca(**STOP_AT_EXPERTS)
    assert gradient(method(*batch(), 1.0)["loss_unlabelled"], method.predictor.encoder).any()


@pytest.mark.parametrize(("batch_norm", "options"), [("fixed", {}), ("train", NO_LABELLED_AGGREGATION)])
def test_unlabelled_term_stops_before_the_encoder_where_asked(batch_norm, options):
    method = dca(batch_norm, **STOP_AT_AGGREGATION, **options)
    losses = method(*batch(), 1.0)
    assert not gradient(losses["loss_unlabelled"], method.predictor.encoder).any()
    assert gradient(losses["loss_experts"], method.predictor.encoder).any()


def test_labelled_term_of_the_aggregation_still_reaches_the_encoder():
    method = dca(**STOP_AT_AGGREGATION)
    assert gradient(method(*batch(), 1.0)["loss_aggregation"], method.predictor.encoder).any()


# What is minimised


@pytest.mark.parametrize(("pseudo_label", "prediction"), [("stitched", "stitched"), ("mean", "mean")])
def test_pseudo_label_is_a_constant_that_the_network_predicts(pseudo_label, prediction):
    method = dca("fixed", pseudo_label=pseudo_label, **STOP_AT_EXPERTS)
    image, label, image_u = batch()
    net = method.predictor
    loss = method(image, label, image_u, 1.0)["loss_unlabelled"]
    net.prediction = prediction
    target = net(image_u).argmax(1).detach()
    assert len(target.unique()) > 1
    features = net.encoder(image_u)
    maps = [[m.detach() for m in level] for level in net.decode_experts(features)]
    expected = segmentation_loss(net.aggregation(features, maps), target)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient(loss, net), gradient(expected, net))


def only(*classes):
    return torch.isin(torch.arange(6), torch.tensor(classes))


def test_experts_minimise_the_loss_on_the_labels_of_their_groups():
    method = dca("fixed")
    image, label, _ = batch()
    expected = 0.0
    for expert, group in zip(method.predictor.experts, GROUPS, strict=True):
        target = torch.tensor([c if c in group else 0 for c in range(6)])[label]
        expected += segmentation_loss(expert(method.predictor.encoder(image))[-1], target, only(0, *group)).item()
    assert method(image, label, None, 0.0)["loss_experts"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("ramp", sorted(RAMPS))
@pytest.mark.parametrize("supervised", [True, False])
def test_loss_is_the_weighted_sum_of_its_terms(ramp, supervised):
    method = dca(unsup_weight=3.0, ramp=ramp, ramp_length=0.5, supervise_aggregation=supervised)
    losses = method(*batch(), 0.25)
    assert ("loss_aggregation" in losses) == supervised
    expected = losses["loss_experts"] + losses.get("loss_aggregation", 0.0)
    expected = (
        expected + 3.0 * {"sigmoid": math.exp(-1.25), "linear": 0.5, "constant": 1.0}[ramp] * losses["loss_unlabelled"]
    )
    torch.testing.assert_close(losses["loss"], expected)


def test_experts_minimise_the_loss_on_the_pseudo_labels_of_their_groups_where_asked():
    image, label, image_u = batch()
    plain, method = dca("fixed"), dca("fixed", unsup_experts=True)
    method.load_state_dict(plain.state_dict())
    net, target = method.predictor, method._label_whole(image_u, image_u)
    assert all(set(target.unique().tolist()) & set(group) for group in GROUPS)
    expected = plain(image, label, image_u, 1.0)["loss_unlabelled"]
    for expert, group in zip(net.experts, GROUPS, strict=True):
        own = torch.tensor([c if c in group else 0 for c in range(6)])[target]
        expected = expected + segmentation_loss(expert(net.encoder(image_u))[-1], own, only(0, *group))
    losses = method(image, label, image_u, 1.0)
    torch.testing.assert_close(losses["loss_unlabelled"], expected)
    assert all(gradient(losses["loss_unlabelled"], expert).any() for expert in net.experts)
    torch.testing.assert_close(losses["loss_experts"], plain(image, label, image_u, 1.0)["loss_experts"])


def test_without_unlabelled_images_dca_learns_from_the_labels():
    method = dca("fixed")
    image, label, image_u = batch()
    alone, both = method(image, label, None, 1.0), method(image, label, image_u, 1.0)
    assert "loss_unlabelled" not in alone
    torch.testing.assert_close(alone["loss"], both["loss_experts"] + both["loss_aggregation"])
    assert all(gradient(alone["loss"], m).any() for m in (method.predictor.encoder, method.predictor.aggregation))


# 48: the trainer does not take bfloat16 up to 32, where torch reads memory that nobody wrote.
@pytest.mark.parametrize(("style", "spatial"), [("unet", (32, 32)), ("vnet", (48, 16, 16)), ("unet", (21, 40))])
@pytest.mark.parametrize("options", [{}, DCA.published])
def test_a_step_under_autocast_is_finite_in_2d_and_3d(style, spatial, options):
    method = dca(style=style, spatial_dims=len(spatial), **options)
    with torch.autocast("cpu", torch.bfloat16):
        losses = method(*batch(spatial), 0.5)
    losses["loss"].backward()
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


@pytest.mark.parametrize("option", ["expert_dice", "ramp", "unsup_gradient", "pseudo_label"])
def test_unknown_choice_is_named(option):
    with pytest.raises(UserError, match=f"{option}: expected a known value, found 'nonsense'; choose one of"):
        dca(**{option: "nonsense"})


# The teacher, and mixed images


def test_teacher_makes_the_pseudo_labels_and_is_not_trained():
    method = dca(batch_norm="fixed", teacher_decay=0.9)
    assert not any(p.requires_grad for p in method.teacher.parameters())
    image, label, image_u = batch()
    before = method(image, label, image_u, 1.0)["loss_unlabelled"]
    with torch.no_grad():
        method.teacher.module.aggregation.out.bias += torch.tensor([0.0, 100, 0, 0, 0, 0])
    after = method(image, label, image_u, 1.0)
    method.predictor.eval()
    aggregated = method.predictor(image_u)
    target = torch.ones(2, 32, 32, dtype=torch.long)  # the mean with a D_A that is sure of class 1
    assert after["loss_unlabelled"] != before
    torch.testing.assert_close(after["loss_unlabelled"], segmentation_loss(aggregated, target))


def test_teacher_knows_the_groups_from_the_first_step_on(monkeypatch):
    monkeypatch.setattr("scripts.methods.dca.class_sizes", lambda *_: torch.tensor([10.0, 1e6, 12.0, 1e3, 1.1e6]))
    method = DCA(DCANet("unet", 2, 1, 5, 2), teacher_decay=0.9)
    before = method.teacher.module.owner.tolist()
    method.prepare([])
    assert method.teacher.module.owner.tolist() == method.predictor.owner.tolist() == [2, 0, 2, 1, 0] != before


def test_teacher_follows_the_network_after_each_step():
    method = dca(teacher_decay=0.9)
    weights = [p.clone() for p in method.predictor.parameters()]
    method.after_step(0.0)
    with torch.no_grad():
        for p in method.predictor.parameters():
            p += 1.0
    method.after_step(0.1)
    for mean, start in zip(method.teacher.module.parameters(), weights, strict=True):
        torch.testing.assert_close(mean, start + 0.5)


def test_mixed_images_keep_the_labels_of_their_parts(monkeypatch):
    method = dca(batch_norm="fixed", mix="cutmix")
    image, label, image_u = batch()
    seen = []
    monkeypatch.setattr(
        method.predictor.encoder, "forward", lambda x, real=method.predictor.encoder.forward: seen.append(x) or real(x)
    )
    monkeypatch.setattr(
        "scripts.methods.dca.random_boxes", lambda n, size, device: torch.arange(size[1]).lt(12).expand(n, *size)
    )
    losses = method(image, label, image_u, 1.0)
    whole, joint = seen
    assert torch.equal(whole, image_u)
    mixed = joint[2:]
    assert torch.equal(mixed[..., :12], image_u.flip(0)[..., :12])
    assert torch.equal(mixed[..., 12:], image_u[..., 12:])
    labels = method._label_whole(image_u, image_u)
    target = torch.cat([labels.flip(0)[..., :12], labels[..., 12:]], dim=-1)
    torch.testing.assert_close(losses["loss_unlabelled"], segmentation_loss(method.predictor(mixed), target))


def test_copy_paste_joins_unlabelled_images_and_their_pseudo_labels_with_labelled_ones(monkeypatch):
    method = dca(batch_norm="fixed", mix="copy_paste")
    image, label, image_u = batch(labelled=1, unlabelled=3)
    left = torch.arange(32).lt(12).expand(3, 32, 32)
    monkeypatch.setattr("scripts.methods.parts.mixing.random_boxes", lambda n, size, device: left)
    monkeypatch.setattr("scripts.methods.parts.mixing.swap_at_random", lambda mask: mask)
    pseudo_label = method._label_whole(image_u, image_u)
    mixed, target = method._mixed(image_u, pseudo_label, image, label)
    for i in range(3):
        assert torch.equal(mixed[i, ..., :12], image[0, ..., :12])
        assert torch.equal(target[i, :, :12], label[0, :, :12])
    assert torch.equal(mixed[..., 12:], image_u[..., 12:])
    assert torch.equal(target[..., 12:], pseudo_label[..., 12:])


def test_jitter_changes_what_the_network_sees_and_not_what_its_teacher_sees():
    image, label, image_u = batch()
    method = dca("fixed", teacher_decay=0.9, jitter=0.4)
    target = method._label_whole(image_u, image_u)
    torch.manual_seed(3)
    seen = change_intensities(torch.cat([image, image_u]), 0.4)
    torch.manual_seed(3)
    losses = method(image, label, image_u, 1.0)
    logits = method.predictor(seen)
    torch.testing.assert_close(losses["loss_aggregation"], segmentation_loss(logits[:2], label))
    torch.testing.assert_close(losses["loss_unlabelled"], segmentation_loss(logits[2:], target))


@pytest.mark.parametrize("options", [{}, {"mix": "cutmix"}, {"teacher_decay": 0.0}, {"mix": "none"}])
def test_a_step_with_teacher_and_mixing_is_finite_at_sizes_that_need_padding(options):
    method = DCA(DCANet("unet", 2, 1, 5, 2), **options)
    assert torch.isfinite(method(*batch((30, 19)), 0.5)["loss"])
