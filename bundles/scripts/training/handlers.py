"""What a training writes on its way: curves, the best model, and all that a resumed run needs."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import Workflow
from torch.nn import Module

from ..checkpoints import load_state, load_tensors, save_atomically
from ..errors import UserError
from ..files import sha256, write_json
from ..scoring.metrics import SegmentationScores
from ..scoring.tables import class_names, write_scores_csv
from ..settings import as_flag
from .engine import SemiSupervisedTrainer
from .health import NORM, is_lost, news_of_class

logger = logging.getLogger(__name__)

METRIC = "dice"  # by which a class is found lost


class CurveLog:
    """Writes a row per epoch to a CSV file: step, seconds, learning rate, mean of each loss, gradient norm, validation.

    A resumed run goes on with the same file; rows of epochs that it repeats are dropped. Attach it after the validation
    handler. A class that the network loses is a warning in the log: its validation Dice falls to 0, or is still 0 after
    the first third of the training (`health.is_lost`). Once it is back there is a line again.

    Args:
        path: the CSV file.
        validator: the validation engine; its metrics of the same epoch are in the row.
        scores: the validation's scores, for a column per class.
        labels: names of the classes for these columns.
    """

    def __init__(
        self,
        path: str | Path,
        validator: Engine | None = None,
        scores: SegmentationScores | None = None,
        labels: Mapping[str | int, str] | None = None,
    ) -> None:
        self.path = Path(path)
        self.validator, self.scores = validator, scores
        self.labels = class_names(labels or {})
        self.sums: dict[str, torch.Tensor | float] = {}
        self.steps = 0
        self.started = time.monotonic()

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Collect per step, write per epoch; only the first process does."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _reset(self, engine: SemiSupervisedTrainer) -> None:
        self.sums, self.steps, self.started = {}, 0, time.monotonic()

    def _add(self, engine: SemiSupervisedTrainer) -> None:
        for name, value in engine.state.output.items():
            if name != NORM:  # of which `GradientNorms` tells more
                self.sums[name] = self.sums.get(name, 0.0) + value.double()  # there: reading would wait for the device
        self.steps += 1

    def _write(self, engine: SemiSupervisedTrainer) -> None:
        if engine.state.rank != 0:
            return
        losses = {name: float(total) / max(1, self.steps) for name, total in self.sums.items()}  # waits for the device
        row: dict[str, Any] = {
            "epoch": engine.state.epoch,
            "step": engine.state.iteration,
            "seconds": round(time.monotonic() - self.started, 3),
            "lr": engine.optimizer.param_groups[0]["lr"],
            **losses,
            **{name: value for name, value in engine.state.metrics.items() if name.startswith(NORM)},
            **self._validation(engine.state.epoch),
        }
        rows = [*(r for r in self._earlier() if int(r["epoch"]) < engine.state.epoch), row]
        columns = dict.fromkeys(column for r in rows for column in r)  # epochs without validation have fewer
        write_scores_csv(self.path, [{column: r.get(column, "") for column in columns} for r in rows])
        self._tell_of_lost_classes(rows, engine.total_steps / 3)

    def _validation(self, epoch: int) -> dict[str, float]:
        if self.validator is None or self.validator.state.epoch != epoch:
            return {}
        row: dict[str, float] = dict(self.validator.state.metrics)
        if self.scores is not None:
            for metric, means in self.scores.class_means().items():
                for c, value in enumerate(means.tolist(), start=1):
                    row[f"{metric} {self.labels.get(c, c)}"] = value
        return row

    def _tell_of_lost_classes(self, rows: Sequence[Mapping[str, Any]], due: float) -> None:
        """Told from the rows, so that a resumed run knows what the earlier one has seen."""
        if self.scores is None or METRIC not in self.scores.metrics or self.validator is None:
            return
        for c, labelled in enumerate(self.scores.labelled().tolist(), start=1):
            column = f"{METRIC} {self.labels.get(c, c)}"
            if not labelled or column not in rows[-1]:  # not to be seen in this validation set, or no validation
                continue
            told = [(int(row["step"]), float(row[column])) for row in rows if row.get(column, "") != ""]
            if news := news_of_class(told, due):
                level = logging.INFO if is_lost(told[:-1], due) else logging.WARNING
                where = (self.labels.get(c, c), rows[-1]["epoch"], rows[-1]["step"])
                logger.log(level, "class %s, epoch %d, step %d: the validation Dice %s", *where, news)

    def _earlier(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


# What a checkpoint of a run holds.
RESUMED = ("epoch", "iteration", "total_steps", "method", "optimizer", "lr_scheduler", "grad_scaler", "best")


class BestModel:
    """Writes model.pt, the predictor's plain state dict, whenever the validation reaches a new best score.

    Unlike MONAI's CheckpointSaver it replaces the file atomically, and a resumed run (see `ResumeCheckpoint`) knows the
    best score of its first part and does not overwrite that model with a worse one.

    Beside it stands model.json, which says what the model is: how it was trained, its score, and its own hash.

    Args:
        path: the file.
        network: the predictor.
        about: plain values for model.json, such as the split, the class names and what the method found beforehand.
    """

    def __init__(self, path: str | Path, network: Module, about: Mapping[str, Any] | None = None) -> None:
        self.path = Path(path)
        self.network = network
        self.about = dict(about or {})

    def attach(self, engine: Workflow) -> None:
        """Compare after every validation; `engine` is the validation engine and has a key metric."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def save(self, engine: Workflow) -> None:
        """Write the model if this epoch is the best so far; only the first process does."""
        if engine.state.rank == 0 and engine.state.best_metric_epoch == engine.state.epoch:
            save_atomically(self.network.state_dict(), self.path)
            score = {engine.state.key_metric_name: float(engine.state.best_metric), "epoch": int(engine.state.epoch)}
            about = self.about | {"validation": score, "sha256": sha256(self.path)}
            write_json(self.path.with_suffix(".json"), about)


class LastModel:
    """Writes last.pt, the predictor's plain state dict at the end of a training, whatever its validation score.

    Args:
        path: the file, which is replaced atomically.
        network: the predictor.
    """

    def __init__(self, path: str | Path, network: Module) -> None:
        self.path = Path(path)
        self.network = network

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Write when all epochs are over; a run that is resumed after them writes, too."""
        engine.add_event_handler(Events.COMPLETED, self.save)

    def save(self, engine: SemiSupervisedTrainer) -> None:
        """Write the weights; only the first process does."""
        if engine.state.rank == 0:
            save_atomically(self.network.state_dict(), self.path)


class ResumeCheckpoint:
    """Saves after every epoch all that a run needs to go on exactly, and restores it where asked.

    One file, replaced atomically: the method's state (networks, teachers, banks), optimizer, schedule, gradient scaler,
    epoch and step, and the best validation score so far. What is random needs no state: it depends only on the step
    (see `data.streams`). Attach it last: after the validation, so that the best score is current, and after the curves,
    so that a kill in between repeats an epoch rather than loses its row.

    Args:
        path: the checkpoint, in the run's own folder; not among the bundle's models.
        resume: go on from `path` if it exists; False starts anew.
        validator: the validation engine whose best score is kept; may be None.
        interval: epochs between two saves; the last epoch always saves.
    """

    def __init__(
        self, path: str | Path, resume: bool = False, validator: Workflow | None = None, interval: int = 1
    ) -> None:
        self.path = Path(path)
        self.resume = as_flag("resume", resume)
        self.validator = validator
        self.interval = interval

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Restore at the start, save at the end of epochs."""
        engine.add_event_handler(Events.STARTED, self.restore)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def save(self, engine: SemiSupervisedTrainer) -> None:
        """Write the state after this epoch; only the first process does."""
        epoch = engine.state.epoch
        last = epoch == engine.state.max_epochs
        if engine.state.rank != 0 or not (last or epoch % self.interval == 0):
            return
        scheduler = engine.lr_scheduler
        save_atomically(
            {
                "epoch": epoch,
                "iteration": engine.state.iteration,
                "total_steps": engine.total_steps,
                "method": engine.method.state_dict(),
                "optimizer": engine.optimizer.state_dict(),
                "lr_scheduler": scheduler.state_dict() if scheduler is not None else {},
                "grad_scaler": engine.grad_scaler.state_dict(),
                "best": self._best(),
            },
            self.path,
        )

    def restore(self, engine: SemiSupervisedTrainer) -> None:
        """Go on from the file, if asked and there is one.

        Raises:
            UserError: the file is damaged, or of another network or length of training.
        """
        begun = engine.state.iteration > 0  # a later round of a federated learning has weights of its own
        if not self.resume or begun or not self.path.exists():
            return
        state = load_tensors(self.path, engine.state.device)
        missing = [key for key in RESUMED if key not in state]
        if missing:
            raise UserError(
                f"{self.path}: expected a checkpoint of a run, found one without {', '.join(missing)}; "
                "resume from the file that training wrote, or start anew"
            )
        if state["total_steps"] != engine.total_steps:
            raise UserError(
                f"{self.path}: expected a run of {engine.total_steps} steps, found one of {state['total_steps']}; the "
                "schedule depends on the length, so resume with the same `max_epochs`, or start anew"
            )
        load_state(engine.method, state["method"], self.path)
        engine.optimizer.load_state_dict(state["optimizer"])
        if engine.lr_scheduler is not None:
            engine.lr_scheduler.load_state_dict(state["lr_scheduler"])
        engine.grad_scaler.load_state_dict(state["grad_scaler"])
        engine.state.epoch, engine.state.iteration = state["epoch"], state["iteration"]
        if self.validator is not None and state["best"]:
            self.validator.state.best_metric = state["best"]["metric"]
            self.validator.state.best_metric_epoch = state["best"]["epoch"]
        logger.info("resumed %s after epoch %d, step %d", self.path, state["epoch"], state["iteration"])

    def _best(self) -> dict[str, float]:
        state = getattr(self.validator, "state", None)
        if state is None or state.best_metric_epoch < 0:
            return {}
        return {"metric": float(state.best_metric), "epoch": int(state.best_metric_epoch)}
