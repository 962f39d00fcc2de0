"""Evaluation: MONAI's evaluator, whose network runs on a backend of inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.engines import SupervisedEvaluator

from .backends import for_inference


class SegmentationEvaluator(SupervisedEvaluator):
    """MONAI's evaluator whose network runs as `for_inference` says; all other arguments are MONAI's."""

    def __init__(
        self,
        device: torch.device,
        network: torch.nn.Module,
        amp: bool = True,
        backend: str = "torch",
        mirror_axes: Sequence[int] = (),
        **kwargs: Any,
    ) -> None:
        running = for_inference(network, device, amp, backend, mirror_axes)
        super().__init__(device=device, network=running, amp=False, **kwargs)
