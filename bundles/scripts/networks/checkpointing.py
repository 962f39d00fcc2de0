"""Memory for time: parts of a network run again in the backward pass, instead of keeping their maps until then."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from .aggregation import DFAM, AggregationDecoder
from .encoder_decoder import Decoder, Encoder
from .normalisation import frozen_statistics

FINEST = 2  # resolutions whose levels run again: nine tenths of the memory to be had, two thirds of the work


def recompute_finest_levels(module: nn.Module) -> None:
    """Let the finest levels of all encoders and decoders in a module keep nothing but their inputs for the gradients.

    Losses, gradients and state are the same bit for bit, in the precision of the first run and with its random numbers.
    Names of parameters do not change, and without gradients everything runs once. A graph serves one backward pass.
    """
    for part in module.modules():
        levels: list[Any] = []
        if isinstance(part, Encoder):
            levels += part.levels[:FINEST]
        if isinstance(part, Decoder | AggregationDecoder):
            levels += part.levels[-FINEST:]
        if isinstance(part, AggregationDecoder):
            levels += [dfam for dfam in part.dfams[-FINEST:] if isinstance(dfam, DFAM)]
        for level in levels:
            level.forward = partial(
                checkpoint, level.forward, use_reentrant=False, context_fn=partial(_first_and_second_run, level)
            )


def _first_and_second_run(level: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts of both; in the second, normalisation must not remember the batch once more."""
    return nullcontext(), frozen_statistics(level)
