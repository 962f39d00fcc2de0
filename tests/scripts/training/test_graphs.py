"""Captured steps: what is recorded once and replayed does what eager steps do.

CUDA graphs need a GPU (tests/gpu). Here a step is recorded by torch's tracer instead, as the list of its operations on
tensors. Whatever Python computes in a step, such as a learning rate, is a constant in either.
"""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.engines.utils import IterationEvents
from torch.fx.experimental.proxy_tensor import make_fx

from scripts.data.streams import SampleDataset
from scripts.training import engine as engine_module
from scripts.training.graphs import WARM_UP, Captured, Losses, Replayed
from scripts.training.step import Batch, Step
from tests.method_cases import batch, small_method
from tests.tiny_training import curves, fingerprint, make_method, make_trainer, phantom_streams

# One of each kind; the tests on a GPU have all.
CAPTURED: dict[str, dict[str, Any]] = {
    "dca": {"mix": "copy_paste", "jitter": 0.4},
    "a_and_d": {"ddim_steps": 2},
    "co_bionet": {},
    "dhc": {},
    "skcdf": {},
    "unimatch": {"threshold": 0.2},
    "self_training": {"mirror": [0]},
}
CPU = torch.device("cpu")


class Tracer:
    """Records steps on a CPU, as `CudaGraphs` does on a GPU."""

    def __init__(self) -> None:
        self.captures = 0

    def run(self, step: Step, batch: Batch) -> Losses:
        return step(batch)

    def capture(self, step: Step, batch: Batch) -> Captured:
        self.captures += 1
        static = {name: values.clone() for name, values in batch.items()}
        step.expect_finite = lambda: None  # type: ignore[method-assign]  # a GPU does not look within a step
        tensors = [*step.method.state_dict().values(), *(s["momentum_buffer"] for s in step.optimizer.state.values())]
        before, seed = copy.deepcopy(tensors), torch.get_rng_state()
        try:
            traced = make_fx(step)(static)  # which takes the step, unlike a capture
        finally:
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
            torch.set_rng_state(seed)
        losses: Losses = {}

        def replay() -> None:
            with torch.no_grad():
                losses.update(traced(static))

        return Captured(static, losses, replay)


def make_step(name: str, **options: Any) -> Step:
    method = small_method(name, **options)
    return Step(method, torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9, fused=True), CPU, amp=False)


def take(step: Step, steps: int, replayed: Replayed | None = None, size: int = 16) -> list[dict[str, float]]:
    """The losses of some steps, each of a batch, a seed, a progress and a learning rate of its own."""
    found = []
    for number in range(1, steps + 1):
        torch.manual_seed(number)
        step.optimizer.param_groups[0]["lr"] = 0.1 / number
        form = step.begin(number, 0.5 + number / 20)
        image, label, image_u = batch((size, size), seed=number)
        data = {"image": image, "label": label.unsqueeze(1), "image_u": image_u}
        losses = step(data) if replayed is None else replayed(data, form)
        found.append({key: float(value) for key, value in losses.items()})
    return found


@pytest.mark.parametrize("name", CAPTURED)
def test_replayed_steps_are_eager_steps_bit_for_bit(name: str) -> None:
    eager, step, tracer = make_step(name, **CAPTURED[name]), make_step(name, **CAPTURED[name]), Tracer()
    expected, found = take(eager, WARM_UP + 2), take(step, WARM_UP + 2, Replayed(step, tracer))
    assert tracer.captures == 1
    assert found == expected
    assert len({losses["loss"] for losses in found}) == len(found)
    assert fingerprint(step.method.state_dict()) == fingerprint(eager.method.state_dict())


def test_other_shapes_and_other_forms_are_captured_anew() -> None:
    step, tracer = make_step("supervised"), Tracer()
    replayed = Replayed(step, tracer)
    for size in (16, 32):
        take(step, WARM_UP + 2, replayed, size)
    assert tracer.captures == 2
    eager = make_step("supervised")
    for size in (16, 32):
        take(eager, WARM_UP + 2, size=size)
    assert fingerprint(step.method.state_dict()) == fingerprint(eager.method.state_dict())
    form = step.begin(1, 0.5) + 1
    image, label, _ = batch((16, 16))
    for _ in range(WARM_UP + 1):
        replayed({"image": image, "label": label.unsqueeze(1)}, form)
    assert tracer.captures == 3


class Refusing(Tracer):
    """A device that records nothing."""

    def capture(self, step: Step, batch: Batch) -> Captured:
        self.captures += 1
        step(batch)["loss"].new_zeros(1).view(2)  # in the middle of it
        raise AssertionError


def test_where_a_capture_fails_steps_are_taken_as_usual_and_one_line_says_why(caplog: pytest.LogCaptureFixture) -> None:
    step, tracer = make_step("dca"), Refusing()
    with caplog.at_level(logging.WARNING):
        found = take(step, WARM_UP + 3, Replayed(step, tracer))
    assert tracer.captures == 1
    assert len(found) == WARM_UP + 3
    assert step.optimizer.param_groups[0]["lr"] == 0.1 / (WARM_UP + 3)
    assert caplog.messages == [
        "training: no CUDA graph of a step (shape '[2]' is invalid for input of size 1); each step is started anew"
    ]


@pytest.fixture(scope="module")
def streams(heart_phantom: Path) -> tuple[SampleDataset, SampleDataset]:
    return phantom_streams(heart_phantom)


def trained(folder: Path, streams: tuple[SampleDataset, SampleDataset], graphs: bool, **options: Any) -> str:
    method = make_method("cps")
    trainer = make_trainer(folder, streams, method, epochs=2, steps=4, **options)
    trainer.cuda_graphs = graphs
    trainer.optimizer.defaults["fused"] = trainer.optimizer.param_groups[0]["fused"] = True
    trainer.run()
    return fingerprint(method.state_dict())


def test_a_training_with_graphs_ends_with_the_weights_of_one_without(
    tmp_path: Path, streams: tuple[SampleDataset, SampleDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracer = Tracer()
    monkeypatch.setattr(engine_module, "CudaGraphs", lambda device: tracer)
    with_graphs = trained(tmp_path / "with", streams, graphs=True)
    assert tracer.captures == 1
    assert with_graphs == trained(tmp_path / "without", streams, graphs=False)
    assert curves(tmp_path / "with") == curves(tmp_path / "without")


@pytest.mark.parametrize(
    ("name", "event", "reason"),
    [
        ("bcp", None, "the connected parts of the pseudo-labels are found on the host"),
        ("supervised", IterationEvents.LOSS_COMPLETED, "handlers listen within a step"),
        ("supervised", "checkpointing", "checkpointing asks for the state of the random numbers"),
    ],
)
def test_where_steps_cannot_be_captured_the_log_says_why(
    tmp_path: Path,
    streams: tuple[SampleDataset, SampleDataset],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    event: IterationEvents | str | None,
    reason: str,
) -> None:
    tracer = Tracer()
    monkeypatch.setattr(engine_module, "CudaGraphs", lambda device: tracer)
    trainer = make_trainer(tmp_path, streams, make_method(name), epochs=1, steps=WARM_UP + 2)
    trainer.cuda_graphs = True
    if event == "checkpointing":
        trainer.checkpointing = True
    elif event is not None:
        trainer.add_event_handler(event, lambda engine: None)
    with caplog.at_level(logging.INFO):
        trainer.run()
    assert tracer.captures == 0
    assert f"training: no CUDA graph of a step: {reason}" in caplog.messages
