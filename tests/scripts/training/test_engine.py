"""The trainer: schedule and progress per step, precision by device, and what an empty unlabelled list means."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events

from scripts.data.streams import SampleDataset, TwoStreamLoader
from scripts.errors import user_message
from scripts.methods.base import Method
from scripts.networks import autocast_dtype, miscomputed_in_bfloat16
from scripts.training.engine import SemiSupervisedTrainer
from tests.tiny_training import CPU, curves, fingerprint, make_method, make_trainer, phantom_streams

Streams = tuple[SampleDataset, SampleDataset]


@pytest.fixture(scope="module")
def streams(heart_phantom: Path) -> Streams:
    return phantom_streams(heart_phantom)


class Recorder(Method):
    """Notes what the trainer tells a method; its loss is told in advance."""

    def __init__(self, loss: float = 1.0) -> None:
        super().__init__(torch.nn.Conv2d(1, 4, 1))
        self.loss = loss
        self.calls: list[tuple[Any, ...]] = []

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: float
    ) -> dict[str, torch.Tensor]:
        shape = None if image_u is None else tuple(image_u.shape)
        self.calls.append(("losses", float(progress), tuple(image.shape), tuple(label.shape), label.dtype, shape))
        return {"loss": self.loss * self.predictor(image).mean()}

    def after_step(self, progress: float) -> None:
        self.calls.append(("after_step", float(progress), self.predictor.weight.detach().clone()))


def test_learning_rate_follows_the_poly_schedule_after_every_step(tmp_path: Path, streams: Streams) -> None:
    trainer = make_trainer(tmp_path, streams, Recorder(), epochs=4, steps=3)
    rates = [trainer.optimizer.param_groups[0]["lr"]]
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: rates.append(trainer.optimizer.param_groups[0]["lr"]))
    trainer.run()
    assert rates == pytest.approx([0.05 * (1 - t / 12) ** 0.9 for t in range(13)], rel=1e-6, abs=1e-12)


def test_without_a_schedule_the_learning_rate_stays(streams: Streams) -> None:
    method = Recorder()
    optimizer = torch.optim.SGD(method.parameters(), 0.05)
    SemiSupervisedTrainer(CPU, 1, TwoStreamLoader(*streams, (2, 2), 2, 0), method, optimizer).run()
    assert optimizer.param_groups[0]["lr"] == 0.05


def test_a_method_is_told_its_progress_batches_and_finished_steps(tmp_path: Path, streams: Streams) -> None:
    method = Recorder()
    before = method.predictor.weight.detach().clone()
    make_trainer(tmp_path, streams, method, epochs=2, steps=3).run()
    losses, updates = method.calls[::2], method.calls[1::2]
    assert [call[:2] for call in losses] == [("losses", t / 6) for t in range(6)]
    assert [call[:2] for call in updates] == [("after_step", t / 6) for t in range(6)]
    assert {call[2:] for call in losses} == {((2, 1, 32, 32), (2, 32, 32), torch.int64, (2, 1, 32, 32))}
    weights = [before, *(call[2] for call in updates)]  # after_step sees the weights that the optimizer has just set
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(weights))


def test_every_epoch_is_announced_to_the_loader(
    tmp_path: Path, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced = []
    monkeypatch.setattr(TwoStreamLoader, "set_epoch", lambda self, epoch: announced.append(epoch))
    make_trainer(tmp_path, streams, Recorder(), epochs=3, steps=1).run()
    assert announced == [0, 1, 2]


def test_training_sees_the_samplers_batches_whatever_the_number_of_workers(tmp_path: Path, streams: Streams) -> None:
    seen = {}
    for workers in (0, 2):
        trainer = make_trainer(tmp_path, streams, Recorder(), epochs=3, steps=2, workers=workers)
        images: list[torch.Tensor] = []
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda engine, images=images: images.append(engine.state.batch["image_u"])
        )
        trainer.run()
        seen[workers] = torch.stack(images)
    loader = TwoStreamLoader(*streams, (2, 2), 2, 0)
    expected = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        expected += [batch["image_u"] for batch in loader]
    assert torch.equal(seen[0], torch.stack(expected))
    assert torch.equal(seen[2], seen[0])


@pytest.mark.parametrize(
    ("bf16", "amx", "expected"),
    [(True, False, torch.bfloat16), (False, True, torch.bfloat16), (False, False, None)],
)
def test_cpus_take_bfloat16_where_they_have_its_instructions(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, amx: bool, expected: torch.dtype | None
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert autocast_dtype("cpu") is expected


@pytest.mark.parametrize(("bf16", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_gpus_take_bfloat16_or_else_float16(monkeypatch: pytest.MonkeyPatch, bf16: bool, expected: torch.dtype) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    assert autocast_dtype(torch.device("cuda", 1)) is expected


def test_float16_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, streams: Streams
) -> None:
    monkeypatch.setattr("scripts.training.step.autocast_dtype", lambda device: torch.float16)
    with caplog.at_level("INFO", "scripts"):
        make_trainer(tmp_path, streams, Recorder())
    assert [message for message in caplog.messages if "float16" in message] == [
        "this GPU has no instructions for bfloat16: using float16 with a scaled loss"
    ]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    ],
)
def test_full_gpu_is_told_in_one_line(tmp_path: Path, streams: Streams, error: RuntimeError) -> None:
    def fail(*arguments: object) -> None:
        raise error

    method = Recorder()
    method.predictor.register_forward_hook(fail)
    with pytest.raises(RuntimeError) as info:
        make_trainer(tmp_path, streams, method).run()
    message = user_message(info.value)
    assert message is not None
    assert message.startswith("GPU memory: expected room for a step")
    assert "\n" not in message


def test_other_devices_stay_at_float32() -> None:
    assert autocast_dtype("mps") is None


@pytest.mark.parametrize(("amp", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_training_runs_in_the_chosen_precision(
    monkeypatch: pytest.MonkeyPatch, streams: Streams, amp: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    method = Recorder()
    inside = []
    method.predictor.register_forward_hook(lambda module, arguments, output: inside.append(output.dtype))
    optimizer = torch.optim.SGD(method.parameters(), 0.05)
    SemiSupervisedTrainer(CPU, 1, TwoStreamLoader(*streams, (2, 2), 1, 0), method, optimizer, amp=amp).run()
    assert inside == [expected]
    assert method.predictor.weight.dtype == torch.float32


@pytest.mark.parametrize("name", ["supervised", "dca"])
def test_an_empty_unlabelled_list_means_supervised_training(tmp_path: Path, streams: Streams, name: str) -> None:
    trained = make_method(name)
    make_trainer(tmp_path, (streams[0], None), trained, epochs=2, steps=3).run()
    assert "loss_unlabelled" not in curves(tmp_path)[0]

    reference = make_method(name)  # by hand: the labelled losses alone, and nothing of the trainer
    optimizer = torch.optim.SGD(reference.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)
    loader = TwoStreamLoader(streams[0], None, (2, 2), 6, 0)
    for step, batch in enumerate(loader):
        torch.manual_seed(loader.step_seed(step))  # of the dropout
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 6) ** 0.9
        optimizer.zero_grad()
        with torch.autocast("cpu", autocast_dtype("cpu"), enabled=autocast_dtype("cpu") is not None):
            losses = reference(batch["image"], batch["label"][:, 0].long(), None, step / 6)
        sum(value for key, value in losses.items() if key != "loss" or len(losses) == 1).backward()
        optimizer.step()
    for key, value in reference.predictor.state_dict().items():
        torch.testing.assert_close(trained.predictor.state_dict()[key], value, rtol=1e-4, atol=1e-5)


def test_labelled_only_training_is_the_same_with_and_without_unlabelled_cases(tmp_path: Path, streams: Streams) -> None:
    states = []
    for number, unlabelled in enumerate((None, streams[1])):
        method = make_method("supervised")
        make_trainer(tmp_path / str(number), (streams[0], unlabelled), method, epochs=1).run()
        states.append(fingerprint(method.state_dict()))
    assert states[0] == states[1]


def test_curves_keep_a_row_per_epoch_where_only_some_have_a_validation(tmp_path: Path, streams: Streams) -> None:
    make_trainer(tmp_path, streams, Recorder(), epochs=3, steps=2, scores=(0.1, 0.5, 0.3), validate_every=2).run()
    rows = curves(tmp_path)
    assert [(row["epoch"], row["step"], row["val_mean_dice"]) for row in rows] == [
        ("1", "2", ""),
        ("2", "4", "0.500000"),
        ("3", "6", ""),
    ]


@pytest.mark.parametrize(
    ("shape", "wrong"),
    [((2, 1, 32, 64, 64), True), ((2, 1, 16, 16, 16), True), ((2, 1, 48, 32, 32), False), ((2, 1, 32, 32), False)],
)
def test_sizes_whose_gradients_bfloat16_gets_wrong_are_known(shape: tuple[int, ...], wrong: bool) -> None:
    assert miscomputed_in_bfloat16(torch.zeros(shape)) == wrong


def test_averaged_weights_follow_every_step_and_are_what_is_deployed(tmp_path: Path, streams: Streams) -> None:
    method = Recorder()
    assert method.deployed is method.predictor
    method.average_weights(decay=0.5)
    trainer = make_trainer(tmp_path, streams, method, epochs=3, steps=1)
    trainer.run()
    first, second, third = (call[2] for call in method.calls if call[0] == "after_step")
    # The first step is taken over; then half of each new one: 0.5 (0.5 w1 + 0.5 w2) + 0.5 w3.
    expected = 0.25 * first + 0.25 * second + 0.5 * third
    assert not torch.equal(first, third)
    torch.testing.assert_close(method.deployed.weight, expected)
    assert "average.module.weight" in method.state_dict()  # so that a resumed run goes on with it
