"""DCA's step with one of the bundles' switches changed at a time."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ..steps import Task
from .sheet import Sheet
from .timing import Clock
from .ways import AS_IT_IS, TASKS, Way, measured

VARIANTS = {
    "as it is (bfloat16)": AS_IT_IS,
    "eager, no CUDA graph": Way(graphs=False),
    "float32, TF32": Way(amp=False, tf32=True),
    "float32, no TF32": Way(amp=False, tf32=False),
    "contiguous, not channels last": Way(channels_last=False),
    "cuDNN not deterministic": Way(deterministic=False),
    "cuDNN not deterministic, benchmark": Way(deterministic=False, benchmark=True),
    "checkpointing": Way(checkpointing=True),
}


def rows(sheet: Sheet, clock: Clock, tasks: Mapping[str, Task] = TASKS, variants: Mapping[str, Way] = VARIANTS) -> None:
    """Measure each variant on each task; a row says how many times as fast it is as the first one."""
    for place, task in tasks.items():
        base = None
        for name, way in variants.items():
            row = sheet.row(f"{place}: {name}", partial(measured, clock, task, way))
            base = base or row
            if row and base:
                row["times_as_fast"] = base["ms"]["minimum"] / row["ms"]["minimum"]
                sheet.save()
