"""SimiS: cross pseudo supervision with weights for what a class lacks to the largest one."""

from __future__ import annotations

import torch

from .class_balance import ShareWeighted, gap_to_largest


class SimiS(ShareWeighted):
    """Every class weighs what it lacks to the most frequent one ("An Embarrassingly Simple Baseline for Imbalanced
    Semi-Supervised Learning", 2022, in the form that the tables of this field compare with).

    The paper tops rare classes up with pseudo-labels in proportion to the gap. A voxel cannot be added to an image, so
    the gap is a weight here: w_c = C (P_max - P_c) in the Dice, the CE and the cross term of a network, where P, the
    shares, follow its own argmax on the whole batch. Background, the most frequent class, weighs 0.

    Args:
        predictor, unsup_weight, ramp, ramp_length, absent: see `CrossPseudo`.
        decay: of the moving average of the shares.
    """

    def observe(self, logits: list[torch.Tensor], pseudo: list[torch.Tensor], label: torch.Tensor) -> None:
        """See `CrossPseudo.observe`."""
        for shares, labels in zip(self.shares, pseudo, strict=True):
            shares.update(labels)

    def class_weights(self, side: int) -> torch.Tensor:
        """See `CrossPseudo.class_weights`."""
        return gap_to_largest(self.shares[side].shares)
