"""DCA's step with torch.compile for its networks, or for its DFAMs alone; a row's start is mostly the compiler's."""

from __future__ import annotations

from collections.abc import Mapping

from ..steps import Task
from . import variants
from .sheet import Sheet
from .timing import Clock
from .ways import AS_IT_IS, TASKS, Way

VARIANTS = {
    "as it is": AS_IT_IS,
    "torch.compile of the DFAMs": Way(compiled="dfam"),
    "torch.compile of the networks": Way(compiled="network"),
}


def rows(sheet: Sheet, clock: Clock, tasks: Mapping[str, Task] = TASKS) -> None:
    """See `variants.rows`."""
    variants.rows(sheet, clock, tasks, VARIANTS)
