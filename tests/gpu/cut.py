"""Ends a training as a power cut would."""

from __future__ import annotations

import os

from ignite.engine import Events

from scripts.training.engine import SemiSupervisedTrainer
from scripts.training.handlers import ResumeCheckpoint


class CutOff(ResumeCheckpoint):
    """Saves after the first epoch, and ends the process with code 9."""

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        super().attach(engine)
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: os._exit(9))
