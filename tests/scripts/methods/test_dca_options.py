"""Options of DCA beyond the paper: cheaper experts, their own rule for absent classes, the teacher's statistics."""

import pytest
import torch

from scripts.losses import segmentation_loss
from tests.dca_cases import GROUPS, dca
from tests.method_cases import batch, gradient


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_experts_of_own_channels_have_the_loss_and_the_gradient_of_masked_channels():
    image, label, _ = batch()
    method = dca(batch_norm="fixed", network={"expert_channels": "own"})
    net = method.predictor
    maps = net.decode(image)[1]
    masked = torch.zeros(())
    for expert, logits in enumerate(net.expert_logits(maps[-1])):
        own = torch.tensor([True] + [c in GROUPS[expert] for c in range(1, 6)])
        masked = masked + segmentation_loss(logits, torch.where(own[label], label, 0), own)
    found = method._expert_loss(net.expert_outputs(maps, len(image)), label)
    torch.testing.assert_close(found, masked)
    torch.testing.assert_close(gradient(found, net), gradient(masked, net))


@pytest.mark.parametrize(("style", "spatial_dims"), [("unet", 2), ("vnet", 3)])
def test_experts_of_three_levels_learn_from_every_second_voxel(style, spatial_dims):
    method = dca("fixed", style, spatial_dims, {"expert_levels": 3, "dfam": "none"})
    image, label, _ = batch([32] * spatial_dims)
    net = method.predictor
    maps = net.decode(image)[1]
    half = label[(slice(None), *[slice(0, None, 2)] * spatial_dims)]
    losses = []
    for expert, logits in enumerate(net.expert_logits(maps[-1])):
        assert tuple(logits.shape) == (2, 6, *[16] * spatial_dims)
        own = torch.tensor([True] + [c in GROUPS[expert] for c in range(1, 6)])
        losses.append(segmentation_loss(logits, torch.where(own[half], half, 0), own))
    torch.testing.assert_close(method(image, label, None, 0.0)["loss_experts"], sum(losses))


def test_experts_have_a_rule_of_their_own_for_absent_classes():
    image, label, _ = batch()
    label = label.where(label != 2, 0)  # the head's second class is absent
    rules = {"absent": "skip"}, {"absent": "skip", "expert_absent": "probability"}, {"absent": "probability"}
    plain, experts_only, all_alike = (
        dca(batch_norm="fixed", **rule)(image, label, None, 0.0) for rule in rules if torch.manual_seed(0)
    )
    assert plain["loss_aggregation"] == experts_only["loss_aggregation"] != all_alike["loss_aggregation"]
    assert plain["loss_experts"] != experts_only["loss_experts"] == all_alike["loss_experts"]


def test_teacher_normalises_with_the_statistics_that_are_asked_for():
    image, _, image_u = batch()
    labels = {}
    for statistics in ("batch", "joint", "running"):
        torch.manual_seed(0)
        method = dca(teacher_decay=0.9, teacher_statistics=statistics)
        shown = []
        method.teacher.module.encoder.register_forward_pre_hook(
            lambda module, args, shown=shown: shown.append((len(args[0]), module.training))
        )
        labels[statistics] = method._label_whole(image_u, 5.0 + image)
        assert shown == [{"batch": (2, True), "joint": (4, True), "running": (2, False)}[statistics]]
        assert method.teacher.module.training  # for the steps to come
    torch.manual_seed(0)
    whole = dca().predictor.predictions(torch.cat([5.0 + image, image_u]))
    aggregated, stitched = (logits[2:].softmax(1) for logits in whole)
    assert torch.equal(labels["joint"], (aggregated + stitched).argmax(1))
    assert not torch.equal(labels["batch"], labels["joint"])
    assert not torch.equal(labels["batch"], labels["running"])
