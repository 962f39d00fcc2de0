import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from scripts.errors import UserError
from scripts.networks import DCANet, SegmentationNet, stitch
from scripts.networks.aggregation import DFAM
from scripts.networks.blocks import pad_to_multiple
from scripts.networks.stitching import STITCHING_RULES

STYLES = [("vnet", 3), ("unet", 2), ("vnet", 2), ("unet", 3)]
# Convolutions per level (deepest first) and dilation, from the description of the method; head, medium, tail.
PUBLISHED = {
    "vnet": [((2, 2, 1, 1), 2), ((3, 3, 2, 1), 1), ((4, 4, 3, 2), 1)],
    "unet": [((1, 1, 1, 1), 2), ((2, 2, 2, 2), 1), ((3, 3, 3, 3), 1)],
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def dca(style="unet", spatial_dims=2, num_classes=3, width=2, **options):
    return DCANet(style, spatial_dims, 1, num_classes, width, **options).eval()


def convolutions(module):
    return [m for m in module.modules() if isinstance(m, nn.modules.conv._ConvNd)]


def millions(*modules):
    """Weights of the convolutions, without biases, in millions."""
    return round(sum(conv.weight.numel() for m in modules for conv in convolutions(m)) / 1e6, 2)


def decoded(net, image):
    """Encoder's features, experts' logits, experts' maps, D_A's logits."""
    features = net.encoder(image)
    maps = net.decode_experts(features)
    return features, net.expert_logits(maps[-1]), maps, net.aggregation(features, maps)


@torch.no_grad()
def predict(net, image):
    return net(image)


# Sizes


def test_vnet_has_the_published_numbers_of_weights():
    with torch.device("meta"):
        net = SegmentationNet("vnet", 3, 1, 13, width=16)
    assert (millions(net), millions(net.encoder), millions(net.decoder)) == (9.44, 7.37, 2.07)


def test_dcanet_has_the_published_numbers_of_weights():
    with torch.device("meta"):
        net = dca("vnet", 3, num_classes=13, width=16)
    assert [millions(expert) for expert in net.experts] == [1.49, 2.07, 2.66]
    assert millions(net.aggregation.dfams) == 1.83
    assert millions(net.aggregation.levels, net.aggregation.out) == 2.07
    assert millions(net) == pytest.approx(17.5, abs=0.05)


@pytest.mark.parametrize(("style", "spatial_dims"), STYLES)
@pytest.mark.parametrize("network", [SegmentationNet, DCANet])
def test_logits_have_the_size_of_any_image(network, style, spatial_dims):
    net = network(style, spatial_dims, 2, 4, 2).eval()
    for size in [(16, 16, 16), (17, 31, 1), (1, 1, 1), (33, 48, 5)]:
        logits = predict(net, torch.randn(2, 2, *size[:spatial_dims]))
        assert logits.shape == (2, 5, *size[:spatial_dims])
        assert logits.isfinite().all()


def test_padding_changes_nothing_where_sizes_are_multiples():
    net, image = dca(), torch.randn(1, 1, 32, 48)
    assert pad_to_multiple(image, 16) is image
    with torch.no_grad():
        assert torch.equal(net(image), decoded(net, image)[-1])


@pytest.mark.parametrize("size", [(19, 40), (16, 7)])
def test_padding_repeats_the_last_voxels(size):
    net, image = dca(), torch.randn(1, 1, *size)
    padded = np.pad(image.numpy(), [(0, 0), (0, 0), *[(0, -n % 16) for n in size]], mode="edge")
    expected = predict(net, torch.from_numpy(padded))[..., : size[0], : size[1]]
    assert torch.equal(predict(net, image), expected)


# Experts


def layout(expert):
    """(3^d convolutions per level, their dilations) of a decoder."""
    levels = [convolutions(level.convs) for level in expert.levels]
    assert all(conv.kernel_size[0] == 3 for level in levels for conv in level)
    return tuple(map(len, levels)), {conv.dilation[0] for level in levels for conv in level}


@pytest.mark.parametrize(("style", "spatial_dims"), [("vnet", 3), ("unet", 2)])
@pytest.mark.parametrize(
    ("experts", "depth_differs", "dilation_differs"),
    [("asymmetric", True, True), ("symmetric", False, False), ("depth", True, False), ("dilation", False, True)],
)
def test_experts_are_as_asymmetric_as_asked(style, spatial_dims, experts, depth_differs, dilation_differs):
    published = PUBLISHED[style]
    medium = published[1]
    assert [layout(expert) for expert in dca(style, spatial_dims, experts=experts).experts] == [
        (convs if depth_differs else medium[0], {dilation if dilation_differs else medium[1]})
        for convs, dilation in published
    ]


@pytest.mark.parametrize(("num_classes", "experts"), [(1, [1]), (2, [0, 2]), (3, [0, 1, 2]), (13, [0, 1, 2])])
def test_few_classes_have_few_experts(num_classes, experts):
    net = dca(num_classes=num_classes)
    assert [layout(expert) for expert in net.experts] == [(c, {d}) for c, d in (PUBLISHED["unet"][e] for e in experts)]
    assert sorted(set(net.owner.tolist())) == list(range(len(experts)))
    image = torch.randn(1, 1, 16, 16)
    _, logits, maps, _ = decoded(net, image)
    assert logits.shape == (len(experts), 1, num_classes + 1, 16, 16)
    for dfam, level in zip(net.aggregation.dfams, maps, strict=True):
        assert dfam.attention(level).shape[1] == len(experts)


# Aggregation


def dfam_reference(dfam, maps):
    """The formula of the method in numpy, for one image and two axes."""

    def mix(conv, x):  # a 1^d convolution
        weight, bias = conv.weight.numpy()[..., 0, 0], conv.bias.numpy()
        return np.einsum("oi,ihw->ohw", weight, x) + bias[:, None, None]

    maps = [m[0].numpy() for m in maps]
    projected = [mix(conv, m) for conv, m in zip(dfam.project, maps, strict=True)]
    wide, _, narrow, _ = dfam.attend
    around = np.pad(np.concatenate(projected), [(0, 0), (1, 1), (1, 1)])
    height, width = maps[0].shape[1:]
    hidden = np.zeros((len(wide.bias), height, width)) + wide.bias.numpy()[:, None, None]
    for i in range(3):
        for j in range(3):
            window = around[:, i : i + height, j : j + width]
            hidden += np.einsum("oi,ihw->ohw", wide.weight.numpy()[..., i, j], window)
    scores = np.exp(mix(narrow, np.maximum(hidden, 0)))
    attention = scores / scores.sum(0)
    return sum(a * m for a, m in zip(attention, projected if dfam.projected else maps, strict=True))


@pytest.mark.parametrize("features", ["raw", "projected"])
@torch.no_grad()
def test_dfam_equals_the_formula(features):
    dfam = DFAM(2, width=3, experts=3, features=features)
    maps = [torch.randn(1, 3, 5, 4) for _ in range(3)]
    np.testing.assert_allclose(dfam(maps)[0].numpy(), dfam_reference(dfam, maps), atol=1e-5)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@torch.no_grad()
def test_attention_sums_to_one_over_the_experts_at_every_voxel(spatial_dims):
    dfam = DFAM(spatial_dims, width=3, experts=3)
    attention = dfam.attention([torch.randn(2, 3, *[4] * spatial_dims) * 10 for _ in range(3)])
    assert attention.shape == (2, 3, *[4] * spatial_dims)
    assert (attention >= 0).all()
    torch.testing.assert_close(attention.sum(1), torch.ones(2, *[4] * spatial_dims))
    assert attention.std(dim=(2, 3)).min() > 0


@pytest.mark.parametrize("dfam", ["raw", "projected", "none"])
@torch.no_grad()
def test_aggregation_sees_the_experts_at_every_level_unless_without_dfam(dfam):
    net = dca(dfam=dfam)
    features, _, maps, expected = decoded(net, torch.randn(1, 1, 32, 32))
    assert [m[0].shape[-1] for m in maps] == [4, 8, 16, 32]
    for level in range(4):
        others = [[m + 1 for m in maps[i]] if i == level else maps[i] for i in range(4)]
        assert torch.equal(net.aggregation(features, others), expected) == (dfam == "none")
    assert bool(convolutions(net.aggregation.dfams)) == (dfam != "none")


@pytest.mark.parametrize("style", ["vnet", "unet"])
@torch.no_grad()
def test_experts_features_are_added_to_the_upsampled_stream(style):
    level = dca(style).aggregation.levels[0]
    x, skip, extra = torch.randn(1, 32, 4, 4), torch.randn(1, 16, 8, 8), torch.randn(1, 16, 8, 8)
    up = level.up(x) + extra
    expected = level.convs(up + skip if style == "vnet" else torch.cat([skip, up], dim=1))
    torch.testing.assert_close(level(x, skip, extra), expected)


# Options


@pytest.mark.parametrize("network", [SegmentationNet, DCANet])
@pytest.mark.parametrize(("style", "own"), [("vnet", [0] * 5), ("unet", [0.05, 0.1, 0.2, 0.3, 0.5])])
def test_dropout_replaces_the_styles_own_and_changes_no_name(network, style, own):
    def rates(net):
        return [m.p for m in net.modules() if isinstance(m, nn.Dropout)]

    default = network(style, 2, 1, 3, 2)
    net = network(style, 2, 1, 3, 2, dropout=0.2)  # as MONAI Label asks for it in epistemic scoring
    assert (rates(default), rates(net)) == (own, [0.2] * 5)
    net.load_state_dict(default.state_dict())
    image = torch.randn(1, 1, 32, 32)
    assert not torch.equal(predict(net.train(), image), predict(net, image))
    assert torch.equal(predict(net.eval(), image), predict(net, image))


@pytest.mark.parametrize("stitching", STITCHING_RULES)
@torch.no_grad()
def test_one_state_dict_gives_all_three_predictions(stitching):
    aggregated, image = dca(stitching=stitching), torch.randn(2, 1, 32, 32)
    stitched, mean = (dca(prediction=p, stitching=stitching) for p in ("stitched", "mean"))
    stitched.load_state_dict(aggregated.state_dict())
    mean.load_state_dict(aggregated.state_dict())
    _, expert_logits, _, logits = decoded(aggregated, image)
    assert torch.equal(aggregated(image), logits)
    torch.testing.assert_close(stitched(image), stitch(expert_logits, aggregated.owner, stitching))
    both = (aggregated(image).softmax(1) + stitched(image).softmax(1)) / 2
    torch.testing.assert_close(mean(image).softmax(1), both, atol=1e-6, rtol=0)


def test_state_dict_carries_the_groups():
    net, other, image = dca(prediction="stitched"), dca(prediction="stitched"), torch.randn(1, 1, 16, 16)
    net.set_groups([[2], [3], [1]])
    assert net.owner.tolist() == [2, 0, 1]
    other.load_state_dict(net.state_dict())
    assert other.owner.tolist() == [2, 0, 1]
    assert torch.equal(predict(other, image), predict(net, image))


@pytest.mark.parametrize(
    "groups", [[], [[1], [2], [2]], [[1, 2], [3], []], [[0, 1], [2], [3]], [[1], [2], [3, 4]], [[1], [2]]]
)
def test_groups_must_give_every_class_to_one_expert(groups):
    net = dca()
    net.set_groups([[3], [2], [1]])
    with pytest.raises(UserError, match=r"^groups: expected one to 5 groups that hold the classes 1\.\.3 once each"):
        net.set_groups(groups)
    assert net.owner.tolist() == [2, 1, 0]


@pytest.mark.parametrize("option", ["style", "prediction", "stitching", "dfam", "experts"])
def test_unknown_choice_is_named(option):
    with pytest.raises(UserError, match=rf"{option}: expected a known value, found 'nonsense'"):
        dca(**{option: "nonsense"})


def test_no_class_is_an_error():
    with pytest.raises(UserError, match="num_classes: expected at least one foreground class, found 0"):
        dca(num_classes=0)


def test_experts_of_own_channels_give_other_groups_no_probability():
    net = DCANet("unet", 2, 1, 4, width=2, expert_channels="own").eval()
    net.set_groups([[2], [1, 4], [3]])
    logits = decoded(net, torch.rand(1, 1, 32, 32))[1]
    possible = (logits.softmax(2) > 0).all(dim=(1, 3, 4))
    assert possible.tolist() == [[True] + [c in own for c in range(1, 5)] for own in ([2], [1, 4], [3])]


def test_half_as_fine_experts_are_stitched_as_fine_as_the_image():
    net = DCANet("unet", 2, 1, 4, width=2, expert_levels=3, dfam="projected", prediction="stitched").eval()
    net.set_groups([[2], [1, 4], [3]])
    image = torch.rand(1, 1, 30, 44)  # padded to 32 x 48
    _, logits, maps, aggregated = decoded(net, functional.pad(image, [0, 4, 0, 2], mode="replicate"))
    assert [tuple(level[0].shape[2:]) for level in maps] == [(4, 6), (8, 12), (16, 24)]
    assert tuple(aggregated.shape) == (1, 5, 32, 48)
    expected = functional.interpolate(stitch(logits, net.owner, "log_odds"), scale_factor=2, mode="bilinear")
    torch.testing.assert_close(net(image), expected[..., :30, :44])


def test_dfam_stands_at_the_deepest_levels_only_where_asked():
    for levels in (0, 2, 4):
        keys = DCANet("unet", 2, 1, 4, width=2, dfam_levels=levels).state_dict()
        assert {key.split(".")[2] for key in keys if "attend" in key} == {str(level) for level in range(levels)}


@pytest.mark.parametrize("levels", [0, 5])
def test_experts_have_one_to_four_levels(levels):
    with pytest.raises(UserError, match=f"expert_levels: expected 1 to 4, found {levels}"):
        DCANet("unet", 2, 1, 4, width=2, expert_levels=levels)
