"""Whether the numbers of a training are sound: losses and gradients that are finite, and how large gradients are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events

from ..errors import UserError

NORM = "gradient_norm"  # in what a step returns: the length of the whole gradient, before it is clipped


class NotFiniteError(UserError):
    """A loss or a gradient that is NaN or infinite.

    Args:
        step: number of the step, counted from 1.
        values: the losses of that step, and its `NORM` where the gradient was computed.
        more: what else there is to say.
    """

    def __init__(self, step: int, values: Mapping[str, float], more: str = "") -> None:
        self.step, self.values = step, values
        names = {"loss": "the loss", NORM: "the gradient"}
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        parts = [name for name in wrong if name not in ("loss", NORM)] or wrong[:1]  # what made the sum so
        kinds = [f"{'NaN' if math.isnan(values[name]) else 'infinity'} in {names.get(name, name)}" for name in parts]
        found = ", ".join(kinds) + f" at step {step}{more}"
        super().__init__(
            f"training: expected finite losses and gradients, found {found}; lower `lr`, set "
            "`clip_gradient_norm`, or look for extreme values in the images"
        )


class GradientNorms:
    """Tells the mean and the largest gradient norm of each epoch among the metrics of the engine, for all logs.

    A norm that is not finite is left out: in float16, steps of too large a scale are skipped.
    """

    def attach(self, engine: Engine) -> None:
        """Collect per step, tell per epoch; attach it before the handlers that log."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._tell)

    def _reset(self) -> None:
        self.total: torch.Tensor | float = 0.0
        self.count: torch.Tensor | float = 0.0
        self.largest: torch.Tensor | float = 0.0

    def _add(self, engine: Any) -> None:
        norm = engine.state.output[NORM]  # stays on its device: reading would wait for it
        finite = norm.isfinite()
        norm = torch.where(finite, norm, 0.0)
        self.total, self.count = self.total + norm.double(), self.count + finite.double()
        self.largest = norm.clamp_min(self.largest)

    def _tell(self, engine: Engine) -> None:
        engine.state.metrics[NORM] = float(self.total) / max(1.0, float(self.count))
        engine.state.metrics[f"{NORM}_max"] = float(self.largest)
