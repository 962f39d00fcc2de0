"""Whether a training is sound: finite losses and gradients, how large gradients are, and classes that it loses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events

from ..errors import UserError

NORM = "gradient_norm"  # in what a step returns: the length of the whole gradient, before it is clipped

FOUND = 0.01  # Dice from which a class counts as found: less comes of a few voxels by chance
# What to do about a class that is lost, in the order of its price (docs/explanation/method.md).
ADVICE = (
    "if it stays there, draw it more often (balanced_crops, balanced_slices), let the experts predict, too "
    "(prediction mean, residual), give it an expert of its own (method_options::grouping gaps), or label more of it"
)


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


def is_lost(scores: Sequence[tuple[int, float]], due: float) -> bool:
    """Whether a network finds nothing of a class any more, or nothing yet when it should.

    Args:
        scores: step and Dice of each validation, in their order; nan says nothing.
        due: the step by which the Dice should be at least `FOUND`.

    Example:
        >>> is_lost([(100, 0.0), (200, 0.0)], due=300), is_lost([(100, 0.2), (200, 0.0)], due=300)
        (False, True)
    """
    known = [(step, dice) for step, dice in scores if not math.isnan(dice)]
    if not known or known[-1][1] >= FOUND:
        return False
    return known[-1][0] >= due or any(dice >= FOUND for _, dice in known)


def news_of_class(scores: Sequence[tuple[int, float]], due: float) -> str:
    """What the last of these validations tells of a class; "" where it is neither lost nor found again by it."""
    before, now = is_lost(scores[:-1], due), is_lost(scores, due)
    if before == now:
        return ""
    dice = f"{scores[-1][1]:.3g}"
    if before:
        return f"is back: {dice}"
    found = [f"{earlier:.3g}" for _, earlier in scores if earlier >= FOUND]
    change = f"fell to {dice}, from {found[-1]}" if found else f"is still {dice} after a third of the training"
    return f"{change}; {ADVICE}"
