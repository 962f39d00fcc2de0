"""A training step of DCA: against CPS as the field has it, itself by torch's defaults, and for less memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from . import steps
from .jobs import Job, Variant

SIZES = (64, 96)  # voxels along each side of a patch
BFLOAT16_ERROR = 0.05  # of a sum of losses of about 8


def cps(size: int) -> Callable[[Path], Callable[[], list[int]]]:
    """See `steps.plain_cps`."""
    return _counted(lambda: steps.plain_cps(steps.Task(size)), size)


def ours(size: int, preset: str) -> Callable[[Path], Callable[[], list[int]]]:
    """See `steps.as_it_is`."""
    return _counted(lambda: steps.as_it_is(steps.Task(size), preset), size)


def by_defaults(size: int) -> Callable[[Path], steps.Step]:
    """See `steps.plain`."""
    return lambda folder: steps.plain(steps.Task(size))


def as_it_is(size: int, checkpointing: bool = False) -> Callable[[Path], steps.Step]:
    """See `steps.as_it_is`; its losses are compared."""
    return lambda folder: steps.as_it_is(steps.Task(size), checkpointing=checkpointing)


def _counted(make: Callable[[], steps.Step], size: int) -> Callable[[Path], Callable[[], list[int]]]:
    """Two methods agree on nothing but the images that a step takes: its result is how many, and their sides."""

    def prepare(folder: Path) -> Callable[[], list[int]]:
        step = make()

        def run() -> list[int]:
            step()
            return [4, size, size, size]

        return run

    return prepare


JOBS = tuple(
    job
    for size in SIZES
    for job in (
        Job(
            f"step, {size}^3, against CPS",
            variants=(
                Variant("plain CPS, float32", cps(size)),
                Variant("DCA as published", ours(size, "published")),
                Variant("DCA", ours(size, "cpu")),
            ),
            goal_speedup=1 / 0.6,
        ),
        Job(
            f"step, {size}^3, against itself",
            variants=(
                Variant("DCA by torch's defaults", by_defaults(size)),
                Variant("DCA", as_it_is(size)),
            ),
            tolerance=BFLOAT16_ERROR,
            goal_speedup=1 / 0.35,
        ),
        Job(
            f"step, {size}^3, and its memory",
            variants=(
                Variant("DCA", as_it_is(size)),
                Variant("DCA, checkpointing", as_it_is(size, checkpointing=True)),
            ),
        ),
    )
)
