"""Checkpoints: atomic writing, safe reading, and exact resume."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import Workflow
from torch.nn import Module

from .engine import SemiSupervisedTrainer
from .errors import UserError, as_flag, first_line
from .files import replacing, sha256, write_json

logger = logging.getLogger(__name__)

# What a checkpoint of a run holds.
RESUMED = (
    "epoch",
    "iteration",
    "total_steps",
    "method",
    "optimizer",
    "lr_scheduler",
    "grad_scaler",
    "best",
)


def save_atomically(content: Any, path: str | Path) -> None:
    """`torch.save` that leaves either the old file or the complete new one, whatever happens meanwhile.

    Raises:
        UserError: the file cannot be written, for example for lack of space.
    """
    with replacing(path, "a checkpoint") as partial, partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


def load_tensors(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint of tensors and primitives (`weights_only`: nothing in it is executed).

    Raises:
        UserError: the file is missing, damaged, or holds anything else.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: expected a checkpoint, found no such file; train first or check the path") from None
    except Exception as error:
        reason = first_line(error, most=120)
        raise UserError(
            f"{path}: expected a checkpoint of tensors, found a damaged or foreign file ({reason})"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a checkpoint (a dictionary of tensors), found a {type(content).__name__}")
    return content


def load_state(module: Module, state: Mapping[str, Any], path: str | Path) -> None:
    """Load a state dict of exactly this network.

    Raises:
        UserError: names or shapes differ; the message counts them and names the first of each.
    """
    own = module.state_dict()
    missing = [k for k in own if k not in state]
    foreign = [k for k in state if k not in own]
    shapes = [k for k in own if k in state and own[k].shape != state[k].shape]
    if missing or foreign or shapes:
        found = [
            f"{len(keys)} {what} (first: {keys[0]})"
            for what, keys in (("missing", missing), ("unknown", foreign), ("of another shape", shapes))
            if keys
        ]
        raise UserError(
            f"{path}: expected the weights of this {type(module).__name__}, found a checkpoint of another network with "
            f"{', '.join(found)}; use the `method`, `width` and number of classes that it was trained with"
        )
    module.load_state_dict(state)


def load_predictor(network: Module, path: str | Path, device: torch.device | str = "cpu") -> None:
    """Load model.pt, a predictor's plain state dict (also wrapped as {"model": ...}), into `network`.

    Raises:
        UserError: see `load_tensors` and `load_state`.
    """
    content = load_tensors(path, device)
    load_state(network, content.get("model", content), path)
    logger.info("loaded %s", path)


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


class ResumeCheckpoint:
    """Saves after every epoch all that a run needs to go on exactly, and restores it where asked.

    One file, replaced atomically: the method's state (networks, teachers, banks), optimizer, schedule, gradient scaler,
    epoch and step, and the best validation score so far. What is random needs no state: it depends only on the step
    (see `data`). Attach it last: after the validation, so that the best score is current, and after the curves, so that
    a kill in between repeats an epoch rather than loses its row.

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
        if not self.resume or not self.path.exists():
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
