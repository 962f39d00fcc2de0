"""Losses and gradients: what is told and kept when one is not finite, how large they are, and how they are clipped."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.engines.utils import IterationEvents
from monai.handlers import TensorBoardStatsHandler
from monai.transforms import Compose
from torch.utils.data import Dataset

from scripts.checkpoints import load_tensors
from scripts.data.streams import SampleDataset, TwoStreamLoader
from scripts.errors import UserError
from scripts.methods.base import Method
from scripts.training.engine import SemiSupervisedTrainer
from scripts.training.handlers import CurveLog, ResumeCheckpoint
from tests.tiny_training import CPU, fingerprint

SLICES = 3


class Numbered(Dataset[Any]):
    """Volumes of files F0, F1, ... whose slice s is everywhere 10 F + s + `first`."""

    def __init__(self, count: int, first: int) -> None:
        self.data = [{"image": f"{first + 10 * number}.nii.gz"} for number in range(count)]
        self.first = first

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        values = (self.first + 10 * index + torch.arange(SLICES)).expand(1, 4, 4, SLICES).float()
        return {"image": values, "label": torch.zeros(1, 4, 4, SLICES)}


class Scripted(Method):
    """A loss that is not finite on images of one value: in a part of it, or in its gradient only."""

    def __init__(self, bad: float = -1.0, where: str = "part") -> None:
        super().__init__(torch.nn.Conv2d(1, 2, 1))
        self.bad, self.where = bad, where

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: Any
    ) -> dict[str, torch.Tensor]:
        assert image_u is not None
        logits = self.predictor(image / 100)
        supervised, unlabelled = logits.square().mean(), logits.mean() * 0
        if (image_u == self.bad).any():  # infinity, or a root whose value is 0 and whose slope is none
            unlabelled = unlabelled + math.inf if self.where == "part" else unlabelled.square().sqrt()
        loss = supervised + unlabelled
        return {"loss": loss, "loss_supervised": supervised, "loss_unlabelled": unlabelled}


def make(folder: Path, method: Method, steps: int = 6, epochs: int = 2, **options: Any) -> SemiSupervisedTrainer:
    """Two labelled and three unlabelled volumes, two samples of each per step."""
    streams = [SampleDataset(Numbered(count, first), Compose([]), slice_axis=2) for count, first in ((2, 0), (3, 100))]
    loader = TwoStreamLoader(streams[0], streams[1], (2, 2), steps, 0)
    optimizer = torch.optim.SGD(method.parameters(), 0.05)
    handlers = [CurveLog(folder / "curves.csv"), ResumeCheckpoint(folder / "resume.pt")]
    handlers = [*options.pop("handlers", []), *handlers]
    failure = folder / "failed.pt"
    return SemiSupervisedTrainer(
        CPU, epochs, loader, method, optimizer, amp=False, failure_file=failure, train_handlers=handlers, **options
    )


def first_step_with(trainer: SemiSupervisedTrainer, value: float) -> tuple[int, list[str]]:
    """The first step with this value among the unlabelled images, counted from 1, and the images of its batch."""
    number = 0
    for epoch in range(trainer.state.max_epochs):
        trainer.loader.set_epoch(epoch)
        for batch in trainer.loader:
            number += 1
            if (batch["image_u"] == value).any():
                values = [int(image.max()) for image in torch.cat([batch["image"], batch["image_u"]])]
                return number, [f"{value // 10 * 10}.nii.gz (slice {value % 10})" for value in values]
    raise AssertionError("no such step")


@pytest.mark.parametrize("late", [False, True], ids=["at once", "later, as on a GPU"])
@pytest.mark.parametrize(
    ("where", "told"), [("part", "infinity in loss_unlabelled"), ("gradient", "NaN in the gradient")]
)
def test_what_is_not_finite_is_told_with_step_part_and_images_after_the_state_is_saved(
    tmp_path: Path, where: str, told: str, late: bool
) -> None:
    method = Scripted(121.0, where)
    trainer = make(tmp_path, method)
    step, images = first_step_with(trainer, 121.0)
    assert step not in (1, 6, 7)
    before: dict[int, str] = {}
    trainer.add_event_handler(
        IterationEvents.MODEL_COMPLETED,
        lambda engine: before.update({engine.state.iteration: fingerprint(method.state_dict())}),
    )
    if late:
        trainer.step.reads_at_once, trainer.check_every = False, 25
    with pytest.raises(UserError) as error:
        trainer.run()
    message = str(error.value)
    assert f"found {told} at step {step}, in a batch of {', '.join(images)} " in message
    assert str(tmp_path / "failed.pt") in message
    saved = load_tensors(tmp_path / "failed.pt")
    assert (saved["step"], saved["images"]) == (step, images)
    if not late:  # no weight has changed since the step before
        assert fingerprint(saved["method"]) == before[step - 1] == fingerprint(method.state_dict())
    if step < 6:
        assert not (tmp_path / "resume.pt").exists()
    else:
        assert fingerprint(load_tensors(tmp_path / "resume.pt")["method"]) == before[6]


def test_a_state_that_cannot_be_saved_does_not_hide_why_the_training_ended(tmp_path: Path) -> None:
    trainer = make(tmp_path, Scripted(121.0))
    (tmp_path / "failed.pt.partial").mkdir()
    with pytest.raises(UserError, match=r"infinity in loss_unlabelled at step \d+.*the state is not saved: "):
        trainer.run()


class Writer:
    """Stands for TensorBoard."""

    def __init__(self) -> None:
        self.written: dict[str, list[float]] = {}

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.written.setdefault(tag, []).append(value)

    def flush(self) -> None:
        """Nothing waits."""


def test_mean_and_largest_gradient_norm_of_each_epoch_are_in_the_curves_and_in_tensorboard(tmp_path: Path) -> None:
    writer, norms = Writer(), []
    board = TensorBoardStatsHandler(summary_writer=writer, iteration_log=False)  # type: ignore[arg-type]
    trainer = make(tmp_path, Scripted(), steps=3, handlers=[board])

    def measure() -> None:
        gradients = [p.grad.double().flatten() for p in trainer.method.parameters() if p.grad is not None]
        norms.append(math.sqrt(sum(float(value) ** 2 for value in torch.cat(gradients))))

    trainer.add_event_handler(IterationEvents.BACKWARD_COMPLETED, measure)
    trainer.run()
    epochs = [norms[:3], norms[3:]]
    assert all(max(epoch) > 1.01 * min(epoch) for epoch in epochs)
    expected = {"gradient_norm": [sum(e) / 3 for e in epochs], "gradient_norm_max": [max(e) for e in epochs]}
    with (tmp_path / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name, values in expected.items():
        assert writer.written[name] == pytest.approx(values, rel=1e-5)
        assert [float(row[name]) for row in rows] == pytest.approx(values, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("clip", "shortened"), [(None, False), (1e3, False), (1e-3, True)])
def test_a_gradient_is_shortened_to_the_length_that_is_asked_for(
    tmp_path: Path, clip: float | None, shortened: bool
) -> None:
    method = Scripted()
    before = [p.detach().clone() for p in method.parameters()]
    trainer = make(tmp_path, method, steps=1, epochs=1, clip_gradient_norm=clip)
    trainer.run()
    moved = (
        torch.cat([(p.detach() - b).flatten() for p, b in zip(method.parameters(), before, strict=True)]).norm() / 0.05
    )
    norm = trainer.state.metrics["gradient_norm"]  # of the gradient as it was
    assert float(moved) == pytest.approx(1e-3 if shortened else norm, rel=1e-3)
    assert norm > 2e-3


def test_a_training_that_goes_on_beyond_its_schedules_is_refused(tmp_path: Path) -> None:
    for rounds in (1, 2):
        trainer = make(tmp_path, Scripted(), steps=2, epochs=1, federated_rounds=rounds)
        trainer.run()
        trainer.state.max_epochs = 2
        if rounds == 2:
            trainer.run()
            assert trainer.state.iteration == 4
        else:
            with pytest.raises(UserError, match=r"expected at most 2 steps.*set `federated_rounds`"):
                trainer.run()
