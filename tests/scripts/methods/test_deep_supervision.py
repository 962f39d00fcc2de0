"""A loss at several resolutions, and the networks' outputs for it."""

import pytest
import torch

from scripts.methods.dca import DCA
from scripts.methods.mean_teacher_cp import MeanTeacherCopyPaste
from scripts.methods.parts.deep_supervision import at_all_levels
from scripts.methods.supervised import Supervised
from scripts.networks import DCANet, SegmentationNet
from tests.method_cases import batch

GROUPS = [[1, 2], [3, 4], [5]]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def plain(deep, style="unet", spatial_dims=2):
    return SegmentationNet(style, spatial_dims, 1, 5, 2, dropout=0.0, deep_supervision=deep)


def experts(deep, **options):
    net = DCANet("unet", 2, 1, 5, 2, dropout=0.0, deep_supervision=deep, **options)
    net.set_groups(GROUPS)
    return net


# The loss


def test_each_output_weighs_half_of_the_finer_one():
    outputs = [torch.full((2, 3, size, size), value) for size, value in ((8, 7.0), (4, 14.0), (2, 28.0))]
    # (4 * 7 + 2 * 14 + 1 * 28) / 7
    assert at_all_levels(lambda logits, ids: logits.mean(), outputs, torch.zeros(2, 8, 8)) == pytest.approx(12.0)


def test_one_output_has_the_loss_itself():
    assert at_all_levels(lambda logits, ids: logits.sum(), [torch.ones(1, 2, 3, 3)], torch.zeros(1, 3, 3)) == 18.0


def test_coarser_outputs_see_every_second_and_every_fourth_voxel_and_no_padding():
    label = torch.arange(2 * 6 * 5).view(2, 6, 5)
    seen = []

    def loss(logits, ids):
        seen.append((tuple(logits.shape), ids))
        return logits.mean()

    at_all_levels(loss, [torch.rand(2, 3, 16, 16), torch.rand(2, 3, 8, 8), torch.rand(2, 3, 4, 4)], label)
    assert [shape for shape, _ in seen] == [(2, 3, 6, 5), (2, 3, 3, 3), (2, 3, 2, 2)]
    assert seen[1][1][0].tolist() == [[0, 2, 4], [10, 12, 14], [20, 22, 24]]
    assert seen[2][1][0].tolist() == [[0, 4], [20, 24]]


# The networks


@pytest.mark.parametrize(("style", "spatial_dims"), [("unet", 2), ("vnet", 3)])
def test_outputs_begin_with_the_prediction_and_halve_down_to_the_second_deepest_level(style, spatial_dims):
    net = plain(True, style, spatial_dims).eval()
    image = torch.rand(1, 1, *[30] * spatial_dims)  # padded to 32
    finest, *coarse = net.outputs(image)
    torch.testing.assert_close(finest, net(image))
    assert [tuple(z.shape) for z in coarse] == [(1, 6, *[size] * spatial_dims) for size in (16, 8)]


def test_without_deep_supervision_there_is_one_output_and_no_parameter_more():
    net = plain(False)
    assert len(net.outputs(torch.rand(2, 1, 32, 32))) == 1
    assert [key for key in net.state_dict() if "coarse" in key] == []
    coarse = {key for key in plain(True).state_dict() if "coarse" in key}
    assert coarse == {f"decoder.coarse_outs.{level}.{kind}" for level in (0, 1) for kind in ("weight", "bias")}


@pytest.mark.parametrize("residual", [False, True])
def test_the_outputs_of_d_a_begin_with_what_it_predicts(residual):
    net = experts(True, residual=residual).eval()
    features, maps = net.decode(torch.rand(1, 1, 32, 32))
    finest, *coarse = net.aggregated_outputs(features, maps)
    torch.testing.assert_close(finest, net.aggregate(features, maps))
    assert [tuple(z.shape) for z in coarse] == [(1, 6, 16, 16), (1, 6, 8, 8)]


def test_experts_of_own_channels_put_out_only_these_at_every_resolution():
    net = experts(True, expert_channels="own").eval()
    image = torch.rand(1, 1, 32, 32)
    maps = net.decode(image)[1]
    masked = net.expert_logits(maps[-1]).softmax(2)
    for expert, (group, outputs) in enumerate(zip(GROUPS, net.expert_outputs(maps, len(image)), strict=True)):
        assert [tuple(z.shape) for z in outputs] == [(1, 1 + len(group), size, size) for size in (32, 16, 8)]
        torch.testing.assert_close(outputs[0].softmax(1), masked[expert][:, [0, *group]])


# The methods


@pytest.mark.parametrize(
    ("method", "decoders"),
    [
        (lambda: Supervised(plain(True)), ["decoder"]),
        (lambda: MeanTeacherCopyPaste(plain(True)), ["decoder"]),
        (lambda: DCA(experts(True)), ["aggregation", "experts.0", "experts.1", "experts.2"]),
    ],
)
def test_every_coarse_output_learns(method, decoders):
    made = method().train()
    made.enter(0.5)
    made(*batch(), 0.5)["loss"].backward()
    for decoder in decoders:
        outs = made.predictor.get_submodule(decoder).coarse_outs
        assert [bool(out.weight.grad.abs().sum() > 0) for out in outs] == [True, True]


def test_the_loss_of_labels_only_is_that_of_its_three_outputs():
    method = Supervised(plain(True)).eval()
    image, label, _ = batch()
    outputs = method.predictor.outputs(image)
    losses = [method._loss(logits, label[:, :: 2**level, :: 2**level]) for level, logits in enumerate(outputs)]
    expected = (4 * losses[0] + 2 * losses[1] + losses[2]) / 7
    assert float(method(image, label, None, 0.5)["loss"].detach()) == pytest.approx(float(expected.detach()), rel=1e-6)


def test_in_experts_the_foreign_classes_are_background_at_every_resolution():
    method = DCA(experts(True), teacher_decay=0.0, mix="none").eval()
    image, label, _ = batch()
    maps = method.predictor.decode(image)[1]
    outputs = method.predictor.expert_outputs(maps, len(image))
    swapped = torch.tensor([0, 1, 2, 4, 3, 5])[label]  # classes of the medium expert change places
    gradients = []
    for ids in (label, swapped):
        logits = [[z.detach().requires_grad_() for z in levels] for levels in outputs]
        method._expert_loss(logits, ids).backward()
        gradients.append([[z.grad for z in levels] for levels in logits])
    for expert, (before, after) in enumerate(zip(*gradients, strict=True)):
        assert [torch.equal(b, a) for b, a in zip(before, after, strict=True)] == [expert != 1] * 3
