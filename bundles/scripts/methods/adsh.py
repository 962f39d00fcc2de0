"""Adsh: cross pseudo supervision that admits the same share of every class's pseudo-labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import nn

from ..losses import cross_entropy, voxel_cross_entropy
from ..networks import TwinNet
from .parts.cross_pseudo import CrossPseudo

BINS = 1000  # of the histograms of probabilities


class Adsh(CrossPseudo):
    """Adaptive thresholding ("Class-Imbalanced Semi-Supervised Learning with Adaptive Thresholding", ICML 2022).

    A pseudo-label counts where its probability reaches the threshold of its class. The most frequent class has the
    fixed `threshold`, which a share of its voxels reaches; every other class has the threshold that the same share of
    its own voxels reaches. The thresholds belong to the network that makes the pseudo-labels, and follow its
    predictions on the unlabelled images. The cross term remains a mean over all voxels.

    Args:
        predictor: the TwinNet.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
        threshold: of the most frequent class.
        decay: of the moving average of the histograms.
        as_released: instead of leaving voxels out, set a logit to 0 where the other network's probability of its class
            is below the threshold, as the code behind the published 3D comparison does. That chooses no pseudo-labels:
            it takes the gradient of single logits away, and the softmax of the others is distorted.
    """

    published: ClassVar[dict[str, Any]] = {"as_released": True}
    tuning: ClassVar[Mapping[str, Sequence[Any]]] = {**CrossPseudo.tuning, "threshold": (0.7, 0.95)}

    def __init__(
        self,
        predictor: TwinNet,
        unsup_weight: float = 0.1,
        ramp: str = "sigmoid",
        ramp_length: float = 1.0,
        absent: str = "skip",
        threshold: float = 0.9,
        decay: float = 0.99,
        as_released: bool = False,
    ) -> None:
        super().__init__(predictor, unsup_weight=unsup_weight, ramp=ramp, ramp_length=ramp_length, absent=absent)
        self.as_released = as_released
        banks = nn.ModuleList(ThresholdBank(predictor.num_classes, threshold, decay) for _ in range(2))
        self.banks = cast(Sequence[ThresholdBank], banks)  # for the type checker: what is in the list

    def observe(self, logits: list[torch.Tensor], pseudo: list[torch.Tensor], label: torch.Tensor) -> None:
        """See `CrossPseudo.observe`."""
        first = len(label) if len(label) < len(logits[0]) else 0  # without unlabelled images, the labelled ones
        self.kept: list[torch.Tensor] = []
        for bank, own, predicted in zip(self.banks, logits, pseudo, strict=True):
            own = own.float()
            normaliser = own.logsumexp(1)
            confidence = (own.gather(1, predicted.unsqueeze(1)).squeeze(1) - normaliser).exp()
            bank.update(confidence[first:], predicted[first:])
            thresholds = bank.thresholds()
            if self.as_released:
                each = thresholds.view(-1, *[1] * (own.dim() - 2))
                self.kept.append((own - normaliser.unsqueeze(1)).exp() >= each)
            else:
                self.kept.append(confidence >= thresholds[predicted])

    def cross_loss(
        self, side: int, logits: torch.Tensor, pseudo: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        """See `CrossPseudo.cross_loss`."""
        kept = self.kept[1 - side]
        if self.as_released:
            return cross_entropy(logits * kept, pseudo, weight)
        return (voxel_cross_entropy(logits, pseudo, weight) * kept).mean()


class ThresholdBank(nn.Module):
    """Thresholds over which the same share of every class's predictions lies (Adsh).

    The probabilities are kept as a histogram per class: the bank takes as much memory after a year as at the start. The
    thresholds are thereby multiples of 1 / BINS.

    Args:
        num_classes: foreground classes K.
        threshold: of the most frequent class.
        decay: of the moving average of the histograms.
    """

    histogram: torch.Tensor

    def __init__(self, num_classes: int, threshold: float = 0.9, decay: float = 0.99) -> None:
        super().__init__()
        self.threshold, self.decay = threshold, decay
        self.register_buffer("histogram", torch.zeros(num_classes + 1, BINS))

    @torch.no_grad()
    def update(self, confidence: torch.Tensor, predicted: torch.Tensor) -> None:
        """Fold in predicted classes and their probabilities, both [B, *spatial]."""
        cell = predicted * BINS + (confidence * BINS).long().clamp_max(BINS - 1)
        shares = self.histogram.new_zeros(self.histogram.numel())
        shares.index_add_(0, cell.flatten(), shares.new_full([1], 1.0 / cell.numel()).expand(cell.numel()))
        self.histogram.lerp_(shares.view_as(self.histogram), 1.0 - self.decay)

    def thresholds(self) -> torch.Tensor:
        """The thresholds [K + 1]; 1 where no share is to be admitted, and of classes that have not been predicted."""
        reaching = self.histogram.flip(1).cumsum(1).flip(1)  # [C, BINS], at or above the lower edge of each bin
        reaching = torch.cat([reaching, torch.zeros_like(reaching[:, :1])], dim=1)
        largest = reaching[:, 0].argmax(0, keepdim=True)
        of_largest = reaching.index_select(0, largest)[0]
        share = of_largest[round(self.threshold * BINS)] / of_largest[0]
        # The counts fall from edge to edge, so that the number of edges with enough voxels is that of the highest one.
        thresholds = ((reaching >= share * reaching[:, :1]).sum(1) - 1) / BINS
        return thresholds.index_fill(0, largest, self.threshold)
