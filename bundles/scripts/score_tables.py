"""Tables of scores: a row per case and class, their means, and the CSV files that hold them."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

from .errors import UserError

Row = dict[str, Any]
# The columns that are no metric.
KEYS = ("case", "class", "name", "unit", "cases", "empty", "left_out", "policy")


def case_rows(
    case: str,
    scores: Mapping[str, np.ndarray],
    unit: str,
    policy: str,
    names: Mapping[int, str] | None = None,
) -> list[Row]:
    """One row per class from the arrays [K] of `metrics.case_scores`; unit: "voxels" or "mm"; policy: its name."""
    measured = [metric for metric in scores if metric != "empty"]
    return [
        {"case": case, "class": k + 1, "name": (names or {}).get(k + 1, "")}
        | {metric: float(scores[metric][k]) for metric in measured}
        | {"unit": unit, "empty": str(side), "policy": policy}
        for k, side in enumerate(scores["empty"])
    ]


def summarise(rows: Iterable[Row]) -> list[Row]:
    """Means over cases for each class, then a row "average" over these; apart for each unit and policy in the rows.

    nan is left out of the means. "cases" counts the cases, "empty" the rows that the policy decided, "left_out" those
    with a nan.
    """
    tables: dict[tuple[str, str], dict[int, list[Row]]] = {}
    for row in rows:
        tables.setdefault((row["unit"], row["policy"]), {}).setdefault(row["class"], []).append(row)
    summary: list[Row] = []
    for (unit, policy), classes in tables.items():
        means: list[Row] = []
        for c, members in sorted(classes.items()):
            measured = _measured(members[0])
            means.append(
                {"class": c, "name": members[0]["name"]}
                | {metric: _mean(row[metric] for row in members) for metric in measured}
                | {
                    "unit": unit,
                    "cases": len(members),
                    "empty": sum(row["empty"] != "" for row in members),
                    "left_out": sum(any(math.isnan(row[metric]) for metric in measured) for row in members),
                    "policy": policy,
                }
            )
        average = {metric: _mean(row[metric] for row in means) for metric in _measured(means[0])}
        counts = {key: sum(row[key] for row in means) for key in ("empty", "left_out")}
        cases = {row["case"] for members in classes.values() for row in members}
        summary += [*means, means[0] | {"class": "average", "name": "", "cases": len(cases)} | average | counts]
    return summary


def write_scores_csv(path: str | os.PathLike[str], rows: Sequence[Row]) -> None:
    """Write rows of `case_rows` or `summarise`, whole or not at all; overlaps from 0 to 1, nan as "nan".

    The summary belongs into a file of its own, so that every column of the scores has one meaning.

    Raises:
        UserError: no rows, or the file cannot be written.
    """
    if not rows:
        raise UserError(f"{path}: expected scores of at least one case to write, found none")
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        found = error.strerror or error
        raise UserError(f"{path}: cannot write the scores ({found}); choose a writable folder with room") from error


def _measured(row: Row) -> list[str]:
    return [column for column in row if column not in KEYS]


def _mean(values: Iterable[float]) -> float:
    kept = [value for value in values if not math.isnan(value)]
    return math.fsum(kept) / len(kept) if kept else math.nan
