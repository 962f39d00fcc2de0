"""How hard each class is at present, learnt from the labelled batches: shared by the methods for imbalanced classes.

Every tracker is a module whose buffers resume it, is fed with the labelled part of a batch, and has one number per
class, background first. A class without a labelled voxel in a batch keeps what is known of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from ...by_class import sums_by_class, voxels_by_class
from .class_balance import keep_rates
from .pseudo_labels import hard_labels

SMALLEST_DICE = 1e-4  # a class that is missed altogether; its logarithm must not drown what was learnt before
NO_CHANGE = 1e-6  # far below the change of a Dice from batch to batch: classes without any are neither learnt nor not


class ClassAverage(nn.Module):
    """Moving averages of some scores per class, over the batches that hold the class.

    mean <- a mean + (1 - a) score, a = min(1 - 1 / batches of the class, decay): the first batches count alike, so that
    what it starts at is forgotten at once, however short the training.

    Args:
        num_classes: foreground classes K.
        start: one number per score, until the first batch of a class.
        decay: of the average.
    """

    mean: torch.Tensor
    batches: torch.Tensor

    def __init__(self, num_classes: int, start: Sequence[float], decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean", torch.tensor(list(start)).unsqueeze(1).repeat(1, num_classes + 1))
        self.register_buffer("batches", torch.zeros(num_classes + 1, dtype=torch.long))

    @torch.no_grad()
    def update(self, scores: torch.Tensor, present: torch.Tensor) -> None:
        """Fold in finite scores [S, K + 1] of the classes that are `present` [K + 1]."""
        self.batches += present
        share = (1.0 / self.batches.clamp_min(1)).clamp_min(1.0 - self.decay)
        self.mean.lerp_(scores, share * present)


class DifficultyTracker(nn.Module):
    """Difficulty weights (DHC, DiffDW): of a class that is segmented badly, and whose Dice falls rather than rises.

    With d_t the Dice of a class's argmax in the batch t and delta_t = ln(d_t / d_{t-1}) (d_t - d_{t-1}) >= 0, averaged
    over about `window` batches where the Dice rose (learn) and where it fell (unlearn),

        w_c = C (unlearn_c / learn_c)^power * mean(1 - d_c)   [/ max_j of the same without C]

    Args:
        num_classes: foreground classes K; C = K + 1.
        window: batches that the averages reach back: their decay is 1 - 1 / window.
        power: of the ratio.
        normalise: divide by the largest, so that the hardest class weighs C; else they shrink as Dice grows (A&D).
    """

    last_dice: torch.Tensor

    def __init__(self, num_classes: int, window: int = 50, power: float = 0.2, normalise: bool = True) -> None:
        super().__init__()
        self.num_classes, self.power, self.normalise = num_classes, power, normalise
        self.average = ClassAverage(num_classes, [1.0, 0.0, 0.0], 1.0 - 1.0 / window)
        self.register_buffer("last_dice", torch.zeros(num_classes + 1))

    @torch.no_grad()
    def update(self, logits: torch.Tensor, label: torch.Tensor) -> None:
        """Fold in the logits [B, K + 1, *spatial] of labelled images and their label [B, *spatial]."""
        dice, present = hard_dice(hard_labels(logits), label, self.num_classes)
        before = torch.where(self.average.batches > 0, self.last_dice, dice)
        logarithms = [d.clamp_min(SMALLEST_DICE).log() for d in (dice, before)]
        change = (logarithms[0] - logarithms[1]) * (dice - before)
        rose = dice > before
        self.average.update(torch.stack([1.0 - dice, change * rose, change * ~rose]), present)
        self.last_dice.copy_(torch.where(present, dice, self.last_dice))

    def weights(self) -> torch.Tensor:
        """The weights [K + 1]; all C before the first batch."""
        missing, learnt, unlearnt = self.average.mean
        weights = missing * ((unlearnt + NO_CHANGE) / (learnt + NO_CHANGE)) ** self.power
        if self.normalise:
            weights = weights / weights.max().clamp_min(SMALLEST_DICE)
        return len(weights) * weights


class ConfidenceBank(nn.Module):
    """How sure a network is of the true class, averaged per class (CLD, Dual uncertainty-aware sampling).

    Args:
        num_classes: foreground classes K.
        decay: of the moving average.
    """

    def __init__(self, num_classes: int, decay: float = 0.999) -> None:
        super().__init__()
        self.average = ClassAverage(num_classes, [0.0], decay)

    @torch.no_grad()
    def update(self, logits: torch.Tensor, label: torch.Tensor) -> None:
        """Fold in the logits [B, K + 1, *spatial] of labelled images and their label [B, *spatial]."""
        self.average.update(*class_means([true_class_probability(logits, label)], label, logits.shape[1]))

    def rates(self, power: float = 0.5) -> torch.Tensor:
        """Rates ((1 - confidence) / max)^power [K + 1] at which to keep voxels of a class: 1 for the least sure."""
        return keep_rates(1.0 - self.average.mean[0], power)


class PerformanceBank(nn.Module):
    """Entropy, doubt and variance of the classes, merged into one rating (Basak et al., MICCAI 2022).

    Per class, averaged over the voxels of the label: the entropy over ln C, the doubt 1 - p_true, and the variance
    max_k p_k - p_true. A softmax over the classes makes each score x, the larger the worse, and a Gompertz function
    ranks it: R = 1 - exp(-exp(-2 x)). Of each score the `ranked` worst classes count; the others count as perfect
    (x = 0). The rating is (1 - mean x) * sum R, over the three scores, divided by the largest: 1 for the best class.

    Args:
        num_classes: foreground classes K.
        ranked: how many classes count per score.
        decay: of the moving averages.
    """

    def __init__(self, num_classes: int, ranked: int = 12, decay: float = 0.99) -> None:
        super().__init__()
        self.ranked = min(ranked, num_classes + 1)
        self.average = ClassAverage(num_classes, [1.0, 1.0, 1.0], decay)

    @torch.no_grad()
    def update(self, logits: torch.Tensor, label: torch.Tensor) -> None:
        """Fold in the logits [B, K + 1, *spatial] of labelled images and their label [B, *spatial]."""
        log_p = logits.float().log_softmax(1)
        p = log_p.exp()
        true = p.gather(1, label.unsqueeze(1)).squeeze(1)
        entropy = -(p * log_p).sum(1) / math.log(p.shape[1])
        self.average.update(*class_means([entropy, 1.0 - true, p.amax(1) - true], label, p.shape[1]))

    def rating(self) -> torch.Tensor:
        """The rating [K + 1] of the classes, in (0, 1]."""
        x = self.average.mean.softmax(1)
        x = x * (x >= x.topk(self.ranked, dim=1).values[:, -1:])
        rating = (1.0 - x.mean(0)) * (1.0 - (-(-2.0 * x).exp()).exp()).sum(0)
        return rating / rating.max()

    def rates(self, power: float = 2.5) -> torch.Tensor:
        """Rates ((1 - rating) / max)^power [K + 1] at which to keep voxels of a class: 1 for the worst."""
        return keep_rates(1.0 - self.rating(), power)


def hard_dice(predicted: torch.Tensor, label: torch.Tensor, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Dice [K + 1] of class ids [B, *spatial] over the whole batch, and which classes [K + 1] the label holds."""
    channels = num_classes + 1
    # Where they differ, the voxel counts for a class more, which is left out again.
    both = voxels_by_class(torch.where(predicted == label, label, channels), channels + 1)[:channels]
    voxels, true = voxels_by_class(predicted, channels), voxels_by_class(label, channels)
    return 2.0 * both / (voxels + true).clamp_min(1), true > 0


def true_class_probability(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Probability [B, *spatial] that logits [B, K + 1, *spatial] give to the class of the label [B, *spatial]."""
    z = logits.float()
    return (z.gather(1, label.unsqueeze(1)).squeeze(1) - z.logsumexp(1)).exp()


def class_means(
    scores: Sequence[torch.Tensor], label: torch.Tensor, channels: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Means [S, C] of S scores [B, *spatial] over the voxels of each class, and which classes [C] have any."""
    voxels = voxels_by_class(label, channels)
    sums = torch.stack([sums_by_class(score, label, channels) for score in scores])
    return sums / voxels.clamp_min(1), voxels > 0
