"""Prediction-level aggregation: one set of logits out of several experts (DCA, Aggregate)."""

from __future__ import annotations

import torch
from torch.nn import functional

STITCHING_RULES = ("log_odds", "logits", "probability", "mean")


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
    experts, classes = expert_logits.shape[0], expert_logits.shape[2]
    if rule not in ("log_odds", "logits", "probability"):
        raise ValueError("stitching rule: expected log_odds, logits, probability or mean, found " + rule)
    scores = expert_logits.log_softmax(2) if rule == "probability" else expert_logits
    # All three rules are linear in the scores: a 1^d convolution of the experts' channels, faster than selecting, that
    # exports to ONNX and TorchScript at every spatial size.
    own = (torch.arange(experts, device=owner.device).unsqueeze(1) == owner.unsqueeze(0)).to(scores.dtype)  # [E, K]
    weight = torch.zeros(classes, experts, classes, dtype=scores.dtype, device=scores.device)
    weight[1:, :, 1:] = torch.diag_embed(own).permute(1, 0, 2)
    if rule == "log_odds":
        weight[1:, :, 0] = -own.t()
    else:
        weight[0, :, 0] = 1.0 if rule == "probability" else 1.0 / experts
    stacked = scores.transpose(0, 1).flatten(1, 2)
    weight = weight.flatten(1).view([classes, experts * classes] + [1] * (stacked.dim() - 2))
    if stacked.dim() == 5:
        return functional.conv3d(stacked, weight)
    return functional.conv2d(stacked, weight)
