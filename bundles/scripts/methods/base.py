"""What a semi-supervised method is to the trainer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from ..settings import expect_one_of


class Method(nn.Module):
    """Turns a labelled and an unlabelled batch into a loss.

    A method owns its networks. `predictor` is the one that is evaluated, exported and deployed; its state dict is
    model.pt. Whatever else a method remembers (a teacher, class weights, counters) is a sub-module or a buffer, so that
    the method's state dict resumes it exactly.

    Class attributes: `network` builds the predictor; `published` and `published_network` hold the options of the paper
    where they differ from the defaults, which are the ones this project recommends, and `published_3d` those that are
    of volumes only; `published_lr` holds the learning rates of the released code, by spatial dimensions, for SGD;
    `unlabelled` says whether the method looks at unlabelled images at all.
    """

    network: Callable[..., nn.Module]
    published: ClassVar[Mapping[str, Any]] = {}
    published_3d: ClassVar[Mapping[str, Any]] = {}
    published_network: ClassVar[Mapping[str, Any]] = {}
    published_lr: ClassVar[Mapping[int, float]] = {2: 0.01}
    unlabelled: ClassVar[bool] = True

    def __init__(self, predictor: nn.Module) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(
        self, image: torch.Tensor, label: torch.Tensor, image_u: torch.Tensor | None, progress: float
    ) -> dict[str, torch.Tensor]:
        """The losses of one step.

        Args:
            image: [B_l, C_in, *spatial], labelled.
            label: [B_l, *spatial], class ids of `image`.
            image_u: [B_u, C_in, *spatial], unlabelled, or None: then the method trains on labels only.
            progress: share of the training that is done, in [0, 1].

        Returns:
            "loss", the scalar to minimise, and named scalars for the log.
        """
        raise TypeError(f"{type(self).__name__} does not define its losses")

    def prepare(self, label_files: Sequence[str], class_names: Mapping[int, str] | None = None) -> None:
        """Look once at the labels of the labelled set before training; most methods need not. Names are for the log."""

    def describe(self) -> dict[str, Any]:
        """What `prepare` found, as plain values for the file that accompanies a model; most methods have nothing."""
        return {}

    def after_step(self, progress: float) -> None:
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

    def __init__(
        self, predictor: nn.Module, unsup_weight: float = 1.0, ramp: str = "sigmoid", ramp_length: float = 1.0
    ) -> None:
        super().__init__(predictor)
        expect_one_of("ramp", ramp, RAMPS)
        self.unsup_weight, self.ramp, self.ramp_length = unsup_weight, ramp, ramp_length

    def ramped_weight(self, progress: float) -> float:
        """The weight of the part without labels at this share of the training."""
        return self.unsup_weight * RAMPS[self.ramp](progress, self.ramp_length)


def sigmoid_ramp(progress: float, length: float = 1.0) -> float:
    """Warm-up exp(-5 (1 - t / T)^2), with T = `length` as a share of the training; 1 from T on (DCA, Total)."""
    return math.exp(-5.0 * (1.0 - min(progress / length, 1.0)) ** 2) if length > 0 else 1.0


def linear_ramp(progress: float, length: float = 1.0) -> float:
    """Warm-up t / T up to 1, with T = `length` as a share of the training."""
    return min(progress / length, 1.0) if length > 0 else 1.0


RAMPS = {"sigmoid": sigmoid_ramp, "linear": linear_ramp, "constant": lambda progress, length=1.0: 1.0}
