"""What a run's curves.csv says of its time."""

from __future__ import annotations

import csv
from pathlib import Path


def seconds_a_step(curves: Path) -> float:
    """Mean seconds a step after the first row, which is the warm-up."""
    with curves.open(newline="", encoding="utf-8") as file:
        first, *others = csv.DictReader(file)
    return sum(float(row["seconds"]) for row in others) / (int(others[-1]["step"]) - int(first["step"]))
