"""CReST: cross pseudo supervision with the classes' frequencies, handed out in reverse, as weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from ..networks import TwinNet
from .parts.class_balance import ShareWeighted, reversed_frequency


class CReST(ShareWeighted):
    """The rarer a class, the more of its pseudo-labels count ("CReST: A Class-Rebalancing Self-Training Framework for
    Imbalanced Semi-Supervised Learning", CVPR 2021, in the form that the tables of this field compare with).

    The paper trains generation after generation, and each takes pseudo-labels of the l-th most frequent class over at
    the rate (N_{C+1-l} / N_1)^power. Here the training is one, and the rate is the class's weight in the Dice, the CE
    and the cross term of a network; the weights follow its own pseudo-labels of the unlabelled images.

    Args:
        predictor: the TwinNet.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
        decay: of the moving average of the weights.
        power: of the frequencies; 0 weighs all classes alike.
    """

    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {**ShareWeighted.tuning, "power": (1 / 6, 2 / 3)}

    def __init__(
        self,
        predictor: TwinNet,
        unsup_weight: float = 0.1,
        ramp: str = "sigmoid",
        ramp_length: float = 1.0,
        absent: str = "skip",
        decay: float = 0.99,
        power: float = 1 / 3,
    ) -> None:
        super().__init__(
            predictor, unsup_weight=unsup_weight, ramp=ramp, ramp_length=ramp_length, absent=absent, decay=decay
        )
        self.power = power

    def observe(self, logits: list[torch.Tensor], pseudo: list[torch.Tensor], label: torch.Tensor) -> None:
        """See `CrossPseudo.observe`."""
        for side, labels in enumerate(pseudo):
            self.follow(side, labels[len(label) :])

    def rule(self, shares: torch.Tensor) -> torch.Tensor:
        """See `ShareWeighted.rule`."""
        return reversed_frequency(shares, self.power)
