"""SimiS: cross pseudo supervision with weights for what a class lacks to the largest one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from .parts.class_balance import ShareWeighted, gap_to_largest


class SimiS(ShareWeighted):
    """Every class weighs what it lacks to the most frequent one ("An Embarrassingly Simple Baseline for Imbalanced
    Semi-Supervised Learning", 2022, in the form that the tables of this field compare with).

    The paper tops rare classes up with pseudo-labels in proportion to the gap. A voxel cannot be added to an image, so
    the gap is a weight here: w_c = C (P_max - P_c) in the Dice, the CE and the cross term of a network, where P are the
    shares of its own argmax on the whole batch. The weights start at C, alike, so that background, which has no gap,
    leaves the losses slowly.

    Args:
        predictor: the TwinNet.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
        decay: of the moving average of the weights.
    """

    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {**ShareWeighted.tuning, "decay": (0.9,)}

    def prepare(self, label_files: Sequence[str], class_names: Mapping[int, str] | None = None) -> None:
        """See `Method.prepare`: one step of the average from equal weights towards those of the labelled set."""
        super().prepare(label_files, class_names)
        self.weights.lerp_(torch.full_like(self.weights, self.weights.shape[1]), self.decay)

    def observe(self, logits: list[torch.Tensor], pseudo: list[torch.Tensor], label: torch.Tensor) -> None:
        """See `CrossPseudo.observe`."""
        for side, labels in enumerate(pseudo):
            self.follow(side, labels)

    def rule(self, shares: torch.Tensor) -> torch.Tensor:
        """See `ShareWeighted.rule`."""
        return gap_to_largest(shares)
