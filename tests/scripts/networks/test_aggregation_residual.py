"""D_A on top of the stitched experts (`residual`)."""

from __future__ import annotations

import pytest
import torch

from scripts.methods.dca import DCA
from scripts.networks import DCANet, stitch

GROUPS = [[2], [1, 3], [4]]


def network(style: str = "unet", spatial_dims: int = 2, **options: object) -> DCANet:
    torch.manual_seed(0)
    net = DCANet(style, spatial_dims, 1, 4, 4, residual=True, **options)
    net.set_groups(GROUPS)
    return net


@torch.no_grad()
@pytest.mark.parametrize("rule", ["log_odds", "logits", "probability"])
def test_prediction_is_the_decoders_logits_and_the_stitched_ones(rule: str) -> None:
    net = network("vnet", 3, stitching=rule).eval()
    image = torch.rand(1, 1, 16, 32, 16)
    features = net.encoder(image)
    maps = net.decode_experts(features)
    logits = net.expert_logits(maps[-1])
    torch.testing.assert_close(net(image), net.aggregation(features, maps) + stitch(logits, net.owner, rule))


@torch.no_grad()
def test_without_a_word_of_the_decoder_the_stitched_experts_remain() -> None:
    net = network().eval()
    torch.nn.init.zeros_(net.aggregation.out.weight)
    torch.nn.init.zeros_(net.aggregation.out.bias)
    image = torch.rand(2, 1, 32, 32)
    aggregated = net(image)
    net.prediction = "stitched"
    torch.testing.assert_close(aggregated, net(image))


def test_no_term_of_the_aggregation_reaches_the_experts() -> None:
    method = DCA(network())
    losses = method(torch.rand(2, 1, 32, 32), torch.randint(0, 5, (2, 32, 32)), torch.rand(2, 1, 32, 32), 1.0)
    experts = list(method.predictor.experts.parameters())
    for name in ("loss_aggregation", "loss_unlabelled"):
        gradients = torch.autograd.grad(losses[name], experts, allow_unused=True, retain_graph=True)
        assert all(gradient is None or not gradient.any() for gradient in gradients), name
    assert any(
        g.any() for g in torch.autograd.grad(losses["loss_experts"], experts, allow_unused=True) if g is not None
    )


@torch.no_grad()
def test_torchscript_equals_the_eager_network() -> None:
    net = network("vnet", 3).eval()
    image = torch.rand(1, 1, 21, 32, 9)
    torch.testing.assert_close(torch.jit.script(net)(image), net(image), atol=1e-5, rtol=1e-5)
