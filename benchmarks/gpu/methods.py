"""A step of every method at the size of slices."""

from __future__ import annotations

from functools import partial

from scripts.methods import METHODS

from ..steps import Task
from .sheet import Sheet
from .timing import Clock
from .ways import ACDC, AS_IT_IS, measured


def rows(sheet: Sheet, clock: Clock, task: Task = ACDC) -> None:
    """Measure a step of each method, with the options that this project recommends."""
    for name in METHODS:
        sheet.row(name, partial(measured, clock, task, AS_IT_IS, name))
