"""Methods whose networks say the same everywhere, so that their losses can be worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from scripts.methods import METHODS, published_options
from scripts.methods.base import Method
from tests.method_cases import small_method

SURE, UNSURE = (0.0, math.log(3.0)), (math.log(3.0), 0.0)


def published(name: str, dims: int = 2, **options: Any) -> Method:
    """A method with the options of its paper; those that make it draw at random are set by the test."""
    return small_method(name, dims, num_classes=1, **published_options(METHODS[name], dims) | options)


def say(out: nn.Module, logits: Sequence[float]) -> None:
    """Make an output convolution give these logits everywhere."""
    with torch.no_grad():
        out.weight.zero_()
        out.bias.copy_(torch.tensor(logits))


def twins(name: str, dims: int = 2, **options: Any) -> Method:
    """A method of two networks, the first SURE and the second UNSURE."""
    method = published(name, dims, **options)
    say(method.predictor.first.decoder.out, SURE)
    say(method.predictor.second.decoder.out, UNSURE)
    return method


def taught(name: str, teacher: Sequence[float] = UNSURE, **options: Any) -> Method:
    """A method of a SURE student with a teacher."""
    method = published(name, **options)
    say(method.predictor.decoder.out, SURE)
    say(method.teacher.module.decoder.out, teacher)
    return method


def total(method: Method, label: str = "halves", dims: int = 2, progress: float = 1.0) -> float:
    """The loss on two labelled and two unlabelled images."""
    size = (32, 32) if dims == 2 else (32, 32, 16)
    ids = torch.ones(2, *size, dtype=torch.long)
    if label == "halves":
        ids[:, :16] = 0
    torch.manual_seed(0)
    method.enter(progress)
    return method(torch.rand(2, 1, *size), ids, torch.rand(2, 1, *size), progress)["loss"].item()


def equals(found: float, expected: float) -> None:
    """To the digits that were worked out."""
    assert found == pytest.approx(expected, rel=2e-5)
