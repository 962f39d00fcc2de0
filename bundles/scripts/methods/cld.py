"""CLD: cross pseudo supervision with class weights, and with fewer voxels of the classes that are known well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import nn

from ..losses import voxel_cross_entropy
from ..networks import TwinNet
from .parts.class_balance import ShareWeighted, inverse_cube_root, keep_at_random
from .parts.difficulty import ConfidenceBank


class CLD(ShareWeighted):
    """Calibrated label distribution ("Calibrating Label Distribution for Class-Imbalanced Barely-Supervised Knee
    Segmentation", MICCAI 2022).

    The class weights (N_max / N_c)^(1/3) of the labelled set scale Dice, CE and cross term. A voxel enters a network's
    cross term at the rate of the class that this network sees there, ((1 - confidence) / max)^power, where the
    confidence is the mean probability of the true class over labelled voxels. The term is a plain mean over all
    voxels, which nothing divides by the weights.

    Args:
        predictor: the TwinNet.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
        decay: of the moving average of the confidences.
        power: of the rates; 0 keeps all voxels.
    """

    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {**ShareWeighted.tuning, "power": (0.25, 1.0)}

    def __init__(
        self,
        predictor: TwinNet,
        unsup_weight: float = 0.1,
        ramp: str = "sigmoid",
        ramp_length: float = 1.0,
        absent: str = "skip",
        decay: float = 0.999,
        power: float = 0.5,
    ) -> None:
        super().__init__(predictor, unsup_weight=unsup_weight, ramp=ramp, ramp_length=ramp_length, absent=absent)
        self.power = power
        banks = nn.ModuleList(ConfidenceBank(predictor.num_classes, decay) for _ in range(2))
        self.banks = cast(Sequence[ConfidenceBank], banks)  # for the type checker: what is in the list

    def observe(self, logits: list[torch.Tensor], pseudo: list[torch.Tensor], label: torch.Tensor) -> None:
        """See `CrossPseudo.observe`."""
        self.kept: list[torch.Tensor] = []
        for bank, own, seen in zip(self.banks, logits, pseudo, strict=True):
            bank.update(own[: len(label)], label)
            self.kept.append(keep_at_random(bank.rates(self.power), seen))

    def rule(self, shares: torch.Tensor) -> torch.Tensor:
        """See `ShareWeighted.rule`."""
        return inverse_cube_root(shares)

    def cross_loss(
        self, side: int, logits: torch.Tensor, pseudo: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        """See `CrossPseudo.cross_loss`."""
        return (voxel_cross_entropy(logits, pseudo, weight) * self.kept[side]).mean()
