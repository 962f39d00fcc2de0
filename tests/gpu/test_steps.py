"""Steps of every method on a GPU: the CPU's losses and gradients, and captured steps that are eager ones."""

from __future__ import annotations

import copy

import pytest
import torch

from scripts.methods import METHODS
from scripts.methods.base import Method
from scripts.training.graphs import WARM_UP, CudaGraphs, Replayed
from scripts.training.step import Step
from tests.gpu.hosts_numbers import HostsNumbers
from tests.method_cases import batch, small_method

pytestmark = pytest.mark.gpu
everyone = pytest.mark.parametrize("name", sorted(METHODS))
CASES = [pytest.param(name, dims, id=f"{name}-{dims}D") for name in sorted(METHODS) for dims in (2, 3)]
SIZES = {2: (32, 32), 3: (32, 16, 16)}


def data(device: torch.device, dims: int, seed: int = 1) -> dict[str, torch.Tensor]:
    image, label, image_u = batch(SIZES[dims], seed=seed)
    moved = {"image": image, "label": label.unsqueeze(1), "image_u": image_u}
    return {name: values.to(device) for name, values in moved.items()}


def losses_and_gradients(method: Method, device: torch.device, dims: int) -> tuple[dict[str, float], torch.Tensor]:
    method = copy.deepcopy(method).to(device)
    given = data(device, dims)
    method.enter(0.9)
    torch.manual_seed(3)
    with HostsNumbers():
        losses = method(given["image"], given["label"][:, 0], given["image_u"], 0.9)
        losses["loss"].backward()
    gradients = [p.grad.flatten().cpu() for p in method.parameters() if p.grad is not None]
    return {name: float(value.detach()) for name, value in losses.items()}, torch.cat(gradients)


@pytest.mark.parametrize(("name", "dims"), CASES)
def test_losses_and_gradients_are_those_of_the_cpu(name: str, dims: int, device: torch.device) -> None:
    method = small_method(name, spatial_dims=dims)
    expected, gradient = losses_and_gradients(method, torch.device("cpu"), dims)
    found, other = losses_and_gradients(method, device, dims)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert float((other - gradient).norm() / gradient.norm()) < 1e-4


@pytest.mark.parametrize("name", ["supervised", "dca", "cps"])
def test_bfloat16_is_close_to_float32(name: str, device: torch.device) -> None:
    found = []
    for amp in (False, True):
        method = small_method(name, width=8).to(device)
        step = Step(method, torch.optim.SGD(method.parameters(), lr=0.01), device, amp)
        step.begin(1, 0.9)
        torch.manual_seed(3)
        found.append(float(step(data(device, 2))["loss"]))
    assert found[1] == pytest.approx(found[0], rel=0.02)


def make_step(name: str, device: torch.device, dims: int = 2, amp: bool = False) -> Step:
    method = small_method(name, spatial_dims=dims).to(device)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9, fused=device.type == "cuda")
    return Step(method, optimizer, device, amp)


def take(
    step: Step, device: torch.device, steps: int, replayed: Replayed | None = None, dims: int = 2
) -> list[dict[str, float]]:
    """The losses of some steps, each of a batch, a seed, a progress and a learning rate of its own."""
    found = []
    for number in range(1, steps + 1):
        torch.manual_seed(number)
        step.optimizer.param_groups[0]["lr"] = 0.05 / number
        form = step.begin(number, 0.5 + number / 50)
        given = data(device, dims, seed=number)
        losses = step(given) if replayed is None else replayed(given, form)
        found.append({key: float(value) for key, value in losses.items()})
    return found


def vector(method: Method) -> torch.Tensor:
    return torch.cat([p.detach().flatten().float().cpu() for p in method.parameters()])


@pytest.mark.parametrize("amp", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("name", sorted(name for name, method in METHODS.items() if not method.waits))
def test_captured_steps_are_eager_steps(name: str, amp: bool, device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("CUDA graphs need a CUDA device")
    eager, captured = make_step(name, device, amp=amp), make_step(name, device, amp=amp)
    replayed = Replayed(captured, CudaGraphs(device))
    expected, found = take(eager, device, WARM_UP + 4), take(captured, device, WARM_UP + 4, replayed)
    assert replayed.captured is not None, "the capture failed; see the log"
    tolerance = 0.02 if amp else 1e-3  # sums of atomic additions differ from run to run, and steps add up
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=tolerance, abs=tolerance)
    distance = (vector(captured.method) - vector(eager.method)).norm() / vector(eager.method).norm()
    assert float(distance) < tolerance


def test_steps_go_on_after_a_capture_that_failed(device: torch.device, caplog: pytest.LogCaptureFixture) -> None:
    if device.type != "cuda":
        pytest.skip("CUDA graphs need a CUDA device")
    eager, step = make_step("bcp", device), make_step("bcp", device)  # which waits for the host, and says so
    expected = take(eager, device, WARM_UP + 3)
    replayed = Replayed(step, CudaGraphs(device))
    found = take(step, device, WARM_UP + 3, replayed)
    assert replayed.failed
    assert any("no CUDA graph of a step" in message for message in caplog.messages)
    assert torch.cuda.current_stream(device) == torch.cuda.default_stream(device)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-3)


def test_a_captured_step_draws_other_numbers_in_each_replay(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("CUDA graphs need a CUDA device")
    step = make_step("dca", device)
    replayed = Replayed(step, CudaGraphs(device))
    given, found = data(device, 2), []
    weights = copy.deepcopy(step.method.state_dict())
    for seed in (1, 2, 3, 4, 5, 6, 5):
        step.method.load_state_dict(weights)
        torch.manual_seed(seed)
        form = step.begin(1, 0.9)
        found.append(float(replayed(given, form)["loss_unlabelled"]))
    assert found[4] != found[5]  # both were replayed
    assert found[4] == pytest.approx(found[6], rel=1e-5)


@everyone
def test_the_same_seed_twice_gives_the_same_steps_to_rounding(
    name: str, device: torch.device, record_property: pytest.FixtureRequest
) -> None:
    first, again = make_step(name, device), make_step(name, device)
    losses = [take(step, device, 4) for step in (first, again)]
    distance = float((vector(first.method) - vector(again.method)).norm() / vector(first.method).norm())
    print(f"{name}: {'equal bit for bit' if distance == 0 else f'weights differ by {distance:.1e} after 4 steps'}")
    for one, other in zip(*losses, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)
    assert distance < 1e-3


def test_a_v_net_trains_to_the_same_bits_twice(device: torch.device) -> None:
    """Its operations are deterministic on a GPU; the U-Net's interpolation adds its gradients in any order."""
    first, again = make_step("supervised", device, dims=3), make_step("supervised", device, dims=3)
    for step in (first, again):
        take(step, device, 4, dims=3)
    assert torch.equal(vector(first.method), vector(again.method))


@everyone
def test_peak_memory_of_a_step_is_told(name: str, device: torch.device) -> None:
    """At the published size of ACDC; a fraction of any GPU."""
    if device.type != "cuda":
        pytest.skip("CUDA counts its memory")
    method = small_method(name, num_classes=3, width=16).to(device, memory_format=torch.channels_last)
    step = Step(method, torch.optim.SGD(method.parameters(), lr=0.01, momentum=0.9, fused=True), device)
    image, label, image_u = batch((256, 256), num_classes=3)
    given = {"image": image.to(device), "label": label.unsqueeze(1).to(device), "image_u": image_u.to(device)}
    torch.cuda.reset_peak_memory_stats(device)
    for number in (1, 2):
        step.begin(number, 0.9)
        step(given)
    step.expect_finite()
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    print(f"{name}: {peak:.2f} GiB")
    assert peak < 6
