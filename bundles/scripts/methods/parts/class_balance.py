"""How often each class occurs, and weights that make up for it: shared by the methods for imbalanced classes.

All of them work on the classes' shares of the voxels, background first, so that counts over label files and counts over
a batch can be averaged with each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ...by_class import voxels_by_class
from ...class_sizes import class_sizes
from ...networks import TwinNet
from .cross_pseudo import CrossPseudo

# Of a class that has not been seen, so that every weight is finite: a hundred-millionth of a voxel, as released.
SMALLEST_SHARE = 1e-14


def labelled_shares(label_files: Sequence[str], num_classes: int) -> torch.Tensor:
    """Shares [K + 1] of the classes, background first, in the voxels of label files; equal ones without files."""
    if not label_files:
        return torch.full((num_classes + 1,), 1.0 / (num_classes + 1))
    sizes = torch.from_numpy(class_sizes(label_files, num_classes, background=True))
    return (sizes / sizes.sum()).float()


def batch_shares(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Shares [K + 1] of the classes, background first, in class ids [B, *spatial]."""
    return voxels_by_class(labels.long(), num_classes + 1).float() / labels.numel()


class ClassShares(nn.Module):
    """A moving average of the classes' shares (MagicNet); its buffer `shares` [K + 1] resumes it.

    Args:
        num_classes: foreground classes K.
        decay: of the average: shares <- decay * shares + (1 - decay) * the batch's.
    """

    shares: torch.Tensor

    def __init__(self, num_classes: int, decay: float = 0.99) -> None:
        super().__init__()
        self.num_classes, self.decay = num_classes, decay
        self.register_buffer("shares", torch.full((num_classes + 1,), 1.0 / (num_classes + 1)))

    def start(self, shares: torch.Tensor) -> None:
        """Begin at these shares [K + 1]."""
        self.shares.copy_(shares)

    @torch.no_grad()
    def update(self, labels: torch.Tensor) -> None:
        """Fold in the shares of class ids [B, *spatial]; none leave it as it is."""
        if labels.numel() > 0:
            self.shares.lerp_(batch_shares(labels, self.num_classes), 1.0 - self.decay)


class ShareWeighted(CrossPseudo):
    """Cross pseudo supervision whose class weights a rule makes of the classes' shares.

    The weights of either network start with those of the labelled set. Where a method's `observe` calls `follow`, they
    are from then on a moving average of the batches' weights. A method of the family defines `rule`.

    Args:
        predictor: the TwinNet.
        unsup_weight: weight of the loss that needs no labels, after its warm-up.
        ramp, ramp_length: its warm-up ("sigmoid", "linear", "constant"), and the share of the training it takes.
        absent: Dice of a class without a voxel in the batch: "skip", "smooth" or "probability" (`losses.soft_dice`).
        decay: of the average: weights <- decay * weights + (1 - decay) * those of the batch.
    """

    weights: torch.Tensor

    def __init__(
        self,
        predictor: TwinNet,
        unsup_weight: float = 0.1,
        ramp: str = "sigmoid",
        ramp_length: float = 1.0,
        absent: str = "skip",
        decay: float = 0.99,
    ) -> None:
        super().__init__(predictor, unsup_weight=unsup_weight, ramp=ramp, ramp_length=ramp_length, absent=absent)
        self.decay = decay
        self.register_buffer("weights", torch.ones(2, predictor.num_classes + 1))

    def rule(self, shares: torch.Tensor) -> torch.Tensor:
        """The weights [K + 1] of classes with these shares [K + 1]."""
        raise TypeError(f"{type(self).__name__} does not define its weights")

    def prepare(self, label_files: Sequence[str], class_names: Mapping[int, str] | None = None) -> None:
        """See `Method.prepare`: weigh the classes by their shares in the labelled set."""
        self.weights.copy_(self.rule(labelled_shares(label_files, self.predictor.num_classes)))

    @torch.no_grad()
    def follow(self, side: int, labels: torch.Tensor) -> None:
        """Fold the weights of class ids [B, *spatial] into those of network 0 or 1; none leave them as they are."""
        if labels.numel() > 0:
            current = self.rule(batch_shares(labels, self.predictor.num_classes))
            self.weights[side].lerp_(current, 1.0 - self.decay)

    def class_weights(self, side: int) -> torch.Tensor:
        """See `CrossPseudo.class_weights`."""
        return self.weights[side].clone()


def inverse_cube_root(shares: torch.Tensor) -> torch.Tensor:
    """(P_max / P_c)^(1/3), [C] to [C]: 1 for the most frequent class, at most 100 (CLD)."""
    shares = shares.clamp_min(1e-6 * shares.max())
    return (shares.max() / shares) ** (1 / 3)


def log_ratio(shares: torch.Tensor) -> torch.Tensor:
    """C ln(P_max / P_c) / max_j of the same, [C] to [C]: 0 for the most frequent class (DHC, DistDW).

    Equal shares weigh 1 each.
    """
    shares = shares.clamp_min(SMALLEST_SHARE)
    logarithms = (shares.max() / shares).log()
    highest = logarithms.max()
    return torch.where(highest > 0, len(shares) * logarithms / highest, torch.ones_like(shares))


def gap_to_largest(shares: torch.Tensor) -> torch.Tensor:
    """C (P_max - P_c), [C] to [C]: 0 for the most frequent class (SimiS). Equal shares weigh 1 each."""
    gaps = shares.max() - shares
    return torch.where(gaps.max() > 0, len(shares) * gaps, torch.ones_like(shares))


def reversed_frequency(shares: torch.Tensor, power: float = 1 / 3) -> torch.Tensor:
    """The l-th most frequent class gets the l-th smallest (P_c / P_max)^power, [C] to [C]; 1 for the rarest (CReST)."""
    shares = shares.clamp_min(SMALLEST_SHARE)
    frequency, by_size = (shares / shares.max()) ** power, shares.argsort(descending=True)
    return torch.empty_like(shares).scatter(0, by_size, frequency.sort().values)


def rarest_rates(shares: torch.Tensor) -> torch.Tensor:
    """P_min / P_c, [C] to [C], P_min being that of the rarest class that was seen; 1 for one that was not (SKCDF)."""
    rarest = shares[shares > 0].min()
    return rarest / shares.clamp_min(rarest)


def keep_rates(need: torch.Tensor, power: float) -> torch.Tensor:
    """(need_c / max need)^power, [C] to [C]: the rate at which a class's voxels are kept, 1 where all need is 0."""
    need = need.clamp_min(0.0) + torch.finfo(need.dtype).tiny
    return (need / need.max()) ** power


def keep_at_random(rates: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A mask [B, *spatial], true with the probability rates [C] of each voxel's class id in `labels` [B, *spatial]."""
    return torch.rand(labels.shape, device=labels.device) < rates[labels]
