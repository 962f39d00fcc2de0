"""Backends of inference: the precision they run in, and OpenVINO against torch, by the real runtime."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from scripts.errors import UserError
from scripts.inference.backends import Autocast, OpenVINO, for_inference
from scripts.methods import METHODS, create_predictor
from scripts.networks import DCANet
from tests.bundle_runner import ENVIRONMENT, ROOT
from tools.segment.segmenter import _WithExperts

CPU = torch.device("cpu")


@pytest.mark.parametrize("supported", [True, False])
def test_networks_run_in_the_chosen_precision_and_answer_in_float32(
    monkeypatch: pytest.MonkeyPatch, supported: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    network = torch.nn.Conv2d(1, 1, 3)
    inside = []
    network.register_forward_hook(lambda module, arguments, output: inside.append(output.dtype))
    for amp in (True, False):
        assert Autocast(network, CPU, amp)(torch.zeros(1, 1, 8, 8)).dtype == torch.float32
    assert inside == [torch.bfloat16 if supported else torch.float32, torch.float32]


def with_statistics(network: nn.Module) -> nn.Module:
    """The network in eval mode, its normalisations with statistics that do something."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def network_of(method: str, spatial_dims: int) -> nn.Module:
    style = {2: "unet", 3: "vnet"}[spatial_dims]
    return create_predictor(
        method, style=style, spatial_dims=spatial_dims, in_channels=1, num_classes=4, width=2, dropout=None
    )


NETWORKS: dict[str, Any] = {f"{name}, 2D": (lambda name=name: network_of(name, 2), (20, 33)) for name in METHODS}
NETWORKS |= {
    "dca, 3D": (lambda: network_of("dca", 3), (16, 21, 16)),
    "residual with experts, mean": (
        lambda: _WithExperts(DCANet("vnet", 3, 1, 4, width=2, prediction="mean", dfam="projected", residual=True)),
        (16, 16, 32),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_openvino_gives_what_torch_gives_for_every_network(name: str) -> None:
    make, size = NETWORKS[name]
    network = with_statistics(make())
    image = torch.randn(1, 1, *size)
    found = for_inference(network, CPU, amp=False, backend="openvino")(image)
    torch.testing.assert_close(found, network(image), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_network_is_converted_once_per_size_of_image_whatever_the_batch() -> None:
    network = with_statistics(network_of("supervised", 2))
    runner, made = OpenVINO(network, CPU, amp=False), []
    convert = runner.convert
    runner.convert = lambda *args, **kwargs: made.append(kwargs["input"]) or convert(*args, **kwargs)
    for batch, size in ((3, 32), (1, 32), (2, 32), (2, 48)):
        images = torch.randn(batch, 1, size, size).to(memory_format=torch.channels_last)
        torch.testing.assert_close(runner(images), network(images), atol=1e-4, rtol=1e-4)
    assert made == [[1, 1, 32, 32], [1, 1, 48, 48]]


@torch.no_grad()
def test_what_openvino_returned_stays_when_it_is_called_again() -> None:
    runner = OpenVINO(with_statistics(network_of("supervised", 2)), CPU, amp=False)
    first = runner(torch.zeros(1, 1, 16, 16))
    kept = first.clone()
    runner(torch.ones(1, 1, 16, 16))
    assert torch.equal(first, kept)


@torch.no_grad()
def test_openvino_takes_torchs_threads_and_ties_none_to_a_core() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        runner = OpenVINO(with_statistics(network_of("supervised", 2)), CPU)
        runner(torch.zeros(1, 1, 16, 16))
    finally:
        torch.set_num_threads(threads)
    [compiled] = runner.compiled.values()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


@pytest.mark.parametrize(
    ("amp", "supported", "expected"), [(True, True, "bf16"), (False, True, "f32"), (True, False, "f32")]
)
def test_openvino_takes_the_precision_that_torch_would(
    monkeypatch: pytest.MonkeyPatch, amp: bool, supported: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert OpenVINO(nn.Identity(), CPU, amp).options["INFERENCE_PRECISION_HINT"] == expected


def test_openvino_tells_nobody_of_its_use_and_is_not_imported_unless_asked_for() -> None:
    program = (
        "import sys, torch; from scripts.inference.backends import for_inference; "
        "for_inference(torch.nn.Identity(), 'cpu'); print('openvino' in sys.modules); "
        "for_inference(torch.nn.Identity(), 'cpu', backend='openvino'); "
        "from openvino.tools.ovc import telemetry_utils; print(telemetry_utils.tm.__name__)"
    )
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT / "bundles")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "openvino.tools.ovc.telemetry_stub"]


def test_an_engine_that_cannot_be_had_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="backend: expected a known value, found 'tensorrt'; choose one of"):
        for_inference(nn.Identity(), CPU, backend="tensorrt")
    with pytest.raises(UserError, match="backend: expected torch on cuda:0, found openvino, which runs on cpu"):
        for_inference(nn.Identity(), "cuda:0", backend="openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"found none; call `pip install -r requirements-openvino.txt`, or set torch"):
        for_inference(nn.Identity(), CPU, backend="openvino")


class Weighted(nn.Module):
    """Multiplies voxels by what their place is, so that a mirrored image has another output."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.arange(x.shape[2] * x.shape[3]).view(x.shape[2:])


def test_mirrored_prediction_is_the_mean_over_the_mirror_images() -> None:
    image = torch.tensor([[[[1.0, 10.0]]]])  # at the places 0 and 1: 0 and 10; mirrored 10 * 0 and 1 * 1
    assert for_inference(Weighted(), CPU, mirror_axes=[1])(image).tolist() == [[[[0.5, 5.0]]]]
    assert for_inference(Weighted(), CPU, mirror_axes=[0])(image).tolist() == [[[[0.0, 10.0]]]]


def test_two_mirror_axes_give_four_views_and_a_symmetric_prediction() -> None:
    runs: list[torch.Tensor] = []
    network = Weighted()
    network.register_forward_hook(lambda module, args, output: runs.append(args[0]))
    mirrored, image = for_inference(network, CPU, mirror_axes=[0, 1]), torch.rand(1, 1, 3, 5)
    found = mirrored(image)
    assert len({tuple(run.flatten().tolist()) for run in runs}) == 4
    torch.testing.assert_close(mirrored(image.flip(3)), found.flip(3))
    torch.testing.assert_close(mirrored(image.flip(2, 3)), found.flip(2, 3))
