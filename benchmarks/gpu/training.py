"""A training step of DCA: against CPS as the field has it, and against itself by torch's defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from .. import steps
from ..steps import Task
from .sheet import Numbers, Sheet
from .timing import Clock
from .ways import ACDC, SYNAPSE, TASKS, TORCHS, backends, measured

OF_CPS, OF_ITSELF = 0.5, 0.25
AT_MOST = {ACDC: 6.0, SYNAPSE: 60.0}  # ms


def rows(sheet: Sheet, clock: Clock, tasks: Mapping[str, Task] = TASKS) -> None:
    """Measure the three on each task, and note the goals."""
    for place, task in tasks.items():
        # bfloat16, where the field has float16 with a scaled loss: as fast, and without the scaler's checks.
        cps = sheet.row(
            f"{place}: plain CPS, bfloat16, eager",
            partial(by_defaults, clock, partial(steps.plain_cps, task, torch.bfloat16)),
        )
        plain = sheet.row(
            f"{place}: DCA by torch's defaults, float32, eager",
            partial(by_defaults, clock, partial(steps.plain, task)),
        )
        ours = sheet.row(f"{place}: DCA", partial(measured, clock, task))
        if ours and cps:
            sheet.goal(f"{place}: a step of DCA to one of plain CPS", share(ours, cps), OF_CPS)
        if ours and plain:
            sheet.goal(f"{place}: a step of DCA to one by torch's defaults", share(ours, plain), OF_ITSELF)
        if ours and task in AT_MOST:
            sheet.goal(f"{place}: ms of a step of DCA", ours["ms"]["median"], AT_MOST[task])


def by_defaults(clock: Clock, make: Callable[[], Callable[[], Any]]) -> Numbers:
    """What `Clock.timed` says where all switches of torch's libraries are torch's own."""
    with backends(TORCHS):
        return clock.timed(make)


def share(mine: Numbers, others: Numbers) -> float:
    """The time of one in shares of the other's, by minimum or median, whichever is larger."""
    found: list[float] = [mine["ms"][kind] / others["ms"][kind] for kind in ("minimum", "median")]
    return max(found)
