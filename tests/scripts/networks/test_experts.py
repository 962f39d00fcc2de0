"""As many experts as there are groups, from one to five."""

import itertools

import pytest
import torch

from scripts.checkpoints import load_state
from scripts.errors import UserError
from scripts.group_names import GROUP_NAMES
from scripts.networks import DCANet
from scripts.networks.experts import EXPERTS

COUNTS = sorted(GROUP_NAMES)


def network(style="unet", count=None, classes=6, **options):
    """A DCANet whose groups have a class each, but the last one, which has the others."""
    net = DCANet(style, 2 if style == "unet" else 3, 1, classes, 2, **options).eval()
    if count is not None:
        net.set_groups([[c] for c in range(1, count)] + [list(range(count, classes + 1))])
    return net


def image(style="unet"):
    return torch.rand(1, 1, *[32] * (2 if style == "unet" else 3))


@pytest.mark.parametrize("style", ["unet", "vnet"])
@pytest.mark.parametrize("count", COUNTS)
def test_there_are_as_many_experts_as_groups_and_d_a_joins_them(style, count):
    net = network(style, count)
    assert len(net.experts) == count
    _, maps = net.decode(image(style))
    assert {len(level) for level in maps} == {count}
    assert {dfam.attention(level).shape[1] for dfam, level in zip(net.aggregation.dfams, maps, strict=True)} == {count}
    assert all(logits.shape[1] == 7 for logits in net.predictions(image(style)))


@pytest.mark.parametrize("style", ["unet", "vnet"])
def test_experts_grow_from_head_to_tail(style):
    convolutions = [sum(convs) for convs, _ in (EXPERTS[style][name] for name in GROUP_NAMES[5])]
    assert all(a < b for a, b in itertools.pairwise(convolutions))
    assert [dilation for _, dilation in (EXPERTS[style][name] for name in GROUP_NAMES[5])] == [2, 1, 1, 1, 1]


def test_groups_of_the_same_number_leave_the_weights():
    net = network()
    before = [weight.clone() for weight in net.parameters()]
    net.set_groups([[6], [5, 4], [3, 2, 1]])
    assert all(map(torch.equal, before, net.parameters()))


@pytest.mark.parametrize(
    "options", [{}, {"expert_channels": "own", "expert_levels": 3}, {"residual": True, "dfam": "none"}]
)
@pytest.mark.parametrize("count", COUNTS)
@torch.no_grad()
def test_state_dict_makes_the_experts_it_was_trained_with(count, options):
    trained, loaded, checked = network(count=count, **options), network(**options), network(**options)
    loaded.load_state_dict(trained.state_dict())
    load_state(checked, trained.state_dict(), "model.pt")
    for net in (loaded, checked):
        assert net.groups == trained.groups
        assert all(
            torch.equal(a, b)
            for a, b in zip(
                net.predictions(torch.ones_like(image())), trained.predictions(torch.ones_like(image())), strict=True
            )
        )


@pytest.mark.parametrize("owner", [[0, 2, 2, 2, 2, 2], [1] * 6, [-1, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5]])
def test_owners_that_no_groups_have_are_told_with_the_file(owner):
    state = network().state_dict() | {"owner": torch.tensor(owner)}
    with pytest.raises(UserError, match=r"^model\.pt: groups: expected one to 5 groups"):
        load_state(network(), state, "model.pt")


def test_weights_of_another_number_of_classes_are_told_as_before():
    with pytest.raises(UserError, match="use the `method`, `width` and number of classes"):
        load_state(network(), network(classes=4).state_dict(), "model.pt")


@pytest.mark.parametrize(("layout", "style"), [(torch.channels_last, "unet"), (torch.channels_last_3d, "vnet")])
def test_new_experts_lie_in_memory_as_the_encoder_does(layout, style):
    for laid in (True, False):
        net = network(style).to(memory_format=layout if laid else torch.contiguous_format)
        net.set_groups([[1, 2, 3, 4, 5, 6]])
        weights = [w for w in net.experts.parameters() if w.dim() > 3 and min(w.shape[:2]) > 1 and w.shape[-1] > 1]
        assert weights
        assert {w.is_contiguous(memory_format=layout) for w in weights} == {laid}


def test_new_experts_are_in_the_mode_of_the_network():
    for training in (True, False):
        net = network().train(training)
        net.set_groups([[1, 2, 3, 4, 5, 6]])
        assert {module.training for module in net.modules()} == {training}


@pytest.mark.parametrize("count", [1, 5])
@torch.no_grad()
def test_torchscript_has_the_same_experts(count):
    net = network(count=count, prediction="mean")
    torch.testing.assert_close(
        torch.jit.script(net)(torch.ones_like(image())), net(torch.ones_like(image())), atol=1e-4, rtol=1e-4
    )
