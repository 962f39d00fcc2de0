"""Convolutions that go another way on a CPU: the same numbers, and, except for 1^d kernels, in training alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scripts.networks import convolutions
from scripts.networks.convolutions import DILATED, DOUBLING, POINTWISE, convolve_projected

SIZES = {2: (8, 12), 3: (4, 8, 6)}
STOCK = {
    "dilated": {2: nn.Conv2d, 3: nn.Conv3d},
    "doubling": {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d},
    "pointwise": {2: nn.Conv2d, 3: nn.Conv3d},
}
OURS = {"dilated": DILATED, "doubling": DOUBLING, "pointwise": POINTWISE}
OPTIONS = {
    "dilated": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "doubling": {"kernel_size": 2, "stride": 2},
    "pointwise": {"kernel_size": 1},
}
IN_TRAINING = ("dilated", "doubling")  # what goes another way in training alone

every = pytest.mark.parametrize(("kind", "spatial_dims"), [(kind, d) for kind in OURS for d in (2, 3)])


def pair(kind: str, spatial_dims: int, bias: bool = True) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    ours, stock = (
        classes[spatial_dims](5, 3, bias=bias, dtype=torch.float64, **OPTIONS[kind])
        for classes in (OURS[kind], STOCK[kind])
    )
    stock.load_state_dict(ours.state_dict())
    return ours, stock


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which of the other ways was gone, in turn."""
    gone: list[str] = []

    def watch(cls: type, name: str) -> None:
        way = getattr(cls, name)

        def watched(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
            gone.append(name)
            found: torch.Tensor = way(self, x)
            return found

        monkeypatch.setattr(cls, name, watched)

    watch(convolutions._Dilated, "_by_lattices")
    watch(convolutions._Doubling, "_by_blocks")
    return gone


@every
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_values_and_all_gradients_equal_those_of_torch(
    kind: str, spatial_dims: int, bias: bool, channels_last: bool, ways: list[str]
) -> None:
    results = []
    for module in pair(kind, spatial_dims, bias):
        torch.manual_seed(1)
        x = torch.randn(2, 5, *SIZES[spatial_dims], dtype=torch.float64)
        if channels_last:
            x = x.to(memory_format=torch.channels_last if spatial_dims == 2 else torch.channels_last_3d)
        x.requires_grad_()
        out = module(x)
        torch.manual_seed(2)
        (out * torch.randn(out.shape, dtype=torch.float64)).sum().backward()
        results.append([out, x.grad, *(p.grad for p in module.parameters())])
    assert len(ways) == (1 if kind in IN_TRAINING else 0)
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-12)


@every
def test_inference_goes_the_way_of_torch(kind: str, spatial_dims: int, ways: list[str]) -> None:
    ours, stock = pair(kind, spatial_dims)
    x = torch.randn(2, 5, *SIZES[spatial_dims], dtype=torch.float64)
    assert torch.equal(ours.eval()(x), stock(x))
    assert ways == []


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_sizes_that_the_dilation_does_not_divide_go_the_way_of_torch(spatial_dims: int, ways: list[str]) -> None:
    ours, stock = pair("dilated", spatial_dims)
    x = torch.randn(2, 5, *[7] * spatial_dims, dtype=torch.float64)
    assert torch.equal(ours(x), stock(x))
    assert ways == []


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_result_is_channels_last_in_memory_like_its_input(spatial_dims: int) -> None:
    memory_format = torch.channels_last if spatial_dims == 2 else torch.channels_last_3d
    for kind in IN_TRAINING:
        ours, _ = pair(kind, spatial_dims)
        x = torch.randn(2, 5, *SIZES[spatial_dims], dtype=torch.float64).to(memory_format=memory_format)
        assert ours(x).is_contiguous(memory_format=memory_format)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has the slow code alone")
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_kernels_of_one_voxel_leave_the_slow_code_alone_on_one_thread(spatial_dims: int) -> None:
    def operators(module: nn.Module) -> str:
        x = torch.rand(2, 5, *[16] * spatial_dims)
        with torch.profiler.profile() as profile:
            module.float()(x)
        return " ".join(event.key for event in profile.key_averages())

    ours, stock = pair("pointwise", spatial_dims)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert "slow_conv" in operators(stock), "torch has mended it: `convolve` needs no dilation any more"
        assert "slow_conv" not in operators(ours)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_kernels_of_one_voxel_are_traced_without_dilation_for_other_runtimes(spatial_dims: int) -> None:
    x = torch.rand(2, 8, *[16] * spatial_dims)
    traced = torch.jit.trace(POINTWISE[spatial_dims](8, 4, 1), x)
    dilations = [
        [size.toIValue() for size in node.inputsAt(5).node().inputs()]
        for node in traced.inlined_graph.nodes()
        if "convolution" in node.kind()
    ]
    assert dilations == [[1] * spatial_dims]


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_projections_and_a_convolution_of_them_are_one_convolution(spatial_dims: int, bias: bool) -> None:
    torch.manual_seed(0)
    conv = STOCK["dilated"][spatial_dims]
    projections = [conv(3, 4, 1, dtype=torch.float64) for _ in range(3)]
    after = conv(12, 5, 3, padding=1, bias=bias, dtype=torch.float64)
    maps = [torch.randn(2, 3, *SIZES[spatial_dims], dtype=torch.float64) for _ in range(3)]
    expected = after(torch.cat([project(x) for project, x in zip(projections, maps, strict=True)], 1))
    weights, biases = ([getattr(project, name) for project in projections] for name in ("weight", "bias"))
    found = convolve_projected(maps, weights, biases, after.weight, after.bias)
    torch.testing.assert_close(found, expected)
    parameters = [p for module in (*projections, after) for p in module.parameters()]
    for ours, theirs in zip(
        *(torch.autograd.grad(y.square().sum(), parameters) for y in (found, expected)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
