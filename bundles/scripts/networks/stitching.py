"""Prediction-level aggregation: one set of logits out of several experts (DCA, Aggregate)."""

from __future__ import annotations

import torch

from .convolutions import convolve

STITCHING_RULES = ("log_odds", "logits", "probability", "mean")
LINEAR_RULES = ("log_odds", "logits")  # in the logits


def stitch(expert_logits: torch.Tensor, owner: torch.Tensor, rule: str = "log_odds") -> torch.Tensor:
    """Take every foreground class from the expert that owns it.

    Args:
        expert_logits: [E, B, C, *spatial], all experts' logits over all C = K + 1 classes.
        owner: [K], the expert that owns foreground class c at index c - 1.
        rule: how the experts' scales are made comparable.

            - "log_odds": class logit minus the owner's own background logit, background 0. Every expert is measured
              against its own background, so that heads of different scale compete fairly.
            - "logits": the published rule, raw class logits and the mean of the experts' background logits.
            - "probability": the owner's softmax probability, and the product of the experts' background
              probabilities (background is where no expert sees anything).
            - "mean": the mean of the experts' softmaxes over all classes, for experts without label-split.

    Returns:
        Logits [B, C, *spatial]; their softmax is the stitched probability.

    Raises:
        ValueError: an unknown rule.
    """
    if rule == "mean":
        return expert_logits.softmax(2).mean(0).clamp_min(1e-8).log()
    if rule not in ("log_odds", "logits", "probability"):  # TorchScript knows no module's constants
        raise ValueError("stitching rule: expected log_odds, logits, probability or mean, found " + rule)
    scores = expert_logits.log_softmax(2) if rule == "probability" else expert_logits
    experts, classes = scores.shape[0], scores.shape[2]
    weight = _coefficients(owner, experts, rule).to(scores.dtype)
    # A 1^d convolution of the experts' channels: faster than selecting, and exported at every spatial size.
    stacked = scores.transpose(0, 1).flatten(1, 2)
    return convolve(stacked, weight.flatten(1).view([classes, experts * classes] + [1] * (stacked.dim() - 2)), None)


def stitched_convolution(
    maps: list[torch.Tensor],
    weights: list[torch.Tensor],
    biases: list[torch.Tensor],
    owner: torch.Tensor,
    rule: str = "log_odds",
) -> torch.Tensor:
    """What `stitch` makes of the experts' logits, straight from their last feature maps, for a rule of LINEAR_RULES.

    Args:
        maps: the E experts' last maps [B, w, *spatial].
        weights, biases: of the E convolutions [C, w, *kernel], [C] that would turn them into logits.
        owner: [K], the expert that owns foreground class c at index c - 1.
        rule: "log_odds" or "logits", how the experts' scales are made comparable (`stitch`).

    Returns:
        Logits [B, C, *spatial].
    """
    coefficients = _coefficients(owner, len(maps), rule)
    joint: list[torch.Tensor] = []
    bias = torch.zeros_like(biases[0])
    for i in range(len(maps)):
        mixed = coefficients[:, i].matmul(weights[i].flatten(1).float())
        joint.append(mixed.view(weights[i].shape))
        bias = bias + coefficients[:, i].matmul(biases[i].float())
    weight, dtype = torch.cat(joint, dim=1), weights[0].dtype
    return convolve(torch.cat(maps, dim=1), weight.to(dtype), bias.to(dtype))


def _coefficients(owner: torch.Tensor, experts: int, rule: str) -> torch.Tensor:
    """All rules but "mean" are linear in the scores: [C, E, C], what each expert's score adds to each class."""
    classes = owner.shape[0] + 1
    own = (torch.arange(experts, device=owner.device).unsqueeze(1) == owner.unsqueeze(0)).float()  # [E, K]
    weight = torch.zeros(classes, experts, classes, device=owner.device)
    weight[1:, :, 1:] = own.t().unsqueeze(2) * torch.eye(classes - 1, device=owner.device).unsqueeze(1)
    if rule == "log_odds":
        weight[1:, :, 0] = -own.t()
    else:
        weight[0, :, 0] = 1.0 if rule == "probability" else 1.0 / experts
    return weight
