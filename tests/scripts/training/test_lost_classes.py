"""A class that the network no longer finds, or does not find in time, is told while it trains."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events

from scripts.data.streams import SampleDataset, TwoStreamLoader
from scripts.scoring.metrics import SegmentationScores
from scripts.training.engine import SemiSupervisedTrainer
from scripts.training.handlers import CurveLog
from scripts.training.health import news_of_class
from tests.tiny_training import CPU, make_method, phantom_streams

NAMES = {"1": "liver", "2": "adrenal"}
STEPS = 2  # of an epoch
HALF, NONE, ABSENT = "half of it", "nothing", "not in the labels"
HINTS = ("balanced_crops", "balanced_slices", "prediction mean", "grouping gaps", "label more")


class Found:
    """A validation of one image: how much of class 2 is found in each epoch, None for no validation."""

    def __init__(self, found: Sequence[str | None], first: int) -> None:
        self.found = dict(enumerate(found, first))
        self.scores, self.validator = SegmentationScores(num_classes=2), Engine(lambda engine, batch: None)

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.validate)

    def validate(self, engine: SemiSupervisedTrainer) -> None:
        how = self.found[engine.state.epoch]
        if how is None:
            return
        label, prediction = torch.zeros(2, 1, 1, 4, 4).unbind()
        label[..., 0], prediction[..., 0] = 1, 1
        if how != ABSENT:
            label[..., 1:3] = 2
        if how in (HALF, ABSENT):
            prediction[..., 1] = 2
        self.scores.reset()
        self.scores(prediction, label)
        self.validator.state.epoch = engine.state.epoch


@pytest.fixture(scope="module")
def streams(heart_phantom: Path) -> tuple[SampleDataset, SampleDataset]:
    return phantom_streams(heart_phantom)


def train(
    folder: Path, streams: tuple[SampleDataset, SampleDataset], found: Sequence[str | None], epochs: int, first: int = 1
) -> None:
    """Train for as many epochs as `found` has; the schedule is `epochs` long."""
    method = make_method("supervised")
    validation = Found(found, first)
    curves = CurveLog(folder / "curves.csv", validation.validator, validation.scores, NAMES)
    optimizer = torch.optim.SGD(method.parameters(), 0.0)
    loader = TwoStreamLoader(*streams, (2, 2), STEPS, 0)
    trainer = SemiSupervisedTrainer(
        CPU, epochs, loader, method, optimizer, amp=False, train_handlers=[validation, curves]
    )
    trainer.state.epoch, trainer.state.iteration = first - 1, STEPS * (first - 1)
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda e: e.terminate() if e.state.epoch == first + len(found) - 1 else None
    )
    trainer.run()


def told(caplog: pytest.LogCaptureFixture) -> Mapping[int, str]:
    """The warnings and notes by their step."""
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("training.handlers")]
    assert all(line.startswith("class adrenal, epoch ") for line in lines)
    return {int(line.split("step ")[1].split(":")[0]): line.split("Dice ")[1] for line in lines}


def test_a_class_that_falls_to_0_is_told_once_until_it_is_back(
    tmp_path: Path, streams: tuple[SampleDataset, SampleDataset], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    train(tmp_path, streams, [HALF, NONE, NONE, HALF, HALF, NONE], 30)
    news = told(caplog)
    assert list(news) == [4, 8, 12]
    assert news[4].startswith("fell to 0, from 0.667; ")
    assert news[8] == "is back: 0.667"
    assert news[12].startswith("fell to 0, from 0.667; ")
    assert all(hint in news[4] and hint in news[12] for hint in HINTS)
    levels = [r.levelno for r in caplog.records if r.name.endswith("training.handlers")]
    assert levels == [logging.WARNING, logging.INFO, logging.WARNING]


def test_a_class_that_is_not_found_in_a_third_of_the_training_is_told_once(
    tmp_path: Path, streams: tuple[SampleDataset, SampleDataset], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    train(tmp_path, streams, [NONE] * 6, 12)
    news = told(caplog)
    assert list(news) == [8]  # of 24 steps
    assert news[8].startswith("is still 0 after a third of the training; ")


def test_a_class_of_a_few_voxels_by_chance_is_not_found() -> None:
    assert news_of_class([(1, 0.009), (2, 0.0)], due=9) == ""
    assert news_of_class([(1, 0.009), (2, 0.004)], due=2).startswith("is still 0.004 after")
    assert news_of_class([(1, 0.4), (2, float("nan")), (3, 0.002)], due=9).startswith("fell to 0.002, from 0.4;")
    assert news_of_class([(1, 0.4), (2, 0.0), (3, float("nan"))], due=9) == ""


def test_a_resumed_run_knows_what_the_first_one_found(
    tmp_path: Path, streams: tuple[SampleDataset, SampleDataset], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    train(tmp_path, streams, [HALF], 30)
    train(tmp_path, streams, [NONE, None, NONE], 30, first=2)
    assert list(told(caplog)) == [4]


def test_a_class_that_no_label_of_the_validation_has_is_not_told_of(
    tmp_path: Path, streams: tuple[SampleDataset, SampleDataset], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    train(tmp_path, streams, [ABSENT] * 3, 3)
    assert told(caplog) == {}
