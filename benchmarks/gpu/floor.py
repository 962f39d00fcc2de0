"""The machine's limit: what a step's operations would take if each ran at one of the machine's two ceilings.

The ceilings are what a large product of matrices in bfloat16 and a large copy in the device's memory reach. An
operation takes at least its arithmetic at the one, or its bytes at the other. It is a yardstick, not a law: a kernel
that does the work of two operations, or finds its input in a cache, takes less.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from ..steps import Task
from .sheet import Numbers, Sheet
from .timing import Clock
from .ways import TASKS, Taken, Way, backends, measured
from .work import Work

SIDE = 8192  # of the matrices
COPIED = 2**31  # bytes


def rows(sheet: Sheet, clock: Clock, tasks: Mapping[str, Task] = TASKS, side: int = SIDE, copied: int = COPIED) -> None:
    """Measure the ceilings, then count and measure a step of DCA on each task."""
    product = sheet.row(f"product of matrices, bfloat16, {side}^3", partial(multiplied, clock, side))
    copy = sheet.row(f"copy of {copied / 2**20:.0f} MiB", partial(moved, clock, copied))
    if product is None or copy is None:
        return
    for place, task in tasks.items():
        ceilings = (product["TFLOP/s"] * 1e12, copy["GB/s"] * 1e9)
        sheet.row(f"{place}: step of DCA", partial(beside_its_floor, clock, task, *ceilings))


def multiplied(clock: Clock, side: int) -> Numbers:
    """A product of square matrices in bfloat16, and its TFLOP/s."""

    def make() -> Callable[[], Any]:
        a, b = torch.randn(2, side, side, device=clock.device, dtype=torch.bfloat16)
        out = torch.empty_like(a)
        return lambda: torch.mm(a, b, out=out)

    numbers = clock.timed(make)
    return {**numbers, "TFLOP/s": 2 * side**3 / numbers["ms"]["minimum"] / 1e9}


def moved(clock: Clock, size: int) -> Numbers:
    """A copy of so many bytes in the device's memory, and its GB/s, read and written."""

    def make() -> Callable[[], Any]:
        source, target = torch.zeros(2, size, device=clock.device, dtype=torch.uint8)
        return lambda: target.copy_(source)

    numbers = clock.timed(make)
    return {**numbers, "GB/s": 2 * size / numbers["ms"]["minimum"] / 1e6}


def counted(task: Task) -> Work:
    """The work of a step of DCA, counted while it is taken eagerly, by a step that nobody times."""
    way = Way(graphs=False)
    with backends(way):
        step = Taken(task, way)
        step()  # the optimizer makes its buffers
        with Work(torch.device(task.device)) as work:
            step()
    return work


def beside_its_floor(clock: Clock, task: Task, flops: float, bandwidth: float) -> Numbers:
    """A step of DCA, its floor at these ceilings (1/s, bytes/s), and what share of the step that is."""
    work = counted(task)
    numbers = measured(clock, task)
    floor = 1000 * work.floor(flops, bandwidth)
    return {
        **numbers,
        "floor_ms": floor,
        "floor_share": floor / numbers["ms"]["minimum"],
        "operations": len(work.operations),
        "TFLOP": sum(one.flops for one in work.operations) / 1e12,
        "GB": sum(one.nbytes for one in work.operations) / 1e9,
    }
