"""A run that was cut off goes on as if it had not been: bit for bit, with nothing lost and no better model replaced."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events

from scripts.checkpoints import load_predictor, load_tensors, save_atomically
from scripts.data.streams import SampleDataset
from scripts.errors import UserError
from scripts.training.engine import SemiSupervisedTrainer
from tests.tiny_training import curves, fingerprint, make_method, make_trainer, phantom_streams

Streams = tuple[SampleDataset, SampleDataset]


@pytest.fixture(scope="module")
def streams(heart_phantom: Path) -> Streams:
    return phantom_streams(heart_phantom)


class PowerCutError(Exception):
    """Ends a run from outside."""


class PowerCut:
    """Ends a run at its n-th event of one kind."""

    def __init__(self, event: Events, number: int) -> None:
        self.event = event(once=number)

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        engine.add_event_handler(self.event, self.strike)

    def strike(self) -> None:
        raise PowerCutError


def cut_off(trainer: SemiSupervisedTrainer) -> None:
    with pytest.raises(PowerCutError):
        trainer.run()


def everything(trainer: SemiSupervisedTrainer, folder: Path) -> dict[str, Any]:
    """What two equal runs have in common."""
    return {
        "method": fingerprint(trainer.method.state_dict()),
        "optimizer": fingerprint(trainer.optimizer.state_dict()),
        "lr_scheduler": fingerprint(trainer.lr_scheduler.state_dict()),
        "iteration": trainer.state.iteration,
        "curves": curves(folder),
    }


@pytest.fixture(scope="module")
def unbroken(streams: Streams, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("unbroken")
    trainer = make_trainer(folder, streams)
    trainer.run()
    return everything(trainer, folder)


@pytest.mark.parametrize("step", [None, 7])
def test_dropout_takes_part_by_numbers_that_belong_to_the_step(
    streams: Streams, tmp_path: Path, unbroken: dict[str, Any], step: int | None
) -> None:
    method = make_method()
    assert any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in method.modules())
    trainer = make_trainer(tmp_path, streams, method)
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda: torch.rand(1))  # what others draw changes nothing
    loader = trainer.loader
    loader.step_seed = lambda at, real=loader.step_seed: real(at) + (at == step)
    trainer.run()
    assert (everything(trainer, tmp_path)["method"] == unbroken["method"]) == (step is None)


@pytest.mark.parametrize("workers", [0, 2])
def test_same_seed_gives_the_same_weights(
    streams: Streams, tmp_path: Path, unbroken: dict[str, Any], workers: int
) -> None:
    trainer = make_trainer(tmp_path, streams, workers=workers)
    trainer.run()
    assert everything(trainer, tmp_path) == unbroken


def test_another_seed_gives_other_weights(streams: Streams, tmp_path: Path, unbroken: dict[str, Any]) -> None:
    method = make_method(seed=0)
    trainer = make_trainer(tmp_path, streams, method, seed=1)  # the same first weights, other batches
    trainer.run()
    assert everything(trainer, tmp_path)["method"] != unbroken["method"]


@pytest.mark.parametrize(
    ("event", "number", "workers"),
    [
        (Events.ITERATION_COMPLETED, 4, 0),
        (Events.ITERATION_COMPLETED, 8, 2),
        (Events.EPOCH_STARTED, 3, 0),
        (Events.EPOCH_COMPLETED, 3, 0),  # after the row of the curves, before the checkpoint
        (Events.ITERATION_COMPLETED, 1, 0),  # before there is any checkpoint
    ],
)
def test_a_resumed_run_equals_the_unbroken_one(
    streams: Streams, tmp_path: Path, unbroken: dict[str, Any], event: Events, number: int, workers: int
) -> None:
    cut_off(make_trainer(tmp_path, streams, workers=workers, handlers=[PowerCut(event, number)]))
    trainer = make_trainer(tmp_path, streams, make_method(seed=9), workers=workers, resume=True)
    if not (tmp_path / "resume.pt").exists():
        trainer = make_trainer(tmp_path, streams, workers=workers, resume=True)
    trainer.run()
    assert everything(trainer, tmp_path) == unbroken


def test_a_run_may_be_cut_off_again_and_again(streams: Streams, tmp_path: Path, unbroken: dict[str, Any]) -> None:
    cut_off(make_trainer(tmp_path, streams, handlers=[PowerCut(Events.ITERATION_COMPLETED, 4)]))
    for epoch in (2, 3):  # a resumed engine counts its events from there on
        cut_off(make_trainer(tmp_path, streams, resume=True, handlers=[PowerCut(Events.EPOCH_STARTED, epoch + 1)]))
    trainer = make_trainer(tmp_path, streams, resume=True)
    trainer.run()
    assert everything(trainer, tmp_path) == unbroken


def test_resuming_a_finished_run_changes_nothing(streams: Streams, tmp_path: Path, unbroken: dict[str, Any]) -> None:
    make_trainer(tmp_path, streams).run()
    before = (tmp_path / "resume.pt").read_bytes()
    trainer = make_trainer(tmp_path, streams, make_method(seed=9), resume=True)
    trainer.run()
    assert everything(trainer, tmp_path) == unbroken
    assert (tmp_path / "resume.pt").read_bytes() == before


def test_without_the_flag_a_run_starts_anew(streams: Streams, tmp_path: Path, unbroken: dict[str, Any]) -> None:
    cut_off(make_trainer(tmp_path, streams, handlers=[PowerCut(Events.ITERATION_COMPLETED, 8)]))
    trainer = make_trainer(tmp_path, streams)
    trainer.run()
    assert everything(trainer, tmp_path) == unbroken


@pytest.mark.parametrize(("later", "best"), [((0.3, 0.4), 2), ((0.3, 0.95), 4)])
def test_a_resumed_run_keeps_the_best_model_until_it_finds_a_better_one(
    streams: Streams, tmp_path: Path, later: tuple[float, float], best: int
) -> None:
    scores = (0.2, 0.9, *later)
    weights: dict[int, str] = {}

    def run(resume: bool, cut: list[PowerCut]) -> SemiSupervisedTrainer:
        trainer = make_trainer(tmp_path, streams, resume=resume, scores=scores, handlers=cut)
        trainer.add_event_handler(
            Events.EPOCH_COMPLETED,
            lambda engine: weights.update({engine.state.epoch: fingerprint(engine.method.predictor.state_dict())}),
        )
        return trainer

    cut_off(run(False, [PowerCut(Events.ITERATION_COMPLETED, 8)]))
    assert fingerprint(load_tensors(tmp_path / "model.pt")) == weights[2]
    run(True, []).run()
    assert len(set(weights.values())) == 4
    assert fingerprint(load_tensors(tmp_path / "model.pt")) == weights[best]
    assert load_tensors(tmp_path / "resume.pt")["best"] == {"metric": scores[best - 1], "epoch": best}
    assert [float(row["val_mean_dice"]) for row in curves(tmp_path)] == list(scores)


def test_model_pt_is_the_predictors_plain_state_dict(streams: Streams, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, streams, epochs=1, scores=(0.5,))
    trainer.run()
    other = make_method(seed=9).predictor
    load_predictor(other, tmp_path / "model.pt")
    assert fingerprint(other.state_dict()) == fingerprint(trainer.method.predictor.state_dict())


def test_a_checkpoint_of_another_network_is_refused(streams: Streams, tmp_path: Path) -> None:
    make_trainer(tmp_path, streams, epochs=1, scores=(0.5,)).run()
    for other in (make_method(width=4), make_method("supervised")):
        before = fingerprint(other.state_dict())
        with pytest.raises(UserError, match=r"resume\.pt: expected the weights of this .* another network"):
            make_trainer(tmp_path, streams, other, epochs=1, resume=True).run()
        with pytest.raises(UserError, match=r"model\.pt: expected the weights of this .* another network"):
            load_predictor(other.predictor, tmp_path / "model.pt")
        assert fingerprint(other.state_dict()) == before


def test_a_checkpoint_of_another_length_is_refused(streams: Streams, tmp_path: Path) -> None:
    make_trainer(tmp_path, streams, epochs=1, steps=2).run()
    with pytest.raises(UserError, match=r"resume\.pt: expected a run of 6 steps, found one of 2"):
        make_trainer(tmp_path, streams, epochs=2, steps=3, resume=True).run()


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "foreign", "code", "incomplete"])
def test_a_damaged_checkpoint_is_refused(streams: Streams, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "resume.pt"
    make_trainer(tmp_path, streams, epochs=1, steps=1).run()
    whole = path.read_bytes()
    if damage == "foreign":
        torch.save([1, 2], path)
    elif damage == "code":  # an object that would run something when it is unpickled
        torch.save({"total_steps": os.system}, path)
    elif damage == "incomplete":
        torch.save({"total_steps": 1}, path)
    else:
        path.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"weights"}[damage])
    with pytest.raises(UserError, match=r"resume\.pt: expected a checkpoint"):
        make_trainer(tmp_path, streams, epochs=1, steps=1, resume=True).run()


def test_no_checkpoint_to_load_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.pt: expected a checkpoint, found no such file"):
        load_tensors(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), UserError),
        (RuntimeError("a bug of ours"), RuntimeError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, raised: type[BaseException]
) -> None:
    path = tmp_path / "folder" / "model.pt"
    save_atomically({"weight": torch.zeros(1000)}, path)
    whole = path.read_bytes()

    def fail(content: Any, file: io.BufferedWriter) -> None:
        file.write(whole[: len(whole) // 2])
        raise failure

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(raised):
        save_atomically({"weight": torch.ones(1000)}, path)
    assert path.read_bytes() == whole
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("numbers", [10, 1_000_000])  # torch reports the one and the other in different ways
def test_a_full_disk_is_told_with_the_file(tmp_path: Path, numbers: int) -> None:
    (tmp_path / "model.pt.partial").symlink_to("/dev/full")  # a device on which every write finds no space
    with pytest.raises(UserError, match=r"model\.pt: expected to write a checkpoint, found: no space left on the disk"):
        save_atomically({"weight": torch.zeros(numbers)}, tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


def test_the_last_weights_are_kept_at_the_end_and_by_a_run_that_was_cut_off_just_before(
    streams: Streams, tmp_path: Path
) -> None:
    """The best score is that of epoch 1, so that model.pt and last.pt differ."""
    scores = (0.9, 0.5, 0.4, 0.3)
    trainer = make_trainer(tmp_path, streams, scores=scores, handlers=[PowerCut(Events.COMPLETED, 4)])
    cut_off(trainer)
    assert not (tmp_path / "last.pt").exists()
    again = make_trainer(tmp_path, streams, scores=scores, resume=True)
    again.run()
    last, best = (fingerprint(load_tensors(tmp_path / name)) for name in ("last.pt", "model.pt"))
    assert last == fingerprint(trainer.method.predictor.state_dict())
    assert last != best
