"""GA: MagicNet with losses whose gradient does not fade for rare and absent classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from ..by_class import voxels_by_class
from ..losses import voxel_cross_entropy
from ..networks import SegmentationNet
from .magicnet import MagicNet


class GA(MagicNet):
    """Gradient-aware losses ("Gradient-Aware for Class-Imbalanced Semi-supervised Medical Image Segmentation", ECCV
    2024) in MagicNet, as in the published 3D tables.

    GADice, in the place of every Dice, gives a class that is absent from the batch a gradient in proportion to its
    probability (the rule "probability" of `losses.soft_dice`). GACE, in the place of the cross-entropy, is
    `equilibrium_cross_entropy` of the hardest voxels.

    Args:
        predictor: the student.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        teacher_decay: share of its own weights that the teacher keeps at every step; the rest is the student's.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
        grid: cubes per axis.
        location_weight: weight of telling the positions.
        decay: share that the moving average of the frequencies keeps of itself at every step.
        noise: standard deviation of what is added to the teacher's images; it is clipped at twice that.
        hardest: share of the labelled voxels that GACE keeps.
        balance: of GACE, between equal classes (0) and equal voxels (1).
    """

    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {**MagicNet.tuning, "hardest": (0.3,), "balance": (0.3, 0.7)}

    def __init__(
        self,
        predictor: SegmentationNet,
        unsup_weight: float = 0.1,
        ramp: str = "sigmoid",
        ramp_length: float = 1.0,
        teacher_decay: float = 0.99,
        absent: str = "probability",
        grid: int = 2,
        location_weight: float = 0.1,
        decay: float = 0.95,
        noise: float = 0.1,
        hardest: float = 0.1,
        balance: float = 0.5,
    ) -> None:
        super().__init__(
            predictor,
            unsup_weight=unsup_weight,
            ramp=ramp,
            ramp_length=ramp_length,
            teacher_decay=teacher_decay,
            absent=absent,
            grid=grid,
            location_weight=location_weight,
            decay=decay,
            noise=noise,
        )
        self.hardest, self.balance = hardest, balance

    def supervised_loss(self, logits: Sequence[torch.Tensor], label: torch.Tensor) -> torch.Tensor:
        """See `MagicNet.supervised_loss`."""
        dice = torch.stack([self._dice(z, label) for z in logits]).sum()
        return (equilibrium_cross_entropy(logits[0], label, self.hardest, self.balance) + dice) / 4.0


def equilibrium_cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, hardest: float = 1.0, balance: float = 0.5
) -> torch.Tensor:
    """GACE: of the N voxels with the largest cross-entropy, the sum of CE / (n_c^(1 - g) N^g), a scalar.

    n_c counts the kept voxels of the voxel's class c, and g is `balance`: with 1 this is the mean over the voxels, with
    0 the sum of the classes' means.

    Args:
        logits: [B, C, *spatial].
        target: [B, *spatial], class ids.
        hardest: N as a share of all voxels.
        balance: g.
    """
    loss = voxel_cross_entropy(logits, target).flatten()
    loss, kept = loss.topk(max(1, round(hardest * len(loss))), sorted=False)
    ids = target.flatten()[kept]
    voxels = voxels_by_class(ids, logits.shape[1]).float()
    return (loss * voxels[ids] ** (balance - 1.0)).sum() / len(loss) ** balance
