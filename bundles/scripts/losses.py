"""Segmentation losses with hooks for class weights and voxel masks, and an explicit rule for absent classes."""

from __future__ import annotations

import torch
from torch.nn import functional

from .by_class import sums_by_class
from .settings import expect_one_of

ABSENT_RULES = ("skip", "smooth", "probability")


def soft_dice(
    probabilities: torch.Tensor,
    target: torch.Tensor,
    classes: torch.Tensor | None = None,
    absent: str = "skip",
    weight: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    smooth: float = 1e-5,
) -> torch.Tensor:
    """Dice loss with a squared denominator, over the whole batch, as in the published 2D protocol.

    Per class 1 - (2 sum(p g) + s) / (sum(p^2) + sum(g^2) + s), averaged over the classes.

    Args:
        probabilities: [B, C, *spatial], in any float type; sums are taken in float32.
        target: [B, *spatial], class ids.
        classes: the channels that count, bool [C]; None takes all, background included.
        absent: what a foreground class without a voxel of `target` in the batch does. "skip" leaves it out: with a tiny
            `smooth` its loss would be near one with almost no gradient. "smooth" keeps it in, as the peers do.
            "probability" takes the mean of p stop(p) over the voxels in its place, for background, too: the more a
            voxel is taken for the class, the more it is pushed away (GA, GADice).
        weight: [C], multiplies each class's loss before the mean.
        mask: [B, *spatial], 0 where a voxel is to be ignored.
        smooth: the s above.

    Returns:
        A scalar.

    Raises:
        UserError: an unknown rule for absent classes.
    """
    expect_one_of("absent", absent, ABSENT_RULES)
    p, ids = probabilities.float(), target.long()
    # Gathered where the target is and added up per class: a one-hot target or a comparison with every class would pass
    # over all channels several times more, forward and backward.
    at_target = p.gather(1, ids.unsqueeze(1)).squeeze(1)
    voxels = torch.ones_like(at_target)
    if mask is not None:
        p, voxels = p * mask.unsqueeze(1), mask.float().square()
        at_target = at_target * voxels
    overlap = sums_by_class(at_target, ids, p.shape[1])
    volume = sums_by_class(voxels, ids, p.shape[1])
    squares = p.square().sum([0, *range(2, p.dim())])
    per_class = 1 - (2 * overlap + smooth) / (squares + volume + smooth)
    if absent == "probability":
        # The sum of p stop(p) has the value of that of p^2, and half of its gradient.
        pushed = 0.5 * (squares + squares.detach()) / voxels.sum().clamp_min(1)
        per_class = torch.where(volume == 0, pushed, per_class)
    if weight is not None:
        per_class = per_class * weight
    counted = torch.ones_like(per_class, dtype=torch.bool) if classes is None else classes
    if absent == "skip":
        background = torch.arange(len(volume), device=volume.device) == 0
        counted = counted & ((volume > 0) | background)
    return (per_class * counted).sum() / counted.sum().clamp_min(1)


def cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Cross-entropy [B, C, *spatial] against class ids [B, *spatial], a weighted mean over the voxels.

    A voxel weighs `weight` [C] of its class times `mask` [B, *spatial], and the sum is divided by the sum of these
    weights, as torch's CrossEntropyLoss does. Where all weigh 0 the loss is 0.
    """
    return _negative_log_likelihood(logits.float().log_softmax(1), target, weight, mask)


def voxel_cross_entropy(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Cross-entropy of every voxel, [B, *spatial], times `weight` [C] of its class, which nothing divides by."""
    loss = functional.nll_loss(logits.float().log_softmax(1), target.long(), reduction="none")
    return loss if weight is None else loss * weight[target.long()]


def _negative_log_likelihood(
    log_probabilities: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None, mask: torch.Tensor | None
) -> torch.Tensor:
    if weight is None and mask is None:
        return functional.nll_loss(log_probabilities, target.long())
    loss = functional.nll_loss(log_probabilities, target.long(), reduction="none")
    weights = loss.new_ones(()) if weight is None else weight.float()[target.long()]
    weights = weights if mask is None else weights * mask
    return (loss * weights).sum() / weights.sum().clamp_min(torch.finfo(loss.dtype).tiny)


def segmentation_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    classes: torch.Tensor | None = None,
    absent: str = "skip",
    weight: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """L_seg = (Dice + CE) / 2 (DCA, Conquer), a scalar.

    Args:
        logits: [B, C, *spatial].
        target: [B, *spatial], class ids.
        classes: the channels that count in the Dice, bool [C]; None takes all. The cross-entropy is always over all.
        absent: what a foreground class without a voxel in the batch does to the Dice (`soft_dice`).
        weight: [C], weighs the classes in both parts.
        mask: [B, *spatial], 0 where a voxel is to be ignored.
    """
    # One softmax for both parts, channels first: what follows passes over them one by one.
    log_probabilities = logits.to(torch.float32, memory_format=torch.contiguous_format).log_softmax(1)
    dice = soft_dice(log_probabilities.exp(), target, classes, absent, weight, mask)
    return 0.5 * (dice + _negative_log_likelihood(log_probabilities, target, weight, mask))
