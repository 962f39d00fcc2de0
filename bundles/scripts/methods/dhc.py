"""DHC: two networks that debias each other, one by how hard the classes are, one by how frequent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from ..networks import TwinNet
from .parts.class_balance import ShareWeighted, log_ratio
from .parts.difficulty import DifficultyTracker


class DHC(ShareWeighted):
    """Cross pseudo supervision in which each network weighs the classes by a rule of its own ("DHC: Dual-debiased
    Heterogeneous Co-training Framework for Class-imbalanced Semi-supervised Medical Image Segmentation", MICCAI 2023).

    The first network has difficulty weights (DiffDW, see `DifficultyTracker`) out of its Dice on the labelled batches.
    The second has distribution weights (DistDW) w_c = C ln(N_max / N_c) / max_j of the same, averaged over
    its own pseudo-labels of the unlabelled images; background, the most frequent class, then weighs 0. The weights
    scale the network's Dice, CE and cross term.

    Args:
        predictor: the TwinNet.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
        decay: of the moving average of the second network's weights.
        window: batches over which the rise and fall of a class's Dice are averaged.
        power: exponent of fall over rise in the difficulty.
    """

    published_network: ClassVar[dict[str, Any]] = {}  # both networks are drawn alike
    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {**ShareWeighted.tuning, "power": (0.1, 0.5)}

    def __init__(
        self,
        predictor: TwinNet,
        unsup_weight: float = 0.1,
        ramp: str = "sigmoid",
        ramp_length: float = 1.0,
        absent: str = "skip",
        decay: float = 0.99,
        window: int = 50,
        power: float = 0.2,
    ) -> None:
        super().__init__(
            predictor, unsup_weight=unsup_weight, ramp=ramp, ramp_length=ramp_length, absent=absent, decay=decay
        )
        self.difficulty = DifficultyTracker(predictor.num_classes, window, power)

    def observe(self, logits: list[torch.Tensor], pseudo: list[torch.Tensor], label: torch.Tensor) -> None:
        """See `CrossPseudo.observe`."""
        self.difficulty.update(logits[0][: len(label)], label)
        self.follow(1, pseudo[1][len(label) :])

    def class_weights(self, side: int) -> torch.Tensor:
        """See `CrossPseudo.class_weights`."""
        return self.difficulty.weights() if side == 0 else super().class_weights(side)

    def rule(self, shares: torch.Tensor) -> torch.Tensor:
        """See `ShareWeighted.rule`."""
        return log_ratio(shares)
