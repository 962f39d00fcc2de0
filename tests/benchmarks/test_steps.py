"""Training steps: what they agree on, and exactly what a step of DCA costs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import floor, steps, training
from benchmarks.jobs import difference
from scripts.networks import encoder_decoder

SMALL = steps.Task(32, width=4)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "scripts.training.memory.keep_freed_memory", lambda: True
    )  # the suite's process is not to be changed


@pytest.mark.parametrize("preset", ["cpu", "published"])
def test_losses_are_those_of_torchs_defaults(preset: str) -> None:
    mine, plain = (make(steps.Task(48, width=4), preset) for make in (steps.as_it_is, steps.plain))
    for _ in range(2):  # the second step sees what the gradients of the first have made
        assert difference(mine(), plain(), training.BFLOAT16_ERROR) is None


def test_losses_of_slices_are_those_of_torchs_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    # An encoder pass per decoder would draw other dropout.
    monkeypatch.setitem(encoder_decoder.DROPOUT, "unet", (0.0,) * 5)
    task = steps.Task(32, dims=2, organs=3, width=4)
    mine, plain = (make(task) for make in (steps.as_it_is, steps.plain))
    for _ in range(2):
        assert difference(mine(), plain(), training.BFLOAT16_ERROR) is None


@pytest.mark.parametrize("dims", [2, 3])
def test_step_of_cps_learns(dims: int) -> None:
    step = steps.plain_cps(steps.Task(16, dims=dims, width=4))
    assert step()["loss"] > [step() for _ in range(3)][-1]["loss"]


@pytest.mark.parametrize(("preset", "passes"), [("cpu", 2), ("published", 1)])
def test_encoder_and_decoders_run_once_for_the_network_and_once_for_its_teacher(preset: str, passes: int) -> None:
    calls: Counter[str] = Counter()
    method = steps.dca(SMALL, preset)
    for network in steps.networks(method):
        for part in (network.encoder, network.aggregation, *network.experts):
            # An expert is called by its maps: its first level is what runs once.
            kind = type(part).__name__
            part.levels[0].register_forward_hook(lambda *_, kind=kind: calls.update([kind]))
    steps._step(method, SMALL, None)()
    assert calls == {"Encoder": passes, "AggregationDecoder": passes, "Decoder": 3 * passes}


@pytest.mark.parametrize(
    ("preset", "forward", "backward", "multiply_adds"),
    [("cpu", 105, 53, 2_510_234_816), ("published", 70, 69, 3_560_503_008)],
)
def test_products_of_a_step_are_exactly_these(preset: str, forward: int, backward: int, multiply_adds: int) -> None:
    step = steps._step(steps.dca(SMALL, preset), SMALL, None)
    with floor.products() as recorded:
        step()
    kinds = Counter(function.overloadpacket.__name__ for function, _ in recorded.calls)
    assert (kinds["convolution"], kinds["convolution_backward"]) == (forward, backward)
    assert recorded.multiply_adds == multiply_adds


class Layouts(TorchDispatchMode):
    """Whether all large maps that normalisations and ReLUs take are channels last in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.others = 0, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.__name__.startswith(("native_batch_norm", "threshold_backward", "relu")):
            for tensor in args:
                if isinstance(tensor, torch.Tensor) and tensor.dim() == 5:
                    self.seen += 1
                    self.others += not tensor.is_contiguous(memory_format=torch.channels_last_3d)
        return function(*args, **(kwargs or {}))


def test_maps_and_their_gradients_stay_channels_last() -> None:
    # A gradient of another layout makes the ReLU behind it twenty times slower.
    task = steps.Task(48, width=4)
    step = steps._step(steps.channels_last(steps.dca(task), task.dims), task, torch.bfloat16)
    with Layouts() as layouts:
        step()
    assert layouts.seen > 300
    assert layouts.others == 0
