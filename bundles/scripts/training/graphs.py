"""Steps as CUDA graphs: the host hands the device hundreds of kernels once, and later says only: again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch.nn.parallel import DistributedDataParallel

from ..errors import first_line
from .step import Batch, Step

logger = logging.getLogger(__name__)

WARM_UP = 3  # steps before a capture, in which libraries choose their kernels and the optimizer makes its buffers
Losses = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Captured:
    """A step as it was recorded.

    batch: what it reads; the values are copied there before each replay.
    losses: what it writes.
    replay: does it again.
    """

    batch: Batch
    losses: Losses
    replay: Callable[[], object]


class CudaGraphs:
    """Runs and records steps on a CUDA stream of their own.

    Memory of a graph is its own and stays the same from replay to replay. Random numbers are those that an eager step
    would draw: a graph reads seed and offset of the device's generator whenever it is replayed.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)

    def run(self, step: Step, batch: Batch) -> Losses:
        """Take a step in the usual way, on the stream on which the capture will be."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            losses = step(batch)
        torch.cuda.current_stream().wait_stream(self.stream)
        return losses

    def capture(self, step: Step, batch: Batch) -> Captured:
        """Record a step, without taking it."""
        static = {name: values.clone() for name, values in batch.items()}
        graph, usual = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            # Other threads, such as that of a DataLoader, may go on.
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                losses = step(static)
        finally:
            torch.cuda.set_stream(usual)  # torch stays on the other one where a capture breaks off
        return Captured(static, losses, graph.replay)


class Replayed:
    """Takes steps: the first ones as usual, and then by replaying the one that was captured.

    Batches of other shapes, or another form of the method, are captured anew. Where a capture fails, one line in the
    log says why, and the steps are taken as usual.

    Args:
        step: what is taken.
        recorder: runs and records steps, as `CudaGraphs` does.
    """

    def __init__(self, step: Step, recorder: CudaGraphs) -> None:
        self.step, self.recorder = step, recorder
        self.kind: Hashable = None
        self.taken = 0  # steps of this kind
        self.captured: Captured | None = None
        self.failed = False

    def __call__(self, batch: Batch, form: int) -> Losses:
        """A step on a batch on the device; the losses are valid until the next one."""
        kind = (form, *((name, values.shape, values.dtype) for name, values in sorted(batch.items())))
        if kind != self.kind:
            self.kind, self.taken, self.captured = kind, 0, None
        self.taken += 1
        if self.failed or self.taken <= WARM_UP:
            return self.recorder.run(self.step, batch)
        if self.captured is None:
            self.captured = self._capture(batch)
        if self.captured is None:
            return self.recorder.run(self.step, batch)
        for name, values in batch.items():
            self.captured.batch[name].copy_(values, non_blocking=True)
        self.captured.replay()
        return self.captured.losses

    def _capture(self, batch: Batch) -> Captured | None:
        try:
            with self.step.rates_on_device():
                return self.recorder.capture(self.step, batch)
        except RuntimeError as error:  # torch's own for whatever a stream refuses to record
            logger.warning("training: no CUDA graph of a step (%s); each step is started anew", first_line(error))
            self.failed = True
            return None


def obstacle(step: Step) -> str:
    """Why the steps of a training cannot be captured, however they are built; "" if nothing is known."""
    if isinstance(step.network, DistributedDataParallel):
        return "several processes share the training"
    return step.method.waits
