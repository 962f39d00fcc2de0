"""Evaluation: MONAI's evaluator, whose network runs on a backend of inference."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import SupervisedEvaluator

from .backends import for_inference


class SegmentationEvaluator(SupervisedEvaluator):
    """MONAI's evaluator whose network runs as `for_inference` says; all other arguments are MONAI's."""

    def __init__(
        self, device: torch.device, network: torch.nn.Module, amp: bool = True, backend: str = "torch", **kwargs: Any
    ) -> None:
        super().__init__(device=device, network=for_inference(network, device, amp, backend), amp=False, **kwargs)
