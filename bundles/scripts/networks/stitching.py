"""Prediction-level aggregation: one set of logits out of several experts (DCA, Aggregate)."""

from __future__ import annotations

import torch

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
    if rule == "probability":
        scores = expert_logits.log_softmax(2)
        background = scores[:, :, :1].sum(0)
    elif rule == "log_odds":
        scores = expert_logits - expert_logits[:, :, :1]
        background = scores[0, :, :1]
    elif rule == "logits":
        scores = expert_logits
        background = scores[:, :, :1].mean(0)
    else:
        raise ValueError("stitching rule: expected log_odds, logits, probability or mean, found " + rule)
    # A one-hot selection instead of advanced indexing: it exports to ONNX and TorchScript at every spatial size.
    select = torch.arange(experts, device=owner.device).unsqueeze(1) == owner.unsqueeze(0)
    shape = [experts, 1, classes - 1] + [1] * (expert_logits.dim() - 3)
    foreground = torch.where(select.view(shape), scores[:, :, 1:], torch.zeros_like(scores[:, :, 1:])).sum(0)
    return torch.cat([background, foreground], dim=1)
