"""What a semi-supervised method is to the trainer."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from ..networks import MovingAverage
from ..settings import expect_one_of


class Method(nn.Module):
    """Turns a labelled and an unlabelled batch into a loss.

    A method owns its networks. `predictor` is the one that is evaluated, exported and deployed; its state dict is
    model.pt. Whatever else a method remembers (a teacher, class weights, counters) is a sub-module or a buffer, so that
    the method's state dict resumes it exactly.

    Class attributes: `network` builds the predictor; `published` and `published_network` hold the options of the paper
    where they differ from the defaults, and `published_3d` those that are of volumes only; `recommended` and
    `recommended_network` hold what this project recommends where that differs from the defaults, `recommended_2d` and
    `recommended_network_3d` what is of slices or of volumes only; `published_lr` holds the released code's learning
    rates for SGD, by spatial dimensions; `unlabelled` says whether the method looks at unlabelled images at all;
    `rounds`, in how many equal parts it trains, of which each has the whole schedule of the learning rate; `tuning`
    holds values to try of its most important options, besides the defaults (`python -m tools compare --tune`).

    A step of a method does not wait for the host: no tensor's values decide on shapes, branches or numbers of Python.
    So it can be captured as a CUDA graph (`training.graphs`). `waits` says why, where a method cannot do without.
    """

    network: Callable[..., nn.Module]
    published: ClassVar[Mapping[str, Any]] = {}
    published_3d: ClassVar[Mapping[str, Any]] = {}
    published_network: ClassVar[Mapping[str, Any]] = {}
    recommended: ClassVar[Mapping[str, Any]] = {}
    recommended_network: ClassVar[Mapping[str, Any]] = {}
    recommended_2d: ClassVar[Mapping[str, Any]] = {}
    recommended_network_3d: ClassVar[Mapping[str, Any]] = {}
    published_lr: ClassVar[Mapping[int, float]] = {2: 0.01}
    unlabelled: ClassVar[bool] = True
    waits: ClassVar[str] = ""
    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {}
    rounds: int = 1

    def __init__(self, predictor: nn.Module) -> None:
        super().__init__()
        self.predictor = predictor
        self.average: MovingAverage | None = None
        self.form = -1  # the last one, unless `enter` says otherwise

    def average_weights(self, decay: float) -> None:
        """From now on the weights' moving average is evaluated and deployed; the predictor is what learns."""
        self.average = MovingAverage(self.predictor, decay)

    @property
    def deployed(self) -> nn.Module:
        """What is evaluated and exported: the predictor, or the average of its weights."""
        return self.predictor if self.average is None else self.average.module

    @property
    def changes(self) -> tuple[float, ...]:
        """Shares of the training, rising, from which on a step has another form; that of most methods has but one."""
        return ()

    def enter(self, progress: float) -> int:
        """Give the following steps the form of this share of the training; returns its number, counted from 0."""
        self.form = bisect_right(self.changes, progress)
        return self.form

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: torch.Tensor | float
    ) -> dict[str, torch.Tensor]:
        """The losses of one step.

        Args:
            image: [B_l, C_in, *spatial], labelled.
            label: [B_l, *spatial], class ids of `image`.
            image_u: [B_u, C_in, *spatial], unlabelled, or None: then the method trains on labels only.
            progress: share of the training that is done, in [0, 1]: a number, or a scalar on the images' device.

        Returns:
            "loss", the scalar to minimise, and named scalars for the log.
        """
        raise TypeError(f"{type(self).__name__} does not define its losses")

    def prepare(self, label_files: Sequence[str], class_names: Mapping[int, str] | None = None) -> None:
        """Look once at the labels of the labelled set before training; most methods need not. Names are for the log."""

    def describe(self) -> dict[str, Any]:
        """What `prepare` found, as plain values for the file that accompanies a model; most methods have nothing."""
        return {}

    def after_step(self, progress: torch.Tensor | float) -> None:
        """Update averages and banks after the optimizer's step; most methods have none."""


class SemiSupervised(Method):
    """A method whose loss is a supervised part plus weight * ramp(t) times a part that needs no labels.

    Args:
        predictor: the network that is evaluated and deployed.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.

    Raises:
        UserError: an unknown ramp.
    """

    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {"unsup_weight": (0.1, 0.3, 1.0), "ramp_length": (0.4, 1.0)}

    def __init__(
        self, predictor: nn.Module, unsup_weight: float = 1.0, ramp: str = "sigmoid", ramp_length: float = 1.0
    ) -> None:
        super().__init__(predictor)
        expect_one_of("ramp", ramp, RAMPS)
        self.unsup_weight, self.ramp, self.ramp_length = unsup_weight, ramp, ramp_length

    def ramped_weight(self, progress: torch.Tensor | float) -> torch.Tensor:
        """The weight of the part without labels at this share of the training, a float32 scalar."""
        return (self.unsup_weight * RAMPS[self.ramp](progress, self.ramp_length)).float()


def sigmoid_ramp(progress: torch.Tensor | float, length: float = 1.0) -> torch.Tensor:
    """Warm-up exp(-5 (1 - t / T)^2), with T = `length` as a share of the training; 1 from T on (DCA, Total)."""
    return (-5.0 * (1.0 - linear_ramp(progress, length)).square()).exp()


def linear_ramp(progress: torch.Tensor | float, length: float = 1.0) -> torch.Tensor:
    """Warm-up t / T up to 1, with T = `length` as a share of the training."""
    t = torch.as_tensor(progress, dtype=torch.float64)
    return (t / length).clamp_max(1.0) if length > 0 else torch.ones_like(t)


def no_ramp(progress: torch.Tensor | float, length: float = 1.0) -> torch.Tensor:
    """1 from the start."""
    return linear_ramp(progress, 0.0)


RAMPS = {"sigmoid": sigmoid_ramp, "linear": linear_ramp, "constant": no_ramp}
