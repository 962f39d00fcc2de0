"""The ways in which a training step can be taken on a GPU: as the bundles take it, and with one thing changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from scripts.methods import METHODS, preset_options
from scripts.methods.base import Method
from scripts.networks import recompute_finest_levels
from scripts.training.graphs import CudaGraphs, Replayed, obstacle
from scripts.training.step import Batch, Step

from .. import steps
from ..steps import Task
from .timing import Clock

ACDC = Task(256, dims=2, organs=3, device="cuda")
SYNAPSE = Task(96, dims=3, organs=13, device="cuda")
TASKS = {"ACDC, 256^2": ACDC, "Synapse, 96^3": SYNAPSE}  # the published presets' sizes
COMPILER = "inductor"  # torch.compile's backend
PART = {
    "network": ("decode", "expert_outputs", "aggregated_outputs"),
    "teacher": ("predictions",),
}  # what DCA calls of each


@dataclass(frozen=True)
class Way:
    """How a step is taken; the defaults are the bundles'.

    Args:
        graphs: replay it as a CUDA graph, where the method allows it.
        amp: autocast; else float32.
        channels_last: the layout in memory.
        checkpointing: see `networks.checkpointing`.
        compiled: "network" or "dfam": what of DCA torch.compile gets; "" for nothing.
        deterministic, benchmark: cuDNN's switches. The bundles' come from MONAI's `set_determinism`.
        tf32: for all products in float32; None for torch's defaults, in convolutions only.
    """

    graphs: bool = True
    amp: bool = True
    channels_last: bool = True
    checkpointing: bool = False
    compiled: str = ""
    deterministic: bool = True
    benchmark: bool = False
    tf32: bool | None = None


AS_IT_IS = Way()
TORCHS = Way(deterministic=False)  # whose switches are torch's defaults


class Taken:
    """Steps of a method on one batch, each as `SemiSupervisedTrainer` takes it; call it for the next one.

    Args:
        task: what they are taken on.
        way: how.
        name: of the method.
    """

    def __init__(self, task: Task, way: Way, name: str = "dca") -> None:
        method = build(task, way, name)
        device = torch.device(task.device)
        self.step = Step(method, optimizer(method), device, way.amp)
        self.batch = fed(task)
        self.reason = obstacle(self.step) if way.graphs else "not wanted"
        self.replayed = Replayed(self.step, CudaGraphs(device)) if device.type == "cuda" and not self.reason else None
        self.number = 0

    def __call__(self) -> dict[str, torch.Tensor]:
        self.number += 1
        torch.manual_seed(self.number)
        form = self.step.begin(self.number, steps.PROGRESS)
        return self.step(self.batch) if self.replayed is None else self.replayed(self.batch, form)

    @property
    def graph(self) -> str:
        """Whether a graph is replayed: "yes", or "no" and why."""
        if self.replayed is None:
            return f"no: {self.reason or 'not on this device'}"
        return "no: its capture failed" if self.replayed.failed else "yes"


def build(task: Task, way: Way = AS_IT_IS, name: str = "dca") -> Method:
    """A method with its recommended options on its device, as a way has it.

    Raises:
        ValueError: what is to be compiled is unknown.
    """
    network = steps.predictor(task, name)
    if way.channels_last:
        network = steps.channels_last(network, task.dims)
    options = preset_options(METHODS[name], "cpu", task.dims)
    method = METHODS[name](network, **options).to(task.device)  # what it has beside its predictor, as well
    if way.checkpointing:
        recompute_finest_levels(method)
    if way.compiled:
        _compile(method, way.compiled)
    return method


def optimizer(method: Method) -> torch.optim.Optimizer:
    """The bundles' optimizer of a method that is on its device."""
    fused = next(method.parameters()).device.type == "cuda"
    return torch.optim.SGD(
        method.parameters(), lr=steps.LR, momentum=steps.MOMENTUM, weight_decay=steps.DECAY, fused=fused
    )


def fed(task: Task) -> Batch:
    """The batch of a task as the loaders make it."""
    data = steps.batch(task)
    return {**data, "label": data["label"].unsqueeze(1).float()}


def measured(clock: Clock, task: Task, way: Way = AS_IT_IS, name: str = "dca") -> dict[str, Any]:
    """What `Clock.timed` says of steps, and whether they are replayed as a graph."""
    made: list[Taken] = []

    def make() -> Taken:
        made.append(Taken(task, way, name))
        return made[0]

    try:
        with backends(way):
            numbers = clock.timed(make)
    finally:
        if way.compiled:
            torch._dynamo.reset()  # it holds what it has compiled
    return {**numbers, "graph": made[0].graph}


@contextmanager
def backends(way: Way) -> Iterator[None]:
    """Within this context the switches of torch's libraries are those of a way, and afterwards what they were."""
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32
    cudnn.deterministic, cudnn.benchmark = way.deterministic, way.benchmark
    cudnn.allow_tf32, products.allow_tf32 = (True, False) if way.tf32 is None else (way.tf32, way.tf32)
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32 = before


def _compile(method: Any, what: str) -> None:
    """Let torch.compile have the parts of DCA's networks that a step calls, or the DFAMs alone."""
    # All DFAMs are one piece of code, which is compiled for each level, with and without gradients.
    torch._dynamo.config.recompile_limit = 64
    for role, network in zip(PART, steps.networks(method), strict=False):
        if what == "dfam":
            parts = [(dfam, "forward") for dfam in steps.dfams(network)]
        elif what == "network":
            parts = [(network, name) for name in PART[role]]
        else:
            raise ValueError(f"expected network or dfam to be compiled, found {what!r}")
        for owner, name in parts:
            setattr(owner, name, torch.compile(getattr(owner, name), dynamic=False, backend=COMPILER))
