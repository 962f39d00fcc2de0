"""What a bench consists of: a job, and the variants of doing it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.common.paths import BUNDLES

BUNDLE = BUNDLES / "dca_synapse"  # what is trained and run
# What a variant returns: numbers, text, or lists and dicts of them, as JSON has them; or a function that makes it of
# what the variant left behind, which is not timed.
Result = Any


@dataclass(frozen=True)
class Variant:
    """One way of doing a job.

    Args:
        name: what the table calls it.
        make: called once, in the process of this variant, with the folder that the job prepared; imports and loads what
            is not to be timed, and returns what is: a function whose result every variant of the job agrees on.
    """

    name: str
    make: Callable[[Path], Callable[[], Result]]


@dataclass(frozen=True)
class Job:
    """The same work, done by several variants.

    Args:
        name: what the table calls it.
        variants: the first is the baseline of the ratios.
        prepare: writes what all variants read into a folder; not timed.
        tolerance: how far numbers of the results may differ, absolutely.
        goal_speedup: how many times faster than the baseline the last variant is to be.
        goal_seconds: how long the last variant may take.
        goal_peak: what share of the baseline's peak memory the last variant may take.
        amounts: of what the variants do more and more of; they agree on nothing then, and what counts is how their
            seconds and memory grow.
        goal_exponent: the largest exponent of this growth.
        needs: modules that are not in requirements.txt.
    """

    name: str
    variants: Sequence[Variant]
    prepare: Callable[[Path], None] = lambda folder: None
    tolerance: float = 0.0
    goal_speedup: float | None = None
    goal_seconds: float | None = None
    goal_peak: float | None = None
    amounts: Sequence[float] | None = None
    goal_exponent: float | None = None
    needs: Sequence[str] = ()


def load_jobs(module: str) -> Sequence[Job]:
    """The jobs of a subject's module."""
    jobs: Sequence[Job] = importlib.import_module(module).JOBS
    return jobs


def difference(found: Result, expected: Result, tolerance: float) -> str | None:
    """Where two results differ, and by what; None if they agree. Two nan agree."""
    if isinstance(expected, dict) and isinstance(found, dict) and found.keys() == expected.keys():
        parts = [(f"{key}: ", found[key], expected[key]) for key in expected]
    elif isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        parts = [(f"[{i}] ", *pair) for i, pair in enumerate(zip(found, expected, strict=True))]
    else:
        numbers = isinstance(found, int | float) and isinstance(expected, int | float)
        agree = (found != found and expected != expected) or (
            abs(found - expected) <= tolerance if numbers else found == expected
        )
        return None if agree else f"expected {expected!r}, found {found!r}"
    told = ((where, difference(mine, other, tolerance)) for where, mine, other in parts)
    return next((where + text for where, text in told if text), None)
